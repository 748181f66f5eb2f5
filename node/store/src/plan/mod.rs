//! Deciding what a change becomes: records with their results, or a refusal. Reads the index, changes nothing.

mod deliver;
mod directory;
mod filing;
mod left_behind;
mod mailbox;
mod message;
mod queue;
mod script;
mod undelete;

pub use mailbox::special_use;
pub use message::parse_keywords;
pub use script::{MAX_SCRIPT, MAX_SCRIPTS};

use bytes::Bytes;
use mailcluster_types::{AccountId, DeliveryId, Epoch, ModSeq, ReplicaId, StoreName, Uid};
use rusqlite::{Connection, OptionalExtension};

use crate::{
    apply::Hot,
    error::Refusal,
    left_behind::{Item, Salvaged},
    model::{Account, Alias, Domain},
    ops::{
        Append, Appended, Copied, CopyKind, CreateMailbox, Delivered, Delivery, Enqueue, Expunge, FlagChange,
        FlagsChanged, Purge, Purged, QueueUpdate, ScriptChange, Undelete, Undeleted,
    },
    record::{EpochStart, InSync, PutGaps, Record},
    replica::StoreKind,
    schema::State,
    space::Space,
};

/// The largest message in octets.
pub const MAX_MESSAGE: u64 = 128 << 20;

/// The largest change in octets, by [`Op::weight`]: far below what a batch may hold.
const MAX_OP: u64 = 160 << 20;
/// How far, in seconds, an acceptor's clock may be ahead of ours: its times decide when ids are forgotten.
const MAX_AHEAD: i64 = 3600;

/// A change that is asked for.
#[derive(Debug, Clone)]
pub enum Op {
    /// With the body's CRC.
    Deliver(Delivery, u32),
    /// With the body's CRC.
    Append(Append, u32),
    SetFlags(FlagChange),
    Expunge(u64, Expunge),
    Copy {
        from: u64,
        uids: Vec<Uid>,
        to: u64,
        kind: CopyKind,
    },
    Create(CreateMailbox),
    Delete(u64),
    Rename(u64, String),
    Subscribe(AccountId, String, bool),
    Script(AccountId, ScriptChange),
    PutAccount(Account),
    PutAccounts(Vec<Account>),
    PutDomain(Domain),
    PutAlias(Alias),
    PutGaps(Vec<StoreName>),
    /// With the CRC-32C of its body.
    QueuePut(Enqueue, u32),
    QueueUpdate(DeliveryId, String, QueueUpdate),
    Audit(i64, String, String),
    Undelete(Undelete),
    Purge(Purge),
    /// With the highest MODSEQ of both lines.
    Salvage(ModSeq, Box<Item>),
    EpochStart(Epoch, Vec<ReplicaId>),
    InSync(u64, Vec<ReplicaId>),
}

impl Op {
    /// Octets that it brings, for the limits of a batch.
    pub fn weight(&self) -> u64 {
        let body = match self {
            Self::Deliver(d, _) => d.body.len() + d.targets.iter().map(filing::weight).sum::<usize>(),
            Self::Append(a, _) => a.body.len(),
            Self::Script(_, ScriptChange::Put { text, .. }) => text.len(),
            Self::Script(..) => script::MAX_SCRIPT,
            Self::QueuePut(q, _) => q.body.len() + q.recipients.len() * 256,
            Self::PutAccounts(all) => all.len() * 600,
            Self::Copy { uids, .. } => uids.len() * 8,
            Self::Undelete(asked) => asked.messages.len() * 16,
            Self::Salvage(_, item) => item.octets(),
            _ => 0,
        };
        body as u64 + 512
    }

    /// Does the protocol write it?
    pub fn is_of_the_protocol(&self) -> bool {
        matches!(self, Self::EpochStart(..) | Self::InSync(..))
    }

    /// Is it refused when the volume is nearly full? What makes room, and what is small, never is.
    fn needs_room(&self) -> bool {
        match self {
            Self::Deliver(..) | Self::Append(..) | Self::QueuePut(..) | Self::PutAccounts(_) => true,
            Self::Script(_, change) => matches!(change, ScriptChange::Put { .. }),
            Self::Copy { kind, .. } => *kind == CopyKind::Copy,
            Self::Salvage(_, item) => item.brings_text(),
            _ => false,
        }
    }
}

/// What a change answers.
#[derive(Debug)]
pub enum Value {
    Done,
    Count(u64),
    Delivered(Vec<Delivered>),
    Appended(Appended),
    Flags(FlagsChanged),
    Expunged(Vec<Uid>),
    Copied(Copied),
    Mailbox(u64),
    Salvaged(Box<Salvaged>),
    Undeleted(Undeleted),
    Purged(Purged),
}

/// Records to append (none when nothing changes), each with its body, and the answer.
#[derive(Debug)]
pub struct Planned {
    pub records: Vec<(Record, Bytes)>,
    pub value: Value,
}

impl Planned {
    fn one(record: impl Into<Record>, value: Value) -> Self {
        Self { records: vec![(record.into(), Bytes::new())], value }
    }

    fn with_body(record: impl Into<Record>, body: Bytes, value: Value) -> Self {
        Self { records: vec![(record.into(), body)], value }
    }

