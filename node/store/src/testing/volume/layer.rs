//! The files of a volume: what the store does with them is noted, fails as it is told to, and reaches the disk when it is synced.

use std::{io, path::Path};

use super::{Syncs, Volume, first_of, written};
use crate::{
    batch::{HEADER, Header},
    disk::{Disk as FileLayer, LogFile, RealDisk},
    testing::{
        disk::{Change, Ino, Op},
        index::IndexFiles,
    },
};

/// The files of a volume, as the store opens them.
pub(super) struct Layer(pub(super) Volume);

impl Layer {
    fn wrap(&self, (ino, is_full): (Ino, bool), name: &Path, file: Box<dyn LogFile>) -> Box<dyn LogFile> {
        let is_segment = name.starts_with("log") && !name.ends_with("pack.new");
        Box::new(SimFile { volume: self.0.clone(), ino, is_segment, is_full, file })
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
        Ok(self.wrap((ino, false), &name, RealDisk.create(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        let mut inner = self.0.lock();
        inner.may_write()?;
        let name = inner.relative(path);
        if name == Path::new("index.sqlite-wal") {
            return Ok(Box::new(WalFile(self.0.clone(), RealDisk.open(path)?)));
        }
        let ino = match inner.names.get(&name).copied() {
            Some(ino) if name.parent() == Some(Path::new("snapshot-in")) => {
                inner.look_again(path, ino)?;
                ino
            }
            Some(ino) => ino,
            None => inner.found(path, &name)?,
        };
        let first = first_of(&name);
        let is_full = first.is_some() && inner.names.keys().filter_map(|name| first_of(name)).max() > first;
        Ok(self.wrap((ino, is_full), &name, RealDisk.open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.0.lock();
        inner.may_write()?;
        let (old, new) = (inner.relative(from), inner.relative(to));
        let Some(ino) = inner.names.get(&old).copied() else {
            RealDisk.rename(from, to)?;
            inner.note(&Op::Rename(old.clone(), new.clone()));
            return inner.moved(&old, &new);
        };
        inner.note(&Op::Rename(old.clone(), new.clone()));
        inner.names.remove(&old);
        if new == Path::new("index.sqlite") {
            // SQLite writes it from here on, and nothing that it has not synced is there yet.
            RealDisk.rename(from, to)?;
            let now = IndexFiles::read(&inner.dir);
            let frames = now.frames();
            inner.index = (now, frames);
            return Ok(());
        }
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
    /// Another follows: what is written into it was there once.
    is_full: bool,
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
        log.retain(|batch| self.is_full || batch.at < offset);
        if let (Some(header), true, false, None) = (batch, self.is_segment, self.is_full, &full) {
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
