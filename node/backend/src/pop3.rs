//! POP3 sessions (RFC 1939).
//!
//! There is no exclusive lock on a maildrop (RFC 1939 section 4 wants one so that message numbers stay put): a
//! session works on the list of UIDs it saw at login, deletions are by UID and happen at QUIT in one record, and a
//! message that has gone meanwhile by IMAP is told as such. Two sessions cannot harm each other.

mod maildrop;
mod session;

use mailcluster_types::BoxStream;

use crate::{SessionContext, metrics};

/// Serves one POP3 session until it ends.
///
/// The frontend has authenticated the user: `AUTH EXTERNAL` is accepted exactly when the context names an account.
pub async fn serve(stream: BoxStream, context: SessionContext) {
    let (id, remote) = (context.client.session, context.client.remote);
    let _counted = metrics::session("pop3");
    match session::run(stream, context).await {
        Ok(end) => tracing::debug!(session = %id, %remote, ?end, "pop3 session ended"),
        Err(error) => tracing::debug!(session = %id, %remote, %error, "pop3 session lost"),
    }
}
