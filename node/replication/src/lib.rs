//! Copies a store's log from its primary to its mirrors, over gRPC.
//!
//! A [`Source`] feeds one mirror: it is told what the mirror's log is like, finds where the two part, and sends what
//! comes behind, read from the log itself, so that a mirror that is behind costs its primary no memory. A [`Standby`] is
//! a replica that is fed: it promises, cuts, appends, syncs, confirms, and applies what is committed. [`Progress`] is
//! where the confirmations of all mirrors meet: the committer waits in it until a record is committed.
//!
//! The decisions are `mailcluster_failover::mirror`'s; what may be connected to whom is the listener's matter.

mod borrow;
mod compare;
mod copy;
mod feed;
mod lend;
mod progress;
mod receive;
mod rewriting;
mod service;
mod standby;
mod wire;

pub use borrow::borrow;
pub use compare::{Compares, Comparing, Difference};
pub use copy::Snapshots;
pub use feed::{Ended, Source};
pub use progress::{Begun, Confirmed, Heard, News, Progress, Standing};
pub use service::service;
pub use standby::{Copied, Standby};
