//! What a script wants done. Nothing of it is done here.

use crate::{Position, RunError};

/// The result of a run.
///
/// All of [`Outcome::actions`] belong to one delivery: whoever performs them does so exactly once for its id, and notes
/// [`Outcome::seen`] with them. If one of them fails for good (no such mailbox, no room for a redirect), RFC 5228 section
/// 2.10.6 asks for the message to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What to do, in this order. Each mailbox is in it once (RFC 5228 section 2.10.3). Without a
    /// [`Action::Keep`], [`Action::FileInto`], [`Action::Redirect`] or [`Action::Reject`] the message is thrown away.
    pub actions: Vec<Planned>,
    /// Nothing cancelled the implicit keep, or the script failed. The `Keep` that this means is in the actions.
    pub implicit_keep: bool,
    /// Ids for [`crate::Host::seen`] to know from now on.
    pub seen: Vec<Seen>,
    /// What was asked for and left out, and why.
    pub skipped: Vec<Skipped>,
    /// Where the script failed. The only action is then to keep the message; the user is to be told.
    pub error: Option<RunError>,
    /// Work that was done, out of [`crate::Limits::work`].
    pub work: u64,
}

/// An action, and the command that asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// The command; `None` for the implicit keep.
    pub at: Option<Position>,
    /// What to do.
    pub action: Action,
}

/// One thing to do with a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Into the inbox, with flags.
    Keep {
        /// Flags as IMAP has them, none twice.
        flags: Vec<String>,
    },
    /// Into another mailbox.
    FileInto(FileInto),
    /// To another address, header and body unchanged but for a Received field. The null sender stays; the caller counts
    /// Received fields so that loops end.
    Redirect {
        /// A valid `local@domain`.
        address: String,
        /// The message is for others, too: `:copy`.
        copy: bool,
    },
    /// Nothing: the message was thrown away on purpose. There may be other actions beside it, which are still done.
    Discard,
    /// Refuse it.
    Reject {
        /// Lines with CRLF between them and without other control characters than tabs; they may have characters outside of US-ASCII (RFC 5429 section 2.2).
        reason: String,
        /// `ereject`: refuse in the protocol even where the reason has to be changed for that.
        in_protocol: bool,
    },
    /// Answer it, unless [`Vacation::track`] was answered to this sender within [`Vacation::seconds`].
    Vacation(Vacation),
    /// Tell somebody of it.
    Notify(Notify),
}

/// A mailbox to deliver into. Names are as the script has them; an invalid one is a failure of the delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileInto {
    /// Its name, in UTF-8.
    pub mailbox: String,
    /// Its OBJECTID; the name counts if there is no such mailbox (RFC 9042 section 3).
    pub mailbox_id: Option<String>,
    /// Flags as IMAP has them, none twice.
    pub flags: Vec<String>,
    /// The implicit keep was not cancelled by it: `:copy`.
    pub copy: bool,
    /// Make it if it is not there: `:create`.
    pub create: bool,
}

/// An answer of `vacation` (RFC 5230 section 5). That the message is one that may be answered was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vacation {
    /// The sender; MAIL FROM of the answer is `<>`.
    pub to: String,
    /// What to put into From; the account's own address if there is none. Sites may refuse foreign addresses.
    pub from: Option<String>,
    /// One line; to be encoded (RFC 2047) if it is not US-ASCII.
    pub subject: String,
    /// The text, or a MIME entity with its header fields.
    pub reason: String,
    /// The reason is such an entity.
    pub mime: bool,
    /// Which answer it is, for [`Vacation::seconds`]; it may be long, and its hash will do. Variables are not put in.
    pub track: Vec<u8>,
    /// How long this answer is not sent to the same sender again; 0: always send it.
    pub seconds: u64,
}

/// A notification by mail (RFC 5436 section 2.7), to be sent with `Auto-Submitted: auto-notified`, and with the null
/// sender for messages that have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notify {
    /// For To.
    pub to: Vec<String>,
    /// For Cc.
    pub cc: Vec<String>,
    /// For From and MAIL FROM if the site allows that address.
    pub from: Option<String>,
    /// One line; to be encoded (RFC 2047) if it is not US-ASCII.
    pub subject: String,
    /// The text.
    pub body: String,
    /// 1 (high), 2 or 3.
    pub importance: u8,
}

/// An id that `duplicate` asked for and that is to be remembered (RFC 7352 section 3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The test's handle; empty without one.
    pub handle: String,
    /// The id.
    pub id: Vec<u8>,
    /// How long, from now.
    pub seconds: u64,
}

/// Something that was left out as its RFC asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// The command.
    pub at: Position,
    /// What and why.
    pub why: String,
}
