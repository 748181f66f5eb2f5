//! The queue: taking in once, changing what waits.

use std::collections::BTreeSet;

use bytes::Bytes;
use mailcluster_types::DeliveryId;
use rusqlite::{OptionalExtension, params};

use super::{MAX_AHEAD, MAX_MESSAGE, Plan, PlanError, Planned, Value};
use crate::{
    error::Refusal,
    ops::{Enqueue, QueueChange, QueueUpdate},
    record::{self, QueuePut, Recipient},
};

pub fn put(cx: &mut Plan<'_>, entry: Enqueue, crc: u32) -> Result<Planned, PlanError> {
    if entry.body.len() as u64 > MAX_MESSAGE {
        return Err(Refusal::TooLarge { limit: MAX_MESSAGE }.into());
    }
    let key = entry.delivery.to_bytes();
    let mut seen = BTreeSet::new();
    let mut recipients: Vec<Recipient> = Vec::new();
    for recipient in entry.recipients {
        let known: bool = cx
            .conn
            .prepare_cached("SELECT EXISTS(SELECT 1 FROM queued WHERE delivery=? AND address=?)")?
            .query_row(params![&key[..], recipient.address], |r| r.get(0))?;
        if !known && seen.insert(recipient.address.clone()) {
            recipients.push(recipient.into());
        }
    }
    if recipients.is_empty() {
        return Ok(Planned::nothing(Value::Done));
    }
    let waiting: bool = cx
        .conn
        .prepare_cached("SELECT EXISTS(SELECT 1 FROM queue WHERE delivery=?)")?
        .query_row([&key[..]], |r| r.get(0))?;
    let body = if waiting { Bytes::new() } else { entry.body };
    let record = QueuePut {
        delivery: key.to_vec(),
        sender: entry.sender,
        at: entry.at.min(cx.now + MAX_AHEAD),
        recipients,
        body_crc: crc,
        params: entry.params,
    };
    Ok(Planned::with_body(record, body, Value::Done))
}

pub fn update(
    cx: &mut Plan<'_>,
    delivery: DeliveryId,
    address: String,
    update: QueueUpdate,
) -> Result<Planned, PlanError> {
    let Some(now) = row(cx, delivery, &address)? else {
        return match update {
            QueueUpdate::Mark(_) => Err(Refusal::NotAllowed("it is not in the queue any more").into()),
            // Done before: saying so again changes nothing.
            _ => Ok(Planned::nothing(Value::Done)),
        };
    };
    let (retry, outcome) = match update {
        QueueUpdate::Done { outcome } => (None, outcome),
        QueueUpdate::Mark(_) if now.held => return Err(Refusal::NotAllowed("it is held").into()),
        QueueUpdate::Mark(recipient) => {
            (Some(same_address(Recipient::from(recipient), &address)?), String::new())
        }
        QueueUpdate::Retry(recipient) => {
            let recipient = same_address(Recipient::from(recipient), &address)?;
            (Some(beside(recipient, now)), String::new())
        }
        QueueUpdate::Change { change, note } => match changed(now, change, &note, cx.now) {
            Some(recipient) => (Some(recipient), note),
            None => return Ok(Planned::nothing(Value::Done)),
        },
    };
    let record =
        record::QueueUpdate { delivery: delivery.to_bytes().to_vec(), address, retry, outcome, at: cx.now };
    Ok(Planned::one(record, Value::Done))
}

fn same_address(recipient: Recipient, address: &str) -> Result<Recipient, PlanError> {
    match recipient.address == address {
        true => Ok(recipient),
        false => Err(Refusal::NotAllowed("a queued recipient keeps its address").into()),
    }
}

/// What an attempt came to, beside what a person has decided since it began.
fn beside(tried: Recipient, now: Recipient) -> Recipient {
    // Who did not know of it when the attempt began does not put it off.
    let news = !now.returned.is_empty() && tried.returned.is_empty();
    let next_attempt = if news { now.next_attempt } else { tried.next_attempt };
    Recipient { held: tried.held || now.held, returned: now.returned, next_attempt, ..tried }
}

