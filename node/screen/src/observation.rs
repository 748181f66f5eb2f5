//! What frontends see.

use crate::Cidr;

/// Longest account name that is kept, in octets; what is longer is no account.
pub const LONGEST_ACCOUNT: usize = 254;

/// What a client did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A login that the directory said no to.
    Failed,
    /// The same once more with the same password, within the hour: an old phone, not a guesser.
    Repeated,
    /// An attempt that was not looked at, as the client had to wait; with a password that is new.
    Throttled,
    /// A recipient that does not exist, or that may not be relayed to.
    UnknownRecipient,
    /// A session that was ended for what it sent.
    Abuse,
    /// A login that was right.
    LoggedIn,
    /// A recipient that was taken.
    TookRecipient,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Failed,
        Self::Repeated,
        Self::Throttled,
        Self::UnknownRecipient,
        Self::Abuse,
        Self::LoggedIn,
        Self::TookRecipient,
    ];

    /// Its name in reports and metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Repeated => "repeated",
            Self::Throttled => "throttled",
            Self::UnknownRecipient => "unknown_recipient",
            Self::Abuse => "abuse",
            Self::LoggedIn => "logged_in",
            Self::TookRecipient => "took_recipient",
        }
    }

    /// By its name.
    #[must_use]
    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.label() == label)
    }
}

/// What clients of one address did, so many times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// The client, as [`Cidr::address`] has it.
    pub client: Cidr,
    /// What it did.
    pub kind: Kind,
    /// With logins: the account, as [`account_key`] has it; else empty.
    pub account: String,
    /// How often.
    pub count: u32,
}

/// The name by which an account's failures are counted.
#[must_use]
pub fn account_key(user: &str) -> String {
    let user = user.trim();
    if user.len() > LONGEST_ACCOUNT { String::new() } else { user.to_lowercase() }
}
