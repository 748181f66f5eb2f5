//! A replica: a store's data on one volume, opened and recovered, and not serving.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use mailcluster_types::{ClusterId, Epoch, ReplicaId, Seq, StoreName};
use rusqlite::{Connection, ErrorCode};

use crate::{
    apply::Hot,
    base, committer,
    description::ReplicaDescription,
    disk::Disk,
    engine::{Engine, Options},
    error::{Fenced, FollowError, OpenError},
    files::SegmentFiles,
    log_walk, machine,
    mirrors::NoMirrors,
    pack,
    record::EpochStart,
    recover::Recovery,
    repair::Repairs,
    schema::{self, State},
    snapshot,
    space::{self, Space},
    stats::Stats,
    store::Store,
    superblock::Superblock,
    view::{Pool, View},
    volume::{self, io_error},
};

/// What a store is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// Accounts with mailboxes.
    Mail,
    /// The directory: accounts without mailboxes.
    Directory,
}

/// Whose volume this is; in the superblock for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The store.
    pub store: StoreName,
    /// This copy of it.
    pub replica: ReplicaId,
    /// What it is for.
    pub kind: StoreKind,
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.kind {
            StoreKind::Mail => "mail",
            StoreKind::Directory => "directory",
        };
        write!(f, "{kind} store {} of cluster {}, replica {}", self.store, self.cluster, self.replica)
    }
}

/// Asked before every acknowledgement (protocol: `may_acknowledge`, `may_read`). Must not block.
pub trait Gate: Send + Sync + 'static {
    /// May a record of this epoch and sequence be acknowledged now?
    fn may_acknowledge(&self, epoch: Epoch, seq: Seq) -> bool;
    /// May reads be served now?
    fn may_read(&self) -> bool;
    /// Have enough copies joined for a client's change to be taken? Before that, only the protocol's own records are.
    fn has_enough_copies(&self) -> bool {
        true
    }
    /// May the volume be written now? When somebody else may have it, nothing is appended, and it is closed as it is.
    fn may_write(&self) -> bool;
    /// The log failed a sync: the replica is poisoned and never serves again on this boot.
    fn poisoned(&self);
}

/// A gate that is always open: for standalone tools and tests of other parts.
#[derive(Debug, Clone, Copy, Default)]
pub struct OpenGate;

impl Gate for OpenGate {
    fn may_acknowledge(&self, _: Epoch, _: Seq) -> bool {
        true
    }
    fn may_read(&self) -> bool {
        true
    }
    fn may_write(&self) -> bool {
        true
    }
    fn poisoned(&self) {}
}

/// A committed change. Its value comes out only through `may_acknowledge`; await nothing between
/// [`Receipt::acknowledge`] and writing the reply.
#[must_use = "a change that is not acknowledged must close the connection"]
pub struct Receipt<T> {
    pub(crate) value: T,
    pub(crate) epoch: Epoch,
    pub(crate) seq: Seq,
    pub(crate) gate: Arc<dyn Gate>,
}

impl<T> Receipt<T> {
    /// The value, if it may be told to a client now.
    ///
    /// # Errors
    /// [`Fenced`]: close the connection without an answer.
    pub fn acknowledge(self) -> Result<T, Fenced> {
        if self.gate.may_acknowledge(self.epoch, self.seq) { Ok(self.value) } else { Err(Fenced) }
    }

    /// May the value be told now? It is to be asked again, by [`Self::acknowledge`], when it is told.
    #[must_use]
    pub fn stands(&self) -> bool {
        self.gate.may_acknowledge(self.epoch, self.seq)
    }

    /// The value, for what else is to be done before it is told; it is not to be told by itself.
    #[must_use]
    pub fn decided(&self) -> &T {
        &self.value
    }

    /// The record's place in the log.
    #[must_use]
    pub fn position(&self) -> (Epoch, Seq) {
        (self.epoch, self.seq)
    }
}

/// A replica, opened under flock, recovered, and not serving.
pub struct Replica {
    pub(crate) engine: Engine,
    pool: Arc<Pool>,
}

impl Replica {
    /// Initialises an empty directory (nothing but `lost+found`) and opens it.
    ///
    /// # Errors
    /// [`OpenError::NotEmpty`] and the others; nothing is written over what is there.
    pub fn initialise(dir: &Path, identity: &Identity) -> Result<Self, OpenError> {
        Self::initialise_with(dir, identity, &Options::default())
    }

