//! What a forced promotion has left behind on a copy that kept its own line, and how it comes into the new one: by net
//! effect, object by object, each once.
//!
//! [`gather`] reads a stopped copy and writes a file of [`Item`]s; [`file`] is its form; what becomes of each item beside
//! what the new line has by now is decided in [`decide`], without effects, and done by [`crate::plan`] in one change of the
//! store that serves. Every change that could be made twice marks its object in the same batch of the log, so that a
//! repetition after a crash, by another file, or from another copy of the same line does nothing to it.

pub mod decide;
pub mod file;
mod gather;
mod log;
mod objects;

use std::ops::AddAssign;

use bytes::Bytes;

pub use file::{FileError, FileReader, MAX_PIECE};
pub use gather::{Gathered, gather};

use crate::record::{Audit, Mark, PutAccount, PutAlias, PutDomain, PutSieve, QueuePut, QueueUpdate};

/// Whose line it is, and where it parted.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Head {
    /// Cluster id, 16 octets.
    #[prost(bytes = "vec", tag = "1")]
    pub cluster: Vec<u8>,
    /// The store's name.
    #[prost(string, tag = "2")]
    pub store: String,
    /// The copy's id, 16 octets.
    #[prost(bytes = "vec", tag = "3")]
    pub replica: Vec<u8>,
    /// The copy's epochs, ascending.
    #[prost(message, repeated, tag = "4")]
    pub epochs: Vec<HeadEpoch>,
    /// Epoch of its log's last record.
    #[prost(uint64, tag = "5")]
    pub end_epoch: u64,
    /// Its log's last record.
    #[prost(uint64, tag = "6")]
    pub end: u64,
    /// The last record of both lines, as it was said.
    #[prost(uint64, tag = "7")]
    pub after: u64,
    /// The highest MODSEQ up to there.
    #[prost(uint64, tag = "8")]
    pub modseq: u64,
}

/// Where an epoch begins.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct HeadEpoch {
    /// The epoch.
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    /// Its first record.
    #[prost(uint64, tag = "2")]
    pub first: u64,
    /// It began by a person's order.
    #[prost(bool, tag = "3")]
    pub forced: bool,
}

/// The file is whole.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct End {
    /// Items that it has.
    #[prost(uint64, tag = "1")]
    pub items: u64,
}

/// One thing that only the line that was left behind has.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Item {
    /// What it is marked by when it was done, unless its parts are.
    #[prost(message, optional, tag = "1")]
    pub key: Option<Mark>,
    /// What it is.
    #[prost(oneof = "What", tags = "2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14")]
    pub what: Option<What>,
}

/// What an item is.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum What {
    /// A mailbox was made.
    #[prost(message, tag = "2")]
    Mailbox(MadeMailbox),
    /// A mailbox that both had got another name.
    #[prost(message, tag = "3")]
    Renamed(MadeMailbox),
    /// A name was subscribed to.
    #[prost(message, tag = "4")]
    Subscribed(MadeMailbox),
    /// A Sieve script, as it is at the end.
    #[prost(message, tag = "5")]
    Sieve(PutSieve),
    /// An account's record, as it is at the end.
    #[prost(message, tag = "6")]
    Account(PutAccount),
    /// A domain's.
    #[prost(message, tag = "7")]
    Domain(PutDomain),
    /// An alias's.
    #[prost(message, tag = "8")]
    Alias(PutAlias),
    /// A line of the audit log.
    #[prost(message, tag = "9")]
    Audit(Audit),
    /// A message that waits in the queue, for those who have not got it.
    #[prost(message, tag = "10")]
    Queued(Queued),
    /// A queued recipient was done with.
    #[prost(message, tag = "11")]
    Done(QueueUpdate),
    /// Messages that came: new, moved, or copied.
    #[prost(message, tag = "12")]
    Came(Came),
    /// A message that both had got these flags.
    #[prost(message, tag = "13")]
    Flags(NewFlags),
    /// Messages that both had went.
    #[prost(message, tag = "14")]
    Gone(Gone),
}

/// A mailbox's name.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct MadeMailbox {
    /// Account id, 16 octets.
    #[prost(bytes = "vec", tag = "1")]
    pub account: Vec<u8>,
    /// Its id.
    #[prost(uint64, tag = "2")]
    pub id: u64,
    /// Its full name.
    #[prost(string, tag = "3")]
    pub name: String,
    /// As in the record of a new mailbox.
    #[prost(uint32, tag = "4")]
    pub special_use: u32,
}

/// A queued message.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Queued {
    /// As its record.
    #[prost(message, optional, tag = "1")]
    pub put: Option<QueuePut>,
    /// Its text.
    #[prost(bytes = "bytes", tag = "2")]
    pub text: Bytes,
}

