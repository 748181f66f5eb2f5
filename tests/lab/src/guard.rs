//! Bringing the lab down when the program that brought it up ends without a word: Ctrl-C, a crash, a failed test.
//!
//! A guard is a process that reads from a pipe whose other end only the guarded program holds. The kernel closes
//! that end however the program ends, so no signal has to be caught.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use crate::lock::Lock;
use crate::paths::Paths;
use crate::progress::say;
use crate::site::helper;
use crate::state::State;

/// The guarded program's end.
#[derive(Debug)]
pub(crate) struct Guard {
    child: Child,
}

impl Guard {
    /// Starts a guard over the lab of that id.
    pub fn start(paths: &Paths, id: &str) -> Result<Self> {
        let child = Command::new(helper(paths))
            .args(["lab", "guard"])
            .arg(&paths.cache)
            .arg(id)
            // Ctrl-C reaches the whole process group of the terminal's foreground.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .context("failed to start the lab's guard")?;
        Ok(Self { child })
    }

    /// Lets the lab go on without its guard.
    pub fn dismiss(mut self) {
        if let Some(mut pipe) = self.child.stdin.take() {
            let _gone = pipe.write_all(b"dismissed");
        }
        let _reaped = self.child.wait();
    }
}

/// The guard's own program (`xtask lab guard`).
///
/// # Errors
/// Something of the lab could not be removed.
pub fn run(cache: &Path, id: &str) -> Result<()> {
    let mut said = Vec::new();
    std::io::stdin().take(64).read_to_end(&mut said)?;
    if !said.is_empty() {
        return Ok(());
    }
    let paths = Paths::in_cache(cache)?;
    let _lock = Lock::take(&paths)?;
    // Someone may have brought it down, and another one up, since.
    if State::load(&paths)?.is_some_and(|state| state.id == id) {
        say("its user ended, bringing it down");
        crate::cleanup::remove_all(&paths)?;
    }
    Ok(())
}