    /// Opens and recovers: flock, identity check, file system check, copy of what follows the last sync mark into
    /// a new segment, sync, replay into the index. Blocking; may take seconds.
    ///
    /// # Errors
    /// As [`OpenError`] says. An empty directory is never initialised in passing.
    pub fn open(dir: &Path, expected: &Identity) -> Result<Self, OpenError> {
        Self::open_with(dir, expected, &Options::default())
    }

    /// As [`Self::initialise`], on this disk.
    ///
    /// # Errors
    /// The same.
    pub fn initialise_with(dir: &Path, identity: &Identity, options: &Options) -> Result<Self, OpenError> {
        fs::create_dir_all(dir).map_err(|e| io_error(dir, e))?;
        match Superblock::read(dir) {
            // An initialisation of the same replica that was interrupted goes on.
            Ok(block) if !block.ready && block.identity().as_ref() == Some(identity) => {}
            Err(OpenError::Empty(_)) => {}
            Err(e @ OpenError::Io { .. }) => return Err(e),
            _ => return Err(OpenError::NotEmpty(dir.display().to_string())),
        }
        let lock = volume::lock(dir)?;
        options.volume.check(dir)?;
        let mut block = Superblock::new(identity);
        block.write(&options.disk, dir).map_err(|e| io_error(dir, e))?;
        let log = Engine::log_dir(dir);
        options.disk.create_dir(&log).map_err(|e| io_error(&log, e))?;
        options.disk.sync_dir(dir).map_err(|e| io_error(dir, e))?;
        block.ready = true;
        let replica = Self::assemble(dir, identity, options, (lock, block.clone()))?;
        block.write(&options.disk, dir).map_err(|e| io_error(dir, e))?;
        Ok(replica)
    }

    /// As [`Self::open`], on this disk.
    ///
    /// # Errors
    /// The same.
    pub fn open_with(dir: &Path, expected: &Identity, options: &Options) -> Result<Self, OpenError> {
        check_identity(dir, &Superblock::read(dir)?, expected)?;
        let lock = volume::lock(dir)?;
        options.volume.check(dir)?;
        // Read again: only now nobody else writes it.
        let mut block = Superblock::read(dir)?;
        check_identity(dir, &block, expected)?;
        // A process that died while it wrote the superblock left its name in memory only: others are told its promise.
        options.disk.sync_dir(dir).map_err(|e| io_error(dir, e))?;
        snapshot::finish(&options.disk, dir, &mut block)?;
        snapshot::tidy(dir);
        let was_poisoned = !block.poisoned.is_empty();
        if was_poisoned {
            if block.poisoned == machine::boot_id() && has_mirrors(dir, expected) {
                return Err(OpenError::Poisoned(expected.replica));
            }
            // What the index's file has on disk is as doubtful as the log's tail was.
            tracing::warn!(store = %expected.store, "a sync failed here before: rebuilding the index");
            forget_index(dir, expected, block.contiguous_from)?;
            block.poisoned.clear();
        }
        let replica = Self::assemble(dir, expected, options, (lock, block.clone()))?;
        if was_poisoned {
            block.write(&options.disk, dir).map_err(|e| io_error(dir, e))?;
        }
        Ok(replica)
    }

    pub(crate) fn assemble(
        dir: &Path,
        identity: &Identity,
        options: &Options,
        (lock, superblock): (fs::File, Superblock),
    ) -> Result<Self, OpenError> {
        let log = Engine::log_dir(dir);
        remove_unfinished(dir, &options.disk)?;
        let conn = open_index(dir, identity, superblock.contiguous_from, &options.disk)?;
        let mut state = State::load(&conn).map_err(|e| OpenError::Index(e.to_string()))?;
        let space = Arc::new(Space::new(dir, options.volume.clone()));
        let segment_size = options.segment_size.unwrap_or_else(|| space::segment_size(space.measure().1));
        let recovery =
            Recovery { log: &log, options, identity, segment_size, conn: &conn, state: &mut state };
        let (writer, tail) = recovery.run()?;
        let files = Arc::new(SegmentFiles::new(log));
        let stats = Arc::<Stats>::default();
        let repairs =
            Arc::new(Repairs::new(Engine::log_dir(dir), identity, options.disk.clone(), stats.clone()));
        let pool = Arc::new(Pool::new(dir, files, space.clone()).with(repairs.clone()));
        let engine = Engine {
            dir: dir.to_owned(),
            identity: identity.clone(),
            superblock,
            options: options.clone(),
            log: writer,
            conn,
            state,
            tail,
            mirrors: Arc::new(NoMirrors),
            space,
            stats,
            repairs,
            hot: Hot::new(&identity.store),
            broken: false,
            untouchable: false,
            buffer: Vec::new(),
            lock,
        };
        Ok(Self { engine, pool })
    }

