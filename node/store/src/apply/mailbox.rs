//! Mailboxes: made, deleted, renamed, subscribed to; Sieve scripts.

use rusqlite::params;

use super::{Apply, ApplyError, mail};
use crate::record::{
    Copy, CreateMailbox, DeleteMailbox, MoveAll, NewMailbox, PutSieve, RenameMailbox, Subscribe,
};

pub fn create(cx: &mut Apply<'_>, r: &CreateMailbox) -> Result<(), ApplyError> {
    let account = cx.local(&r.account)?;
    r.mailboxes.iter().try_for_each(|m| add(cx, account, m))
}

/// Makes one mailbox.
pub fn add(cx: &mut Apply<'_>, account: i64, m: &NewMailbox) -> Result<(), ApplyError> {
    cx.conn.prepare_cached("INSERT INTO mailbox VALUES(?,?,?,?,?)")?.execute(params![
        m.id,
        account,
        m.name,
        m.uid_validity,
        m.special_use
    ])?;
    cx.conn
        .prepare_cached("INSERT INTO counter VALUES(?,1,?,0,0,0,0,0,0)")?
        .execute(params![m.id, m.modseq])?;
    cx.conn.prepare_cached("UPDATE used SET mailboxes=mailboxes+1 WHERE account=?")?.execute([account])?;
    if m.subscribed {
        set_subscribed(cx, account, &m.name, true)?;
    }
    cx.state.mailbox = cx.state.mailbox.max(m.id);
    cx.state.uid_validity = cx.state.uid_validity.max(m.uid_validity);
    cx.saw_modseq(m.id, m.modseq);
    Ok(())
}

pub fn delete(cx: &mut Apply<'_>, r: &DeleteMailbox) -> Result<(), ApplyError> {
    let account = mail::account_of(cx, r.mailbox)?;
    remove(cx, account, r.mailbox)?;
    cx.saw_modseq(r.mailbox, r.modseq);
    Ok(())
}

/// Removes a mailbox and all that is in it.
pub fn remove(cx: &mut Apply<'_>, account: i64, mailbox: u64) -> Result<(), ApplyError> {
    for sql in [
        "UPDATE body SET refs=refs-c.n FROM (SELECT body AS b, count(*) AS n FROM message WHERE mailbox=?1 \
         GROUP BY body) AS c WHERE body.id=c.b",
        "DELETE FROM body WHERE refs<=0 AND id IN (SELECT body FROM message WHERE mailbox=?1)",
    ] {
        cx.conn.prepare_cached(sql)?.execute([mailbox])?;
    }
    remove_rows(cx, account, mailbox)
}

/// Removes a mailbox and its messages; bodies keep their references.
pub fn remove_rows(cx: &mut Apply<'_>, account: i64, mailbox: u64) -> Result<(), ApplyError> {
    let octets: u64 = cx
        .conn
        .prepare_cached("SELECT octets FROM counter WHERE mailbox=?")?
        .query_row([mailbox], |r| r.get(0))?;
    for sql in [
        "DELETE FROM message WHERE mailbox=?1",
        "DELETE FROM expunged WHERE mailbox=?1",
        "DELETE FROM counter WHERE mailbox=?1",
        "DELETE FROM mailbox WHERE id=?1",
    ] {
        cx.conn.prepare_cached(sql)?.execute([mailbox])?;
    }
    cx.conn
        .prepare_cached("UPDATE used SET octets=octets-?, mailboxes=mailboxes-1 WHERE account=?")?
        .execute(params![octets, account])?;
    cx.state.octets = cx.state.octets.saturating_sub(octets);
    Ok(())
}

pub fn rename(cx: &mut Apply<'_>, r: &RenameMailbox) -> Result<(), ApplyError> {
    let account = cx.local(&r.account)?;
    for mailbox in &r.created {
        add(cx, account, mailbox)?;
    }
    for rename in &r.renames {
        cx.conn
            .prepare_cached("UPDATE mailbox SET name=? WHERE id=?")?
            .execute(params![rename.name, rename.mailbox])?;
        cx.changed.mailboxes.entry(rename.mailbox).or_insert(0);
    }
    match &r.inbox {
        Some(inbox) => move_all(cx, inbox, r.at),
        None => Ok(()),
    }
}

fn move_all(cx: &mut Apply<'_>, r: &MoveAll, at: i64) -> Result<(), ApplyError> {
    let uids = cx
        .conn
        .prepare_cached("SELECT uid FROM message WHERE mailbox=? ORDER BY uid")?
        .query_map([r.from], |row| row.get(0))?
        .collect::<Result<Vec<u32>, _>>()?;
    let copy =
        Copy { from: r.from, to: r.to, uids, first_uid: 1, modseq: r.modseq, moved_modseq: r.modseq, at };
    mail::copy(cx, &copy)
}

pub fn subscribe(cx: &mut Apply<'_>, r: &Subscribe) -> Result<(), ApplyError> {
    let account = cx.local(&r.account)?;
    set_subscribed(cx, account, &r.name, r.subscribed)
}

fn set_subscribed(cx: &Apply<'_>, account: i64, name: &str, subscribed: bool) -> Result<(), ApplyError> {
    let sql = if subscribed {
        "INSERT OR IGNORE INTO subscription VALUES(?,?)"
    } else {
        "DELETE FROM subscription WHERE account=? AND name=?"
    };
    cx.conn.prepare_cached(sql)?.execute(params![account, name])?;
    Ok(())
}

pub fn put_sieve(cx: &mut Apply<'_>, r: &PutSieve) -> Result<(), ApplyError> {
    let account = cx.local(&r.account)?;
    let Some(script) = &r.script else {
        cx.conn
            .prepare_cached("DELETE FROM sieve WHERE account=? AND name=?")?
            .execute(params![account, r.name])?;
        return Ok(());
    };
    if r.active {
        cx.conn.prepare_cached("UPDATE sieve SET active=0 WHERE account=?")?.execute([account])?;
    }
    cx.conn.prepare_cached("INSERT OR REPLACE INTO sieve VALUES(?,?,?,?)")?.execute(params![
        account,
        r.name,
        script.as_ref(),
        r.active
    ])?;
    Ok(())
}
