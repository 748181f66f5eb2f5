//! Records, in order, what is asked of the disk and what is told to somebody, and what the index's files hold
//! meanwhile.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use mailcluster_types::{Epoch, Seq};

use super::{
    disk::{Change, Image, Ino, Op, moved},
    index::IndexFiles,
};
use crate::{
    OpenError,
    batch::HEADER,
    disk::{Disk, LogFile, RealDisk},
    engine::Options,
    space::Volume,
    spare::Making,
};

/// What happened.
#[derive(Debug, Clone)]
pub enum Event {
    Disk(Op),
    /// Somebody was told that everything up to here is there.
    Told(Seq),
    /// The replica was made, and whoever asked for that knows.
    Ready,
    /// A promise was given.
    Promised(Epoch),
    /// A mirror begins to cut off what follows.
    Cut(Seq),
    /// Nothing that follows can be there.
    AtMost(Seq),
    /// A mirror was told that everything up to here is committed.
    Committed(Seq),
    /// The index's write-ahead log was synced.
    IndexSynced,
}

impl Event {
    pub fn is_index_synced(&self) -> bool {
        matches!(self, Self::IndexSynced)
    }
}

/// What goes wrong while it is recorded.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// The file system reserves no room: each write makes its file longer.
    pub no_room_ahead: bool,
    /// Not a fault: each next segment is made ahead, as in stores with much mail.
    pub spares: bool,
    /// This many syncs of segments later, one fails.
    pub failing_sync: Option<usize>,
    /// Syncs of marks fail: those that say, when a store is closed, that all is synced.
    pub failing_marks: bool,
    /// Acknowledges before it syncs.
    pub skip_sync: bool,
    /// Syncs of the index's write-ahead log do nothing.
    pub no_index_syncs: bool,
}

#[derive(Debug, Default)]
struct Recorded {
    names: BTreeMap<PathBuf, Ino>,
    next: Ino,
    events: Vec<Event>,
    /// One for each event, as they were before it.
    indexes: Vec<IndexFiles>,
    faults: Faults,
}

/// The recorder of one store's directory.
#[derive(Debug, Clone)]
pub struct Tape {
    dir: PathBuf,
    recorded: Arc<Mutex<Recorded>>,
}

/// A volume whose file system is taken as it is: what a loss of power leaves is for the model to say. So the tests may
/// run in memory.
pub struct AnyVolume;

impl Volume for AnyVolume {
    fn measure(&self, _: &Path) -> (u64, u64) {
        (50 << 30, 100 << 30)
    }

    fn check(&self, _: &Path) -> Result<(), OpenError> {
        Ok(())
    }
}

/// Options with small segments.
pub fn options(disk: Arc<dyn Disk>) -> Options {
    Options {
        disk,
        volume: Arc::new(AnyVolume),
        segment_size: Some(12 << 10),
        eager_rewriting: true,
        undelete: Duration::from_secs(3600),
        ..Options::default()
    }
}

/// Options that record nothing.
pub fn plain() -> Options {
    options(Arc::new(RealDisk))
}

impl Tape {
    /// Records what happens in `dir`, where these files are.
    pub fn new(dir: &Path, (names, next): (BTreeMap<PathBuf, Ino>, Ino), faults: Faults) -> Self {
        let recorded = Recorded { names, next, faults, ..Recorded::default() };
        Self { dir: dir.to_owned(), recorded: Arc::new(Mutex::new(recorded)) }
    }

    pub fn options(&self) -> Options {
        let faults = self.recorded.lock().unwrap().faults;
        let spares = if faults.spares { Making::AtOnce } else { Making::Beside };
        Options { skip_sync: faults.skip_sync, spares, ..options(Arc::new(TapeDisk(self.clone()))) }
    }

    /// Notes what happened, while nobody writes the index.
    pub fn note(&self, event: Event) {
        let index = IndexFiles::read(&self.dir);
        let mut recorded = self.recorded.lock().unwrap();
        recorded.events.push(event);
        recorded.indexes.push(index);
    }

    /// Notes an answer, while the index may be written.
    pub fn told(&self, seq: Seq) {
        let mut recorded = self.recorded.lock().unwrap();
        let last = recorded.indexes.last().cloned().unwrap_or_default();
        recorded.events.push(Event::Told(seq));
        recorded.indexes.push(last);
    }

    /// Everything so far; `indexes` has one more than there are events, as they are now.
    pub fn finish(&self) -> (Vec<Event>, Vec<IndexFiles>) {
        let recorded = self.recorded.lock().unwrap();
        let mut indexes = recorded.indexes.clone();
        indexes.push(IndexFiles::read(&self.dir));
        (recorded.events.clone(), indexes)
    }

    /// What SQLite has removed by itself.
    fn vanished(&self) {
        let names: Vec<PathBuf> = self.recorded.lock().unwrap().names.keys().cloned().collect();
        for name in names.into_iter().filter(|name| is_index(name) && !self.dir.join(name).exists()) {
            self.note(Event::Disk(Op::Remove(name.clone())));
            self.recorded.lock().unwrap().names.remove(&name);
        }
    }

