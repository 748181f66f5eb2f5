//! Records of mailboxes and messages.

use bytes::Bytes;

/// One message for several accounts. The body follows unless all targets are duplicates.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Deliver {
    /// Delivery id, 16 octets.
    #[prost(bytes = "vec", tag = "1")]
    pub delivery: Vec<u8>,
    /// Envelope sender.
    #[prost(string, tag = "2")]
    pub sender: String,
    /// Seconds since 1970.
    #[prost(sint64, tag = "3")]
    pub at: i64,
    /// CRC-32C of the body.
    #[prost(fixed32, tag = "4")]
    pub body_crc: u32,
    /// Those who got it, and those who had it already (mailbox 0).
    #[prost(message, repeated, tag = "5")]
    pub targets: Vec<Stored>,
    /// What checks said of it on its way in.
    #[prost(string, tag = "6")]
    pub met: String,
}

/// One copy of a delivered message.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Stored {
    /// Account id, 16 octets.
    #[prost(bytes = "vec", tag = "1")]
    pub account: Vec<u8>,
    /// Envelope recipient's address key.
    #[prost(string, tag = "2")]
    pub recipient: String,
    /// The mailbox; 0 when this was a duplicate.
    #[prost(uint64, tag = "3")]
    pub mailbox: u64,
    /// The UID.
    #[prost(uint32, tag = "4")]
    pub uid: u32,
    /// Its MODSEQ.
    #[prost(uint64, tag = "5")]
    pub modseq: u64,
    /// Header lines before the body.
    #[prost(bytes = "bytes", tag = "6")]
    pub prefix: Bytes,
    /// System flags.
    #[prost(uint32, tag = "7")]
    pub system: u32,
    /// Keywords.
    #[prost(string, repeated, tag = "8")]
    pub keywords: Vec<String>,
    /// Further mailboxes of the account that got it: they share the body.
    #[prost(message, repeated, tag = "9")]
    pub also: Vec<Placed>,
    /// With mailbox 0: no duplicate, a script has seen to it.
    #[prost(bool, tag = "10")]
    pub filtered: bool,
    /// Ids that the account's scripts know from now on.
    #[prost(message, repeated, tag = "11")]
    pub seen: Vec<Seen>,
    /// What a script has done beside, for the history.
    #[prost(string, tag = "12")]
    pub detail: String,
}

/// A message in another mailbox.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Placed {
    /// The mailbox.
    #[prost(uint64, tag = "1")]
    pub mailbox: u64,
    /// The UID.
    #[prost(uint32, tag = "2")]
    pub uid: u32,
    /// Its MODSEQ.
    #[prost(uint64, tag = "3")]
    pub modseq: u64,
    /// System flags.
    #[prost(uint32, tag = "4")]
    pub system: u32,
    /// Keywords.
    #[prost(string, repeated, tag = "5")]
    pub keywords: Vec<String>,
}

/// An id that an account's scripts know for a while.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Seen {
    /// 16 octets.
    #[prost(bytes = "vec", tag = "1")]
    pub id: Vec<u8>,
    /// Seconds since 1970.
    #[prost(sint64, tag = "2")]
    pub until: i64,
}

/// IMAP APPEND; the body follows.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Append {
    /// The mailbox.
    #[prost(uint64, tag = "1")]
    pub mailbox: u64,
    /// The UID.
    #[prost(uint32, tag = "2")]
    pub uid: u32,
    /// Its MODSEQ.
    #[prost(uint64, tag = "3")]
    pub modseq: u64,
    /// System flags.
    #[prost(uint32, tag = "4")]
    pub system: u32,
    /// Keywords.
    #[prost(string, repeated, tag = "5")]
    pub keywords: Vec<String>,
    /// Seconds since 1970.
    #[prost(sint64, tag = "6")]
    pub internal_date: i64,
    /// Minutes east of UTC.
    #[prost(sint32, tag = "7")]
    pub zone_minutes: i32,
    /// CRC-32C of the body.
    #[prost(fixed32, tag = "8")]
    pub body_crc: u32,
    /// Account id, 16 octets.
    #[prost(bytes = "vec", tag = "9")]
    pub account: Vec<u8>,
}

/// New flags of messages.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SetFlags {
    /// The mailbox.
    #[prost(uint64, tag = "1")]
    pub mailbox: u64,
    /// Their MODSEQ.
    #[prost(uint64, tag = "2")]
    pub modseq: u64,
    /// Messages by the flags that they now have.
    #[prost(message, repeated, tag = "3")]
    pub groups: Vec<FlagGroup>,
}

