//! What a loss of power may leave of files: the model of a file system that keeps its promises and not one octet more.
//!
//! What was synced stays. Of what was not, each change of a file and each change of a name is there or not, whatever
//! became of the others; a write also in some of its sectors or pages, or only in the length that it gave the file. A
//! sync that failed leaves its changes where programs see them and where no later sync takes them to the disk.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::Rng;

/// A file, whatever its name.
pub type Ino = usize;

/// A change of a file.
#[derive(Clone)]
pub enum Change {
    /// Octets at an offset.
    Write(u64, Arc<[u8]>),
    /// It is so long now.
    Cut(u64),
    /// It is at least so long now.
    Reserve(u64),
}

impl std::fmt::Debug for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Write(at, bytes) => write!(f, "{} octets at {at}", bytes.len()),
            Self::Cut(len) => write!(f, "cut at {len}"),
            Self::Reserve(len) => write!(f, "room up to {len}"),
        }
    }
}

/// What was asked of the disk.
#[derive(Debug, Clone)]
pub enum Op {
    /// A file is made, empty; one that was there is emptied.
    Create(PathBuf, Ino),
    /// A file is changed.
    Change(Ino, Change),
    /// A file is synced.
    Sync(Ino),
    /// A sync that failed.
    NotSynced(Ino),
    /// A name is another now.
    Rename(PathBuf, PathBuf),
    /// A name is gone.
    Remove(PathBuf),
    /// A directory is made.
    MakeDir(PathBuf),
    /// The names in a directory are synced.
    SyncDir(PathBuf),
}

/// A promise that is not kept: the same as a program that does not ask for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// Syncs of files.
    Syncs,
    /// Syncs of directories.
    DirSyncs,
}

#[derive(Debug, Clone)]
enum Name {
    Link(PathBuf, Ino),
    Rename(PathBuf, PathBuf, Ino),
    Remove(PathBuf, Ino),
    Dir(PathBuf),
    /// A directory, with all that is in it.
    Move(PathBuf, PathBuf),
}

impl Name {
    fn is_in(&self, dir: &Path) -> bool {
        let (Self::Link(path, _)
        | Self::Rename(_, path, _)
        | Self::Remove(path, _)
        | Self::Dir(path)
        | Self::Move(_, path)) = self;
        path.parent() == Some(dir)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Synced,
    Doubtful,
}

#[derive(Debug, Clone, Default)]
struct File {
    durable: Arc<Vec<u8>>,
    /// Once a sync failed: those that no sync takes to the disk any more, and those that a later sync took there, over
    /// the others.
    past: Vec<(Change, Outcome)>,
    pending: Vec<Change>,
}

/// Files and directories, by paths below the store's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Image {
    /// The directories.
    pub dirs: BTreeSet<PathBuf>,
    /// The files and their content.
    pub files: BTreeMap<PathBuf, Arc<Vec<u8>>>,
}

#[derive(Debug, Clone, Default)]
struct Names {
    dirs: BTreeSet<PathBuf>,
    files: BTreeMap<PathBuf, Ino>,
}

impl Names {
    fn apply(&mut self, change: &Name) {
        match change {
            Name::Dir(path) => _ = self.dirs.insert(path.clone()),
            Name::Link(path, ino) => _ = self.files.insert(path.clone(), *ino),
            Name::Rename(from, to, ino) => {
                self.files.retain(|path, other| path != from || other != ino);
                self.files.insert(to.clone(), *ino);
            }
            Name::Remove(path, ino) => self.files.retain(|other, there| other != path || there != ino),
            // One whose making was lost cannot have been moved.
            Name::Move(from, to) if self.dirs.contains(from) => {
                self.files.retain(|path, _| !path.starts_with(to));
                self.dirs.retain(|path| !path.starts_with(to));
                let files = std::mem::take(&mut self.files);
                self.files = files.into_iter().map(|(path, ino)| (moved(&path, from, to), ino)).collect();
                self.dirs = self.dirs.iter().map(|path| moved(path, from, to)).collect();
            }
            Name::Move(..) => {}
        }
    }
}

/// Where this lies when `from` has become `to`.
pub fn moved(path: &Path, from: &Path, to: &Path) -> PathBuf {
    match path.strip_prefix(from) {
        Ok(rest) if rest.as_os_str().is_empty() => to.to_owned(),
        Ok(rest) => to.join(rest),
        Err(_) => path.to_owned(),
    }
}

/// What becomes of a change that is not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is there.
    Kept,
    /// It is not.
    Lost,
    /// Each piece of this size on its own.
    Torn(u64, u64),
    /// As far as this many octets.
    Short(u64),
    /// The length that it gave the file, and nothing of its content.
    LengthOnly,
}

