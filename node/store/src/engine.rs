//! The engine: one batch of changes from request to durable and visible.
//!
//! In this order: plan and apply each change inside one index transaction, write all records as one batch, sync it,
//! wait for the mirrors that must have it, commit the index. Whatever fails before the write leaves nothing behind;
//! whatever fails after it leaves the outcome unknown and stops the store.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use mailcluster_types::{Epoch, Seq};
use rusqlite::{Connection, config::DbConfig};

use crate::{
    apply::{self, Apply, ApplyError, Changed, Hot},
    batch::{ALIGN, HEADER, Header},
    disk::{Disk, RealDisk},
    error::Refusal,
    files::Place,
    machine,
    mirrors::Mirrors,
    plan::{self, Op, Plan, PlanError, Planned, Value},
    record::{self, Record},
    repair::Repairs,
    replay::Placed,
    replica::Identity,
    schema::State,
    segment::Writer,
    space::{RealVolume, Space, Volume},
    spare::Making,
    stats::Stats,
    superblock::Superblock,
    tail::Tail,
};

/// From so many octets of a batch on, starting a thread costs less than what it does beside.
const WORTH_A_THREAD: usize = 24 << 10;
/// Buffers larger than this are given back after use.
const KEEP_BUFFER: usize = 32 << 20;

/// What lies under a store: the machine's own disk, unless a test has put another there (`testing`).
#[derive(Clone)]
pub struct Options {
    /// Under the log.
    pub(crate) disk: Arc<dyn Disk>,
    /// Says how much room there is.
    pub(crate) volume: Arc<dyn Volume>,
    /// Overrides the segment size.
    pub(crate) segment_size: Option<u64>,
    /// Leaves the sync out: for the tests that must then fail.
    pub(crate) skip_sync: bool,
    /// How segments are made ahead.
    pub(crate) spares: Making,
    /// Gives back the room of small stores, too, which otherwise is not worth it.
    pub(crate) eager_rewriting: bool,
    /// For how long what was rewritten waits for views of before to end; else a later round removes it.
    pub(crate) patience: Duration,
    /// For how long what is expunged can be brought back; zero: it is gone.
    pub(crate) undelete: Duration,
}

/// For how long views are waited for.
const PATIENCE: Duration = Duration::from_secs(60);

impl Default for Options {
    fn default() -> Self {
        Self {
            disk: Arc::new(RealDisk),
            volume: Arc::new(RealVolume),
            segment_size: None,
            skip_sync: false,
            spares: Making::default(),
            eager_rewriting: false,
            patience: PATIENCE,
            undelete: Duration::ZERO,
        }
    }
}

impl Options {
    /// What is expunged can be brought back for so long; zero: it is gone.
    #[must_use]
    pub fn with_undelete(self, retention: Duration) -> Self {
        Self { undelete: retention, ..self }
    }
}

/// An open replica's parts.
pub struct Engine {
    pub dir: PathBuf,
    pub identity: Identity,
    pub superblock: Superblock,
    pub options: Options,
    pub log: Writer,
    pub conn: Connection,
    /// Of the last committed batch: what the index has.
    pub state: State,
    /// What follows it in the log and is not known to be committed.
    pub tail: Tail,
    pub mirrors: Arc<dyn Mirrors>,
    pub space: Arc<Space>,
    pub stats: Arc<Stats>,
    pub repairs: Arc<Repairs>,
    pub hot: Hot,
    /// The log or the index failed: nothing more is written.
    pub broken: bool,
    /// Somebody else may have the volume: it is closed as it is.
    pub untouchable: bool,
    pub buffer: Vec<u8>,
    /// Held while open; the lock goes with it.
    pub lock: File,
}

/// One change's answer and the sequence that it rests on, or its refusal.
pub type Outcome = Result<(Value, Seq), Refusal>;

/// Why a whole batch failed.
#[derive(Debug)]
pub enum BatchError {
    /// Nothing was appended: the volume is full.
    Full,
    /// Nothing was appended: a change cannot be planned or applied.
    Index(String),
    /// It may or may not be on disk, or the log cannot be trusted: the replica stops.
    Broken,
    /// It is synced here, and this replica is no longer the primary: whether it stays is for others to say.
    Unconfirmed,
}

