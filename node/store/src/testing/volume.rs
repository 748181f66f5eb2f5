//! A volume for simulations: it remembers what is synced, fails as it is told to, and says what a crash leaves.
//!
//! What programs see lies in a directory (in memory, where that can be had); what is on the disk is [`Disk`]'s to say.

use std::{
    collections::{BTreeMap, HashMap},
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mailcluster_types::{Epoch, Seq};

use super::{
    Rng,
    disk::{Change, Disk, Image, Ino, Op},
    index::{IndexFiles, Reading, floors},
};
use crate::{
    batch::{HEADER, Header},
    disk::{Disk as FileLayer, LogFile, RealDisk},
    engine::Options,
    error::OpenError,
    replica::Identity,
    segment::{Found, Reader, SEGMENT_HEADER},
    space::Volume as Room,
};

/// A batch in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Its epoch.
    pub epoch: Epoch,
    /// Its first record.
    pub first: Seq,
    /// Its last record.
    pub last: Seq,
    /// The checksum of what it holds.
    pub crc: u32,
    /// Is it synced?
    pub is_synced: bool,
    at: u64,
}

/// Which syncs fail.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Syncs {
    /// None.
    #[default]
    Work,
    /// The next one of a segment.
    FailOnce,
    /// All of segments.
    Fail,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// Which syncs fail.
    pub syncs: Syncs,
    /// Nothing can be written: the volume is full.
    pub is_full: bool,
    /// Each sync takes so long.
    pub slow: Duration,
    /// Syncs are left out, and said to be done: for proofs that it is noticed.
    pub lies: bool,
}

/// How a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The process is killed: what it has written is there, synced or not.
    Process,
    /// The machine loses its power.
    Power,
}

struct Inner {
    dir: PathBuf,
    model: Disk,
    names: BTreeMap<PathBuf, Ino>,
    next: Ino,
    logs: HashMap<Ino, Vec<Written>>,
    /// Of segments that were removed: room is given back only of what is kept elsewhere.
    given_back: Vec<Written>,
    faults: Faults,
    owed: Duration,
    /// The process has ended: nothing more is written.
    is_over: bool,
    /// The index when the process began, and how much of it had to be there.
    index: (IndexFiles, usize),
    full_writes: usize,
}

/// A volume under one process; cheap to clone.
#[derive(Clone)]
pub struct Volume(Arc<Mutex<Inner>>);

impl fmt::Debug for Volume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.lock();
        f.debug_struct("Volume")
            .field("dir", &inner.dir)
            .field("faults", &inner.faults)
            .finish_non_exhaustive()
    }
}

impl Volume {
    /// An empty one.
    #[must_use]
    pub fn empty(dir: &Path) -> Self {
        Self::with(dir, Disk::default(), HashMap::new(), 0)
    }