/// The model.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    files: Vec<File>,
    durable: Names,
    pending: Vec<Name>,
}

impl Disk {
    /// A disk that has this, durably.
    #[must_use]
    pub fn holding(image: &Image) -> Self {
        let mut disk = Self::default();
        disk.durable.dirs = image.dirs.clone();
        for (path, content) in &image.files {
            disk.durable.files.insert(path.clone(), disk.files.len());
            disk.files.push(File { durable: content.clone(), ..File::default() });
        }
        disk
    }

    fn names(&self) -> Names {
        let mut names = self.durable.clone();
        self.pending.iter().for_each(|change| names.apply(change));
        names
    }

    /// Names as programs see them, and the next file's number.
    #[must_use]
    pub fn open_files(&self) -> (BTreeMap<PathBuf, Ino>, Ino) {
        (self.names().files, self.files.len())
    }

    /// Something is asked of it; one promise may not be kept.
    pub fn apply(&mut self, op: &Op, broken: Option<Broken>) {
        match op {
            Op::Create(path, ino) => {
                if self.files.len() <= *ino {
                    self.files.resize_with(ino + 1, File::default);
                    self.pending.push(Name::Link(path.clone(), *ino));
                } else {
                    self.files[*ino].pending.push(Change::Cut(0));
                }
            }
            Op::Change(ino, change) => self.files[*ino].pending.push(change.clone()),
            Op::Sync(_) if broken == Some(Broken::Syncs) => {}
            Op::Sync(ino) => {
                let file = &mut self.files[*ino];
                if !file.past.is_empty() {
                    file.past.extend(file.pending.drain(..).map(|change| (change, Outcome::Synced)));
                    return;
                }
                let mut content = file.durable.as_ref().clone();
                for change in file.pending.drain(..) {
                    alter(&mut content, &change, Fate::Kept);
                }
                file.durable = Arc::new(content);
            }
            Op::NotSynced(ino) => {
                let file = &mut self.files[*ino];
                file.past.extend(file.pending.drain(..).map(|change| (change, Outcome::Doubtful)));
            }
            Op::Rename(from, to) => self.pending.push(match self.names().files.get(from) {
                Some(ino) => Name::Rename(from.clone(), to.clone(), *ino),
                None => Name::Move(from.clone(), to.clone()),
            }),
            Op::Remove(path) => {
                let ino = self.names().files[path];
                self.pending.push(Name::Remove(path.clone(), ino));
            }
            Op::MakeDir(path) => self.pending.push(Name::Dir(path.clone())),
            Op::SyncDir(_) if broken == Some(Broken::DirSyncs) => {}
            Op::SyncDir(dir) => {
                let (now, later) = self.pending.drain(..).partition(|change| change.is_in(dir));
                self.pending = later;
                let now: Vec<Name> = now;
                now.iter().for_each(|change| self.durable.apply(change));
            }
        }
    }

    /// A bit of a durable octet flips, where nothing was written since; answers whether it did.
    #[must_use]
    pub fn flip(&mut self, ino: Ino, (at, there): (u64, u8), mask: u8) -> bool {
        let Some(file) = self.files.get_mut(ino).filter(|file| file.past.is_empty()) else { return false };
        let octet = usize::try_from(at).ok().and_then(|at| Arc::make_mut(&mut file.durable).get_mut(at));
        let Some(octet) = octet.filter(|octet| **octet == there) else { return false };
        *octet ^= mask;
        true
    }

    /// All changes since the content that is durable, by file and in order.
    fn all_changes(&self) -> impl Iterator<Item = (Ino, &Change, Outcome)> {
        self.files.iter().enumerate().flat_map(|(ino, file)| {
            let past = file.past.iter().map(move |(change, outcome)| (ino, change, *outcome));
            past.chain(file.pending.iter().map(move |change| (ino, change, Outcome::Doubtful)))
        })
    }

    /// Those that may be lost.
    fn changes(&self) -> impl Iterator<Item = &Change> {
        self.all_changes().filter(|(.., outcome)| *outcome == Outcome::Doubtful).map(|(_, change, _)| change)
    }

    /// What programs see, and what a program that is killed leaves.
    #[must_use]
    pub fn seen(&self) -> Image {
        self.after(&vec![Fate::Kept; self.unsynced()])
    }

    /// Are there names that are not synced?
    #[must_use]
    pub fn has_new_names(&self) -> bool {
        !self.pending.is_empty()
    }

    /// How many changes are not synced.
    #[must_use]
    pub fn unsynced(&self) -> usize {
        self.pending.len() + self.changes().count()
    }

