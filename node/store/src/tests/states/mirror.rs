//! The same for a replica that follows a primary: what it has confirmed is there, as the primary wrote it; its index has
//! nothing that it was not told to be committed; what it has cut off stays away.

use std::{path::Path, slice::from_ref};

use mailcluster_types::{ReplicaId, Seq};

use super::{
    super::support::identity,
    check::{after_boot, directory, lay_out},
    disk::{Disk, Image},
    index::{IndexFiles, Reading, floors},
    is_long,
    life::{History, Reference},
    rng::Rng,
    tape::{Event, Faults, Tape, plain},
};
use crate::{Follower, Identity, LogReader, LoggedBatch, Replica, engine::Options, schema};

fn other() -> Identity {
    Identity { replica: ReplicaId(10), ..identity() }
}

fn opened(dir: &Path, options: &Options) -> Result<Follower, String> {
    let replica = Replica::open_with(dir, &other(), options).map_err(|e| format!("does not open: {e}"))?;
    Follower::new(replica).map_err(|e| e.to_string())
}

/// The log in `dir` as far as `end`, from where it has no gaps.
pub fn batches(dir: &Path, identity: Identity, end: Seq) -> Result<Vec<LoggedBatch>, String> {
    let first = LogReader::first(dir).map_err(|e| e.to_string())?;
    let mut reader = LogReader::after(dir, identity, first.saturating_sub(1)).map_err(|e| e.to_string())?;
    std::iter::from_fn(|| reader.next(end).transpose()).collect::<Result<_, _>>().map_err(|e| e.to_string())
}

/// What was said of a mirror.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    confirmed: Seq,
    committed: Seq,
    /// What lies behind was cut off.
    most: Seq,
}

/// A primary's log, and the index after each batch.
pub struct Primary {
    pub batches: Vec<LoggedBatch>,
    pub history: History,
    /// Mirrors give room back: nobody else wants anything of their logs.
    pub gives_back: bool,
}

impl Primary {
    /// The batches behind `end`.
    fn behind(&self, end: Seq) -> &[LoggedBatch] {
        &self.batches[self.batches.partition_point(|batch| batch.seq <= end)..]
    }

    /// What a mirror that may have crashed must be like.
    fn check(&self, dir: &Path, known: Known) -> Result<(), String> {
        let mut follower = opened(dir, &plain())?;
        let (end, (_, applied)) = (follower.end(), follower.applied());
        if end.seq < known.confirmed || end.seq > known.most || applied > known.committed {
            return Err(format!("has {applied} to {end:?}, and {known:?}"));
        }
        let found = batches(dir, other(), end.seq)?;
        let end_of_log = self.batches.partition_point(|batch| batch.seq <= end.seq);
        let same_log = end_of_log.checked_sub(found.len()).map(|from| &self.batches[from..end_of_log]);
        if same_log != Some(&found[..]) || (found.len() < end_of_log && !self.gives_back) {
            return Err(format!("another log up to {end:?}"));
        }
        let same = |at: Seq| {
            let wanted = self.history.references.get(&at);
            wanted.is_none_or(|wanted| Reference::read(dir).rows == wanted.rows)
        };
        if !same(applied) {
            return Err(format!("other rows at {applied}"));
        }
        follower.advance(end.seq).map_err(|e| e.to_string())?;
        if !same(end.seq) {
            return Err(format!("other rows at {end:?}, once committed"));
        }
        readable(dir, &follower)
    }
}

/// Can every text be read that the index has?
fn readable(dir: &Path, follower: &Follower) -> Result<(), String> {
    let conn = schema::open_reader(dir).map_err(|e| e.to_string())?;
    let mut query = conn.prepare("SELECT id FROM body").map_err(|e| e.to_string())?;
    let ids = query.query_map([], |row| row.get(0)).map_err(|e| e.to_string())?;
    let view = follower.replica.view();
    for id in ids {
        let id: u64 = id.map_err(|e| e.to_string())?;
        view.body(id).map_err(|e| format!("the text of body {id}: {e}"))?;
    }
    Ok(())
}

/// What it has is given back while it follows, and changes nothing that it says.
fn give_back(follower: &mut Follower) -> Result<u64, String> {
    follower.note_wanted(Some(Seq::MAX));
    Ok(follower.reclaim()?.files)
}

