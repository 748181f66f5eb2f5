//! Mutual TLS between our pods: who we are, and who may talk to whom.

mod identity;
mod peer;

pub use identity::{Expect, Identity, MtlsError};
pub(crate) use peer::is_store_name;
pub use peer::{Peer, PeerError, Role};
