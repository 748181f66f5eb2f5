//! One round: what is most dead is given back.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use mailcluster_types::Seq;
use rusqlite::{Connection, params};

use super::{
    Chore, Halt, Moved, Pace, Reclaimed, STEP, VIEWS, copy,
    policy::{self, Room},
    survey::{self, Use},
    whose::Whose,
};
use crate::{
    base::{self, Base},
    engine::Engine,
    error::ReadError,
    files::Place,
    pack,
    record::{Kept, KeptBody},
    schema::{self, State},
    segment,
    superblock::Superblock,
};

/// Rows that the committer moves at a time: a delivery waits for no more.
const MOVED: usize = 256;
/// Rows read at a time.
const PAGE: i64 = 10_000;

/// What the thread remembers from one round to the next.
#[derive(Default)]
pub struct Memory {
    /// The newest base that is sound; `None` before it was looked for, too.
    base: Option<Base>,
    has_looked: bool,
    /// The last record and the room when there was nothing to be had.
    nothing_at: Option<(Seq, Room)>,
    /// The last pack's number: none is used again.
    last: u64,
    /// Packs of this process, with what they were said to hold when they were made: one that holds nothing dead is not
    /// worth more because its records are larger than was thought.
    made: HashMap<u64, u64>,
    /// Files that have a damaged body: they stay as they are.
    spoiled: HashSet<u64>,
}

/// Gives back what a round takes; nothing when there is nothing that is worth it.
pub fn run(pace: &Pace<'_>, memory: &mut Memory) -> Result<Reclaimed, Halt> {
    pace.go_on()?;
    let parts = pace.parts;
    let conn = schema::open_reader(&parts.dir)?;
    let me = parts.identity.replica.to_bytes();
    if !policy::is_single_copy(&schema::in_sync(&conn)?, &me, parts.mirrors.are_there()) {
        return Ok(Reclaimed::default());
    }
    let state = State::load(&conn)?;
    let measure = parts.space.measure();
    let room = policy::room(measure);
    let now = (state.link.seq, room);
    if memory.nothing_at == Some(now) {
        return Ok(Reclaimed::default());
    }
    let log = Engine::log_dir(&parts.dir);
    let files = memory.known(survey::files(&conn, &log, &|| pace.go_on())?);
    parts.stats.surveyed(files.iter().map(|f| f.live.min(f.size)).sum(), files.iter().map(Use::dead).sum());
    let segments = survey::segments(&log)?;
    let total = if parts.is_eager { 0 } else { measure.1 };
    let keep = policy::retained(parts.segment_size, total);
    let before = policy::first_retained(&segments, keep).min(state.segment);
    let base = memory.base(pace, (&files, before), room)?;
    let victims = policy::victims(&files, before.min(base), room);
    let victims = affordable(victims, measure)?;
    if victims.is_empty() {
        memory.nothing_at = Some(now);
        return Ok(Reclaimed::default());
    }
    let contiguous_from = contiguous_from(&segments, &victims);
    // Before anything points into a pack: a version that knows of none must not open this volume any more.
    pace.ask(Chore::ContiguousFrom(contiguous_from))?;
    let mut round = Round { pace, conn, log, memory, packed: 0 };
    round.memory.last = round.memory.last.max(state.link.seq);
    if let Err(error) = round.keep(&victims) {
        if pace.go_on().is_ok() {
            // Its room may be what was wanting. When it is not there, it has its name by now, or was never made.
            let _ = parts.disk.remove(&pack::unfinished(&round.log));
        }
        return Err(error);
    }
    round.remove(&victims)
}

/// Where the log has no more gaps when these are gone.
fn contiguous_from(segments: &[(Seq, u64)], victims: &[Use]) -> Seq {
    let newest = victims.iter().map(|file| file.number).filter(|number| !segment::is_pack(*number)).max();
    let next =
        segments.iter().map(|(first, _)| *first).find(|first| newest.is_some_and(|newest| *first > newest));
    next.unwrap_or(0)
}

/// Those that there is room for; what is wholly dead needs none.
fn affordable(victims: Vec<Use>, measure: (u64, u64)) -> Result<Vec<Use>, Halt> {
    let mut needed = 0;
    let wanted = victims.len();
    let fits = |file: &Use| {
        let with = needed + file.live;
        let fits = file.live == 0 || policy::has_room(measure, with);
        if fits {
            needed = with;
        }
        fits
    };
    let fitting: Vec<Use> = victims.into_iter().filter(fits).collect();
    if fitting.is_empty() && wanted > 0 { Err(Halt::NoRoom) } else { Ok(fitting) }
}

