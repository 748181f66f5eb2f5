//! For tests: a file layer that records what was written and synced, and fails on demand.
//!
//! [`Recorder::synced`] answers whether a sync that covers a record has returned. A test that asks it for every
//! acknowledgement proves "sync before OK"; with `Setup::skip_sync` the same test must fail.

pub mod disk;
pub mod index;
pub mod rng;
pub mod rows;
pub mod volume;

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use mailcluster_types::{Epoch, Seq};

pub use crate::machine::simulated::{Machine, on};
pub use rng::Rng;

use crate::{
    batch::{HEADER, Header},
    disk::{Disk, LogFile, RealDisk},
    engine::Options,
    error::OpenError,
    replica::{Identity, Replica},
    space::{RealVolume, Volume},
};

/// What goes wrong, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The next sync of a segment fails, later ones succeed (the system has forgotten the error).
    SyncOnce,
    /// All syncs of segments fail from now on.
    SyncForever,
    /// The next write of a batch fails before anything is written: the volume is full.
    NoSpace,
    /// The next write of a batch fails half-way: the volume is full.
    ShortNoSpace,
    /// The write after the next one fails half-way: the volume is full.
    SecondShortNoSpace,
    /// The next write of a batch fails half-way for another reason.
    WriteError,
    /// The next write of a batch fails half-way for want of room, and it cannot be taken back.
    ShortNoSpaceForever,
}

#[derive(Debug, Default)]
struct Recorded {
    /// Per file: batches written and not synced yet.
    unsynced: HashMap<PathBuf, Vec<(Epoch, Seq, Seq)>>,
    /// Batches whose sync has returned.
    synced: Vec<(Epoch, Seq, Seq)>,
    fault: Option<Fault>,
    syncs: u64,
    written: u64,
}

/// Records and fails.
#[derive(Debug, Clone, Default)]
pub struct Recorder {
    recorded: Arc<Mutex<Recorded>>,
    hangs: Arc<(Mutex<bool>, Condvar)>,
}

impl Recorder {
    fn with<T>(&self, work: impl FnOnce(&mut Recorded) -> T) -> T {
        work(&mut self.recorded.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Has a sync that covers this record returned?
    #[must_use]
    pub fn synced(&self, (epoch, seq): (Epoch, Seq)) -> bool {
        self.with(|r| {
            r.synced.iter().rev().any(|(e, first, last)| *e == epoch && (*first..=*last).contains(&seq))
        })
    }

    /// How many syncs of segments have returned.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.with(|r| r.syncs)
    }

    /// How many batches have been written whose sync has not returned.
    #[must_use]
    pub fn unsynced(&self) -> usize {
        self.with(|r| r.unsynced.values().map(Vec::len).sum())
    }

    /// How many batches have been written, synced or not.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.with(|r| r.written)
    }

    /// Makes something fail; `None` heals it.
    pub fn fail(&self, fault: Option<Fault>) {
        self.with(|r| r.fault = fault);
    }

    /// Syncs of segments do not return from now on, or do again, those too that were waited for.
    pub fn hang(&self, hangs: bool) {
        *self.hangs.0.lock().unwrap_or_else(PoisonError::into_inner) = hangs;
        self.hangs.1.notify_all();
    }

    fn until_it_answers(&self) {
        let hangs = self.hangs.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.hangs.1.wait_while(hangs, |hangs| *hangs));
    }

    /// Takes a fault that strikes once.
    fn strike(&self, of: &[Fault]) -> Option<Fault> {
        self.with(|r| match r.fault {
            Some(Fault::SecondShortNoSpace) if of.contains(&Fault::ShortNoSpace) => {
                r.fault = Some(Fault::ShortNoSpace);
                None
            }
            Some(fault) if of.contains(&fault) => {
                let stays = matches!(fault, Fault::SyncForever | Fault::ShortNoSpaceForever);
                r.fault = if stays { Some(fault) } else { None };
                Some(fault)
            }
            _ => None,
        })
    }
}

/// What a test puts under a replica.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// The recording file layer.
    pub recorder: Recorder,
    /// Small segments, so that there are many.
    pub segment_size: Option<u64>,
    /// Leaves the sync out of the committer.
    pub skip_sync: bool,
    /// Gives back the room of small stores, too.
    pub eager_rewriting: bool,
    /// For how long what is expunged can be brought back.
    pub undelete: std::time::Duration,
    /// Free octets that the volume is said to have (of 100 GiB); `None`: the truth.
    pub free: Option<Arc<AtomicU64>>,
}

