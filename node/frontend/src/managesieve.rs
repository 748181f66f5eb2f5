//! ManageSieve at the frontend: authenticates, then passes the session on to the owner's backend.

mod backend;
mod session;

use std::time::Duration;

use mailcluster_types::{BoxStream, ClientInfo};

use crate::{
    FrontendContext, mailbox_metrics,
    relay::{self, Manner},
};

/// The service's name towards the directory, in logs and metrics.
const SERVICE: &str = "sieve";

const MANNER: Manner = Manner {
    service: SERVICE,
    // The backend ends it after 30 minutes (RFC 5804 section 1.5).
    idle: Duration::from_secs(35 * 60),
    bye_stop: b"BYE (TRYLATER) \"this server is going down, connect again\"\r\n",
    bye_idle: b"BYE \"idle for too long\"\r\n",
};

/// Serves one ManageSieve session until it ends.
pub async fn serve(stream: BoxStream, client: ClientInfo, context: FrontendContext) {
    let waiting = mailbox_metrics::in_state(SERVICE, "login");
    let Some((stream, client, entered)) = session::log_in(stream, client, &context).await else { return };
    drop(waiting);
    relay::relay(stream, entered, &MANNER, &client, &context).await;
}
