//! Listeners: bound sockets, accept loops with limits, and what a trusted proxy says of its clients.

use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use mailcluster_screen::{Gate, Refusal};
use mailcluster_types::{BoxStream, ClientInfo, SessionId, TlsFacts};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    limits::{ConnectionLimits, Permit},
    proxy::{self, TrustedProxies},
    tls::TlsAcceptor,
};

/// Connections the kernel holds for us while we are busy.
const BACKLOG: i32 = 1024;
/// Longest wait for a trusted proxy's header.
const PROXY_LIMIT: Duration = Duration::from_secs(5);
/// Pause after the process ran out of file descriptors or memory for sockets.
const BACK_OFF: Duration = Duration::from_millis(100);

/// Binds a TCP listener. `[::]:port` takes IPv4 as well.
///
/// # Errors
/// When the address is in use, not ours or not allowed.
pub fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if addr.is_ipv6() {
        socket.set_only_v6(!addr.ip().is_unspecified())?;
    }
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Raises the limit of open files to what the system allows. Answers the old and the new limit.
///
/// # Errors
/// When the system refuses.
pub fn raise_nofile() -> io::Result<(u64, u64)> {
    let limit = getrlimit(Resource::Nofile);
    let (old, most) = (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX));
    if old < most {
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    }
    Ok((old, most))
}

/// The next connection. Errors of single connections are passed over; when file descriptors run out it waits until
/// some are free, and the kernel's queue holds new clients meanwhile.
pub async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    let mut told = false;
    loop {
        match listener.accept().await {
            Ok((stream, remote)) => {
                let _ = stream.set_nodelay(true);
                let keepalive = TcpKeepalive::new()
                    .with_time(Duration::from_secs(300))
                    .with_interval(Duration::from_secs(60));
                let _ = SockRef::from(&stream).set_tcp_keepalive(&keepalive);
                return (stream, remote);
            }
            Err(e)
                if matches!(e.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) => {}
            Err(error) => {
                // Once, not ten times a second for as long as it lasts.
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(%error, "cannot accept connections, waiting");
                }
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
}

/// A listener for clients: limits, PROXY headers from trusted proxies, and TLS from the first octet if asked for.
#[derive(Clone)]
pub struct ClientPort {
    /// Its name in logs: `imaps`, `submission`.
    pub name: &'static str,
    /// Shared by all ports.
    pub limits: ConnectionLimits,
    /// Who must send a PROXY header.
    pub trusted: Arc<TrustedProxies>,
    /// TLS from the first octet (993, 995, 465); `None`: plaintext, with STARTTLS as the protocol offers.
    pub tls: Option<TlsAcceptor>,
    /// Who is refused.
    pub screen: Gate,
    /// What is told to those who are not let in.
    pub words: Words,
}

/// What a client that is not let in is told, as its protocol has it, when it comes in plaintext.
#[derive(Debug, Clone, Copy, Default)]
pub struct Words {
    /// There are too many connections.
    pub over_limit: &'static [u8],
    /// It is banned for a while.
    pub banned: &'static [u8],
    /// It is on the block list.
    pub blocked: &'static [u8],
}

impl ClientPort {
    /// Accepts until `shutdown` is cancelled and hands each client to `handler` in a task of `tasks`. Returns when
    /// it has stopped accepting; the sessions go on.
    pub async fn run<H, F>(
        self,
        listener: TcpListener,
        shutdown: CancellationToken,
        tasks: TaskTracker,
        handler: H,
    ) where
        H: Fn(BoxStream, ClientInfo) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        loop {
            let (stream, remote) = tokio::select! {
                accepted = accept(&listener) => accepted,
                () = shutdown.cancelled() => return,
            };
            // Before anything is spent on it. Whoever comes through a proxy is looked at when it has said who it is.
            if !self.trusted.contains(remote.ip()) && self.turns_away(&stream, remote.ip()) {
                continue;
            }
            let Ok(permit) = self.limits.acquire_total() else {
                self.refuse(&stream, remote, "too many connections");
                continue;
            };
            let (port, handler) = (self.clone(), handler.clone());
            tasks.spawn(async move {
                if let Some((stream, client, _permit)) = port.admit(stream, remote, permit).await {
                    handler(stream, client).await;
                }
            });
        }
    }

    async fn admit(
        &self,
        mut stream: TcpStream,
        remote: SocketAddr,
        mut permit: Permit,
    ) -> Option<(BoxStream, ClientInfo, Permit)> {
        let mut addresses = (canonical(remote), stream.local_addr().map_or(remote, canonical));
        let mut tls = None;
        if self.trusted.contains(remote.ip()) {
            match proxy::read_header(&mut stream, PROXY_LIMIT).await {
                Ok(header) => {
                    addresses = header.addresses.unwrap_or(addresses);
                    tls = header.tls;
                }
                Err(error) => {
                    tracing::info!(port = self.name, %remote, %error, "trusted proxy sent no proper header");
                    return None;
                }
            }
        }
        // A health check of the proxy itself counts for nobody.
        let from_proxy = self.trusted.contains(addresses.0.ip());
        if !from_proxy && self.trusted.contains(remote.ip()) && self.turns_away(&stream, addresses.0.ip()) {
            return None;
        }
        if !from_proxy && permit.set_client(addresses.0.ip()).is_err() {
            self.refuse(&stream, addresses.0, "too many connections from one address");
            return None;
        }
        let (stream, tls) = self.handshake(stream, tls, addresses.0).await?;
        let session = SessionId::random().ok()?;
        Some((stream, ClientInfo { remote: addresses.0, local: addresses.1, tls, session }, permit))
    }

    async fn handshake(
        &self,
        stream: TcpStream,
        told: Option<TlsFacts>,
        remote: SocketAddr,
    ) -> Option<(BoxStream, Option<TlsFacts>)> {
        let stream: BoxStream = Box::new(stream);
        let Some(tls) = &self.tls else { return Some((stream, told)) };
        match tls.accept(stream).await {
            Ok((stream, facts)) => Some((stream, Some(facts))),
            Err(error) => {
                tracing::debug!(port = self.name, %remote, %error, "tls handshake failed");
                None
            }
        }
    }

    fn refuse(&self, stream: &TcpStream, remote: SocketAddr, why: &str) {
        tracing::info!(port = self.name, %remote, why, "connection refused");
        self.say(stream, self.words.over_limit);
    }

    /// Refuses whom the gate refuses. The gate counts them; a line in the log for each would help them.
    fn turns_away(&self, stream: &TcpStream, client: IpAddr) -> bool {
        let refusal = self.screen.check(Instant::now(), client);
        match refusal {
            Some(Refusal::Banned(_)) => self.say(stream, self.words.banned),
            Some(Refusal::Blocked) => self.say(stream, self.words.blocked),
            None => {}
        }
        refusal.is_some()
    }

    fn say(&self, stream: &TcpStream, words: &[u8]) {
        if self.tls.is_none() && !words.is_empty() {
            // Straight to the socket, which does not block and whose buffer is empty.
            let _ = SockRef::from(stream).send(words);
        }
    }
}

fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, addr.port()),
        IpAddr::V6(_) => addr,
    }
}
