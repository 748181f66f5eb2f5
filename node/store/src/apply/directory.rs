//! Accounts, domains, aliases, the audit log.

use rusqlite::{OptionalExtension, params};

use super::{Apply, ApplyError, mailbox, trace::AUDIT, undelete};
use crate::record::{Audit, PutAccount, PutAlias, PutDomain, PutGaps};

pub fn put_account(cx: &mut Apply<'_>, r: &PutAccount) -> Result<(), ApplyError> {
    let domain = r.address.rsplit_once('@').map_or("", |(_, domain)| domain);
    let old: Option<(i64, bool)> = cx
        .conn
        .prepare_cached("SELECT local, tombstone FROM account WHERE id=?")?
        .query_row([&r.id], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let local: i64 = cx
        .conn
        .prepare_cached(
            "INSERT INTO account(id, address, domain, store, generation, password_hash, quota, suspended, pending, \
             tombstone, seq) VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11) \
             ON CONFLICT(id) DO UPDATE SET address=?2, domain=?3, store=?4, generation=?5, password_hash=?6, \
             quota=?7, suspended=?8, pending=?9, tombstone=?10, seq=?11 RETURNING local",
        )?
        .query_row(
            params![
                r.id,
                r.address,
                domain,
                r.store,
                r.generation,
                r.password_hash,
                r.quota_octets,
                r.suspended,
                r.pending,
                r.tombstone,
                cx.seq
            ],
            |row| row.get(0),
        )?;
    let was_live = old.is_some_and(|(_, tombstone)| !tombstone);
    cx.state.accounts =
        cx.state.accounts.saturating_add(u64::from(!r.tombstone)).saturating_sub(u64::from(was_live));
    if old.is_none() {
        cx.conn.prepare_cached("INSERT INTO used VALUES(?,0,0)")?.execute([local])?;
    }
    if r.tombstone {
        empty_account(cx, local)?;
    }
    for new in &r.mailboxes {
        mailbox::add(cx, local, new)?;
    }
    cx.hot.forget(&r.id);
    cx.changed.directory = true;
    Ok(())
}

/// All that belongs to an account goes; its record stays.
fn empty_account(cx: &mut Apply<'_>, local: i64) -> Result<(), ApplyError> {
    let mailboxes = cx
        .conn
        .prepare_cached("SELECT id FROM mailbox WHERE account=?")?
        .query_map([local], |row| row.get(0))?
        .collect::<Result<Vec<u64>, _>>()?;
    for id in mailboxes {
        mailbox::remove(cx, local, id)?;
        cx.changed.mailboxes.entry(id).or_insert(0);
    }
    undelete::forget_account(cx, local)?;
    cx.conn.prepare_cached("DELETE FROM subscription WHERE account=?")?.execute([local])?;
    cx.conn.prepare_cached("DELETE FROM sieve WHERE account=?")?.execute([local])?;
    cx.conn.prepare_cached("DELETE FROM seen WHERE account=?")?.execute([local])?;
    Ok(())
}

pub fn put_domain(cx: &mut Apply<'_>, r: &PutDomain) -> Result<(), ApplyError> {
    cx.conn.prepare_cached("INSERT OR REPLACE INTO domain VALUES(?,?,?,?,?)")?.execute(params![
        r.name,
        r.generation,
        r.tombstone,
        cx.seq,
        r.keys
    ])?;
    cx.changed.directory = true;
    Ok(())
}

pub fn put_alias(cx: &mut Apply<'_>, r: &PutAlias) -> Result<(), ApplyError> {
    cx.conn.prepare_cached("INSERT OR REPLACE INTO alias VALUES(?,?,?,?,?)")?.execute(params![
        r.address,
        r.accounts.concat(),
        r.generation,
        r.tombstone,
        cx.seq
    ])?;
    cx.changed.directory = true;
    Ok(())
}

pub fn put_gaps(cx: &mut Apply<'_>, r: &PutGaps) -> Result<(), ApplyError> {
    cx.conn.prepare_cached("DELETE FROM gap")?.execute([])?;
    for store in &r.missing {
        cx.conn.prepare_cached("INSERT OR IGNORE INTO gap VALUES(?)")?.execute([store])?;
    }
    Ok(())
}

pub fn audit(cx: &mut Apply<'_>, r: &Audit) -> Result<(), ApplyError> {
    cx.state.audit += 1;
    let id = cx.state.audit;
    cx.conn.prepare_cached("INSERT INTO audit VALUES(?,?,?,?)")?.execute(params![id, r.at, r.who, r.what])?;
    cx.conn.prepare_cached("DELETE FROM audit WHERE id<=?")?.execute([id.saturating_sub(AUDIT)])?;
    cx.saw(r.at);
    Ok(())
}
