//! LMTP (RFC 2033) over any byte stream: the client, and the line transport that server sessions share with it.
//!
//! Between parts of one cluster three parameters are added (design section 10a): `MCID=` on MAIL is the delivery id,
//! `MCACCT=` on RCPT the account, `MCSTORE=` beside it the store that should get the mail (hand-off), `MCHOLD=1` puts
//! it into the queue, held, and `MCOUT=1` into the queue for other sites.

mod body;
mod client;
mod envelope;
mod wire;

pub use body::{Body, PIECE};
pub use client::{Client, ClientError, Hint, Timeouts};
pub use envelope::{Envelope, Recipient, Wishes};
pub use wire::{Wire, WireError};