    fn nothing(value: Value) -> Self {
        Self { records: Vec::new(), value }
    }
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Index(#[from] rusqlite::Error),
}

/// What decisions rest on.
pub struct Plan<'a> {
    pub conn: &'a Connection,
    /// Accounts used lately.
    pub hot: &'a mut Hot,
    /// A copy, to draw ids from; applying the records moves the real one.
    pub next: State,
    pub epoch: Epoch,
    pub kind: StoreKind,
    pub store: &'a StoreName,
    pub space: &'a Space,
    /// Seconds since 1970.
    pub now: i64,
    /// Can what is expunged be brought back for a while?
    pub keeps_expunged: bool,
}

/// A mailbox's row.
pub struct MailboxRow {
    pub id: u64,
    pub account: i64,
    pub owner: Vec<u8>,
    pub name: String,
    pub uid_validity: u32,
    pub uid_next: u64,
}

impl Plan<'_> {
    fn mailbox(&self, id: u64) -> Result<MailboxRow, PlanError> {
        self.conn
            .prepare_cached(
                "SELECT m.account, a.id, m.name, m.uid_validity, c.uid_next FROM mailbox m \
                 JOIN account a ON a.local=m.account JOIN counter c ON c.mailbox=m.id WHERE m.id=?",
            )?
            .query_row([id], |r| {
                Ok(MailboxRow {
                    id,
                    account: r.get(0)?,
                    owner: r.get(1)?,
                    name: r.get(2)?,
                    uid_validity: r.get(3)?,
                    uid_next: r.get(4)?,
                })
            })
            .optional()?
            .ok_or(PlanError::Refused(Refusal::NoSuchMailbox))
    }

    /// Would `size` octets more be over the account's quota?
    fn check_quota(&self, account: i64, size: u64) -> Result<(), PlanError> {
        let (quota, used): (u64, u64) = self
            .conn
            .prepare_cached(
                "SELECT a.quota, u.octets FROM account a JOIN used u ON u.account=a.local WHERE a.local=?",
            )?
            .query_row([account], |r| Ok((r.get(0)?, r.get(1)?)))?;
        Ok(quota_allows(quota, used, size)?)
    }

    /// A live account of this store: its local number.
    fn own_account(&mut self, id: AccountId) -> Result<i64, PlanError> {
        let found = self.hot.find(self.conn, &id.to_bytes())?.filter(|a| a.here);
        match found {
            Some(account) if self.kind == StoreKind::Mail => Ok(account.local),
            _ => Err(Refusal::NoSuchAccount(id).into()),
        }
    }
}

/// The quota rule: 0 is no limit.
pub fn quota_allows(quota: u64, used: u64, size: u64) -> Result<(), Refusal> {
    if quota != 0 && used.saturating_add(size) > quota { Err(Refusal::OverQuota) } else { Ok(()) }
}

/// `count` UIDs from `next` on, or the refusal when they run out.
fn take_uids(next: u64, count: usize) -> Result<u32, Refusal> {
    let last = next.saturating_add(count as u64);
    match u32::try_from(next) {
        Ok(first) if last < u64::from(u32::MAX) => Ok(first),
        _ => Err(Refusal::NotAllowed("the mailbox has no more UIDs")),
    }
}

/// Decides what `op` becomes.
pub fn plan(cx: &mut Plan<'_>, op: Op) -> Result<Planned, PlanError> {
    if op.weight() > MAX_OP {
        return Err(Refusal::TooLarge { limit: MAX_OP }.into());
    }
    if op.needs_room() && !cx.space.has_room(op.weight()) {
        return Err(Refusal::Full.into());
    }
    match op {
        Op::Deliver(delivery, crc) => deliver::deliver(cx, delivery, crc),
        Op::Append(append, crc) => deliver::append(cx, append, crc),
        Op::SetFlags(change) => message::set_flags(cx, change),
        Op::Expunge(mailbox, which) => message::expunge(cx, mailbox, which),
        Op::Copy { from, uids, to, kind } => message::copy(cx, (from, to), uids, kind),
        Op::Create(create) => mailbox::create(cx, &create),
        Op::Delete(id) => mailbox::delete(cx, id),
        Op::Rename(id, to) => mailbox::rename(cx, id, &to),
        Op::Subscribe(account, name, subscribed) => mailbox::subscribe(cx, account, &name, subscribed),
        Op::Script(account, change) => script::change(cx, account, change),
        Op::PutAccount(account) => directory::put_account(cx, account),
        Op::PutAccounts(accounts) => directory::put_accounts(cx, accounts),
        Op::PutDomain(domain) => directory::put_domain(cx, domain),
        Op::PutAlias(alias) => directory::put_alias(cx, alias),
        Op::PutGaps(missing) => {
            let missing = missing.into_iter().map(String::from).collect();
            Ok(Planned::one(PutGaps { missing }, Value::Done))
        }
        Op::QueuePut(message, crc) => queue::put(cx, message, crc),
        Op::QueueUpdate(delivery, address, update) => queue::update(cx, delivery, address, update),
        Op::Audit(at, who, what) => Ok(Planned::one(crate::record::Audit { at, who, what }, Value::Done)),
        Op::Undelete(asked) => undelete::undelete(cx, asked),
        Op::Purge(asked) => undelete::purge(cx, asked),
        Op::Salvage(fork, item) => left_behind::salvage(cx, fork, *item),
        Op::EpochStart(epoch, in_sync) => Ok(Planned::one(EpochStart::new(epoch, &in_sync), Value::Done)),
        Op::InSync(version, in_sync) => Ok(Planned::one(InSync::new(version, &in_sync), Value::Done)),
    }
}
