//! Reading: a consistent snapshot of the index, and the bodies in the log.

mod body;
mod directory;
mod mail;
mod queue;
mod script;
mod undelete;
mod verify;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use mailcluster_types::{AccountId, DeliveryId};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Params, Row};

pub use body::StoredBody;
pub use directory::DirectoryRecord;
pub use script::ScriptListed;
pub use undelete::{Recoverable, RecoverableFilter};

use crate::{
    error::ReadError,
    files::{Place, SegmentFiles},
    model::{EpochMark, StoreUsage},
    repair::Repairs,
    schema,
    space::Space,
};

/// Connections that are kept for the next view.
const IDLE: usize = 16;

impl From<rusqlite::Error> for ReadError {
    fn from(e: rusqlite::Error) -> Self {
        match e.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
                Self::Damaged(format!("the index: {e}"))
            }
            _ => Self::Io(e.to_string()),
        }
    }
}

/// Connections for reading.
pub struct Pool {
    dir: PathBuf,
    files: Arc<SegmentFiles>,
    space: Arc<Space>,
    idle: Mutex<Vec<Connection>>,
    turns: Mutex<Turns>,
    /// Where nobody else has the store's log there is none.
    repairs: Option<Arc<Repairs>>,
}

/// Which views began before something became dead: each holds what was current when it began.
#[derive(Default)]
struct Turns {
    current: Arc<()>,
    /// Those of before, as long as a view holds them.
    before: Vec<Arc<()>>,
}

impl Turns {
    fn forget_ended(&mut self) {
        self.before.retain(|held| Arc::strong_count(held) > 1);
    }
}

impl Pool {
    /// Segments and packs.
    pub(crate) fn files(&self) -> &SegmentFiles {
        &self.files
    }

    pub(crate) fn new(dir: &Path, files: Arc<SegmentFiles>, space: Arc<Space>) -> Self {
        Self {
            dir: dir.to_owned(),
            files,
            space,
            idle: Mutex::new(Vec::new()),
            turns: Mutex::default(),
            repairs: None,
        }
    }

    /// The body at this place; where it is damaged, as another replica has it.
    pub(crate) fn body(&self, place: &Place) -> Result<Bytes, ReadError> {
        self.files.read(&[], place).map(Bytes::from).or_else(|error| {
            let restored = self.repairs.as_ref().and_then(|repairs| repairs.body(&self.files, place));
            restored.map(|restored| restored.body).ok_or(error)
        })
    }

    /// Views that begin from here on are not of before: they see what is committed now.
    pub(crate) fn turn(&self) {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = std::mem::take(&mut turns.current);
        turns.before.push(ended);
        turns.forget_ended();
    }

    /// Are there views that may have begun before the last turn, or any turn before that?
    pub(crate) fn has_views_of_before(&self) -> bool {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.forget_ended();
        !turns.before.is_empty()
    }

    /// What is damaged is restored so.
    pub(crate) fn with(self, repairs: Arc<Repairs>) -> Self {
        Self { repairs: Some(repairs), ..self }
    }

    /// A snapshot of now.
    pub fn view(self: &Arc<Self>) -> View {
        // Before the snapshot is made: what it sees is not given back while this is held.
        let held = self.turns.lock().unwrap_or_else(PoisonError::into_inner).current.clone();
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let opened = idle.map_or_else(|| schema::open_reader(&self.dir), Ok).and_then(|conn| {
            conn.prepare_cached("BEGIN")?.execute([])?;
            // Only a read makes the snapshot.
            conn.prepare_cached("SELECT seq FROM state")?.query_row([], |_| Ok(()))?;
            Ok(conn)
        });
        View { conn: opened.map_err(ReadError::from), pool: self.clone(), _held: held }
    }
}

/// A consistent snapshot of the index, and the bodies.
pub struct View {
    conn: Result<Connection, ReadError>,
    pool: Arc<Pool>,
    _held: Arc<()>,
}

impl Drop for View {
    fn drop(&mut self) {
        let Ok(conn) = std::mem::replace(&mut self.conn, Err(ReadError::NotServing)) else { return };
        let ended = conn.prepare_cached("ROLLBACK").and_then(|mut s| s.execute([]));
        let mut idle = self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.is_ok() && idle.len() < IDLE {
            idle.push(conn);
        }
    }
}

impl View {
    /// Another one, of now.
    #[cfg(test)]
    pub(crate) fn again(&self) -> Self {
        self.pool.view()
    }

    /// What this connection sees within its transaction, which is rolled back with the view.
    pub(crate) fn over(conn: Connection, pool: &Arc<Pool>) -> Self {
        let held = pool.turns.lock().unwrap_or_else(PoisonError::into_inner).current.clone();
        Self { conn: Ok(conn), pool: pool.clone(), _held: held }
    }

    /// The connection that it reads by.
    pub(crate) fn connection(&self) -> Result<&Connection, ReadError> {
        self.conn.as_ref().map_err(Clone::clone)
    }

    /// The epochs of what is applied, ascending.
    ///
    /// # Errors
    /// As [`ReadError`] says.
    pub fn epochs(&self) -> Result<Vec<EpochMark>, ReadError> {
        Ok(schema::epochs(self.connection()?)?)
    }

    fn prepare(&self, sql: &str) -> Result<CachedStatement<'_>, ReadError> {
        let conn = self.conn.as_ref().map_err(Clone::clone)?;
        Ok(conn.prepare_cached(sql)?)
    }

    fn one<T>(
        &self,
        sql: &str,
        params: impl Params,
        map: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, ReadError> {
        Ok(self.prepare(sql)?.query_row(params, map).optional()?)
    }

    fn all<T>(
        &self,
        sql: &str,
        params: impl Params,
        map: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, ReadError> {
        let mut statement = self.prepare(sql)?;
        let rows = statement.query_map(params, map)?.collect::<Result<Vec<_>, _>>()?;
        Ok(rows)
    }

    /// The store at a glance.
    ///
    /// # Errors
    /// As [`ReadError`] says.
    pub fn usage(&self) -> Result<StoreUsage, ReadError> {
        let (free_octets, total_octets) = self.pool.space.measure();
        let usage = self.one(
            "SELECT s.accounts, s.octets, r.messages, r.octets FROM state s, recoverable_sum r",
            [],
            |r| {
                Ok(StoreUsage {
                    accounts: r.get(0)?,
                    octets: r.get(1)?,
                    recoverable: r.get(2)?,
                    recoverable_octets: r.get(3)?,
                    free_octets,
                    total_octets,
                })
            },
        )?;
        usage.ok_or(ReadError::NotFound)
    }
}

/// Reads an account id column.
fn account_id(row: &Row<'_>, column: usize) -> rusqlite::Result<AccountId> {
    let bytes: [u8; 16] = row.get(column)?;
    Ok(AccountId(u128::from_be_bytes(bytes)))
}

/// Reads a delivery id column.
fn delivery_id(row: &Row<'_>, column: usize) -> rusqlite::Result<DeliveryId> {
    let bytes: [u8; 16] = row.get(column)?;
    Ok(DeliveryId(u128::from_be_bytes(bytes)))
}

/// A limit as SQLite takes it.
fn limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