pub fn is_full(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl Engine {
    /// Makes `ops` durable and visible, or refuses them one by one.
    pub async fn run(&mut self, ops: &[Op], epoch: Epoch) -> Result<(Vec<Outcome>, Changed), BatchError> {
        if self.broken {
            return Err(BatchError::Broken);
        }
        if !self.tail.is_empty() {
            return Err(BatchError::Unconfirmed);
        }
        self.roll(ops)?;
        self.sql("BEGIN IMMEDIATE").map_err(|e| BatchError::Index(e.to_string()))?;
        let saved = self.state;
        let mut changed = Changed::default();
        let planned = self.plan_all(ops, epoch, &mut changed);
        let outcomes = match planned {
            Ok(outcomes) if self.state.link.seq == saved.link.seq => {
                self.undo(saved)?;
                return Ok((outcomes, Changed::default()));
            }
            Ok(outcomes) => outcomes,
            Err(e) => {
                self.undo(saved)?;
                return Err(match e {
                    e if e.is_full() => BatchError::Full,
                    // Opened again, the index is made anew from the log.
                    e if e.is_fatal() => self.broke(&format!("the index failed: {e}")),
                    e => BatchError::Index(e.to_string()),
                });
            }
        };
        let header = self.seal(&saved, epoch);
        if let Err(e) = self.state.save(&self.conn) {
            self.undo(saved)?;
            return Err(BatchError::Index(e.to_string()));
        }
        let began = Instant::now();
        self.append(saved)?;
        let end = (epoch, self.state.link.seq);
        machine::catch_up().await;
        let mirrors = self.mirrors.clone();
        if !mirrors.until_committed(end).await {
            let placed = Placed { header, segment: self.state.segment, offset: self.state.start };
            self.undo(saved)?;
            let payload = self.buffer[HEADER..HEADER + header.length as usize].to_vec().into();
            self.tail.push(placed, &payload);
            return Err(BatchError::Unconfirmed);
        }
        self.stats.committed(ops.len(), began.elapsed());
        self.sql("COMMIT").map_err(|e| self.broke(&format!("failed to commit the index: {e}")))?;
        self.log.look_ahead(self.options.spares, &self.space);
        self.space.wrote(header.span(), self.log.reserved());
        if self.buffer.capacity() > KEEP_BUFFER {
            self.buffer = Vec::new();
        }
        Ok((outcomes, changed))
    }

    pub fn sql(&self, statement: &str) -> rusqlite::Result<()> {
        self.conn.prepare_cached(statement)?.execute([])?;
        Ok(())
    }

    /// Takes an index transaction back. An index that cannot even do that is of no use any more.
    pub fn undo(&mut self, saved: State) -> Result<(), BatchError> {
        self.state = saved;
        self.hot.clear();
        self.sql("ROLLBACK").map_err(|e| self.broke(&format!("failed to roll the index back: {e}")))
    }

    /// Begins a new segment when this batch may not fit. The estimate is generous; a batch that outgrows it makes
    /// its segment a little longer.
    fn roll(&mut self, ops: &[Op]) -> Result<(), BatchError> {
        let room = ops.iter().map(Op::weight).sum::<u64>() + HEADER as u64;
        match self.log.roll(self.state.link.seq + 1, room) {
            Ok(_) => Ok(()),
            Err(e) if is_full(&e) => Err(BatchError::Full),
            Err(e) => Err(self.broke(&format!("failed to make a segment: {e}"))),
        }
    }

    fn plan_all(
        &mut self,
        ops: &[Op],
        epoch: Epoch,
        changed: &mut Changed,
    ) -> Result<Vec<Outcome>, ApplyError> {
        self.buffer.clear();
        self.buffer.resize(HEADER, 0);
        let mut outcomes = Vec::with_capacity(ops.len());
        for op in ops {
            let mut cx = Plan {
                conn: &self.conn,
                hot: &mut self.hot,
                next: self.state,
                epoch,
                kind: self.identity.kind,
                store: &self.identity.store,
                space: &self.space,
                now: machine::unix_time(),
                keeps_expunged: self.options.undelete > Duration::ZERO,
            };
            match plan::plan(&mut cx, op.clone()) {
                Ok(Planned { records, value }) => {
                    for (record, body) in &records {
                        self.add(record, body, changed)?;
                    }
                    outcomes.push(Ok((value, self.state.link.seq)));
                }
                Err(PlanError::Refused(refusal)) => outcomes.push(Err(refusal)),
                Err(PlanError::Index(e)) => return Err(e.into()),
            }
        }
        Ok(outcomes)
    }

    fn add(&mut self, record: &Record, body: &[u8], changed: &mut Changed) -> Result<(), ApplyError> {
        let at = record::encode(record, body, &mut self.buffer);
        let place = place(record, self.log.first, self.log.offset + at as u64, body.len());
        let seq = self.state.link.seq + 1;
        let mut cx = Apply { conn: &self.conn, state: &mut self.state, hot: &mut self.hot, changed, seq };
        apply::apply(&mut cx, record, place)?;
        self.state.link.seq = seq;
        Ok(())
    }

    /// Puts the header before the records and pads the batch; moves the state behind it.
    fn seal(&mut self, saved: &State, epoch: Epoch) -> Header {
        let payload = &self.buffer[HEADER..];
        let header = Header {
            length: u32::try_from(payload.len()).unwrap_or(u32::MAX),
            nonce: self.log.nonce,
            epoch,
            seq: saved.link.seq + 1,
            count: u32::try_from(self.state.link.seq - saved.link.seq).unwrap_or(u32::MAX),
            prev: saved.link,
            synced: saved.link.seq,
            payload_crc: crc32c::crc32c(payload),
        };
        self.buffer[..HEADER].copy_from_slice(&header.encode());
        self.buffer.resize(self.buffer.len().next_multiple_of(ALIGN), 0);
        self.state.link = header.link();
        self.state.segment = self.log.first;
        self.state.start = self.log.offset;
        self.state.end = self.log.offset + header.span();
        header
    }

    /// Writes and syncs the batch; who must know can see meanwhile for how long.
    fn append(&mut self, saved: State) -> Result<(), BatchError> {
        self.stats.note_at_disk(Some(Instant::now()));
        let appended = self.write_and_sync(saved);
        self.stats.note_at_disk(None);
        appended
    }

    /// Only a full disk is taken back; everything else breaks the replica.
    fn write_and_sync(&mut self, saved: State) -> Result<(), BatchError> {
        if let Err(e) = self.log.write(&self.buffer) {
            self.undo(saved)?;
            if !is_full(&e) {
                return Err(self.broke(&format!("failed to write the log: {e}")));
            }
            return match self.log.retract() {
                Ok(()) => Err(BatchError::Full),
                Err(e) => Err(self.broke(&format!("failed to take a write back: {e}"))),
            };
        }
        self.mirrors.written((self.state.link.epoch, self.state.link.seq));
        if self.options.skip_sync {
            return Ok(());
        }
        self.sync().map_err(|e| self.broke(&format!("failed to sync the log: {e}")))
    }

    /// Syncs the log. Of a batch that is worth a thread, the pages that it touched go to the index's write-ahead log
    /// meanwhile: nobody reads them there before the commit, and a recovery passes them over.
    fn sync(&mut self) -> io::Result<()> {
        if self.buffer.len() < WORTH_A_THREAD || machine::is_one_thread() {
            return self.log.sync();
        }
        let (log, conn) = (&mut self.log, &self.conn);
        let synced = std::thread::scope(|scope| {
            let beside = std::thread::Builder::new().name("store-sync".into());
            let beside = beside.spawn_scoped(scope, || log.sync()).ok()?;
            if let Err(e) = conn.cache_flush() {
                // The commit meets it as well, and its word counts.
                tracing::debug!(error = %e, "the index's pages are not written ahead");
            }
            let panicked = |_| Err(io::Error::other("the thread that syncs has panicked"));
            Some(beside.join().unwrap_or_else(panicked))
        });
        synced.unwrap_or_else(|| self.log.sync())
    }

    /// Marks the replica as failed, here and in the superblock (which may fail as well).
    pub fn broke(&mut self, why: &str) -> BatchError {
        tracing::error!(store = %self.identity.store, why, "the replica is poisoned: it stops");
        self.broken = true;
        self.log.leave();
        self.stats.failed();
        self.superblock.poisoned = machine::boot_id();
        if let Err(e) = self.superblock.write(&self.options.disk, &self.dir) {
            tracing::error!(error = %e, "failed to record the poison in the superblock");
        }
        BatchError::Broken
    }

    /// From now on nothing is written, by closing neither.
    pub fn leave(&mut self) {
        self.untouchable = true;
        self.log.leave();
        // Otherwise SQLite would move the write-ahead log into the index when the last connection closes.
        if let Err(e) = self.conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true) {
            tracing::warn!(error = %e, "the index may be written when it is closed");
        }
    }

    /// Says in the log that all of it is synced, so that the next start has nothing to copy.
    pub fn write_mark(&mut self) -> io::Result<()> {
        if self.broken || self.untouchable {
            return Ok(());
        }
        let end = self.tail.end(self.state.link);
        let mark = Header {
            length: 0,
            nonce: self.log.nonce,
            epoch: end.epoch,
            seq: end.seq + 1,
            count: 0,
            prev: end,
            // No further than what is committed: recovery believes it.
            synced: self.state.link.seq,
            payload_crc: 0,
        };
        self.log.write(&mark.encode())?;
        self.log.sync()
    }

    /// The segments' directory.
    pub fn log_dir(dir: &Path) -> PathBuf {
        dir.join("log")
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.conn.is_autocommit()
            && let Err(e) = self.write_mark()
        {
            tracing::debug!(error = %e, "failed to mark a clean end");
        }
    }
}

/// Where a record's body lies; `None` for kinds without one.
pub fn place(record: &Record, segment: Seq, offset: u64, len: usize) -> Option<Place> {
    let crc = match record {
        Record::Deliver(r) => r.body_crc,
        Record::Append(r) => r.body_crc,
        Record::QueuePut(r) => r.body_crc,
        _ => return None,
    };
    Some(Place { segment, offset, len: u32::try_from(len).unwrap_or(u32::MAX), crc })
}
