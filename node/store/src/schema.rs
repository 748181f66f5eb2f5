//! The index: its tables, its one row of state, its connections.

use std::{path::Path, time::Duration};

use mailcluster_types::{Epoch, ModSeq, Seq};
use rusqlite::{Connection, OpenFlags, config::DbConfig, params};

use crate::{batch::Link, model::EpochMark};

/// Rises with every change of the tables. An index of a version that [`can_be_raised`] is brought up in place, as the log may
/// not reach back to its beginning; any other is rebuilt from the log.
pub const VERSION: u32 = 4;
/// The version of [`TABLES`] alone.
const OLDEST: u32 = 3;

/// What makes an index of version 4 of one of version 3. No record that an older version knows puts anything into these tables:
/// an index that is made anew is the same.
const FROM_3: &str = "
CREATE TABLE recoverable(account INT NOT NULL, mailbox INT NOT NULL, uid INT NOT NULL, at INT NOT NULL,
  name TEXT NOT NULL, system INT NOT NULL, keywords TEXT, internal_date INT NOT NULL, zone INT NOT NULL,
  size INT NOT NULL, delivery BLOB, body INT NOT NULL, PRIMARY KEY(account, mailbox, uid)) WITHOUT ROWID;
CREATE INDEX recoverable_at ON recoverable(at, mailbox, uid);
CREATE TABLE recoverable_sum(id INTEGER PRIMARY KEY CHECK(id = 1), messages INT NOT NULL, octets INT NOT NULL);
INSERT INTO recoverable_sum VALUES(1, 0, 0);
CREATE TABLE seen(account INT NOT NULL, id BLOB NOT NULL, until INT NOT NULL,
  PRIMARY KEY(account, id)) WITHOUT ROWID;
ALTER TABLE recipient ADD COLUMN params TEXT NOT NULL DEFAULT '';
ALTER TABLE recipient ADD COLUMN returned TEXT NOT NULL DEFAULT '';
ALTER TABLE domain ADD COLUMN keys BLOB NOT NULL DEFAULT x'';
";

/// The tables of version 3. The order of columns in [`State`]'s row and the tables. The counters are apart from names and hashes so that
/// their pages are dense: a batch dirties few.
const TABLES: &str = "
CREATE TABLE state(id INTEGER PRIMARY KEY CHECK(id = 1), version INT, cluster BLOB, replica BLOB,
  epoch INT, seq INT, crc INT, segment INT, start INT, end INT, in_sync_version INT, in_sync BLOB,
  modseq INT, mailbox INT, uid_validity INT, body INT, history INT, audit INT, clock INT, accounts INT,
  octets INT);
CREATE TABLE account(local INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, address TEXT NOT NULL,
  domain TEXT NOT NULL, store TEXT NOT NULL, generation INT NOT NULL, password_hash TEXT NOT NULL,
  quota INT NOT NULL, suspended INT NOT NULL, pending INT NOT NULL, tombstone INT NOT NULL, seq INT NOT NULL);
CREATE INDEX account_address ON account(address) WHERE tombstone = 0;
CREATE INDEX account_domain ON account(domain, address) WHERE tombstone = 0;
CREATE INDEX account_seq ON account(seq);
CREATE TABLE used(account INTEGER PRIMARY KEY, octets INT NOT NULL, mailboxes INT NOT NULL);
CREATE TABLE mailbox(id INTEGER PRIMARY KEY, account INT NOT NULL, name TEXT NOT NULL, uid_validity INT NOT NULL,
  special_use INT NOT NULL, UNIQUE(account, name));
CREATE TABLE counter(mailbox INTEGER PRIMARY KEY, uid_next INT NOT NULL, modseq INT NOT NULL,
  messages INT NOT NULL, unseen INT NOT NULL, deleted INT NOT NULL, octets INT NOT NULL,
  expunged INT NOT NULL, expunge_floor INT NOT NULL);
CREATE TABLE subscription(account INT NOT NULL, name TEXT NOT NULL, PRIMARY KEY(account, name)) WITHOUT ROWID;
CREATE TABLE message(mailbox INT NOT NULL, uid INT NOT NULL, modseq INT NOT NULL, born INT NOT NULL,
  system INT NOT NULL, keywords TEXT, internal_date INT NOT NULL, zone INT NOT NULL, size INT NOT NULL,
  delivery BLOB, body INT NOT NULL, PRIMARY KEY(mailbox, uid)) WITHOUT ROWID;
CREATE INDEX message_changed ON message(mailbox, modseq) WHERE modseq <> born;
CREATE INDEX message_deleted ON message(mailbox, uid) WHERE (system & 8) <> 0;
CREATE TABLE body(id INTEGER PRIMARY KEY, segment INT NOT NULL, offset INT NOT NULL, len INT NOT NULL,
  crc INT NOT NULL, refs INT NOT NULL, prefix BLOB);