/// The row as a person wants it; nothing when that is how it is.
fn changed(row: Recipient, change: QueueChange, note: &str, now: i64) -> Option<Recipient> {
    let due = Recipient { held: false, next_attempt: row.next_attempt.min(now), ..row.clone() };
    let wanted = match change {
        QueueChange::Hold => Recipient { held: true, ..row.clone() },
        QueueChange::Release if row.held => due,
        QueueChange::Flush if !row.held => due,
        QueueChange::Release | QueueChange::Flush => row.clone(),
        QueueChange::Requeue => Recipient { attempts: 0, ..due },
        QueueChange::Return if row.returned.is_empty() => Recipient { returned: note.to_owned(), ..due },
        QueueChange::Return => due,
    };
    (wanted != row).then_some(wanted)
}

fn row(cx: &Plan<'_>, delivery: DeliveryId, address: &str) -> Result<Option<Recipient>, PlanError> {
    let found = cx
        .conn
        .prepare_cached(
            "SELECT account, store, attempts, next_attempt, last_error, held, noticed, params, returned \
             FROM recipient WHERE delivery=? AND address=?",
        )?
        .query_row(params![&delivery.to_bytes()[..], address], |r| {
            Ok(Recipient {
                address: address.to_owned(),
                account: r.get::<_, Option<Vec<u8>>>(0)?.unwrap_or_default(),
                store: r.get::<_, Option<String>>(1)?.unwrap_or_default(),
                attempts: r.get(2)?,
                next_attempt: r.get(3)?,
                last_error: r.get(4)?,
                held: r.get(5)?,
                noticed: r.get(6)?,
                params: r.get(7)?,
                returned: r.get(8)?,
            })
        })
        .optional()?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting() -> Recipient {
        let (address, last_error) = ("bob@example.net".to_owned(), "450 later".to_owned());
        Recipient {
            address,
            attempts: 3,
            next_attempt: 900,
            last_error,
            noticed: true,
            ..Recipient::default()
        }
    }

    #[test]
    fn a_person_changes_how_something_waits() {
        use QueueChange::{Flush, Hold, Release, Requeue, Return};
        let here = waiting();
        let held = Recipient { held: true, ..waiting() };
        let due = Recipient { next_attempt: 50, ..waiting() };
        let afresh = Recipient { attempts: 0, next_attempt: 50, ..waiting() };
        let back = Recipient { returned: "by ann".into(), ..due.clone() };
        for (row, change, expected) in [
            (&here, Hold, Some(&held)),
            (&held, Hold, None),
            (&here, Release, None),
            (&held, Release, Some(&due)),
            (&here, Flush, Some(&due)),
            (&held, Flush, None),
            (&due, Flush, None),
            (&here, Requeue, Some(&afresh)),
            (&held, Requeue, Some(&afresh)),
            (&afresh, Requeue, None),
            (&here, Return, Some(&back)),
            (&held, Return, Some(&back)),
            (&back, Return, None),
        ] {
            assert_eq!(
                changed(row.clone(), change, "by ann", 50).as_ref(),
                expected,
                "{change:?} of {row:?}"
            );
        }
        let sooner = Recipient { next_attempt: 20, ..waiting() };
        assert_eq!(changed(sooner, Flush, "", 50), None, "no pause grows longer for it");
    }

    #[test]
    fn what_an_attempt_came_to_undoes_nothing_that_a_person_did() {
        let tried = Recipient { attempts: 4, next_attempt: 2000, ..waiting() };
        let held = Recipient { held: true, ..waiting() };
        let back = Recipient { returned: "by ann".into(), next_attempt: 50, ..waiting() };
        for (now, expected) in [
            (waiting(), tried.clone()),
            (held, Recipient { held: true, ..tried.clone() }),
            (back.clone(), Recipient { returned: "by ann".into(), next_attempt: 50, ..tried.clone() }),
        ] {
            assert_eq!(beside(tried.clone(), now), expected);
        }
        // A report that cannot be made now is put off.
        let later = Recipient { next_attempt: 80, ..back.clone() };
        assert_eq!(beside(later.clone(), back), later);
    }
}
