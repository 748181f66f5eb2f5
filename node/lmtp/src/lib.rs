//! LMTP (RFC 2033) over any byte stream: the client, and the line transport that server sessions share with it.
//!
//! Between parts of one cluster three parameters are added (design section 10a): `MCID=` on MAIL is the delivery id,
//! `MCACCT=` on RCPT the account, `MCSTORE=` beside it the store that should get the mail (hand-off), `MCHOLD=1` puts
//! it into the queue, held, and `MCOUT=1` into the queue for other sites. `MCJUNK=1` and `MCMET=` on MAIL say what checks made
//! of the message, to servers that offer `MCMET` at LHLO.

mod body;
mod client;
mod envelope;
mod wire;

pub use body::{Body, PIECE};
pub use client::{Client, ClientError, Hint, Timeouts};
pub use envelope::{CHECKS, Checked, Envelope, Recipient, Wishes};
pub use wire::{Wire, WireError};
