//! A volume for simulations: it remembers what is synced, fails as it is told to, and says what a crash leaves.
//!
//! What programs see lies in a directory (in memory, where that can be had); what is on the disk is [`Disk`]'s to say.

mod layer;

use std::{
    collections::{BTreeMap, HashMap},
    fmt, fs, io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mailcluster_types::{Epoch, Seq};

use super::{
    Rng,
    disk::{Change, Disk, Image, Ino, Op, moved},
    index::{IndexFiles, Reading, floors},
};
use crate::{
    batch::{ALIGN, HEADER, Header, Link},
    engine::Options,
    error::OpenError,
    replica::Identity,
    segment::{Found, Reader, SEGMENT_HEADER},
    space::{Volume as Room, reserve},
    superblock::Superblock,
};
use layer::Layer;

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
    /// Header and content.
    octets: u64,
    span: u64,
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
    /// There is little room, though enough for what is written.
    pub is_short: bool,
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
    /// Batches of which a bit was flipped, and the segments that they lie in.
    flipped: Vec<(PathBuf, Written)>,
    /// All before this record came with a snapshot, if one came.
    came: Option<Seq>,
    /// Snapshots that were put in place here.
    snapshots: u64,
    identity: Identity,
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
    pub fn empty(dir: &Path, identity: &Identity) -> Self {
        Self::with((dir, identity), Disk::default(), HashMap::new(), 0)
    }

    fn with(
        (dir, identity): (&Path, &Identity),
        model: Disk,
        logs: HashMap<Ino, Vec<Written>>,
        floor: usize,
    ) -> Self {
        let (names, next) = model.open_files();
        Self(Arc::new(Mutex::new(Inner {
            dir: dir.to_owned(),
            model,
            names,
            next,
            logs,
            given_back: Vec::new(),
            flipped: Vec::new(),
            came: None,
            snapshots: 0,
            identity: identity.clone(),
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
            volume: Arc::new(AnyRoom(self.clone())),
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
        let inner = self.lock();
        inner.came.is_some_and(|first| seq < first) || inner.batches().any(has)
    }

    /// All batches that are synced.
    #[must_use]
    pub fn synced(&self) -> Vec<Written> {
        // What came damaged has no checksum that is known.
        self.lock().batches().filter(|batch| batch.is_synced && batch.crc != 0).copied().collect()
    }

    /// Where the synced log ends.
    #[must_use]
    pub fn end(&self) -> (Epoch, Seq) {
        let inner = self.lock();
        let synced = inner.logs.values().flatten().filter(|batch| batch.is_synced);
        synced.map(|batch| (batch.epoch, batch.last)).max().unwrap_or_default()
    }

    /// Snapshots that were put in place here, under whatever process.
    #[must_use]
    pub fn snapshots(&self) -> u64 {
        self.lock().snapshots
    }

    /// A bit flips in a batch that is synced; answers which batch.
    #[must_use]
    pub fn flip(&self, rng: &mut Rng) -> Option<Written> {
        let mut inner = self.lock();
        let batches = inner.in_segments().filter(|(_, _, batch)| batch.is_synced);
        let all: Vec<(PathBuf, Ino, Written)> =
            batches.map(|(name, ino, batch)| (name.clone(), ino, *batch)).collect();
        let (name, ino, batch) = (!all.is_empty()).then(|| rng.pick(&all).clone())?;
        let octet = batch.at + u64::try_from(rng.below(usize::try_from(batch.octets).ok()?)).ok()?;
        let mask = 1 << rng.below(8);
        let path = inner.dir.join(&name);
        let there = read_octet(&path, octet)?;
        if !inner.model.flip(ino, (octet, there), mask) {
            return None;
        }
        let file = fs::OpenOptions::new().write(true).open(path).ok()?;
        file.write_all_at(&[there ^ mask], octet).ok()?;
        inner.flipped.push((name, batch));
        Some(batch)
    }

    /// Has any bit flipped here?
    #[must_use]
    pub fn is_hurt(&self) -> bool {
        !self.lock().flipped.is_empty()
    }

    /// Batches of which a bit was flipped: those that are damaged still, and how many are not.
    #[must_use]
    pub fn damaged(&self) -> (Vec<Written>, usize) {
        let inner = self.lock();
        let is_there = |(name, _): &&(PathBuf, Written)| inner.names.contains_key(name);
        let flipped = inner.flipped.iter().filter(is_there);
        let (whole, damaged): (Vec<_>, Vec<_>) =
            flipped.partition(|(name, batch)| inner.is_whole(name, batch));
        (damaged.into_iter().map(|(_, batch)| *batch).collect(), whole.len())
    }

    /// Does the batch that begins so lie in a segment here, as it was written?
    #[must_use]
    pub fn has_whole(&self, (epoch, first): (Epoch, Seq)) -> bool {
        let inner = self.lock();
        let is_it = |batch: &Written| batch.is_synced && (batch.epoch, batch.first) == (epoch, first);
        inner.in_segments().any(|(name, _, batch)| is_it(batch) && inner.is_whole(name, batch))
    }

    /// The process ends here: what a crash of this kind leaves, in a directory of its own. Identity says whose log it is.
    ///
    /// # Errors
    /// As the system says.
    pub fn crash(&self, how: Crash, to: &Path, rng: &mut Rng) -> io::Result<Self> {
        let mut inner = self.lock();
        inner.is_over = true;
        let identity = inner.identity.clone();
        let now = IndexFiles::read(&inner.dir);
        let (before, floor) = inner.index.clone();
        let readings = [before, now];
        let floor = floors(&readings, |_| false, floor)[1];
        let [before, now] = &readings;
        let left = match how {
            Crash::Process => {
                lay_out(to, &inner.model.seen(), now)?;
                Self::with((to, &identity), inner.model.clone(), inner.logs.clone(), floor)
            }
            Crash::Power => {
                let image = inner.model.after(&inner.model.some_fates(rng));
                let mut index = Reading { now, before, floor }.left(rng);
                // One that came with a snapshot was synced, and so was its name.
                if inner.came.is_some() && index.index.is_none() {
                    index = now.clone();
                }
                lay_out(to, &image, &index)?;
                let model = Disk::holding(&image);
                let logs = found((to, &identity), &model, &inner.flipped)?;
                Self::with((to, &identity), model, logs, index.frames())
            }
        };
        {
            let mut left = left.lock();
            left.given_back.clone_from(&inner.given_back);
            left.flipped.clone_from(&inner.flipped);
            (left.came, left.snapshots) = (inner.came, inner.snapshots);
        }
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

fn read_octet(path: &Path, at: u64) -> Option<u8> {
    let mut octet = [0];
    fs::File::open(path).ok()?.read_exact_at(&mut octet, at).ok()?;
    Some(octet[0])
}

/// The batches of all segments: after a loss of power, what is there is on the disk. Those of which a bit was flipped were
/// synced, too.
fn found(
    (dir, identity): (&Path, &Identity),
    model: &Disk,
    flipped: &[(PathBuf, Written)],
) -> io::Result<HashMap<Ino, Vec<Written>>> {
    let mut logs = HashMap::new();
    for (name, ino) in model.open_files().0 {
        let Some(first) = first_of(&name) else { continue };
        let Some(reader) = Reader::open(&dir.join("log"), first, identity)? else { continue };
        let (mut at, mut batches) = (SEGMENT_HEADER, Vec::new());
        loop {
            let damaged = |(file, batch): &&(PathBuf, Written)| *file == name && batch.at == at;
            let batch = match reader.batch(at)? {
                Found::Batch(header, _) => written(&header, at, true),
                _ => match flipped.iter().find(damaged) {
                    Some((_, batch)) => *batch,
                    None => break,
                },
            };
            if batch.last >= batch.first {
                batches.push(batch);
            }
            at += batch.span.max(1);
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
    let octets = HEADER as u64 + u64::from(header.length);
    Written { epoch, first, last: header.last_seq(), crc, is_synced, at, octets, span: header.span() }
}

/// Room enough, on whatever file system, where it is not said to be short: the tests may run in memory.
struct AnyRoom(Volume);

impl Room for AnyRoom {
    fn measure(&self, _: &Path) -> (u64, u64) {
        let total = 100 << 30;
        if self.0.faults().is_short { (reserve(total) / 2 * 3, total) } else { (total / 2, total) }
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

    /// Batches that lie in segments, and where.
    fn in_segments(&self) -> impl Iterator<Item = (&PathBuf, Ino, &Written)> {
        let segments = self.names.iter().filter(|(name, _)| first_of(name).is_some());
        segments.flat_map(|(name, ino)| {
            self.logs.get(ino).into_iter().flatten().map(move |batch| (name, *ino, batch))
        })
    }

    /// Does the batch read as it was written?
    fn is_whole(&self, name: &Path, batch: &Written) -> bool {
        let Some(first) = first_of(name) else { return false };
        let Ok(Some(reader)) = Reader::open(&self.dir.join("log"), first, &self.identity) else {
            return false;
        };
        let is_it = |header: &Header| {
            (header.epoch, header.seq, header.payload_crc) == (batch.epoch, batch.first, batch.crc)
        };
        matches!(reader.batch(batch.at), Ok(Found::Batch(header, _)) if is_it(&header))
    }

    /// A directory has another name. The log that came with a snapshot is the log from then on.
    fn moved(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.names.retain(|name, _| !name.starts_with(to));
        let names = std::mem::take(&mut self.names);
        self.names = names.into_iter().map(|(name, ino)| (moved(&name, from, to), ino)).collect();
        if to == Path::new("log") {
            self.flipped = self.damage_that_came()?;
            self.logs = found((&self.dir, &self.identity), &self.model, &self.flipped)?;
            self.came = Some(Superblock::read(&self.dir).map_err(io::Error::other)?.contiguous_from);
            self.snapshots += 1;
        }
        Ok(())
    }

    /// A log that came with a snapshot is as damaged as the one that it was copied from.
    fn damage_that_came(&self) -> io::Result<Vec<(PathBuf, Written)>> {
        let mut damage = Vec::new();
        let names: Vec<&PathBuf> = self.names.keys().filter(|name| first_of(name).is_some()).collect();
        for (n, name) in names.iter().enumerate() {
            let Some(segment) = first_of(name) else { continue };
            let Some(reader) = Reader::open(&self.dir.join("log"), segment, &self.identity)? else {
                continue;
            };
            let next = names.get(n + 1).and_then(|next| first_of(next));
            let (mut at, mut link) = (SEGMENT_HEADER, Link { seq: segment - 1, ..Link::default() });
            loop {
                if let Found::Batch(header, _) = reader.batch(at)? {
                    link = if header.count > 0 { header.link() } else { link };
                    at += header.span().max(1);
                    continue;
                }
                let behind = reader.find(at + ALIGN as u64, |_| true)?;
                let header = behind.map(|behind| reader.header(behind)).transpose()?.flatten();
                let (end, last) = match (behind, header, next) {
                    (Some(behind), Some(header), _) => (behind, header.prev),
                    (_, _, Some(next)) if next > link.seq + 1 => {
                        (reader.length()?, Link { seq: next - 1, ..link })
                    }
                    _ => break,
                };
                let (first, span) = (link.seq + 1, (end - at).max(1));
                let (epoch, last_seq) = (last.epoch, last.seq);
                let gap =
                    Written { epoch, first, last: last_seq, crc: 0, is_synced: true, at, octets: span, span };
                damage.push(((*name).clone(), gap));
                (at, link) = (end, last);
            }
        }
        Ok(damage)
    }

    /// SQLite has written into a file since it was opened last.
    fn look_again(&mut self, path: &Path, ino: Ino) -> io::Result<()> {
        let content = fs::read(path)?;
        self.note(&Op::Change(ino, Change::Cut(0)));
        self.note(&Op::Change(ino, Change::Write(0, content.into())));
        Ok(())
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
