//! gRPC between our pods: tonic over the same mutual TLS as everything else.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
};
use tokio_rustls::{client, server};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{
    codegen::Service,
    transport::{Channel, Endpoint, Uri, server::Connected},
};

use crate::{
    listen,
    mtls::{Expect, Identity, Peer, Role},
};

/// Application protocol of gRPC (RFC 9113).
const H2: &[&[u8]] = &[b"h2"];
/// Handshakes at the same time on one port.
const MAX_HANDSHAKES: usize = 64;
/// Longest wait for a connection, and for the answer to a keep-alive ping.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Who calls; in the extensions of every request: `request.extensions().get::<PeerInfo>()`.
#[derive(Debug, Clone)]
pub struct PeerInfo {
    /// The name in its certificate.
    pub peer: Peer,
    /// Its address.
    pub remote: SocketAddr,
}

/// A connection whose peer is verified and admitted.
pub struct GrpcStream {
    inner: server::TlsStream<TcpStream>,
    info: PeerInfo,
}

impl Connected for GrpcStream {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        self.info.clone()
    }
}

impl AsyncRead for GrpcStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for GrpcStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// Connections for `tonic::transport::Server::serve_with_incoming`, from peers in one of the `allowed` roles. A
/// failed handshake is logged and never ends the stream.
pub fn serve_incoming(
    listener: TcpListener,
    identity: Identity,
    allowed: Vec<Role>,
) -> impl Stream<Item = io::Result<GrpcStream>> + Send + 'static {
    let (sender, receiver) = mpsc::channel(16);
    tokio::spawn(accept_loop(listener, identity, allowed.into(), sender));
    ReceiverStream::new(receiver)
}

async fn accept_loop(
    listener: TcpListener,
    identity: Identity,
    allowed: Arc<[Role]>,
    sender: mpsc::Sender<io::Result<GrpcStream>>,
) {
    let handshakes = Arc::new(Semaphore::new(MAX_HANDSHAKES));
    loop {
        let Ok(permit) = handshakes.clone().acquire_owned().await else { return };
        let (tcp, remote) = tokio::select! {
            accepted = listen::accept(&listener) => accepted,
            () = sender.closed() => return,
        };
        let (identity, allowed, sender) = (identity.clone(), allowed.clone(), sender.clone());
        tokio::spawn(async move {
            match identity.accept_with(tcp, &allowed, H2).await {
                Ok((inner, peer)) => {
                    drop(permit);
                    let stream = GrpcStream { inner, info: PeerInfo { peer, remote } };
                    let _ = sender.send(Ok(stream)).await;
                }
                Err(error) => tracing::warn!(%remote, %error, "grpc connection refused"),
            }
        });
    }
}

/// A channel to the peer at `addr` that must be who `expect` says. It connects when first used and again when the
/// connection is lost; a dead peer is noticed by pings within 10 s.
#[must_use]
pub fn channel(addr: SocketAddr, identity: Identity, expect: Expect) -> Channel {
    // The scheme is http as far as tonic is concerned: TLS is the connector's matter.
    Endpoint::from(Uri::from_static("http://mailcluster.internal"))
        .connect_timeout(CONNECT_LIMIT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .connect_with_connector_lazy(Connector { addr, identity, expect: Arc::new(expect) })
}

struct Connector {
    addr: SocketAddr,
    identity: Identity,
    expect: Arc<Expect>,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<client::TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (addr, identity, expect) = (self.addr, self.identity.clone(), self.expect.clone());
        Box::pin(async move {
            let connected = identity.connect_with(addr, &expect, CONNECT_LIMIT, H2).await;
            connected.map(|(stream, _)| TokioIo::new(stream)).map_err(io::Error::other)
        })
    }
}
