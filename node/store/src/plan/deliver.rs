//! Mail that comes in: deliveries and APPEND.

use std::collections::BTreeSet;

use bytes::Bytes;
use rusqlite::params;

use super::{
    MAX_AHEAD, MAX_MESSAGE, Plan, PlanError, Planned, Value,
    filing::{self, Filed, Outcome},
    message, quota_allows, take_uids,
};
use crate::{
    apply::AccountHot,
    error::Refusal,
    names,
    ops::{Append, Appended, Delivered, Delivery, DeliveryTarget},
    record::{self, Deliver, Record, Stored},
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
    let mut all = All { outcomes: Vec::with_capacity(delivery.targets.len()), ..All::default() };
    for target in delivery.targets {
        if seen.insert(target.account) {
            one_target(cx, &key, target, delivery.body.len() as u64, &mut all)?;
        } else {
            all.duplicate(part(&target));
        }
    }
    let All { outcomes, targets, before, behind } = all;
    let value = Value::Delivered(outcomes);
    if targets.is_empty() {
        return Ok(Planned::nothing(value));
    }
    let new = targets.iter().any(|t| t.mailbox != 0);
    let body = if new { delivery.body } else { Bytes::new() };
    let (sender, met) = (delivery.sender, delivery.met);
    let record = Deliver { delivery: key.to_vec(), sender, at, body_crc: crc, targets, met };
    let mut records = before;
    records.push((record.into(), body));
    records.extend(behind);
    Ok(Planned { records, value })
}

/// What becomes of the targets.
#[derive(Default)]
struct All {
    outcomes: Vec<Delivered>,
    targets: Vec<Stored>,
    before: Vec<(Record, Bytes)>,
    behind: Vec<(Record, Bytes)>,
}

impl All {
    fn duplicate(&mut self, part: Stored) {
        self.outcomes.push(Delivered::Duplicate);
        self.targets.push(part);
    }

    fn take(&mut self, outcome: Outcome) {
        match outcome {
            Err(refusal) => self.outcomes.push(Delivered::Refused(refusal)),
            Ok(Filed { stored, before, behind }) => {
                self.outcomes.push(match stored.mailbox {
                    0 => Delivered::Filtered,
                    mailbox => Delivered::Stored { mailbox, uid: stored.uid },
                });
                self.targets.push(stored);
                self.before.extend(before);
                self.behind.extend(behind);
            }
        }
    }
}

/// A target's part of the record, without a place.
fn part(target: &DeliveryTarget) -> Stored {
    Stored {
        account: target.account.to_bytes().to_vec(),
        recipient: target.recipient.clone(),
        prefix: target.prefix.clone(),
        ..Stored::default()
    }
}

fn one_target(
    cx: &mut Plan<'_>,
    delivery: &[u8],
    target: DeliveryTarget,
    size: u64,
    all: &mut All,
) -> Result<(), PlanError> {
    let Some(account) = cx.hot.find(cx.conn, &target.account.to_bytes())?.filter(|a| a.here && a.inbox != 0)
    else {
        all.outcomes.push(Delivered::Refused(Refusal::NoSuchAccount(target.account)));
        return Ok(());
    };
    let known: bool = cx
        .conn
        .prepare_cached("SELECT EXISTS(SELECT 1 FROM delivered WHERE delivery=? AND account=?)")?
        .query_row(params![delivery, account.local], |r| r.get(0))?;
    let part = part(&target);
    if known {
        all.duplicate(part);
        return Ok(());
    }
    let size = size + target.prefix.len() as u64;
    let outcome = match target.filing {
        Some(filing) => filing::file(cx, account, (part, *filing), size)?,
        None => plain(cx, account, (part, &target.mailbox), size)?,
    };
    all.take(outcome);
    Ok(())
}

/// One copy, in a mailbox that is there or in INBOX.
fn plain(
    cx: &mut Plan<'_>,
    account: AccountHot,
    (mut stored, mailbox): (Stored, &str),
    size: u64,
) -> Result<Outcome, PlanError> {
    let name = names::canonical(mailbox);
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
    let allowed = quota_allows(account.quota, used, size).and_then(|()| take_uids(uid_next, 1));
    Ok(allowed.map(|uid| {
        (stored.mailbox, stored.uid) = (mailbox, uid);
        stored.modseq = cx.next.next_modseq(cx.epoch);
        Filed { stored, before: Vec::new(), behind: Vec::new() }
    }))
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
