//! ManageSieve sessions (RFC 5804): an account's scripts in its store.
//!
//! The frontend has authenticated the user: AUTHENTICATE "EXTERNAL" is accepted exactly when the context names an account.

mod session;

use mailcluster_types::BoxStream;

use crate::{SessionContext, metrics};

/// Serves one ManageSieve session until it ends.
pub async fn serve(stream: BoxStream, context: SessionContext) {
    let id = context.client.session;
    let _counted = metrics::session("sieve");
    match session::run(stream, context).await {
        Ok(()) => tracing::debug!(session = %id, "managesieve session ended"),
        Err(error) => tracing::debug!(session = %id, %error, "managesieve session lost"),
    }
}
