//! Records of accounts, domains and aliases.

use std::fmt;

use super::mail::NewMailbox;

/// An account's newest state, with its quota.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PutAccount {
    /// Account id, 16 octets.
    #[prost(bytes = "vec", tag = "1")]
    pub id: Vec<u8>,
    /// Address key.
    #[prost(string, tag = "2")]
    pub address: String,
    /// The store that holds its mail.
    #[prost(string, tag = "3")]
    pub store: String,
    /// Rises with every change.
    #[prost(uint64, tag = "4")]
    pub generation: u64,
    /// Hash or empty.
    #[prost(string, tag = "5")]
    pub password_hash: String,
    /// Octets; 0 = no limit.
    #[prost(uint64, tag = "6")]
    pub quota_octets: u64,
    /// Logins refused.
    #[prost(bool, tag = "7")]
    pub suspended: bool,
    /// Not confirmed by its store yet.
    #[prost(bool, tag = "8")]
    pub pending: bool,
    /// Deleted or moved away.
    #[prost(bool, tag = "9")]
    pub tombstone: bool,
    /// The mailboxes that it gets now.
    #[prost(message, repeated, tag = "10")]
    pub mailboxes: Vec<NewMailbox>,
}

/// A domain's newest state.
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct PutDomain {
    /// Lower case.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Rises with every change.
    #[prost(uint64, tag = "2")]
    pub generation: u64,
    /// Deleted.
    #[prost(bool, tag = "3")]
    pub tombstone: bool,
    /// What signs its mail.
    #[prost(bytes = "vec", tag = "4")]
    pub keys: Vec<u8>,
}

impl fmt::Debug for PutDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, generation, tombstone, keys: _ } = self;
        write!(f, "PutDomain({name:?}, {generation}, tombstone {tombstone})")
    }
}

/// An alias's newest state.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PutAlias {
    /// Address key.
    #[prost(string, tag = "1")]
    pub address: String,
    /// Account ids, 16 octets each.
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub accounts: Vec<Vec<u8>>,
    /// Rises with every change.
    #[prost(uint64, tag = "3")]
    pub generation: u64,
    /// Deleted.
    #[prost(bool, tag = "4")]
    pub tombstone: bool,
}

/// One line of the audit log.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Audit {
    /// Seconds since 1970.
    #[prost(sint64, tag = "1")]
    pub at: i64,
    /// Who did it.
    #[prost(string, tag = "2")]
    pub who: String,
    /// What was done.
    #[prost(string, tag = "3")]
    pub what: String,
}

/// What a rebuild of the directory had to leave out.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PutGaps {
    /// Names of the stores that could not be asked; empty when all were.
    #[prost(string, repeated, tag = "1")]
    pub missing: Vec<String>,
}
