//! The store engine: an append-only log that is the store, and a SQLite index that is a view of it.
//!
//! A [`Replica`] is a store's data on one volume, opened but not serving: it can be described, promised to an
//! epoch, and turned into a [`Store`], which appends. Every change is a record of the log; one committer thread
//! takes all that waits, assigns UIDs and MODSEQs, writes one buffer, syncs once, makes it visible in the index
//! and wakes everyone. What a change returns is a [`Receipt`]: its value can only be had by asking
//! `may_acknowledge`, so no code path can say OK to a client without it.

mod apply;
mod base;
mod batch;
mod catch_up;
mod checkpoint;
mod committer;
mod description;
mod digest;
mod disk;
mod engine;
mod error;
mod files;
pub mod left_behind;
mod log_reader;
mod log_walk;
pub mod machine;
mod mirrors;
mod model;
mod names;
mod ops;
mod pack;
mod plan;
mod record;
mod recover;
mod repair;
mod replay;
mod replica;
mod rewrite;
mod schema;
mod segment;
mod snapshot;
mod space;
mod spare;
mod standby;
mod stats;
mod store;
mod superblock;
mod tail;
pub mod tools;
mod undelete;
mod view;
mod volume;

#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
extern crate self as mailcluster_store;
#[cfg(test)]
mod tests;

pub use batch::Link;
pub use catch_up::{Done, Work};
pub use description::ReplicaDescription;
pub use digest::{IndexMoment, Slice, Sliced};
pub use engine::Options;
pub use error::{Fenced, FollowError, OpenError, ReadError, Refusal, WriteError};
pub use log_reader::{LogReader, LoggedBatch};
pub use mirrors::{Claim, Committed, Mirrors};
pub use model::{
    Account, Alias, Changes, Domain, EpochMark, Flags, HistoryEvent, HistoryKey, Mailbox, MailboxCounts,
    Message, Names, OutDue, QueueItem, QueueRecipient, QueueStats, Sealed, SpecialUse, StoreUsage,
    SystemFlag,
};
pub use ops::{
    Append, Appended, Copied, CopyKind, CreateMailbox, Delivered, Delivery, DeliveryTarget, Enqueue, Expunge,
    Filing, FlagChange, FlagOp, FlagsChanged, InMailbox, Purge, Purged, QueueChange, QueueUpdate,
    ScriptChange, ScriptMail, SeenId, Undelete, Undeleted,
};
pub use plan::{MAX_SCRIPT, MAX_SCRIPTS};
pub use record::Mark;
pub use repair::{Fetched, Repairs, Siblings, Wanted, lend};
pub use replica::{Gate, Identity, OpenGate, Receipt, Replica, StoreKind};
pub use rewrite::{Keeper, Reclaimed, Rewriter, Room};
pub use snapshot::{Cancel, Incoming, Offer, Outgoing, PinnedFile, Received};
pub use standby::Follower;
pub use stats::{Damage, Expunged, Histogram, SalvageEnd, Stats};
pub use store::{HasScript, Store};
pub use undelete::keep_retention;
pub use view::{DirectoryRecord, Recoverable, RecoverableFilter, ScriptListed, StoredBody, View};
