//! Is this file system one that keeps promises? And is nobody else using the directory?

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::Path,
};

use rustix::fs::{FlockOperation, flock, statfs};

use crate::error::OpenError;

/// File systems that are refused by name, with their numbers (`statfs(2)`) and the reason.
const REFUSED: &[(u64, &str, &str)] = &[
    (0x6969, "nfs", "a server in between may lose what it has confirmed: use a local disk or a block volume"),
    (0x517b, "smb", "a server in between may lose what it has confirmed: use a local disk or a block volume"),
    (0xfe53_4d42, "smb2", "a server in between may lose what it has confirmed: use a local disk"),
    (0xff53_4d42, "cifs", "a server in between may lose what it has confirmed: use a local disk"),
    (0x0102_1997, "9p", "syncs do not reach a disk: use a local disk or a block volume"),
    (0x0102_1994, "tmpfs", "memory is lost with the machine: use a directory on a disk"),
    (0x8584_58f6, "ramfs", "memory is lost with the machine: use a directory on a disk"),
    (0x794c_7630, "overlay", "a container's own layer goes with the container: mount a volume here"),
];

/// What is wrong with a file system of this number, if anything is.
fn refused(number: u64) -> Option<(&'static str, &'static str)> {
    REFUSED.iter().find(|(n, ..)| *n == number).map(|(_, kind, why)| (*kind, *why))
}

/// Refuses file systems that cannot hold mail: by name, and by trying what the store needs.
///
/// # Errors
/// [`OpenError::FileSystem`].
pub fn check(dir: &Path) -> Result<(), OpenError> {
    let error = |kind: &str, why: String| OpenError::FileSystem {
        dir: dir.display().to_string(),
        kind: kind.to_owned(),
        why,
    };
    let stat = statfs(dir).map_err(|e| io_error(dir, e.into()))?;
    // The field's type differs by platform; the numbers have at most 32 bits.
    #[allow(clippy::cast_sign_loss, clippy::unnecessary_cast, reason = "see above")]
    let number = stat.f_type as u64 & 0xffff_ffff;
    if let Some((kind, why)) = refused(number) {
        return Err(error(kind, why.to_owned()));
    }
    probe(dir).map_err(|e| error(&format!("a file system ({number:#x})"), format!("it failed a probe: {e}")))
}

/// Sync, rename, sync of the directory, and a lock that excludes.
fn probe(dir: &Path) -> io::Result<()> {
    let (first, second) = (dir.join("probe"), dir.join("probe.renamed"));
    let mut file = File::create(&first)?;
    file.write_all(b"probe")?;
    file.sync_all()?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    let other = File::open(&first)?;
    if flock(&other, FlockOperation::NonBlockingLockExclusive).is_ok() {
        return Err(io::Error::other("a lock did not exclude"));
    }
    fs::rename(&first, &second)?;
    File::open(dir)?.sync_all()?;
    if fs::read(&second)? != b"probe" {
        return Err(io::Error::other("a renamed file lost its content"));
    }
    fs::remove_file(&second)
}

/// Takes the directory's lock, held as long as the file is open.
///
/// # Errors
/// [`OpenError::Locked`] when another process has it.
pub fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|source| io_error(&path, source))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::Locked(dir.display().to_string())),
        Err(e) => Err(io_error(&path, e.into())),
    }
}

/// An [`OpenError::Io`] about a path.
pub fn io_error(path: &Path, source: io::Error) -> OpenError {
    OpenError::Io { dir: path.display().to_string(), source }
}

#[cfg(test)]
#[allow(clippy::panic, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn file_systems_are_refused_by_name() {
        for (number, kind) in [
            (0x6969, "nfs"),
            (0xff53_4d42, "cifs"),
            (0xfe53_4d42, "smb2"),
            (0x0102_1997, "9p"),
            (0x0102_1994, "tmpfs"),
            (0x794c_7630, "overlay"),
        ] {
            assert_eq!(refused(number).map(|(k, _)| k), Some(kind));
        }
        for good in [0xef53, 0x5846_5342, 0x9123_683e] {
            assert_eq!(refused(good), None, "ext4, xfs and btrfs are taken");
        }
        match check(Path::new("/dev/shm")) {
            Err(OpenError::FileSystem { kind, .. }) => assert_eq!(kind, "tmpfs"),
            Err(OpenError::Io { .. }) => {}
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_directory_is_locked_once() {
        let dir = tempfile::tempdir().unwrap();
        let held = lock(dir.path()).unwrap();
        assert!(matches!(lock(dir.path()), Err(OpenError::Locked(_))));
        drop(held);
        lock(dir.path()).unwrap();
    }
}