    fn relative(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.dir).unwrap().to_owned()
    }

    /// A file that SQLite has written: it is there from when it is opened on.
    fn found(&self, path: &Path, name: &Path) -> io::Result<Ino> {
        let ino = {
            let mut recorded = self.recorded.lock().unwrap();
            let ino = recorded.next;
            recorded.names.insert(name.to_owned(), ino);
            recorded.next += 1;
            ino
        };
        self.note(Event::Disk(Op::Create(name.to_owned(), ino)));
        self.note(Event::Disk(Op::Change(ino, Change::Write(0, fs::read(path)?.into()))));
        Ok(ino)
    }

    fn wrap(&self, ino: Ino, is_segment: bool, file: Box<dyn LogFile>) -> Box<dyn LogFile> {
        Box::new(TapeFile { tape: self.clone(), ino, is_segment, written: 0, file })
    }
}

struct TapeDisk(Tape);

fn is_segment(path: &Path) -> bool {
    path.starts_with("log")
}

/// The index, one of its files, or that of a snapshot.
fn is_index(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("index."))
}

impl Disk for TapeDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        let name = self.0.relative(path);
        let ino = {
            let mut recorded = self.0.recorded.lock().unwrap();
            let next = recorded.next;
            let ino = *recorded.names.entry(name.clone()).or_insert(next);
            recorded.next = next.max(ino + 1);
            ino
        };
        self.0.note(Event::Disk(Op::Create(name.clone(), ino)));
        Ok(self.0.wrap(ino, is_segment(&name), RealDisk.create(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        let name = self.0.relative(path);
        let file = RealDisk.open(path)?;
        if name == Path::new("index.sqlite-wal") {
            return Ok(Box::new(WalFile(self.0.clone())));
        }
        let known = self.0.recorded.lock().unwrap().names.get(&name).copied();
        let ino = match known {
            Some(ino) => ino,
            None => self.0.found(path, &name)?,
        };
        if known.is_some() && is_index(&name) {
            // SQLite has written to it since.
            self.0.note(Event::Disk(Op::Change(ino, Change::Cut(0))));
            self.0.note(Event::Disk(Op::Change(ino, Change::Write(0, fs::read(path)?.into()))));
        }
        Ok(self.0.wrap(ino, is_segment(&name), file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.vanished();
        let (old, new) = (self.0.relative(from), self.0.relative(to));
        self.0.note(Event::Disk(Op::Rename(old.clone(), new.clone())));
        let mut recorded = self.0.recorded.lock().unwrap();
        let names = std::mem::take(&mut recorded.names);
        let (moving, mut names): (BTreeMap<_, _>, BTreeMap<_, _>) =
            names.into_iter().partition(|(name, _)| name.starts_with(&old));
        names.extend(moving.into_iter().map(|(name, ino)| (moved(&name, &old, &new), ino)));
        recorded.names = names;
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.vanished();
        let name = self.0.relative(path);
        // SQLite makes files, too, of which nobody has asked anything.
        let is_known = self.0.recorded.lock().unwrap().names.contains_key(&name);
        if is_known {
            self.0.note(Event::Disk(Op::Remove(name.clone())));
            self.0.recorded.lock().unwrap().names.remove(&name);
        }
        RealDisk.remove(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.0.note(Event::Disk(Op::MakeDir(self.0.relative(path))));
        RealDisk.create_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.0.vanished();
        self.0.note(Event::Disk(Op::SyncDir(self.0.relative(path))));
        Ok(())
    }
}

/// The index's write-ahead log, opened to be synced.
struct WalFile(Tape);

impl LogFile for WalFile {
    fn write_at(&mut self, _: u64, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync(&mut self) -> io::Result<()> {
        if !self.0.recorded.lock().unwrap().faults.no_index_syncs {
            self.0.note(Event::IndexSynced);
        }
        Ok(())
    }

    fn set_len(&mut self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn allocate(&mut self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

struct TapeFile {
    tape: Tape,
    ino: Ino,
    is_segment: bool,
    /// Octets of the last write.
    written: usize,
    file: Box<dyn LogFile>,
}

impl TapeFile {
    fn note(&self, change: Change) {
        self.tape.note(Event::Disk(Op::Change(self.ino, change)));
    }

    /// Is this the sync that fails?
    fn fails(&self) -> bool {
        let faults = &mut self.tape.recorded.lock().unwrap().faults;
        if faults.failing_marks && self.is_segment && self.written == HEADER {
            return true;
        }
        let left = faults.failing_sync.filter(|_| self.is_segment);
        if let Some(left) = left {
            faults.failing_sync = left.checked_sub(1);
        }
        left == Some(0)
    }
}

impl LogFile for TapeFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.note(Change::Write(offset, bytes.into()));
        self.written = bytes.len();
        self.file.write_at(offset, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.fails() {
            self.tape.note(Event::Disk(Op::NotSynced(self.ino)));
            return Err(io::Error::other("injected: EIO"));
        }
        self.tape.note(Event::Disk(Op::Sync(self.ino)));
        Ok(())
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.note(Change::Cut(len));
        self.file.set_len(len)
    }

    fn allocate(&mut self, len: u64) -> io::Result<()> {
        if self.tape.recorded.lock().unwrap().faults.no_room_ahead {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.note(Change::Reserve(len));
        self.file.allocate(len)
    }
}

/// Writes files where a store can be opened.
pub fn write(dir: &Path, image: &Image, index: &IndexFiles) {
    for inner in &image.dirs {
        fs::create_dir_all(dir.join(inner)).unwrap();
    }
    for (path, content) in &image.files {
        // A file whose directory was lost is lost with it.
        if dir.join(path).parent().is_some_and(Path::is_dir) {
            fs::write(dir.join(path), content.as_slice()).unwrap();
        }
    }
    index.write(dir);
}