    pub(crate) fn from_parts(engine: Engine, pool: Arc<Pool>) -> Self {
        Self { engine, pool }
    }

    /// Reads the identity of whatever store is in `dir`, without opening it (adoption, tools).
    ///
    /// # Errors
    /// [`OpenError::Empty`] when there is none.
    pub fn identify(dir: &Path) -> Result<Identity, OpenError> {
        let block = Superblock::read(dir)?;
        match block.identity() {
            Some(identity) if block.ready => Ok(identity),
            Some(_) => Err(OpenError::Empty(dir.display().to_string())),
            None => Err(OpenError::Damaged(format!("{} (superblock)", dir.display()))),
        }
    }

    /// Raises the promise to `epoch` and syncs it: from now on nothing older is confirmed.
    ///
    /// # Errors
    /// When the superblock cannot be written and synced.
    pub fn promise(&mut self, epoch: Epoch) -> Result<(), OpenError> {
        let engine = &mut self.engine;
        if epoch <= engine.superblock.promise {
            return Ok(());
        }
        let mut block = engine.superblock.clone();
        block.promise = epoch;
        block.write(&engine.options.disk, &engine.dir).map_err(|e| io_error(&engine.dir, e))?;
        engine.superblock = block;
        Ok(())
    }

    /// Appends `EpochStart(epoch, in_sync)`, syncs it, and serves. `epoch` must be above the last one.
    ///
    /// # Errors
    /// When the record cannot be synced.
    pub fn serve(
        mut self,
        epoch: Epoch,
        in_sync: &[ReplicaId],
        gate: Arc<dyn Gate>,
    ) -> Result<Store, OpenError> {
        let begun =
            self.begin(&EpochStart::new(epoch, in_sync)).and_then(|(_, end)| self.engine.advance(end));
        begun.map_err(|error| self.not_begun(error, epoch, &gate))?;
        self.go_on(gate)
    }

    /// Serves at the epoch of the log's last record, all of which must be applied: see [`crate::Follower::begin`].
    ///
    /// # Errors
    /// When something of the log is not committed.
    pub fn go_on(self, gate: Arc<dyn Gate>) -> Result<Store, OpenError> {
        if !self.engine.tail.is_empty() {
            return Err(OpenError::Index("the log has records that are not known to be committed".into()));
        }
        let epoch = self.engine.state.link.epoch;
        committer::start(self.engine, self.pool, epoch, gate)
    }

    fn not_begun(&self, error: FollowError, epoch: Epoch, gate: &Arc<dyn Gate>) -> OpenError {
        let dir = self.engine.dir.display().to_string();
        match error {
            FollowError::Promised(_) => {
                let ReplicaDescription { last_epoch: last, promise, .. } = self.describe();
                OpenError::Epoch { epoch, last, promise }
            }
            FollowError::Full => OpenError::Io { dir, source: std::io::ErrorKind::StorageFull.into() },
            FollowError::Broken => {
                gate.poisoned();
                OpenError::Io { dir, source: std::io::Error::other("the replica is poisoned") }
            }
            error => OpenError::Index(error.to_string()),
        }
    }

    /// Reads without serving (tools on a stopped store: `ls`, `cat`, `export`).
    #[must_use]
    pub fn view(&self) -> View {
        self.pool.view()
    }

    /// Connections for reading.
    pub(crate) fn pool(&self) -> Arc<Pool> {
        self.pool.clone()
    }

    /// The directory it lies in.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        self.engine.dir.clone()
    }
}