    fn with(dir: &Path, model: Disk, logs: HashMap<Ino, Vec<Written>>, floor: usize) -> Self {
        let (names, next) = model.open_files();
        Self(Arc::new(Mutex::new(Inner {
            dir: dir.to_owned(),
            model,
            names,
            next,
            logs,
            given_back: Vec::new(),
            faults: Faults::default(),
            owed: Duration::ZERO,
            is_over: false,
            index: (IndexFiles::read(dir), floor),
            full_writes: 0,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a store wants to know, with segments of this size.
    #[must_use]
    pub fn options(&self, segment_size: u64) -> Options {
        let disk = Arc::new(Layer(self.clone()));
        Options {
            disk,
            volume: Arc::new(AnyRoom),
            segment_size: Some(segment_size),
            eager_rewriting: true,
            ..Options::default()
        }
    }

    /// What goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// What goes wrong now.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.lock().faults
    }

    /// The time that its syncs have taken since this was asked last.
    #[must_use]
    pub fn owed(&self) -> Duration {
        std::mem::take(&mut self.lock().owed)
    }

    /// Is this record in the log, synced?
    #[must_use]
    pub fn has_synced(&self, (epoch, seq): (Epoch, Seq)) -> bool {
        let has = |batch: &Written| {
            batch.is_synced && batch.epoch == epoch && (batch.first..=batch.last).contains(&seq)
        };
        self.lock().batches().any(has)
    }

    /// All batches that are synced.
    #[must_use]
    pub fn synced(&self) -> Vec<Written> {
        self.lock().batches().filter(|batch| batch.is_synced).copied().collect()
    }

    /// Where the synced log ends.
    #[must_use]
    pub fn end(&self) -> (Epoch, Seq) {
        let inner = self.lock();
        let synced = inner.logs.values().flatten().filter(|batch| batch.is_synced);
        synced.map(|batch| (batch.epoch, batch.last)).max().unwrap_or_default()
    }

    /// The process ends here: what a crash of this kind leaves, in a directory of its own. Identity says whose log it is.
    ///
    /// # Errors
    /// As the system says.
    pub fn crash(&self, how: Crash, to: &Path, identity: &Identity, rng: &mut Rng) -> io::Result<Self> {
        let mut inner = self.lock();
        inner.is_over = true;
        let now = IndexFiles::read(&inner.dir);
        let (before, floor) = inner.index.clone();
        let readings = [before, now];
        let floor = floors(&readings, |_| false, floor)[1];
        let [before, now] = &readings;
        let left = match how {
            Crash::Process => {
                lay_out(to, &inner.model.seen(), now)?;
                Self::with(to, inner.model.clone(), inner.logs.clone(), floor)
            }
            Crash::Power => {
                let image = inner.model.after(&inner.model.some_fates(rng));
                let index = Reading { now, before, floor }.left(rng);
                lay_out(to, &image, &index)?;
                let model = Disk::holding(&image);
                let logs = found(to, &model, identity)?;
                Self::with(to, model, logs, index.frames())
            }
        };
        left.lock().given_back.clone_from(&inner.given_back);
        Ok(left)
    }
}

/// Writes what is left where a store can be opened.
fn lay_out(dir: &Path, image: &Image, index: &IndexFiles) -> io::Result<()> {
    for inner in &image.dirs {
        fs::create_dir_all(dir.join(inner))?;
    }
    for (path, content) in &image.files {
        // A file whose directory was lost is lost with it.
        if dir.join(path).parent().is_some_and(Path::is_dir) {
            fs::write(dir.join(path), content.as_slice())?;
        }
    }
    index.write(dir);
    Ok(())
}

/// The batches of all segments: after a loss of power, what is there is on the disk.
fn found(dir: &Path, model: &Disk, identity: &Identity) -> io::Result<HashMap<Ino, Vec<Written>>> {
    let mut logs = HashMap::new();
    for (name, ino) in model.open_files().0 {
        let Some(first) = first_of(&name) else { continue };
        let Some(reader) = Reader::open(&dir.join("log"), first, identity)? else { continue };
        let (mut at, mut batches) = (SEGMENT_HEADER, Vec::new());
        while let Found::Batch(header, _) = reader.batch(at)? {
            if header.count > 0 {
                batches.push(written(&header, at, true));
            }
            at += header.span().max(1);
        }
        logs.insert(ino, batches);
    }
    Ok(logs)
}

fn first_of(name: &Path) -> Option<Seq> {
    name.to_str()?.strip_prefix("log/")?.strip_suffix(".seg")?.parse().ok()
}

fn written(header: &Header, at: u64, is_synced: bool) -> Written {
    let Header { epoch, seq: first, payload_crc: crc, .. } = *header;
    Written { epoch, first, last: header.last_seq(), crc, is_synced, at }
}

/// Room enough, on whatever file system: the tests may run in memory.
struct AnyRoom;

impl Room for AnyRoom {
    fn measure(&self, _: &Path) -> (u64, u64) {
        (50 << 30, 100 << 30)
    }

    fn check(&self, _: &Path) -> Result<(), OpenError> {
        Ok(())
    }
}

impl Inner {
    fn relative(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.dir).map(Path::to_owned).unwrap_or_default()
    }

    fn batches(&self) -> impl Iterator<Item = &Written> {
        self.logs.values().flatten().chain(&self.given_back)
    }

    /// A file that SQLite has written: it is there from when it is opened on.
    fn found(&mut self, path: &Path, name: &Path) -> io::Result<Ino> {
        let content = fs::read(path)?;
        let ino = self.next;
        self.next += 1;
        self.names.insert(name.to_owned(), ino);
        self.note(&Op::Create(name.to_owned(), ino));
        self.note(&Op::Change(ino, Change::Write(0, content.into())));
        Ok(ino)
    }

    fn note(&mut self, op: &Op) {
        self.model.apply(op, None);
    }

    fn may_write(&self) -> io::Result<()> {
        if self.is_over { Err(io::Error::other("the process has ended")) } else { Ok(()) }
    }

    fn has_room(&mut self) -> io::Result<()> {
        self.may_write()?;
        self.full_writes += usize::from(self.faults.is_full);
        if self.faults.is_full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

struct Layer(Volume);

impl Layer {
    fn wrap(&self, ino: Ino, name: &Path, file: Box<dyn LogFile>) -> Box<dyn LogFile> {
        let is_segment = name.starts_with("log") && !name.ends_with("pack.new");
        Box::new(SimFile { volume: self.0.clone(), ino, is_segment, file })
    }
}

impl FileLayer for Layer {
    fn create(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        let mut inner = self.0.lock();
        inner.has_room()?;
        let name = inner.relative(path);
        let next = inner.next;
        let ino = *inner.names.entry(name.clone()).or_insert(next);
        inner.next = next.max(ino + 1);
        inner.note(&Op::Create(name.clone(), ino));
        inner.logs.remove(&ino);
        Ok(self.wrap(ino, &name, RealDisk.create(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        let mut inner = self.0.lock();
        inner.may_write()?;
        let name = inner.relative(path);
        if name == Path::new("index.sqlite-wal") {
            return Ok(Box::new(WalFile(self.0.clone(), RealDisk.open(path)?)));
        }
        let ino = match inner.names.get(&name) {
            Some(ino) => *ino,
            None => inner.found(path, &name)?,
        };
        Ok(self.wrap(ino, &name, RealDisk.open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.0.lock();
        inner.may_write()?;
        let (old, new) = (inner.relative(from), inner.relative(to));
        let ino = *inner.names.get(&old).ok_or(io::ErrorKind::NotFound)?;
        inner.note(&Op::Rename(old.clone(), new.clone()));
        inner.names.remove(&old);
        if let Some(replaced) = inner.names.insert(new, ino) {
            inner.logs.remove(&replaced);
        }
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.0.lock();
        inner.may_write()?;
        let name = inner.relative(path);
        if let Some(ino) = inner.names.get(&name).copied() {
            inner.note(&Op::Remove(name.clone()));
            inner.names.remove(&name);
            let batches = inner.logs.remove(&ino).unwrap_or_default();
            if first_of(&name).is_some() {
                inner.given_back.extend(batches);
            }
        }
        RealDisk.remove(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.0.lock();
        inner.may_write()?;
        let name = inner.relative(path);
        inner.note(&Op::MakeDir(name));
        RealDisk.create_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.0.lock();
        inner.may_write()?;
        let name = inner.relative(path);
        inner.note(&Op::SyncDir(name));
        Ok(())
    }
}

/// The index's write-ahead log, opened to be synced: what it has now, no crash takes away.
struct WalFile(Volume, Box<dyn LogFile>);

impl LogFile for WalFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.1.write_at(offset, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut inner = self.0.lock();
        inner.may_write()?;
        let slow = inner.faults.slow;
        inner.owed += slow;
        let now = IndexFiles::read(&inner.dir);
        let frames = now.frames();
        inner.index = (now, frames);
        Ok(())
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.1.set_len(len)
    }

    fn allocate(&mut self, len: u64) -> io::Result<()> {
        self.1.allocate(len)
    }
}

struct SimFile {
    volume: Volume,
    ino: Ino,
    is_segment: bool,
    file: Box<dyn LogFile>,
}

impl LogFile for SimFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut inner = self.volume.lock();
        let (written_now, full) = match inner.has_room() {
            Ok(()) => (bytes, None),
            // Every other time some of it is written.
            Err(e) if e.kind() == io::ErrorKind::StorageFull && inner.full_writes.is_multiple_of(2) => {
                (&bytes[..bytes.len() / 2], Some(e))
            }
            Err(e) => return Err(e),
        };
        inner.note(&Op::Change(self.ino, Change::Write(offset, written_now.into())));
        let batch = bytes.get(..HEADER).and_then(Header::decode).filter(|header| header.count > 0);
        let log = inner.logs.entry(self.ino).or_default();
        log.retain(|batch| batch.at < offset);
        if let (Some(header), true, None) = (batch, self.is_segment, &full) {
            log.push(written(&header, offset, false));
        }
        self.file.write_at(offset, written_now)?;
        full.map_or(Ok(()), Err)
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut inner = self.volume.lock();
        inner.may_write()?;
        let faults = inner.faults;
        inner.owed += faults.slow;
        if self.is_segment && faults.syncs != Syncs::Work {
            if faults.syncs == Syncs::FailOnce {
                inner.faults.syncs = Syncs::Work;
            }
            inner.note(&Op::NotSynced(self.ino));
            return Err(io::Error::other("injected: EIO"));
        }
        if !(faults.lies && self.is_segment) {
            inner.note(&Op::Sync(self.ino));
        }
        inner.logs.entry(self.ino).or_default().iter_mut().for_each(|batch| batch.is_synced = true);
        Ok(())
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        let mut inner = self.volume.lock();
        inner.may_write()?;
        inner.note(&Op::Change(self.ino, Change::Cut(len)));
        inner.logs.entry(self.ino).or_default().retain(|batch| batch.at < len);
        self.file.set_len(len)
    }

    fn allocate(&mut self, len: u64) -> io::Result<()> {
        let mut inner = self.volume.lock();
        inner.has_room()?;
        inner.note(&Op::Change(self.ino, Change::Reserve(len)));
        self.file.allocate(len)
    }
}
