//! A snapshot as its mirror takes it: file by file, into a folder of its own, beside the log that it may replace.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use mailcluster_types::Epoch;
use rusqlite::Connection;

use super::{IN, INDEX, Offer, forget, install, is_name, missing, names, segment_of};
use crate::{
    disk::{Disk, LogFile},
    engine::{Engine, is_full},
    error::FollowError,
    model::EpochMark,
    schema::{self, State},
    segment::{Found, Reader},
    space::Space,
    standby::Follower,
};

/// So much is written before it is synced: what a sync has to write at once delays other replicas on the same disk.
const SYNC: u64 = 16 << 20;
/// So much of what is there is read before anybody is told how far that has come.
const CHECK: u64 = 64 << 20;

/// A snapshot of which some is here.
pub struct Incoming {
    folder: PathBuf,
    disk: Arc<dyn Disk>,
    space: Arc<Space>,
    offer: Offer,
    /// Octets of whole files.
    whole: u64,
    names: BTreeSet<String>,
    current: Option<Current>,
}

/// The file that is under way.
struct Current {
    name: String,
    octets: u64,
    file: Box<dyn LogFile>,
    /// What of it is here, and its checksum.
    at: u64,
    crc: u32,
    /// What was here before, as long as that has not been read.
    unread: Option<File>,
    unsynced: u64,
}

/// A snapshot that is here as a whole, synced.
pub struct Received {
    pub(super) offer: Offer,
    /// The epochs of its log.
    pub epochs: Vec<EpochMark>,
}

impl Received {
    /// Its last record.
    #[must_use]
    pub fn end(&self) -> (Epoch, mailcluster_types::Seq) {
        (self.offer.at.epoch, self.offer.at.seq)
    }
}

/// A snapshot is not what it should be.
fn unfit(why: impl Into<String>) -> FollowError {
    FollowError::Snapshot(why.into())
}

fn failed(what: &str, error: &io::Error) -> FollowError {
    if is_full(error) { FollowError::Full } else { unfit(format!("{what}: {error}")) }
}

impl Follower {
    /// Begins to take a snapshot from a primary of epoch `stream`, or goes on with it. Nothing of what is here is touched.
    ///
    /// # Errors
    /// [`FollowError::Promised`] when another was promised, [`FollowError::Committed`] when this replica has committed
    /// more, [`FollowError::NoRoom`], and as the disk says.
    pub fn receive(&self, stream: Epoch, offer: Offer) -> Result<Incoming, FollowError> {
        let engine = &self.replica.engine;
        let promise = engine.superblock.promise;
        if stream < promise || offer.at.epoch > stream {
            return Err(FollowError::Promised(promise));
        }
        install::covers(engine, &offer)?;
        if !offer.is_sound() {
            return Err(unfit("it has no proper name"));
        }
        let (folder, disk, space) = (engine.dir.join(IN), engine.options.disk.clone(), engine.space.clone());
        let mut here = tidied(&disk, &folder, &offer)?;
        if here > 0 && !space.has_room(offer.octets.saturating_sub(here)) {
            // It may be another one's, and then it is what takes this one's room.
            forget(&engine.dir);
            here = tidied(&disk, &folder, &offer)?;
        }
        has_room(&space, offer.octets.saturating_sub(here))?;
        tracing::info!(id = offer.id, octets = offer.octets, here, "taking a snapshot of the store");
        Ok(Incoming { folder, disk, space, offer, whole: 0, names: BTreeSet::new(), current: None })
    }
}

/// What is kept free on the volume stays free.
fn has_room(space: &Space, octets: u64) -> Result<(), FollowError> {
    if octets == 0 || space.has_room(octets) {
        return Ok(());
    }
    Err(FollowError::NoRoom { octets, free: space.measure().0 })
}

/// Makes the folder, and removes the indexes of other snapshots; answers how many octets of this one may be here.
fn tidied(disk: &Arc<dyn Disk>, folder: &Path, offer: &Offer) -> Result<u64, FollowError> {
    let made = disk.create_dir(folder).and_then(|()| disk.create_dir(&Engine::log_dir(folder)));
    made.map_err(|e| failed("its folder cannot be made", &e))?;
    without_others(folder, offer).map_err(|e| failed("its folder cannot be read", &e))
}

fn without_others(folder: &Path, offer: &Offer) -> io::Result<u64> {
    let mut here = 0;
    for entry in fs::read_dir(folder)?.chain(fs::read_dir(Engine::log_dir(folder))?) {
        let entry = entry?;
        if !entry.file_type()?.is_file() {
            continue;
        }
        let is_index = entry.path().parent() == Some(folder);
        if is_index && entry.path() != index(folder, offer) {
            fs::remove_file(entry.path())?;
        } else {
            here += entry.metadata()?.len();
        }
    }
    Ok(here)
}

