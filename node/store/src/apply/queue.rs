//! The queue: taken in, tried again, done.

use rusqlite::{OptionalExtension, params};

use super::{
    Apply, ApplyError, mail,
    trace::{self, Event, Line},
};
use crate::{
    files::Place,
    record::{QueuePut, QueueUpdate, Recipient},
};

pub fn put(cx: &mut Apply<'_>, r: &QueuePut, place: Place) -> Result<(), ApplyError> {
    let known: bool = cx
        .conn
        .prepare_cached("SELECT EXISTS(SELECT 1 FROM queue WHERE delivery=?)")?
        .query_row([&r.delivery], |row| row.get(0))?;
    if !known {
        let body = mail::add_body(cx, place, &[])?;
        cx.conn
            .prepare_cached("INSERT INTO queue VALUES(?,?,?,?,?,?)")?
            .execute(params![r.delivery, r.sender, r.at, place.len, body, r.params])?;
    }
    for recipient in &r.recipients {
        write_recipient(cx, &r.delivery, recipient)?;
        cx.conn.prepare_cached("INSERT OR IGNORE INTO queued VALUES(?,?,?)")?.execute(params![
            r.delivery,
            recipient.address,
            r.at
        ])?;
        let event = if recipient.held { Event::Held } else { Event::Queued };
        note(cx, (r.at, &r.delivery), event, &recipient.address, &recipient.last_error)?;
    }
    cx.changed.queue = true;
    cx.saw(r.at);
    trace::trim(cx, r.recipients.len())
}

pub fn update(cx: &mut Apply<'_>, r: &QueueUpdate) -> Result<(), ApplyError> {
    cx.saw(r.at);
    if let Some(recipient) = &r.retry {
        let (was_held, was_due): (bool, i64) = cx
            .conn
            .prepare_cached("SELECT held, next_attempt FROM recipient WHERE delivery=? AND address=?")?
            .query_row(params![r.delivery, r.address], |row| Ok((row.get(0)?, row.get(1)?)))?;
        cx.conn
            .prepare_cached("DELETE FROM recipient WHERE delivery=? AND address=?")?
            .execute(params![r.delivery, r.address])?;
        write_recipient(cx, &r.delivery, recipient)?;
        if was_held != recipient.held || !r.outcome.is_empty() {
            let event = if recipient.held { Event::Held } else { Event::Queued };
            let detail = if r.outcome.is_empty() { &recipient.last_error } else { &r.outcome };
            note(cx, (r.at, &r.delivery), event, &r.address, detail)?;
        }
        // An attempt that failed makes nothing new to do: only who is let go, or is to be tried sooner, is looked for.
        let sooner = !recipient.held && (was_held || recipient.next_attempt < was_due);
        cx.changed.queue |= sooner;
        cx.changed.flushed |= sooner;
        return Ok(());
    }
    cx.conn
        .prepare_cached("DELETE FROM recipient WHERE delivery=? AND address=?")?
        .execute(params![r.delivery, r.address])?;
    note(cx, (r.at, &r.delivery), Event::HandedOn, &r.address, &r.outcome)?;
    let left: bool = cx
        .conn
        .prepare_cached("SELECT EXISTS(SELECT 1 FROM recipient WHERE delivery=?)")?
        .query_row([&r.delivery], |row| row.get(0))?;
    if !left {
        let body: Option<u64> = cx
            .conn
            .prepare_cached("DELETE FROM queue WHERE delivery=? RETURNING body")?
            .query_row([&r.delivery], |row| row.get(0))
            .optional()?;
        mail::release_body(cx, body.ok_or(ApplyError::Misfit("a queued message"))?)?;
    }
    Ok(())
}

fn note(
    cx: &mut Apply<'_>,
    (at, delivery): (i64, &[u8]),
    event: Event,
    address: &str,
    detail: &str,
) -> Result<(), ApplyError> {
    let recipient = address.to_lowercase();
    let detail = (!detail.is_empty()).then_some(detail);
    let line = Line { at, delivery, event, recipient: &recipient, place: (0, 0), detail };
    trace::history(cx, &line)
}

/// Writes a recipient's row.
pub fn write_recipient(cx: &Apply<'_>, delivery: &[u8], r: &Recipient) -> Result<(), ApplyError> {
    let account = (!r.account.is_empty()).then_some(&r.account);
    let store = (!r.store.is_empty()).then_some(&r.store);
    cx.conn.prepare_cached("INSERT OR REPLACE INTO recipient VALUES(?,?,?,?,?,?,?,?,?,?,?)")?.execute(
        params![
            delivery,
            r.address,
            account,
            store,
            r.attempts,
            r.next_attempt,
            r.last_error,
            r.held,
            r.noticed,
            r.params,
            r.returned
        ],
    )?;
    Ok(())
}
