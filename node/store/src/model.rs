//! What a store holds, as readers see it.

use std::{collections::BTreeSet, fmt};

use mailcluster_types::{AccountId, DeliveryId, Epoch, ModSeq, Seq, StoreName, Uid};

/// A system flag of RFC 3501 section 2.3.2 (`\Recent` is a session's matter and not stored).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum SystemFlag {
    /// `\Seen`
    Seen = 1,
    /// `\Answered`
    Answered = 2,
    /// `\Flagged`
    Flagged = 4,
    /// `\Deleted`
    Deleted = 8,
    /// `\Draft`
    Draft = 16,
}

/// A message's flags: system flags as bits, keywords as written first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    /// Sum of [`SystemFlag`] values.
    pub system: u8,
    /// Keywords (`$Junk`, `Work`); compared without case, kept as first written. At most 64, 64 octets each.
    pub keywords: BTreeSet<String>,
}

impl Flags {
    /// Is this system flag set?
    #[must_use]
    pub fn has(&self, flag: SystemFlag) -> bool {
        self.system & flag as u8 != 0
    }

    /// The same flags with this one set.
    #[must_use]
    pub fn with(mut self, flag: SystemFlag) -> Self {
        self.system |= flag as u8;
        self
    }
}

/// RFC 6154 attributes of mailboxes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SpecialUse {
    /// `\Sent`
    Sent,
    /// `\Drafts`
    Drafts,
    /// `\Trash`
    Trash,
    /// `\Junk`
    Junk,
    /// `\Archive`
    Archive,
}

/// A mailbox. Names are UTF-8 with `/` between levels (the IMAP layer translates modified UTF-7); INBOX is
/// written in capitals and always exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mailbox {
    /// Id within the store, prefixed by the epoch of its creation.
    pub id: u64,
    /// Its owner.
    pub account: AccountId,
    /// Its full name.
    pub name: String,
    /// UIDVALIDITY; strictly rising within a store.
    pub uid_validity: u32,
    /// The next UID.
    pub uid_next: Uid,
    /// HIGHESTMODSEQ.
    pub highest_modseq: ModSeq,
    /// Its special use.
    pub special_use: Option<SpecialUse>,
    /// Its counters, exact.
    pub counts: MailboxCounts,
}

/// Counters of a mailbox, kept in the same transaction as what they count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MailboxCounts {
    /// All messages.
    pub messages: u32,
    /// Messages without `\Seen`.
    pub unseen: u32,
    /// Messages with `\Deleted`.
    pub deleted: u32,
    /// Their sizes in octets.
    pub octets: u64,
}

/// A message's row in the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its UID.
    pub uid: Uid,
    /// Its modification sequence.
    pub modseq: ModSeq,
    /// Its flags.
    pub flags: Flags,
    /// INTERNALDATE: seconds since 1970-01-01T00:00:00Z.
    pub internal_date: i64,
    /// The offset of the internal date's zone in minutes east of UTC.
    pub zone_minutes: i16,
    /// RFC822.SIZE in octets.
    pub size: u32,
    /// The delivery that brought it, if one did.
    pub delivery: Option<DeliveryId>,
    /// Names the body in this replica's segments; opaque, valid while the message exists.
    pub body: u64,
}

/// What changed in a mailbox since a modification sequence.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// New and changed messages by UID.
    pub changed: Vec<Message>,
    /// UIDs expunged since, ascending.
    pub expunged: Vec<Uid>,
    /// The mailbox's HIGHESTMODSEQ that this is up to.
    pub highest_modseq: ModSeq,
}

/// An account's record, on the directory and on the account's store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// Primary address, as [`mailcluster_types::Address::key`] gives it.
    pub address: String,
    /// The store that holds its mail.
    pub store: StoreName,
    /// Rises with every change; the higher one wins in a rebuild.
    pub generation: u64,
    /// PHC string or one of the import schemes; empty: no password login.
    pub password_hash: String,
    /// Limit in octets; 0 = none.
    pub quota_octets: u64,
    /// Octets used (kept by the mail store; 0 on the directory).
    pub used_octets: u64,
    /// Logins refused, mail taken.
    pub suspended: bool,
    /// The directory has it, its store has not confirmed yet (directory only).
    pub pending: bool,
    /// Set when the account was deleted or moved away: kept so that an older record cannot bring it back.
    pub tombstone: bool,
}

/// A domain's record, on the directory and on every store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    /// Lower case.
    pub name: String,
    /// Rises with every change.
    pub generation: u64,
    /// Deleted.
    pub tombstone: bool,
    /// What signs its mail, as the directory writes it.
    pub keys: Sealed,
}

