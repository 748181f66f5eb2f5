//! Records of the directory, scripts, the audit log and the queue.

use rusqlite::{OptionalExtension, params};

use super::{Out, account};
use crate::{
    apply::trace::DEDUPE_SECONDS,
    error::Refusal,
    left_behind::{
        Queued, What,
        decide::{self, Put, Standing},
    },
    model::{Account, Alias, Domain, Sealed},
    ops::{Enqueue, QueueUpdate},
    plan::{Plan, PlanError, Planned, directory, queue},
    record::{self, PutAccount, PutAlias, PutDomain, PutSieve},
    replica::StoreKind,
};

pub fn record(cx: &mut Plan<'_>, what: What, out: &mut Out) -> Result<(), PlanError> {
    match what {
        What::Account(r) => put_account(cx, r, out),
        What::Domain(r) => put_domain(cx, r, out),
        What::Alias(r) => put_alias(cx, r, out),
        What::Sieve(r) => put_sieve(cx, r, out),
        What::Audit(r) => {
            out.push(r);
            out.done.counts.records += 1;
            Ok(())
        }
        What::Queued(queued) => put_queued(cx, queued, out),
        What::Done(r) => done(cx, r, out),
        _ => Err(Refusal::NotAllowed("no record").into()),
    }
}

fn is_truth(cx: &Plan<'_>) -> bool {
    cx.kind == StoreKind::Directory
}

/// Takes what a change of the directory's came to; what has been put since, or has another's name by now, is told.
fn take(planned: Result<Planned, PlanError>, what: &str, out: &mut Out) -> Result<(), PlanError> {
    match planned {
        Ok(planned) => {
            out.done.counts.records += planned.records.len() as u64;
            out.records.extend(planned.records);
            Ok(())
        }
        Err(PlanError::Refused(Refusal::Stale)) => Ok(()),
        Err(PlanError::Refused(why @ Refusal::AlreadyExists)) => {
            out.keep(format!("{what}: {why}"));
            Ok(())
        }
        Err(error) => Err(error),
    }
}

fn listed(what: &str, out: &mut Out) {
    // It is told each time.
    out.marks.clear();
    out.keep(format!("{what} was deleted there: it stays here; delete it, if that still holds"));
}

fn put_account(cx: &mut Plan<'_>, r: PutAccount, out: &mut Out) -> Result<(), PlanError> {
    let id = mailcluster_types::AccountId::from_slice(&r.id);
    let id = id.ok_or(Refusal::NotAllowed("an account's id has 16 octets"))?;
    let here: Option<(Standing, Account)> = cx
        .conn
        .prepare_cached(
            "SELECT generation, suspended, tombstone, address, store, password_hash, quota, pending FROM account \
             WHERE id=?",
        )?
        .query_row([&r.id], |row| {
            let standing =
                Standing { generation: row.get(0)?, suspended: row.get(1)?, tombstone: row.get(2)? };
            let account = Account {
                id,
                address: row.get(3)?,
                store: row.get::<_, String>(4)?.into(),
                generation: standing.generation,
                password_hash: row.get(5)?,
                quota_octets: row.get(6)?,
                used_octets: 0,
                suspended: standing.suspended,
                pending: row.get(7)?,
                tombstone: standing.tombstone,
            };
            Ok((standing, account))
        })
        .optional()?;
    let left = Standing { generation: r.generation, suspended: r.suspended, tombstone: r.tombstone };
    let what = format!("account {}", r.address);
    let there = Account {
        id,
        address: r.address,
        store: r.store.into(),
        generation: r.generation,
        password_hash: r.password_hash,
        quota_octets: r.quota_octets,
        used_octets: 0,
        suspended: r.suspended,
        pending: r.pending,
        tombstone: r.tombstone,
    };
    let standing = here.as_ref().map(|(standing, _)| *standing);
    let put = match (decide::record(left, standing, is_truth(cx)), here) {
        (Put::Put, _) => there,
        (Put::PutSuspended, _) => Account { suspended: true, ..there },
        (Put::Suspend, Some((_, here))) => {
            Account { suspended: true, generation: here.generation.saturating_add(1), ..here }
        }
        (Put::Listed, _) => {
            listed(&what, out);
            return Ok(());
        }
        (Put::Nothing | Put::Suspend, _) => return Ok(()),
    };
    let planned = directory::put_account(cx, put);
    take(planned, &what, out)
}

/// A domain's or alias's: those are never suspended.
fn standing(cx: &Plan<'_>, sql: &str, name: &str) -> Result<Option<Standing>, PlanError> {
    Ok(cx
        .conn
        .prepare_cached(sql)?
        .query_row([name], |r| Ok(Standing { generation: r.get(0)?, suspended: false, tombstone: r.get(1)? }))
        .optional()?)
}

