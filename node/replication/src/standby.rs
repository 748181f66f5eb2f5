//! A replica that is fed: whoever feeds it, and its own process, meet here.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use mailcluster_failover::{
    Position,
    mirror::{self, EpochEntry, Hello, LogShape, ReplaceView},
};
use mailcluster_rpc::mirror::v1::Confirm;
use mailcluster_store::{
    EpochMark, FollowError, Follower, Incoming, LoggedBatch, OpenError, Received, ReplicaDescription,
    Rewriter,
};
use mailcluster_types::{Epoch, Seq};
use tokio::{sync::watch, time::Instant};

use crate::{
    compare::Question,
    wire::{Said, entry},
};

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

pub(crate) struct Inner {
    pub(crate) follower: Option<Follower>,
    pub(crate) promise: Epoch,
    /// The stream that may write, with the epoch of its primary; each has its own number.
    stream: (u64, Epoch),
    /// The last record that this log and the primary's have both, where a forced promotion left the rest behind.
    forked: Option<Position>,
    catching_up: CatchingUp,
}

/// What becomes of the index, beside what becomes of the log.
#[derive(Default)]
struct CatchingUp {
    /// The stream's primary has said that everything up to here is committed.
    commit: Seq,
    /// Somebody is at it.
    is_under_way: bool,
    /// It went wrong; the stream is told.
    fault: Option<FollowError>,
    /// The latest that the stream's primary has said, by its clock.
    said_at: u64,
    /// The primary asks what the index has at a record; it is brought no further before that was answered.
    question: Option<Question>,
}

impl CatchingUp {
    /// How far the index may be brought.
    fn limit(&self) -> Seq {
        self.question.as_ref().map_or(self.commit, |question| self.commit.min(question.at.seq))
    }
}

impl Inner {
    /// Is the index being worked on? Only the log can be used then.
    fn is_halved(&self) -> bool {
        self.follower.as_ref().is_some_and(|follower| !follower.is_whole())
    }
}

/// A replica's place: while it is here, it is fed; while its own process has it, it serves or is closed. Most of what
/// is here reads and writes the replica's disk: not for async code.
pub struct Standby {
    inner: Mutex<Inner>,
    /// The index is no longer worked on.
    whole: Condvar,
    /// When a primary was last heard.
    heard: Mutex<Option<Instant>>,
    /// The stream that is open, by its number; 0: none.
    open: AtomicU64,
    /// The highest epoch at which another wanted to feed it while its own process had it.
    wanted: watch::Sender<Epoch>,
    /// How far a snapshot has come, while one is taken.
    copied: Mutex<Option<Copied>>,
    /// Gives room back, while the replica is here.
    pub(crate) rewriting: Mutex<Option<Rewriter>>,
}

/// Octets of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// That are here.
    pub octets: u64,
    /// That it has.
    pub of: u64,
}

impl Default for Standby {
    fn default() -> Self {
        let catching_up = CatchingUp::default();
        let inner = Inner { follower: None, promise: 0, stream: (0, 0), forked: None, catching_up };
        Self {
            inner: Mutex::new(inner),
            whole: Condvar::new(),
            heard: Mutex::new(None),
            open: AtomicU64::new(0),
            wanted: watch::Sender::new(0),
            copied: Mutex::new(None),
            rewriting: Mutex::new(None),
        }
    }
}

