//! A snapshot takes the place of a replica's index and log: as one, whenever the process or the machine ends.
//!
//! Before the superblock says `installing`, what was there counts, and nothing of it was touched; from then on the snapshot
//! does, and whoever opens the volume finishes first what [`finish`] does. Each of its steps may have been done already.

use std::{fs::File, io, path::Path, sync::Arc};

use mailcluster_types::Epoch;

use super::{IN, INDEX, OLD_LOG, Offer, Received, forget, remove_folder, tidy};
use crate::{
    base,
    disk::Disk,
    engine::Engine,
    error::{FollowError, OpenError},
    replica::Replica,
    schema,
    standby::Follower,
    superblock::Superblock,
    volume::io_error,
};

/// Has it all that this replica has committed? Nothing at or below that is ever given up.
pub(super) fn covers(engine: &Engine, offer: &Offer) -> Result<(), FollowError> {
    let applied = engine.state.link.seq;
    if offer.at.seq < applied {
        return Err(FollowError::Committed { after: offer.at.seq, applied });
    }
    Ok(())
}

impl Follower {
    /// Puts a snapshot in the place of index and log, and opens what is there then. Whether the two logs allow that is the
    /// caller's to decide before; promise and identity stay this replica's own.
    ///
    /// Answers the replica that is here then; none, when it is to be opened anew: it is as it was, or as the snapshot, then.
    ///
    /// # Errors
    /// [`FollowError::Promised`], [`FollowError::Committed`], [`FollowError::Broken`], and as the disk says.
    pub fn install(self, stream: Epoch, received: &Received) -> (Option<Self>, Result<(), FollowError>) {
        let lock = match self.may_install(stream, received) {
            Ok(lock) => lock,
            Err(why) => return (Some(self), Err(why)),
        };
        let engine = &self.replica.engine;
        let (dir, identity, options) = (engine.dir.clone(), engine.identity.clone(), engine.options.clone());
        let mut block = engine.superblock.clone();
        drop(self);
        let switch = || {
            block.contiguous_from = received.offer.contiguous_from;
            begin(&options.disk, &dir, &mut block)?;
            finish(&options.disk, &dir, &mut block)?;
            Self::new(Replica::assemble(&dir, &identity, &options, (lock, block))?)
        };
        match switch() {
            Ok(installed) => {
                let (store, end) = (&identity.store, received.offer.at.seq);
                tracing::info!(%store, end, "the snapshot has taken the log's place");
                (Some(installed), Ok(()))
            }
            Err(error) => (None, Err(FollowError::Snapshot(error.to_string()))),
        }
    }

    /// Answers the volume's lock, which stays locked meanwhile.
    fn may_install(&self, stream: Epoch, received: &Received) -> Result<File, FollowError> {
        let engine = &self.replica.engine;
        let promise = engine.superblock.promise;
        if stream < promise {
            return Err(FollowError::Promised(promise));
        }
        if engine.broken {
            return Err(FollowError::Broken);
        }
        covers(engine, &received.offer)?;
        engine.lock.try_clone().map_err(|e| FollowError::Snapshot(e.to_string()))
    }
}

/// From here on the snapshot counts.
fn begin(disk: &Arc<dyn Disk>, dir: &Path, block: &mut Superblock) -> Result<(), OpenError> {
    disk.sync_dir(dir).map_err(|e| io_error(dir, e))?;
    block.installing = true;
    block.write(disk, dir).map_err(|e| io_error(dir, e))
}

/// Finishes what [`begin`] began.
pub(crate) fn finish(disk: &Arc<dyn Disk>, dir: &Path, block: &mut Superblock) -> Result<(), OpenError> {
    if !block.installing {
        return Ok(());
    }
    // What they say of places is of the log that was there.
    let moved =
        base::remove_all(dir, disk).and_then(|()| move_index(disk, dir)).and_then(|()| move_log(disk, dir));
    moved.map_err(|e| io_error(dir, e))?;
    if !schema::path(dir).exists() || !Engine::log_dir(dir).exists() {
        return Err(OpenError::Damaged(format!(
            "{} (a snapshot that was being put in place)",
            dir.display()
        )));
    }
    block.installing = false;
    block.write(disk, dir).map_err(|e| io_error(dir, e))?;
    forget(dir);
    tidy(dir);
    Ok(())
}

fn move_index(disk: &Arc<dyn Disk>, dir: &Path) -> io::Result<()> {
    let folder = dir.join(IN);
    let new = folder.join(INDEX);
    if new.try_exists()? {
        // The old one's write-ahead log beside the new one would be taken for its own.
        for file in schema::files(dir) {
            if file.try_exists()? {
                disk.remove(&file)?;
            }
        }
        disk.sync_dir(dir)?;
        disk.rename(&new, &schema::path(dir))?;
    }
    // Also when it was renamed by one that ended then.
    disk.sync_dir(dir)?;
    if folder.try_exists()? { disk.sync_dir(&folder) } else { Ok(()) }
}

fn move_log(disk: &Arc<dyn Disk>, dir: &Path) -> io::Result<()> {
    let (folder, log) = (dir.join(IN), Engine::log_dir(dir));
    let new = Engine::log_dir(&folder);
    if new.try_exists()? {
        if log.try_exists()? {
            remove_folder(&dir.join(OLD_LOG))?;
            disk.rename(&log, &dir.join(OLD_LOG))?;
            disk.sync_dir(dir)?;
        }
        disk.rename(&new, &log)?;
    }
    disk.sync_dir(dir)?;
    if folder.try_exists()? { disk.sync_dir(&folder) } else { Ok(()) }
}
