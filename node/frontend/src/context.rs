//! What every frontend session is given.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use mailcluster_screen::Gate;
use mailcluster_types::{Backends, BoxStream, Directory, TlsFacts};
use mailcluster_verdict::Checks;
use tokio_util::sync::CancellationToken;

/// Everything a frontend session may use. Cheap to clone.
#[derive(Clone)]
pub struct FrontendContext {
    /// Finds accounts, checks passwords.
    pub directory: Arc<dyn Directory>,
    /// Reaches stores.
    pub backends: Arc<dyn Backends>,
    /// The cluster's FQDN: greeting, EHLO, Received, Message-ID.
    pub hostname: Arc<str>,
    /// Upgrades a plaintext stream on STARTTLS / STLS; `None`: not offered.
    pub tls: Option<Arc<dyn TlsUpgrade>>,
    /// Cancelled on shutdown: 421 / BYE after the current command.
    pub shutdown: CancellationToken,
    /// Users' mail to other sites is taken: stores have a way out.
    pub sends_out: bool,
    /// Judges mail from other sites; `None`: it is taken as it is.
    pub checks: Option<Arc<Checks>>,
    /// Who is refused or waits, and where it is noted why.
    pub screen: Gate,
    /// Bounds.
    pub limits: Arc<FrontendLimits>,
}

/// Turns a plaintext stream into a TLS server stream (implemented over rustls in `mailcluster-net`).
#[async_trait]
pub trait TlsUpgrade: Send + Sync + 'static {
    /// Runs the server's handshake; the caller has thrown away everything read ahead of it.
    ///
    /// # Errors
    /// When the handshake fails or takes longer than its limit.
    async fn upgrade(&self, stream: BoxStream) -> std::io::Result<(BoxStream, TlsFacts)>;
}

/// Bounds of frontend sessions.
#[derive(Debug, Clone)]
pub struct FrontendLimits {
    /// Largest message in octets. Default 50 MiB.
    pub max_message: u64,
    /// Messages up to this size are spooled in memory, larger ones in a temporary file. Default 256 KiB.
    pub spool_memory: usize,
    /// Where larger messages are spooled.
    pub spool_dir: std::path::PathBuf,
    /// Most recipients of one message (RFC 5321 section 4.5.3.1.8 asks for at least 100).
    pub max_recipients: usize,
    /// Longest command line in octets. SMTP default 2048 (RFC 5321: at least 512).
    pub max_line: usize,
    /// Time before a session that has not logged in is ended, whatever it sends.
    pub login_timeout: Duration,
    /// Idle time of an SMTP session (RFC 5321 section 4.5.3.2.7: 5 minutes).
    pub smtp_idle: Duration,
    /// Slowest DATA, in octets per second, averaged over a minute.
    pub min_data_rate: u32,
    /// Errors of one session before it is ended.
    pub max_errors: u32,
}

impl Default for FrontendLimits {
    fn default() -> Self {
        Self {
            max_message: 50 << 20,
            spool_memory: 256 << 10,
            spool_dir: std::env::temp_dir(),
            max_recipients: 1000,
            max_line: 2048,
            login_timeout: Duration::from_secs(60),
            smtp_idle: Duration::from_secs(300),
            min_data_rate: 500,
            max_errors: 20,
        }
    }
}
