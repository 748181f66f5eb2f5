//! The backend's side: who connects, for which store, at which epoch, on behalf of whom.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use mailcluster_types::{AccountId, BoxStream, ClientInfo, ClusterId, Epoch, Protocol, SessionId, StoreName};
use tokio::{io::AsyncWriteExt, net::TcpListener};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::Refusal;
use crate::{
    limits::ConnectionLimits,
    listen,
    mtls::{Identity, Peer, Role},
    proxy::{self, Header},
};

/// Longest wait for the opening header, and for the peer to take a refusal.
const HEADER_LIMIT: Duration = Duration::from_secs(5);

/// What a backend serves now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Serving {
    /// The cluster.
    pub cluster: ClusterId,
    /// The store.
    pub store: StoreName,
    /// Its epoch.
    pub epoch: Epoch,
}

/// Knows what this backend serves; asked for every connection. Must not block.
pub trait Admission: Send + Sync + 'static {
    /// What is served now.
    ///
    /// # Errors
    /// The store is not served here now; the refusal tells the epoch and the endpoint it knows of.
    fn serving(&self) -> Result<Serving, Refusal>;

    /// A peer with a certificate of ours asked for a higher epoch of this store: someone else may hold it.
    fn higher_epoch_seen(&self, epoch: Epoch) {
        let _ = epoch;
    }
}

/// A connection that is verified, for this store and epoch, positioned before the greeting we send.
pub struct Admitted {
    /// The octets.
    pub stream: BoxStream,
    /// The client behind the peer.
    pub client: ClientInfo,
    /// The account it logged in to; `None` for LMTP.
    pub account: Option<AccountId>,
    /// The pod that connects.
    pub peer: Peer,
    /// The epoch both sides agreed on.
    pub epoch: Epoch,
}

/// A backend's port of one protocol.
#[derive(Clone)]
pub struct BackendPort {
    /// Who we are.
    pub identity: Identity,
    /// What we serve.
    pub admission: Arc<dyn Admission>,
    /// What is spoken here.
    pub protocol: Protocol,
    /// Bounds connections; `per_client` counts pods.
    pub limits: ConnectionLimits,
}

impl BackendPort {
    /// Accepts until `shutdown` is cancelled and hands each admitted connection to `handler` in a task of `tasks`.
    pub async fn run<H, F>(
        self,
        listener: TcpListener,
        shutdown: CancellationToken,
        tasks: TaskTracker,
        handler: H,
    ) where
        H: Fn(Admitted) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        loop {
            let (stream, remote) = tokio::select! {
                accepted = listen::accept(&listener) => accepted,
                () = shutdown.cancelled() => return,
            };
            let Ok(permit) = self.limits.acquire(remote.ip()) else {
                tracing::warn!(%remote, protocol = ?self.protocol, "too many connections");
                continue;
            };
            let local = stream.local_addr().unwrap_or(remote);
            let (port, handler) = (self.clone(), handler.clone());
            tasks.spawn(async move {
                let _permit = permit;
                if let Some(admitted) = port.accept(Box::new(stream), remote, local).await {
                    handler(admitted).await;
                }
            });
        }
    }

    /// Verifies one connection. `None`: it was refused, told why when it is one of ours, and closed.
    pub async fn accept(&self, stream: BoxStream, remote: SocketAddr, local: SocketAddr) -> Option<Admitted> {
        let (mut stream, peer) = match self.identity.accept(stream, self.roles()).await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%remote, protocol = ?self.protocol, %error, "connection refused");
                return None;
            }
        };
        let header = match proxy::read_header(&mut stream, HEADER_LIMIT).await {
            Ok(header) => header,
            Err(error) => {
                tracing::warn!(%remote, %peer, %error, "no proper opening header");
                return None;
            }
        };
        let serving = self.admission.serving();
        if let (Ok(serving), Some(epoch)) = (&serving, header.private.epoch)
            && header.private.store.as_ref() == Some(&serving.store)
            && epoch > serving.epoch
        {
            self.admission.higher_epoch_seen(epoch);
        }
        let serving = match serving.and_then(|s| check(&s, &header, self.protocol).map(|()| s)) {
            Ok(serving) => serving,
            Err(refusal) => {
                tracing::info!(%peer, epoch = refusal.epoch, reason = refusal.reason, "connection refused");
                close_with(stream, &refusal.greeting(self.protocol)).await;
                return None;
            }
        };
        if header.local {
            // A probe: it only asks whether the store is served.
            close_with(stream, probe_answer(self.protocol)).await;
            return None;
        }
        let (remote, local) = header.addresses.unwrap_or((remote, local));
        let session = header.private.session.or_else(|| SessionId::random().ok())?;
        let client = ClientInfo { remote, local, tls: header.tls, session };
        Some(Admitted { stream, client, account: header.private.account, peer, epoch: serving.epoch })
    }

    /// Backends hand mail off by LMTP; sessions of users come from frontends alone.
    fn roles(&self) -> &'static [Role] {
        match self.protocol {
            Protocol::Lmtp => &[Role::Frontend, Role::Backend],
            Protocol::Imap | Protocol::Pop3 | Protocol::ManageSieve => &[Role::Frontend],
        }
    }
}

fn probe_answer(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Lmtp => "220 serving\r\n",
        Protocol::Imap => "* OK serving\r\n",
        Protocol::Pop3 => "+OK serving\r\n",
        Protocol::ManageSieve => "OK \"serving\"\r\n",
    }
}

/// Both sides check (cluster, store, epoch), so that an address which went to another store's pod does no harm.
fn check(serving: &Serving, header: &Header, protocol: Protocol) -> Result<(), Refusal> {
    let refuse = |reason: &str, epoch| Err(Refusal { reason: reason.to_owned(), epoch, endpoint: None });
    let claim = &header.private;
    if claim.cluster != Some(serving.cluster) || claim.store.as_ref() != Some(&serving.store) {
        // No epoch: it would be read as one of the store that was asked for.
        return refuse("another store is served here", 0);
    }
    match claim.epoch {
        Some(epoch) if epoch == serving.epoch => {}
        Some(_) => return refuse("another epoch is served here", serving.epoch),
        None => return refuse("the header names no epoch", serving.epoch),
    }
    if protocol != Protocol::Lmtp && !header.local && claim.account.is_none() {
        return refuse("the header names no account", 0);
    }
    Ok(())
}

async fn close_with(mut stream: BoxStream, text: &str) {
    let told = async {
        stream.write_all(text.as_bytes()).await?;
        stream.shutdown().await
    };
    let _ = tokio::time::timeout(HEADER_LIMIT, told).await;
}
