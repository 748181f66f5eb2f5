//! A replica that is fed: whoever feeds it, and its own process, meet here.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use mailcluster_failover::mirror::{self, Hello};
use mailcluster_store::{EpochMark, FollowError, Follower, OpenError};
use mailcluster_types::{Epoch, Seq};

/// Why a stream ends from this side.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Over {
    /// The replica's own process has taken it: to serve, or to close.
    #[error("this replica is no standby any more")]
    Taken,
    /// A newer stream has begun.
    #[error("a newer stream has begun")]
    Superseded,
    /// What the log said.
    #[error(transparent)]
    Follow(#[from] FollowError),
}

/// A mirror's answer to Hello.
pub(crate) enum Greeting {
    /// It follows; under this number its stream may write.
    Table { stream: u64, epochs: Vec<EpochMark>, end: (Epoch, Seq), applied: (Epoch, Seq) },
    /// Another was promised.
    Refused { promise: Epoch },
}

/// What a mirror has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Has {
    /// Synced.
    pub seq: Seq,
    /// In the index.
    pub applied: Seq,
}

struct Inner {
    follower: Option<Follower>,
    promise: Epoch,
    /// The stream that may write; each has its own number.
    stream: u64,
    /// When a primary was last heard.
    heard: Option<Instant>,
}

/// A replica that is fed. Everything here reads and writes its disk: not for async code.
pub struct Standby(Mutex<Inner>);

impl Standby {
    /// From now on it may be fed.
    #[must_use]
    pub fn new(follower: Follower) -> Self {
        let promise = follower.promised();
        Self(Mutex::new(Inner { follower: Some(follower), promise, stream: 0, heard: None }))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the replica, to serve or to close it: whoever feeds it cannot write from then on. `None`: it was taken.
    #[must_use]
    pub fn take(&self) -> Option<Follower> {
        self.lock().follower.take()
    }

    /// Was a primary heard within this span?
    #[must_use]
    pub fn heard_within(&self, span: Duration) -> bool {
        self.lock().heard.is_some_and(|at| at.elapsed() < span)
    }

    /// A primary of this epoch begins a stream. The promise is on disk before this answers, and every other stream over.
    pub(crate) fn hello(&self, epoch: Epoch) -> Result<Greeting, Over> {
        let mut inner = self.lock();
        let Inner { follower, promise, stream, heard } = &mut *inner;
        let follower = follower.as_mut().ok_or(Over::Taken)?;
        let failed = |error: OpenError| Over::Follow(FollowError::Index(error.to_string()));
        match mirror::hello(*promise, epoch) {
            Hello::Refuse { promise } => return Ok(Greeting::Refused { promise }),
            Hello::Promise(epoch) if epoch > *promise => {
                // Also when it cannot be said whether it is on disk: nothing of a lower epoch is taken any more.
                *promise = epoch;
                *stream += 1;
                follower.promise(epoch).map_err(failed)?;
            }
            Hello::Promise(_) => *stream += 1,
        }
        *heard = Some(Instant::now());
        let end = follower.end();
        Ok(Greeting::Table {
            stream: *stream,
            epochs: follower.epochs().map_err(failed)?,
            end: (end.epoch, end.seq),
            applied: follower.applied(),
        })
    }

    /// Does something for a stream, if it is still the one that may write, and answers what the replica then has.
    pub(crate) fn on(
        &self,
        stream: u64,
        work: impl FnOnce(&mut Follower) -> Result<(), FollowError>,
    ) -> Result<Has, Over> {
        let mut inner = self.lock();
        if inner.stream != stream {
            return Err(Over::Superseded);
        }
        inner.heard = Some(Instant::now());
        let follower = inner.follower.as_mut().ok_or(Over::Taken)?;
        work(follower)?;
        Ok(Has { seq: follower.end().seq, applied: follower.applied().1 })
    }
}
