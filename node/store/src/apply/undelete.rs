//! Mail that was expunged and can be brought back: kept, brought back, purged. Its bodies keep their references, so that
//! nobody takes them for dead; no counter of live mail has it.

use rusqlite::{OptionalExtension, params};

use super::{
    Apply, ApplyError,
    mail::{self, Delta, Fate, Going, Row},
    mailbox,
    trace::{self, Event, Line},
};
use crate::{
    model::SystemFlag,
    record::{Purge, Recover, Retire, RetireMailbox},
};

pub fn retire(cx: &mut Apply<'_>, r: &Retire) -> Result<(), ApplyError> {
    let going = Going { mailbox: r.mailbox, modseq: r.modseq, uids: &r.uids, at: r.at };
    mail::expunge(cx, &going, Fate::Kept)
}

/// Copies messages that are about to go, with the name that their mailbox has.
pub fn keep(cx: &Apply<'_>, (account, mailbox): (i64, u64), uids: &[u32], at: i64) -> Result<(), ApplyError> {
    let name = name(cx, mailbox)?;
    let mut insert = cx.conn.prepare_cached(
        "INSERT INTO recoverable SELECT ?1, mailbox, uid, ?2, ?3, system, keywords, internal_date, zone, size, \
         delivery, body FROM message WHERE mailbox=?4 AND uid=?5 RETURNING size",
    )?;
    let mut octets = 0;
    for uid in uids {
        let size: Option<i64> =
            insert.query_row(params![account, at, name, mailbox, uid], |r| r.get(0)).optional()?;
        octets += size.ok_or(ApplyError::Misfit("a message"))?;
    }
    sum(cx, i64::try_from(uids.len()).unwrap_or(i64::MAX), octets)
}

/// All of a mailbox's messages are kept; those that went before it get its last name, as it is made again under that.
pub fn retire_mailbox(cx: &mut Apply<'_>, r: &RetireMailbox) -> Result<(), ApplyError> {
    let account = mail::account_of(cx, r.mailbox)?;
    let name = name(cx, r.mailbox)?;
    let (messages, octets): (i64, i64) = cx
        .conn
        .prepare_cached("SELECT messages, octets FROM counter WHERE mailbox=?")?
        .query_row([r.mailbox], |row| Ok((row.get(0)?, row.get(1)?)))?;
    cx.conn
        .prepare_cached("UPDATE recoverable SET name=? WHERE account=? AND mailbox=?")?
        .execute(params![name, account, r.mailbox])?;
    cx.conn
        .prepare_cached(
            "INSERT INTO recoverable SELECT ?1, mailbox, uid, ?2, ?3, system, keywords, internal_date, zone, size, \
             delivery, body FROM message WHERE mailbox=?4",
        )?
        .execute(params![account, r.at, name, r.mailbox])?;
    sum(cx, messages, octets)?;
    mailbox::remove_rows(cx, account, r.mailbox)?;
    cx.saw(r.at);
    cx.saw_modseq(r.mailbox, r.modseq);
    Ok(())
}

fn name(cx: &Apply<'_>, mailbox: u64) -> Result<String, ApplyError> {
    cx.conn
        .prepare_cached("SELECT name FROM mailbox WHERE id=?")?
        .query_row([mailbox], |r| r.get(0))
        .optional()?
        .ok_or(ApplyError::Misfit("a mailbox"))
}

/// Changes what is kept in all.
fn sum(cx: &Apply<'_>, messages: i64, octets: i64) -> Result<(), ApplyError> {
    cx.conn
        .prepare_cached("UPDATE recoverable_sum SET messages=messages+?, octets=octets+?")?
        .execute(params![messages, octets])?;
    Ok(())
}

/// A message that comes back.
struct Back {
    system: u32,
    keywords: Option<String>,
    internal_date: i64,
    zone: i32,
    size: u64,
    delivery: Option<Vec<u8>>,
    body: u64,
}

fn take(cx: &Apply<'_>, account: i64, mailbox: u64, uid: u32) -> Result<Back, ApplyError> {
    cx.conn
        .prepare_cached(
            "DELETE FROM recoverable WHERE account=? AND mailbox=? AND uid=? \
             RETURNING system, keywords, internal_date, zone, size, delivery, body",
        )?
        .query_row(params![account, mailbox, uid], |r| {
            Ok(Back {
                system: r.get(0)?,
                keywords: r.get(1)?,
                internal_date: r.get(2)?,
                zone: r.get(3)?,
                size: r.get(4)?,
                delivery: r.get(5)?,
                body: r.get(6)?,
            })
        })
        .optional()?
        .ok_or(ApplyError::Misfit("a message to bring back"))
}

pub fn recover(cx: &mut Apply<'_>, r: &Recover) -> Result<(), ApplyError> {
    let account = mail::account_of(cx, r.to)?;
    let address = mail::address_of(cx, account)?;
    let mut delta = Delta { modseq: r.modseq, ..Delta::default() };
    let (mut next, mut messages, mut octets) = (r.first_uid, 0, 0);
    for (mailbox, uid) in r.from.iter().flat_map(|from| from.uids.iter().map(|uid| (from.mailbox, *uid))) {
        let back = take(cx, account, mailbox, uid)?;
        // Otherwise the next EXPUNGE would take it again.
        let system = back.system & !(SystemFlag::Deleted as u32);
        delta.message(1, system, back.size);
        let row = Row {
            mailbox: r.to,
            uid: next,
            modseq: r.modseq,
            system,
            keywords: back.keywords,
            internal_date: back.internal_date,
            zone: back.zone,
            size: back.size,
            delivery: back.delivery.as_deref(),
            body: back.body,
        };
        mail::insert(cx, &row)?;
        if let Some(delivery) = &back.delivery {
            let (event, place) = (Event::Restored, (r.to, next));
            let line = Line { at: r.at, delivery, event, recipient: &address, place, detail: None };
            trace::history(cx, &line)?;
        }
        (next, messages, octets) = (next + 1, messages + 1, octets + back.size.cast_signed());
    }
    delta.uid_next = next;
    sum(cx, -messages, -octets)?;
    cx.saw(r.at);
    mail::count(cx, r.to, account, &delta)
}

pub fn purge(cx: &mut Apply<'_>, r: &Purge) -> Result<(), ApplyError> {
    let mut query = cx.conn.prepare_cached(
        "SELECT account, mailbox, uid FROM recoverable INDEXED BY recoverable_at WHERE (at, mailbox, uid)<=(?,?,?)",
    )?;
    let gone = query
        .query_map(params![r.at, r.mailbox, r.uid], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<Result<Vec<(i64, u64, u32)>, _>>()?;
    drop(query);
    let mut octets = 0;
    for (account, mailbox, uid) in &gone {
        let Back { body, size, .. } = take(cx, *account, *mailbox, *uid)?;
        mail::release_body(cx, body)?;
        octets += size.cast_signed();
    }
    sum(cx, -i64::try_from(gone.len()).unwrap_or(i64::MAX), -octets)
}

/// An account's mail goes with it.
pub fn forget_account(cx: &Apply<'_>, account: i64) -> Result<(), ApplyError> {
    let mut remove =
        cx.conn.prepare_cached("DELETE FROM recoverable WHERE account=? RETURNING size, body")?;
    let gone = remove
        .query_map([account], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<Vec<(i64, u64)>, _>>()?;
    drop(remove);
    for (_, body) in &gone {
        mail::release_body(cx, *body)?;
    }
    let octets = gone.iter().map(|(size, _)| size).sum::<i64>();
    sum(cx, -i64::try_from(gone.len()).unwrap_or(i64::MAX), -octets)
}
