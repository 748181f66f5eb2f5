//! The same for a mirror that takes a snapshot: whenever it crashes, it has its own log and index, or those of the snapshot,
//! and the latter once it was said to be in place; what it has of a snapshot is gone on with.
//!
//! The index that it had is SQLite's until it is removed: in the model its files stand as names with [`OLD`] in them.

use std::{collections::BTreeMap, path::Path, slice::from_ref, sync::Arc};

use mailcluster_types::{ReplicaId, Seq};

use super::{
    super::{snapshot::send, support::identity},
    check::{after_boot, directory, lay_out},
    disk::{Broken, Disk, Image, Op},
    index::IndexFiles,
    life::{Reference, live, mirrored},
    mirror::batches,
    rng::Rng,
    tape::{Event, Faults, Tape, plain},
};
use crate::{
    Cancel, Follower, Identity, LoggedBatch, Outgoing, Replica,
    engine::Options,
    schema::{self, State},
};

const OLD: &[u8] = b"the index that was there";
const NAMES: [&str; 3] = ["index.sqlite", "index.sqlite-wal", "index.sqlite-shm"];
const PROMISE: u64 = 3;
/// The epoch of whoever feeds it.
const STREAM: u64 = 1000;
/// Of one moment about so many states are tried.
const SOME: usize = 12;

fn me() -> Identity {
    Identity { replica: ReplicaId(11), ..identity() }
}

fn opened(dir: &Path, options: &Options) -> Result<Follower, String> {
    let replica = Replica::open_with(dir, &me(), options).map_err(|e| format!("does not open: {e}"))?;
    Follower::new(replica).map_err(|e| e.to_string())
}

/// A primary's log, the index after each batch, a snapshot of some of it, and how far a mirror had come before.
pub struct World {
    batches: Vec<LoggedBatch>,
    references: BTreeMap<Seq, Reference>,
    outgoing: Outgoing,
    old: Seq,
    _dirs: [tempfile::TempDir; 2],
}

impl World {
    pub fn new(seed: u64) -> Self {
        let (dir, copy) = (directory(), directory());
        let tape = Tape::new(dir.path(), Default::default(), Faults::default());
        let history = super::block_on(live(dir.path(), &tape, &mut Rng::new(seed), 8));
        let end = *history.references.last_key_value().unwrap().0;
        let batches = batches(dir.path(), identity(), end).unwrap();
        let all = directory();
        let references = mirrored(dir.path(), all.path(), end).unwrap();
        let at = |share: usize| batches[batches.len() * share / 6].prev.seq;
        mirrored(dir.path(), copy.path(), at(5)).unwrap();
        let outgoing = Outgoing::make(copy.path(), 1, 1 << 40, &Cancel::default()).unwrap().unwrap();
        Self { old: at(2), batches, references, outgoing, _dirs: [dir, copy] }
    }

    fn new_end(&self) -> Seq {
        self.outgoing.offer().at.seq
    }

    /// A mirror that has some of the log, all but a little of it committed.
    fn mirror(&self, dir: &Path) {
        let mut mirror = Follower::new(Replica::initialise_with(dir, &me(), &plain()).unwrap()).unwrap();
        mirror.promise(PROMISE).unwrap();
        let until = self.batches.partition_point(|batch| batch.seq <= self.old);
        for batch in &self.batches[..until] {
            mirror.advance(batch.prev.seq).unwrap();
            mirror.append(STREAM, from_ref(batch)).unwrap();
        }
    }

    /// Takes the snapshot and puts it in place.
    fn take(&self, mirror: Follower, told: &mut dyn FnMut(Event)) -> Result<Follower, String> {
        let offer = self.outgoing.offer().clone();
        let mut incoming = mirror.receive(STREAM, offer).map_err(|e| format!("does not take it: {e}"))?;
        for file in self.outgoing.files() {
            send(&self.outgoing, &mut incoming, file, usize::MAX);
        }
        told(Event::Committed(self.new_end()));
        let received = incoming.complete(&mirror).map_err(|e| format!("is not whole: {e}"))?;
        let (mirror, installed) = mirror.install(STREAM, &received);
        installed.map_err(|e| format!("is not put in place: {e}"))?;
        let mirror = mirror.ok_or("it is not here")?;
        told(Event::Told(mirror.end().seq));
        Ok(mirror)
    }

