//! The arbiter of a standalone node: a file under flock, its epoch raised at every start. A single copy under case c.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use mailcluster_failover::{LeaseRecord, TargetKind};
use rustix::fs::{FlockOperation, flock};

use crate::arbiter::{Advice, Arbiter, ArbiterError, Current, Route, SwapError, TargetAdvice};

/// The record, in the text form of the Lease's fields.
const RECORD: &str = "arbiter";
/// Held for the life of the process.
const LOCK: &str = "arbiter.lock";

/// The arbiter in a directory of its own (not the replica's, which must be empty to be initialised).
pub struct FileArbiter {
    dir: PathBuf,
    replica: String,
    record: Arc<Mutex<LeaseRecord>>,
    _lock: File,
}

impl FileArbiter {
    /// Locks the directory and reads its record, or begins one at epoch 0 for this replica.
    ///
    /// # Errors
    /// When another process holds the lock (`WouldBlock`), or the record cannot be read or understood.
    pub fn open(dir: &Path, replica: &str) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let lock = File::options().create(true).truncate(false).write(true).open(dir.join(LOCK))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        let record = match fs::read_to_string(dir.join(RECORD)) {
            Ok(text) => parse(&text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                LeaseRecord::initial(vec![replica.to_owned()], 1)
            }
            Err(error) => return Err(error),
        };
        let record = Arc::new(Mutex::new(record));
        Ok(Self { dir: dir.to_owned(), replica: replica.to_owned(), record, _lock: lock })
    }

    fn read(&self) -> LeaseRecord {
        self.record.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Arbiter for FileArbiter {
    async fn current(&self) -> Result<Current, ArbiterError> {
        let record = self.read();
        let version = record.epoch.to_string();
        Ok(Current::new(record, version))
    }

    async fn swap(&self, read: &Current, next: &LeaseRecord) -> Result<Current, SwapError> {
        if self.read().epoch.to_string() != read.version {
            return Err(SwapError::Conflict);
        }
        let (dir, text) = (self.dir.clone(), print(next));
        tokio::task::spawn_blocking(move || write_synced(&dir, &text))
            .await
            .map_err(|error| SwapError::Unknown(error.to_string()))?
            .map_err(|error| SwapError::Unknown(error.to_string()))?;
        next.clone_into(&mut self.record.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(Current::new(next.clone(), next.epoch.to_string()))
    }

    /// The lock is all the evidence there can be: the process that held it before has ended.
    async fn advice(&self) -> Result<Advice, ArbiterError> {
        let target = TargetAdvice {
            replica: self.replica.clone(),
            version: self.read().epoch.to_string(),
            kind: TargetKind::Initial,
        };
        Ok(Advice { target: Some(target), ..Advice::default() })
    }

    async fn publish(&self, _: &Route) -> Result<(), ArbiterError> {
        Ok(())
    }

    fn supervised(&self) -> bool {
        false
    }
}

/// Writes beside, syncs, renames, syncs the directory: the record is the old or the new one, never a part.
fn write_synced(dir: &Path, text: &str) -> io::Result<()> {
    let beside = dir.join(format!("{RECORD}.new"));
    let mut file = File::create(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, dir.join(RECORD))?;
    File::open(dir)?.sync_all()
}

fn print(record: &LeaseRecord) -> String {
    let mut text =
        format!("holder {}\nepoch {}\n", record.holder_identity().unwrap_or_default(), record.transitions());
    for (key, value) in record.annotations() {
        text.push_str(&format!("{key} {value}\n"));
    }
    text
}

fn parse(text: &str) -> io::Result<LeaseRecord> {
    let mut fields: std::collections::BTreeMap<String, String> = text
        .lines()
        .map(|line| line.split_once(' ').unwrap_or((line, "")))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let malformed = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let epoch = fields.remove("epoch").ok_or_else(|| malformed("the arbiter's file has no epoch".into()))?;
    let epoch = epoch.parse().map_err(|_| malformed(format!("not an epoch: {epoch}")))?;
    let holder = fields.remove("holder");
    LeaseRecord::parse(holder.as_deref(), Some(epoch), &fields).map_err(|error| malformed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use mailcluster_failover::Holder;

    use super::*;

    #[tokio::test]
    async fn the_record_outlives_the_process_and_the_lock_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let arbiter = FileArbiter::open(dir.path(), "aa").unwrap();
        assert!(FileArbiter::open(dir.path(), "aa").is_err(), "locked");
        let read = arbiter.current().await.unwrap();
        let mut next = read.record.clone().unwrap();
        next.epoch = 1;
        next.holder = Some(Holder { pod_uid: "standalone".into(), start_id: "s".into() });
        let written = arbiter.swap(&read, &next).await.unwrap();
        assert_eq!(arbiter.swap(&read, &next).await.err(), Some(SwapError::Conflict));
        drop(arbiter);
        let again = FileArbiter::open(dir.path(), "aa").unwrap().current().await.unwrap();
        assert_eq!((again.record, again.version), (written.record, written.version));
    }
}
