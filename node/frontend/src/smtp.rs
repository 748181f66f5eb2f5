//! SMTP: MX and submission (RFC 5321, RFC 6409).
//!
//! A session keeps nothing: after the final dot it hands the message to every recipient's store at once, by LMTP, and
//! says 250 only when each recipient's copy is durable on its store or in another store's queue.

mod auth;
mod checked;
mod credentials;
mod deliver;
mod envelope;
mod header;
pub mod metrics;
mod rate;
mod receive;
mod session;
mod spool;
mod stores;
mod submit;

use mailcluster_types::{BoxStream, ClientInfo};

use crate::FrontendContext;

/// Which service a listener offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Port 25: mail from other servers.
    Mx,
    /// Ports 465 and 587: mail from our users, after AUTH.
    Submission,
}

impl Service {
    /// For logs and metrics.
    fn label(self) -> &'static str {
        match self {
            Self::Mx => "mx",
            Self::Submission => "submission",
        }
    }
}

/// Serves one SMTP session until it ends.
pub async fn serve(stream: BoxStream, client: ClientInfo, service: Service, context: FrontendContext) {
    let (session, remote) = (client.session, client.remote);
    let _counted = metrics::session(service.label());
    let result = session::Session::new(stream, client, service, context).run().await;
    match result {
        Ok(()) => tracing::debug!(%session, %remote, service = service.label(), "smtp session ended"),
        Err(end) => {
            tracing::debug!(%session, %remote, service = service.label(), reason = %end, "smtp session broken off");
        }
    }
}
