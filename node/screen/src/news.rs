//! What the judge decided, as frontends are told.

use std::time::Duration;

use crate::Cidr;

/// Why somebody is banned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Many failed logins.
    Logins,
    /// Failed logins at many accounts.
    Accounts,
    /// Many recipients that do not exist.
    Recipients,
    /// Sessions ended for what they sent.
    Abuse,
    /// Many addresses of the network are banned, and nobody logs in from it.
    Neighbours,
    /// An administrator said so.
    Administrator,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Logins, Self::Accounts, Self::Recipients, Self::Abuse, Self::Neighbours, Self::Administrator];

    /// Its name in messages, lists and metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Logins => "logins",
            Self::Accounts => "accounts",
            Self::Recipients => "recipients",
            Self::Abuse => "abuse",
            Self::Neighbours => "neighbours",
            Self::Administrator => "administrator",
        }
    }

    /// By its name.
    #[must_use]
    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.label() == label)
    }
}

/// A network that is refused for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ban {
    /// Which.
    pub network: Cidr,
    /// For how long from now.
    pub remaining: Duration,
    /// Why.
    pub reason: Reason,
}

/// An account under attack: logins to it wait, but for those from addresses that logged in well lately.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slowed {
    /// Which.
    pub account: String,
    /// How long each login waits.
    pub delay: Duration,
    /// For how long from now that holds.
    pub remaining: Duration,
    /// Addresses that don't wait.
    pub good: Vec<Cidr>,
}

/// Something was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// A ban began, or lasts otherwise.
    Banned(Ban),
    /// It is over before its time.
    Lifted(Cidr),
    /// Logins to an account wait.
    Slowed(Slowed),
}