impl Setup {
    /// What a replica is opened with, where others open it.
    #[must_use]
    pub fn options(&self) -> Options {
        let volume: Arc<dyn Volume> = match &self.free {
            Some(free) => Arc::new(FakeVolume(free.clone())),
            None => Arc::new(RealVolume),
        };
        Options {
            disk: Arc::new(RecordingDisk(self.recorder.clone())),
            volume,
            segment_size: self.segment_size,
            skip_sync: self.skip_sync,
            eager_rewriting: self.eager_rewriting,
            undelete: self.undelete,
            ..Options::default()
        }
    }

    /// As [`Replica::initialise`].
    ///
    /// # Errors
    /// The same.
    pub fn initialise(&self, dir: &Path, identity: &Identity) -> Result<Replica, OpenError> {
        Replica::initialise_with(dir, identity, &self.options())
    }

    /// As [`Replica::open`].
    ///
    /// # Errors
    /// The same.
    pub fn open(&self, dir: &Path, identity: &Identity) -> Result<Replica, OpenError> {
        Replica::open_with(dir, identity, &self.options())
    }
}

struct FakeVolume(Arc<AtomicU64>);

impl Volume for FakeVolume {
    fn measure(&self, _: &Path) -> (u64, u64) {
        (self.0.load(Ordering::Relaxed), 100 << 30)
    }
}

struct RecordingDisk(Recorder);

impl RecordingDisk {
    fn wrap(&self, path: &Path, file: Box<dyn LogFile>) -> Box<dyn LogFile> {
        Box::new(RecordingFile { recorder: self.0.clone(), path: path.to_owned(), file })
    }
}

impl Disk for RecordingDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        Ok(self.wrap(path, RealDisk.create(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        Ok(self.wrap(path, RealDisk.open(path)?))
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

struct RecordingFile {
    recorder: Recorder,
    path: PathBuf,
    file: Box<dyn LogFile>,
}

impl RecordingFile {
    /// Superblocks are written to files of their own, which the faults here leave alone.
    fn is_segment(&self) -> bool {
        self.path.parent().is_some_and(|p| p.ends_with("log"))
    }
}

impl LogFile for RecordingFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        use Fault::{NoSpace, ShortNoSpace, ShortNoSpaceForever, WriteError};
        let batch = bytes.get(..HEADER).and_then(Header::decode).filter(|h| h.count > 0);
        if let Some(header) = batch {
            match self.recorder.strike(&[NoSpace, ShortNoSpace, WriteError, ShortNoSpaceForever]) {
                Some(NoSpace) => return Err(io::ErrorKind::StorageFull.into()),
                Some(fault) => {
                    self.file.write_at(offset, &bytes[..bytes.len() / 2])?;
                    let full = fault != WriteError;
                    return Err(if full {
                        io::ErrorKind::StorageFull.into()
                    } else {
                        io::Error::other("EIO")
                    });
                }
                None => {}
            }
            let written = (header.epoch, header.seq, header.last_seq());
            self.recorder.with(|r| {
                r.written += 1;
                r.unsynced.entry(self.path.clone()).or_default().push(written);
            });
        }
        self.file.write_at(offset, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.is_segment() {
            self.recorder.until_it_answers();
        }
        if self.is_segment() && self.recorder.strike(&[Fault::SyncOnce, Fault::SyncForever]).is_some() {
            return Err(io::Error::other("injected: EIO"));
        }
        self.file.sync()?;
        self.recorder.with(|r| {
            r.syncs += u64::from(self.is_segment());
            let now = r.unsynced.remove(&self.path).unwrap_or_default();
            r.synced.extend(now);
        });
        Ok(())
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        if self.is_segment() && self.recorder.strike(&[Fault::ShortNoSpaceForever]).is_some() {
            return Err(io::Error::other("injected: EIO"));
        }
        self.file.set_len(len)
    }

    fn allocate(&mut self, len: u64) -> io::Result<()> {
        self.file.allocate(len)
    }
}

#[cfg(test)]
impl Setup {
    /// The disk without recording.
    pub(crate) fn default_disk() -> Arc<dyn Disk> {
        Arc::new(RealDisk)
    }
}
