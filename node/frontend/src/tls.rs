//! STARTTLS and STLS over rustls.

use async_trait::async_trait;
use mailcluster_net::tls::TlsAcceptor;
use mailcluster_types::{BoxStream, TlsFacts};

use crate::TlsUpgrade;

#[async_trait]
impl TlsUpgrade for TlsAcceptor {
    async fn upgrade(&self, stream: BoxStream) -> std::io::Result<(BoxStream, TlsFacts)> {
        self.accept(stream).await
    }
}