CREATE TABLE expunged(mailbox INT NOT NULL, modseq INT NOT NULL, uid INT NOT NULL,
  PRIMARY KEY(mailbox, modseq, uid)) WITHOUT ROWID;
CREATE TABLE delivered(delivery BLOB NOT NULL, account INT NOT NULL, at INT NOT NULL,
  PRIMARY KEY(delivery, account)) WITHOUT ROWID;
CREATE TABLE queue(delivery BLOB NOT NULL PRIMARY KEY, sender TEXT NOT NULL, queued_at INT NOT NULL,
  size INT NOT NULL, body INT NOT NULL, params TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE recipient(delivery BLOB NOT NULL, address TEXT NOT NULL, account BLOB, store TEXT,
  attempts INT NOT NULL, next_attempt INT NOT NULL, last_error TEXT NOT NULL, held INT NOT NULL,
  noticed INT NOT NULL, PRIMARY KEY(delivery, address)) WITHOUT ROWID;
CREATE INDEX recipient_due ON recipient(store, next_attempt) WHERE held = 0;
CREATE TABLE queued(delivery BLOB NOT NULL, address TEXT NOT NULL, at INT NOT NULL,
  PRIMARY KEY(delivery, address)) WITHOUT ROWID;
CREATE TABLE domain(name TEXT PRIMARY KEY, generation INT NOT NULL, tombstone INT NOT NULL, seq INT NOT NULL);
CREATE TABLE alias(address TEXT PRIMARY KEY, accounts BLOB NOT NULL, generation INT NOT NULL,
  tombstone INT NOT NULL, seq INT NOT NULL);
CREATE INDEX alias_seq ON alias(seq);
CREATE TABLE history(id INTEGER PRIMARY KEY, at INT NOT NULL, delivery BLOB NOT NULL, event INT NOT NULL,
  recipient TEXT NOT NULL, mailbox INT NOT NULL, uid INT NOT NULL, detail TEXT);
CREATE INDEX history_delivery ON history(delivery);
CREATE TABLE audit(id INTEGER PRIMARY KEY, at INT NOT NULL, who TEXT NOT NULL, what TEXT NOT NULL);
CREATE TABLE sieve(account INT NOT NULL, name TEXT NOT NULL, script BLOB NOT NULL, active INT NOT NULL,
  PRIMARY KEY(account, name)) WITHOUT ROWID;
CREATE TABLE gap(store TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE salvaged(place INT NOT NULL, number INT NOT NULL, born INT NOT NULL,
  PRIMARY KEY(place, number, born)) WITHOUT ROWID;
CREATE TABLE epochs(epoch INTEGER PRIMARY KEY, first_seq INT NOT NULL, forced INT NOT NULL);
INSERT INTO state VALUES(1, 1, zeroblob(0), zeroblob(0), 0, 0, 0, 0, 0, 0, 0, zeroblob(0), 0, 0, 0, 0, 0, 0, 0, 0, 0);
";

/// What the committer knows without asking the index; one row of it, written with every batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct State {
    /// The last applied batch.
    pub link: Link,
    /// The segment it lies in (its first sequence).
    pub segment: Seq,
    /// Where it starts.
    pub start: u64,
    /// Where the next one starts.
    pub end: u64,
    /// Version of the last InSync record.
    pub in_sync_version: u64,
    /// Last MODSEQ given.
    pub modseq: ModSeq,
    /// Last mailbox id given.
    pub mailbox: u64,
    /// Last UIDVALIDITY given.
    pub uid_validity: u32,
    /// Last body row.
    pub body: u64,
    /// Last history row.
    pub history: u64,
    /// Last audit row.
    pub audit: u64,
    /// The latest time that a record carried.
    pub clock: i64,
    /// Live accounts.
    pub accounts: u64,
    /// Octets of live mail.
    pub octets: u64,
}

impl State {
    /// The next MODSEQ: rises, never below `epoch << 32`, 63 bits.
    pub fn next_modseq(&mut self, epoch: Epoch) -> ModSeq {
        const MAX: ModSeq = i64::MAX as ModSeq;
        let floor = epoch.min(MAX >> 32) << 32;
        self.modseq = (self.modseq + 1).max(floor).min(MAX);
        self.modseq
    }

    /// The next mailbox id: rises, prefixed by the epoch.
    pub fn next_mailbox(&mut self, epoch: Epoch) -> u64 {
        const MAX: u64 = i64::MAX as u64;
        self.mailbox = (self.mailbox + 1).max((epoch.min(MAX >> 32) << 32) + 1).min(MAX);
        self.mailbox
    }

    /// The next UIDVALIDITY: rises strictly, and with the clock.
    pub fn next_uid_validity(&mut self, now: i64) -> u32 {
        let clock = u32::try_from(now.max(0)).unwrap_or(0);
        self.uid_validity = self.uid_validity.saturating_add(1).max(clock);
        self.uid_validity
    }

    /// Reads the row.
    pub fn load(conn: &Connection) -> rusqlite::Result<Self> {
        conn.query_row(
            "SELECT epoch, seq, crc, segment, start, end, in_sync_version, modseq, mailbox, uid_validity, body, \
             history, audit, clock, accounts, octets FROM state",
            [],
            |r| {
                Ok(Self {
                    link: Link { epoch: r.get(0)?, seq: r.get(1)?, crc: r.get(2)? },
                    segment: r.get(3)?,
                    start: r.get(4)?,
                    end: r.get(5)?,
                    in_sync_version: r.get(6)?,
                    modseq: r.get(7)?,
                    mailbox: r.get(8)?,
                    uid_validity: r.get(9)?,
                    body: r.get(10)?,
                    history: r.get(11)?,
                    audit: r.get(12)?,
                    clock: r.get(13)?,
                    accounts: r.get(14)?,
                    octets: r.get(15)?,
                })
            },
        )
    }

    /// Writes the row.
    pub fn save(&self, conn: &Connection) -> rusqlite::Result<()> {
        conn.prepare_cached(
            "UPDATE state SET epoch=?, seq=?, crc=?, segment=?, start=?, end=?, in_sync_version=?, modseq=?, \
             mailbox=?, uid_validity=?, body=?, history=?, audit=?, clock=?, accounts=?, octets=?",
        )?
        .execute(params![
            self.link.epoch,
            self.link.seq,
            self.link.crc,
            self.segment,
            self.start,
            self.end,
            self.in_sync_version,
            self.modseq,
            self.mailbox,
            self.uid_validity,
            self.body,
            self.history,
            self.audit,
            self.clock,
            self.accounts,
            self.octets
        ])?;
        Ok(())
    }
}

/// The epochs of what is applied, ascending.
pub fn epochs(conn: &Connection) -> rusqlite::Result<Vec<EpochMark>> {
    let mut query = conn.prepare_cached("SELECT epoch, first_seq, forced FROM epochs ORDER BY epoch")?;
    let rows = query
        .query_map([], |r| Ok(EpochMark { epoch: r.get(0)?, first_seq: r.get(1)?, forced: r.get(2)? }))?;
    rows.collect()
}

/// The replicas that must have what is acknowledged, by what is applied: 16 octets each.
pub fn in_sync(conn: &Connection) -> rusqlite::Result<Vec<Vec<u8>>> {
    let ids: Vec<u8> = conn.query_row("SELECT in_sync FROM state", [], |r| r.get(0))?;
    Ok(ids.chunks(16).map(<[u8]>::to_vec).collect())
}

/// Where the index lies.
pub fn path(dir: &Path) -> std::path::PathBuf {
    dir.join("index.sqlite")
}

/// Statements are planned without a look at the values bound to them: otherwise SQLite, built as here with STAT4,
/// prepares every join anew each time it is taken from the cache.
fn plan_once(conn: &Connection) -> rusqlite::Result<()> {
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map(drop)
}

/// Opens the index for the committer; makes it when it is missing.
pub fn open_writer(dir: &Path, ids: (&[u8], &[u8])) -> rusqlite::Result<Connection> {
    let mut conn = Connection::open(path(dir))?;
    conn.set_prepared_statement_cache_capacity(256);
    conn.busy_handler(Some(wait_a_little))?;
    plan_once(&conn)?;
    conn.execute_batch(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint=0; \
         PRAGMA cache_size=-131072; PRAGMA temp_store=MEMORY;",
    )?;
    let version = version(&conn)?;
    if version == 0 {
        conn.execute_batch(&format!(
            "BEGIN IMMEDIATE; {TABLES} {FROM_3} PRAGMA user_version={VERSION}; COMMIT;"
        ))?;
        conn.execute("UPDATE state SET cluster=?, replica=?", params![ids.0, ids.1])?;
    } else if !can_be_raised(version) {
        return Err(rusqlite::Error::InvalidQuery);
    }
    let foreign: bool =
        conn.query_row("SELECT cluster<>? OR replica<>? FROM state", params![ids.0, ids.1], |r| r.get(0))?;
    if foreign {
        return Err(rusqlite::Error::InvalidQuery);
    }
    raise(&conn)?;
    Ok(conn)
}

/// Is an index of this version one, or can it become one?
pub fn can_be_raised(version: u32) -> bool {
    (OLDEST..=VERSION).contains(&version)
}

/// The version of an index.
pub fn version(conn: &Connection) -> rusqlite::Result<u32> {
    conn.query_row("PRAGMA user_version", [], |r| r.get(0))
}

/// Brings an index of an older version up to this one, at once or not at all.
fn raise(conn: &Connection) -> rusqlite::Result<()> {
    if version(conn)? == VERSION {
        return Ok(());
    }
    tracing::info!(to = VERSION, "the index gets the tables of this version");
    conn.execute_batch(&format!("BEGIN IMMEDIATE; {FROM_3} PRAGMA user_version={VERSION}; COMMIT;"))
}

/// Makes the copy of another replica's index one of this replica.
pub fn adopt(conn: &Connection, (cluster, replica): (&[u8], &[u8])) -> rusqlite::Result<()> {
    conn.execute_batch("PRAGMA journal_mode=DELETE; PRAGMA synchronous=FULL;")?;
    let ours = can_be_raised(version(conn)?)
        && conn.execute("UPDATE state SET replica=? WHERE cluster=?", params![replica, cluster])? == 1;
    if ours { Ok(()) } else { Err(rusqlite::Error::InvalidQuery) }
}

/// Opens the index for reading.
pub fn open_reader(dir: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path(dir), flags)?;
    conn.set_prepared_statement_cache_capacity(64);
    conn.busy_timeout(Duration::from_secs(10))?;
    plan_once(&conn)?;
    conn.execute_batch(
        "PRAGMA query_only=ON; PRAGMA wal_autocheckpoint=0; PRAGMA cache_size=-8192; PRAGMA mmap_size=0;",
    )?;
    Ok(conn)
}

