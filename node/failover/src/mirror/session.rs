//! What primary and mirror say to each other before and while records are copied.

use super::log::{LogShape, fork};
use crate::Position;

/// A mirror's answer to a primary's Hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hello {
    /// Promise this epoch, durably, and then tell the table. The same epoch again needs no new promise.
    Promise(u64),
    /// A higher epoch was promised to another (C6: who still holds the lease goes above it).
    Refuse {
        /// The promise.
        promise: u64,
    },
}

/// Does a mirror that has promised `promise` follow a primary of `epoch`?
#[must_use]
pub fn hello(promise: u64, epoch: u64) -> Hello {
    if epoch < promise { Hello::Refuse { promise } } else { Hello::Promise(epoch) }
}

/// What a primary knows when a mirror has told its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JoinView<'a> {
    /// The primary's log.
    pub own: LogShape<'a>,
    /// From this sequence on the primary's log has no gaps.
    pub contiguous_from: u64,
    /// The mirror's log.
    pub mirror: LogShape<'a>,
    /// What the mirror knows to be committed: it has shown it, or may have.
    pub mirror_commit: Position,
    /// Octets of the primary's log.
    pub log_octets: u64,
    /// From so many on, a mirror that has nothing is sent the files.
    pub snapshot_from: u64,
}

/// How a mirror joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Join {
    /// It cuts what follows this record, and is sent what comes after it.
    Stream {
        /// The last record of both.
        after: Position,
    },
    /// The primary no longer has what it needs, or would have to send more than it has: it takes a snapshot.
    Snapshot {
        /// The last record of both: the snapshot must have it.
        after: Position,
    },
    /// A forced promotion has left records of this mirror behind, which may have been acknowledged: it keeps them.
    Forked {
        /// The last record of both.
        after: Position,
    },
    /// The mirror has committed what the primary has not: the primary lost data, and yields to it.
    Yield {
        /// The last record of both.
        after: Position,
    },
}

/// How does this mirror join?
#[must_use]
pub fn join(view: &JoinView<'_>) -> Join {
    let after = fork(view.own, view.mirror);
    if leaves_behind(view.own, view.mirror, after) {
        return Join::Forked { after };
    }
    if after.seq < view.mirror_commit.seq {
        // Nothing is cut at or below what is known to be committed (I4).
        return Join::Yield { after };
    }
    let has_all = after.seq + 1 >= view.contiguous_from;
    // Records are applied one by one; files are not.
    let is_cheaper = view.mirror.end.seq == 0 && view.log_octets >= view.snapshot_from;
    if has_all && !is_cheaper { Join::Stream { after } } else { Join::Snapshot { after } }
}

/// Has a forced promotion in this line left behind what a mirror has beyond the fork? Whoever was forced need not have
/// had what the others acknowledged: all of that may have been, whether the mirror has heard so or not.
fn leaves_behind(line: LogShape<'_>, mirror: LogShape<'_>, fork: Position) -> bool {
    let is_forced = line.epochs.iter().any(|entry| entry.forced && entry.first_seq > fork.seq);
    is_forced && mirror.end.seq > fork.seq
}

/// What a mirror knows when a whole snapshot is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplaceView<'a> {
    /// The mirror's log.
    pub own: LogShape<'a>,
    /// What it knows to be committed.
    pub own_commit: Position,
    /// The snapshot's log: all of it is committed.
    pub snapshot: LogShape<'a>,
}

/// May the snapshot take the place of this log? It is a cut behind the last record of both and all that follows there, as
/// one: nothing that is known to be committed may be cut (I4), nor anything that the primary may have, too, and count on.
#[must_use]
pub fn may_replace(view: &ReplaceView<'_>) -> bool {
    let common = fork(view.own, view.snapshot);
    // Where the snapshot only ends earlier, nobody can tell whether the primary has what follows here.
    let ends_earlier = common.seq == view.snapshot.end.seq && view.own.end.seq > common.seq;
    common.seq >= view.own_commit.seq && !ends_earlier && !leaves_behind(view.snapshot, view.own, common)
}

/// How a batch names the one before it: the same on every replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Link {
    /// Its last record.
    pub at: Position,
    /// CRC-32C over all that came before and its content.
    pub crc: u32,
}

/// A batch as it reaches a mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accept {
    /// What this mirror has promised.
    pub promise: u64,
    /// The epoch of the stream: that of its Hello.
    pub stream: u64,
    /// The end of the mirror's log.
    pub end: Link,
    /// What the batch says precedes it.
    pub prev: Link,
}

/// Why a batch is not taken. The stream ends; a new Hello sorts it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejected {
    /// Another was promised meanwhile (I7).
    Promised(u64),
    /// It does not follow this mirror's log.
    Gap,
}

/// May this batch be appended and, once synced, confirmed?
///
/// # Errors
/// [`Rejected`].
pub fn accept(view: &Accept) -> Result<(), Rejected> {
    if view.stream < view.promise {
        return Err(Rejected::Promised(view.promise));
    }
    if view.prev == view.end { Ok(()) } else { Err(Rejected::Gap) }
}
