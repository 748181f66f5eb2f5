//! Every crash of a recorded life, and what each may leave.

use std::{
    collections::{HashSet, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    path::Path,
    sync::Arc,
};

use mailcluster_types::DeliveryId;

use super::{
    check::{Check, Told, after_boot, lay_out},
    disk::{Broken, Disk, Image, Op},
    index::{IndexFiles, Reading, floors},
    life::{History, ME, Reference, perform_all},
    mail::Act,
    rng::Rng,
    tape::{Event, Faults, Tape},
};
use crate::{OpenGate, Replica};

/// A recorded life.
pub struct Run {
    /// What was there before.
    pub base: Disk,
    pub told: Told,
    /// How many frames of the index's write-ahead log had to be there.
    pub floor: usize,
    pub events: Vec<Event>,
    pub indexes: Vec<IndexFiles>,
}

/// How much is tried.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Random fates of what is not synced, for each moment, besides the regular ones.
    pub random: usize,
    /// States of the index for each fate.
    pub indexes: usize,
    /// One state in so many is opened again and served from.
    pub goes_on: usize,
    /// Of a recovery's states one in so many is tried.
    pub second: usize,
    /// One state in so many is recovered under the recorder, which is crashed as well.
    pub again: usize,
    /// Room is given back: each fate is tried without an index as well, and recoveries give back, too.
    pub gives_back: bool,
}

/// What was seen.
#[derive(Debug, Default)]
pub struct Seen {
    states: HashSet<u64>,
    /// States that were opened; all different.
    pub opened: usize,
    /// Of these, crashes of recoveries.
    pub second: usize,
    /// Recoveries that were recorded.
    pub recoveries: usize,
    /// States that were served from, rebuilt and mirrored.
    pub served: usize,
    /// What is wrong, for people.
    pub sins: Vec<String>,
}

/// A moment of a life at which it may crash.
struct Moment<'a> {
    event: &'a Event,
    disk: &'a Disk,
    reading: Reading<'a>,
    told: Told,
}

/// The explorer of one life, and of the recoveries from its crashes.
pub struct Explorer<'a> {
    pub effort: Effort,
    pub broken: Option<Broken>,
    pub rng: Rng,
    pub seen: &'a mut Seen,
    /// With these sins it stops.
    pub most_sins: usize,
    /// This one of so many workers.
    pub share: (usize, usize),
    /// One state in so many is recovered under the recorder now.
    pub again: usize,
}

