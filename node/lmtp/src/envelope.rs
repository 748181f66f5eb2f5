//! What stands before the message.

use std::{collections::BTreeMap, fmt::Write};

use mailcluster_proto_smtp::{MailDsn, RcptDsn};
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
    /// What the sender asks for reports; said where DSN is offered.
    pub wishes: Wishes,
}

/// What a sender asks for reports (RFC 3461).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Of the message.
    pub mail: MailDsn,
    /// Of recipients, by their addresses; who is not here has asked for nothing.
    pub recipients: BTreeMap<String, RcptDsn>,
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
    pub(crate) fn mail_line(&self, dsn: bool) -> String {
        let mut line =
            format!("MAIL FROM:<{}> SIZE={} BODY=8BITMIME MCID={}", self.sender, self.size, self.delivery);
        if self.utf8 || !self.sender.is_ascii() {
            line.push_str(" SMTPUTF8");
        }
        if dsn {
            line.push_str(&self.wishes.mail.to_params());
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

    pub(crate) fn rcpt_line(&self, wishes: &Wishes) -> String {
        let mut line = format!("RCPT TO:<{}>", self.address());
        let written = match self {
            Self::Deliver { account, .. } => write!(line, " MCACCT={account}"),
            Self::HandOff { account, store, .. } => write!(line, " MCACCT={account} MCSTORE={store}"),
            Self::Hold { .. } => write!(line, " MCHOLD=1"),
            Self::Out { .. } => write!(line, " MCOUT=1"),
        };
        debug_assert!(written.is_ok(), "writing to a string cannot fail");
        if let Some(wish) = wishes.recipients.get(self.address()) {
            line.push_str(&wish.to_params());
        }
        line.push_str("\r\n");
        line
    }
}
