//! Packs are filled: with the bodies of rows that the index has, whose places it is told then.

use std::{collections::HashMap, io, path::Path};

use rusqlite::{Connection, params};

use super::{
    Chore, Halt, Moved, STEP,
    memory::Memory,
    pace::Pace,
    survey::{self, Use},
    whose::Whose,
};
use crate::{
    files::Place,
    pack,
    record::{Kept, KeptBody},
    segment,
};

/// Rows that the committer moves at a time: a delivery waits for no more.
const MOVED: usize = 256;
/// Rows read at a time.
const PAGE: i64 = 10_000;

/// A row of the index that refers to a body.
pub struct Row {
    pub id: u64,
    pub place: Place,
    prefix: Vec<u8>,
}

/// The rows that refer to these files, found in one pass; those of one body together.
pub fn rows(
    conn: &Connection,
    files: &[Use],
    go_on: &dyn Fn() -> Result<(), Halt>,
) -> Result<HashMap<u64, Vec<Row>>, Halt> {
    let mut found: HashMap<u64, Vec<Row>> = files.iter().map(|file| (file.number, Vec::new())).collect();
    let mut after = files.iter().map(|file| file.ids.0).min().unwrap_or(0).saturating_sub(1);
    let last = files.iter().map(|file| file.ids.1).max().unwrap_or(0);
    loop {
        go_on()?;
        let page = page(conn, (after, last))?;
        let Some(end) = page.last() else { break };
        after = end.id;
        for row in page {
            if let Some(rows) = found.get_mut(&row.place.segment) {
                rows.push(row);
            }
        }
    }
    for rows in found.values_mut() {
        rows.sort_by_key(|row| (row.place.offset, row.id));
    }
    Ok(found)
}

fn page(conn: &Connection, (after, last): (u64, u64)) -> rusqlite::Result<Vec<Row>> {
    let mut query = conn.prepare_cached(
        "SELECT id, offset, len, crc, prefix, segment FROM body WHERE id>? AND id<=? ORDER BY id LIMIT ?",
    )?;
    let page = query.query_map(params![after, last, PAGE], |r| {
        let place = Place { segment: r.get(5)?, offset: r.get(1)?, len: r.get(2)?, crc: r.get(3)? };
        Ok(Row { id: r.get(0)?, place, prefix: r.get::<_, Option<Vec<u8>>>(4)?.unwrap_or_default() })
    })?;
    page.collect()
}

/// The pack that is written.
pub struct Packing<'a> {
    pace: &'a Pace<'a>,
    log: &'a Path,
    writer: Option<pack::Writer>,
    moved: Vec<Moved>,
    /// What a survey will think that it holds.
    live: u64,
    /// Octets since the last pause.
    owed: u64,
    /// Octets of the packs that have ended.
    pub packed: u64,
}

impl<'a> Packing<'a> {
    pub fn new(pace: &'a Pace<'a>, log: &'a Path) -> Self {
        Self { pace, log, writer: None, moved: Vec::new(), live: 0, owed: 0, packed: 0 }
    }

    /// Adds what these rows of one file refer to. A file of which something cannot be read stays as it is from there on.
    pub fn add_file(
        &mut self,
        memory: &mut Memory,
        number: u64,
        (rows, whose): (&[Row], &mut Whose),
    ) -> Result<(), Halt> {
        for same in rows.chunk_by(|a, b| a.place == b.place) {
            let Some(first) = same.first() else { continue };
            match self.pace.parts.pool.body(&first.place) {
                Ok(body) => self.add(memory, same, (&body, whose))?,
                Err(error) => {
                    let file = segment::name(number);
                    tracing::warn!(file, %error, "a body cannot be read: its file stays");
                    memory.spoiled.insert(number);
                    return Ok(());
                }
            }
        }
        let is_full = self.writer.as_ref().is_some_and(|w| w.len() >= self.pace.parts.segment_size);
        if is_full { self.end(memory) } else { Ok(()) }
    }

