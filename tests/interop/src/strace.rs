//! Faults of system calls, injected into a running node.

use std::{
    fs,
    process::{Child, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};

use crate::{Standalone, wait_until};

/// A tracer that makes the node's syncs do something else, until it is dropped or the node ends.
#[derive(Debug)]
pub struct Strace(Child);

impl Strace {
    /// Syncs behave like this (strace's words for an injected fault) from now on.
    ///
    /// # Errors
    /// When strace cannot be had, or does not attach.
    pub fn syncs(node: &Standalone, fault: &str) -> Result<Self> {
        const CALLS: &str = "fsync,fdatasync,sync_file_range,msync";
        let child = mailcluster_lab::tool("strace")?
            .args(["-f", "-q", "-o", "/dev/null", "-p", &node.pid().to_string()])
            .args(["-e", &format!("trace={CALLS}"), "-e", &format!("inject={CALLS}:{fault}")])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("failed to start strace")?;
        let strace = Self(child);
        wait_until("strace attached to every thread", Duration::from_secs(30), || traced(node.pid()))?;
        Ok(strace)
    }
}

/// Is every thread of the process traced?
fn traced(pid: u32) -> bool {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    tasks.flatten().all(|task| {
        let status = fs::read_to_string(task.path().join("status"));
        status.is_ok_and(|status| !status.contains("TracerPid:\t0\n"))
    })
}

impl Drop for Strace {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}