/// Messages that have the same flags.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct FlagGroup {
    /// System flags.
    #[prost(uint32, tag = "1")]
    pub system: u32,
    /// Keywords.
    #[prost(string, repeated, tag = "2")]
    pub keywords: Vec<String>,
    /// UIDs.
    #[prost(uint32, repeated, tag = "3")]
    pub uids: Vec<u32>,
}

/// Messages went.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Expunge {
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

/// COPY or MOVE: the n-th UID becomes `first_uid + n`, with the flags that it has.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Copy {
    /// Source mailbox.
    #[prost(uint64, tag = "1")]
    pub from: u64,
    /// Destination mailbox.
    #[prost(uint64, tag = "2")]
    pub to: u64,
    /// UIDs in the source, ascending.
    #[prost(uint32, repeated, tag = "3")]
    pub uids: Vec<u32>,
    /// First UID in the destination.
    #[prost(uint32, tag = "4")]
    pub first_uid: u32,
    /// MODSEQ of the new messages.
    #[prost(uint64, tag = "5")]
    pub modseq: u64,
    /// MOVE: the MODSEQ of the source's expunge; 0 for COPY.
    #[prost(uint64, tag = "6")]
    pub moved_modseq: u64,
    /// Seconds since 1970.
    #[prost(sint64, tag = "7")]
    pub at: i64,
}

/// A mailbox that is made.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NewMailbox {
    /// Its id.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Its full name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// UIDVALIDITY.
    #[prost(uint32, tag = "3")]
    pub uid_validity: u32,
    /// 0 none, 1 Sent, 2 Drafts, 3 Trash, 4 Junk, 5 Archive.
    #[prost(uint32, tag = "4")]
    pub special_use: u32,
    /// Its first HIGHESTMODSEQ.
    #[prost(uint64, tag = "5")]
    pub modseq: u64,
    /// Subscribed from the start.
    #[prost(bool, tag = "6")]
    pub subscribed: bool,
}

/// CREATE, with the parents that were missing.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CreateMailbox {
    /// Account id, 16 octets.
    #[prost(bytes = "vec", tag = "1")]
    pub account: Vec<u8>,
    /// Parents first.
    #[prost(message, repeated, tag = "2")]
    pub mailboxes: Vec<NewMailbox>,
}

/// DELETE.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DeleteMailbox {
    /// The mailbox.
    #[prost(uint64, tag = "1")]
    pub mailbox: u64,
    /// The MODSEQ of its going.
    #[prost(uint64, tag = "2")]
    pub modseq: u64,
}

/// One mailbox's new name.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Rename {
    /// The mailbox.
    #[prost(uint64, tag = "1")]
    pub mailbox: u64,
    /// Its new full name.
    #[prost(string, tag = "2")]
    pub name: String,
}

/// All messages of INBOX go to a new mailbox.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct MoveAll {
    /// INBOX.
    #[prost(uint64, tag = "1")]
    pub from: u64,
    /// The new mailbox.
    #[prost(uint64, tag = "2")]
    pub to: u64,
    /// MODSEQ of both sides.
    #[prost(uint64, tag = "3")]
    pub modseq: u64,
}

/// RENAME.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RenameMailbox {
    /// Account id, 16 octets.
    #[prost(bytes = "vec", tag = "1")]
    pub account: Vec<u8>,
    /// Parents that were missing, or INBOX's new home.
    #[prost(message, repeated, tag = "2")]
    pub created: Vec<NewMailbox>,
    /// The mailbox and its children.
    #[prost(message, repeated, tag = "3")]
    pub renames: Vec<Rename>,
    /// When INBOX was renamed.
    #[prost(message, optional, tag = "4")]
    pub inbox: Option<MoveAll>,
    /// Seconds since 1970.
    #[prost(sint64, tag = "5")]
    pub at: i64,
}

/// SUBSCRIBE or UNSUBSCRIBE.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Subscribe {
    /// Account id, 16 octets.
    #[prost(bytes = "vec", tag = "1")]
    pub account: Vec<u8>,
    /// Full name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Which of the two.
    #[prost(bool, tag = "3")]
    pub subscribed: bool,
}

/// A Sieve script's newest state.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PutSieve {
    /// Account id, 16 octets.
    #[prost(bytes = "vec", tag = "1")]
    pub account: Vec<u8>,
    /// Its name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Its text; none: it is deleted.
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub script: Option<Bytes>,
    /// It is the active one.
    #[prost(bool, tag = "4")]
    pub active: bool,
}
