//! A snapshot as its primary makes and reads it.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use mailcluster_types::Seq;
use rusqlite::{
    Connection,
    backup::{Backup, StepResult},
};

use super::{INDEX, OUT, Offer, missing, names, remove_folder, segment_of};
use crate::{
    engine::Engine,
    log_reader::LogReader,
    schema::{self, State},
    segment,
    space::{self, RealVolume, Volume},
};

/// Octets that are copied or read between two pauses.
const STEP: u64 = 1 << 20;

/// Tells work that is done in another thread that nobody waits for it any more.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// From now on.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn check(&self) -> io::Result<()> {
        if self.0.load(Ordering::Acquire) {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "nobody wants the snapshot any more"));
        }
        Ok(())
    }
}

/// A file of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinnedFile {
    /// Its name in the log's folder, or the index's.
    pub name: String,
    /// So much of it is part of the snapshot.
    pub octets: u64,
}

impl PinnedFile {
    /// The segment that it is, by its first record.
    #[must_use]
    pub fn segment(&self) -> Option<Seq> {
        segment_of(&self.name)
    }
}

/// A snapshot that is offered. Its files are there as long as this is.
pub struct Outgoing {
    offer: Offer,
    files: Vec<PinnedFile>,
    folder: PathBuf,
    /// Checksums of whole files, as far as they are known.
    known: Mutex<BTreeMap<String, u32>>,
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        if let Err(error) = remove_folder(&self.folder) {
            tracing::warn!(%error, "a snapshot's files are removed at the next start");
        }
    }
}

impl Outgoing {
    /// Has the volume of the store in `dir` so little room that it wants back what snapshots take? A little more is free
    /// then than the store keeps for itself: nobody's mail is refused for the sake of a mirror.
    #[must_use]
    pub fn must_go(dir: &Path) -> bool {
        let (free, total) = RealVolume.measure(dir);
        free < kept(total)
    }

    /// Pins the log and copies the index of the store in `dir`, which may be written meanwhile. `None`: the index has not
    /// come to record `at_least` yet. `rate`: octets of the index copied in a second.
    ///
    /// # Errors
    /// `StorageFull` when there is no room for the index's copy; as the disk says; when it was cancelled.
    pub fn make(dir: &Path, at_least: Seq, rate: u64, cancel: &Cancel) -> io::Result<Option<Self>> {
        let reader = schema::open_reader(dir).map_err(io::Error::other)?;
        let applied: Seq =
            reader.query_row("SELECT seq FROM state", [], |row| row.get(0)).map_err(io::Error::other)?;
        if applied < at_least.max(1) {
            return Ok(None);
        }
        let id = draw()?;
        let folder = dir.join(OUT).join(&id);
        fs::create_dir_all(&folder)?;
        // From here on the folder goes with it, whatever happens.
        let offer = Offer { id, at: crate::Link::default(), files: 0, octets: 0, contiguous_from: 0 };
        let mut made = Self { offer, files: Vec::new(), folder, known: Mutex::default() };
        made.fill(dir, &reader, (rate, cancel))?;
        Ok(Some(made))
    }

