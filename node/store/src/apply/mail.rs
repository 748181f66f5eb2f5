//! Messages: delivered, appended, flagged, expunged, copied.

use rusqlite::{OptionalExtension, params};

use super::{
    Apply, ApplyError, seen,
    trace::{self, Event, Line},
    undelete,
};
use crate::{
    files::Place,
    model::SystemFlag,
    record::{Append, Copy, Deliver, Placed, SetFlags, Stored},
};

/// Expunged UIDs that are remembered per mailbox; beyond, QRESYNC clients are told of all that is gone.
const EXPUNGED_KEPT: i64 = 10_000;
const EXPUNGED_SLACK: i64 = 2_000;

/// A message's row.
pub struct Row<'a> {
    pub mailbox: u64,
    pub uid: u32,
    pub modseq: u64,
    pub system: u32,
    pub keywords: Option<String>,
    pub internal_date: i64,
    pub zone: i32,
    pub size: u64,
    pub delivery: Option<&'a [u8]>,
    pub body: u64,
}

/// How a mailbox's counters change.
#[derive(Default)]
pub struct Delta {
    pub messages: i64,
    pub unseen: i64,
    pub deleted: i64,
    pub octets: i64,
    /// 0: unchanged.
    pub uid_next: u32,
    pub modseq: u64,
}

impl Delta {
    /// Counts a message in (`sign` 1) or out (-1).
    pub fn message(&mut self, sign: i64, system: u32, size: u64) {
        self.messages += sign;
        self.octets += sign * size.cast_signed();
        self.unseen += sign * i64::from(system & SystemFlag::Seen as u32 == 0);
        self.deleted += sign * i64::from(system & SystemFlag::Deleted as u32 != 0);
    }
}

/// Keywords as one column: none, or separated by blanks.
pub fn keywords_column(keywords: &[String]) -> Option<String> {
    (!keywords.is_empty()).then(|| keywords.join(" "))
}

pub fn deliver(cx: &mut Apply<'_>, r: &Deliver, place: Place) -> Result<(), ApplyError> {
    for target in &r.targets {
        let event = match (target.mailbox, target.filtered) {
            (0, false) => Event::Duplicate,
            (0, true) => Event::Filtered,
            _ => Event::Delivered,
        };
        if event != Event::Duplicate {
            take_in(cx, r, target, place)?;
        }
        let told: Vec<&str> =
            [&*r.met, &*target.detail].into_iter().filter(|told| !told.is_empty()).collect();
        let detail = (!told.is_empty()).then(|| told.join("; "));
        let line = |place, detail| Line {
            at: r.at,
            delivery: &r.delivery,
            event,
            recipient: &target.recipient,
            place,
            detail,
        };
        trace::history(cx, &line((target.mailbox, target.uid), detail.as_deref()))?;
        for other in &target.also {
            trace::history(cx, &line((other.mailbox, other.uid), None))?;
        }
    }
    cx.saw(r.at);
    trace::trim(cx, r.targets.len())
}

/// What an account gets, once: its copies, which share a body, and what its scripts remember.
fn take_in(cx: &mut Apply<'_>, r: &Deliver, target: &Stored, place: Place) -> Result<(), ApplyError> {
    let account = cx.local(&target.account)?;
    if target.mailbox != 0 {
        let body = add_body(cx, place, &target.prefix)?;
        let size = target.prefix.len() as u64 + u64::from(place.len);
        let first = Placed {
            mailbox: target.mailbox,
            uid: target.uid,
            modseq: target.modseq,
            system: target.system,
            keywords: target.keywords.clone(),
        };
        store_copy(cx, r, &first, (account, body, size))?;
        for other in &target.also {
            cx.conn.prepare_cached("UPDATE body SET refs=refs+1 WHERE id=?")?.execute([body])?;
            store_copy(cx, r, other, (account, body, size))?;
        }
    }
    seen::remember(cx, account, &target.seen, r.at)?;
    trace::delivered(cx, &r.delivery, account, r.at)
}

