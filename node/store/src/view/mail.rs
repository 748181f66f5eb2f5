//! Mailboxes and messages.

use mailcluster_types::{AccountId, DeliveryId, ModSeq, Uid};
use rusqlite::{Row, params};

use super::{View, account_id};
use crate::{
    error::ReadError,
    model::{Changes, Flags, Mailbox, MailboxCounts, Message},
    names,
    plan::{parse_keywords, special_use},
};

/// What [`mailbox`] reads, in its order.
macro_rules! mailboxes {
    ($rest:literal) => {
        concat!(
            "SELECT m.id, a.id, m.name, m.uid_validity, c.uid_next, c.modseq, m.special_use, c.messages, c.unseen, \
             c.deleted, c.octets FROM mailbox m JOIN account a ON a.local=m.account \
             JOIN counter c ON c.mailbox=m.id ",
            $rest
        )
    };
}

fn mailbox(r: &Row<'_>) -> rusqlite::Result<Mailbox> {
    Ok(Mailbox {
        id: r.get(0)?,
        account: account_id(r, 1)?,
        name: r.get(2)?,
        uid_validity: r.get(3)?,
        uid_next: r.get(4)?,
        highest_modseq: r.get(5)?,
        special_use: special_use(r.get(6)?),
        counts: MailboxCounts {
            messages: r.get(7)?,
            unseen: r.get(8)?,
            deleted: r.get(9)?,
            octets: r.get(10)?,
        },
    })
}

/// What [`message`] reads, in its order.
macro_rules! messages {
    ($rest:literal) => {
        concat!(
            "SELECT uid, modseq, system, keywords, internal_date, zone, size, delivery, body, born FROM message ",
            $rest
        )
    };
}

fn message(r: &Row<'_>) -> rusqlite::Result<Message> {
    let delivery: Option<[u8; 16]> = r.get(7)?;
    Ok(Message {
        uid: r.get(0)?,
        modseq: r.get(1)?,
        flags: Flags { system: r.get(2)?, keywords: parse_keywords(r.get(3)?) },
        internal_date: r.get(4)?,
        zone_minutes: r.get(5)?,
        size: r.get(6)?,
        delivery: delivery.map(|d| DeliveryId(u128::from_be_bytes(d))),
        body: r.get(8)?,
    })
}

#[allow(clippy::missing_errors_doc, reason = "every read fails only as ReadError says")]
impl View {
    /// An account's mailboxes, by name.
    pub fn mailboxes(&self, account: AccountId) -> Result<Vec<Mailbox>, ReadError> {
        let id = account.to_bytes();
        self.all(mailboxes!("WHERE a.id=? AND a.tombstone=0 ORDER BY m.name"), [&id[..]], mailbox)
    }

    /// A mailbox by name (INBOX in any case).
    pub fn mailbox_by_name(&self, account: AccountId, name: &str) -> Result<Option<Mailbox>, ReadError> {
        let (id, name) = (account.to_bytes(), names::canonical(name));
        self.one(mailboxes!("WHERE a.id=? AND m.name=?"), params![&id[..], name], mailbox)
    }

    /// A mailbox by id.
    pub fn mailbox(&self, id: u64) -> Result<Option<Mailbox>, ReadError> {
        let Ok(id) = i64::try_from(id) else { return Ok(None) };
        self.one(mailboxes!("WHERE m.id=?"), [id], mailbox)
    }

    /// Names subscribed to, existing or not.
    pub fn subscriptions(&self, account: AccountId) -> Result<Vec<String>, ReadError> {
        let id = account.to_bytes();
        self.all(
            "SELECT name FROM subscription WHERE account=(SELECT local FROM account WHERE id=?) ORDER BY name",
            [&id[..]],
            |r| r.get(0),
        )
    }

    /// All messages with UIDs in `from..=to`, ascending.
    pub fn messages(&self, mailbox: u64, from: Uid, to: Uid) -> Result<Vec<Message>, ReadError> {
        let Ok(mailbox) = i64::try_from(mailbox) else { return Ok(Vec::new()) };
        self.all(
            messages!("WHERE mailbox=? AND uid BETWEEN ? AND ? ORDER BY uid"),
            params![mailbox, from, to],
            message,
        )
    }

    /// UID, size and body (see [`Message::body`]) of the first `limit` messages, ascending by UID.
    pub fn sizes(&self, mailbox: u64, limit: usize) -> Result<Vec<(Uid, u32, u64)>, ReadError> {
        let Ok(mailbox) = i64::try_from(mailbox) else { return Ok(Vec::new()) };
        self.all(
            "SELECT uid, size, body FROM message WHERE mailbox=? ORDER BY uid LIMIT ?",
            params![mailbox, super::limit(limit)],
            |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)),
        )
    }

    /// All UIDs, ascending.
    pub fn uids(&self, mailbox: u64) -> Result<Vec<Uid>, ReadError> {
        let Ok(mailbox) = i64::try_from(mailbox) else { return Ok(Vec::new()) };
        self.all("SELECT uid FROM message WHERE mailbox=? ORDER BY uid", [mailbox], |r| r.get(0))
    }

    /// What changed after `modseq`. When the expunge history does not reach back that far, all UIDs below UIDNEXT
    /// that are not there count as expunged.
    pub fn changes(&self, mailbox: u64, modseq: ModSeq) -> Result<Changes, ReadError> {
        let counters = self.one(
            "SELECT modseq, expunge_floor, uid_next FROM counter WHERE mailbox=?",
            [i64::try_from(mailbox).unwrap_or(0)],
            |r| Ok((r.get::<_, ModSeq>(0)?, r.get::<_, ModSeq>(1)?, r.get::<_, Uid>(2)?)),
        )?;
        let (highest_modseq, floor, uid_next) = counters.ok_or(ReadError::NotFound)?;
        let since = i64::try_from(modseq).unwrap_or(i64::MAX);
        let mut changed = self.born_after(mailbox, modseq)?;
        changed.extend(self.all(
            messages!("INDEXED BY message_changed WHERE mailbox=? AND modseq>? AND modseq<>born AND born<=?"),
            params![mailbox, since, since],
            message,
        )?);
        changed.sort_by_key(|m| m.uid);
        let expunged = if modseq < floor {
            let mut there = self.uids(mailbox)?.into_iter().peekable();
            (1..uid_next).filter(|uid| there.next_if_eq(uid).is_none()).collect()
        } else {
            self.all(
                "SELECT uid FROM expunged WHERE mailbox=? AND modseq>? ORDER BY uid",
                params![mailbox, since],
                |r| r.get(0),
            )?
        };
        Ok(Changes { changed, expunged, highest_modseq })
    }

    /// Messages that came after `modseq`. They were born in the order of their UIDs, so the newest are read until one
    /// is older: no index on MODSEQ is needed for mail that comes in.
    fn born_after(&self, mailbox: u64, modseq: ModSeq) -> Result<Vec<Message>, ReadError> {
        let mut statement = self.prepare(messages!("WHERE mailbox=? ORDER BY uid DESC"))?;
        let mut rows = statement.query([mailbox])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            if row.get::<_, ModSeq>(9)? <= modseq {
                break;
            }
            found.push(message(row)?);
        }
        Ok(found)
    }
}
