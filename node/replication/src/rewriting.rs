//! A mirror gives room back, beside what it is fed.

use std::sync::{Arc, MutexGuard, PoisonError};

use mailcluster_store::{Follower, Keeper, Reclaimed, Rewriter};

use crate::standby::Standby;

impl Keeper for Standby {
    fn with(&self, work: &mut dyn FnMut(&mut Follower)) -> bool {
        let mut inner = self.lock_whole();
        inner.follower.as_mut().map(work).is_some()
    }
}

impl Standby {
    /// From now on, if the replica is here.
    pub(crate) fn begin_rewriting(self: &Arc<Self>) {
        let keeper: Arc<dyn Keeper> = self.clone();
        let inner = self.lock();
        let Some(follower) = &inner.follower else { return };
        match follower.rewriter(Arc::downgrade(&keeper)) {
            // While the replica cannot be taken: who takes it ends this.
            Ok(rewriter) => {
                let before = self.rewriting().replace(rewriter);
                drop(inner);
                drop(before);
            }
            Err(error) => tracing::warn!(%error, "no room is given back at this replica"),
        }
    }

    /// Waits for what is being done; never with the replica's lock, which that may want.
    pub(crate) fn end_rewriting(&self) {
        let ended = self.rewriting().take();
        drop(ended);
    }

    /// Gives room back at once, and answers when there is no more to be had.
    ///
    /// # Errors
    /// Why no more was given back; for people.
    pub async fn reclaim(&self) -> Result<Reclaimed, String> {
        let begun = self.rewriting().as_ref().map(Rewriter::begin);
        let answer = begun.ok_or("this replica does not stand by")?;
        answer.await.unwrap_or_else(|_| Err("the replica is not here any more".into()))
    }

    /// The same where there is one thread: nothing else is done meanwhile.
    ///
    /// # Errors
    /// The same.
    pub fn reclaim_here(&self) -> Result<Reclaimed, String> {
        let mut inner = self.lock_whole();
        inner
            .follower
            .as_mut()
            .map_or_else(|| Err("this replica does not stand by".into()), Follower::reclaim)
    }

    fn rewriting(&self) -> MutexGuard<'_, Option<Rewriter>> {
        self.rewriting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
