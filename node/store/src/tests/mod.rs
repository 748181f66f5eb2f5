//! Tests that need the inside: durability, faults, crashes.
#![allow(clippy::panic, clippy::unwrap_used, reason = "tests")]

mod corruption;
mod crash;
mod durability;
mod falling;
mod forced;
mod given_back;
mod lifecycle;
mod mirror;
mod property;
mod repair;
mod rewrite;
mod rewrite_crash;
mod rewrite_damage;
mod rewrite_faults;
mod rewrite_mirrored;
mod snapshot;
mod states;
#[path = "../../tests/common/mod.rs"]
mod support;
mod undelete;
mod version_3;

use crate::testing::rows;

/// The file that is written.
fn newest_segment(dir: &std::path::Path) -> std::path::PathBuf {
    let files = std::fs::read_dir(dir.join("log")).unwrap().map(|entry| entry.unwrap().path());
    files.max().unwrap()
}
