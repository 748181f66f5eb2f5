//! Writing what was there in its place again.

use std::{fs::File, io, os::unix::fs::FileExt, path::Path, sync::Arc};

use crate::disk::Disk;

/// Octets that are compared, and written where they differ: a block of the file system, and more than a sector of any disk.
const BLOCK: u64 = 4096;

/// Makes the file have these octets at `offset`, durably. What is there already is not written again, so that a crash, or a
/// disk that fails half-way, cannot harm what is intact.
pub fn write(disk: &Arc<dyn Disk>, path: &Path, offset: u64, octets: &[u8]) -> io::Result<()> {
    let there = File::open(path)?;
    let mut file = disk.open(path)?;
    let mut own = vec![0; usize::try_from(BLOCK).unwrap_or(0)];
    for (at, piece) in blocks(offset, octets) {
        let own = &mut own[..piece.len()];
        // What cannot be read is written anew.
        if there.read_exact_at(own, at).is_err() || own != piece {
            file.write_at(at, piece)?;
        }
    }
    file.sync()
}

/// The octets by the file's blocks.
fn blocks(offset: u64, octets: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let (mut at, mut rest) = (offset, octets);
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let left = usize::try_from(BLOCK - at % BLOCK).unwrap_or(rest.len()).min(rest.len());
        let (piece, behind) = rest.split_at(left);
        let place = at;
        (at, rest) = (at + left as u64, behind);
        Some((place, piece))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::disk::{LogFile, RealDisk};

    /// Notes what is written.
    #[derive(Clone, Default)]
    struct Noting(Arc<Mutex<Vec<(u64, usize)>>>);

    struct NotingFile(Noting, Box<dyn LogFile>);

    impl LogFile for NotingFile {
        fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
            self.0.0.lock().unwrap().push((offset, bytes.len()));
            self.1.write_at(offset, bytes)
        }
        fn sync(&mut self) -> io::Result<()> {
            self.1.sync()
        }
        fn set_len(&mut self, len: u64) -> io::Result<()> {
            self.1.set_len(len)
        }
        fn allocate(&mut self, len: u64) -> io::Result<()> {
            self.1.allocate(len)
        }
    }

    impl Disk for Noting {
        fn create(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
            RealDisk.create(path)
        }
        fn open(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
            Ok(Box::new(NotingFile(self.clone(), RealDisk.open(path)?)))
        }
        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            RealDisk.rename(from, to)
        }
        fn remove(&self, path: &Path) -> io::Result<()> {
            RealDisk.remove(path)
        }
        fn create_dir(&self, path: &Path) -> io::Result<()> {
            RealDisk.create_dir(path)
        }
        fn sync_dir(&self, path: &Path) -> io::Result<()> {
            RealDisk.sync_dir(path)
        }
    }

    #[test]
    fn only_blocks_that_differ_are_written() {
        let right: Vec<u8> = (0..20_000_u32).flat_map(u32::to_le_bytes).collect();
        for (offset, length, damaged, expected) in [
            (100_u64, 10_000_usize, vec![], vec![]),
            (100, 10_000, vec![100_u64], vec![(100, 3996)]),
            (100, 10_000, vec![5000, 5001, 8191], vec![(4096, 4096)]),
            (100, 10_000, vec![4095, 10_099], vec![(100, 3996), (8192, 1908)]),
            (100, 10_000, vec![99, 10_100], vec![]),
            (8192, 4096, vec![8192], vec![(8192, 4096)]),
        ] {
            let file = tempfile::NamedTempFile::new().unwrap();
            let mut wrong = right.clone();
            for at in &damaged {
                wrong[usize::try_from(*at).unwrap()] ^= 0x10;
            }
            std::fs::write(file.path(), &wrong).unwrap();
            let noting = Noting::default();
            let disk: Arc<dyn Disk> = Arc::new(noting.clone());
            let from = usize::try_from(offset).unwrap();
            write(&disk, file.path(), offset, &right[from..from + length]).unwrap();
            assert_eq!(*noting.0.lock().unwrap(), expected, "{offset}+{length}: {damaged:?}");
            let now = std::fs::read(file.path()).unwrap();
            assert_eq!(now[from..from + length], right[from..from + length]);
            assert_eq!((&now[..from], &now[from + length..]), (&wrong[..from], &wrong[from + length..]));
        }
    }

    #[test]
    fn what_was_cut_off_is_there_again() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), vec![7; 5000]).unwrap();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        write(&disk, file.path(), 4990, &[7; 4000]).unwrap();
        assert_eq!(std::fs::read(file.path()).unwrap(), vec![7; 8990]);
    }
}
