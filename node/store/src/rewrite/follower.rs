//! Giving room back at a replica that follows: of what is committed and in its index, and what others do not want.

use std::{
    io,
    sync::{Arc, Weak},
};

use mailcluster_types::Seq;
use tokio::sync::oneshot;

use super::{Chore, Keeper, Parts, Reclaimed, Rewriter, Room, hands::Kept, policy};
use crate::{mirrors::Claim, standby::Follower};

impl Follower {
    /// Its primary says which is the first record that other replicas may want; `None`: nobody says so now, and all is kept.
    pub fn note_wanted(&mut self, wanted: Option<Seq>) {
        self.wanted = wanted;
    }

    /// Has room given back from now on, as long as what is answered is kept; it must have ended when the replica is closed.
    ///
    /// # Errors
    /// When there is no thread for it.
    pub fn rewriter(&self, keeper: Weak<dyn Keeper>) -> io::Result<Rewriter> {
        let hands = Arc::new(Kept(keeper));
        Rewriter::start(Parts::new(
            &self.replica.engine,
            self.replica.pool(),
            hands,
            self.checkpointer.hold(),
        ))
    }

    /// Gives room back now, and does nothing else meanwhile.
    ///
    /// # Errors
    /// Why no more was given back; for people.
    pub fn reclaim(&mut self) -> Result<Reclaimed, String> {
        if !self.is_whole() {
            return Err("the index is being worked on".into());
        }
        let claim = self.claim(self.replica.engine.room());
        let pool = self.replica.pool();
        let done = self.replica.engine.give_back((pool, self.checkpointer.hold()), claim);
        self.checkpointer.after_commit();
        done
    }

    pub(super) fn claim(&self, room: Room) -> Claim {
        policy::of_follower(self.wanted, self.applied().1, room)
    }

    pub(super) fn do_chore(&mut self, chore: &Chore) -> Result<(), String> {
        if !self.is_whole() {
            return Err("the index is being worked on".into());
        }
        let claim = self.claim(self.replica.engine.room());
        let done = self.replica.engine.do_chore(chore, claim);
        self.checkpointer.after_commit();
        done
    }

    pub(super) fn index_failed(&mut self) {
        self.replica.engine.broke("the index could not be written or synced");
    }
}

impl Rewriter {
    /// Has it begin now. What is answered comes when there is nothing more to be had; nothing, when it ends before.
    pub fn begin(&self) -> oneshot::Receiver<Result<Reclaimed, String>> {
        let (answer, answered) = oneshot::channel();
        self.ask(answer);
        answered
    }
}