fn put_domain(cx: &mut Plan<'_>, r: PutDomain, out: &mut Out) -> Result<(), PlanError> {
    let here = standing(cx, "SELECT generation, tombstone FROM domain WHERE name=?", &r.name)?;
    let left = Standing { generation: r.generation, suspended: false, tombstone: r.tombstone };
    let what = format!("domain {}", r.name);
    match decide::record(left, here, is_truth(cx)) {
        Put::Put => {
            let PutDomain { name, generation, tombstone, keys } = r;
            let domain = Domain { name, generation, tombstone, keys: Sealed(keys) };
            take(directory::put_domain(cx, domain), &what, out)?;
        }
        Put::Listed => listed(&what, out),
        Put::Nothing | Put::PutSuspended | Put::Suspend => {}
    }
    Ok(())
}

fn put_alias(cx: &mut Plan<'_>, r: PutAlias, out: &mut Out) -> Result<(), PlanError> {
    let here = standing(cx, "SELECT generation, tombstone FROM alias WHERE address=?", &r.address)?;
    let left = Standing { generation: r.generation, suspended: false, tombstone: r.tombstone };
    let what = format!("alias {}", r.address);
    match decide::record(left, here, is_truth(cx)) {
        Put::Put => {
            let accounts = r.accounts.iter().filter_map(|id| mailcluster_types::AccountId::from_slice(id));
            let alias = Alias {
                accounts: accounts.collect(),
                address: r.address,
                generation: r.generation,
                tombstone: r.tombstone,
            };
            take(directory::put_alias(cx, alias), &what, out)?;
        }
        Put::Listed => listed(&what, out),
        Put::Nothing | Put::PutSuspended | Put::Suspend => {}
    }
    Ok(())
}

/// Made if there is none of its name; active if none is.
fn put_sieve(cx: &mut Plan<'_>, r: PutSieve, out: &mut Out) -> Result<(), PlanError> {
    let (local, _) = account(cx, &r.account)?;
    let (is_there, any_active): (bool, bool) = cx
        .conn
        .prepare_cached(
            "SELECT EXISTS(SELECT 1 FROM sieve WHERE account=?1 AND name=?2), \
             EXISTS(SELECT 1 FROM sieve WHERE account=?1 AND active<>0)",
        )?
        .query_row(params![local, r.name], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if !is_there {
        out.done.counts.records += 1;
        out.push(PutSieve { active: r.active && !any_active, ..r });
    }
    Ok(())
}

/// Those whom no queue has had under this delivery. What is so old that it may have come another way is held for a person.
fn put_queued(cx: &mut Plan<'_>, queued: Queued, out: &mut Out) -> Result<(), PlanError> {
    let put = queued.put.unwrap_or_default();
    let delivery = mailcluster_types::DeliveryId::from_slice(&put.delivery);
    let delivery = delivery.ok_or(Refusal::NotAllowed("a delivery's id has 16 octets"))?;
    let is_old = put.at < cx.next.clock - DEDUPE_SECONDS;
    let mut recipients: Vec<crate::QueueRecipient> = put.recipients.into_iter().map(Into::into).collect();
    for recipient in recipients.iter_mut().filter(|_| is_old) {
        recipient.held = true;
        recipient.last_error = "from a line that was left behind, and older than what is remembered".into();
    }
    let crc = crc32c::crc32c(&queued.text);
    let message = Enqueue {
        delivery,
        sender: put.sender,
        at: put.at,
        params: put.params,
        recipients,
        body: queued.text,
    };
    let planned = queue::put(cx, message, crc)?;
    let taken = planned.records.iter().map(|(record, _)| match record {
        record::Record::QueuePut(put) => put.recipients.len() as u64,
        _ => 0,
    });
    out.done.counts.queued += taken.sum::<u64>();
    out.records.extend(planned.records);
    Ok(())
}

/// A recipient who was done with is not tried again.
fn done(cx: &mut Plan<'_>, r: record::QueueUpdate, out: &mut Out) -> Result<(), PlanError> {
    let delivery = mailcluster_types::DeliveryId::from_slice(&r.delivery);
    let delivery = delivery.ok_or(Refusal::NotAllowed("a delivery's id has 16 octets"))?;
    let update = QueueUpdate::Done { outcome: r.outcome };
    let planned = queue::update(cx, delivery, r.address, update)?;
    out.done.counts.queued += planned.records.len() as u64;
    out.records.extend(planned.records);
    Ok(())
}
