//! What every backend session is given.

use std::{sync::Arc, time::Duration};

use mailcluster_store::Store;
use mailcluster_types::{AccountId, ClientInfo, Directory, Epoch};
use tokio_util::sync::CancellationToken;

use crate::sieve::Sending;

/// Who speaks to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// A part of this cluster, by its certificate or in the same process: it may name delivery ids, accounts, stores.
    Ours,
    /// Anyone else.
    Foreign,
}

/// Everything a session may use. Cheap to clone.
#[derive(Clone)]
pub struct SessionContext {
    /// The store; every reply that acknowledges a change goes through its receipts.
    pub store: Store,
    /// Who is at the other end.
    pub peer: Peer,
    /// The account the frontend authenticated (IMAP, POP3); `None` for LMTP.
    pub account: Option<AccountId>,
    /// The client, as the frontend saw it.
    pub client: ClientInfo,
    /// The cluster's FQDN, for greetings and trace headers.
    pub hostname: Arc<str>,
    /// Resolves LMTP recipients that come without an account id (standalone, foreign peers); `None` refuses them.
    pub directory: Option<Arc<dyn Directory>>,
    /// What Sieve scripts send by.
    pub sending: Sending,
    /// Cancelled when the store stops serving: end with BYE / 421 / a closed connection after the current command.
    pub shutdown: CancellationToken,
    /// Bounds.
    pub limits: Arc<SessionLimits>,
}

/// Bounds of a session.
#[derive(Debug, Clone)]
pub struct SessionLimits {
    /// Largest message in octets (SIZE, APPENDLIMIT). Default 50 MiB.
    pub max_message: u64,
    /// Longest command line in octets without literals. Default 64 KiB.
    pub max_line: usize,
    /// Idle time before an IMAP session is ended (RFC 3501 section 5.4: at least 30 minutes).
    pub imap_idle: Duration,
    /// Idle time before a POP3 session is ended (RFC 1939 section 3: at least 10 minutes).
    pub pop3_idle: Duration,
    /// Idle time before an LMTP session is ended.
    pub lmtp_idle: Duration,
    /// Most recipients of one message.
    pub max_recipients: usize,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            max_message: 50 << 20,
            max_line: 64 << 10,
            imap_idle: Duration::from_secs(30 * 60),
            pop3_idle: Duration::from_secs(10 * 60),
            lmtp_idle: Duration::from_secs(5 * 60),
            max_recipients: 1000,
        }
    }
}

/// Why a backend refuses a connection before serving it; told in the protocol's greeting so that a frontend can
/// follow (design section 10a).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refuse {
    /// For people.
    pub reason: String,
    /// The epoch this backend serves at or knows of.
    pub epoch: Epoch,
    /// Where the store is served, when known.
    pub endpoint: Option<std::net::SocketAddr>,
}
