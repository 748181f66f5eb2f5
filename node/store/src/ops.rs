//! The changes a store takes, and what they answer.

use bytes::Bytes;
use mailcluster_types::{AccountId, DeliveryId, ModSeq, Uid};

use crate::model::{Flags, QueueRecipient, SpecialUse};

/// One message for one or more accounts of this store (LMTP). The body is stored once.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The dedupe key, with each account.
    pub id: DeliveryId,
    /// Envelope sender; empty for the null sender.
    pub sender: String,
    /// Now, in seconds since 1970, as the acceptor's clock has it.
    pub at: i64,
    /// The message with its trace headers, CRLF line endings.
    pub body: Bytes,
    /// What it met on its way in, for the history; empty: nothing that was told.
    pub met: String,
    /// Who gets it.
    pub targets: Vec<DeliveryTarget>,
}

/// One recipient of a [`Delivery`].
#[derive(Debug, Clone)]
pub struct DeliveryTarget {
    /// The account.
    pub account: AccountId,
    /// The envelope recipient, as an address key (history).
    pub recipient: String,
    /// Mailbox to deliver into; INBOX when it does not exist.
    pub mailbox: String,
    /// Header lines (CRLF ended) that differ by recipient and stand before the body: `Return-Path`,
    /// `Delivered-To`. Counted in the size, stored per message.
    pub prefix: Bytes,
}

/// What became of one target; same order as the targets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivered {
    /// Stored now.
    Stored {
        /// In which mailbox.
        mailbox: u64,
        /// Under which UID.
        uid: Uid,
    },
    /// It was here already: success for the sender, no second copy.
    Duplicate,
    /// Not stored, for this recipient alone.
    Refused(crate::Refusal),
}

/// IMAP APPEND.
#[derive(Debug, Clone)]
pub struct Append {
    /// The mailbox.
    pub mailbox: u64,
    /// Initial flags.
    pub flags: Flags,
    /// Seconds since 1970.
    pub internal_date: i64,
    /// Minutes east of UTC.
    pub zone_minutes: i16,
    /// The message.
    pub body: Bytes,
}

/// APPENDUID (RFC 4315).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The mailbox's UIDVALIDITY.
    pub uid_validity: u32,
    /// The UID.
    pub uid: Uid,
}

/// How flags change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlagOp {
    /// `FLAGS`
    Replace,
    /// `+FLAGS`
    Add,
    /// `-FLAGS`
    Remove,
}

/// IMAP STORE.
#[derive(Debug, Clone)]
pub struct FlagChange {
    /// The mailbox.
    pub mailbox: u64,
    /// Messages; those that no longer exist are passed over.
    pub uids: Vec<Uid>,
    /// How.
    pub op: FlagOp,
    /// Which.
    pub flags: Flags,
    /// RFC 7162 UNCHANGEDSINCE.
    pub unchanged_since: Option<ModSeq>,
}

/// What STORE did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FlagsChanged {
    /// Messages whose flags are now these, changed or not.
    pub now: Vec<(Uid, ModSeq, Flags)>,
    /// Messages that UNCHANGEDSINCE kept as they were.
    pub modified: Vec<Uid>,
}

/// Which messages to expunge.
#[derive(Debug, Clone)]
pub enum Expunge {
    /// All with `\Deleted`.
    AllDeleted,
    /// Of these, those with `\Deleted` (UID EXPUNGE).
    Deleted(Vec<Uid>),
    /// These, flagged or not (POP3 QUIT).
    These(Vec<Uid>),
}

/// COPY or MOVE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyKind {
    /// The source stays.
    Copy,
    /// The source is expunged in the same record (RFC 6851).
    Move,
}

/// COPYUID (RFC 4315).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Copied {
    /// The destination's UIDVALIDITY.
    pub uid_validity: u32,
    /// (source UID, destination UID) of what existed, ascending by source.
    pub pairs: Vec<(Uid, Uid)>,
}

/// IMAP CREATE; missing parents are made too.
#[derive(Debug, Clone)]
pub struct CreateMailbox {
    /// The owner.
    pub account: AccountId,
    /// Full name, `/` between levels.
    pub name: String,
    /// RFC 6154 attribute.
    pub special_use: Option<SpecialUse>,
}

/// A message that enters the queue.
#[derive(Debug, Clone)]
pub struct Enqueue {
    /// The id that it goes on with.
    pub delivery: DeliveryId,
    /// Envelope sender; empty for the null sender.
    pub sender: String,
    /// Seconds since 1970.
    pub at: i64,
    /// Parameters of MAIL that go on with it, as they were accepted.
    pub params: String,
    /// Who is to get it.
    pub recipients: Vec<QueueRecipient>,
    /// The message.
    pub body: Bytes,
}

/// A change to a queued message's recipient, found by (delivery, address).
#[derive(Debug, Clone)]
pub enum QueueUpdate {
    /// Delivered (or bounced): it leaves the queue; the body goes with the last recipient.
    Done {
        /// What became of it, for the history.
        outcome: String,
    },
    /// It stays; these fields replace the old ones.
    Retry(QueueRecipient),
}
