//! Reading: a consistent snapshot of the index, and the bodies in the log.

mod body;
mod directory;
mod mail;
mod queue;
mod script;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use mailcluster_types::{AccountId, DeliveryId};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Params, Row};

pub use body::StoredBody;
pub use directory::DirectoryRecord;
pub use script::ScriptListed;

use crate::{
    error::ReadError,
    files::SegmentFiles,
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
        let counts = self.one("SELECT accounts, octets FROM state", [], |r| Ok((r.get(0)?, r.get(1)?)))?;
        let (accounts, octets) = counts.ok_or(ReadError::NotFound)?;
        let (free_octets, total_octets) = self.pool.space.measure();
        Ok(StoreUsage { accounts, octets, free_octets, total_octets })
    }

    /// Recomputes every counter from the rows that it counts; answers what differs (nothing, ever).
    ///
    /// # Errors
    /// As [`ReadError`] says.
    pub fn verify(&self) -> Result<Vec<String>, ReadError> {
        const CHECKS: &[(&str, &str)] = &[
            (
                "counters of mailbox",
                "SELECT c.mailbox FROM counter c LEFT JOIN (SELECT mailbox, count(*) AS n, \
                 sum((system & 1) = 0) AS unseen, sum((system & 8) <> 0) AS deleted, sum(size) AS octets, \
                 max(uid) AS top, max(modseq) AS modseq FROM message GROUP BY mailbox) m ON m.mailbox=c.mailbox \
                 WHERE c.messages<>ifnull(m.n,0) OR c.unseen<>ifnull(m.unseen,0) OR c.deleted<>ifnull(m.deleted,0) \
                 OR c.octets<>ifnull(m.octets,0) OR c.uid_next<=ifnull(m.top,0) OR c.modseq<ifnull(m.modseq,0)",
            ),
            (
                "octets or mailboxes of account",
                "SELECT u.account FROM used u LEFT JOIN (SELECT b.account AS a, sum(c.octets) AS octets, \
                 count(*) AS n FROM mailbox b JOIN counter c ON c.mailbox=b.id GROUP BY b.account) s ON s.a=u.account \
                 WHERE u.octets<>ifnull(s.octets,0) OR u.mailboxes<>ifnull(s.n,0)",
            ),
            (
                "references to body",
                "SELECT b.id FROM body b LEFT JOIN (SELECT body, sum(n) AS n FROM (SELECT body, count(*) AS n \
                 FROM message GROUP BY body UNION ALL SELECT body, count(*) FROM queue GROUP BY body) GROUP BY body) \
                 r ON r.body=b.id WHERE b.refs<>ifnull(r.n,0)",
            ),
            ("message without a body", "SELECT uid FROM message WHERE body NOT IN (SELECT id FROM body)"),
            (
                "message without a mailbox",
                "SELECT uid FROM message WHERE mailbox NOT IN (SELECT id FROM mailbox)",
            ),
            (
                "octets of the store",
                "SELECT octets FROM state WHERE octets<>(SELECT ifnull(sum(octets),0) FROM counter)",
            ),
            (
                "accounts of the store",
                "SELECT accounts FROM state WHERE accounts<>(SELECT count(*) FROM account WHERE tombstone=0)",
            ),
            (
                "queued message without recipients",
                "SELECT hex(delivery) FROM queue WHERE delivery NOT IN (SELECT delivery FROM recipient)",
            ),
            (
                "expunged UIDs of mailbox",
                "SELECT c.mailbox FROM counter c LEFT JOIN (SELECT mailbox, count(*) AS n FROM expunged \
                 GROUP BY mailbox) e ON e.mailbox=c.mailbox WHERE c.expunged<>ifnull(e.n,0)",
            ),
        ];
        let mut wrong = Vec::new();
        for (what, sql) in CHECKS {
            let rows = self.all(sql, [], |r| r.get::<_, rusqlite::types::Value>(0))?;
            wrong.extend(rows.into_iter().map(|row| format!("{what} {row:?}")));
        }
        Ok(wrong)
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
