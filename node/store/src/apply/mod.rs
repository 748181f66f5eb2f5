//! Applying a record to the index: the same functions when it is new and when recovery replays it. What is decided
//! stands in the record; nothing here looks at a clock or refuses.

mod directory;
mod forced;
pub mod kept;
mod mail;
mod mailbox;
mod queue;
mod salvaged;
mod seen;
pub mod trace;
mod undelete;

#[cfg(test)]
pub use forced::UID_SKIP;

use std::collections::{BTreeMap, HashMap};

use mailcluster_types::{ModSeq, Seq, StoreName};
use rusqlite::{Connection, OptionalExtension, params};

use crate::{files::Place, record::Record, schema::State};

/// A record does not fit the index, or the index cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// SQLite says so.
    #[error(transparent)]
    Index(#[from] rusqlite::Error),
    /// The record names what is not there.
    #[error("a record does not fit the index: {0}")]
    Misfit(&'static str),
}

impl ApplyError {
    /// Is the index itself broken (and not just this change impossible)?
    pub fn is_fatal(&self) -> bool {
        use rusqlite::ErrorCode::{
            CannotOpen, DatabaseCorrupt, NotADatabase, OutOfMemory, ReadOnly, SystemIoFailure,
        };
        let Self::Index(e) = self else { return false };
        matches!(
            e.sqlite_error_code(),
            Some(CannotOpen | DatabaseCorrupt | NotADatabase | OutOfMemory | ReadOnly | SystemIoFailure)
        )
    }

    /// Is the volume full?
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Index(e) if e.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull))
    }
}

/// What those who watch are told after the commit.
#[derive(Debug, Default)]
pub struct Changed {
    /// Mailboxes with their new MODSEQ.
    pub mailboxes: BTreeMap<u64, ModSeq>,
    /// An account, domain or alias changed.
    pub directory: bool,
    /// Something entered the queue.
    pub queue: bool,
    /// Something in the queue is to be tried sooner than it was.
    pub flushed: bool,
}

/// What every delivery needs to know of an account. Changes only with the account's record.
#[derive(Debug, Clone, Copy)]
pub struct AccountHot {
    /// Its number in this index.
    pub local: i64,
    /// Live, and its mail is on this store.
    pub here: bool,
    /// Octets; 0 = no limit.
    pub quota: u64,
    /// Its INBOX; 0 when it has none.
    pub inbox: u64,
}

/// Accounts that were used lately.
#[derive(Debug)]
pub struct Hot {
    store: StoreName,
    accounts: HashMap<[u8; 16], AccountHot>,
}

/// Most accounts that are kept in memory.
const HOT: usize = 200_000;

impl Hot {
    /// Knows nothing yet. `store` is the store's own name.
    pub fn new(store: &StoreName) -> Self {
        Self { store: store.clone(), accounts: HashMap::new() }
    }

    /// An account that has a record here.
    pub fn find(&mut self, conn: &Connection, id: &[u8]) -> Result<Option<AccountHot>, rusqlite::Error> {
        let Ok(key) = <[u8; 16]>::try_from(id) else {
            return Ok(None);
        };
        if let Some(found) = self.accounts.get(&key) {
            return Ok(Some(*found));
        }
        let found = conn
            .prepare_cached(
                "SELECT local, store, tombstone, quota, (SELECT m.id FROM mailbox m WHERE m.account=a.local \
                 AND m.name='INBOX') FROM account a WHERE id=?",
            )?
            .query_row([id], |r| {
                let store: String = r.get(1)?;
                let here = !r.get::<_, bool>(2)? && store == self.store.as_str();
                let inbox = r.get::<_, Option<u64>>(4)?.unwrap_or(0);
                Ok(AccountHot { local: r.get(0)?, here, quota: r.get(3)?, inbox })
            })
            .optional()?;
        if let Some(found) = found {
            if self.accounts.len() >= HOT {
                self.accounts.clear();
            }
            self.accounts.insert(key, found);
        }
        Ok(found)
    }