    /// Adds one body; `rows` are those that refer to it.
    fn add(
        &mut self,
        memory: &mut Memory,
        rows: &[Row],
        (body, whose): (&[u8], &mut Whose),
    ) -> Result<(), Halt> {
        let Some(first) = rows.first() else { return Ok(()) };
        let commits = self.pace.parts.stats.commits();
        let bodies = rows.iter().map(|row| {
            let (messages, queued) = whose.take(row.id);
            KeptBody { id: row.id, prefix: row.prefix.clone().into(), messages, queued }
        });
        let kept = Kept { body_crc: first.place.crc, bodies: bodies.collect() };
        self.live += survey::estimate(&kept, body.len());
        let writer = match self.writer.take() {
            Some(writer) => self.writer.insert(writer),
            None => {
                let writer = self.begin(memory)?;
                self.writer.insert(writer)
            }
        };
        let to = (writer.number, writer.add(kept, body)?);
        let from = (first.place.segment, first.place.offset);
        self.moved.extend(rows.iter().map(|row| Moved { id: row.id, from, to }));
        self.owed += 2 * body.len() as u64;
        if self.owed >= STEP {
            self.pace.has_room(STEP)?;
            self.pace.wrote(self.owed, commits)?;
            self.owed = 0;
        }
        Ok(())
    }

    fn begin(&self, memory: &mut Memory) -> Result<pack::Writer, Halt> {
        self.pace.go_on()?;
        self.pace.has_room(STEP)?;
        let parts = self.pace.parts;
        let newest = segment::packs(self.log)?.last().map_or(0, |number| number & !segment::PACK);
        memory.last = memory.last.max(newest) + 1;
        let number = memory.last | segment::PACK;
        Ok(pack::Writer::create(&parts.disk, self.log, &parts.identity, number)?)
    }

    /// Makes the pack durable, then has the index point into it.
    pub fn end(&mut self, memory: &mut Memory) -> Result<(), Halt> {
        let Some(writer) = self.writer.take() else { return Ok(()) };
        self.pace.go_on()?;
        let number = writer.number;
        self.packed += writer.finish()?;
        self.pace.sync_names(self.log)?;
        memory.made.insert(number, std::mem::take(&mut self.live));
        for rows in std::mem::take(&mut self.moved).chunks(MOVED) {
            self.pace.ask(Chore::Move(rows.to_vec()))?;
        }
        Ok(())
    }

    /// What was begun is of no use any more; its room may be what was wanting.
    pub fn give_up(self) {
        if self.pace.go_on().is_ok() {
            // When it is not there, it has its name by now, or was never made.
            match self.pace.parts.disk.remove(&pack::unfinished(self.log)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(%error, "failed to remove an unfinished pack");
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    };

    use super::*;

    #[test]
    fn rows_of_many_files_are_found_in_one_pass() {
        let mut conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(
            "CREATE TABLE body(id INTEGER PRIMARY KEY, segment INT, offset INT, len INT, crc INT, prefix BLOB);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<20000)
             INSERT INTO body SELECT i, i%50, 30000-i, 1, 1, NULL FROM n;",
        )
        .unwrap();
        let steps = Arc::new(AtomicU64::new(0));
        let counted = steps.clone();
        let count = move || {
            counted.fetch_add(1, Ordering::Relaxed);
            false
        };
        conn.progress_handler(100, Some(count)).unwrap();
        // As packs are: what is in each is spread over the whole table.
        let file = |number| Use { number, size: 1, live: 1, rows: 400, ids: (1, 20_000) };
        let taken = |files: &[Use]| {
            steps.store(0, Ordering::Relaxed);
            let found = rows(&conn, files, &|| Ok(())).unwrap();
            for file in files {
                let rows = &found[&file.number];
                assert_eq!(rows.len(), 400);
                assert!(rows.is_sorted_by_key(|row| row.place.offset));
                assert!(rows.iter().all(|row| row.id % 50 == file.number));
            }
            steps.load(Ordering::Relaxed)
        };
        let one = taken(&[file(7)]);
        let many = taken(&(0..50).map(file).collect::<Vec<_>>());
        assert!(one > 100 && many <= one + one / 10, "{one} {many}");
    }
}
