//! What stands before the message.

use std::fmt::Write;

use mailcluster_types::{AccountId, DeliveryId, StoreName};

/// A transaction's sender and parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The delivery id.
    pub delivery: DeliveryId,
    /// Envelope sender; empty for the null sender.
    pub sender: String,
    /// Octets of the message.
    pub size: u64,
    /// Addresses or headers may be UTF-8 (RFC 6531).
    pub utf8: bool,
}

/// Where a recipient's copy should go on the store that is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipient {
    /// Into the account's mailbox.
    Deliver {
        /// The envelope recipient.
        address: String,
        /// The account.
        account: AccountId,
    },
    /// Into the queue, for another store (hand-off).
    HandOff {
        /// The envelope recipient.
        address: String,
        /// The account.
        account: AccountId,
        /// The store that should get it.
        store: StoreName,
    },
    /// Into the queue, held.
    Hold {
        /// The envelope recipient.
        address: String,
    },
    /// Into the queue, to go out to another site.
    Out {
        /// The envelope recipient.
        address: String,
    },
}

impl Envelope {
    pub(crate) fn mail_line(&self) -> String {
        let mut line =
            format!("MAIL FROM:<{}> SIZE={} BODY=8BITMIME MCID={}", self.sender, self.size, self.delivery);
        if self.utf8 || !self.sender.is_ascii() {
            line.push_str(" SMTPUTF8");
        }
        line.push_str("\r\n");
        line
    }
}

impl Recipient {
    /// The envelope recipient.
    #[must_use]
    pub fn address(&self) -> &str {
        match self {
            Self::Deliver { address, .. }
            | Self::HandOff { address, .. }
            | Self::Hold { address }
            | Self::Out { address } => address,
        }
    }

    pub(crate) fn rcpt_line(&self) -> String {
        let mut line = format!("RCPT TO:<{}>", self.address());
        let written = match self {
            Self::Deliver { account, .. } => write!(line, " MCACCT={account}"),
            Self::HandOff { account, store, .. } => write!(line, " MCACCT={account} MCSTORE={store}"),
            Self::Hold { .. } => write!(line, " MCHOLD=1"),
            Self::Out { .. } => write!(line, " MCOUT=1"),
        };
        debug_assert!(written.is_ok(), "writing to a string cannot fail");
        line.push_str("\r\n");
        line
    }
}