/// Opens the index for the checkpointer.
pub fn open_checkpointer(dir: &Path) -> rusqlite::Result<Connection> {
    let conn = Connection::open(path(dir))?;
    // A restart waits for readers while it holds the committer: not for long, it is tried again.
    conn.busy_timeout(Duration::from_millis(20))?;
    conn.execute_batch("PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint=0;")?;
    Ok(conn)
}

/// The committer waits for a checkpoint to end: in short steps, as clients wait too; at most ten seconds.
fn wait_a_little(tries: i32) -> bool {
    std::thread::sleep(Duration::from_micros(200));
    tries < 50_000
}

/// The files of an index.
pub fn files(dir: &Path) -> impl Iterator<Item = std::path::PathBuf> {
    file_paths(dir).into_iter()
}

/// The index itself, its write-ahead log, and what its connections share.
pub fn file_paths(dir: &Path) -> [std::path::PathBuf; 3] {
    ["", "-wal", "-shm"].map(|suffix| dir.join(format!("index.sqlite{suffix}")))
}

/// Removes an index that cannot be used, so that it is rebuilt.
pub fn remove(dir: &Path) -> std::io::Result<()> {
    for file in files(dir) {
        match std::fs::remove_file(&file) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use super::*;

    /// What an index of the version before has.
    fn of_before(dir: &Path) -> Connection {
        let conn = Connection::open(path(dir)).unwrap();
        conn.execute_batch(&format!(
            "{TABLES} UPDATE state SET cluster=x'63', replica=x'72', seq=9; PRAGMA user_version={OLDEST};"
        ))
        .unwrap();
        conn
    }

    #[test]
    fn an_index_of_the_version_before_is_brought_up_and_others_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let old = of_before(dir.path());
        assert!(old.prepare("SELECT * FROM seen").is_err());
        drop(old);
        let conn = open_writer(dir.path(), (b"c", b"r")).unwrap();
        assert_eq!(State::load(&conn).unwrap().link.seq, 9, "it is the same index");
        assert!(!conn.prepare("SELECT * FROM seen").unwrap().exists([]).unwrap());
        assert_eq!(version(&conn), Ok(VERSION));
        for other in [OLDEST - 1, VERSION + 1] {
            conn.execute_batch(&format!("PRAGMA user_version={other}")).unwrap();
            assert!(open_writer(dir.path(), (b"c", b"r")).is_err(), "{other}");
            assert_eq!(version(&conn), Ok(other), "it is left as it is");
        }
    }

    #[test]
    fn cached_statements_are_not_prepared_anew() {
        let dir = tempfile::tempdir().unwrap();
        let writer = open_writer(dir.path(), (b"c", b"r")).unwrap();
        let reader = open_reader(dir.path()).unwrap();
        let join = "SELECT u.octets FROM used u, counter c WHERE u.account=? AND c.mailbox=?";
        for conn in [&writer, &reader] {
            for n in 0..5 {
                let mut statement = conn.prepare_cached(join).unwrap();
                assert!(!statement.exists(params![n, n + 1]).unwrap());
                assert_eq!(statement.get_status(StatementStatus::RePrepare), 0);
            }
        }
    }
}
