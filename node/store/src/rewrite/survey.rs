//! How much of each file of the log is still needed, by the index.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    path::Path,
};

use mailcluster_types::Seq;
use rusqlite::Connection;

use super::Halt;
use crate::{
    record::Kept,
    segment::{self, SEGMENT_HEADER},
};

/// Rows read at a time: no snapshot of the index is held for long.
const PAGE: i64 = 10_000;
/// What a row's record takes beside its body, about: more rather than less, so that nothing is rewritten for nothing.
const ROW: u64 = 192;
const MESSAGE: u64 = 192;
/// Messages of one body that are told of in a pack.
pub const MESSAGES: u64 = 8;

/// A segment or pack, and what is needed of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Use {
    /// Its number.
    pub number: u64,
    /// Its octets.
    pub size: u64,
    /// Those that a pack of what is needed would have, about.
    pub live: u64,
    /// Rows of the index that refer to it.
    pub rows: u64,
    /// The first and the last of them.
    pub ids: (u64, u64),
}

impl Use {
    /// What would be given back.
    pub fn dead(&self) -> u64 {
        self.size.saturating_sub(self.live)
    }
}

/// What a survey will think of a record of a pack.
pub fn estimate(kept: &Kept, body: usize) -> u64 {
    let rows = kept.bodies.iter().map(|row| {
        let messages = u64::try_from(row.messages.len()).unwrap_or(MESSAGES);
        ROW + row.prefix.len() as u64 + MESSAGE * messages.max(1)
    });
    body as u64 + rows.sum::<u64>()
}

/// The segments with their lengths, ascending.
pub fn segments(log: &Path) -> std::io::Result<Vec<(Seq, u64)>> {
    let length = |first| Ok((first, fs::metadata(segment::path(log, first))?.len()));
    segment::list(log)?.into_iter().map(length).collect()
}

/// All segments and packs, by number. `go_on` is asked between pages.
pub fn files(conn: &Connection, log: &Path, go_on: &dyn Fn() -> Result<(), Halt>) -> Result<Vec<Use>, Halt> {
    let mut found = BTreeMap::new();
    for number in segment::list(log)?.into_iter().chain(segment::packs(log)?) {
        let size = fs::metadata(segment::path(log, number))?.len().saturating_sub(SEGMENT_HEADER);
        found.insert(number, Use { number, size, live: 0, rows: 0, ids: (0, 0) });
    }
    let mut after = 0;
    let mut last = (0, 0);
    loop {
        let page = page(conn, after)?;
        let Some(end) = page.last() else { return Ok(found.into_values().collect()) };
        after = end.id;
        for row in page {
            let Some(file) = found.get_mut(&row.place.0) else { continue };
            // Rows of one body follow each other.
            let body = if row.place == last { 0 } else { row.length };
            file.live += body + ROW + row.prefix + MESSAGE * row.refs.min(MESSAGES);
            file.rows += 1;
            file.ids = (if file.rows == 1 { row.id } else { file.ids.0 }, row.id);
            last = row.place;
        }
        go_on()?;
    }
}

/// Those of these files that a row refers to, found in one pass.
pub fn needed(
    conn: &Connection,
    numbers: &HashSet<u64>,
    go_on: &dyn Fn() -> Result<(), Halt>,
) -> Result<HashSet<u64>, Halt> {
    let (mut found, mut after) = (HashSet::new(), 0);
    loop {
        go_on()?;
        let page = page(conn, after)?;
        let Some(end) = page.last() else { return Ok(found) };
        after = end.id;
        found.extend(page.iter().map(|row| row.place.0).filter(|number| numbers.contains(number)));
    }
}

struct Row {
    id: u64,
    place: (u64, u64),
    length: u64,
    refs: u64,
    prefix: u64,
}

fn page(conn: &Connection, after: u64) -> rusqlite::Result<Vec<Row>> {
    let mut query = conn.prepare_cached(
        "SELECT id, segment, offset, len, refs, ifnull(length(prefix),0) FROM body WHERE id>? ORDER BY id LIMIT ?",
    )?;
    let rows = query.query_map((after, PAGE), |r| {
        Ok(Row {
            id: r.get(0)?,
            place: (r.get(1)?, r.get(2)?),
            length: r.get(3)?,
            refs: r.get(4)?,
            prefix: r.get(5)?,
        })
    })?;
    rows.collect()
}
