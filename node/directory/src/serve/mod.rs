//! The gRPC faces: look-up, watch and feed for the cluster; administration for people; a store's own for the
//! directory and the operator. Listeners, certificates and ports are the caller's.

mod access;
mod admin;
mod admin_form;
mod directory;
mod screening;
mod store_admin;

use std::sync::Arc;

use mailcluster_types::StoreName;

pub use access::{AdminAccess, TokenAuthority, TokenError, TokenUser};
pub use admin::AdminServer;
pub use directory::DirectoryServer;
pub use store_admin::StoreAdminServer;

/// Largest gRPC message, in octets.
pub const MAX_MESSAGE: usize = 16 << 20;

/// What a peer asks to be allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// Look-ups, logins, invalidations: frontends and backends.
    Lookup,
    /// The records of this store's accounts, password hashes included: that store's backends alone.
    Feed(StoreName),
    /// Reports of clients, and bans: frontends.
    Screening,
    /// A store's usage, history, queue and records: directory and operator.
    StoreAdmin,
}

/// Decides from a request's extensions (where the listener put the peer's certificate facts) whether it may.
pub type PeerCheck = Arc<dyn Fn(&tonic::Extensions, &Wish) -> bool + Send + Sync>;

#[allow(clippy::result_large_err, reason = "what tonic handlers return")]
fn admit(check: &PeerCheck, extensions: &tonic::Extensions, wish: &Wish) -> Result<(), tonic::Status> {
    if check(extensions, wish) {
        Ok(())
    } else {
        tracing::warn!(?wish, "peer refused: not its role");
        Err(tonic::Status::permission_denied("not for this certificate's role"))
    }
}
