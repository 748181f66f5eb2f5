//! Sends mail to other sites: looks up where it goes, connects, and leads SMTP sessions. What is decided on the way is
//! decided by `mailcluster-outbound`; the octets of a session are `mailcluster-proto-smtp`'s.
//!
//! One [`Job`] is one message for recipients of one domain. Its [`Attempt`] says what became of each: nothing is kept
//! here, and nothing is tried again later; that is the queue's part.

mod attempt;
mod demand;
mod dns;
mod idle;
mod job;
mod ledger;
mod policies;
mod session;
mod tls;
mod verifier;

pub use attempt::Relay;
pub use dns::{Dns, DnsError, Resolver, Signatures};
pub use job::{Attempt, Credentials, Fate, Job, Settings, SmarthostAccess, SmarthostKey, Told};
pub use tls::{Tls, TlsError};
