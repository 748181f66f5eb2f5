//! One place of a stopped store that is not as it was, and the messages whose octets lie there.

use std::{
    collections::BTreeSet,
    fmt, fs,
    ops::Range,
    path::{Path, PathBuf},
};

use mailcluster_types::AccountId;

use super::Name;
use crate::{View, segment};

/// A sequence that looks random, and is the same each time.
pub struct Dice(pub u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit.max(1)
    }
}

/// What is done to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// This bit of an octet is another.
    Bit(u8),
    /// It ends there.
    Cut,
}

/// A place that is damaged.
pub struct Hurt {
    /// Of the store's folder.
    file: PathBuf,
    at: u64,
    length: u64,
    pub kind: Kind,
}

impl fmt::Display for Hurt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, at, length, kind } = self;
        write!(f, "{}: {kind:?} at {at} of {length}", file.display())
    }
}

impl Hurt {
    /// One place of the store in `dir`.
    pub fn draw(dir: &Path, dice: &mut Dice) -> Self {
        let all = files(dir);
        let (path, length) = &all[usize::try_from(dice.below(all.len() as u64)).unwrap()];
        let file = path.strip_prefix(dir).unwrap().to_owned();
        let at = dice.below(*length);
        let kind =
            if dice.below(5) == 0 { Kind::Cut } else { Kind::Bit(u8::try_from(dice.below(8)).unwrap()) };
        Self { file, at, length: *length, kind }
    }

    /// Does it to a copy of the store.
    pub fn inflict(&self, dir: &Path) {
        let path = dir.join(&self.file);
        match self.kind {
            Kind::Cut => fs::File::options().write(true).open(path).unwrap().set_len(self.at).unwrap(),
            Kind::Bit(bit) => {
                let mut bytes = fs::read(&path).unwrap();
                bytes[usize::try_from(self.at).unwrap()] ^= 1 << bit;
                fs::write(path, bytes).unwrap();
            }
        }
    }

    /// Is it in the index, or in what belongs to it?
    pub fn is_in_index(&self) -> bool {
        self.file.to_string_lossy().starts_with("index.sqlite")
    }

    /// The messages that may go with it: a flipped bit takes the text that it lies in, and a cut those that end behind it.
    /// Texts are read by the index, each by its own checksum, so what else lies in their batch does not matter.
    pub fn at_stake(&self, texts: &[Text]) -> BTreeSet<Name> {
        let is_hit = |text: &&Text| {
            text.file == self.file
                && match self.kind {
                    Kind::Bit(_) => text.octets.contains(&self.at),
                    Kind::Cut => text.octets.end > self.at,
                }
        };
        texts.iter().filter(is_hit).map(|text| text.name.clone()).collect()
    }
}

/// Where the text of a message lies.
pub struct Text {
    name: Name,
    file: PathBuf,
    octets: Range<u64>,
}

/// Of every message.
pub fn texts(view: &View) -> Vec<Text> {
    let mut query = view
        .connection()
        .unwrap()
        .prepare(
            "SELECT a.id, b.name, m.uid, t.segment, t.offset, t.len FROM message m JOIN mailbox b ON b.id=m.mailbox \
             JOIN account a ON a.local=b.account JOIN body t ON t.id=m.body",
        )
        .unwrap();
    let rows = query.query_map([], |r| {
        let id = AccountId::from_slice(&r.get::<_, Vec<u8>>(0)?).unwrap();
        let (number, from, length): (u64, u64, u64) = (r.get(3)?, r.get(4)?, r.get(5)?);
        let file = segment::path(Path::new("log"), number);
        Ok(Text { name: (id.0, r.get(1)?, r.get(2)?), file, octets: from..from + length })
    });
    rows.unwrap().map(Result::unwrap).collect()
}

/// What is in a store, and how long it is.
pub fn files(dir: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for folder in [dir.to_owned(), dir.join("log"), dir.join("base")] {
        let Ok(entries) = fs::read_dir(folder) else { continue };
        for entry in entries {
            let (path, meta) = entry.map(|e| (e.path(), e.metadata().unwrap())).unwrap();
            if meta.is_file() && meta.len() > 0 {
                found.push((path, meta.len()));
            }
        }
    }
    found.sort();
    found
}

/// Makes `to` a copy of `from`.
pub fn copied(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    for folder in ["log", "base"] {
        fs::create_dir_all(to.join(folder)).unwrap();
    }
    for (path, _) in files(from) {
        fs::copy(&path, to.join(path.strip_prefix(from).unwrap())).unwrap();
    }
}
