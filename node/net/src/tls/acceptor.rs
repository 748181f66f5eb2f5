//! The server's side of a client's TLS handshake.

use std::{io, sync::Arc, time::Duration};

use mailcluster_types::{BoxStream, TlsFacts};
use rustls::{ProtocolVersion, ServerConfig, ServerConnection};

use super::{CertStore, PemError};
use crate::pem;

/// Longest handshake.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(30);

/// Runs TLS handshakes with clients: TLS 1.2 and 1.3, no renegotiation, no early data.
#[derive(Clone)]
pub struct TlsAcceptor {
    inner: tokio_rustls::TlsAcceptor,
    limit: Duration,
}

impl TlsAcceptor {
    /// An acceptor that takes its certificates from `certs`, and sees their reloads.
    ///
    /// # Errors
    /// When the provider of cryptography offers no common protocol version (never, as built).
    pub fn new(certs: CertStore) -> Result<Self, PemError> {
        let config = ServerConfig::builder_with_provider(pem::provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|e| pem::broken("TLS", e))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(certs));
        Ok(Self { inner: Arc::new(config).into(), limit: HANDSHAKE_LIMIT })
    }

    /// The same with another limit for the handshake.
    #[must_use]
    pub fn with_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs the server's handshake on a stream from which nothing was read ahead.
    ///
    /// # Errors
    /// When the handshake fails, or takes longer than 30 s (`TimedOut`).
    pub async fn accept(&self, stream: BoxStream) -> io::Result<(BoxStream, TlsFacts)> {
        let stream = tokio::time::timeout(self.limit, self.inner.accept(stream))
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "TLS handshake took too long"))??;
        let facts = facts(stream.get_ref().1);
        Ok((Box::new(stream), facts))
    }
}

/// What a finished handshake agreed on.
fn facts(connection: &ServerConnection) -> TlsFacts {
    let version = match connection.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3".to_owned(),
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2".to_owned(),
        other => format!("{other:?}"),
    };
    let cipher = connection.negotiated_cipher_suite().map(|s| format!("{:?}", s.suite())).unwrap_or_default();
    TlsFacts { version, cipher, sni: connection.server_name().map(str::to_owned) }
}
