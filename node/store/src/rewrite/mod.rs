//! Giving room back: what is still needed of segments and packs that are mostly dead is put into a new pack, and they are
//! removed.
//!
//! A thread of the store looks for them now and then, one round after the other. In this order, so that at any moment a
//! crash leaves an index, or a base with packs and log, that has everything: a base of the index, synced; the pack, synced
//! and named; the rows of the index, moved by the committer; the index, synced; the old file, removed when no view is left
//! that may read it. What a crash leaves half done, a later round finds without a reader and removes.
//!
//! What a round meets - a body that cannot be read, a volume that fills up, a view that does not end - ends as little as can
//! be: files that are wholly dead go first, and nothing more is written while what was written cannot be used.

mod chore;
mod copy;
mod follower;
mod hands;
mod memory;
mod pace;
mod packing;
pub mod policy;
mod round;
mod survey;
mod whose;

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

pub use chore::{Chore, Moved};
pub use hands::{Committer, Hands, Keeper};
use memory::Memory;
use pace::Pace;
pub use policy::Room;

use crate::{
    checkpoint::Hold, disk::Disk, engine::Engine, machine, mirrors::Claim, replica::Identity, space::Space,
    stats::Stats, view::Pool,
};

/// Between two looks at the store.
const INTERVAL: Duration = Duration::from_secs(600);
/// The same, when there is little room.
const INTERVAL_SHORT: Duration = Duration::from_secs(60);
/// Octets between two looks at the clock, and at who wants the thread to stop.
const STEP: u64 = 256 << 10;

/// What a look at the store gave back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reclaimed {
    /// Segments and packs that were removed.
    pub files: u64,
    /// Their octets.
    pub removed: u64,
    /// Octets of the packs that took their place.
    pub packed: u64,
}

