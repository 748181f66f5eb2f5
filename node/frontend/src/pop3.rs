//! POP3 at the frontend: authenticates, then passes the session on to the owner's backend.

mod backend;
mod session;

use std::time::Duration;

use mailcluster_types::{BoxStream, ClientInfo};

use crate::{
    FrontendContext, mailbox_metrics,
    relay::{self, Manner},
};

/// The service's name towards the directory, in logs and metrics.
const SERVICE: &str = "pop3";

const MANNER: Manner = Manner {
    service: SERVICE,
    // The backend ends it after 10 minutes (RFC 1939 section 3).
    idle: Duration::from_secs(12 * 60),
    // A POP3 server speaks only when asked.
    bye_stop: b"",
    bye_idle: b"",
};

/// Serves one POP3 session until it ends.
pub async fn serve(stream: BoxStream, client: ClientInfo, context: FrontendContext) {
    let waiting = mailbox_metrics::in_state(SERVICE, "login");
    let Some((stream, client, entered)) = session::log_in(stream, client, &context).await else { return };
    drop(waiting);
    relay::relay(stream, entered, &MANNER, &client, &context).await;
}