fn check_identity(dir: &Path, block: &Superblock, expected: &Identity) -> Result<(), OpenError> {
    let Some(found) = block.identity() else {
        return Err(OpenError::Damaged(format!("{} (superblock)", dir.display())));
    };
    if found != *expected {
        return Err(OpenError::Foreign {
            dir: dir.display().to_string(),
            found: found.to_string(),
            expected: expected.to_string(),
        });
    }
    if block.ready { Ok(()) } else { Err(OpenError::Empty(dir.display().to_string())) }
}

/// Were there others in the last set of replicas? When that cannot be read, there may have been.
fn has_mirrors(dir: &Path, me: &Identity) -> bool {
    match schema::open_reader(dir).and_then(|conn| schema::in_sync(&conn)) {
        Ok(ids) => ids.iter().any(|id| *id != me.replica.to_bytes()),
        Err(_) => true,
    }
}

/// Removes the index, for the log to make it anew; not when the log is damaged: then the index may be all that tells of
/// some of the mail.
fn forget_index(dir: &Path, identity: &Identity, contiguous_from: Seq) -> Result<(), OpenError> {
    let log = Engine::log_dir(dir);
    let damage = if contiguous_from > 0 {
        base::beginning(dir, identity, contiguous_from)?.err()
    } else {
        log_walk::damage(&log, identity, 0).map_err(|e| io_error(&log, e))?
    };
    if let Some(what) = damage {
        return Err(OpenError::Damaged(format!("{what}, and the index is of no use")));
    }
    schema::remove(dir).map_err(|e| io_error(dir, e))
}

/// Removes what giving room back had begun and not ended.
fn remove_unfinished(dir: &Path, disk: &Arc<dyn Disk>) -> Result<(), OpenError> {
    for path in [pack::unfinished(&Engine::log_dir(dir)), base::unfinished(dir), dir.join("index.new")] {
        if path.exists() {
            disk.remove(&path).map_err(|e| io_error(&path, e))?;
        }
    }
    Ok(())
}

/// Opens the index; one that is unreadable, of another version or another replica's is rebuilt from the log, and from the
/// newest base where the beginning of the log was given back.
fn open_index(
    dir: &Path,
    identity: &Identity,
    contiguous_from: Seq,
    disk: &Arc<dyn Disk>,
) -> Result<Connection, OpenError> {
    let (cluster, replica) = (identity.cluster.to_bytes(), identity.replica.to_bytes());
    let ids = (&cluster[..], &replica[..]);
    let failed = |e: rusqlite::Error| OpenError::Index(e.to_string());
    let begin = || begin_index(dir, identity, contiguous_from, disk);
    if contiguous_from > 0 && !schema::path(dir).exists() {
        begin()?;
    }
    match schema::open_writer(dir, ids) {
        Ok(conn) if State::load(&conn).map_err(failed)?.link.seq > 0 => return Ok(conn),
        // One that never got anything.
        Ok(conn) if contiguous_from == 0 => return begin().map(|()| conn),
        Ok(_) => {}
        Err(e)
            if matches!(e, rusqlite::Error::InvalidQuery)
                || matches!(
                    e.sqlite_error_code(),
                    Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt)
                ) =>
        {
            tracing::warn!(error = %e, "the index is of no use: rebuilding it from the log");
            forget_index(dir, identity, contiguous_from)?;
        }
        Err(e) => return Err(failed(e)),
    }
    begin()?;
    schema::open_writer(dir, ids).map_err(failed)
}

/// What an index made anew begins with: nothing, and then no base may outlive it, or a base. Nothing is left out: what is
/// damaged is for `export`.
fn begin_index(
    dir: &Path,
    identity: &Identity,
    contiguous_from: Seq,
    disk: &Arc<dyn Disk>,
) -> Result<(), OpenError> {
    if contiguous_from == 0 {
        return base::remove_all(dir, disk).map_err(|e| io_error(&base::folder(dir), e));
    }
    let lost = |why| OpenError::Damaged(format!("{why}, and the index is gone"));
    let base = base::beginning(dir, identity, contiguous_from)?.map_err(lost)?;
    base::restore(dir, &base, identity, dir, &mut |what| tracing::warn!(what, "some mail cannot be read"))
}
