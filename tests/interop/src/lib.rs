//! Real mail programs and a real standalone node, for tests and benchmarks.
//!
//! [`ClientRoot`] is a folder of unpacked Debian packages (swaks, isync, neomutt, fetchmail, dovecot, postfix) that programs
//! are run in by chroot: nothing is installed over what the host has. [`Standalone`] is a `mailcluster-node
//! standalone` on free loopback ports, in a data directory of its own, that goes when it is dropped.

mod client_root;
mod crash_disk;
mod name_server;
mod postfix;
mod scratch;
mod standalone;
mod strace;

use std::{ffi::OsStr, process::Command};

pub use client_root::{ClientRoot, Ran};
pub use crash_disk::{CrashDisk, Cut};
pub use name_server::NameServer;
pub use postfix::{Postfix, SiteCertificate};
pub use scratch::{scratch, sweep};
pub use standalone::{NodeBinary, Standalone, wait_until};
pub use strace::Strace;

/// A command that is killed when the thread that started it ends, however that comes: nothing outlives a test that
/// was killed itself.
#[must_use]
pub fn mortal(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}