/// A mirror's life: it takes batches one by one or together, learns what is committed, cuts off and takes again, and is
/// opened anew.
pub fn follow(tape: &Tape, dir: &Path, primary: &Primary, rng: &mut Rng, most: usize) -> Result<u64, String> {
    let mut follower = opened(dir, &tape.options())?;
    let mut given_back = 0;
    for _ in 0..most {
        let end = follower.end().seq;
        let next = primary.behind(end);
        let together = next.len().min(1 + rng.below(3));
        let Some(last) = next[..together].last() else { break };
        if primary.gives_back && follower.must_catch_up() {
            // No segment is begun while there is a tail.
            tape.note(Event::Committed(end));
            follower.advance(end).map_err(|e| e.to_string())?;
        }
        // What was cut off before a crash may come again.
        tape.note(Event::AtMost(Seq::MAX));
        follower.append(last.epoch, &next[..together]).map_err(|e| e.to_string())?;
        tape.note(Event::Told(follower.end().seq));
        match rng.below(6) {
            0 => {
                let after = follower.applied().1.max(end);
                tape.note(Event::Cut(after));
                follower.cut(after).map_err(|e| e.to_string())?;
                tape.note(Event::AtMost(after));
                tape.note(Event::AtMost(Seq::MAX));
                let again = &primary.behind(after)[0];
                follower.append(again.epoch, from_ref(again)).map_err(|e| e.to_string())?;
                tape.note(Event::Told(follower.end().seq));
            }
            1 => {
                drop(follower);
                follower = opened(dir, &tape.options())?;
            }
            _ => {
                tape.note(Event::Committed(last.prev.seq));
                follower.advance(last.prev.seq).map_err(|e| e.to_string())?;
            }
        }
        if primary.gives_back && rng.one_in(4) {
            given_back += give_back(&mut follower)?;
        }
    }
    Ok(given_back)
}

/// A mirror's recorded life that may crash.
pub struct MirrorRun<'a> {
    pub primary: &'a Primary,
    pub base: Disk,
    pub floor: usize,
    pub known: Known,
    pub events: Vec<Event>,
    pub indexes: Vec<IndexFiles>,
}

impl MirrorRun<'_> {
    /// Tries every crash, and those of recoveries from them; answers how many states were opened.
    pub fn explore(&self, rng: &mut Rng, depth: usize) -> Result<usize, String> {
        let floors = floors(&self.indexes, |n| self.events[n - 1].is_index_synced(), self.floor);
        let (mut disk, mut known, mut opened) = (self.base.clone(), self.known, 0);
        // Giving room back has many steps, in recoveries as well.
        let rare = if self.primary.gives_back && !is_long() { 4 } else { 1 };
        for (n, event) in self.events.iter().enumerate() {
            match event {
                Event::Disk(op) => disk.apply(op, None),
                Event::Told(seq) => known.confirmed = *seq,
                Event::Cut(seq) => known.confirmed = known.confirmed.min(*seq),
                Event::AtMost(seq) => known.most = *seq,
                Event::Committed(seq) => known.committed = known.committed.max(*seq),
                Event::Ready | Event::Promised(_) | Event::IndexSynced => {}
            }
            let at = |why: String| {
                format!("event {n} of {} at depth {depth}, {event:?}: {why}", self.events.len())
            };
            let reading =
                Reading { now: &self.indexes[n + 1], before: &self.indexes[n], floor: floors[n + 1] };
            for fates in disk.fates(rng, 1) {
                if depth > 0 && !rng.one_in(4) {
                    continue;
                }
                let (image, index) = (after_boot(disk.after(&fates)), reading.left(rng));
                let dir = lay_out(&image, &index);
                let checked = if depth == 0 && rng.one_in(40 * rare) {
                    self.again(dir.path(), (Disk::holding(&image), index.frames()), known, rng)
                } else {
                    self.primary.check(dir.path(), known).map(|()| 1)
                };
                opened += checked.map_err(|why| at(format!("{fates:?}: {why}")))?;
            }
            if depth == 0 && rng.one_in(if disk.has_new_names() { 2 } else { 16 } * rare) {
                let image: Image = disk.seen();
                let dir = lay_out(&image, reading.now);
                let killed = self.again(dir.path(), (disk.clone(), reading.floor), known, rng);
                opened += killed.map_err(|why| at(format!("killed: {why}")))?;
            }
        }
        Ok(opened)
    }

    fn again(
        &self,
        dir: &Path,
        (base, floor): (Disk, usize),
        known: Known,
        rng: &mut Rng,
    ) -> Result<usize, String> {
        let tape = Tape::new(dir, base.open_files(), Faults::default());
        follow(&tape, dir, self.primary, rng, 2)?;
        let (events, indexes) = tape.finish();
        let run = MirrorRun { primary: self.primary, base, floor, known, events, indexes };
        run.explore(rng, 1)
    }
}

/// A fresh mirror under the recorder; the recording begins when it is made.
pub fn recorded<'a>(primary: &'a Primary, rng: &mut Rng) -> MirrorRun<'a> {
    let dir = directory();
    drop(Replica::initialise_with(dir.path(), &other(), &plain()).unwrap());
    let mut image = Image::default();
    image.dirs.insert("log".into());
    for name in ["superblock".to_owned(), format!("log/{:020}.seg", 1)] {
        image.files.insert(name.clone().into(), std::fs::read(dir.path().join(&name)).unwrap().into());
    }
    let base = Disk::holding(&image);
    let tape = Tape::new(dir.path(), base.open_files(), Faults::default());
    tape.note(Event::Ready);
    let given_back = follow(&tape, dir.path(), primary, rng, usize::MAX).unwrap();
    println!("{given_back} files were given back");
    assert!(given_back > 3 || !primary.gives_back, "{given_back}");
    let (events, indexes) = tape.finish();
    let known = Known { confirmed: 0, committed: 0, most: Seq::MAX };
    MirrorRun { primary, base, floor: 0, known, events, indexes }
}
