//! A directory and mail stores in temporary directories.
#![allow(dead_code, missing_docs, clippy::unwrap_used, reason = "tests; each file uses a part")]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use mailcluster_auth::{HashCost, Network, ThrottlePolicy};
use mailcluster_directory::{
    Credential, DirectoryConfig, DirectoryFeed, DirectoryService, NewAccount, StoreLoad, sync,
};
use mailcluster_store::{Account, Identity, OpenGate, Replica, Store, StoreKind};
use mailcluster_types::{AuthRequest, ClientInfo, ClusterId, ReplicaId, Resolution, SessionId};
use tempfile::TempDir;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

pub const WAIT: Duration = Duration::from_secs(20);

pub fn open(kind: StoreKind, name: &str) -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let identity =
        Identity { cluster: ClusterId(1), store: name.into(), replica: ReplicaId::random().unwrap(), kind };
    let replica = Replica::initialise(dir.path(), &identity).unwrap();
    let store = replica.serve(1, &[identity.replica], Arc::new(OpenGate)).unwrap();
    (dir, store)
}

/// A directory, and the mail stores it knows of.
pub struct World {
    pub directory: DirectoryService,
    pub stores: Vec<Store>,
    pub loads: watch::Sender<Vec<StoreLoad>>,
    pub shutdown: CancellationToken,
    dirs: Vec<TempDir>,
}

pub fn config(loads: watch::Receiver<Vec<StoreLoad>>) -> DirectoryConfig {
    DirectoryConfig {
        hash_cost: HashCost::cheapest(),
        reject_floor: Duration::ZERO,
        default_domain: Some("example.org".into()),
        throttle: ThrottlePolicy {
            trusted: vec![Network { address: [127, 0, 0, 1].into(), prefix: 32 }],
            ..ThrottlePolicy::default()
        },
        ..DirectoryConfig::new("mail.example.org", loads)
    }
}

impl World {
    /// A directory that knows `names`; their stores do not follow it until [`Self::sync`].
    pub fn new(names: &[&str]) -> Self {
        Self::with(names, |_| {})
    }

    /// The same with another configuration.
    pub fn with(names: &[&str], change: impl FnOnce(&mut DirectoryConfig)) -> Self {
        let (dir, store) = open(StoreKind::Directory, "t-directory");
        let (mut dirs, mut stores) = (vec![dir], Vec::new());
        for name in names {
            let (dir, store) = open(StoreKind::Mail, name);
            dirs.push(dir);
            stores.push(store);
        }
        let (loads, watched) = watch::channel(names.iter().map(|n| StoreLoad::named((*n).into())).collect());
        let mut config = config(watched);
        change(&mut config);
        let directory = DirectoryService::new(store, config).unwrap();
        Self { directory, stores, loads, shutdown: CancellationToken::new(), dirs }
    }

    /// Every store follows the directory from now on.
    pub fn sync(&self) {
        for store in &self.stores {
            let feed: Arc<dyn DirectoryFeed> = Arc::new(self.directory.clone());
            tokio::spawn(sync::run(store.clone(), feed, self.shutdown.clone()));
        }
    }

    /// With a domain, and stores that follow.
    pub async fn ready(names: &[&str]) -> Self {
        let world = Self::new(names);
        world.sync();
        world.directory.add_domain("test", "example.org").await.unwrap();
        world
    }

    pub async fn add(&self, address: &str) -> Account {
        self.directory.add_account("test", new_account(address)).await.unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

pub fn new_account(address: &str) -> NewAccount {
    NewAccount {
        address: address.into(),
        credential: Credential::Password("secret".into()),
        store: None,
        quota_octets: 0,
        wait: WAIT,
    }
}

pub fn login(user: &str, password: &str, from: &str) -> AuthRequest {
    let remote: SocketAddr = format!("{from}:9").parse().unwrap();
    let client = ClientInfo { remote, local: remote, tls: None, session: SessionId(1) };
    AuthRequest { user: user.into(), password: password.into(), client, service: "imap" }
}

pub fn names(resolution: &Resolution) -> Vec<String> {
    match resolution {
        Resolution::Accounts(accounts) => accounts.iter().map(|a| a.address.to_string()).collect(),
        other => vec![format!("{other:?}")],
    }
}

/// Waits until `check` is true.
pub async fn until<F: Future<Output = bool>>(what: &str, check: impl Fn() -> F) {
    let deadline = Instant::now() + WAIT;
    while !check().await {
        assert!(Instant::now() < deadline, "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Serves `routes` on a unix socket and connects to it.
pub async fn over_socket(
    path: &std::path::Path,
    routes: tonic::service::Routes,
) -> tonic::transport::Channel {
    let listener = tokio::net::UnixListener::bind(path).unwrap();
    tokio::spawn(async move {
        let incoming = tokio_stream::wrappers::UnixListenerStream::new(listener);
        tonic::transport::Server::builder().add_routes(routes).serve_with_incoming(incoming).await.unwrap();
    });
    let uri = format!("unix://{}", path.display());
    tonic::transport::Endpoint::from_shared(uri).unwrap().connect().await.unwrap()
}