impl Standby {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// With its index, which may take as long as a transaction.
    pub(crate) fn lock_whole(&self) -> MutexGuard<'_, Inner> {
        self.until_whole(self.lock())
    }

    fn until_whole<'a>(&self, inner: MutexGuard<'a, Inner>) -> MutexGuard<'a, Inner> {
        self.whole.wait_while(inner, |inner| inner.is_halved()).unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the replica may be fed.
    pub fn give(self: &Arc<Self>, follower: Follower) {
        let mut inner = self.lock();
        inner.promise = inner.promise.max(follower.promised());
        inner.follower = Some(follower);
        drop(inner);
        self.begin_rewriting();
    }

    /// Takes the replica, to serve or to close it: whoever feeds it cannot write from then on. `None`: it is not here.
    #[must_use]
    pub fn take(&self) -> Option<Follower> {
        self.end_rewriting();
        let mut inner = self.lock_whole();
        // Nor may a stream go on when the replica comes back from a term of its own.
        inner.stream.0 += 1;
        let taken = inner.follower.take();
        drop(inner);
        // A snapshot may have been put in place meanwhile.
        self.end_rewriting();
        taken
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
        self.has_copied(stream, None);
        let _ = self.open.compare_exchange(stream, 0, Ordering::AcqRel, Ordering::Acquire);
    }

    /// How far a snapshot has come that this replica takes; `None`: it takes none.
    #[must_use]
    pub fn copied(&self) -> Option<Copied> {
        *self.copied.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Said by the stream with this number, and believed while none is newer.
    pub(crate) fn has_copied(&self, stream: u64, copied: Option<Copied>) {
        let mut now = self.copied.lock().unwrap_or_else(PoisonError::into_inner);
        if self.open.load(Ordering::Acquire) == stream {
            *now = copied;
        }
    }

    /// A stream begins. The one before it may hang, and is not heard any more.
    fn opened(&self, stream: u64) {
        let mut copied = self.copied.lock().unwrap_or_else(PoisonError::into_inner);
        self.open.store(stream, Ordering::Release);
        *copied = None;
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
        let mut inner = self.lock_whole();
        let Inner { follower, promise, stream, catching_up, .. } = &mut *inner;
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
                *catching_up = CatchingUp { is_under_way: catching_up.is_under_way, ..CatchingUp::default() };
                // Nothing goes before this primary has said what others want, and follows its own log.
                follower.note_wanted(None);
                follower.promise(epoch).map_err(failed)?;
            }
        }
        self.hear();
        self.opened(stream.0);
        let end = follower.end();
        Ok(Greeting::Table {
            stream: stream.0,
            epochs: follower.epochs().map_err(failed)?,
            end: (end.epoch, end.seq),
            applied: follower.applied(),
        })
    }

    /// Does something for a stream, if it is still the one that may write.
    pub(crate) fn on<T>(
        &self,
        stream: u64,
        work: impl FnOnce(&mut Follower, Epoch) -> Result<T, FollowError>,
    ) -> Result<T, Over> {
        let mut inner = self.lock_whole();
        let epoch = self.may_write(&inner, stream)?;
        // A primary that feeds it has found that its log is not another line.
        inner.forked = None;
        let follower = inner.follower.as_mut().ok_or(Over::Taken)?;
        Ok(work(follower, epoch)?)
    }

    /// Appends batches of a stream, if it may write, and notes what is committed; also while the index is worked on.
    pub(crate) fn append(&self, stream: u64, batches: &[LoggedBatch], said: Said) -> Result<Confirm, Over> {
        let Said { commit, at, wanted_from } = said;
        let mut inner = self.lock();
        let mut epoch = self.may_write(&inner, stream)?;
        let is_full = |inner: &Inner| inner.follower.as_ref().is_some_and(Follower::must_catch_up);
        if !batches.is_empty() && is_full(&inner) {
            inner = self.until_whole(inner);
            epoch = self.may_write(&inner, stream)?;
            inner.follower.as_mut().ok_or(Over::Taken)?.advance(commit)?;
        }
        let Inner { follower, catching_up, .. } = &mut *inner;
        if let Some(fault) = catching_up.fault.take() {
            return Err(fault.into());
        }
        let follower = follower.as_mut().ok_or(Over::Taken)?;
        if !batches.is_empty() {
            follower.append(epoch, batches)?;
        }
        catching_up.commit = catching_up.commit.max(commit);
        catching_up.said_at = catching_up.said_at.max(at);
        if let Some(wanted) = wanted_from {
            follower.note_wanted((wanted > 0).then_some(wanted));
        }
        Ok(confirm(follower, catching_up.said_at))
    }

    /// Is there something to bring the index up to, and nobody at it? Whoever is told so calls [`Self::catch_up`].
    pub(crate) fn begin_catching_up(&self) -> bool {
        let mut inner = self.lock();
        let Inner { follower, catching_up, .. } = &mut *inner;
        let limit = catching_up.limit();
        let is_behind = follower.as_ref().is_some_and(|follower| follower.applied().1 < limit);
        let begins = (is_behind || catching_up.question.is_some()) && !catching_up.is_under_way;
        catching_up.is_under_way |= begins;
        begins
    }

    /// The primary of this stream wants to know what the index has at a record, to which it has not come yet, or just has.
    /// [`Self::catch_up`] answers.
    pub(crate) fn ask(&self, stream: u64, question: Question) {
        let mut inner = self.lock();
        let Inner { follower, catching_up, stream: (newest, _), .. } = &mut *inner;
        let is_before = follower.as_ref().is_some_and(|follower| follower.applied().1 <= question.at.seq);
        if *newest == stream && is_before && catching_up.question.is_none() {
            catching_up.question = Some(question);
        } else {
            question.refuse();
        }
    }

    /// Puts some of what is committed into the index, or tells the primary what it wants to know of it, and answers what the
    /// replica then has; `None`: there is nothing more to do.
    pub(crate) fn catch_up(&self) -> Option<Confirm> {
        let work = {
            let mut inner = self.lock();
            let Inner { follower, catching_up, .. } = &mut *inner;
            let limit = catching_up.limit();
            match follower.as_mut().map(|follower| (follower.begin_advance(limit), follower.is_whole())) {
                Some((Ok(Some(work)), _)) => work,
                Some((Ok(None), true)) if Self::may_answer(follower.as_ref(), catching_up) => {
                    let (follower, question) = (follower.as_ref()?, catching_up.question.take()?);
                    let (moment, confirm) = (follower.moment(), confirm(follower, catching_up.said_at));
                    // Read without the lock: batches come in meanwhile.
                    drop(inner);
                    question.answer(moment);
                    return Some(confirm);
                }
                other => {
                    catching_up.is_under_way = false;
                    catching_up.fault = other.and_then(|(outcome, _)| outcome.err());
                    return None;
                }
            }
        };
        let done = catch_unwind(AssertUnwindSafe(|| work.run()));
        let mut inner = self.lock();
        let Inner { follower, catching_up, .. } = &mut *inner;
        let outcome = match (done, follower.as_mut()) {
            (Ok(done), Some(follower)) => {
                follower.end_advance(done).map(|()| confirm(follower, catching_up.said_at))
            }
            // Its index is gone with the work: nobody must wait for it.
            _ => {
                *follower = None;
                Err(FollowError::Broken)
            }
        };
        if let Err(fault) = &outcome {
            catching_up.is_under_way = false;
            catching_up.fault = Some(fault.clone());
        }
        drop(inner);
        self.whole.notify_all();
        outcome.ok()
    }

    /// Has the index come to the record at which it is to be compared, or beyond it?
    fn may_answer(follower: Option<&Follower>, catching_up: &CatchingUp) -> bool {
        let applied = follower.map_or(0, |follower| follower.applied().1);
        catching_up.question.as_ref().is_some_and(|question| applied >= question.at.seq)
    }

    /// The epoch of the stream's primary, if the stream may write.
    fn may_write(&self, inner: &Inner, stream: u64) -> Result<Epoch, Over> {
        let (newest, epoch) = inner.stream;
        if newest != stream {
            return Err(Over::Superseded);
        }
        self.hear();
        let follower = inner.follower.as_ref().ok_or(Over::Taken)?;
        if epoch < inner.promise.max(follower.promised()) {
            return Err(Over::Superseded);
        }
        Ok(epoch)
    }

    /// Puts a snapshot that is here as a whole in the place of the replica's log, if it may.
    pub(crate) fn install(self: &Arc<Self>, stream: u64, incoming: Incoming) -> Result<(), Over> {
        self.end_rewriting();
        let installed = self.replace(stream, incoming);
        self.begin_rewriting();
        installed
    }

    fn replace(&self, stream: u64, incoming: Incoming) -> Result<(), Over> {
        let mut inner = self.lock_whole();
        let epoch = self.may_write(&inner, stream)?;
        let follower = inner.follower.as_ref().ok_or(Over::Taken)?;
        let received = incoming.complete(follower)?;
        may_replace(follower, &received)?;
        let Some(follower) = inner.follower.take() else { return Err(Over::Taken) };
        let (follower, installed) = follower.install(epoch, &received);
        inner.follower = follower;
        Ok(installed?)
    }
}

