//! What a session answers its caller.

use super::{EnvelopeFault, Misfit, Outcome, Stage};
use crate::{Reply, ReplyFault};

/// What came of what the server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The server greets: say [`ClientSession::hello`](crate::ClientSession::hello).
    Greeted(Reply),
    /// It answered EHLO or HELO; see [`ClientSession::offers`](crate::ClientSession::offers).
    Hello,
    /// The handshake may begin; then [`ClientSession::tls_started`](crate::ClientSession::tls_started).
    StartTls,
    /// AUTH goes on with this challenge, in base64: [`ClientSession::respond`](crate::ClientSession::respond).
    Challenge(String),
    /// AUTH is done.
    LoggedIn,
    /// The greeting, hello, STARTTLS or AUTH was refused.
    Refused(Stage, Reply),
    /// The message may come: [`ClientSession::push`](crate::ClientSession::push), then [`ClientSession::finish`](crate::ClientSession::finish).
    Body,
    /// The transaction is over; the outcomes are in the order of the recipients.
    Ended(Vec<Outcome>),
    /// The server ends the session, between transactions.
    Closing(Reply),
}

/// The server broke the protocol: the connection is of no more use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionFault {
    /// It said what is not a reply.
    #[error(transparent)]
    NotAReply(#[from] ReplyFault),
    /// A reply that cannot be an answer to what was asked.
    #[error("the server answered {0} to a command that cannot be answered so")]
    Unexpected(u16),
    /// A reply to nothing.
    #[error("the server answered {0} and was not asked")]
    Unsolicited(u16),
    /// It said more than it was asked for, before it was asked.
    #[error("the server answered ahead of the command")]
    Ahead,
    /// Something in clear behind its consent to STARTTLS.
    #[error("the server went on in clear after it agreed to STARTTLS")]
    Injected,
}

/// Why the session does not say this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BeginFault {
    /// Not now: an answer is waited for, hello was not said, or the session is at its end.
    #[error("the session is not ready for it")]
    NotReady,
    /// It would not be one word on the wire.
    #[error("the argument cannot be sent")]
    Argument,
    /// The server lacks what the message needs.
    #[error(transparent)]
    Misfit(#[from] Misfit),
    /// The envelope cannot be sent to anybody.
    #[error(transparent)]
    Envelope(#[from] EnvelopeFault),
}
