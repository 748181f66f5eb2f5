//! Accounts, domains and aliases: the newer generation wins.

use std::collections::HashMap;

use bytes::Bytes;
use mailcluster_types::AccountId;
use rusqlite::{OptionalExtension, params};

use super::{Plan, PlanError, Planned, Value, mailbox};
use crate::{
    error::Refusal,
    model::{Account, Alias, Domain},
    record::{PutAccount, PutAlias, PutDomain},
    replica::StoreKind,
};

/// What earlier accounts of the same change did, which the index does not show yet.
#[derive(Default)]
struct Earlier {
    generations: HashMap<AccountId, u64>,
    addresses: HashMap<String, AccountId>,
}

pub fn put_account(cx: &mut Plan<'_>, account: Account) -> Result<Planned, PlanError> {
    let record = account_record(cx, account, &mut Earlier::default())?;
    Ok(Planned::one(record, Value::Done))
}

pub fn put_accounts(cx: &mut Plan<'_>, accounts: Vec<Account>) -> Result<Planned, PlanError> {
    let mut earlier = Earlier::default();
    let mut records = Vec::with_capacity(accounts.len());
    for account in accounts {
        match account_record(cx, account, &mut earlier) {
            Ok(record) => records.push((record.into(), Bytes::new())),
            Err(PlanError::Refused(Refusal::Stale | Refusal::AlreadyExists)) => {}
            Err(e) => return Err(e),
        }
    }
    let count = records.len() as u64;
    Ok(Planned { records, value: Value::Count(count) })
}

fn account_record(
    cx: &mut Plan<'_>,
    account: Account,
    earlier: &mut Earlier,
) -> Result<PutAccount, PlanError> {
    let id = account.id.to_bytes();
    let held: Option<(u64, u64)> = cx
        .conn
        .prepare_cached(
            "SELECT a.generation, u.mailboxes FROM account a JOIN used u ON u.account=a.local WHERE a.id=?",
        )?
        .query_row([&id[..]], |r| Ok((r.get(0)?, r.get(1)?)))
        .optional()?;
    let generation = earlier.generations.get(&account.id).copied().or(held.map(|(g, _)| g));
    if generation.is_some_and(|g| g >= account.generation) {
        return Err(Refusal::Stale.into());
    }
    if !account.tombstone && cx.kind == StoreKind::Directory {
        check_address(cx, &account, earlier)?;
    }
    let ours = cx.kind == StoreKind::Mail && !account.tombstone && account.store == *cx.store;
    let has_some =
        held.is_some_and(|(_, mailboxes)| mailboxes > 0) || earlier.generations.contains_key(&account.id);
    let mailboxes = if ours && !has_some { mailbox::defaults(cx) } else { Vec::new() };
    earlier.generations.insert(account.id, account.generation);
    earlier.addresses.insert(account.address.clone(), account.id);
    Ok(PutAccount {
        id: id.to_vec(),
        address: account.address,
        store: account.store.into(),
        generation: account.generation,
        password_hash: account.password_hash,
        quota_octets: account.quota_octets,
        suspended: account.suspended,
        pending: account.pending,
        tombstone: account.tombstone,
        mailboxes,
    })
}

/// In the directory an address names one account or one alias.
fn check_address(cx: &Plan<'_>, account: &Account, earlier: &Earlier) -> Result<(), PlanError> {
    let taken: bool = cx
        .conn
        .prepare_cached(
            "SELECT EXISTS(SELECT 1 FROM account WHERE address=?1 AND tombstone=0 AND id<>?2) \
             OR EXISTS(SELECT 1 FROM alias WHERE address=?1 AND tombstone=0)",
        )?
        .query_row(params![account.address, &account.id.to_bytes()[..]], |r| r.get(0))?;
    let taken_now = earlier.addresses.get(&account.address).is_some_and(|id| *id != account.id);
    if taken || taken_now { Err(Refusal::AlreadyExists.into()) } else { Ok(()) }
}

pub fn put_domain(cx: &mut Plan<'_>, domain: Domain) -> Result<Planned, PlanError> {
    let held: Option<u64> = cx
        .conn
        .prepare_cached("SELECT generation FROM domain WHERE name=?")?
        .query_row([&domain.name], |r| r.get(0))
        .optional()?;
    if held.is_some_and(|g| g >= domain.generation) {
        return Err(Refusal::Stale.into());
    }
    let Domain { name, generation, tombstone, keys } = domain;
    let record = PutDomain { name, generation, tombstone, keys: keys.0 };
    Ok(Planned::one(record, Value::Done))
}

pub fn put_alias(cx: &mut Plan<'_>, alias: Alias) -> Result<Planned, PlanError> {
    let (held, taken): (Option<u64>, bool) = cx
        .conn
        .prepare_cached(
            "SELECT (SELECT generation FROM alias WHERE address=?1), \
             EXISTS(SELECT 1 FROM account WHERE address=?1 AND tombstone=0)",
        )?
        .query_row([&alias.address], |r| Ok((r.get(0)?, r.get(1)?)))?;
    if held.is_some_and(|g| g >= alias.generation) {
        return Err(Refusal::Stale.into());
    }
    if taken && !alias.tombstone && cx.kind == StoreKind::Directory {
        return Err(Refusal::AlreadyExists.into());
    }
    let record = PutAlias {
        address: alias.address,
        accounts: alias.accounts.iter().map(|a| a.to_bytes().to_vec()).collect(),
        generation: alias.generation,
        tombstone: alias.tombstone,
    };
    Ok(Planned::one(record, Value::Done))
}