/// An index is of use to its own snapshot alone; the log's files are to others, too.
fn index(folder: &Path, offer: &Offer) -> PathBuf {
    folder.join(format!("index.{}", offer.id))
}

impl Incoming {
    /// How many octets are here, of how many.
    #[must_use]
    pub fn progress(&self) -> (u64, u64) {
        (self.whole + self.current.as_ref().map_or(0, |file| file.at), self.offer.octets)
    }

    /// The next file. What is here of it is to be read by [`Self::check`].
    ///
    /// # Errors
    /// When it cannot be one of the snapshot's, and as the disk says.
    pub fn begin(&mut self, name: String, octets: u64) -> Result<(), FollowError> {
        let fits = self.whole.saturating_add(octets) <= self.offer.octets
            && (self.names.len() as u64) < self.offer.files;
        if self.current.is_some() || !fits || !is_name(&name) || self.names.contains(&name) {
            return Err(unfit("a file is out of place"));
        }
        let path = self.path(&name);
        // What was here from the start may have been of other use, or others write to this volume, too.
        let here = fs::metadata(&path).map_or(0, |found| found.len());
        has_room(&self.space, octets.saturating_sub(here))?;
        let opened = self.open(&path, octets);
        let (file, unread) = opened.map_err(|e| failed("a file cannot be written", &e))?;
        self.current = Some(Current { name, octets, file, at: 0, crc: 0, unread, unsynced: 0 });
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        match name {
            INDEX => index(&self.folder, &self.offer),
            name => Engine::log_dir(&self.folder).join(name),
        }
    }

    fn open(&self, path: &Path, octets: u64) -> io::Result<(Box<dyn LogFile>, Option<File>)> {
        match fs::metadata(path) {
            // Of no use is what is longer.
            Ok(found) if found.len() <= octets => Ok((self.disk.open(path)?, Some(File::open(path)?))),
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok((self.disk.create(path)?, None)),
        }
    }

    /// Reads some of what is here of the file: how much that is, and its checksum. `None`: there is more to read.
    ///
    /// # Errors
    /// As the disk says.
    pub fn check(&mut self) -> Result<Option<(u64, u32)>, FollowError> {
        let Some(current) = &mut self.current else { return Err(unfit("a file is out of place")) };
        let Some(file) = &mut current.unread else { return Ok(Some((current.at, current.crc))) };
        let (mut buffer, mut read) = (vec![0; 1 << 20], 0);
        while read < CHECK {
            let got = file.read(&mut buffer).map_err(|e| failed("a file cannot be read", &e))?;
            if got == 0 {
                current.unread = None;
                // After a power cut it may be here in memory alone, or never have been synced.
                current.unsynced = current.at;
                return Ok(Some((current.at, current.crc)));
            }
            current.crc = crc32c::crc32c_append(current.crc, &buffer[..got]);
            current.at += got as u64;
            read += got as u64;
        }
        Ok(None)
    }

    /// Some of the file: what comes next, or its beginning once more.
    ///
    /// # Errors
    /// [`FollowError::Damaged`] when it is not what its sender says, and as the disk says.
    pub fn write(&mut self, offset: u64, piece: &Bytes, crc: u32) -> Result<(), FollowError> {
        let Some(current) = &mut self.current else { return Err(unfit("a file is out of place")) };
        if crc32c::crc32c(piece) != crc {
            return Err(FollowError::Damaged);
        }
        if current.unread.is_some() || piece.is_empty() || (offset != 0 && offset != current.at) {
            return Err(unfit("a piece is out of place"));
        }
        let octets = piece.len() as u64;
        if offset.saturating_add(octets) > current.octets {
            return Err(unfit("a file is longer than was said"));
        }
        let written = match offset == 0 && current.at > 0 {
            true => {
                (current.at, current.crc, current.unsynced) = (0, 0, 0);
                current.file.set_len(0).and_then(|()| current.file.write_at(0, piece))
            }
            false => current.file.write_at(offset, piece),
        };
        written.map_err(|e| failed("a file cannot be written", &e))?;
        current.crc = crc32c::crc32c_append(current.crc, piece);
        current.at += octets;
        current.unsynced += octets;
        if current.unsynced >= SYNC { self.sync() } else { Ok(()) }
    }