/// Messages of one account that came, by the bodies that they have.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Came {
    /// Account id, 16 octets.
    #[prost(bytes = "vec", tag = "1")]
    pub account: Vec<u8>,
    /// Ascending by body.
    #[prost(message, repeated, tag = "2")]
    pub bodies: Vec<CameBody>,
}

/// The messages of one body that came.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CameBody {
    /// The body's number. Up to where the lines part it is the same on every copy.
    #[prost(uint64, tag = "1")]
    pub body: u64,
    /// It was there before the lines parted: the messages were moved or copied.
    #[prost(bool, tag = "2")]
    pub was_there: bool,
    /// Messages that both lines had, and that still have it here.
    #[prost(message, repeated, tag = "3")]
    pub held: Vec<Spot>,
    /// Messages that came.
    #[prost(message, repeated, tag = "4")]
    pub came: Vec<CameMessage>,
    /// The whole text; none when it is damaged.
    #[prost(bytes = "bytes", optional, tag = "5")]
    pub text: Option<Bytes>,
    /// The delivery that brought it, 16 octets; empty when none did.
    #[prost(bytes = "vec", tag = "6")]
    pub delivery: Vec<u8>,
}

/// Where a message is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, prost::Message)]
pub struct Spot {
    /// The mailbox.
    #[prost(uint64, tag = "1")]
    pub mailbox: u64,
    /// The UID.
    #[prost(uint32, tag = "2")]
    pub uid: u32,
}

/// A message that came.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CameMessage {
    /// The mailbox.
    #[prost(uint64, tag = "1")]
    pub mailbox: u64,
    /// Its full name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// The UID.
    #[prost(uint32, tag = "3")]
    pub uid: u32,
    /// The MODSEQ with which it came.
    #[prost(uint64, tag = "4")]
    pub born: u64,
    /// System flags.
    #[prost(uint32, tag = "5")]
    pub system: u32,
    /// Keywords.
    #[prost(string, repeated, tag = "6")]
    pub keywords: Vec<String>,
    /// Seconds since 1970.
    #[prost(sint64, tag = "7")]
    pub internal_date: i64,
    /// Minutes east of UTC.
    #[prost(sint32, tag = "8")]
    pub zone_minutes: i32,
}

impl CameMessage {
    /// What it is marked by: no other message of any line has the same.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark { place: self.mailbox, number: self.uid, born: self.born }
    }
}

/// New flags.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NewFlags {
    /// The mailbox.
    #[prost(uint64, tag = "1")]
    pub mailbox: u64,
    /// The UID.
    #[prost(uint32, tag = "2")]
    pub uid: u32,
    /// System flags.
    #[prost(uint32, tag = "3")]
    pub system: u32,
    /// Keywords.
    #[prost(string, repeated, tag = "4")]
    pub keywords: Vec<String>,
}

/// Of the messages that both had, in a range of UIDs, these are still there.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Gone {
    /// The mailbox.
    #[prost(uint64, tag = "1")]
    pub mailbox: u64,
    /// The first UID of the range.
    #[prost(uint32, tag = "2")]
    pub from: u32,
    /// The last one.
    #[prost(uint32, tag = "3")]
    pub to: u32,
    /// Ascending.
    #[prost(uint32, repeated, tag = "4")]
    pub there: Vec<u32>,
}

/// What was done with an item, or with many: [`Self::add`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Salvaged {
    /// By kind.
    pub counts: Counts,
    /// What was not taken over, for people.
    pub kept: Vec<String>,
}

/// How much was done, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages that the new line did not have, now there under new UIDs.
    pub messages: u64,
    /// Messages that moved.
    pub moved: u64,
    /// Messages with other flags.
    pub flags: u64,
    /// Messages that went.
    pub expunged: u64,
    /// Mailboxes that were made, and names subscribed to.
    pub mailboxes: u64,
    /// Records of accounts, domains and aliases, scripts, lines of the audit log.
    pub records: u64,
    /// Queued recipients that were taken in or done with.
    pub queued: u64,
    /// Messages that the new line has already.
    pub already: u64,
}

impl Salvaged {
    /// Adds what was done with another item.
    pub fn add(&mut self, other: Self) {
        self.counts += other.counts;
        self.kept.extend(other.kept);
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, more: Self) {
        self.messages += more.messages;
        self.moved += more.moved;
        self.flags += more.flags;
        self.expunged += more.expunged;
        self.mailboxes += more.mailboxes;
        self.records += more.records;
        self.queued += more.queued;
        self.already += more.already;
    }
}
