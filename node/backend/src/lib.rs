//! A backend: the sessions that serve one store's accounts over LMTP, IMAP and POP3.
//!
//! Sessions take a byte stream that is already authenticated (mutual TLS and a PROXY v2 header in a cluster, an
//! in-memory pipe in a standalone node) and a [`SessionContext`]; they know nothing of sockets, leases or routes.

pub mod imap;
pub mod lmtp;
pub mod managesieve;
pub mod metrics;
pub mod pop3;
mod session;
pub mod sieve;

pub use session::{Peer, Refuse, SessionContext, SessionLimits};
