//! Folders of one test's own, and clearing those of tests that were killed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use mailcluster_lab::Paths;

/// A folder for one test, on a real file system, removed first if it is left from before.
///
/// # Errors
/// When it cannot be made.
pub fn scratch(name: &str) -> Result<PathBuf> {
    let folder = base(&Paths::from_environment()?).join(format!("{name}-{}", std::process::id()));
    let _stale = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

fn base(paths: &Paths) -> PathBuf {
    paths.cache.join("scratch")
}

/// Removes what processes that are gone have left: a failed test's data stays until the next run, not for ever.
///
/// # Errors
/// When something cannot be removed.
pub fn sweep() -> Result<()> {
    let paths = Paths::from_environment()?;
    let runs = |pid: u32| Path::new(&format!("/proc/{pid}")).exists();
    for folder in [base(&paths), crate::client_root::location(&paths).join("work")] {
        sweep_folder(&folder, &runs)?;
    }
    Ok(())
}

fn sweep_folder(folder: &Path, runs: &dyn Fn(u32) -> bool) -> Result<()> {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if owner(&entry.file_name().to_string_lossy()).is_none_or(runs) {
            continue;
        }
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.with_context(|| format!("failed to remove {}", path.display()))?;
    }
    Ok(())
}

/// The process that made `NAME-PID` or `NAME-PID.log`.
fn owner(name: &str) -> Option<u32> {
    name.strip_suffix(".log").unwrap_or(name).rsplit_once('-')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_the_dead_goes_and_the_rest_stays() {
        let folder = std::env::temp_dir().join(format!("mailcluster-sweep-{}", std::process::id()));
        for name in ["full-7", "volume-one-7", "full-8", "notes"] {
            fs::create_dir_all(folder.join(name).join("data")).unwrap();
        }
        for name in ["full-7.log", "full-8.log"] {
            fs::write(folder.join(name), "").unwrap();
        }
        sweep_folder(&folder, &|pid| pid == 8).unwrap();
        let mut left: Vec<_> =
            fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(left, ["full-8", "full-8.log", "notes"]);
    }
}