    /// What it must be like: the old, or the new when that `may` be, and nothing else when it `must`.
    fn check(&self, dir: &Path, known: Known) -> Result<Follower, String> {
        let mut mirror = opened(dir, &plain())?;
        let end = mirror.end().seq;
        let is_new = end == self.new_end();
        let may_be = if is_new { known.may } else { end == self.old && !known.must };
        if !may_be {
            return Err(format!("ends at {end}, and {known:?}"));
        }
        if mirror.describe().promise != PROMISE || mirror.describe().identity != me() {
            return Err(format!("says of itself {:?}", mirror.describe()));
        }
        let found = batches(dir, me(), end)?;
        if found[..] != self.batches[..self.batches.partition_point(|batch| batch.seq <= end)] {
            return Err(format!("another log up to {end}"));
        }
        let same = |at: Seq| Reference::read(dir).rows == self.references[&at].rows;
        if !same(mirror.applied().1) {
            return Err(format!("other rows at {}", mirror.applied().1));
        }
        mirror.advance(end).map_err(|e| e.to_string())?;
        if same(end) { Ok(mirror) } else { Err(format!("other rows at {end}, once committed")) }
    }

    /// It takes the snapshot, if it has not, and what comes then.
    fn goes_on(&self, dir: &Path, mut mirror: Follower) -> Result<(), String> {
        if mirror.end().seq < self.new_end() {
            mirror = self.take(mirror, &mut |_| {})?;
            drop(mirror);
            mirror = self.check(dir, Known { may: true, must: true })?;
        }
        let rest = self.batches.partition_point(|batch| batch.seq <= mirror.end().seq);
        for batch in &self.batches[rest..] {
            mirror.append(STREAM, from_ref(batch)).map_err(|e| e.to_string())?;
            mirror.advance(Seq::MAX).map_err(|e| e.to_string())?;
        }
        let end = mirror.end().seq;
        let same = Reference::read(dir).rows == self.references[&end].rows;
        if same { Ok(()) } else { Err(format!("other rows at {end}, which came later")) }
    }
}

/// What may and must be there of the snapshot.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    may: bool,
    must: bool,
}

/// A recorded life.
struct Run {
    base: Disk,
    known: Known,
    events: Vec<Event>,
    indexes: Vec<IndexFiles>,
}

/// The files in `dir`, with stand-ins for those of the index.
fn image_of(dir: &Path) -> Image {
    let mut image = Image::default();
    image.dirs.insert("log".into());
    for entry in std::fs::read_dir(dir.join("log")).unwrap() {
        let entry = entry.unwrap();
        let name = Path::new("log").join(entry.file_name());
        image.files.insert(name, std::fs::read(entry.path()).unwrap().into());
    }
    image.files.insert("superblock".into(), std::fs::read(dir.join("superblock")).unwrap().into());
    for name in NAMES {
        image.files.insert(name.into(), Arc::new(OLD.to_vec()));
    }
    image
}

/// Writes it where it can be opened, the old index's files for their stand-ins.
fn laid_out(image: &Image, old: &IndexFiles) -> tempfile::TempDir {
    let mut image = image.clone();
    let mut index = IndexFiles::default();
    let mut stands = |name: &str| {
        let stands = image.files.get(Path::new(name)).is_some_and(|content| content.as_slice() == OLD);
        stands.then(|| image.files.remove(Path::new(name))).is_some()
    };
    if stands(NAMES[0]) {
        index.index = old.index.clone();
    }
    if stands(NAMES[1]) {
        index.wal = old.wal.clone();
    }
    // SQLite makes it anew.
    stands(NAMES[2]);
    lay_out(&image, &index)
}

/// Tries every crash; answers how many states were opened.
pub struct Explorer<'a> {
    pub world: &'a World,
    pub rng: Rng,
    pub broken: Option<Broken>,
}

