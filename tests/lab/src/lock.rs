//! One process at a time: locks by files in the cache folder, which the kernel releases however their holder ends.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::paths::Paths;

/// A lock, held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Waits for the right to change the lab.
    pub(crate) fn take(paths: &Paths) -> Result<Self> {
        Self::wait(&paths.lab.with_extension("lock"))
    }

    /// As [`Self::take`], but fails when another process has it.
    pub(crate) fn try_take(paths: &Paths) -> Result<Self> {
        let file = open(&paths.lab.with_extension("lock"))?;
        if file.try_lock().is_err() {
            bail!("another command is changing the lab right now");
        }
        Ok(Self { _file: file })
    }

    /// Waits for the right to fill a part of the cache.
    ///
    /// # Errors
    /// The lock's file cannot be made.
    pub fn part(paths: &Paths, name: &str) -> Result<Self> {
        Self::wait(&paths.cache.join(format!("{name}.lock")))
    }

    fn wait(path: &Path) -> Result<Self> {
        let file = open(path)?;
        file.lock().with_context(|| format!("failed to lock {}", path.display()))?;
        Ok(Self { _file: file })
    }
}

fn open(path: &Path) -> Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    // The lock is close-on-exec, as every file std opens: no child keeps it.
    File::options()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("failed to open {}", path.display()))
}
