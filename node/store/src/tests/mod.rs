//! Tests that need the inside: durability, faults, crashes.
#![allow(clippy::panic, clippy::unwrap_used, reason = "tests")]

mod corruption;
mod crash;
mod durability;
mod lifecycle;
mod mirror;
mod property;
mod rows;
#[path = "../../tests/common/mod.rs"]
mod support;