/// Octets that are nobody's business here. Their debug form says nothing.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Sealed(pub Vec<u8>);

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} octets)", self.0.len())
    }
}

/// An alias, on the directory and on the stores of its accounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    /// The address key.
    pub address: String,
    /// The accounts it stands for.
    pub accounts: Vec<AccountId>,
    /// Rises with every change.
    pub generation: u64,
    /// Deleted.
    pub tombstone: bool,
}

/// Mail that waits in this store's queue: for other stores (hand-off), or to go out to other sites.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueItem {
    /// The delivery id that the mail will arrive with; with the recipient's account, its key.
    pub delivery: DeliveryId,
    /// Envelope sender; empty for the null sender.
    pub sender: String,
    /// Seconds since 1970 when it was put here.
    pub queued_at: i64,
    /// Octets of the body.
    pub size: u32,
    /// Names the body; see [`Message::body`].
    pub body: u64,
    /// Parameters of MAIL that go on with it, as they were accepted.
    pub params: String,
    /// Those who have not got it yet.
    pub recipients: Vec<QueueRecipient>,
}

/// One recipient of a queued message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueRecipient {
    /// Envelope address.
    pub address: String,
    /// The account; `None` for an address of another site.
    pub account: Option<AccountId>,
    /// The store that should get it; `None` for an address of another site.
    pub store: Option<StoreName>,
    /// Attempts so far.
    pub attempts: u32,
    /// Not to be tried before this time (seconds since 1970).
    pub next_attempt: i64,
    /// What the last attempt said.
    pub last_error: String,
    /// Held: not tried until released.
    pub held: bool,
    /// The sender was told of the delay.
    pub noticed: bool,
    /// Parameters of RCPT that go on with it (RFC 3461), as they were accepted.
    pub params: String,
    /// Why it is sent back rather than tried again, as a person said; empty: it is tried.
    pub returned: String,
}

impl QueueRecipient {
    /// A recipient at another site that is due at `at`, and was not tried yet.
    #[must_use]
    pub fn new(address: String, at: i64) -> Self {
        Self {
            address,
            account: None,
            store: None,
            attempts: 0,
            next_attempt: at,
            last_error: String::new(),
            held: false,
            noticed: false,
            params: String::new(),
            returned: String::new(),
        }
    }
}

/// A recipient at another site that is due, in the order of [`crate::View::queue_out`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OutDue {
    /// Since when (seconds since 1970).
    pub since: i64,
    /// The message.
    pub delivery: DeliveryId,
    /// The recipient's address.
    pub address: String,
}

impl OutDue {
    /// Before all of them.
    #[must_use]
    pub fn start() -> Self {
        Self { since: i64::MIN, delivery: DeliveryId(0), address: String::new() }
    }
}

/// The queue at a glance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueStats {
    /// Messages waiting.
    pub messages: u64,
    /// Recipients waiting.
    pub recipients: u64,
    /// Recipients held.
    pub held: u64,
    /// `queued_at` of the oldest; 0 when empty.
    pub oldest: i64,
}

/// What to look for in the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HistoryKey {
    /// One accepted message.
    Delivery(DeliveryId),
    /// All of one recipient address key, newest first.
    Recipient(String),
}

/// One line of a message's history: bounded in number, replicated with the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryEvent {
    /// Seconds since 1970.
    pub at: i64,
    /// The delivery.
    pub delivery: DeliveryId,
    /// `delivered`, `duplicate`, `queued`, `handed-on`, `moved`, `expunged`, `held`, `restored`, `filtered`.
    pub event: String,
    /// The recipient's address key, when known.
    pub recipient: String,
    /// For people: mailbox and UID, or the queue's reason.
    pub detail: String,
}

/// The store at a glance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreUsage {
    /// Live accounts.
    pub accounts: u64,
    /// Octets of live mail.
    pub octets: u64,
    /// Messages that were expunged and can be brought back.
    pub recoverable: u64,
    /// Their octets.
    pub recoverable_octets: u64,
    /// Octets free on the volume.
    pub free_octets: u64,
    /// Octets of the volume.
    pub total_octets: u64,
}

/// Where an epoch begins in the log: its first record is EpochStart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochMark {
    /// The epoch.
    pub epoch: Epoch,
    /// The sequence of its EpochStart.
    pub first_seq: Seq,
    /// Did a person let a replica begin it that need not have had every acknowledged record?
    pub forced: bool,
}

/// What becomes of the names (UIDs) of the messages that a replica has when it begins a forced epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// They stay.
    Kept,
    /// The last of them may have been given to other messages elsewhere: each mailbox gets another UIDVALIDITY.
    Anew,
}
