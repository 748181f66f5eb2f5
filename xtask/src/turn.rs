//! Checkouts build into one folder, so that a fresh clone finds its dependencies built. Cargo tells their packages apart
//! by nothing but times: whoever comes after another checkout must have its own packages built anew, and nobody may
//! build while another checkout does.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use anyhow::{Context, Result};

/// The right to build here, for as long as it is kept: other commands of this checkout have it too, others wait.
#[derive(Debug)]
pub struct Turn {
    _file: File,
}

/// The packages of a workspace, by how their names begin.
const OWN: [&str; 2] = ["mailcluster", "xtask"];

impl Turn {
    /// Waits until no other checkout builds in `target`; what the last one left of its own packages is forgotten.
    pub fn take(target: &Path, workspace: &Path) -> Result<Self> {
        fs::create_dir_all(target)?;
        let path = target.join("checkout");
        let file = File::options().create(true).append(true).read(true).open(&path)?;
        let is_ours = || fs::read(&path).is_ok_and(|last| last == workspace.as_os_str().as_encoded_bytes());
        loop {
            if file.try_lock_shared().is_err() {
                println!("waiting for another checkout that builds in {}", target.display());
                file.lock_shared().with_context(|| format!("failed to lock {}", path.display()))?;
            }
            if is_ours() {
                return Ok(Self { _file: file });
            }
            // The lock's kinds are not exchanged in one step: whose turn it is is looked at again with the one kept.
            file.unlock()?;
            file.lock().with_context(|| format!("failed to lock {}", path.display()))?;
            if !is_ours() {
                forget(target).with_context(|| format!("failed to clear {}", target.display()))?;
                fs::write(&path, workspace.as_os_str().as_encoded_bytes())?;
            }
            file.unlock()?;
        }
    }
}

/// Removes cargo's fingerprints of our packages below `folder`: they are built anew, their dependencies are not.
fn forget(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            continue;
        }
        // target/[TRIPLE/]PROFILE/.fingerprint/PACKAGE-HASH
        match entry.file_name().to_str() {
            Some(".fingerprint") => forget_own(&entry.path())?,
            Some("deps" | "build" | "incremental" | "examples" | "tmp") => {}
            _ => forget(&entry.path())?,
        }
    }
    Ok(())
}

fn forget_own(fingerprints: &Path) -> io::Result<()> {
    for entry in fs::read_dir(fingerprints)? {
        let entry = entry?;
        let name = entry.file_name();
        if OWN.iter().any(|own| name.to_string_lossy().starts_with(own)) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_checkouts_packages_are_forgotten_and_dependencies_kept() {
        let folder = tempfile::tempdir().unwrap();
        let prints = folder.path().join("x86_64-unknown-linux-gnu/debug/.fingerprint");
        let make = || {
            for package in ["mailcluster-rpc-1a", "xtask-2b", "tonic-3c"] {
                fs::create_dir_all(prints.join(package)).unwrap();
            }
        };
        let left = || {
            let mut names: Vec<_> = fs::read_dir(&prints)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        make();
        let (first, second) = (Path::new("/one"), Path::new("/two"));
        let turn = Turn::take(folder.path(), first).unwrap();
        assert_eq!(left(), ["tonic-3c"], "nobody knows who built before");
        make();
        let same = Turn::take(folder.path(), first).unwrap();
        assert_eq!(left(), ["mailcluster-rpc-1a", "tonic-3c", "xtask-2b"], "its own");
        drop((turn, same));
        drop(Turn::take(folder.path(), second).unwrap());
        assert_eq!(left(), ["tonic-3c"]);
    }

    #[test]
    fn another_checkout_waits() {
        let folder = tempfile::tempdir().unwrap();
        let turn = Turn::take(folder.path(), Path::new("/one")).unwrap();
        std::thread::scope(|scope| {
            let other = scope.spawn(|| Turn::take(folder.path(), Path::new("/two")).map(drop));
            let read = || fs::read(folder.path().join("checkout")).unwrap();
            assert_eq!(read(), b"/one");
            assert!(!other.is_finished());
            drop(turn);
            other.join().unwrap().unwrap();
            assert_eq!(read(), b"/two");
        });
    }
}
