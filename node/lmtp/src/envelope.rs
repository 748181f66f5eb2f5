//! What stands before the message.

use std::{collections::BTreeMap, fmt::Write};

use mailcluster_proto_smtp::{MailDsn, RcptDsn, Reply};
use mailcluster_types::{AccountId, DeliveryId, StoreName};

/// The word by which servers of this cluster say at LHLO that they take `MCJUNK=` and `MCMET=`.
pub const CHECKS: &str = "MCMET";

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
    /// What was made of it on its way in; said where that is offered.
    pub checked: Checked,
}

/// What a sender asks for reports (RFC 3461).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Of the message.
    pub mail: MailDsn,
    /// Of recipients, by their addresses; who is not here has asked for nothing.
    pub recipients: BTreeMap<String, RcptDsn>,
}

/// What checks made of a message on its way in. It goes on with the message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// It belongs into Junk.
    pub junk: bool,
    /// What they found, in a line of `[a-z0-9:,.-]`; empty when there were none.
    pub met: String,
}

impl Checked {
    /// As parameters of MAIL, each behind a blank.
    #[must_use]
    pub fn params(&self) -> String {
        let mut text = String::new();
        if self.junk {
            text.push_str(" MCJUNK=1");
        }
        if !self.met.is_empty() {
            text.push_str(" MCMET=");
            text.push_str(&self.met);
        }
        text
    }

    /// From parameters parted by blanks, others among them.
    #[must_use]
    pub fn from_params(text: &str) -> Self {
        let mut checked = Self::default();
        for word in text.split(' ') {
            match word.split_once('=') {
                Some(("MCJUNK", "1")) => checked.junk = true,
                Some(("MCMET", met)) => met.clone_into(&mut checked.met),
                _ => {}
            }
        }
        checked
    }
}

/// What a server says at LHLO that it takes: stores of an older version take less.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Offers {
    /// Parameters of DSN.
    pub(crate) dsn: bool,
    /// What checks made of a message.
    pub(crate) checks: bool,
}

impl Offers {
    /// Reads the reply to LHLO.
    pub(crate) fn read(reply: &Reply) -> Self {
        let mut offers = Self::default();
        for line in reply.text.lines().skip(1) {
            offers.dsn |= line.eq_ignore_ascii_case("DSN");
            offers.checks |= line.eq_ignore_ascii_case(CHECKS);
        }
        offers
    }
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
    pub(crate) fn mail_line(&self, offers: Offers) -> String {
        let mut line =
            format!("MAIL FROM:<{}> SIZE={} BODY=8BITMIME MCID={}", self.sender, self.size, self.delivery);
        if self.utf8 || !self.sender.is_ascii() {
            line.push_str(" SMTPUTF8");
        }
        if offers.dsn {
            line.push_str(&self.wishes.mail.to_params());
        }
        if offers.checks {
            line.push_str(&self.checked.params());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_does_not_offer_is_not_said() {
        let checked = Checked { junk: true, met: "spf:fail".into() };
        let mail = MailDsn { envelope_id: Some("7".into()), ..MailDsn::default() };
        let wishes = Wishes { mail, ..Wishes::default() };
        let (delivery, sender) = (DeliveryId(7), "ann@example.org".to_owned());
        let envelope = Envelope { delivery, sender, size: 3, utf8: false, wishes, checked };
        for (offered, dsn, checks) in [
            ("PIPELINING\nSIZE 9", false, false),
            ("PIPELINING\nDSN\nSIZE 9", true, false),
            ("DSN\nMCMET\nSIZE 9", true, true),
            ("mcmet", false, true),
        ] {
            let offers = Offers::read(&Reply::with(250, format!("MCMET\n{offered}")));
            assert_eq!(offers, Offers { dsn, checks }, "{offered}");
            let line = envelope.mail_line(offers);
            assert_eq!(line.contains(" ENVID=7"), dsn, "{line}");
            assert_eq!(line.contains(" MCJUNK=1 MCMET=spf:fail"), checks, "{line}");
            assert_eq!(line.contains("MCJUNK") || line.contains("MCMET"), checks, "{line}");
        }
    }

    #[test]
    fn what_was_checked_survives_parameters() {
        for (junk, met, text) in [
            (false, "", ""),
            (true, "", " MCJUNK=1"),
            (false, "spf:pass,dmarc:none", " MCMET=spf:pass,dmarc:none"),
            (true, "dmarc:fail", " MCJUNK=1 MCMET=dmarc:fail"),
        ] {
            let checked = Checked { junk, met: met.into() };
            assert_eq!(checked.params(), text);
            assert_eq!(Checked::from_params(&format!("SMTPUTF8{text}")), checked);
        }
        assert_eq!(Checked::from_params("SMTPUTF8 MCJUNK=2 MCID=x"), Checked::default());
    }
}
