//! The next segment, made ahead: its room is not only reserved but written, with zeros. A sync of what is put there later
//! changes nothing of the file system's own; where room is only reserved, each sync waits for the file system's journal
//! too, and so for what others do on the same disk.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Instant,
};

use crate::{
    disk::{Disk, LogFile},
    machine,
};

const NAME: &str = "spare.new";
/// Written and synced at a time.
const STEP: usize = 1 << 20;
/// Smaller segments are those of small volumes, which have no room to spare.
const SMALLEST: u64 = 32 << 20;
/// Batches that are larger than this on average are bound by what the disk takes, and zeros would be more of it.
const LARGE_BATCH: u64 = 1 << 20;

/// How spares are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Making {
    /// By a thread, where they are worth it.
    #[default]
    Beside,
    /// Always, before the call returns: for tests that record what happens.
    #[cfg(test)]
    AtOnce,
}

/// Is it worth while for a segment that took so many batches with so many octets?
pub fn is_worth_it(segment: u64, batches: u64, octets: u64) -> bool {
    segment >= SMALLEST && octets < batches.saturating_mul(LARGE_BATCH)
}

/// At most one spare.
#[derive(Default)]
pub struct Spare {
    thread: Option<JoinHandle<Option<Box<dyn LogFile>>>>,
    made: Option<Box<dyn LogFile>>,
    stop: Arc<AtomicBool>,
}

/// Where it lies until it has a name.
pub fn path(log: &Path) -> PathBuf {
    log.join(NAME)
}

/// Removes what an earlier process made.
pub fn discard(disk: &Arc<dyn Disk>, log: &Path) -> io::Result<()> {
    let path = path(log);
    if path.exists() { disk.remove(&path) } else { Ok(()) }
}

impl Spare {
    /// Is there one, or will there be?
    pub fn is_begun(&self) -> bool {
        self.thread.is_some() || self.made.is_some()
    }

    /// Begins to make one of `size` octets.
    pub fn begin(&mut self, making: Making, disk: &Arc<dyn Disk>, log: &Path, size: u64) {
        if self.is_begun() {
            return;
        }
        let (disk, log, stop) = (disk.clone(), log.to_owned(), self.stop.clone());
        let work = move || {
            make(&disk, &log, size, &stop)
                .inspect_err(|error| {
                    tracing::debug!(%error, "no segment is made ahead");
                    // Told to stop, nothing is touched any more: the next process removes it.
                    if error.kind() != io::ErrorKind::Interrupted {
                        let _ = discard(&disk, &log);
                    }
                })
                .ok()
        };
        match making {
            // A simulation has no other thread.
            Making::Beside if machine::is_one_thread() => {}
            Making::Beside => {
                let thread = std::thread::Builder::new().name("store-spare".into()).spawn(work);
                self.thread =
                    thread.inspect_err(|error| tracing::debug!(%error, "no thread for a spare")).ok();
            }
            #[cfg(test)]
            Making::AtOnce => self.made = work(),
        }
    }

    /// The spare, when it is whole.
    pub fn take(&mut self) -> Option<Box<dyn LogFile>> {
        if let Some(thread) = self.thread.take_if(|thread| thread.is_finished()) {
            self.made = thread.join().ok().flatten();
        }
        self.made.take()
    }

    /// Nothing more is written, soon.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        self.stop();
        // The volume is let go by whoever holds this: nobody writes to it then.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn make(disk: &Arc<dyn Disk>, log: &Path, size: u64, stop: &AtomicBool) -> io::Result<Box<dyn LogFile>> {
    let mut file = disk.create(&path(log))?;
    file.allocate(size)?;
    let zeros = vec![0; STEP];
    let mut at = 0;
    while at < size {
        if stop.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let began = Instant::now();
        let piece = usize::try_from(size - at).map_or(STEP, |left| left.min(STEP));
        file.write_at(at, &zeros[..piece])?;
        file.sync()?;
        at += piece as u64;
        // Half of the time the disk is the others'.
        std::thread::sleep(began.elapsed());
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    const MIB: u64 = 1 << 20;

    #[test]
    fn spares_are_made_for_small_batches_on_volumes_with_room() {
        for (segment, batches, octets, expected) in [
            (64 * MIB, 100, 8 * MIB, true),
            (64 * MIB, 1, 4096, true),
            (64 * MIB, 8, 8 * MIB, false),
            (64 * MIB, 2, 8 * MIB, false),
            (32 * MIB, 100, 4 * MIB, true),
            (31 * MIB, 100, 4 * MIB, false),
            (64 * MIB, 0, 0, false),
        ] {
            assert_eq!(is_worth_it(segment, batches, octets), expected, "{segment} {batches} {octets}");
        }
    }

    #[test]
    fn a_spare_is_taken_once_it_is_whole_and_ends_when_told() {
        let dir = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let mut spare = Spare::default();
        spare.begin(Making::Beside, &disk, dir.path(), 3 * MIB + 5);
        let deadline = Instant::now() + std::time::Duration::from_secs(60);
        let file = loop {
            if let Some(file) = spare.take() {
                break file;
            }
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        };
        drop(file);
        let text = std::fs::read(path(dir.path())).unwrap();
        assert!(text.len() as u64 == 3 * MIB + 5 && text.iter().all(|octet| *octet == 0));
        assert!(!spare.is_begun());

        spare.stop();
        spare.begin(Making::Beside, &disk, dir.path(), 3 * MIB);
        drop(spare);
        discard(&disk, dir.path()).unwrap();
        assert!(!path(dir.path()).exists());
        discard(&disk, dir.path()).unwrap();
    }
}
