//! The failover and replication protocol as a model that is searched exhaustively, up to stated bounds.
//!
//! Transitions call the decisions of `mailcluster-failover`, the same functions that operator and node call. What the
//! model adds is the world around them: disks that lose what was not synced, processes that end at any moment, messages
//! that are lost, late or out of order, an API whose answers do not arrive, an etcd that goes back in time. No clock is
//! trusted: every lease looks good and run out to its holder, and expired to everybody else, at any moment (I8).
//!
//! A person may order any replica to take the store, at any moment and whatever it has: what others have then is kept.
//!
//! I8 is the other invariants together, as no step asks a clock; I11 is looked at in small searches (`progress`). I10 cannot be said
//! of it, as it has no accounts and no clients to answer: docs/failover.md names the tests.
//!
//! What is not in it: the salvage of what was kept, snapshots (a new copy is filled from the log's start), reattachment of a single copy.

mod actions;
mod canonical;
mod faults;
mod invariants;
mod mirror;
mod primary;
mod progress;
mod rules;
mod takeover;
mod world;

pub use actions::Action;
pub use rules::Rule;
pub use world::{Bounds, Budget, Cluster, Mode, World};
