//! The backends of a standalone node: one store in the same process, reached by in-memory pipes that carry the
//! same bytes as the network would.

use std::{net::SocketAddr, sync::Arc};

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use mailcluster_backend::{
    Peer, SessionContext, SessionLimits, imap, lmtp, managesieve, pop3, sieve::Sending,
};
use mailcluster_store::Store;
use mailcluster_types::{
    AccountId, Backends, BoxStream, ClientInfo, Directory, Epoch, OpenError, Protocol, StoreName,
};
use tokio_util::sync::CancellationToken;

/// Octets buffered in each direction of a pipe.
const PIPE: usize = 64 << 10;

/// The one store of this process, while it serves.
#[derive(Clone)]
pub struct LocalStore {
    /// The store.
    pub store: Store,
    /// Cancelled when it stops serving.
    pub stopped: CancellationToken,
}

/// [`Backends`] over the store of this process.
pub struct LocalBackends {
    name: StoreName,
    hostname: Arc<str>,
    limits: Arc<SessionLimits>,
    /// Mail to other sites is sent.
    sends_out: bool,
    current: ArcSwapOption<LocalStore>,
    directory: ArcSwapOption<Arc<dyn Directory>>,
}

impl LocalBackends {
    /// No store serves yet. Mail to other sites is not sent.
    pub fn new(name: StoreName, hostname: Arc<str>, limits: Arc<SessionLimits>) -> Self {
        let (current, directory) = (ArcSwapOption::empty(), ArcSwapOption::empty());
        Self { name, hostname, limits, sends_out: false, current, directory }
    }

    /// The same, where the queue sends mail to other sites or not.
    pub fn sending_out(self, sends_out: bool) -> Self {
        Self { sends_out, ..self }
    }

    /// The directory that resolves plain LMTP recipients.
    pub fn set_directory(&self, directory: Arc<dyn Directory>) {
        self.directory.store(Some(Arc::new(directory)));
    }

    /// The store serves, or has stopped (`None`).
    pub fn set(&self, store: Option<LocalStore>) {
        self.current.store(store.map(Arc::new));
    }

    /// The store, while it serves.
    pub fn store(&self) -> Option<Store> {
        self.current.load_full().map(|local| local.store.clone())
    }

    /// What a session of the current store is given; `None` while none serves.
    pub fn context(
        &self,
        peer: Peer,
        account: Option<AccountId>,
        client: &ClientInfo,
    ) -> Option<SessionContext> {
        let local = self.current.load_full()?;
        Some(SessionContext {
            store: local.store.clone(),
            peer,
            account,
            client: client.clone(),
            hostname: self.hostname.clone(),
            directory: self.directory.load_full().map(|directory| (*directory).clone()),
            sending: Sending {
                directory: self.directory.load_full().map(|directory| (*directory).clone()),
                to_other_sites: self.sends_out,
            },
            shutdown: local.stopped.clone(),
            limits: self.limits.clone(),
        })
    }
}

#[async_trait]
impl Backends for LocalBackends {
    async fn open(
        &self,
        store: &StoreName,
        protocol: Protocol,
        account: Option<AccountId>,
        client: &ClientInfo,
    ) -> Result<BoxStream, OpenError> {
        let context = self.context(Peer::Ours, account, client).filter(|_| *store == self.name);
        let context = context.ok_or_else(|| OpenError::NoRoute(store.clone()))?;
        let (near, far) = tokio::io::duplex(PIPE);
        let far: BoxStream = Box::new(far);
        match protocol {
            Protocol::Lmtp => tokio::spawn(lmtp::serve(far, context)),
            Protocol::Imap => tokio::spawn(imap::serve(far, context)),
            Protocol::Pop3 => tokio::spawn(pop3::serve(far, context)),
            Protocol::ManageSieve => tokio::spawn(managesieve::serve(far, context)),
        };
        Ok(Box::new(near))
    }

    fn hand_off_candidates(&self, except: &StoreName, limit: usize) -> Vec<StoreName> {
        if *except == self.name || limit == 0 { Vec::new() } else { vec![self.name.clone()] }
    }

    fn route_hint(&self, _: &StoreName, _: Epoch, _: Option<SocketAddr>) {}
}
