//! Expunged mail: whether it is kept when it goes, what is brought back, what is purged.

use std::collections::{BTreeMap, btree_map::Entry};

use mailcluster_types::Uid;
use rusqlite::{OptionalExtension, params};

use super::{Plan, PlanError, Planned, Value, mailbox, take_uids};
use crate::{
    error::Refusal,
    names,
    ops::{Purge, Purged, Undelete, Undeleted},
    record::{self, CreateMailbox, Record, Recover, Retire, RetireMailbox, Retired},
};

/// Most messages of one change that brings back.
pub const MOST: usize = 1000;
/// Most messages of one purge: others wait for no more.
pub const PURGED: u64 = 500;

/// The record of messages that go.
pub fn gone(cx: &mut Plan<'_>, mailbox: u64, uids: Vec<Uid>) -> Record {
    let (modseq, at) = (cx.next.next_modseq(cx.epoch), cx.now);
    if cx.keeps_expunged {
        Retire { mailbox, modseq, uids, at }.into()
    } else {
        record::Expunge { mailbox, modseq, uids, at }.into()
    }
}

/// The record of a mailbox that goes.
pub fn mailbox_gone(cx: &mut Plan<'_>, mailbox: u64) -> Record {
    let modseq = cx.next.next_modseq(cx.epoch);
    if cx.keeps_expunged {
        RetireMailbox { mailbox, modseq, at: cx.now }.into()
    } else {
        record::DeleteMailbox { mailbox, modseq }.into()
    }
}

/// Messages that come into one mailbox.
struct Target {
    next: u64,
    from: BTreeMap<u64, Vec<Uid>>,
}

struct Work<'a, 'b> {
    cx: &'a mut Plan<'b>,
    account: i64,
    /// By the mailbox that they went from: where they go.
    homes: BTreeMap<u64, u64>,
    targets: BTreeMap<u64, Target>,
    /// Made in this change, by name.
    made: Vec<record::NewMailbox>,
}

/// Brings messages back. Those that are not there any more, as they were brought back already or purged, are passed over.
pub fn undelete(cx: &mut Plan<'_>, asked: Undelete) -> Result<Planned, PlanError> {
    if asked.messages.len() > MOST {
        return Err(Refusal::NotAllowed("at most 1000 messages are brought back at a time").into());
    }
    let account = cx.own_account(asked.account)?;
    let mut wanted = asked.messages;
    wanted.sort_unstable();
    wanted.dedup();
    let mut work = Work { cx, account, homes: BTreeMap::new(), targets: BTreeMap::new(), made: Vec::new() };
    let mut back = Vec::new();
    for (from, uid) in wanted {
        let Some(name) = work.kept(from, uid)? else { continue };
        let to = work.home(from, asked.into.as_deref().unwrap_or(&name), asked.into.is_some())?;
        if let Some(target) = work.targets.get_mut(&to) {
            target.from.entry(from).or_default().push(uid);
        }
        back.push((from, uid));
    }
    let (records, mailboxes) = work.records(asked.account.to_bytes().to_vec())?;
    let records = records.into_iter().map(|record| (record, bytes::Bytes::new())).collect();
    Ok(Planned { records, value: Value::Undeleted(Undeleted { messages: back, mailboxes }) })
}

impl Work<'_, '_> {
    /// The name under which a message's mailbox is made again; `None`: it is not there.
    fn kept(&self, mailbox: u64, uid: Uid) -> Result<Option<String>, PlanError> {
        Ok(self
            .cx
            .conn
            .prepare_cached("SELECT name FROM recoverable WHERE account=? AND mailbox=? AND uid=?")?
            .query_row(params![self.account, mailbox, uid], |r| r.get(0))
            .optional()?)
    }

    /// The mailbox that what went from this one comes into: itself, or the one of that name, which is made when there is none.
    fn home(&mut self, from: u64, name: &str, is_elsewhere: bool) -> Result<u64, PlanError> {
        if let Some(home) = self.homes.get(&from) {
            return Ok(*home);
        }
        let itself = if is_elsewhere { None } else { self.there(from)? };
        let home = match itself {
            Some(next) => self.target(from, next),
            None => self.named(name)?,
        };
        self.homes.insert(from, home);
        Ok(home)
    }

    fn target(&mut self, id: u64, next: u64) -> u64 {
        if let Entry::Vacant(entry) = self.targets.entry(id) {
            entry.insert(Target { next, from: BTreeMap::new() });
        }
        id
    }

    /// UIDNEXT of a mailbox of this account; `None`: it is gone.
    fn there(&self, id: u64) -> Result<Option<u64>, PlanError> {
        match self.cx.mailbox(id) {
            Ok(row) => Ok(Some(row.uid_next).filter(|_| row.account == self.account)),
            Err(PlanError::Refused(Refusal::NoSuchMailbox)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn named(&mut self, name: &str) -> Result<u64, PlanError> {
        let name = names::normalise(name)?;
        if let Some(id) = mailbox::find(self.cx, self.account, &name)? {
            let next = self.there(id)?.unwrap_or(1);
            return Ok(self.target(id, next));
        }
        if let Some(made) = self.made.iter().find(|made| made.name == name) {
            let id = made.id;
            return Ok(self.target(id, 1));
        }
        let parents = mailbox::missing_parents(self.cx, self.account, &name)?;
        for parent in parents {
            if !self.made.iter().any(|made| made.name == parent.name) {
                self.made.push(parent);
            }
        }
        let new = mailbox::new_mailbox(self.cx, &name, None, false);
        let id = new.id;
        self.made.push(new);
        Ok(self.target(id, 1))
    }

    /// The mailboxes that are made, then what comes into each; and how many are made.
    fn records(self, account: Vec<u8>) -> Result<(Vec<Record>, u64), PlanError> {
        let mut records = Vec::new();
        let made = self.made.len() as u64;
        if made > 0 {
            records.push(CreateMailbox { account, mailboxes: self.made }.into());
        }
        for (to, Target { next, from }) in self.targets {
            let count = from.values().map(Vec::len).sum();
            let first_uid = take_uids(next, count)?;
            let from = from.into_iter().map(|(mailbox, uids)| Retired { mailbox, uids }).collect();
            let modseq = self.cx.next.next_modseq(self.cx.epoch);
            records.push(Recover { to, from, first_uid, modseq, at: self.cx.now }.into());
        }
        Ok((records, made))
    }
}

/// What went long enough ago, and as much more of the oldest as is asked for.
pub fn purge(cx: &mut Plan<'_>, asked: Purge) -> Result<Planned, PlanError> {
    let mut query = cx.conn.prepare_cached(
        "SELECT at, mailbox, uid, size FROM recoverable INDEXED BY recoverable_at ORDER BY at, mailbox, uid LIMIT ?",
    )?;
    let mut rows = query.query([PURGED])?;
    let (mut done, mut last) = (Purged::default(), None);
    while let Some(row) = rows.next()? {
        let (at, size): (i64, u64) = (row.get(0)?, row.get(3)?);
        if at > asked.until {
            if done.early_octets >= asked.early_octets {
                break;
            }
            done.early += 1;
            done.early_octets += size;
        }
        done.messages += 1;
        last = Some(record::Purge { at, mailbox: row.get(1)?, uid: row.get(2)? });
    }
    done.has_more = done.messages == PURGED;
    Ok(match last {
        Some(record) => Planned::one(record, Value::Purged(done)),
        None => Planned::nothing(Value::Purged(done)),
    })
}
