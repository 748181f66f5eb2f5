//! SMTP and LMTP without I/O: lines, commands, replies, message data and the dates of trace headers
//! (RFC 5321, RFC 2033, RFC 1870, RFC 3461, RFC 6152, RFC 6531, RFC 4954); and the client's side of a session with other sites:
//! what a server offers, commands, pipelining and chunks ([`ClientSession`]; RFC 2920, RFC 3030, RFC 3207, RFC 3461,
//! RFC 6533, RFC 8689, RFC 9422).
//!
//! Nothing here reads a socket or a clock. What comes in is split as RFC 5321 section 2.3.8 demands: a line ends with
//! CRLF and with nothing else, so no two readers can disagree where a message ends.
//!
//! Choices where the RFCs leave room:
//! - A bare CR or LF in a command line is a fault of that line; in message data it is a fault of the message, which is
//!   still read to its `CRLF.CRLF` so that the session stays in step.
//! - NUL in message data is a fault: IMAP (RFC 3501 section 9, `CHAR8`) could not give it back.
//! - Lines of message data may have up to [`MAX_DATA_LINE`] octets (RFC 5321 section 4.5.3.1.6 asks for 1000).
//! - Source routes are accepted and ignored (RFC 5321 appendix C).

mod client;
mod command;
mod data;
mod date;
mod dsn;
mod line;
mod params;
mod path;
mod reply;
mod stuff;
mod xtext;

pub use client::{
    BeginFault, BodyFault, ClientSession, Envelope, EnvelopeFault, Event, Extensions, Misfit, Needs, Notify,
    OriginalRecipient, Outcome, Recipient, Ret, SessionFault, Stage, Terms, Utf8, fit,
};
pub use command::{Command, CommandFault};
pub use data::{DataDecoder, DataFault, MAX_DATA_LINE, Progress};
pub use date::rfc5322_date;
pub use dsn::{MailDsn, RcptDsn};
pub use line::{LineDecoder, LineFault};
pub use params::{Body, MailParams, RcptParams};
pub use path::Path;
pub use reply::{Reply, ReplyFault, ReplyParser};
pub use stuff::Stuffer;
pub use xtext::utf8_address_in_ascii;