    /// An account's record changed.
    pub fn forget(&mut self, id: &[u8]) {
        if let Ok(key) = <[u8; 16]>::try_from(id) {
            self.accounts.remove(&key);
        }
    }

    /// Forgets everything: a transaction was rolled back.
    pub fn clear(&mut self) {
        self.accounts.clear();
    }
}

/// Where and when a record is applied.
pub struct Apply<'a> {
    /// In a transaction.
    pub conn: &'a Connection,
    /// The row of state.
    pub state: &'a mut State,
    /// Accounts used lately.
    pub hot: &'a mut Hot,
    /// What changed.
    pub changed: &'a mut Changed,
    /// The record's sequence.
    pub seq: Seq,
}

impl Apply<'_> {
    fn local(&mut self, id: &[u8]) -> Result<i64, ApplyError> {
        self.hot.find(self.conn, id)?.map(|a| a.local).ok_or(ApplyError::Misfit("account"))
    }

    fn saw(&mut self, at: i64) {
        self.state.clock = self.state.clock.max(at);
    }

    fn saw_modseq(&mut self, mailbox: u64, modseq: ModSeq) {
        self.state.modseq = self.state.modseq.max(modseq);
        self.changed.mailboxes.insert(mailbox, modseq);
    }
}

fn set_in_sync(conn: &Connection, ids: &[Vec<u8>]) -> Result<(), ApplyError> {
    conn.prepare_cached("UPDATE state SET in_sync=?")?.execute(params![ids.concat()])?;
    Ok(())
}

/// Applies one record. `place` is where its body lies.
pub fn apply(cx: &mut Apply<'_>, record: &Record, place: Option<Place>) -> Result<(), ApplyError> {
    let place = || place.ok_or(ApplyError::Misfit("body"));
    match record {
        Record::EpochStart(r) => {
            set_in_sync(cx.conn, &r.in_sync)?;
            cx.conn
                .prepare_cached("INSERT INTO epochs VALUES(?, ?, ?)")?
                .execute(params![r.epoch, cx.seq, r.forced])?;
            if r.forced { forced::begin(cx, r) } else { Ok(()) }
        }
        Record::InSync(r) => {
            cx.state.in_sync_version = r.version;
            set_in_sync(cx.conn, &r.in_sync)
        }
        Record::Salvaged(r) => salvaged::mark(cx, r),
        Record::Deliver(r) => mail::deliver(cx, r, place()?),
        Record::Append(r) => mail::append(cx, r, place()?),
        Record::SetFlags(r) => mail::set_flags(cx, r),
        Record::Expunge(r) => {
            let going = mail::Going { mailbox: r.mailbox, modseq: r.modseq, uids: &r.uids, at: r.at };
            mail::expunge(cx, &going, mail::Fate::Lost)
        }
        Record::Copy(r) => mail::copy(cx, r),
        Record::Retire(r) => undelete::retire(cx, r),
        Record::RetireMailbox(r) => undelete::retire_mailbox(cx, r),
        Record::Recover(r) => undelete::recover(cx, r),
        Record::Purge(r) => undelete::purge(cx, r),
        Record::CreateMailbox(r) => mailbox::create(cx, r),
        Record::DeleteMailbox(r) => mailbox::delete(cx, r),
        Record::RenameMailbox(r) => mailbox::rename(cx, r),
        Record::Subscribe(r) => mailbox::subscribe(cx, r),
        Record::PutSieve(r) => mailbox::put_sieve(cx, r),
        Record::PutAccount(r) => directory::put_account(cx, r),
        Record::PutDomain(r) => directory::put_domain(cx, r),
        Record::PutAlias(r) => directory::put_alias(cx, r),
        Record::PutGaps(r) => directory::put_gaps(cx, r),
        Record::Audit(r) => directory::audit(cx, r),
        Record::QueuePut(r) => queue::put(cx, r, place()?),
        Record::QueueUpdate(r) => queue::update(cx, r),
        Record::Kept(_) => Err(ApplyError::Misfit("a record of a pack")),
    }
}
