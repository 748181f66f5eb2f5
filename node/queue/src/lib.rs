//! The queue's runner: takes mail that waits in this store's queue to the stores it is for (hand-off) and to other sites,
//! and makes a bounce of what can never be delivered.
//!
//! The queue itself is part of the store, so it is durable, replicated and fails over with it. Everything here may be
//! done twice without harm: mail keeps the delivery id it was accepted under, by which its store knows a second copy,
//! and a bounce's id is derived from the id and recipient it is about.
//!
//! - Each target store has a worker of its own; all share a fair pool of connections, so a store with 50,000 waiting
//!   messages does not hold up another's single one.
//! - A store that cannot be reached costs its waiting mail no attempt and this store's log no record: its worker tries
//!   one connection at growing intervals, or at once when [`QueueHandle::kick`] says that the route is back.
//! - Mail for other sites has a runner of its own ([`mod@out`]): destinations take turns, and each has a window.
//! - Before a message is sent an attempt mark is committed, and right before the final dot its receipt is asked once
//!   more, so that a store that was taken over sends nothing.

mod attempt;
mod body;
mod config;
mod decision;
mod out;
mod report;
mod runner;
mod undeliverable;
mod worker;

pub use config::{Out, QueueConfig, QueueCounters, QueueHandle};
pub use runner::run;
