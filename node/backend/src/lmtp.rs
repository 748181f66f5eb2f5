//! LMTP sessions (RFC 2033): mail comes in from frontends, from other stores' queues and, on a standalone node, from
//! anybody who may connect.
//!
//! A recipient with `MCACCT=` is an account of this store; with `MCSTORE=` as well it goes into this store's queue for
//! another store (hand-off); with `MCHOLD=1` it goes into the queue, held. Without any of them the directory is asked.
//! After the message was appended there are two answers: success, or a closed connection.

mod budget;
mod deliver;
mod envelope;
mod junk;
mod recipient;
mod refusal;
mod scripts;
mod session;
mod success;

use mailcluster_lmtp::Wire;
use mailcluster_proto_smtp::Reply;
use mailcluster_types::BoxStream;

use crate::{Refuse, SessionContext, metrics};

/// Serves one LMTP session until it ends.
pub async fn serve(stream: BoxStream, context: SessionContext) {
    let session = context.client.session;
    let _counted = metrics::session("lmtp");
    match session::Session::new(stream, context).run().await {
        Ok(()) => tracing::debug!(%session, "lmtp session ended"),
        Err(end) => tracing::debug!(%session, reason = %end, "lmtp session broken off"),
    }
}

/// Refuses a connection in its greeting, with what a frontend needs to find the store (design section 10a).
pub async fn refuse(stream: BoxStream, refuse: &Refuse) {
    let endpoint = refuse.endpoint.map(|e| format!(" endpoint={e}")).unwrap_or_default();
    let text = format!("4.3.2 {} epoch={}{endpoint}", refuse.reason, refuse.epoch);
    let mut wire = Wire::new(stream, 512);
    if wire.answer(&Reply::with(421, text)).await.is_ok() {
        wire.close().await;
    }
}
