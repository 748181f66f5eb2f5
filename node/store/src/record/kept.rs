//! What packs hold: bodies that are still referred to, with what tells whose they are.

use bytes::Bytes;

use super::Recipient;

/// A body whose first place is given back; its octets follow. All but its octets is as it was when it was kept, for those
/// who have no index and no base.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Kept {
    /// CRC-32C of the body.
    #[prost(fixed32, tag = "1")]
    pub body_crc: u32,
    /// The rows of the index that it is the body of: one for each recipient.
    #[prost(message, repeated, tag = "2")]
    pub bodies: Vec<KeptBody>,
}

/// A row of the index.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct KeptBody {
    /// Its number: the same on every replica.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Header lines before the body.
    #[prost(bytes = "bytes", tag = "2")]
    pub prefix: Bytes,
    /// Messages with this body; of many copies only some.
    #[prost(message, repeated, tag = "3")]
    pub messages: Vec<KeptMessage>,
    /// The queued message with this body.
    #[prost(message, optional, tag = "4")]
    pub queued: Option<KeptQueued>,
}

/// A message in a mailbox.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct KeptMessage {
    /// Account id, 16 octets.
    #[prost(bytes = "vec", tag = "1")]
    pub account: Vec<u8>,
    /// The account's address key.
    #[prost(string, tag = "2")]
    pub address: String,
    /// The mailbox.
    #[prost(uint64, tag = "3")]
    pub mailbox: u64,
    /// Its full name.
    #[prost(string, tag = "4")]
    pub name: String,
    /// Its UIDVALIDITY.
    #[prost(uint32, tag = "5")]
    pub uid_validity: u32,
    /// The UID.
    #[prost(uint32, tag = "6")]
    pub uid: u32,
    /// Its MODSEQ.
    #[prost(uint64, tag = "7")]
    pub modseq: u64,
    /// System flags.
    #[prost(uint32, tag = "8")]
    pub system: u32,
    /// Keywords.
    #[prost(string, repeated, tag = "9")]
    pub keywords: Vec<String>,
    /// Seconds since 1970.
    #[prost(sint64, tag = "10")]
    pub internal_date: i64,
    /// Minutes east of UTC.
    #[prost(sint32, tag = "11")]
    pub zone_minutes: i32,
    /// Delivery id, 16 octets; empty when there is none.
    #[prost(bytes = "vec", tag = "12")]
    pub delivery: Vec<u8>,
}

/// A message in the queue.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct KeptQueued {
    /// Delivery id, 16 octets.
    #[prost(bytes = "vec", tag = "1")]
    pub delivery: Vec<u8>,
    /// Envelope sender.
    #[prost(string, tag = "2")]
    pub sender: String,
    /// Seconds since 1970.
    #[prost(sint64, tag = "3")]
    pub at: i64,
    /// Who has not got it yet.
    #[prost(message, repeated, tag = "4")]
    pub recipients: Vec<Recipient>,
    /// Parameters of MAIL, as they were accepted.
    #[prost(string, tag = "5")]
    pub params: String,
}
