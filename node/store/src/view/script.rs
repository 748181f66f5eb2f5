//! Sieve scripts, and what they remember.

use bytes::Bytes;
use mailcluster_types::{AccountId, DeliveryId};
use rusqlite::params;

use super::View;
use crate::error::ReadError;

/// A script without its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptListed {
    /// Its name.
    pub name: String,
    /// Octets of its text.
    pub size: u64,
    /// It is the active one.
    pub active: bool,
}

#[allow(clippy::missing_errors_doc, reason = "every read fails only as ReadError says")]
impl View {
    /// An account's scripts, by name.
    pub fn scripts(&self, account: AccountId) -> Result<Vec<ScriptListed>, ReadError> {
        self.all(
            "SELECT s.name, length(s.script), s.active FROM sieve s JOIN account a ON a.local=s.account \
             WHERE a.id=? ORDER BY s.name",
            [&account.to_bytes()[..]],
            |r| Ok(ScriptListed { name: r.get(0)?, size: r.get(1)?, active: r.get(2)? }),
        )
    }

    /// A script's text.
    pub fn script(&self, account: AccountId, name: &str) -> Result<Option<Bytes>, ReadError> {
        self.one(
            "SELECT s.script FROM sieve s JOIN account a ON a.local=s.account WHERE a.id=? AND s.name=?",
            params![&account.to_bytes()[..], name],
            |r| Ok(r.get::<_, Vec<u8>>(0)?.into()),
        )
    }

    /// The active script's name and text.
    pub fn active_script(&self, account: AccountId) -> Result<Option<(String, Bytes)>, ReadError> {
        self.one(
            "SELECT s.name, s.script FROM sieve s JOIN account a ON a.local=s.account \
             WHERE a.id=? AND s.active<>0",
            [&account.to_bytes()[..]],
            |r| Ok((r.get(0)?, r.get::<_, Vec<u8>>(1)?.into())),
        )
    }

    /// Has the account an active script?
    pub fn has_active_script(&self, account: AccountId) -> Result<bool, ReadError> {
        let active = self.one(
            "SELECT 1 FROM sieve s JOIN account a ON a.local=s.account WHERE a.id=? AND s.active<>0",
            [&account.to_bytes()[..]],
            |_| Ok(()),
        )?;
        Ok(active.is_some())
    }

    /// Do the account's scripts know this id at a time (seconds since 1970)?
    pub fn is_seen(&self, account: AccountId, id: &[u8; 16], now: i64) -> Result<bool, ReadError> {
        let known = self.one(
            "SELECT 1 FROM seen s JOIN account a ON a.local=s.account WHERE a.id=? AND s.id=? AND s.until>?",
            params![&account.to_bytes()[..], &id[..], now],
            |_| Ok(()),
        )?;
        Ok(known.is_some())
    }

    /// Has the account this delivery, or is it too long ago to say?
    pub fn has_delivery(&self, account: AccountId, delivery: DeliveryId) -> Result<bool, ReadError> {
        let known = self.one(
            "SELECT 1 FROM delivered d JOIN account a ON a.local=d.account WHERE d.delivery=? AND a.id=?",
            params![&delivery.to_bytes()[..], &account.to_bytes()[..]],
            |_| Ok(()),
        )?;
        Ok(known.is_some())
    }
}