impl Memory {
    /// The files, without those that stay, and measured by what was thought when they were made.
    fn known(&self, mut files: Vec<Use>) -> Vec<Use> {
        files.retain(|file| !self.spoiled.contains(&file.number));
        for file in &mut files {
            if let Some(made) = self.made.get(&file.number) {
                file.size = file.size.min(*made);
            }
        }
        files
    }

    /// The segment of the base that there is, or of a new one where that is worth it.
    fn base(&mut self, pace: &Pace<'_>, (files, before): (&[Use], Seq), room: Room) -> Result<Seq, Halt> {
        let parts = pace.parts;
        if !self.has_looked {
            let folder = base::folder(&parts.dir);
            // The process that named a base may have died before it could sync the name.
            if folder.is_dir() {
                parts.disk.sync_dir(&folder)?;
            }
            for base in base::list(&parts.dir)? {
                if self.base.is_none() && base.is_sound(&parts.dir, &|| pace.still())? {
                    self.base = Some(base);
                }
            }
            self.has_looked = true;
        }
        let segment = self.base.as_ref().map_or(0, |base| base.segment);
        let gain = policy::gain(files, before, segment, room);
        let index = fs::metadata(schema::path(&parts.dir))?.len();
        let is_worth = policy::is_base_worth(gain, if parts.is_eager { 0 } else { index }, room);
        // The only way back, should the index be lost.
        let is_missing = self.base.is_none()
            && Superblock::read(&parts.dir).map_err(io::Error::other)?.contiguous_from > 0;
        if (is_worth || is_missing) && policy::has_room(parts.space.measure(), index + index / 8) {
            match copy::make(pace) {
                Ok(base) => self.base = Some(base),
                // The old one is there as before; another round comes at a better time.
                Err(Halt::Busy) => tracing::warn!("the index changes faster than it can be copied"),
                Err(error) => return Err(error),
            }
        } else if is_worth || is_missing {
            tracing::warn!(
                octets = index,
                "there is no room for a copy of the index, without which no more is given back"
            );
        }
        Ok(self.base.as_ref().map_or(0, |base| base.segment))
    }
}

/// A row of the index that refers to a body.
struct Row {
    id: u64,
    place: Place,
    prefix: Vec<u8>,
}

struct Round<'a> {
    pace: &'a Pace<'a>,
    conn: Connection,
    log: PathBuf,
    memory: &'a mut Memory,
    packed: u64,
}

impl Round<'_> {
    /// Puts what is needed of these files into packs, and has the index point there.
    fn keep(&mut self, victims: &[Use]) -> Result<(), Halt> {
        let mut rows = Vec::new();
        for file in victims.iter().filter(|file| file.rows > 0) {
            rows.push((file.number, self.rows(file)?));
        }
        let wanted = rows.iter().flat_map(|(_, rows)| rows.iter().map(|row| row.id)).collect();
        let pace = self.pace;
        let mut whose = Whose::read(&self.conn, &wanted, &|| pace.go_on())?;
        let mut packing = Packing { pace, log: &self.log, writer: None, moved: Vec::new(), live: 0, owed: 0 };
        for (number, rows) in &rows {
            for same in rows.chunk_by(|a, b| a.place == b.place) {
                match packing.add(self.memory, same, &mut whose) {
                    Err(Halt::Disk(e)) if e.kind() == io::ErrorKind::InvalidData => {
                        tracing::warn!(file = segment::name(*number), error = %e, "a body is damaged: its file stays");
                        self.memory.spoiled.insert(*number);
                        break;
                    }
                    other => other?,
                }
            }
            if packing.is_full() {
                self.packed += packing.end(self.memory)?;
            }
        }
        self.packed += packing.end(self.memory)?;
        Ok(())
    }

    /// The rows that refer to a file, those of one body together.
    fn rows(&self, file: &Use) -> Result<Vec<Row>, Halt> {
        let (mut after, last) = (file.ids.0.saturating_sub(1), file.ids.1);
        let mut found = Vec::new();
        loop {
            self.pace.go_on()?;
            let mut query = self.conn.prepare_cached(
                "SELECT id, offset, len, crc, prefix, segment FROM body WHERE id>? AND id<=? ORDER BY id LIMIT ?",
            )?;
            let page = query.query_map(params![after, last, PAGE], |r| {
                let place = Place { segment: r.get(5)?, offset: r.get(1)?, len: r.get(2)?, crc: r.get(3)? };
                Ok(Row { id: r.get(0)?, place, prefix: r.get::<_, Option<Vec<u8>>>(4)?.unwrap_or_default() })
            })?;
            let page = page.collect::<rusqlite::Result<Vec<Row>>>()?;
            let Some(end) = page.last() else { break };
            after = end.id;
            found.extend(page.into_iter().filter(|row| row.place.segment == file.number));
        }
        found.sort_by_key(|row| (row.place.offset, row.id));
        Ok(found)
    }

    /// Removes the files that nothing refers to any more.
    fn remove(self, victims: &[Use]) -> Result<Reclaimed, Halt> {
        let parts = self.pace.parts;
        let mut gone = Vec::new();
        for file in victims {
            if !self.is_needed(file)? {
                gone.push(file);
            }
        }
        self.pace.sync_index()?;
        let views = parts.pool.turn();
        self.pace.sleep_until(Instant::now() + VIEWS, || Arc::strong_count(&views) == 1)?;
        let mut done = Reclaimed { packed: self.packed, ..Reclaimed::default() };
        if Arc::strong_count(&views) > 1 {
            tracing::warn!(
                "a reader has held the store's state for long: what was rewritten is removed later"
            );
            return Ok(done);
        }
        for file in gone {
            self.pace.go_on()?;
            let path = segment::path(&self.log, file.number);
            let octets = fs::metadata(&path)?.len();
            parts.disk.remove(&path)?;
            parts.pool.files().forget(file.number);
            parts.stats.gave_back(octets);
            done.files += 1;
            done.removed += octets;
        }
        parts.disk.sync_dir(&self.log)?;
        parts.stats.packed(self.packed);
        Ok(done)
    }

    fn is_needed(&self, file: &Use) -> Result<bool, Halt> {
        let sql = "SELECT EXISTS(SELECT 1 FROM body WHERE id BETWEEN ? AND ? AND segment=?)";
        Ok(self.conn.query_row(sql, params![file.ids.0, file.ids.1, file.number], |r| r.get(0))?)
    }
}

