//! Sieve scripts (RFC 5228): compiled once, run over messages, with what they want done as the result.
//!
//! Nothing here does I/O, knows a clock or draws random numbers. A message is seen through [`Mail`], the account through
//! [`Host`], and all that a script wants is data ([`Outcome`]) for the delivery to perform under its id.
//!
//! ```
//! use mailcluster_sieve::{Capabilities, Limits, Script};
//!
//! let script = Script::compile(b"require \"fileinto\"; fileinto \"a\";", &Capabilities::all(), &Limits::default());
//! assert!(script.is_ok());
//! let wrong = Script::compile(b"fileinto \"a\";", &Capabilities::all(), &Limits::default());
//! assert!(wrong.is_err_and(|error| error.to_string().starts_with("line 1, column 1: ")));
//! ```
//!
//! # Extensions
//!
//! fileinto, envelope, encoded-character (5228), copy (3894), body (5173), environment (5183), variables (5229),
//! vacation (5230), vacation-seconds (6131), relational (5231), imap4flags (5232), subaddress (5233), date and index
//! (5260), reject and ereject (5429), enotify by mailto (5435, 5436), ihave (5463), mailbox (5490), duplicate (7352),
//! mailboxid (9042), and the comparators `i;octet`, `i;ascii-casemap` and `i;ascii-numeric` (4790).
//! `include` (6609) is refused, and so is `i;unicode-casemap` (5051), which needs Unicode's tables.
//!
//! # Bounds
//!
//! A script ends ([`Limits`]): it has no loops, and each comparison takes from the work that a run may do. `:matches` does
//! not go back (see `glob.rs`). What a run holds in memory is bounded by the message, the script and the limits.
//!
//! # Choices where the RFCs leave room
//!
//! - Actions happen after the script, all or none: a script that fails keeps the message, without flags, and does
//!   nothing else (RFC 5228 section 2.10.6).
//! - All of a script is checked when it is compiled, also what is never reached.
//! - `reject` and `ereject` go together with no delivery, nor with each other or `vacation` (RFC 5429 section 2.4).
//! - Flags that IMAP clients cannot set are left out (RFC 5232 section 2).
//! - Tests of addresses are for the usual fields and those that begin with `X-`; others are an error.
//! - A notification's URI may not have parts of the message in it (RFC 5435 section 8).
//! - An id for `duplicate` of more octets than a variable may have makes the test false.

mod action;
mod address;
mod capability;
mod compile;
mod date;
mod error;
mod flags;
mod glob;
mod lexer;
mod limits;
mod mail;
mod mailto;
mod matcher;
mod program;
mod run;
mod script;
mod syntax;
mod text;

pub use action::{Action, FileInto, Notify, Outcome, Planned, Seen, Skipped, Vacation};
pub use address::Address;
pub use capability::{Capabilities, Capability};
pub use error::{CompileError, Position, RunError, Warning};
pub use limits::Limits;
pub use mail::{Context, Host, Mail};
pub use script::Script;
