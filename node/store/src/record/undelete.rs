//! Records of mail that was expunged and can be brought back for a while.

/// Messages went, as by `Expunge`, and are kept until they are purged.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Retire {
    /// The mailbox.
    #[prost(uint64, tag = "1")]
    pub mailbox: u64,
    /// The MODSEQ of their going.
    #[prost(uint64, tag = "2")]
    pub modseq: u64,
    /// UIDs, ascending.
    #[prost(uint32, repeated, tag = "3")]
    pub uids: Vec<u32>,
    /// Seconds since 1970.
    #[prost(sint64, tag = "4")]
    pub at: i64,
}

/// A mailbox went, as by `DeleteMailbox`; its messages are kept until they are purged.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RetireMailbox {
    /// The mailbox.
    #[prost(uint64, tag = "1")]
    pub mailbox: u64,
    /// The MODSEQ of its going.
    #[prost(uint64, tag = "2")]
    pub modseq: u64,
    /// Seconds since 1970.
    #[prost(sint64, tag = "3")]
    pub at: i64,
}

/// Messages come back: the n-th of all UIDs becomes `first_uid + n`, without \Deleted.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Recover {
    /// The mailbox that they come into.
    #[prost(uint64, tag = "1")]
    pub to: u64,
    /// What comes back, by the mailboxes that it went from.
    #[prost(message, repeated, tag = "2")]
    pub from: Vec<Retired>,
    /// The first UID that is given.
    #[prost(uint32, tag = "3")]
    pub first_uid: u32,
    /// Their MODSEQ.
    #[prost(uint64, tag = "4")]
    pub modseq: u64,
    /// Seconds since 1970.
    #[prost(sint64, tag = "5")]
    pub at: i64,
}

/// Messages that went from one mailbox.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Retired {
    /// The mailbox, which may be gone.
    #[prost(uint64, tag = "1")]
    pub mailbox: u64,
    /// Their UIDs there, ascending.
    #[prost(uint32, repeated, tag = "2")]
    pub uids: Vec<u32>,
}

/// What was kept goes for good: all up to and with this one, in the order of their going, then of mailbox and UID.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Purge {
    /// When the last one went, in seconds since 1970.
    #[prost(sint64, tag = "1")]
    pub at: i64,
    /// Its mailbox.
    #[prost(uint64, tag = "2")]
    pub mailbox: u64,
    /// Its UID.
    #[prost(uint32, tag = "3")]
    pub uid: u32,
}
