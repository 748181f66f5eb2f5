//! Mail that comes in: deliveries and APPEND.

use std::collections::BTreeSet;

use bytes::Bytes;
use rusqlite::params;

use super::{MAX_AHEAD, MAX_MESSAGE, Plan, PlanError, Planned, Value, message, quota_allows, take_uids};
use crate::{
    error::Refusal,
    names,
    ops::{Append, Appended, Delivered, Delivery, DeliveryTarget},
    record::{self, Deliver, Stored},
};

/// Most targets of one delivery.
const MAX_TARGETS: usize = 10_000;

pub fn deliver(cx: &mut Plan<'_>, delivery: Delivery, crc: u32) -> Result<Planned, PlanError> {
    if delivery.body.len() as u64 > MAX_MESSAGE {
        return Err(Refusal::TooLarge { limit: MAX_MESSAGE }.into());
    }
    if delivery.targets.len() > MAX_TARGETS {
        return Err(Refusal::NotAllowed("too many recipients").into());
    }
    let key = delivery.id.to_bytes();
    let at = delivery.at.min(cx.now + MAX_AHEAD);
    let mut seen = BTreeSet::new();
    let mut outcomes = Vec::with_capacity(delivery.targets.len());
    let mut targets = Vec::with_capacity(delivery.targets.len());
    for target in delivery.targets {
        let outcome = if seen.insert(target.account) {
            one_target(cx, &key, &target, delivery.body.len() as u64)?
        } else {
            Delivered::Duplicate
        };
        let (mailbox, uid, modseq) = match outcome {
            Delivered::Stored { mailbox, uid } => (mailbox, uid, cx.next.next_modseq(cx.epoch)),
            Delivered::Duplicate => (0, 0, 0),
            Delivered::Refused(_) => {
                outcomes.push(outcome);
                continue;
            }
        };
        outcomes.push(outcome);
        targets.push(Stored {
            account: target.account.to_bytes().to_vec(),
            recipient: target.recipient,
            mailbox,
            uid,
            modseq,
            prefix: target.prefix,
        });
    }
    let value = Value::Delivered(outcomes);
    if targets.is_empty() {
        return Ok(Planned::nothing(value));
    }
    let new = targets.iter().any(|t| t.mailbox != 0);
    let body = if new { delivery.body } else { Bytes::new() };
    let (sender, met) = (delivery.sender, delivery.met);
    let record = Deliver { delivery: key.to_vec(), sender, at, body_crc: crc, targets, met };
    Ok(Planned::with_body(record, body, value))
}

fn one_target(
    cx: &mut Plan<'_>,
    delivery: &[u8],
    target: &DeliveryTarget,
    size: u64,
) -> Result<Delivered, PlanError> {
    let no_account = Delivered::Refused(Refusal::NoSuchAccount(target.account));
    let Some(account) = cx.hot.find(cx.conn, &target.account.to_bytes())?.filter(|a| a.here && a.inbox != 0)
    else {
        return Ok(no_account);
    };
    let known: bool = cx
        .conn
        .prepare_cached("SELECT EXISTS(SELECT 1 FROM delivered WHERE delivery=? AND account=?)")?
        .query_row(params![delivery, account.local], |r| r.get(0))?;
    if known {
        return Ok(Delivered::Duplicate);
    }
    let name = names::canonical(&target.mailbox);
    let named = if name == names::INBOX { None } else { super::mailbox::find(cx, account.local, &name)? };
    let mailbox = named.unwrap_or(account.inbox);
    let used: u64 = cx
        .conn
        .prepare_cached("SELECT octets FROM used WHERE account=?")?
        .query_row([account.local], |r| r.get(0))?;
    let uid_next: u64 = cx
        .conn
        .prepare_cached("SELECT uid_next FROM counter WHERE mailbox=?")?
        .query_row([mailbox], |r| r.get(0))?;
    let allowed = quota_allows(account.quota, used, size + target.prefix.len() as u64);
    match allowed.and_then(|()| take_uids(uid_next, 1)) {
        Ok(uid) => Ok(Delivered::Stored { mailbox, uid }),
        Err(refusal) => Ok(Delivered::Refused(refusal)),
    }
}

pub fn append(cx: &mut Plan<'_>, append: Append, crc: u32) -> Result<Planned, PlanError> {
    let size = append.body.len() as u64;
    if size > MAX_MESSAGE {
        return Err(Refusal::TooLarge { limit: MAX_MESSAGE }.into());
    }
    let mailbox = cx.mailbox(append.mailbox)?;
    cx.check_quota(mailbox.account, size)?;
    message::check_keywords(&append.flags.keywords)?;
    let uid = take_uids(mailbox.uid_next, 1)?;
    let record = record::Append {
        mailbox: mailbox.id,
        uid,
        modseq: cx.next.next_modseq(cx.epoch),
        system: append.flags.system.into(),
        keywords: append.flags.keywords.into_iter().collect(),
        internal_date: append.internal_date,
        zone_minutes: append.zone_minutes.into(),
        body_crc: crc,
        account: mailbox.owner,
    };
    let value = Value::Appended(Appended { uid_validity: mailbox.uid_validity, uid });
    Ok(Planned::with_body(record, append.body, value))
}
