//! The other replicas of a store, as its committer sees them.

use std::pin::Pin;

use mailcluster_types::{Epoch, Seq};

/// Resolves when a record is committed, or never will be by this replica.
pub type Committed<'a> = Pin<Box<dyn Future<Output = bool> + Send + 'a>>;

/// What a primary's committer tells those who copy its log, and what it asks of them.
pub trait Mirrors: Send + Sync + 'static {
    /// The log reaches to this record now, which need not be synced here yet. Must not block.
    fn written(&self, end: (Epoch, Seq));

    /// Resolves when this record, which is synced here, is where it must be for anybody to see it. `false`: this replica is
    /// no longer the primary, and nobody knows whether the record will stay.
    fn until_committed(&self, end: (Epoch, Seq)) -> Committed<'_>;

    /// Does anybody copy the log, or may soon? Then it stays as it was written.
    fn are_there(&self) -> bool;
}

/// There are none: what is synced is committed.
pub struct NoMirrors;

impl Mirrors for NoMirrors {
    fn written(&self, _: (Epoch, Seq)) {}

    fn until_committed(&self, _: (Epoch, Seq)) -> Committed<'_> {
        Box::pin(std::future::ready(true))
    }

    fn are_there(&self) -> bool {
        false
    }
}