fn store_copy(
    cx: &mut Apply<'_>,
    r: &Deliver,
    placed: &Placed,
    (account, body, size): (i64, u64, u64),
) -> Result<(), ApplyError> {
    insert(
        cx,
        &Row {
            mailbox: placed.mailbox,
            uid: placed.uid,
            modseq: placed.modseq,
            system: placed.system,
            keywords: keywords_column(&placed.keywords),
            internal_date: r.at,
            zone: 0,
            size,
            delivery: Some(&r.delivery),
            body,
        },
    )?;
    let mut delta = Delta { uid_next: placed.uid + 1, modseq: placed.modseq, ..Delta::default() };
    delta.message(1, placed.system, size);
    count(cx, placed.mailbox, account, &delta)
}

pub fn append(cx: &mut Apply<'_>, r: &Append, place: Place) -> Result<(), ApplyError> {
    let account = cx.local(&r.account)?;
    let body = add_body(cx, place, &[])?;
    let size = u64::from(place.len);
    insert(
        cx,
        &Row {
            mailbox: r.mailbox,
            uid: r.uid,
            modseq: r.modseq,
            system: r.system,
            keywords: keywords_column(&r.keywords),
            internal_date: r.internal_date,
            zone: r.zone_minutes,
            size,
            delivery: None,
            body,
        },
    )?;
    let mut delta = Delta { uid_next: r.uid + 1, modseq: r.modseq, ..Delta::default() };
    delta.message(1, r.system, size);
    count(cx, r.mailbox, account, &delta)
}

pub fn set_flags(cx: &mut Apply<'_>, r: &SetFlags) -> Result<(), ApplyError> {
    let mut delta = Delta { modseq: r.modseq, ..Delta::default() };
    for group in &r.groups {
        let keywords = keywords_column(&group.keywords);
        for uid in &group.uids {
            let old: u32 = cx
                .conn
                .prepare_cached("SELECT system FROM message WHERE mailbox=? AND uid=?")?
                .query_row(params![r.mailbox, uid], |row| row.get(0))
                .optional()?
                .ok_or(ApplyError::Misfit("flags of a message"))?;
            cx.conn
                .prepare_cached(
                    "UPDATE message SET modseq=?, system=?, keywords=? WHERE mailbox=? AND uid=?",
                )?
                .execute(params![r.modseq, group.system, keywords, r.mailbox, uid])?;
            delta.message(-1, old, 0);
            delta.message(1, group.system, 0);
        }
    }
    let account = account_of(cx, r.mailbox)?;
    count(cx, r.mailbox, account, &delta)
}

/// Messages that go.
pub struct Going<'a> {
    pub mailbox: u64,
    pub modseq: u64,
    pub uids: &'a [u32],
    pub at: i64,
}

/// What becomes of what goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is gone.
    Lost,
    /// It can be brought back for a while.
    Kept,
}

pub fn expunge(cx: &mut Apply<'_>, r: &Going<'_>, fate: Fate) -> Result<(), ApplyError> {
    let account = account_of(cx, r.mailbox)?;
    let address = address_of(cx, account)?;
    let mut delta = Delta { modseq: r.modseq, ..Delta::default() };
    if fate == Fate::Kept {
        undelete::keep(cx, (account, r.mailbox), r.uids, r.at)?;
    }
    for uid in r.uids {
        let gone = take(cx, r.mailbox, *uid)?;
        delta.message(-1, gone.system, gone.size);
        if fate == Fate::Lost {
            release_body(cx, gone.body)?;
        }
        if let Some(delivery) = &gone.delivery {
            let line = Line {
                at: r.at,
                delivery,
                event: Event::Expunged,
                recipient: &address,
                place: (r.mailbox, *uid),
                detail: None,
            };
            trace::history(cx, &line)?;
        }
        remember_expunged(cx, r.mailbox, r.modseq, *uid)?;
    }
    cx.saw(r.at);
    count(cx, r.mailbox, account, &delta)?;
    bound_expunged(cx, r.mailbox, r.uids.len())
}

