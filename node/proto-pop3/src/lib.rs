//! The server's side of POP3 (RFC 1939, 2449, 2595, 3206, 5034) without I/O: lines in, commands out; what goes back
//! is plain text. Nothing here reads a clock, a socket or a store.

mod command;
mod multiline;
mod reply;

pub use command::{Command, ParseError, Secret, parse};
pub use multiline::{DotStuffer, Top};
pub use reply::{Code, err, ok};

/// Longest command line in octets with its CRLF (RFC 2449 section 4).
pub const MAX_LINE: usize = 255;

/// Longest line of a SASL exchange in octets with its CRLF (as RFC 4954 section 4.3 has it for SMTP).
pub const MAX_SASL_LINE: usize = 12_288;

/// What every server here offers, before and after the login (RFC 2449 section 6). A frontend adds what belongs to
/// the login: USER, SASL and STLS.
pub const CAPABILITIES: &[&str] = &["TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING"];
