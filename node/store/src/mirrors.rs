//! The other replicas of a store, as its committer sees them.

use std::pin::Pin;

use mailcluster_types::{Epoch, Seq};

use crate::rewrite::Room;

/// Resolves when a record is committed, or never will be by this replica.
pub type Committed<'a> = Pin<Box<dyn Future<Output = bool> + Send + 'a>>;

/// What a primary's committer tells those who copy its log, and what it asks of them.
pub trait Mirrors: Send + Sync + 'static {
    /// The log reaches to this record now, which need not be synced here yet. Must not block.
    fn written(&self, end: (Epoch, Seq));

    /// Resolves when this record, which is synced here, is where it must be for anybody to see it. `false`: this replica is
    /// no longer the primary, and nobody knows whether the record will stay.
    fn until_committed(&self, end: (Epoch, Seq)) -> Committed<'_>;

    /// What of the log those who copy it may still want, when the volume has so much room.
    fn claim(&self, room: Room) -> Claim;
}

/// What of a log other replicas may still want: to follow it, or because theirs may part from it there. It stays as it was
/// written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// All of it, as far as is known.
    All,
    /// This record, and what follows it.
    From(Seq),
    /// Nothing: there are no others.
    Nothing,
}

/// There are none: what is synced is committed.
pub struct NoMirrors;

impl Mirrors for NoMirrors {
    fn written(&self, _: (Epoch, Seq)) {}

    fn until_committed(&self, _: (Epoch, Seq)) -> Committed<'_> {
        Box::pin(std::future::ready(true))
    }

    fn claim(&self, _: Room) -> Claim {
        Claim::Nothing
    }
}
