//! Records of the queue.

use mailcluster_types::{AccountId, StoreName};

use crate::model::QueueRecipient;

/// A queued message's recipient.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Recipient {
    /// Envelope address.
    #[prost(string, tag = "1")]
    pub address: String,
    /// Account id, 16 octets; empty for a foreign address.
    #[prost(bytes = "vec", tag = "2")]
    pub account: Vec<u8>,
    /// The store that should get it; empty for a foreign address.
    #[prost(string, tag = "3")]
    pub store: String,
    /// Attempts so far.
    #[prost(uint32, tag = "4")]
    pub attempts: u32,
    /// Seconds since 1970.
    #[prost(sint64, tag = "5")]
    pub next_attempt: i64,
    /// What the last attempt said.
    #[prost(string, tag = "6")]
    pub last_error: String,
    /// Not tried until released.
    #[prost(bool, tag = "7")]
    pub held: bool,
    /// The sender was told of the delay.
    #[prost(bool, tag = "8")]
    pub noticed: bool,
    /// Parameters of RCPT, as they were accepted.
    #[prost(string, tag = "9")]
    pub params: String,
    /// Why a person sends it back; empty: it is tried.
    #[prost(string, tag = "10")]
    pub returned: String,
}

impl From<QueueRecipient> for Recipient {
    fn from(r: QueueRecipient) -> Self {
        Self {
            address: r.address,
            account: r.account.map(|a| a.to_bytes().to_vec()).unwrap_or_default(),
            store: r.store.map(String::from).unwrap_or_default(),
            attempts: r.attempts,
            next_attempt: r.next_attempt,
            last_error: r.last_error,
            held: r.held,
            noticed: r.noticed,
            params: r.params,
            returned: r.returned,
        }
    }
}

impl From<Recipient> for QueueRecipient {
    fn from(r: Recipient) -> Self {
        Self {
            address: r.address,
            account: AccountId::from_slice(&r.account),
            store: (!r.store.is_empty()).then(|| StoreName::from(r.store)),
            attempts: r.attempts,
            next_attempt: r.next_attempt,
            last_error: r.last_error,
            held: r.held,
            noticed: r.noticed,
            params: r.params,
            returned: r.returned,
        }
    }
}

/// A message enters the queue; the body follows when it is new here.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct QueuePut {
    /// Delivery id, 16 octets.
    #[prost(bytes = "vec", tag = "1")]
    pub delivery: Vec<u8>,
    /// Envelope sender.
    #[prost(string, tag = "2")]
    pub sender: String,
    /// Seconds since 1970.
    #[prost(sint64, tag = "3")]
    pub at: i64,
    /// New recipients.
    #[prost(message, repeated, tag = "4")]
    pub recipients: Vec<Recipient>,
    /// CRC-32C of the body.
    #[prost(fixed32, tag = "5")]
    pub body_crc: u32,
    /// Parameters of MAIL, as they were accepted.
    #[prost(string, tag = "6")]
    pub params: String,
}

/// A queued recipient changes or goes.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct QueueUpdate {
    /// Delivery id, 16 octets.
    #[prost(bytes = "vec", tag = "1")]
    pub delivery: Vec<u8>,
    /// The recipient's envelope address.
    #[prost(string, tag = "2")]
    pub address: String,
    /// It stays, like this.
    #[prost(message, optional, tag = "3")]
    pub retry: Option<Recipient>,
    /// It goes; what became of it. When it stays: what a person did, for the history.
    #[prost(string, tag = "4")]
    pub outcome: String,
    /// Seconds since 1970.
    #[prost(sint64, tag = "5")]
    pub at: i64,
}
