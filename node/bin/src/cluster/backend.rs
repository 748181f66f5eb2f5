//! `backend`: one store, served to frontends over mutual TLS.

use std::sync::Arc;

use anyhow::Result;
use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use mailcluster_api::ports;
use mailcluster_arbiter::StatusHandle;
use mailcluster_backend::{
    Peer, SessionContext, SessionLimits, imap, lmtp, managesieve, pop3, sieve::Sending,
};
use mailcluster_directory::{RemoteConfig, RemoteDirectory, RemoteFeed, serve::StoreAdminServer, sync};
use mailcluster_net::{
    limits::ConnectionLimits,
    remote::{Admitted, BackendPort, RemoteBackends},
};
use mailcluster_queue::QueueConfig;
use mailcluster_store::{Store, keep_retention};
use mailcluster_types::{Backends, BoxStream, Directory, Protocol};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    channel::DirectoryChannel,
    grpc::{Changing, peer_check},
    heard::Heard,
    pod::Pod,
    routes::Routes,
    store_pod::{self, PodAdmission},
};
use crate::{args::StorePodArgs, holder::Service, metrics, way_out};

/// Connections in all, and from one pod.
const CONNECTIONS: (usize, usize) = (50_000, 25_000);

/// Runs until SIGTERM.
pub async fn run(options: StorePodArgs) -> Result<()> {
    let pod = Pod::start(&options.config).await?;
    let out = way_out::of_config(pod.config.outbound.as_ref(), &pod.hostname)?;
    let queue = QueueConfig { out, ..QueueConfig::new(pod.hostname.clone()) };
    let routes = Routes::follow(&pod, Some(queue.handle.clone()));
    let source = Arc::new(DirectoryChannel::new(routes.clone(), pod.identity.clone()));
    let directory = RemoteDirectory::start(source.clone(), RemoteConfig::default(), pod.shutdown.clone())?;
    let sending = Sending { directory: Some(directory.clone()), to_other_sites: queue.out.is_some() };
    let backends = Arc::new(RemoteBackends::new(routes.mail.clone(), pod.identity.clone()));
    let changing = Changing::new();
    let current = Arc::new(Current::default());
    let role = MailRole {
        current: current.clone(),
        feed: Arc::new(RemoteFeed::new(source)),
        directory,
        backends,
        queue,
        changing: changing.clone(),
    };
    metrics::register_queue(&pod.registry, role.queue.handle.clone())?;
    let over = CancellationToken::new();
    let holder = store_pod::start(&pod, &options.replica, Arc::new(role), (&routes, &changing), &over)?;
    let admission = Arc::new(PodAdmission {
        cluster: pod.cluster,
        store: store_pod::section(&pod)?.store.as_str().into(),
        status: holder.status.clone(),
        gate: holder.gate.clone(),
        routes,
    });
    let (limits, status) = (Arc::new(SessionLimits::default()), holder.status.clone());
    let sessions = Sessions { pod: &pod, admission, current, limits, status, sending };
    for (protocol, port) in [
        (Protocol::Lmtp, ports::BACKEND_LMTP),
        (Protocol::Imap, ports::BACKEND_IMAP),
        (Protocol::Pop3, ports::BACKEND_POP3),
        (Protocol::ManageSieve, ports::BACKEND_SIEVE),
    ] {
        sessions.serve(protocol, port)?;
    }
    store_pod::finish(&pod, holder, &over).await
}

/// What sessions stand on.
#[derive(Default)]
struct Current {
    /// The store while it serves, and what is cancelled when it ends.
    serving: ArcSwapOption<(Store, CancellationToken)>,
    /// Sessions under way.
    sessions: TaskTracker,
}

/// What begins and ends with the store.
struct MailRole {
    current: Arc<Current>,
    feed: Arc<RemoteFeed>,
    directory: Arc<dyn Directory>,
    backends: Arc<dyn Backends>,
    queue: QueueConfig,
    changing: Changing,
}

#[async_trait]
impl Service for MailRole {
    async fn start(&self, store: Store, over: CancellationToken) {
        self.current.sessions.reopen();
        self.current.serving.store(Some(Arc::new((store.clone(), over.clone()))));
        self.changing.set(Some(StoreAdminServer::routes(store.clone(), peer_check())));
        tokio::spawn(sync::run(store.clone(), self.feed.clone(), over.clone()));
        tokio::spawn(over.clone().run_until_cancelled_owned(keep_retention(store.clone())));
        let (directory, backends) = (self.directory.clone(), self.backends.clone());
        let queue = self.queue.clone();
        tokio::spawn(async move { mailcluster_queue::run(queue, store, directory, backends, over).await });
    }

    async fn drained(&self) {
        self.current.sessions.close();
        self.current.sessions.wait().await;
    }

    async fn stop(&self) {
        self.current.serving.store(None);
        self.changing.set(None);
    }
}

struct Sessions<'a> {
    pod: &'a Pod,
    admission: Arc<PodAdmission>,
    current: Arc<Current>,
    limits: Arc<SessionLimits>,
    status: StatusHandle,
    sending: Sending,
}

impl Sessions<'_> {
    fn serve(&self, protocol: Protocol, port: u16) -> Result<()> {
        let listener = self.pod.listen(port)?;
        let backend = BackendPort {
            identity: self.pod.identity.clone(),
            admission: self.admission.clone(),
            protocol,
            limits: ConnectionLimits::new(CONNECTIONS.0, CONNECTIONS.1),
        };
        let (current, hostname) = (self.current.clone(), self.pod.hostname.clone());
        let (limits, status, sending) = (self.limits.clone(), self.status.clone(), self.sending.clone());
        let handler = move |admitted: Admitted| {
            let (current, hostname, limits) = (current.clone(), hostname.clone(), limits.clone());
            let sending = sending.clone();
            let stream: BoxStream = Box::new(Heard { stream: admitted.stream, status: status.clone() });
            async move {
                let _under_way = current.sessions.token();
                // Between the admission and now the store may have stopped, or another epoch's may have begun: the
                // epoch that was agreed on counts. Then the connection just closes.
                let serving =
                    current.serving.load_full().filter(|serving| serving.0.epoch() == admitted.epoch);
                let Some(serving) = serving else { return };
                let (store, shutdown) = (*serving).clone();
                let context = SessionContext {
                    store,
                    peer: Peer::Ours,
                    account: admitted.account,
                    client: admitted.client,
                    hostname,
                    directory: None,
                    sending,
                    shutdown,
                    limits,
                };
                match protocol {
                    Protocol::Lmtp => lmtp::serve(stream, context).await,
                    Protocol::Imap => imap::serve(stream, context).await,
                    Protocol::Pop3 => pop3::serve(stream, context).await,
                    Protocol::ManageSieve => managesieve::serve(stream, context).await,
                }
            }
        };
        tokio::spawn(backend.run(listener, self.pod.shutdown.clone(), TaskTracker::new(), handler));
        Ok(())
    }
}
