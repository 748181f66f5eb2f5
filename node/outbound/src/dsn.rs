//! Delivery status notifications: whether one is made, and its octets (RFC 3461, RFC 3464, RFC 6522, RFC 6533).
//!
//! - None is made for mail without a sender, and each one is itself sent without a sender, so no report can lead to
//!   another one (RFC 5321 section 6.1).
//! - A report's id is derived from what it is about: made twice, after a crash, it is known as the same.
//! - Of a message that failed comes back what the sender asked for by RET, and its header when nothing was asked; in
//!   other reports it is always the header (RFC 3461 section 4.3).
//! - A message that was sent with SMTPUTF8 is reported on in UTF-8 (`message/global-delivery-status`); all others in
//!   US-ASCII, with addresses as RFC 6533 section 3 encodes them. Only what is quoted of the message may have 8 bits.

mod write;

#[cfg(test)]
mod tests;

use mailcluster_proto_smtp::{Notify, OriginalRecipient, Ret};

use crate::Status;

pub use write::{MAX_WHOLE, Notification, write};

/// What has become of a recipient (RFC 3464 section 2.3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// It will not get the message.
    Failed,
    /// It has not got it yet.
    Delayed,
    /// It has got it.
    Delivered,
    /// It was given to a server that sends no reports.
    Relayed,
    /// It was given to several others.
    Expanded,
}

impl Action {
    fn word(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Delayed => "delayed",
            Self::Delivered => "delivered",
            Self::Relayed => "relayed",
            Self::Expanded => "expanded",
        }
    }
}

/// Is the sender to be told? By default of failures and delays (RFC 3461 section 4.1).
#[must_use]
pub fn is_wanted(sender: &str, notify: Option<Notify>, action: Action) -> bool {
    if sender.is_empty() {
        return false;
    }
    match (notify, action) {
        (Some(Notify::Never), _) => false,
        (None, action) => matches!(action, Action::Failed | Action::Delayed),
        (Some(Notify::On { failure, .. }), Action::Failed) => failure,
        (Some(Notify::On { delay, .. }), Action::Delayed) => delay,
        (Some(Notify::On { success, .. }), Action::Delivered | Action::Relayed | Action::Expanded) => success,
    }
}

/// A report's own id: the same for the same message, recipient and action, so that no crash makes two of one. Its time
/// (the first 48 bits, as in a ULID) is that of the message, the others are a hash (FNV-1a, 128 bit).
#[must_use]
pub fn report_id(message: u128, recipient: &str, action: Action) -> u128 {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let kind: &[u8] = match action {
        Action::Failed => b"bounce\0",
        Action::Delayed => b"delay\0",
        Action::Delivered | Action::Relayed | Action::Expanded => b"success\0",
    };
    let octets = kind.iter().copied().chain(message.to_be_bytes()).chain(recipient.bytes());
    let hash = octets.fold(OFFSET, |hash, octet| (hash ^ u128::from(octet)).wrapping_mul(PRIME));
    let random = (hash ^ (hash >> 80)) & ((1 << 80) - 1);
    message >> 80 << 80 | random
}

/// One recipient, as reported on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reported {
    /// Its address.
    pub address: String,
    /// As the sender had named it.
    pub original: Option<OriginalRecipient>,
    /// Which reports the sender asked for.
    pub notify: Option<Notify>,
    /// Why.
    pub status: Status,
    /// One sentence for people, without its full stop.
    pub text: String,
    /// The server that answered, by name.
    pub remote: Option<String>,
    /// What it answered.
    pub diagnostic: Option<String>,
    /// When it was last tried (seconds since 1970).
    pub last_attempt: Option<i64>,
    /// Until when it will be tried.
    pub retry_until: Option<i64>,
}

/// What a report is made of.
#[derive(Debug, Clone, Copy)]
pub struct Report<'a> {
    /// Its own id, see [`report_id`], as text: letters and digits.
    pub id: &'a str,
    /// Who reports.
    pub hostname: &'a str,
    /// Whom it is for: the sender of the message.
    pub sender: &'a str,
    /// Under which id the message was accepted.
    pub accepted_as: &'a str,
    /// `ENVID=`, decoded.
    pub envelope_id: Option<&'a str>,
    /// When the message came (seconds since 1970).
    pub arrived: i64,
    /// The time now.
    pub now: i64,
    /// The message was sent with SMTPUTF8.
    pub utf8: bool,
    /// `RET=`
    pub ret: Option<Ret>,
    /// The message, from its beginning.
    pub message: &'a [u8],
    /// That is all of it.
    pub is_whole: bool,
    /// What has become of the recipients.
    pub action: Action,
    /// The recipients; those whose sender asked not to hear of it are left out.
    pub recipients: &'a [Reported],
}
