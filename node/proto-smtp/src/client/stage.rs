//! How far a session has come: what an answer, or its absence, is about.

use std::time::Duration;

/// The step of a session that is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// The connection and the server's greeting.
    Connect,
    /// EHLO, or HELO after it.
    Hello,
    /// STARTTLS and the handshake.
    StartTls,
    /// AUTH.
    Auth,
    /// MAIL (and a RSET before it).
    Mail,
    /// RCPT.
    Rcpt,
    /// DATA, up to its 354.
    Data,
    /// The message itself, before its end.
    Body,
    /// After the end of the message.
    Dot,
}

impl Stage {
    /// How long a client waits for the server here at least (RFC 5321 section 4.5.3.2).
    #[must_use]
    pub fn patience(self) -> Duration {
        Duration::from_secs(match self {
            Self::Connect | Self::Hello | Self::StartTls | Self::Auth | Self::Mail | Self::Rcpt => 300,
            Self::Data => 120,
            Self::Body => 180,
            Self::Dot => 600,
        })
    }
}