pub fn copy(cx: &mut Apply<'_>, r: &Copy) -> Result<(), ApplyError> {
    let (from, to) = (account_of(cx, r.from)?, account_of(cx, r.to)?);
    let address = address_of(cx, to)?;
    let moving = r.moved_modseq != 0;
    let mut left = Delta { modseq: r.moved_modseq, ..Delta::default() };
    let mut come = Delta { modseq: r.modseq, ..Delta::default() };
    let mut next = r.first_uid;
    for uid in &r.uids {
        let message = if moving { take(cx, r.from, *uid)? } else { find(cx, r.from, *uid)? };
        if moving {
            left.message(-1, message.system, message.size);
            remember_expunged(cx, r.from, r.moved_modseq, *uid)?;
        } else {
            cx.conn.prepare_cached("UPDATE body SET refs=refs+1 WHERE id=?")?.execute([message.body])?;
        }
        come.message(1, message.system, message.size);
        insert(
            cx,
            &Row {
                mailbox: r.to,
                uid: next,
                modseq: r.modseq,
                system: message.system,
                keywords: message.keywords,
                internal_date: message.internal_date,
                zone: message.zone,
                size: message.size,
                delivery: message.delivery.as_deref(),
                body: message.body,
            },
        )?;
        if let (true, Some(delivery)) = (moving, &message.delivery) {
            let (event, place) = (Event::Moved, (r.to, next));
            let line = Line { at: r.at, delivery, event, recipient: &address, place, detail: None };
            trace::history(cx, &line)?;
        }
        next += 1;
    }
    come.uid_next = next;
    if moving {
        count(cx, r.from, from, &left)?;
        bound_expunged(cx, r.from, r.uids.len())?;
    }
    cx.saw(r.at);
    count(cx, r.to, to, &come)
}

/// A message that is there.
struct Held {
    system: u32,
    keywords: Option<String>,
    internal_date: i64,
    zone: i32,
    size: u64,
    delivery: Option<Vec<u8>>,
    body: u64,
}

fn held(row: &rusqlite::Row<'_>) -> rusqlite::Result<Held> {
    Ok(Held {
        system: row.get(0)?,
        keywords: row.get(1)?,
        internal_date: row.get(2)?,
        zone: row.get(3)?,
        size: row.get(4)?,
        delivery: row.get(5)?,
        body: row.get(6)?,
    })
}

fn find(cx: &Apply<'_>, mailbox: u64, uid: u32) -> Result<Held, ApplyError> {
    const SQL: &str = "SELECT system, keywords, internal_date, zone, size, delivery, body \
                       FROM message WHERE mailbox=? AND uid=?";
    let found = cx.conn.prepare_cached(SQL)?.query_row(params![mailbox, uid], held).optional()?;
    found.ok_or(ApplyError::Misfit("a message"))
}

fn take(cx: &Apply<'_>, mailbox: u64, uid: u32) -> Result<Held, ApplyError> {
    let found = find(cx, mailbox, uid)?;
    cx.conn
        .prepare_cached("DELETE FROM message WHERE mailbox=? AND uid=?")?
        .execute(params![mailbox, uid])?;
    Ok(found)
}

/// Writes a message's row.
pub fn insert(cx: &Apply<'_>, row: &Row<'_>) -> Result<(), ApplyError> {
    cx.conn.prepare_cached("INSERT INTO message VALUES(?1,?2,?3,?3,?4,?5,?6,?7,?8,?9,?10)")?.execute(
        params![
            row.mailbox,
            row.uid,
            row.modseq,
            row.system,
            row.keywords,
            row.internal_date,
            row.zone,
            row.size,
            row.delivery,
            row.body
        ],
    )?;
    Ok(())
}

/// Makes a body's row with one reference and answers its number.
pub fn add_body(cx: &mut Apply<'_>, place: Place, prefix: &[u8]) -> Result<u64, ApplyError> {
    cx.state.body += 1;
    let prefix = (!prefix.is_empty()).then_some(prefix);
    cx.conn.prepare_cached("INSERT INTO body VALUES(?,?,?,?,?,1,?)")?.execute(params![
        cx.state.body,
        place.segment,
        place.offset,
        place.len,
        place.crc,
        prefix
    ])?;
    Ok(cx.state.body)
}

