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
    /// What the account's script wants instead of one copy in `mailbox`.
    pub filing: Option<Box<Filing>>,
}

/// What a script wants done with a message for an account: all of it with the delivery, or none.
#[derive(Debug, Clone, Default)]
pub struct Filing {
    /// Where copies go; none: no mailbox gets one.
    pub into: Vec<InMailbox>,
    /// Ids that the account's scripts know from now on. When one of them is known by now the delivery is refused as a whole
    /// (`Stale`): the script has to run again.
    pub seen: Vec<SeenId>,
    /// Mail that it sends, under ids that are derived from the delivery's.
    pub sends: Vec<ScriptMail>,
    /// What that is, for the history.
    pub detail: String,
}

/// A copy in a mailbox.
#[derive(Debug, Clone)]
pub struct InMailbox {
    /// Its name.
    pub mailbox: String,
    /// It is made when it does not exist; else the copy goes to INBOX.
    pub create: bool,
    /// The copy's flags.
    pub flags: Flags,
}

/// An id that an account's scripts remember.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenId {
    /// What it stands for is for those who draw it.
    pub id: [u8; 16],
    /// Until when (seconds since 1970).
    pub until: i64,
}

/// Mail that a script sends.
#[derive(Debug, Clone)]
pub struct ScriptMail {
    /// For the queue.
    pub message: Enqueue,
    /// Not sent while the account's scripts know this id, which they do from then on.
    pub unless: Option<SeenId>,
}

/// A change of an account's Sieve scripts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScriptChange {
    /// Puts a script, in place of one of its name, which stays active if it is.
    Put {
        /// Its name.
        name: String,
        /// Its text.
        text: Bytes,
    },
    /// Makes this one the active one; `None`: none is.
    Activate(Option<String>),
    /// Deletes it; the active one is refused.
    Delete(String),
    /// Gives it another name; the active one stays active.
    Rename {
        /// Its name.
        from: String,
        /// Its new one.
        to: String,
    },
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
    /// Taken, and in no mailbox: the account's script has thrown it away or sent it on.
    Filtered,
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
    /// It is about to be tried: these fields replace the old ones. Refused when it is held, or not here any more, so that
    /// what a person has stopped is not begun.
    Mark(QueueRecipient),
    /// Delivered (or bounced): it leaves the queue; the body goes with the last recipient.
    Done {
        /// What became of it, for the history.
        outcome: String,
    },
    /// It stays; these fields replace the old ones. What a person has decided meanwhile stands: a hold, and that it goes
    /// back.
    Retry(QueueRecipient),
    /// A person changes how it waits.
    Change {
        /// How.
        change: QueueChange,
        /// Who did it, for the history.
        note: String,
    },
}

/// How a person changes a queued recipient's waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueChange {
    /// It is not tried until it is released.
    Hold,
    /// What is held goes on: it is due.
    Release,
    /// It is tried now, if it is not held.
    Flush,
    /// As if it had just come: released, due, with its pauses from the beginning. Its age stays.
    Requeue,
    /// It is not tried any more: its sender gets a report.
    Return,
}

/// Expunged messages of one account that are to come back.
#[derive(Debug, Clone)]
pub struct Undelete {
    /// The owner.
    pub account: AccountId,
    /// By the mailbox that they went from and their UIDs there; at most 1000.
    pub messages: Vec<(u64, Uid)>,
    /// The mailbox of this name that they come into, made when there is none; `None`: the one that they went from, or when
    /// that is gone, the one of its name.
    pub into: Option<String>,
}

/// What came back, under new UIDs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Undeleted {
    /// As they were asked for; the others were brought back before, or are purged.
    pub messages: Vec<(u64, Uid)>,
    /// Mailboxes that were made for them.
    pub mailboxes: u64,
}

/// Which expunged messages go for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purge {
    /// Those that were expunged up to this time, in seconds since 1970.
    pub until: i64,
    /// And of the others the oldest, up to so many octets or one message more.
    pub early_octets: u64,
}

/// What went for good.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Purged {
    /// Messages.
    pub messages: u64,
    /// Those of them that went before their time.
    pub early: u64,
    /// Their octets.
    pub early_octets: u64,
    /// There may be more that is to go: a purge is bounded.
    pub has_more: bool,
}
