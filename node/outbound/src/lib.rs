//! The decisions of mail that leaves the cluster, without I/O, clocks or randomness: what is looked up, heard, drawn
//! and the time of day are given, and what to do comes back.
//!
//! - [`route`]: the hosts and addresses that mail for a domain goes to, in order.
//! - [`tls`]: what must hold of a connection (DANE, MTA-STS, REQUIRETLS), and what is reported when it does not.
//! - [`schedule`]: when a message is tried, how many at once, and which one is next.
//! - [`reply`]: what an answer of a server, or its absence, means for a recipient.
//! - [`dsn`]: who is told what of a message, and the report's octets.

pub mod dsn;
pub mod reply;
pub mod route;
pub mod schedule;
mod status;
pub mod tls;

pub use status::Status;
