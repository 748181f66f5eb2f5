//! What a loss of power may leave of the index, whose files SQLite writes itself.
//!
//! What is relied on (sqlite.org/wal.html, sqlite.org/walformat.html, `synchronous=NORMAL`):
//! - A frame of the write-ahead log counts only behind frames that are whole: each has a checksum over all before it. So
//!   whatever is left of frames that were not synced, what SQLite reads is what it was after some commit.
//! - A checkpoint syncs the write-ahead log before it writes to the index, and the index before frames are written over.
//!   So pages of the index may be torn as long as the write-ahead log has them all; and when frames of a new generation
//!   are seen (other salts), the index is whole.
//! - The shared memory file is made anew by whoever opens the index first: its content never matters.
//!
//! The index is read between two commits, while the thread that commits waits: never in the middle of one.

use std::{fs, path::Path, sync::Arc};

use super::Rng;

const HEADER: usize = 32;
const FRAME: usize = 24;

/// The index's files, without the shared memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct IndexFiles {
    /// The index itself.
    pub index: Option<Arc<Vec<u8>>>,
    /// Its write-ahead log.
    pub wal: Option<Arc<Vec<u8>>>,
    /// What is in the shared memory's file, if it is there.
    pub shared: Option<u64>,
}

impl IndexFiles {
    /// The index first: what a checkpoint has meanwhile written into it is in the write-ahead log.
    #[must_use]
    pub fn read(dir: &Path) -> Self {
        let read = |name: &str| fs::read(dir.join(name)).ok().map(Arc::new);
        let index = read("index.sqlite");
        Self { index, wal: read("index.sqlite-wal"), shared: None }
    }

    /// Writes them where an index can be opened.
    pub fn write(&self, dir: &Path) {
        let put = |name: &str, content: &[u8]| fs::write(dir.join(name), content).unwrap();
        if let Some(index) = &self.index {
            put("index.sqlite", index);
        }
        if let Some(wal) = &self.wal {
            put("index.sqlite-wal", wal);
        }
        if let Some(seed) = self.shared {
            let mut rng = Rng::new(seed);
            let junk: Vec<u8> = (0..4096).flat_map(|_| rng.next().to_le_bytes()).collect();
            put("index.sqlite-shm", &junk);
        }
    }

    fn wal(&self) -> &[u8] {
        self.wal.as_ref().map_or(&[], |wal| wal.as_slice())
    }

    fn salts(&self) -> Option<&[u8]> {
        self.wal().get(16..24)
    }

    fn frame(&self) -> usize {
        let size = self.wal().get(8..12).map_or(0, |b| u32::from_be_bytes(b.try_into().unwrap()));
        FRAME + usize::try_from(size).unwrap()
    }

    /// Frames of the newest generation.
    #[must_use]
    pub fn frames(&self) -> usize {
        let Some(salts) = self.salts() else { return 0 };
        let frames = self.wal()[HEADER..].chunks_exact(self.frame());
        frames.take_while(|frame| &frame[8..16] == salts).count()
    }

    /// The write-ahead log's octets up to the end of this frame.
    fn end(&self, frames: usize) -> usize {
        HEADER + frames * self.frame()
    }

    fn with_wal(&self, wal: Vec<u8>) -> Self {
        Self { wal: Some(Arc::new(wal)), ..self.clone() }
    }
}

/// For each reading, how many frames of its write-ahead log must be there, as the index may have their pages already, or
/// because they were synced; `first` is that of the first reading. Was the write-ahead log synced between this reading and the
/// one before it? `was_synced` says so.
#[must_use]
pub fn floors(readings: &[IndexFiles], was_synced: impl Fn(usize) -> bool, first: usize) -> Vec<usize> {
    let mut floors = Vec::with_capacity(readings.len());
    let mut floor = first;
    for (n, now) in readings.iter().enumerate() {
        let before = n.checked_sub(1).map(|n| &readings[n]);
        if let Some(before) = before.filter(|_| was_synced(n)) {
            floor = before.frames();
        }
        floor = match before {
            _ if now.wal.is_none() => 0,
            None => floor.min(now.frames()),
            Some(before) if before.index == now.index && before.wal.is_none() => 0,
            // Nothing was written to the index since, so nobody can rely on frames that came since.
            Some(before) if before.index == now.index && before.salts() == now.salts() => floor,
            Some(_) => now.frames(),
        };
        floors.push(floor);
    }
    floors
}

/// A reading, and how many frames of it must be there.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    /// The index.
    pub now: &'a IndexFiles,
    /// The reading before.
    pub before: &'a IndexFiles,
    /// Frames that must be there.
    pub floor: usize,
}

impl Reading<'_> {
    /// What may be left: all of it, an older state, or torn files.
    #[must_use]
    pub fn left(&self, rng: &mut Rng) -> IndexFiles {
        let mut left = match rng.below(8) {
            0 | 1 => self.now.clone(),
            2 => IndexFiles::default(),
            // Nobody synced it, nor its name.
            3 if self.floor == 0 && self.now.wal.is_some() => self.without_wal(rng),
            4 => self.torn_index(rng),
            5 => self.cut(self.floor, rng),
            _ => {
                let frames = self.floor + rng.below(self.now.frames() - self.floor + 1);
                self.cut(frames, rng)
            }
        };
        left.shared = rng.one_in(4).then(|| rng.next()).filter(|_| left.index.is_some());
        left
    }

    fn without_wal(&self, rng: &mut Rng) -> IndexFiles {
        IndexFiles { wal: rng.one_in(2).then(Arc::default), ..self.now.clone() }
    }

    /// The write-ahead log as far as this frame; what follows is not there, zeros, junk, or sectors of what was written.
    fn cut(&self, frames: usize, rng: &mut Rng) -> IndexFiles {
        if self.now.wal.is_none() {
            return self.now.clone();
        }
        let mut wal = self.now.wal().to_vec();
        let end = self.now.end(frames).min(wal.len());
        match rng.below(4) {
            0 => wal.truncate(end),
            1 => wal[end..].fill(0),
            2 => wal.truncate(end + rng.below(wal.len() - end + 1)),
            _ => {
                for sector in wal[end..].chunks_mut(512) {
                    if rng.one_in(2) {
                        sector.fill(0);
                    }
                }
            }
        }
        self.now.with_wal(wal)
    }

    /// A checkpoint was under way: some of what it writes is there.
    fn torn_index(&self, rng: &mut Rng) -> IndexFiles {
        let (Some(old), Some(new)) = (&self.before.index, &self.now.index) else { return self.now.clone() };
        if self.before.salts() != self.now.salts() || self.now.wal.is_none() || old == new {
            return self.now.clone();
        }
        let mut torn = new.as_ref().clone();
        let piece = *rng.pick(&[512, 4096]);
        for (new, old) in torn.chunks_mut(piece).zip(old.chunks(piece)) {
            if rng.one_in(2) && new.len() == old.len() {
                new.copy_from_slice(old);
            }
        }
        if old.len() < torn.len() && rng.one_in(2) {
            torn.truncate(old.len());
        }
        IndexFiles { index: Some(Arc::new(torn)), ..self.now.clone() }
    }
}