/// Why a round ended early.
#[derive(Debug, thiserror::Error)]
enum Halt {
    /// The store stops, or may not be written.
    #[error("the store stops")]
    Stopped,
    /// There is no room for what must be written first.
    #[error("the volume has no room for what must be written first")]
    NoRoom,
    /// Its write-ahead log would grow too long.
    #[error("the index changes faster than it can be copied")]
    Busy,
    /// Reading or writing the log, a pack or a base failed.
    #[error("failed to read or write the log, a pack or a base: {0}")]
    Disk(#[from] io::Error),
    /// The index failed.
    #[error("the index: {0}")]
    Index(#[from] rusqlite::Error),
    /// The index is not what it was; what it does not have may be needed.
    #[error("the index is damaged: {0}")]
    Damaged(String),
    /// Others may want what was to go.
    #[error("other replicas may want what was to be given back of the log")]
    Wanted,
    /// The committer could not do its part.
    #[error("the committer: {0}")]
    Committer(String),
    /// The index, or names beside it, could not be synced: what is on the disk is not known.
    #[error("failed to sync the index or its names: {0}")]
    NotSynced(io::Error),
}

/// What the thread works with.
pub struct Parts {
    pub dir: PathBuf,
    pub identity: Identity,
    pub disk: Arc<dyn Disk>,
    pub pool: Arc<Pool>,
    pub space: Arc<Space>,
    pub stats: Arc<Stats>,
    pub hands: Arc<dyn Hands>,
    pub checkpoints: Arc<Hold>,
    pub segment_size: u64,
    /// For tests: stores of a few kilobytes are worth it, too.
    pub is_eager: bool,
    /// For how long a round waits for views to end: what they may read is removed in a later round then.
    pub patience: Duration,
}

impl Parts {
    /// For the replica of this engine.
    pub fn new(engine: &Engine, pool: Arc<Pool>, hands: Arc<dyn Hands>, checkpoints: Arc<Hold>) -> Self {
        Self {
            dir: engine.dir.clone(),
            identity: engine.identity.clone(),
            disk: engine.options.disk.clone(),
            pool,
            space: engine.space.clone(),
            stats: engine.stats.clone(),
            hands,
            checkpoints,
            segment_size: engine.log.size,
            is_eager: engine.options.eager_rewriting,
            patience: engine.options.patience,
        }
    }
}

/// Answers who asked for a round.
pub type Answer = oneshot::Sender<Result<Reclaimed, String>>;

/// Between the committer and the thread.
#[derive(Default)]
pub struct Signal {
    asked: Mutex<Asked>,
    wake: Condvar,
    failed: AtomicBool,
}

#[derive(Default)]
struct Asked {
    stop: bool,
    /// The thread takes no more answers.
    has_ended: bool,
    answers: Vec<Answer>,
}

/// The thread.
pub struct Rewriter {
    signal: Arc<Signal>,
    thread: Option<JoinHandle<()>>,
}

impl Rewriter {
    /// Starts it; the first round begins after a while. A simulation has no other thread: it has rounds run where it wants
    /// them ([`Engine::give_back`]).
    pub(crate) fn start(parts: Parts) -> io::Result<Self> {
        let signal = Arc::new(Signal::default());
        if machine::is_one_thread() {
            signal.asked.lock().unwrap_or_else(PoisonError::into_inner).has_ended = true;
            return Ok(Self { signal, thread: None });
        }
        let mut worker = Worker { parts, signal: signal.clone(), memory: Memory::default() };
        let thread = thread::Builder::new().name("store-rewrite".into()).spawn(move || worker.work())?;
        Ok(Self { signal, thread: Some(thread) })
    }

    /// Begins a round now.
    pub(crate) fn ask(&self, answer: Answer) {
        let mut asked = self.signal.asked.lock().unwrap_or_else(PoisonError::into_inner);
        // Who waits for an answer that does not come sees that.
        if !asked.has_ended {
            asked.answers.push(answer);
            self.signal.wake.notify_all();
        }
    }

    /// It ends as soon as it can.
    pub fn stop(&self) {
        self.signal.asked.lock().unwrap_or_else(PoisonError::into_inner).stop = true;
        self.signal.wake.notify_all();
    }

    /// Could the index not be synced?
    pub(crate) fn has_failed(&self) -> bool {
        self.signal.failed.load(Ordering::Acquire)
    }
}

impl Drop for Rewriter {
    fn drop(&mut self) {
        self.stop();
        // The last to hold what it works for may be the thread itself.
        if let Some(thread) = self.thread.take().filter(|own| own.thread().id() != thread::current().id()) {
            let _ = thread.join();
        }
    }
}

impl Engine {
    /// Runs rounds, and does between them what they ask for: nothing else happens meanwhile. Views that began before are not
    /// waited for.
    pub fn give_back(
        &mut self,
        (pool, checkpoints): (Arc<Pool>, Arc<Hold>),
        claim: Claim,
    ) -> Result<Reclaimed, String> {
        let (waiting, asked) = hands::Waiting::new(claim);
        let mut parts = Parts::new(self, pool, Arc::new(waiting), checkpoints);
        parts.patience = Duration::ZERO;
        let work = move || Worker { parts, signal: Arc::default(), memory: Memory::default() }.rounds();
        let outcome = thread::scope(|scope| {
            let working = scope.spawn(work);
            while let Ok((chore, answer)) = asked.recv() {
                // It waits for the answer.
                let _ = answer.send(self.do_chore(&chore, claim));
            }
            working.join()
        });
        match outcome {
            Ok(Err(Halt::NotSynced(error))) => {
                self.broke("the index could not be written or synced");
                Err(error.to_string())
            }
            Ok(outcome) => outcome.map_err(|halt| halt.to_string()),
            Err(_) => Err("giving room back broke off".into()),
        }
    }
}

struct Worker {
    parts: Parts,
    signal: Arc<Signal>,
    memory: Memory,
}

impl Worker {
    fn work(&mut self) {
        let mut next = Instant::now() + INTERVAL;
        while let Some(answers) = self.wait(next) {
            let outcome = self.rounds();
            if let Err(error) = &outcome
                && !matches!(error, Halt::Stopped)
            {
                tracing::warn!(%error, "no more room was given back");
            }
            let has_failed = matches!(outcome, Err(Halt::NotSynced(_)));
            if has_failed {
                self.failed();
            }
            let told = outcome.as_ref().map(|done| *done).map_err(ToString::to_string);
            for answer in answers {
                let _ = answer.send(told.clone());
            }
            if has_failed {
                break;
            }
            next = Instant::now() + self.pause();
        }
        let mut asked = self.signal.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.has_ended = true;
        asked.answers.clear();
    }

    /// A sync that failed is never tried again: the store stops, at once.
    fn failed(&self) {
        self.signal.failed.store(true, Ordering::Release);
        self.parts.hands.failed();
    }

    fn pause(&self) -> Duration {
        match policy::room(self.parts.space.measure()) {
            policy::Room::Enough => INTERVAL,
            policy::Room::Short => INTERVAL_SHORT,
        }
    }

    /// Waits until it is time or somebody asks; `None`: to stop. Who asks is answered after the round.
    fn wait(&self, until: Instant) -> Option<Vec<Answer>> {
        let mut asked = self.signal.asked.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if asked.stop {
                return None;
            }
            if !asked.answers.is_empty() || left.is_zero() {
                return Some(std::mem::take(&mut asked.answers));
            }
            asked = self.signal.wake.wait_timeout(asked, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// One round after the other, as long as they give something back.
    fn rounds(&mut self) -> Result<Reclaimed, Halt> {
        let mut all = Reclaimed::default();
        loop {
            let pace = Pace { parts: &self.parts, signal: &self.signal };
            let done = round::run(&pace, &mut self.memory)?;
            if done.files == 0 {
                return Ok(all);
            }
            tracing::info!(
                files = done.files,
                removed = done.removed,
                packed = done.packed,
                "room of expunged mail was given back"
            );
            all.files += done.files;
            all.removed += done.removed;
            all.packed += done.packed;
        }
    }
}