/// What it has synced, and in its index.
pub(crate) fn confirm(follower: &Follower, said_at: u64) -> Confirm {
    Confirm { seq: follower.end().seq, applied: follower.applied().1, said_at }
}

fn may_replace(follower: &Follower, received: &Received) -> Result<(), FollowError> {
    let epochs = follower.epochs().map_err(|error| FollowError::Index(error.to_string()))?;
    let own: Vec<EpochEntry> = epochs.iter().map(entry).collect();
    let theirs: Vec<EpochEntry> = received.epochs.iter().map(entry).collect();
    let at = |(epoch, seq): (Epoch, Seq)| Position { epoch, seq };
    let end = follower.end();
    let view = ReplaceView {
        own: LogShape { epochs: &own, end: at((end.epoch, end.seq)) },
        own_commit: at(follower.applied()),
        snapshot: LogShape { epochs: &theirs, end: at(received.end()) },
    };
    if mirror::may_replace(&view) {
        return Ok(());
    }
    let (applied, end) = (follower.applied().1, end.seq);
    let why = format!(
        "this replica has records up to {end}, committed up to {applied}, which the snapshot up to {} need not have",
        received.end().1
    );
    Err(FollowError::Snapshot(why))
}

#[cfg(test)]
#[allow(clippy::panic, clippy::unwrap_used, reason = "tests")]
mod tests;