    /// What is there when the changes that are not synced fared like this: names first, then by file.
    #[must_use]
    pub fn after(&self, fates: &[Fate]) -> Image {
        let (of_names, of_changes) = fates.split_at(self.pending.len());
        let mut names = self.durable.clone();
        for (change, fate) in self.pending.iter().zip(of_names) {
            if *fate != Fate::Lost {
                names.apply(change);
            }
        }
        let mut contents: BTreeMap<Ino, Vec<u8>> = BTreeMap::new();
        let mut of_changes = of_changes.iter();
        for (ino, change, outcome) in self.all_changes() {
            let next = if outcome == Outcome::Doubtful { of_changes.next() } else { None };
            let fate = next.unwrap_or(&Fate::Kept);
            let content = contents.entry(ino).or_insert_with(|| self.files[ino].durable.as_ref().clone());
            alter(content, change, *fate);
        }
        let content = |ino: Ino| {
            contents.get(&ino).map_or_else(|| self.files[ino].durable.clone(), |new| Arc::new(new.clone()))
        };
        let files = names.files.iter().map(|(path, ino)| (path.clone(), content(*ino))).collect();
        Image { dirs: names.dirs, files }
    }

    /// Fates to try: all that there are of few changes being there or not, each write torn in every way, and some at
    /// random.
    #[must_use]
    pub fn fates(&self, rng: &mut Rng, extra: usize) -> Vec<Vec<Fate>> {
        let count = self.unsynced();
        let mut all = Vec::new();
        if count <= 4 {
            for mask in 0..1_usize << count {
                all.push(
                    (0..count).map(|n| if mask >> n & 1 == 1 { Fate::Kept } else { Fate::Lost }).collect(),
                );
            }
        } else {
            all.extend([vec![Fate::Kept; count], vec![Fate::Lost; count]]);
            all.extend((1..count).map(|n| {
                (0..count).map(|at| if at < n { Fate::Kept } else { Fate::Lost }).collect::<Vec<_>>()
            }));
        }
        let changes: Vec<&Change> = self.changes().collect();
        for (n, change) in changes.iter().enumerate() {
            let Change::Write(_, bytes) = change else { continue };
            for fate in tears(rng, bytes.len()) {
                let mut fates = vec![Fate::Kept; count];
                fates[self.pending.len() + n] = fate;
                all.push(fates);
            }
        }
        for _ in 0..if count == 0 { 0 } else { extra } {
            all.push(self.some_fates(rng));
        }
        all
    }

    /// Fates at random.
    #[must_use]
    pub fn some_fates(&self, rng: &mut Rng) -> Vec<Fate> {
        let changes: Vec<&Change> = self.changes().collect();
        let mut fates = Vec::new();
        for n in 0..self.unsynced() {
            let write = n.checked_sub(self.pending.len()).map(|n| changes[n]);
            let whole = *rng.pick(&[Fate::Kept, Fate::Lost]);
            fates.push(match write {
                Some(Change::Write(_, bytes)) if rng.one_in(2) => {
                    let tears = tears(rng, bytes.len());
                    *rng.pick(&tears)
                }
                _ => whole,
            });
        }
        fates
    }
}

fn tears(rng: &mut Rng, len: usize) -> [Fate; 5] {
    let mut torn = |size| Fate::Torn(size, rng.next());
    let (sectors, others, pages) = (torn(512), torn(512), torn(4096));
    let short = Fate::Short(u64::try_from(rng.below(len + 1)).unwrap());
    [sectors, others, pages, short, Fate::LengthOnly]
}

/// Changes a file as far as its fate lets it.
fn alter(content: &mut Vec<u8>, change: &Change, fate: Fate) {
    let grow = |content: &mut Vec<u8>, len: usize| {
        if content.len() < len {
            content.resize(len, 0);
        }
    };
    let size = |len: &u64| usize::try_from(*len).unwrap();
    match (change, fate) {
        (_, Fate::Lost) => {}
        (Change::Cut(len), _) => content.resize(size(len), 0),
        (Change::Reserve(len), _) => grow(content, size(len)),
        (Change::Write(at, bytes), fate) => {
            let start = size(at);
            let kept =
                if let Fate::Short(octets) = fate { size(&octets).min(bytes.len()) } else { bytes.len() };
            grow(content, start + kept);
            match fate {
                Fate::LengthOnly => {}
                Fate::Torn(piece, seed) => {
                    let piece_of = |n: usize| u64::try_from(start + n).unwrap() / piece;
                    for n in (0..kept).filter(|n| Rng::new(seed ^ piece_of(*n)).next() & 1 == 1) {
                        content[start + n] = bytes[n];
                    }
                }
                _ => content[start..start + kept].copy_from_slice(&bytes[..kept]),
            }
        }
    }
}
