//! What a pack says of a message, put into an index that lacks it: for stores that have lost their index and its base. What
//! the log says of it is better, and stays. The same for records of the log that cannot be applied.

use rusqlite::{OptionalExtension, params};

use super::{Apply, ApplyError, mail, queue};
use crate::{
    files::Place,
    record::{KeptBody, KeptMessage, KeptQueued, Record},
};

/// What a record of the log says of its body, as a pack would: of a mailbox without its name, and of no later change.
pub fn of(record: &Record) -> Vec<KeptBody> {
    let message = |account: &[u8], mailbox, uid, modseq| KeptMessage {
        account: account.to_vec(),
        mailbox,
        uid,
        modseq,
        ..KeptMessage::default()
    };
    match record {
        Record::Deliver(r) => {
            let stored = r.targets.iter().filter(|target| target.mailbox != 0);
            let rows = stored.map(|target| {
                let of = |message: KeptMessage, system: u32, keywords: &[String]| KeptMessage {
                    address: target.recipient.clone(),
                    system,
                    keywords: keywords.to_vec(),
                    internal_date: r.at,
                    delivery: r.delivery.clone(),
                    ..message
                };
                let first = message(&target.account, target.mailbox, target.uid, target.modseq);
                let mut messages = vec![of(first, target.system, &target.keywords)];
                messages.extend(target.also.iter().map(|p| {
                    of(message(&target.account, p.mailbox, p.uid, p.modseq), p.system, &p.keywords)
                }));
                KeptBody { prefix: target.prefix.clone(), messages, ..KeptBody::default() }
            });
            rows.collect()
        }
        Record::Append(r) => {
            let message = KeptMessage {
                system: r.system,
                keywords: r.keywords.clone(),
                internal_date: r.internal_date,
                zone_minutes: r.zone_minutes,
                ..message(&r.account, r.mailbox, r.uid, r.modseq)
            };
            vec![KeptBody { messages: vec![message], ..KeptBody::default() }]
        }
        _ => Vec::new(),
    }
}

/// Puts what refers to a body; answers how many messages were lacking.
pub fn put(cx: &mut Apply<'_>, place: Place, row: &KeptBody) -> Result<u64, ApplyError> {
    let mut added = 0;
    for message in row.messages.iter().filter(|message| !message.account.is_empty()) {
        added += u64::from(put_message(cx, place, &row.prefix, message)?);
    }
    if let Some(queued) = &row.queued {
        added += u64::from(put_queued(cx, place, queued)?);
    }
    Ok(added)
}

fn put_message(
    cx: &mut Apply<'_>,
    place: Place,
    prefix: &[u8],
    message: &KeptMessage,
) -> Result<bool, ApplyError> {
    let account = account(cx, message)?;
    let mailbox = mailbox(cx, account, message)?;
    let is_known: bool = cx
        .conn
        .prepare_cached("SELECT EXISTS(SELECT 1 FROM message WHERE mailbox=? AND uid=?)")?
        .query_row(params![mailbox, message.uid], |r| r.get(0))?;
    if is_known {
        return Ok(false);
    }
    let body = mail::add_body(cx, place, prefix)?;
    let size = prefix.len() as u64 + u64::from(place.len);
    let row = mail::Row {
        mailbox,
        uid: message.uid,
        modseq: message.modseq,
        system: message.system,
        keywords: mail::keywords_column(&message.keywords),
        internal_date: message.internal_date,
        zone: message.zone_minutes,
        size,
        delivery: (!message.delivery.is_empty()).then_some(&message.delivery),
        body,
    };
    mail::insert(cx, &row)?;
    let uid_next = message.uid.saturating_add(1);
    let mut delta = mail::Delta { uid_next, modseq: message.modseq, ..mail::Delta::default() };
    delta.message(1, message.system, size);
    mail::count(cx, mailbox, account, &delta)?;
    Ok(true)
}

fn account(cx: &mut Apply<'_>, message: &KeptMessage) -> Result<i64, ApplyError> {
    let find = "SELECT local FROM account WHERE id=?";
    let known = cx.conn.prepare_cached(find)?.query_row([&message.account], |r| r.get(0)).optional()?;
    if let Some(local) = known {
        return Ok(local);
    }
    let domain = message.address.rsplit_once('@').map_or("", |(_, domain)| domain);
    let of_id = || message.account.iter().map(|octet| format!("{octet:02x}")).collect();
    let address = if message.address.is_empty() { of_id() } else { message.address.clone() };
    let local: i64 = cx
        .conn
        .prepare_cached(
            "INSERT INTO account(id, address, domain, store, generation, password_hash, quota, suspended, pending, \
             tombstone, seq) VALUES(?,?,?,'',0,'',0,0,0,0,0) RETURNING local",
        )?
        .query_row(params![message.account, address, domain], |r| r.get(0))?;
    cx.conn.prepare_cached("INSERT INTO used VALUES(?,0,0)")?.execute([local])?;
    cx.state.accounts += 1;
    Ok(local)
}

fn mailbox(cx: &mut Apply<'_>, account: i64, message: &KeptMessage) -> Result<u64, ApplyError> {
    let id = message.mailbox;
    let known: bool = cx
        .conn
        .prepare_cached("SELECT EXISTS(SELECT 1 FROM mailbox WHERE id=?)")?
        .query_row([id], |r| r.get(0))?;
    if known {
        return Ok(id);
    }
    let is_taken: bool = cx
        .conn
        .prepare_cached("SELECT EXISTS(SELECT 1 FROM mailbox WHERE account=? AND name=?)")?
        .query_row(params![account, message.name], |r| r.get(0))?;
    let name = match message.name.as_str() {
        "" => format!("mailbox {id:x}"),
        name if is_taken => format!("{name} {id:x}"),
        name => name.to_owned(),
    };
    cx.conn.prepare_cached("INSERT INTO mailbox VALUES(?,?,?,?,0)")?.execute(params![
        id,
        account,
        name,
        message.uid_validity
    ])?;
    cx.conn.prepare_cached("INSERT INTO counter VALUES(?,1,?,0,0,0,0,0,0)")?.execute(params![id, 0])?;
    cx.conn.prepare_cached("UPDATE used SET mailboxes=mailboxes+1 WHERE account=?")?.execute([account])?;
    Ok(id)
}

fn put_queued(cx: &mut Apply<'_>, place: Place, queued: &KeptQueued) -> Result<bool, ApplyError> {
    let known: bool = cx
        .conn
        .prepare_cached("SELECT EXISTS(SELECT 1 FROM queue WHERE delivery=?)")?
        .query_row([&queued.delivery], |r| r.get(0))?;
    if known || queued.recipients.is_empty() {
        return Ok(false);
    }
    let body = mail::add_body(cx, place, &[])?;
    cx.conn.prepare_cached("INSERT INTO queue VALUES(?,?,?,?,?,?)")?.execute(params![
        queued.delivery,
        queued.sender,
        queued.at,
        place.len,
        body,
        queued.params
    ])?;
    for recipient in &queued.recipients {
        queue::write_recipient(cx, &queued.delivery, recipient)?;
    }
    Ok(true)
}
