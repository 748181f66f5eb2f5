//! gRPC to a pod's port through the API server, with the cluster's own TLS inside.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{
    codegen::Service,
    transport::{Channel, Endpoint, Uri},
};

use crate::failure::{Failure, chain};

/// The name in the certificate of the directory's pod.
const SERVER_NAME: &str = "directory.mailcluster.internal";
/// Longest wait for the way to stand.
const LIMIT: Duration = Duration::from_secs(15);

/// A channel to `port` of `pod`, whose certificate `ca` (PEM) must have issued.
pub async fn channel(pods: Api<Pod>, pod: String, port: u16, ca: &str) -> Result<Channel, Failure> {
    let connector =
        Connector { pods, pod: pod.clone(), port, tls: TlsConnector::from(Arc::new(trusting(ca)?)) };
    // The scheme is http as far as tonic is concerned: TLS is the connector's matter.
    let endpoint = Endpoint::from_static("http://directory").connect_timeout(LIMIT);
    let connected = tokio::time::timeout(LIMIT, endpoint.connect_with_connector(connector)).await;
    match connected {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(error)) => Err(Failure::Unavailable(format!(
            "the directory's pod {pod} cannot be reached: {}",
            chain(&error)
        ))),
        Err(_) => Err(Failure::Unavailable(format!("the directory's pod {pod} does not answer"))),
    }
}

fn trusting(ca: &str) -> Result<ClientConfig, Failure> {
    let bad = |what: String| Failure::Failed(format!("the cluster's CA certificates cannot be used: {what}"));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        let certificate = certificate.map_err(|e| bad(e.to_string()))?;
        roots.add(certificate).map_err(|e| bad(e.to_string()))?;
    }
    if roots.is_empty() {
        return Err(bad("there are none".into()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| bad(e.to_string()))?;
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

struct Connector {
    pods: Api<Pod>,
    pod: String,
    port: u16,
    tls: TlsConnector,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<Box<dyn Stream>>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (pods, pod, port, tls) = (self.pods.clone(), self.pod.clone(), self.port, self.tls.clone());
        Box::pin(async move {
            let mut forwarder = pods.portforward(&pod, &[port]).await.map_err(io::Error::other)?;
            let stream = forwarder.take_stream(port).ok_or_else(|| io::Error::other("no stream"))?;
            let name = ServerName::try_from(SERVER_NAME).map_err(io::Error::other)?;
            let stream: Box<dyn Stream> = Box::new(stream);
            tls.connect(name, stream).await.map(TokioIo::new)
        })
    }
}