impl Explorer<'_> {
    /// A mirror takes the snapshot.
    pub fn run(&mut self) -> Result<usize, String> {
        let dir = directory();
        self.world.mirror(dir.path());
        // Somebody reads: so the write-ahead log is there, with what was written, until it is removed.
        let reader = schema::open_reader(dir.path()).map_err(|e| e.to_string())?;
        let reads = reader.execute_batch("BEGIN").and_then(|()| State::load(&reader));
        reads.map_err(|e| e.to_string())?;
        let base = Disk::holding(&image_of(dir.path()));
        let tape = Tape::new(dir.path(), base.open_files(), Faults::default());
        let mirror = opened(dir.path(), &tape.options())?;
        drop(self.world.take(mirror, &mut |event| tape.note(event))?);
        let (events, indexes) = tape.finish();
        self.explore(&Run { base, known: Known::default(), events, indexes }, 0)
    }

    fn explore(&mut self, run: &Run, depth: usize) -> Result<usize, String> {
        let (mut disk, mut known, mut opened) = (run.base.clone(), run.known, 0);
        let (mut old, mut has_begun) = (IndexFiles::default(), false);
        for (n, event) in run.events.iter().enumerate() {
            match event {
                Event::Disk(op) => {
                    has_begun |= matches!(op, Op::MakeDir(path) if path == Path::new("snapshot-in"));
                    // Not what an opening relies on: other tests are for that.
                    disk.apply(op, self.broken.filter(|_| has_begun && depth == 0));
                }
                Event::Committed(_) => known.may = true,
                Event::Told(_) => known.must = true,
                _ => {}
            }
            let reading = &run.indexes[n];
            let is_old =
                |name: &str| disk.seen().files.get(Path::new(name)).is_some_and(|c| c.as_slice() == OLD);
            if is_old(NAMES[0]) {
                old.index = reading.index.clone().or(old.index);
                old.wal = reading.wal.clone().or(old.wal);
            }
            let at =
                |why: String| format!("event {n} of {} at depth {depth}, {event:?}: {why}", run.events.len());
            let fates = disk.fates(&mut self.rng, 2);
            let odds = fates.len().div_ceil(SOME) * if depth > 0 { 4 } else { 1 };
            for fates in fates {
                if !self.rng.one_in(odds) {
                    continue;
                }
                let image = after_boot(disk.after(&fates));
                let tried = self.state((&image, &old), known, depth);
                opened += tried.map_err(|why| at(format!("{fates:?}: {why}")))?;
            }
            // Killed, with all that was written in the page cache.
            let odds = if matches!(event, Event::Disk(Op::Rename(..) | Op::Remove(_))) { 1 } else { 6 };
            if depth == 0 && self.rng.one_in(odds) {
                let dir = laid_out(&disk.seen(), &old);
                let killed = self.again(dir.path(), disk.clone(), known);
                opened += killed.map_err(|why| at(format!("killed: {why}")))?;
            }
        }
        Ok(opened)
    }

    fn state(
        &mut self,
        (image, old): (&Image, &IndexFiles),
        known: Known,
        depth: usize,
    ) -> Result<usize, String> {
        let dir = laid_out(image, old);
        if depth == 0 && self.rng.one_in(12) {
            return self.again(dir.path(), Disk::holding(image), known);
        }
        let mirror = self.world.check(dir.path(), known)?;
        if self.rng.one_in(6) {
            self.world.goes_on(dir.path(), mirror)?;
        }
        Ok(1)
    }

    /// Opens it under the recorder, and tries every crash of that.
    fn again(&mut self, dir: &Path, base: Disk, known: Known) -> Result<usize, String> {
        let tape = Tape::new(dir, base.open_files(), Faults::default());
        let end = opened(dir, &tape.options())?.end().seq;
        if end == self.world.new_end() {
            // Others may have been told.
            tape.note(Event::Told(end));
        }
        let (events, indexes) = tape.finish();
        let tried = self.explore(&Run { base, known, events, indexes }, 1)?;
        let must = known.must || end == self.world.new_end();
        drop(self.world.check(dir, Known { must, ..known })?);
        Ok(tried + 1)
    }
}
