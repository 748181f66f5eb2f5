//! The server's side of IMAP4rev1 (RFC 3501) without I/O: bytes in, commands out; values in, response bytes out.
//!
//! ```text
//! bytes -> Decoder -> Event::{Command, Append.., Continue, Line, Invalid, Fatal}
//! ```
//!
//! [`Decoder`] frames lines and literals within bounds and never holds an APPEND's message: that is handed out in
//! chunks as it arrives. One file per command stands under `command/`, the RFC's grammar above each parser.
//! [`encode`] writes the pieces that responses are made of. Nothing here reads a clock, a socket or a store.
//!
//! A frontend uses the same decoder for what comes before the login: CAPABILITY, NOOP, LOGOUT, ID, STARTTLS,
//! LOGIN and AUTHENTICATE.

mod capability;
pub mod command;
mod cursor;
pub mod date;
mod decoder;
pub mod encode;
mod error;
mod flag;
mod mailbox;
pub mod mutf7;
mod sequence;

pub use capability::{BEFORE_LOGIN, EXTENSIONS};
pub use command::{Command, CommandBody};
pub use decoder::{AppendStart, Decoder, Event, Limits};
pub use error::SyntaxError;
pub use flag::Flag;
pub use mailbox::{ListPattern, MailboxName};
pub use sequence::{Bound, SequenceSet};
