//! IMAP sessions (RFC 3501 and the extensions that [`mailcluster_proto_imap::EXTENSIONS`] names).
//!
//! One task per session: read an event, run its command, write the answer. Rules that hold throughout:
//! - After the store has committed a change, nothing is awaited between [`mailcluster_store::Receipt::acknowledge`]
//!   and writing the reply; what an untagged reply needs is read before.
//! - A refusal is NO with a code. An outcome that is not known, a lost lease or a stopped store closes the
//!   connection without an answer.
//! - Message numbers change only where RFC 3501 section 7.4.1 allows it: [`selected::Selected`] keeps what the
//!   client has been told.
//! - Answers are written as they are made; no mailbox and no more than one large message is in memory.
//! - `\Recent` is not kept: RECENT is always 0, NEW and RECENT find nothing, OLD finds everything (as RFC 9051,
//!   which has dropped it).

mod append;
mod budget;
mod connection;
mod copy;
mod expunge;
mod fetch;
mod flags;
mod idle;
mod list;
mod login;
mod mailbox;
mod reply;
mod search;
mod select;
mod selected;
mod session;
mod store;

use mailcluster_types::BoxStream;

use crate::{SessionContext, metrics};

/// Serves one IMAP session until it ends.
pub async fn serve(stream: BoxStream, context: SessionContext) {
    let id = context.client.session;
    let _counted = metrics::session("imap");
    let end = session::Session::new(stream, context).run().await;
    tracing::debug!(session = %id, reason = %end, "imap session ended");
}