    /// What could not be synced is forgotten: a later sync that succeeds says nothing of it.
    fn sync(&mut self) -> Result<(), FollowError> {
        let Some(current) = &mut self.current else { return Ok(()) };
        current.unsynced = 0;
        let Err(error) = current.file.sync() else { return Ok(()) };
        self.drop_current()?;
        Err(failed("a file cannot be synced", &error))
    }

    fn drop_current(&mut self) -> Result<(), FollowError> {
        let Some(Current { name, .. }) = self.current.take() else { return Ok(()) };
        let removed = self.disk.remove(&self.path(&name));
        removed.map_err(|e| failed("a file cannot be removed", &e))
    }

    /// The file is here, as a whole, and its sender says that this is its checksum.
    ///
    /// # Errors
    /// [`FollowError::Damaged`] when it has another: nothing of it is kept.
    pub fn end(&mut self, crc: u32) -> Result<(), FollowError> {
        let Some(current) = &self.current else { return Err(unfit("a file is out of place")) };
        if current.at != current.octets || current.crc != crc {
            self.drop_current()?;
            return Err(FollowError::Damaged);
        }
        self.sync()?;
        if let Some(current) = self.current.take() {
            self.whole += current.octets;
            self.names.insert(current.name);
        }
        Ok(())
    }

    /// All files are here: makes them this replica's own, durably, and sees whether they are what was offered.
    ///
    /// # Errors
    /// When something is missing or does not fit together, and as the disk says.
    pub fn complete(self, follower: &Follower) -> Result<Received, FollowError> {
        let is_whole = self.whole == self.offer.octets && self.names.len() as u64 == self.offer.files;
        if self.current.is_some() || !is_whole || !self.names.contains(INDEX) {
            return Err(unfit("some of it is missing"));
        }
        // Before anything is looked at: what another snapshot has left must not stand for what this one lacks.
        self.remove_others().map_err(|e| failed("what is of another snapshot cannot be removed", &e))?;
        let epochs = self.adopt(follower)?;
        let path = index(&self.folder, &self.offer);
        self.make_durable(&path).map_err(|e| failed("it cannot be synced", &e))?;
        Ok(Received { offer: self.offer, epochs })
    }

    fn remove_others(&self) -> io::Result<()> {
        let log = Engine::log_dir(&self.folder);
        for name in names(&log)?.difference(&self.names) {
            self.disk.remove(&log.join(name))?;
        }
        Ok(())
    }

    /// Puts this replica's id into the index; answers its epochs.
    fn adopt(&self, follower: &Follower) -> Result<Vec<EpochMark>, FollowError> {
        let identity = &follower.replica.engine.identity;
        let sql = |e: rusqlite::Error| unfit(format!("its index cannot be used: {e}"));
        let conn = Connection::open(index(&self.folder, &self.offer)).map_err(sql)?;
        let ids = (&identity.cluster.to_bytes()[..], &identity.replica.to_bytes()[..]);
        schema::adopt(&conn, ids).map_err(sql)?;
        let state = State::load(&conn).map_err(sql)?;
        let log = Engine::log_dir(&self.folder);
        if state.link != self.offer.at {
            return Err(unfit("its index ends elsewhere than was said"));
        }
        let reading = |e: io::Error| failed("its log cannot be read", &e);
        let last = Reader::open(&log, state.segment, identity).map_err(reading)?;
        let found = last.map(|reader| reader.batch(state.start)).transpose().map_err(reading)?;
        if !matches!(found, Some(Found::Batch(header, _)) if header.link() == state.link) {
            return Err(unfit("its log has not what its index has"));
        }
        if let Some(path) = missing(&conn, &log).map_err(reading)? {
            return Err(unfit(format!("{} is missing", path.display())));
        }
        let mut segments = self.names.iter().filter_map(|name| segment_of(name));
        if segments.clone().any(|first| first > state.segment) {
            return Err(unfit("its log goes on behind its index"));
        }
        if !segments.any(|first| first == self.offer.contiguous_from.max(1)) {
            return Err(unfit("its log begins elsewhere than was said"));
        }
        schema::epochs(&conn).map_err(sql)
    }

    /// Each file was synced when it ended; now their names, the index under the one that it is found by.
    fn make_durable(&self, index: &Path) -> io::Result<()> {
        let log = Engine::log_dir(&self.folder);
        self.disk.open(index)?.sync()?;
        self.disk.sync_dir(&log)?;
        self.disk.rename(index, &self.folder.join(INDEX))?;
        self.disk.sync_dir(&self.folder)
    }
}