/// Gives one reference back; the row goes with the last.
pub fn release_body(cx: &Apply<'_>, body: u64) -> Result<(), ApplyError> {
    let left: i64 = cx
        .conn
        .prepare_cached("UPDATE body SET refs=refs-1 WHERE id=? RETURNING refs")?
        .query_row([body], |r| r.get(0))
        .optional()?
        .ok_or(ApplyError::Misfit("a body to release"))?;
    if left <= 0 {
        cx.conn.prepare_cached("DELETE FROM body WHERE id=?")?.execute([body])?;
    }
    Ok(())
}

/// Changes a mailbox's counters, its owner's and the store's.
pub fn count(cx: &mut Apply<'_>, mailbox: u64, account: i64, d: &Delta) -> Result<(), ApplyError> {
    let changed = cx
        .conn
        .prepare_cached(
            "UPDATE counter SET messages=messages+?2, unseen=unseen+?3, deleted=deleted+?4, octets=octets+?5, \
             uid_next=max(uid_next, ?6), modseq=max(modseq, ?7) WHERE mailbox=?1",
        )?
        .execute(params![mailbox, d.messages, d.unseen, d.deleted, d.octets, d.uid_next, d.modseq])?;
    if changed != 1 {
        return Err(ApplyError::Misfit("a mailbox"));
    }
    if d.octets != 0 {
        cx.conn
            .prepare_cached("UPDATE used SET octets=octets+? WHERE account=?")?
            .execute(params![d.octets, account])?;
        cx.state.octets = cx.state.octets.saturating_add_signed(d.octets);
    }
    cx.saw_modseq(mailbox, d.modseq);
    Ok(())
}

fn remember_expunged(cx: &Apply<'_>, mailbox: u64, modseq: u64, uid: u32) -> Result<(), ApplyError> {
    cx.conn
        .prepare_cached("INSERT OR IGNORE INTO expunged VALUES(?,?,?)")?
        .execute(params![mailbox, modseq, uid])?;
    Ok(())
}

/// Keeps the newest expunged UIDs of a mailbox, and the MODSEQ from which they are complete.
fn bound_expunged(cx: &Apply<'_>, mailbox: u64, added: usize) -> Result<(), ApplyError> {
    let added = i64::try_from(added).unwrap_or(i64::MAX);
    let kept: i64 = cx
        .conn
        .prepare_cached("UPDATE counter SET expunged=expunged+? WHERE mailbox=? RETURNING expunged")?
        .query_row(params![added, mailbox], |r| r.get(0))?;
    if kept <= EXPUNGED_KEPT + EXPUNGED_SLACK {
        return Ok(());
    }
    let floor: u64 = cx
        .conn
        .prepare_cached("SELECT modseq FROM expunged WHERE mailbox=? ORDER BY modseq, uid LIMIT 1 OFFSET ?")?
        .query_row(params![mailbox, kept - EXPUNGED_KEPT - 1], |r| r.get(0))?;
    let gone = cx
        .conn
        .prepare_cached("DELETE FROM expunged WHERE mailbox=? AND modseq<=?")?
        .execute(params![mailbox, floor])?;
    cx.conn
        .prepare_cached("UPDATE counter SET expunged=expunged-?, expunge_floor=? WHERE mailbox=?")?
        .execute(params![gone, floor, mailbox])?;
    Ok(())
}

/// The owner of a mailbox.
pub fn account_of(cx: &Apply<'_>, mailbox: u64) -> Result<i64, ApplyError> {
    cx.conn
        .prepare_cached("SELECT account FROM mailbox WHERE id=?")?
        .query_row([mailbox], |r| r.get(0))
        .optional()?
        .ok_or(ApplyError::Misfit("a mailbox"))
}

/// An account's address key.
pub fn address_of(cx: &Apply<'_>, account: i64) -> Result<String, ApplyError> {
    Ok(cx
        .conn
        .prepare_cached("SELECT address FROM account WHERE local=?")?
        .query_row([account], |r| r.get(0))?)
}
