//! TLS towards other sites.

use std::sync::Arc;

use mailcluster_outbound::tls::dane::Tlsa;
use mailcluster_types::BoxStream;
use rustls::{
    ClientConfig, Error, RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName},
};
use tokio_rustls::TlsConnector;

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// No version of TLS is there.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] Error),
}

use crate::verifier::Verifier;

/// Ways to lead a handshake.
#[derive(Clone)]
pub struct Tls {
    provider: Arc<CryptoProvider>,
    any: Arc<ClientConfig>,
    verified: Arc<ClientConfig>,
}

/// What a server's certificate must be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wanted<'a> {
    /// Anything.
    Any,
    /// The host's, by a known authority.
    OfHost,
    /// What one of these records is about; where that is an authority, with one of these names (RFC 7672 section 3.2.2).
    Records(&'a [Tlsa], &'a [String]),
}

impl Tls {
    /// Certificates that must hold are those of authorities that this system knows (an image knows none), that Mozilla's
    /// list has, and of `more`.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(more: &[CertificateDer<'static>]) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        let system = rustls_native_certs::load_native_certs();
        for error in &system.errors {
            tracing::warn!(%error, "a known authority cannot be read");
        }
        roots.add_parsable_certificates(system.certs);
        roots.add_parsable_certificates(more.iter().cloned());
        let verified = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let any = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Verifier::any(provider.clone())))
            .with_no_client_auth();
        Ok(Self { provider, any: Arc::new(any), verified: Arc::new(verified) })
    }

    /// Leads the handshake with the server of this name.
    pub(crate) async fn start(
        &self,
        stream: BoxStream,
        host: &str,
        wanted: Wanted<'_>,
    ) -> std::io::Result<BoxStream> {
        let name = ServerName::try_from(host.to_owned()).map_err(std::io::Error::other)?;
        let config = match wanted {
            Wanted::Any => self.any.clone(),
            Wanted::OfHost => self.verified.clone(),
            Wanted::Records(records, names) => {
                Arc::new(self.anchored(records, names).map_err(std::io::Error::other)?)
            }
        };
        Ok(Box::new(TlsConnector::from(config).connect(name, stream).await?))
    }

    fn anchored(&self, records: &[Tlsa], names: &[String]) -> Result<ClientConfig, Error> {
        let verifier = Verifier::anchored(self.provider.clone(), records, names)?;
        Ok(ClientConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth())
    }
}
