//! A replica that is fed: whoever feeds it, and its own process, meet here.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use mailcluster_failover::{
    Position,
    mirror::{self, Hello},
};
use mailcluster_store::{EpochMark, FollowError, Follower, OpenError, ReplicaDescription};
use mailcluster_types::{Epoch, Seq};
use tokio::sync::watch;

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
    /// The stream that may write, with the epoch of its primary; each has its own number.
    stream: (u64, Epoch),
    /// The last record that this log and the primary's have both, where a forced promotion left the rest behind.
    forked: Option<Position>,
}

/// A replica's place: while it is here, it is fed; while its own process has it, it serves or is closed. Most of what
/// is here reads and writes the replica's disk: not for async code.
pub struct Standby {
    inner: Mutex<Inner>,
    /// When a primary was last heard.
    heard: Mutex<Option<Instant>>,
    /// The stream that is open, by its number; 0: none.
    open: AtomicU64,
    /// The highest epoch at which another wanted to feed it while its own process had it.
    wanted: watch::Sender<Epoch>,
}

impl Default for Standby {
    fn default() -> Self {
        let inner = Inner { follower: None, promise: 0, stream: (0, 0), forked: None };
        Self {
            inner: Mutex::new(inner),
            heard: Mutex::new(None),
            open: AtomicU64::new(0),
            wanted: watch::Sender::new(0),
        }
    }
}

impl Standby {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the replica may be fed.
    pub fn give(&self, follower: Follower) {
        let mut inner = self.lock();
        inner.promise = inner.promise.max(follower.promised());
        inner.follower = Some(follower);
    }

    /// Takes the replica, to serve or to close it: whoever feeds it cannot write from then on. `None`: it is not here.
    #[must_use]
    pub fn take(&self) -> Option<Follower> {
        let mut inner = self.lock();
        // Nor may a stream go on when the replica comes back from a term of its own.
        inner.stream.0 += 1;
        inner.follower.take()
    }

    /// What the replica says of itself, and whether its disk has kept its promises; `None`: it is not here.
    #[must_use]
    pub fn describe(&self) -> Option<(ReplicaDescription, bool)> {
        self.lock().follower.as_ref().map(|follower| (follower.describe(), follower.is_sound()))
    }

    /// The last record that it has in common with its primary, when a forced promotion has left behind what follows.
    #[must_use]
    pub fn forked(&self) -> Option<Position> {
        self.lock().forked
    }

    /// So says the primary of this stream. Nothing is cut or appended from then on, unless another primary finds otherwise.
    pub(crate) fn fork(&self, stream: u64, after: Position) {
        let mut inner = self.lock();
        if inner.stream.0 == stream && inner.forked != Some(after) {
            tracing::warn!(%after, "a forced promotion has left behind what follows: it is kept here, and nobody is followed");
            inner.forked = Some(after);
        }
    }

    /// Is the replica here?
    #[must_use]
    pub fn has_replica(&self) -> bool {
        self.lock().follower.is_some()
    }

    /// Was a primary heard within this span?
    #[must_use]
    pub fn heard_within(&self, span: Duration) -> bool {
        let heard = *self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.is_some_and(|at| at.elapsed() < span)
    }

    /// Is a stream open, on which a primary was heard within this span? Nobody need look for another primary then.
    #[must_use]
    pub fn is_fed(&self, span: Duration) -> bool {
        self.open.load(Ordering::Acquire) != 0 && self.heard_within(span)
    }

    /// The stream has ended.
    pub(crate) fn left(&self, stream: u64) {
        let _ = self.open.compare_exchange(stream, 0, Ordering::AcqRel, Ordering::Acquire);
    }

    /// The highest epoch at which another wanted to feed this replica while its own process had it.
    #[must_use]
    pub fn wanted(&self) -> watch::Receiver<Epoch> {
        self.wanted.subscribe()
    }

    fn hear(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// A primary of this epoch begins a stream. The promise is on disk before this answers, and every other stream over.
    pub(crate) fn hello(&self, epoch: Epoch) -> Result<Greeting, Over> {
        let mut inner = self.lock();
        let Inner { follower, promise, stream, .. } = &mut *inner;
        let Some(follower) = follower.as_mut() else {
            self.wanted.send_if_modified(|wanted| {
                let is_new = epoch > *wanted;
                *wanted = epoch.max(*wanted);
                is_new
            });
            return Err(Over::Taken);
        };
        let failed = |error: OpenError| Over::Follow(FollowError::Index(error.to_string()));
        match mirror::hello(*promise, epoch) {
            Hello::Refuse { promise } => return Ok(Greeting::Refused { promise }),
            Hello::Promise(epoch) => {
                // Also when it cannot be said whether it is on disk: nothing of a lower epoch is taken any more.
                *promise = epoch;
                *stream = (stream.0 + 1, epoch);
                follower.promise(epoch).map_err(failed)?;
            }
        }
        self.hear();
        self.open.store(stream.0, Ordering::Release);
        let end = follower.end();
        Ok(Greeting::Table {
            stream: stream.0,
            epochs: follower.epochs().map_err(failed)?,
            end: (end.epoch, end.seq),
            applied: follower.applied(),
        })
    }

    /// Does something for a stream, if it is still the one that may write, and answers what the replica then has.
    pub(crate) fn on(
        &self,
        stream: u64,
        work: impl FnOnce(&mut Follower, Epoch) -> Result<(), FollowError>,
    ) -> Result<Has, Over> {
        let mut inner = self.lock();
        let (newest, epoch) = inner.stream;
        if newest != stream {
            return Err(Over::Superseded);
        }
        self.hear();
        // A primary that feeds it has found that its log is not another line.
        inner.forked = None;
        let promise = inner.promise;
        let follower = inner.follower.as_mut().ok_or(Over::Taken)?;
        if epoch < promise.max(follower.promised()) {
            return Err(Over::Superseded);
        }
        work(follower, epoch)?;
        Ok(Has { seq: follower.end().seq, applied: follower.applied().1 })
    }
}
