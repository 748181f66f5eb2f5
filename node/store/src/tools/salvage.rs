//! Looking into a store that does not open: what its index has, without recovery, or an index made anew from what is whole
//! of its log. Nothing of the store is changed.

use std::{
    collections::HashSet,
    fs::{self, File},
    path::{Path, PathBuf},
    sync::Arc,
};

use mailcluster_types::{ClusterId, ReplicaId, Seq};
use rusqlite::Connection;

use super::{Share, ToolError, lengths::Lengths};
use crate::{
    apply::{Apply, Changed, Hot, kept},
    base,
    engine::Engine,
    error::OpenError,
    files::{Place, SegmentFiles},
    log_walk::{LogWalk, Piece},
    pack,
    record::KeptBody,
    replay::{Index, PER_TRANSACTION, Placed},
    replica::{Identity, Replica, StoreKind},
    schema::{self, State},
    segment,
    space::{RealVolume, Space},
    superblock::Superblock,
    view::{Pool, View},
    volume,
};

/// A store that can be read.
pub struct Looked {
    pool: Arc<Pool>,
    pub kind: StoreKind,
    /// Removed with it.
    _scratch: Option<Scratch>,
    /// Whatever keeps other processes out.
    _held: Held,
}

enum Held {
    Opened(#[allow(dead_code, reason = "held")] Box<Replica>),
    Locked(#[allow(dead_code, reason = "held")] File),
}

impl Looked {
    pub fn view(&self) -> View {
        self.pool.view()
    }
}

/// A folder beside what is read from.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> std::io::Result<Self> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(std::io::Error::from)?;
        let dir = std::env::temp_dir().join(format!("mailcluster-index-{:016x}", u64::from_le_bytes(random)));
        fs::create_dir(&dir)?;
        Ok(Self(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What is said of a store that does not open.
pub enum Said<'a> {
    /// Something is wrong with it.
    Problem(&'a str),
    /// Octets of its log of which an index was made.
    MadeAnew(Share),
}

/// Opens whatever store lies in `dir` as a server would; where that is refused for damage, without recovery. `tell` hears
/// what is wrong, and how far it is.
pub fn look(dir: &Path, tell: &mut dyn FnMut(Said<'_>)) -> Result<Looked, ToolError> {
    let error = match super::open(dir) {
        Ok(replica) => {
            let kind = replica.describe().identity.kind;
            return Ok(Looked {
                pool: replica.pool(),
                kind,
                _scratch: None,
                _held: Held::Opened(Box::new(replica)),
            });
        }
        // The superblock's format stands before its checksum: that of a damaged one may look like a newer one.
        Err(error @ (OpenError::Damaged(_) | OpenError::Index(_) | OpenError::NewerFormat { .. })) => error,
        Err(error) => return Err(error.into()),
    };
    tell(Said::Problem(&error.to_string()));
    let lock = volume::lock(dir)?;
    let identity = identity(dir)?;
    let (kind, held) = (identity.kind, Held::Locked(lock));
    let scratch = Scratch::new()?;
    if is_whole(dir) {
        tell(Said::Problem("reading what its index has, and what is whole of the log behind that"));
        copy_index(dir, &scratch.0)?;
    } else {
        tell(Said::Problem("its index is damaged: making one from what is whole of its log"));
    }
    rebuild(dir, &identity, &scratch.0, tell)?;
    Ok(Looked { pool: pool(dir, &scratch.0), kind, _scratch: Some(scratch), _held: held })
}

fn copy_index(dir: &Path, to: &Path) -> std::io::Result<()> {
    for (from, to) in schema::files(dir).zip(schema::files(to)) {
        match fs::copy(from, to) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

/// Reads the texts of the store in `dir` by the index in `index`.
pub fn pool(dir: &Path, index: &Path) -> Arc<Pool> {
    let files = Arc::new(SegmentFiles::new(Engine::log_dir(dir)));
    Arc::new(Pool::new(index, files, Arc::new(Space::new(dir, Arc::new(RealVolume)))))
}

/// Whose store it is: by its superblock, or where that is damaged by its index, if that is of a version that is known.
pub fn identity(dir: &Path) -> Result<Identity, OpenError> {
    let error = match Superblock::read(dir) {
        Ok(block) => match block.identity() {
            Some(identity) => return Ok(identity),
            None => OpenError::Damaged(format!("{} (superblock)", dir.display())),
        },
        Err(error) => error,
    };
    by_index(dir).ok().flatten().ok_or(error)
}

fn by_index(dir: &Path) -> rusqlite::Result<Option<Identity>> {
    let conn = schema::open_reader(dir)?;
    if !schema::can_be_raised(schema::version(&conn)?) {
        return Ok(None);
    }
    let ids = conn.query_row("SELECT cluster, replica FROM state", [], |r| {
        Ok((r.get::<_, Vec<u8>>(0)?, r.get::<_, Vec<u8>>(1)?))
    })?;
    let is_directory: bool = conn.query_row("SELECT EXISTS(SELECT 1 FROM domain)", [], |r| r.get(0))?;
    let kind = if is_directory { StoreKind::Directory } else { StoreKind::Mail };
    let ids = ClusterId::from_slice(&ids.0).zip(ReplicaId::from_slice(&ids.1));
    Ok(ids.map(|(cluster, replica)| Identity { cluster, store: "".into(), replica, kind }))
}

/// From where on the log should have no gaps; where the superblock is damaged, every gap is told.
pub fn contiguous_from(dir: &Path) -> Seq {
    Superblock::read(dir).map_or(0, |block| block.contiguous_from)
}

/// Can every page of the index be read, and does it make sense?
pub fn is_whole(dir: &Path) -> bool {
    let checked = schema::open_reader(dir).and_then(|conn| Ok((State::load(&conn)?, integrity(&conn)?)));
    // One that has nothing says nothing of what was given back of the log.
    let is_of_use = |state: &State| state.link.seq > 0 || contiguous_from(dir) == 0;
    checked.is_ok_and(|(state, problems)| is_of_use(&state) && problems.is_empty())
}

/// What SQLite finds wrong with an index.
pub fn integrity(conn: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut query = conn.prepare("PRAGMA integrity_check(20)")?;
    let lines = query.query_map([], |r| r.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
    Ok(lines.into_iter().filter(|line| line != "ok").collect())
}

/// Makes an index in `scratch` from what is whole of the log of `dir`, and of what else there is: an index that is there is
/// gone on with, else a base; where there is none of use, packs tell what they can.
pub fn rebuild(
    dir: &Path,
    identity: &Identity,
    scratch: &Path,
    tell: &mut dyn FnMut(Said<'_>),
) -> Result<(), ToolError> {
    let failed = |e: rusqlite::Error| ToolError::Open(OpenError::Index(e.to_string()));
    let mut warn = |what: &str| tell(Said::Problem(what));
    let has_index = schema::path(scratch).exists() || from_base(dir, identity, scratch, &mut warn)?;
    let ids = (identity.cluster.to_bytes(), identity.replica.to_bytes());
    let conn = schema::open_writer(scratch, (&ids.0, &ids.1)).map_err(failed)?;
    let mut anew = Anew {
        conn: &conn,
        state: State::load(&conn).map_err(failed)?,
        hot: Hot::new(&identity.store),
        octets: 0,
        left_out: HashSet::new(),
    };
    conn.execute_batch("BEGIN").map_err(failed)?;
    from_log(dir, identity, &mut anew, tell)?;
    if !has_index {
        let mut warn = |what: &str| tell(Said::Problem(what));
        from_packs(&Engine::log_dir(dir), identity, &mut anew, &mut warn).map_err(failed)?;
        from_left_out(dir, identity, &mut anew)?;
    }
    anew.state.save(&conn).map_err(failed)?;
    conn.execute_batch("COMMIT").map_err(failed)
}

/// Applies what is whole of the log.
fn from_log(
    dir: &Path,
    identity: &Identity,
    anew: &mut Anew<'_>,
    tell: &mut dyn FnMut(Said<'_>),
) -> Result<(), ToolError> {
    let log = Engine::log_dir(dir);
    let lengths = Lengths::of(&log, &segment::list(&log)?)?;
    let mut outcome = Ok(());
    LogWalk::new(&log, identity, contiguous_from(dir), &mut |piece| match piece {
        Piece::Damage(what) | Piece::Torn(what) => tell(Said::Problem(&what)),
        Piece::Batch(placed, payload) => {
            let done = lengths.up_to(placed.segment, placed.offset);
            tell(Said::MadeAnew(Share { done, of: lengths.total }));
            // The index that this goes on from may have it.
            if outcome.is_err() || placed.header.last_seq() <= anew.state.link.seq {
                return;
            }
            match anew.apply(&placed, &payload) {
                Ok(None) => {}
                Ok(Some(why)) => {
                    anew.left_out.insert(placed.header.seq);
                    tell(Said::Problem(&why));
                }
                Err(error) => outcome = Err(error),
            }
        }
    })
    .run()?;
    outcome.map_err(|e| ToolError::Open(OpenError::Index(e.to_string())))
}

/// Begins an index with a base, when there is one that is of use.
fn from_base(
    dir: &Path,
    identity: &Identity,
    scratch: &Path,
    warn: &mut dyn FnMut(&str),
) -> Result<bool, ToolError> {
    let from = contiguous_from(dir);
    match base::newest(dir, identity, from)? {
        Ok(base) => base::restore(dir, &base, identity, scratch, warn).map(|()| true).map_err(Into::into),
        Err(why) => {
            if from > 0 || !base::list(dir)?.is_empty() {
                warn(&why);
            }
            Ok(false)
        }
    }
}

/// Adds what packs tell of messages that the log has nothing of.
fn from_packs(
    log: &Path,
    identity: &Identity,
    anew: &mut Anew<'_>,
    warn: &mut dyn FnMut(&str),
) -> rusqlite::Result<()> {
    let packs = segment::packs(log).unwrap_or_default();
    // Bodies may have moved more than once: the last pack comes first.
    for number in packs.into_iter().rev() {
        let mut failed = None;
        let walked = pack::walk(log, number, identity, &mut |piece| match piece {
            pack::Piece::Damage(what) => warn(&what),
            pack::Piece::Kept(place, kept) => {
                if let Err(error) = kept.bodies.iter().try_for_each(|row| anew.put(place, row)) {
                    failed.get_or_insert(error);
                }
            }
        });
        if let Err(error) = walked {
            warn(&format!("{}: {error}", segment::name(number)));
        }
        failed.map_or(Ok(()), Err)?;
    }
    Ok(())
}

/// Adds the messages of batches that could not be applied: what they need is in segments that are gone.
fn from_left_out(dir: &Path, identity: &Identity, anew: &mut Anew<'_>) -> Result<(), ToolError> {
    let mut failed = None;
    LogWalk::new(&Engine::log_dir(dir), identity, contiguous_from(dir), &mut |piece| {
        let Piece::Batch(placed, payload) = piece else { return };
        if !anew.left_out.contains(&placed.header.seq) {
            return;
        }
        for (place, record) in placed.bodies(&payload) {
            if let Err(error) = kept::of(&record).iter().try_for_each(|row| anew.put(place, row)) {
                failed.get_or_insert(error);
            }
        }
    })
    .run()?;
    failed.map_or(Ok(()), |error| Err(ToolError::Open(OpenError::Index(error.to_string()))))
}

struct Anew<'a> {
    conn: &'a Connection,
    state: State,
    hot: Hot,
    octets: u64,
    /// The first records of batches that cannot be applied.
    left_out: HashSet<Seq>,
}

impl Anew<'_> {
    fn put(&mut self, place: Place, row: &KeptBody) -> rusqlite::Result<()> {
        self.conn.execute_batch("SAVEPOINT kept")?;
        let (saved, changed) = (self.state, &mut Changed::default());
        let seq = self.state.link.seq;
        let mut cx = Apply { conn: self.conn, state: &mut self.state, hot: &mut self.hot, changed, seq };
        if let Err(error) = kept::put(&mut cx, place, row) {
            tracing::debug!(%error, row = row.id, "a body of a pack is of no use");
            self.state = saved;
            self.conn.execute_batch("ROLLBACK TO kept")?;
        }
        self.conn.execute_batch("RELEASE kept")
    }

    /// A batch that cannot be applied without one that is missing is left out, and said.
    fn apply(&mut self, placed: &Placed, payload: &bytes::Bytes) -> rusqlite::Result<Option<String>> {
        let saved = self.state;
        self.conn.execute_batch("SAVEPOINT batch")?;
        let (changed, conn) = (&mut Changed::default(), self.conn);
        let applied =
            Index { conn, state: &mut self.state, hot: &mut self.hot, changed }.apply(placed, payload);
        let left_out = match applied {
            Ok(()) => None,
            Err(error) => {
                self.state = State { link: placed.header.link(), ..saved };
                self.hot.clear();
                self.conn.execute_batch("ROLLBACK TO batch")?;
                let (from, to) = (placed.header.seq, placed.header.last_seq());
                Some(format!("records {from} to {to} cannot be applied: {error}"))
            }
        };
        self.conn.execute_batch("RELEASE batch")?;
        self.octets += placed.cost();
        if self.octets > PER_TRANSACTION {
            self.octets = 0;
            self.state.save(self.conn)?;
            self.conn.execute_batch("COMMIT; BEGIN")?;
        }
        Ok(left_out)
    }
}