    fn fill(&mut self, dir: &Path, reader: &Connection, (rate, cancel): (u64, &Cancel)) -> io::Result<()> {
        let log = Engine::log_dir(dir);
        // Before the index is read, for what goes meanwhile, and once more after it, for what has come.
        self.pin(&log, cancel)?;
        reader.execute_batch("BEGIN").map_err(io::Error::other)?;
        let state = State::load(reader).map_err(io::Error::other)?;
        self.pin(&log, cancel)?;
        // It is noted before anything is removed, so all that is not among the files now lies before it.
        let first = LogReader::first(dir)?.min(state.segment);
        self.offer.contiguous_from = if first > 1 { first } else { 0 };
        self.copy_index(dir, reader, (rate, cancel))?;
        reader.execute_batch("ROLLBACK").map_err(io::Error::other)?;
        let index = Connection::open(self.folder.join(INDEX)).map_err(io::Error::other)?;
        // It need not outlive this process: no sync of all of it holds the log's up.
        index.pragma_update(None, "synchronous", "OFF").map_err(io::Error::other)?;
        // One file, complete by itself.
        index.pragma_update(None, "journal_mode", "DELETE").map_err(io::Error::other)?;
        if let Some(path) = missing(&index, &self.folder)? {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("{} has gone", path.display())));
        }
        drop(index);
        self.list(&state)
    }

    /// Further names for all files of the log.
    fn pin(&self, log: &Path, cancel: &Cancel) -> io::Result<()> {
        for name in names(log)? {
            cancel.check()?;
            match fs::hard_link(log.join(&name), self.folder.join(&name)) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                // It has gone meanwhile: whether it is missing is seen from the index.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// Page by page, in the reader's one transaction.
    fn copy_index(&self, dir: &Path, reader: &Connection, (rate, cancel): (u64, &Cancel)) -> io::Result<()> {
        let pragma = |name| reader.pragma_query_value(None, name, |row| row.get::<_, u64>(0));
        let page = pragma("page_size").map_err(io::Error::other)?.max(512);
        let octets = pragma("page_count").map_err(io::Error::other)?.saturating_mul(page);
        let (free, total) = RealVolume.measure(dir);
        if free < octets.saturating_add(kept(total)) {
            let why = format!("a copy of the index has {octets} octets, and {free} are free");
            return Err(io::Error::new(io::ErrorKind::StorageFull, why));
        }
        let mut copy = Connection::open(self.folder.join(INDEX)).map_err(io::Error::other)?;
        copy.pragma_update(None, "synchronous", "OFF").map_err(io::Error::other)?;
        let backup = Backup::new(reader, &mut copy).map_err(io::Error::other)?;
        let pages = i32::try_from(STEP / page).unwrap_or(1).max(1);
        loop {
            cancel.check()?;
            match backup.step(pages).map_err(io::Error::other)? {
                StepResult::Done => return Ok(()),
                StepResult::More => std::thread::sleep(pause(rate)),
                _ => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// What of the pinned files belongs to it: the segment that was written up to the index's last batch, none behind.
    fn list(&mut self, state: &State) -> io::Result<()> {
        for name in names(&self.folder)? {
            let octets = match segment_of(&name) {
                Some(first) if first > state.segment => continue,
                Some(first) if first == state.segment => state.end,
                _ => fs::metadata(self.folder.join(&name))?.len(),
            };
            self.files.push(PinnedFile { name, octets });
        }
        let last = segment::path(Path::new(""), state.segment);
        if !self.files.iter().any(|file| Path::new(&file.name) == last) {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the segment of the last batch has gone"));
        }
        self.offer.at = state.link;
        self.offer.files = self.files.len() as u64;
        self.offer.octets = self.files.iter().map(|file| file.octets).sum();
        Ok(())
    }

    /// What is said of it first.
    #[must_use]
    pub fn offer(&self) -> &Offer {
        &self.offer
    }

    /// Its files.
    #[must_use]
    pub fn files(&self) -> &[PinnedFile] {
        &self.files
    }

    /// Opens one of them.
    ///
    /// # Errors
    /// As the disk says.
    pub fn open(&self, file: &PinnedFile) -> io::Result<File> {
        File::open(self.folder.join(&file.name))
    }

    /// Does a file begin with so many octets of this checksum? `rate`: octets read in a second.
    ///
    /// # Errors
    /// As the disk says; when it was cancelled.
    pub fn begins_with(
        &self,
        file: &PinnedFile,
        (octets, crc): (u64, u32),
        (rate, cancel): (u64, &Cancel),
    ) -> io::Result<bool> {
        if octets > file.octets {
            return Ok(false);
        }
        if octets == file.octets
            && let Some(known) = self.known().get(&file.name)
        {
            return Ok(*known == crc);
        }
        let (opened, mut buffer) = (self.open(file)?, vec![0; 1 << 20]);
        let (mut at, mut own) = (0, 0);
        while at < octets {
            cancel.check()?;
            let left = usize::try_from(octets - at).unwrap_or(usize::MAX).min(buffer.len());
            opened.read_exact_at(&mut buffer[..left], at)?;
            own = crc32c::crc32c_append(own, &buffer[..left]);
            at += left as u64;
            if at < octets {
                std::thread::sleep(pause(rate));
            }
        }
        Ok(own == crc)
    }

    /// The whole file was read, and has this checksum.
    pub fn note(&self, file: &PinnedFile, crc: u32) {
        self.known().insert(file.name.clone(), crc);
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, u32>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// After so many octets as are read at a time, at this rate.
fn pause(rate: u64) -> Duration {
    Duration::from_secs(STEP) / u32::try_from(rate).unwrap_or(u32::MAX).max(1)
}

/// Octets that no snapshot touches.
fn kept(total: u64) -> u64 {
    let reserve = space::reserve(total);
    reserve + reserve / 4
}

fn draw() -> io::Result<String> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(io::Error::from)?;
    Ok(format!("{:032x}", u128::from_be_bytes(id)))
}
