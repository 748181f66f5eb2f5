//! The open transaction.

use mailcluster_lmtp::Checked;
use mailcluster_proto_smtp::{MailDsn, RcptDsn};
use mailcluster_types::{AccountId, DeliveryId, StoreName};

/// What stands before the message.
pub(super) struct Envelope {
    /// The dedupe key.
    pub(super) delivery: DeliveryId,
    /// The id was drawn here: the message has no trace line of this cluster yet.
    pub(super) drawn_here: bool,
    /// Empty for the null sender.
    pub(super) sender: String,
    /// Addresses or headers may be UTF-8 (RFC 6531).
    pub(super) utf8: bool,
    /// Announced size; 0 when it was not.
    pub(super) size: u64,
    /// What its sender asks for its reports.
    pub(super) dsn: MailDsn,
    /// What checks made of it on its way in.
    pub(super) checked: Checked,
    /// Accepted recipients, in order; each gets a reply after the message.
    pub(super) recipients: Vec<Recipient>,
}

/// An accepted recipient.
pub(super) struct Recipient {
    /// As sent.
    pub(super) address: String,
    /// What is to be done.
    pub(super) way: Way,
    /// What the sender asks for its reports.
    pub(super) dsn: RcptDsn,
    /// Those of the accounts whose scripts are asked.
    pub(super) scripted: Vec<AccountId>,
}

/// Where a recipient's copy goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    /// Into these accounts of this store (an alias may name several).
    Deliver(Vec<AccountId>),
    /// Into the queue, for another store.
    HandOff(AccountId, StoreName),
    /// Into the queue, held.
    Hold,
    /// Into the queue, to go out to another site.
    Out,
}
