//! `Backends` for a cluster: mutual TLS to whoever serves the store now.

use std::{
    hash::{BuildHasher, RandomState},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::BytesMut;
use mailcluster_types::{
    AccountId, Backends, BoxStream, ClientInfo, Epoch, OpenError, Protocol, Route, StoreName,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Semaphore,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{Reach, Refusal, RouteTable, reach::ReachBook};
use crate::{
    mtls::{Expect, Identity, Role},
    proxy::{Header, Private},
    stream::Prefixed,
};

/// Longest wait for TCP and TLS, for the greeting, and for all of it with one further try. A frontend answers its
/// client within 5 s.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
const GREETING_LIMIT: Duration = Duration::from_secs(2);
const OPEN_LIMIT: Duration = Duration::from_millis(4500);
/// Longest first line of a greeting.
const MAX_GREETING: usize = 1024;
/// Probes at the same time.
const MAX_PROBES: usize = 32;

/// The ports of a backend pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackendPorts {
    /// LMTP.
    pub lmtp: u16,
    /// IMAP.
    pub imap: u16,
    /// POP3.
    pub pop3: u16,
    /// ManageSieve.
    pub managesieve: u16,
}

impl Default for BackendPorts {
    fn default() -> Self {
        Self { lmtp: 11024, imap: 11143, pop3: 11110, managesieve: 11190 }
    }
}

impl BackendPorts {
    /// The port of a protocol.
    #[must_use]
    pub fn of(self, protocol: Protocol) -> u16 {
        match protocol {
            Protocol::Lmtp => self.lmtp,
            Protocol::Imap => self.imap,
            Protocol::Pop3 => self.pop3,
            Protocol::ManageSieve => self.managesieve,
        }
    }
}

/// Reaches the stores of a cluster. Cheap to clone.
#[derive(Clone)]
pub struct RemoteBackends(Arc<Inner>);

struct Inner {
    routes: RouteTable,
    identity: Identity,
    ports: BackendPorts,
    reach: ReachBook,
    shuffle: RandomState,
    turn: AtomicU64,
}

/// What an attempt is for.
struct Call<'a> {
    protocol: Protocol,
    account: Option<AccountId>,
    /// `None`: a probe, nobody's session.
    client: Option<&'a ClientInfo>,
}

/// Why one attempt failed.
enum Failed {
    Network(String),
    Refused(Refusal),
}

impl RemoteBackends {
    /// Opens connections by `routes` as `identity`, to the usual ports.
    #[must_use]
    pub fn new(routes: RouteTable, identity: Identity) -> Self {
        Self::with_ports(routes, identity, BackendPorts::default())
    }

    /// The same with other ports.
    #[must_use]
    pub fn with_ports(routes: RouteTable, identity: Identity, ports: BackendPorts) -> Self {
        let (reach, shuffle, turn) = (ReachBook::default(), RandomState::new(), AtomicU64::new(0));
        Self(Arc::new(Inner { routes, identity, ports, reach, shuffle, turn }))
    }

    /// The routes it goes by.
    #[must_use]
    pub fn routes(&self) -> &RouteTable {
        &self.0.routes
    }

    /// Which stores answered, for the operator's second path of detection.
    #[must_use]
    pub fn reachability(&self) -> Vec<Reach> {
        self.0.reach.report(Instant::now())
    }

