//! Snapshots: a replica's index at a commit, and every file of its log up to there, copied octet for octet to another
//! replica, whose own index and log they replace as one.
//!
//! On the primary [`Outgoing`] pins the log's files by further names for them in `snapshot-out/<id>/`, beside a copy of
//! the index. On the mirror [`Incoming`] writes them into `snapshot-in/`, and [`crate::Follower::install`] puts them in
//! the place of what is there: one write of the superblock is the moment from which they count.

mod incoming;
mod install;
mod outgoing;

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use mailcluster_types::Seq;
use rusqlite::Connection;

use crate::{batch::Link, schema, segment};

pub use incoming::{Incoming, Received};
pub(crate) use install::finish;
pub use outgoing::{Cancel, Outgoing, PinnedFile};

/// Where a primary keeps what it offers.
const OUT: &str = "snapshot-out";
/// Where a mirror keeps what it has of a snapshot.
const IN: &str = "snapshot-in";
/// The log that a snapshot has taken the place of, until it is removed.
const OLD_LOG: &str = "log.old";
/// The index's name in a snapshot.
pub(crate) const INDEX: &str = "index.sqlite";

/// What a primary offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Its own name: two snapshots never have the same.
    pub id: String,
    /// The last batch that its index has: all of it is committed.
    pub at: Link,
    /// How many files it has.
    pub files: u64,
    /// How many octets they have together.
    pub octets: u64,
    /// Its log has no gaps from this record on; 0: it has all of it.
    pub contiguous_from: Seq,
}

impl Offer {
    /// An index of another version is of no use to a replica.
    pub const INDEX_VERSION: u32 = schema::VERSION;

    /// Ids become part of a file's name.
    fn is_sound(&self) -> bool {
        (1..=64).contains(&self.id.len()) && self.id.bytes().all(|b| b.is_ascii_alphanumeric())
    }
}

/// May a file of a log have this name?
fn is_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    (1..=64).contains(&name.len()) && name.bytes().all(plain) && !name.starts_with('.') && !is_temporary(name)
}

/// What is still being written has no name of its own yet.
fn is_temporary(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "new")
}

/// The names of a log's files.
fn names(log: &Path) -> io::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(log)? {
        if let Ok(name) = entry?.file_name().into_string()
            && is_name(&name)
        {
            names.insert(name);
        }
    }
    Ok(names)
}

/// The first record of the segment with this name; `None`: the file is another.
fn segment_of(name: &str) -> Option<Seq> {
    name.strip_suffix(".seg")?.parse().ok()
}

/// The first file that the index of a snapshot wants, and its log has not.
fn missing(conn: &Connection, log: &Path) -> io::Result<Option<PathBuf>> {
    let mut query = conn.prepare("SELECT DISTINCT segment FROM body").map_err(io::Error::other)?;
    let wanted = query.query_map([], |row| row.get::<_, Seq>(0)).map_err(io::Error::other)?;
    for first in wanted {
        let path = segment::path(log, first.map_err(io::Error::other)?);
        if !path.try_exists()? {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

fn remove_folder(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Removes what was offered by an earlier process, and what an earlier snapshot has taken the place of. That is only room:
/// where it cannot be removed, the next opening tries again.
pub(crate) fn tidy(dir: &Path) {
    for folder in [OUT, OLD_LOG] {
        if let Err(error) = remove_folder(&dir.join(folder)) {
            tracing::warn!(%error, folder, "what is of no use any more could not be removed yet");
        }
    }
}

/// Removes what there is of a snapshot: this replica goes on with the log that it has.
pub(crate) fn forget(dir: &Path) {
    if let Err(error) = remove_folder(&dir.join(IN)) {
        tracing::warn!(%error, "what there is of a snapshot could not be removed");
    }
}
