//! Brings mail from elsewhere into accounts: reads a Maildir or an mbox file, and appends what it has over IMAP.
//!
//! Nothing of a source is changed. What was brought is written into a [`Journal`], one file for each account, so that
//! a second run goes on where the first one ended and a later one brings only what is new. Between a message's APPEND
//! and its line in the journal anything may end; what the server then has beyond the journal is compared octet by
//! octet with what would be appended next, so that no message comes twice.
//!
//! Sources belong to users, and the one who imports them is often root: no symbolic link below a source is followed,
//! and nothing but regular files is read. What is not brought is told, with the reason.

mod account;
mod append;
mod flags;
pub mod imap;
mod journal;
mod key;
mod maildir;
mod mbox;
mod message;
mod progress;
mod settle;
mod source;

pub use account::{Job, Login, Work, run};
pub use flags::Flags;
pub use journal::{Journal, JournalError};
pub use key::Key;
pub use message::{Found, Unread};
pub use progress::{Event, Listener, Progress};
pub use source::{Source, SourceError, Visit};