impl Explorer<'_> {
    /// Tries every moment.
    pub async fn run(&mut self, run: &Run, history: &History, depth: usize) {
        let floors = floors(&run.indexes, |n| run.events[n - 1].is_index_synced(), run.floor);
        let (mut disk, mut told) = (run.base.clone(), run.told);
        for (n, event) in run.events.iter().enumerate() {
            match event {
                Event::Disk(op) => disk.apply(op, self.broken),
                Event::Told(seq) => told.seq = told.seq.max(*seq),
                Event::Ready => told.ready = true,
                Event::Promised(epoch) => told.promise = *epoch,
                Event::Cut(_) | Event::AtMost(_) | Event::Committed(_) | Event::IndexSynced => {}
            }
            if depth == 0 && n % self.share.1 != self.share.0 {
                continue;
            }
            let reading = Reading { now: &run.indexes[n + 1], before: &run.indexes[n], floor: floors[n + 1] };
            let moment = Moment { event, disk: &disk, reading, told };
            let before = self.seen.sins.len();
            self.moment(&moment, history, depth).await;
            for sin in &mut self.seen.sins[before..] {
                *sin = format!("event {n} of {} at depth {depth}, {event:?}: {sin}", run.events.len());
            }
            if self.seen.sins.len() >= self.most_sins {
                return;
            }
        }
    }

    async fn moment(&mut self, moment: &Moment<'_>, history: &History, depth: usize) {
        // Names are what recovery has most to do with.
        let names = matches!(moment.event, Event::Disk(Op::Rename(..) | Op::SyncDir(_)));
        self.again = if names { self.effort.again.div_ceil(8) } else { self.effort.again };
        for fates in moment.disk.fates(&mut self.rng, self.effort.random) {
            // Of a recovery some are tried: the same one is crashed in many lives.
            if depth > 0 && !self.rng.one_in(self.effort.second) {
                continue;
            }
            let image = after_boot(moment.disk.after(&fates));
            let without = usize::from(self.effort.gives_back);
            for n in 0..self.effort.indexes + without {
                let is_without = n >= self.effort.indexes;
                let index =
                    if is_without { IndexFiles::default() } else { moment.reading.left(&mut self.rng) };
                let outcome = self.state(&image, &index, (moment.told, history), depth).await;
                if let Err(why) = outcome {
                    self.seen.sins.push(format!("{fates:?}: {why}"));
                }
                if self.seen.sins.len() >= self.most_sins {
                    return;
                }
            }
        }
        // Killed, with all that was written in the page cache: nothing of it is on the disk yet.
        let odds = match moment.event {
            Event::Disk(Op::Rename(..)) => 1,
            _ if moment.disk.has_new_names() => 4,
            _ => self.effort.again.div_ceil(8),
        };
        if depth == 0 && self.rng.one_in(odds) {
            let image = moment.disk.seen();
            let dir = lay_out(&image, moment.reading.now);
            let base = (moment.disk.clone(), moment.reading.floor);
            if let Err(why) = self.again(dir.path(), base, (moment.told, history)).await {
                self.seen.sins.push(format!("killed: {why}"));
            }
        }
    }

    async fn state(
        &mut self,
        image: &Image,
        index: &IndexFiles,
        (told, history): (Told, &History),
        depth: usize,
    ) -> Result<(), String> {
        let mut hasher = DefaultHasher::new();
        (image, index, told).hash(&mut hasher);
        if !self.seen.states.insert(hasher.finish()) {
            return Ok(());
        }
        self.seen.opened += 1;
        self.seen.second += usize::from(depth > 0);
        let check = Check { history, told };
        let dir = lay_out(image, index);
        if depth == 0 && self.rng.one_in(self.again) {
            let base = (Disk::holding(image), index.frames());
            return self.again(dir.path(), base, (told, history)).await;
        }
        let replica = check.open(dir.path())?;
        if let Some(mut replica) = replica.filter(|_| self.rng.one_in(self.effort.goes_on)) {
            self.seen.served += 1;
            if self.rng.one_in(2) {
                replica = check.opened_again(replica, dir.path())?;
            }
            check.goes_on(replica, dir.path()).await?;
        }
        Ok(())
    }

    /// Recovers under the recorder, serves and takes some mail, and tries every crash of that.
    async fn again(
        &mut self,
        dir: &Path,
        (base, floor): (Disk, usize),
        (told, history): (Told, &History),
    ) -> Result<(), String> {
        let tape = Tape::new(dir, base.open_files(), Faults::default());
        let Ok(replica) = Replica::open_with(dir, &super::super::support::identity(), &tape.options()) else {
            // The same without the recorder says what is wrong.
            return Check { history, told }.open(dir).map(drop);
        };
        self.seen.recoveries += 1;
        // What it says of itself, others rely on.
        tape.note(Event::Promised(replica.describe().promise));
        let end = replica.describe().end;
        let mut history = history.until(end.1);
        let epoch = end.0.max(replica.describe().promise) + 1;
        let store = replica.serve(epoch, ME, Arc::new(OpenGate)).map_err(|e| e.to_string())?;
        let note = |history: &mut History| {
            tape.note(Event::Told(store.committed().1));
            history.references.insert(store.committed().1, Reference::read(dir));
        };
        note(&mut history);
        for _ in 0..2 {
            let id = DeliveryId(u128::from(self.rng.next()) << 64 | u128::from(self.rng.next()));
            let mail = history.mail_at(end.1 + 10);
            let to =
                (1..=3).filter(|n| mail.boxes.contains_key(&(*n, "INBOX".to_owned()))).collect::<Vec<_>>();
            if !to.is_empty() {
                let text = "after a crash".to_owned();
                perform_all(&store, vec![Act::Deliver { id, to, text }], &tape, &mut history).await;
                note(&mut history);
            }
        }
        if self.effort.gives_back {
            store.reclaim().await?;
            note(&mut history);
        }
        drop(store.stop().await);
        let (events, indexes) = tape.finish();
        let run = Run { base, told, floor, events, indexes };
        Box::pin(self.run(&run, &history, 1)).await;
        Ok(())
    }
}
