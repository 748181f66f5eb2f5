//! The directory's port for administrators: TLS with the pod's certificate, and a Kubernetes token in each request.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{Router, extract::Request};
use mailcluster_net::{listen as net_listen, tls::TlsAcceptor};
use mailcluster_types::BoxStream;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpListener,
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    service::Routes,
    transport::{Server, server::Connected},
};

use super::grpc::Changing;

/// Administration's services, which come and go with the directory's store.
pub type AdminPort = Changing;

/// Handshakes that wait to be served.
const WAITING: usize = 16;

/// Serves for ever what is set.
pub fn listen(listener: TcpListener, tls: TlsAcceptor) -> AdminPort {
    let port = Changing::new();
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::spawn(accept(listener, tls, sender));
    let serving = port.clone();
    let fallback = move |request: Request| {
        let serving = serving.clone();
        async move { serving.call(request).await }
    };
    let router = Router::new().fallback(fallback);
    tokio::spawn(async move {
        let server = Server::builder().add_routes(Routes::from(router));
        if let Err(error) = server.serve_with_incoming(ReceiverStream::new(receiver)).await {
            tracing::error!(%error, "administration ended");
        }
    });
    port
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, sender: mpsc::Sender<io::Result<AdminStream>>) {
    loop {
        let (stream, remote) = net_listen::accept(&listener).await;
        let Ok(permit) = sender.clone().reserve_owned().await else { return };
        let tls = tls.clone();
        tokio::spawn(async move {
            match tls.accept(Box::new(stream)).await {
                Ok((stream, _)) => drop(permit.send(Ok(AdminStream(stream)))),
                Err(error) => tracing::debug!(%remote, %error, "administration: TLS failed"),
            }
        });
    }
}

/// An administrator's connection.
struct AdminStream(BoxStream);

impl Connected for AdminStream {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for AdminStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for AdminStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
