//! Mail that was expunged and can be brought back.

use bytes::Bytes;
use mailcluster_types::{AccountId, Uid};
use rusqlite::params;

use super::View;
use crate::{error::ReadError, model::Flags, names, plan::parse_keywords, schema};

/// An expunged message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recoverable {
    /// The mailbox that it went from.
    pub mailbox: u64,
    /// Its UID there.
    pub uid: Uid,
    /// The mailbox's name; of one that is gone, its last one.
    pub name: String,
    /// Is that mailbox still there?
    pub is_there: bool,
    /// When it went, in seconds since 1970.
    pub expunged_at: i64,
    /// Its flags at that time.
    pub flags: Flags,
    /// Seconds since 1970.
    pub internal_date: i64,
    /// Its octets.
    pub size: u32,
    /// Its text, for [`View::body`].
    pub body: u64,
}

/// Which of an account's expunged messages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoverableFilter {
    /// Those of the mailbox of this name; `None`: of all.
    pub mailbox: Option<String>,
    /// Those that went at this time or later, in seconds since 1970.
    pub since: i64,
    /// Those behind this one, by mailbox and UID.
    pub after: (u64, Uid),
}

impl View {
    /// An account's expunged messages, ascending by mailbox and UID.
    ///
    /// # Errors
    /// As [`ReadError`] says.
    pub fn recoverable(
        &self,
        account: AccountId,
        filter: &RecoverableFilter,
        limit: usize,
    ) -> Result<Vec<Recoverable>, ReadError> {
        let (id, name) = (account.to_bytes(), filter.mailbox.as_deref().map(names::canonical));
        let after = i64::try_from(filter.after.0).unwrap_or(i64::MAX);
        self.all(
            "SELECT r.mailbox, r.uid, ifnull(m.name, r.name), m.id IS NOT NULL, r.at, r.system, r.keywords, \
             r.internal_date, r.size, r.body FROM recoverable r \
             LEFT JOIN mailbox m ON m.id=r.mailbox AND m.account=r.account \
             WHERE r.account=(SELECT local FROM account WHERE id=?1) AND (r.mailbox, r.uid)>(?2, ?3) AND r.at>=?4 \
             AND (?5 IS NULL OR ifnull(m.name, r.name)=?5) ORDER BY r.mailbox, r.uid LIMIT ?6",
            params![&id[..], after, filter.after.1, filter.since, name, super::limit(limit)],
            |r| {
                Ok(Recoverable {
                    mailbox: r.get(0)?,
                    uid: r.get(1)?,
                    name: r.get(2)?,
                    is_there: r.get(3)?,
                    expunged_at: r.get(4)?,
                    flags: Flags { system: r.get(5)?, keywords: parse_keywords(r.get(6)?) },
                    internal_date: r.get(7)?,
                    size: r.get(8)?,
                    body: r.get(9)?,
                })
            },
        )
    }

    /// The first octets of a text, for people who look for it: read as they lie there, whether they are damaged or not.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn beginning(&self, body: u64, octets: usize) -> Result<Bytes, ReadError> {
        let (place, mut text) = self.place(body)?;
        let left = octets.saturating_sub(text.len()).min(usize::try_from(place.len).unwrap_or(usize::MAX));
        let mut read = vec![0; left];
        if left > 0 {
            let file = self.pool.files.of(&place)?;
            place.read_at(&file, 0, &mut read)?;
        }
        text.truncate(octets);
        text.extend_from_slice(&read);
        Ok(text.into())
    }

    /// Has the index been brought up to the version that keeps expunged mail?
    pub(crate) fn has_recoverable(&self) -> Result<bool, ReadError> {
        Ok(schema::version(self.connection()?)? >= 4)
    }
}
