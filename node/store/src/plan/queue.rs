//! The queue: taking in once, changing what waits.

use std::collections::BTreeSet;

use bytes::Bytes;
use mailcluster_types::DeliveryId;
use rusqlite::params;

use super::{MAX_AHEAD, MAX_MESSAGE, Plan, PlanError, Planned, Value};
use crate::{
    error::Refusal,
    ops::{Enqueue, QueueUpdate},
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
    let key = delivery.to_bytes();
    let there: bool = cx
        .conn
        .prepare_cached("SELECT EXISTS(SELECT 1 FROM recipient WHERE delivery=? AND address=?)")?
        .query_row(params![&key[..], address], |r| r.get(0))?;
    if !there {
        // Done before: saying so again changes nothing.
        return Ok(Planned::nothing(Value::Done));
    }
    let (retry, outcome) = match update {
        QueueUpdate::Done { outcome } => (None, outcome),
        QueueUpdate::Retry(recipient) => {
            if recipient.address != address {
                return Err(Refusal::NotAllowed("a queued recipient keeps its address").into());
            }
            (Some(Recipient::from(recipient)), String::new())
        }
    };
    let record = record::QueueUpdate { delivery: key.to_vec(), address, retry, outcome, at: cx.now };
    Ok(Planned::one(record, Value::Done))
}
