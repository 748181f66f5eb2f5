//! Real mail programs and a real standalone node, for tests and benchmarks.
//!
//! [`ClientRoot`] is a folder of unpacked Debian packages (swaks, isync, neomutt, fetchmail, dovecot) that programs
//! are run in by chroot: nothing is installed over what the host has. [`Standalone`] is a `mailcluster-node
//! standalone` on free loopback ports, in a data directory of its own, that goes when it is dropped.

mod client_root;
mod crash_disk;
mod standalone;

pub use client_root::{ClientRoot, Ran};
pub use crash_disk::{CrashDisk, Cut};
pub use standalone::{NodeBinary, Standalone, scratch, wait_until};