    /// Asks every store that was not heard of for `every` whether it serves, until `shutdown`. Spawn it.
    pub async fn run_probes(self, every: Duration, shutdown: CancellationToken) {
        let mut tick = tokio::time::interval(every);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => self.probe_all(every).await,
                () = shutdown.cancelled() => return,
            }
        }
    }

    /// Asks once every store that was not heard of for `age`.
    pub async fn probe_all(&self, age: Duration) {
        let routes = self.0.routes.all();
        self.0.reach.keep_only(|store| routes.iter().any(|r| r.store == *store));
        let (mut probes, room) = (JoinSet::new(), Arc::new(Semaphore::new(MAX_PROBES)));
        for route in routes {
            if self.0.reach.is_fresh(&route.store, age, Instant::now()) {
                continue;
            }
            let (this, room) = (self.clone(), room.clone());
            probes.spawn(async move {
                let _permit = room.acquire().await;
                let call = Call { protocol: Protocol::Lmtp, account: None, client: None };
                let _ = this.follow(route, &call).await;
            });
        }
        probes.join_all().await;
    }

    /// One attempt, and a second one when the first told or met a newer route.
    async fn follow(&self, route: Route, call: &Call<'_>) -> Result<BoxStream, OpenError> {
        let store = route.store.clone();
        let failed = match self.attempt_noted(&route, call).await {
            Ok(stream) => return Ok(stream),
            Err(failed) => failed,
        };
        if let Failed::Refused(refusal) = &failed
            && refusal.epoch > route.epoch
        {
            self.route_hint(&store, refusal.epoch, refusal.endpoint);
        }
        let failed = match self.0.routes.get(&store) {
            Some(newer) if newer != route => match self.attempt_noted(&newer, call).await {
                Ok(stream) => return Ok(stream),
                Err(failed) => failed,
            },
            _ => failed,
        };
        let reason = match failed {
            Failed::Network(reason) => reason,
            Failed::Refused(refusal) => format!("refused: {}", refusal.reason),
        };
        Err(OpenError::Unreachable { store, reason })
    }

    async fn attempt_noted(&self, route: &Route, call: &Call<'_>) -> Result<BoxStream, Failed> {
        let result = self.attempt(route, call).await;
        self.0.reach.note(&route.store, route.epoch, result.is_ok(), Instant::now());
        result
    }

    async fn attempt(&self, route: &Route, call: &Call<'_>) -> Result<BoxStream, Failed> {
        let network = |e: &dyn std::fmt::Display| Failed::Network(e.to_string());
        let addr = SocketAddr::new(route.endpoint.ip(), self.0.ports.of(call.protocol));
        let expect = Expect { role: Role::Backend, store: Some(route.store.clone()) };
        let connected = self.0.identity.connect(addr, &expect, CONNECT_LIMIT).await;
        let (mut stream, _) = connected.map_err(|e| network(&e))?;
        let header = Header {
            local: call.client.is_none(),
            addresses: call.client.map(|c| (c.remote, c.local)),
            tls: call.client.and_then(|c| c.tls.clone()),
            private: Private {
                cluster: Some(self.0.identity.me().cluster),
                store: Some(route.store.clone()),
                epoch: Some(route.epoch),
                account: call.account,
                session: call.client.map(|c| c.session),
            },
        };
        let opening = async {
            stream.write_all(&header.encode()).await?;
            stream.flush().await?;
            first_line(&mut stream).await
        };
        let read = tokio::time::timeout(GREETING_LIMIT, opening).await;
        let read = read.map_err(|_| network(&"no greeting in time"))?.map_err(|e| network(&e))?;
        match Refusal::parse(call.protocol, &read) {
            Some(refusal) => Err(Failed::Refused(refusal)),
            None => Ok(Box::new(Prefixed::new(read.freeze(), stream))),
        }
    }
}

/// Reads until the first LF is in, and perhaps more.
async fn first_line(stream: &mut BoxStream) -> std::io::Result<BytesMut> {
    let mut buffer = BytesMut::with_capacity(256);
    while memchr::memchr(b'\n', &buffer).is_none() {
        if buffer.len() > MAX_GREETING {
            return Err(std::io::Error::other("greeting too long"));
        }
        if stream.read_buf(&mut buffer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(buffer)
}

#[async_trait]
impl Backends for RemoteBackends {
    async fn open(
        &self,
        store: &StoreName,
        protocol: Protocol,
        account: Option<AccountId>,
        client: &ClientInfo,
    ) -> Result<BoxStream, OpenError> {
        let route = self.0.routes.get(store).ok_or_else(|| OpenError::NoRoute(store.clone()))?;
        let call = Call { protocol, account, client: Some(client) };
        match tokio::time::timeout(OPEN_LIMIT, self.follow(route, &call)).await {
            Ok(result) => result,
            Err(_) => {
                Err(OpenError::Unreachable { store: store.clone(), reason: "no answer in time".to_owned() })
            }
        }
    }

    fn hand_off_candidates(&self, except: &StoreName, limit: usize) -> Vec<StoreName> {
        let turn = self.0.turn.fetch_add(1, Ordering::Relaxed);
        let mut stores: Vec<(bool, u64, StoreName)> = self
            .0
            .routes
            .all()
            .into_iter()
            .map(|route| route.store)
            // The directory's store takes no mail.
            .filter(|store| store != except && !store.as_str().ends_with("-directory"))
            .map(|store| (self.0.reach.is_bad(&store), self.0.shuffle.hash_one((turn, &store)), store))
            .collect();
        stores.sort();
        stores.into_iter().take(limit).map(|(_, _, store)| store).collect()
    }

    fn is_away(&self, store: &StoreName) -> bool {
        let route = self.0.routes.get(store);
        route.is_some_and(|route| self.0.reach.is_away(store, route.epoch, Instant::now()))
    }

    fn route_hint(&self, store: &StoreName, epoch: Epoch, endpoint: Option<SocketAddr>) {
        // Without an address the one who told it serves at that epoch itself.
        let Some(endpoint) = endpoint.or_else(|| self.0.routes.get(store).map(|r| r.endpoint)) else {
            return;
        };
        if self.0.routes.set(Route { store: store.clone(), epoch, endpoint }) {
            tracing::info!(%store, epoch, %endpoint, "followed a hint to a newer route");
        }
    }
}
