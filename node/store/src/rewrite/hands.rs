//! Who writes the index and the superblock while room is given back: between two batches it does what a round asks for.

use std::sync::{Arc, Mutex, PoisonError, Weak, mpsc};

use tokio::sync::{mpsc::WeakSender, oneshot};

use super::{Chore, Room};
use crate::{
    committer::{Aside, Job},
    mirrors::{Claim, Mirrors},
    replica::Gate,
    standby::Follower,
};

/// What a round asks of whoever has the replica.
pub trait Hands: Send + Sync + 'static {
    /// May the volume be written now?
    fn may_write(&self) -> bool;
    /// What other replicas may want of the log.
    fn claim(&self, room: Room) -> Claim;
    /// Has something done; `None`: the replica is not there any more.
    fn take(&self, chore: Chore) -> Option<Result<(), String>>;
    /// The index, or names beside it, could not be synced.
    fn failed(&self);
}

/// A store that serves: its committer.
pub struct Committer {
    pub jobs: WeakSender<Job>,
    pub gate: Arc<dyn Gate>,
    pub mirrors: Arc<dyn Mirrors>,
}

impl Hands for Committer {
    fn may_write(&self) -> bool {
        self.gate.may_write()
    }

    fn claim(&self, room: Room) -> Claim {
        self.mirrors.claim(room)
    }

    fn take(&self, chore: Chore) -> Option<Result<(), String>> {
        let (answer, answered) = oneshot::channel();
        let jobs = self.jobs.upgrade()?;
        jobs.blocking_send(Job::Aside(Aside::Chore(chore, answer))).ok()?;
        drop(jobs);
        answered.blocking_recv().ok()
    }

    fn failed(&self) {
        if let Some(jobs) = self.jobs.upgrade() {
            // It may have stopped for another reason.
            let _ = jobs.blocking_send(Job::Aside(Aside::Look));
        }
    }
}

/// Where a replica that follows is kept.
pub trait Keeper: Send + Sync + 'static {
    /// Does something with it, while nobody works on it; `false`: it is not here any more.
    fn with(&self, work: &mut dyn FnMut(&mut Follower)) -> bool;
}

/// A replica that follows, where it is kept.
pub struct Kept(pub Weak<dyn Keeper>);

impl Kept {
    fn with<T>(&self, work: impl FnOnce(&mut Follower) -> T) -> Option<T> {
        let (mut work, mut done) = (Some(work), None);
        self.0.upgrade()?.with(&mut |follower| done = work.take().map(|work| work(follower)));
        done
    }
}

impl Hands for Kept {
    fn may_write(&self) -> bool {
        self.0.strong_count() > 0
    }

    fn claim(&self, room: Room) -> Claim {
        self.with(|follower| follower.claim(room)).unwrap_or(Claim::All)
    }

    fn take(&self, chore: Chore) -> Option<Result<(), String>> {
        self.with(|follower| follower.do_chore(&chore))
    }

    fn failed(&self) {
        self.with(Follower::index_failed);
    }
}

/// Whoever waits for the round on its own thread, and does what is asked meanwhile: nothing else happens in between.
pub struct Waiting {
    claim: Claim,
    asks: Mutex<mpsc::Sender<Asked>>,
}

/// A chore, and who waits for it.
type Asked = (Chore, mpsc::Sender<Result<(), String>>);

impl Waiting {
    pub fn new(claim: Claim) -> (Self, mpsc::Receiver<Asked>) {
        let (asks, asked) = mpsc::channel();
        (Self { claim, asks: Mutex::new(asks) }, asked)
    }
}

impl Hands for Waiting {
    fn may_write(&self) -> bool {
        true
    }

    fn claim(&self, _: Room) -> Claim {
        self.claim
    }

    fn take(&self, chore: Chore) -> Option<Result<(), String>> {
        let (answer, answered) = mpsc::channel();
        self.asks.lock().unwrap_or_else(PoisonError::into_inner).send((chore, answer)).ok()?;
        answered.recv().ok()
    }

    /// The round's outcome says it.
    fn failed(&self) {}
}
