//! A session after the login: octets pass between the client and its backend.

use std::time::Duration;

use bytes::Bytes;
use mailcluster_net::stream::{Prefixed, SpliceEnd, SpliceLimits, splice};
use mailcluster_types::{BoxStream, ClientInfo};
use tokio::io::AsyncWriteExt;

use crate::{FrontendContext, mailbox_metrics};

/// How long one side may go on after the other has ended.
const HALF_CLOSED: Duration = Duration::from_secs(30);
/// Longest wait for a last line to go out.
const LAST_LINE: Duration = Duration::from_secs(2);

/// What differs between protocols.
pub(crate) struct Manner {
    /// `imap`, `pop3`.
    pub service: &'static str,
    /// Silence after which the session is ended: longer than the backend's own limit, which can say goodbye.
    pub idle: Duration,
    /// Told to the client when the session is ended from here between two lines; empty where the protocol has none.
    pub bye_stop: &'static [u8],
    /// The same for silence.
    pub bye_idle: &'static [u8],
}

/// A session that has got in.
pub(crate) struct Entered {
    /// The backend.
    pub backend: BoxStream,
    /// What the client sent ahead, for the backend.
    pub ahead: Bytes,
}

/// `stream` with what was read ahead of it put back.
pub(crate) fn put_back(stream: BoxStream, ahead: Bytes) -> BoxStream {
    if ahead.is_empty() { stream } else { Box::new(Prefixed::new(ahead, stream)) }
}

/// Passes octets on until the session ends.
pub(crate) async fn relay(
    client: BoxStream,
    entered: Entered,
    manner: &Manner,
    info: &ClientInfo,
    context: &FrontendContext,
) {
    let _proxied = mailbox_metrics::in_state(manner.service, "proxied");
    let mut client = put_back(client, entered.ahead);
    let mut backend = entered.backend;
    let limits = SpliceLimits { idle: manner.idle, half_closed: HALF_CLOSED };
    let (end, up, down) = splice(&mut client, &mut backend, limits, &context.shutdown).await;
    mailbox_metrics::octets(manner.service, up, down);
    tracing::debug!(session = %info.session, service = manner.service, ?end, up, down, "session ended");
    let bye = match end {
        SpliceEnd::Stopped { at_line_end: true } => manner.bye_stop,
        SpliceEnd::Idle { at_line_end: true } => manner.bye_idle,
        _ => return,
    };
    let last = async {
        client.write_all(bye).await?;
        client.shutdown().await
    };
    let _ = tokio::time::timeout(LAST_LINE, last).await;
}