/// The pack that is written.
struct Packing<'a> {
    pace: &'a Pace<'a>,
    log: &'a Path,
    writer: Option<pack::Writer>,
    moved: Vec<Moved>,
    /// What a survey will think that it holds.
    live: u64,
    /// Octets since the last pause.
    owed: u64,
}

impl Packing<'_> {
    /// Adds one body; `rows` are those that refer to it. `InvalidData`: it is not what it was.
    fn add(&mut self, memory: &mut Memory, rows: &[Row], whose: &mut Whose) -> Result<(), Halt> {
        let Some(first) = rows.first() else { return Ok(()) };
        let parts = self.pace.parts;
        let commits = parts.stats.commits();
        let body = parts.pool.files().read(&[], &first.place).map_err(|e| match e {
            ReadError::Damaged(what) => Halt::Disk(io::Error::new(io::ErrorKind::InvalidData, what)),
            other => Halt::Disk(io::Error::other(other)),
        })?;
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
        let to = (writer.number, writer.add(kept, &body)?);
        let from = (first.place.segment, first.place.offset);
        self.moved.extend(rows.iter().map(|row| Moved { id: row.id, from, to }));
        self.owed += 2 * body.len() as u64;
        if self.owed >= STEP {
            self.pace.wrote(self.owed, commits)?;
            self.owed = 0;
        }
        Ok(())
    }

    fn begin(&self, memory: &mut Memory) -> Result<pack::Writer, Halt> {
        self.pace.go_on()?;
        let parts = self.pace.parts;
        let newest = segment::packs(self.log)?.last().map_or(0, |number| number & !segment::PACK);
        memory.last = memory.last.max(newest) + 1;
        let number = memory.last | segment::PACK;
        Ok(pack::Writer::create(&parts.disk, self.log, &parts.identity, number)?)
    }

    fn is_full(&self) -> bool {
        self.writer.as_ref().is_some_and(|writer| writer.len() >= self.pace.parts.segment_size)
    }

    /// Makes the pack durable, then has the index point into it. Answers its octets.
    fn end(&mut self, memory: &mut Memory) -> Result<u64, Halt> {
        let Some(writer) = self.writer.take() else { return Ok(0) };
        self.pace.go_on()?;
        let number = writer.number;
        let octets = writer.finish()?;
        memory.made.insert(number, std::mem::take(&mut self.live));
        for rows in std::mem::take(&mut self.moved).chunks(MOVED) {
            self.pace.ask(Chore::Move(rows.to_vec()))?;
        }
        Ok(octets)
    }
}
