//! Frontends' gates and the directory's judge, over gRPC: one tells the other, and goes on when the other is away.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use common::{WAIT, config, open};
use mailcluster_directory::{
    ChannelSource, DirectoryService, RemoteScreening, ScreeningSource, run_screening,
    serve::{DirectoryServer, PeerCheck, Wish},
};
use mailcluster_screen::{Cidr, Gate, Kind, Lists, Observation, Policy, Reason, Refusal, Verdict};
use mailcluster_store::StoreKind;
use mailcluster_types::Unavailable;
use tempfile::TempDir;
use tokio::{net::TcpListener, runtime::Runtime, sync::watch};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint, Server};

/// Leads to whatever address the test says.
struct Leads(watch::Receiver<Option<SocketAddr>>);

#[async_trait]
impl ChannelSource for Leads {
    async fn channel(&self) -> Result<Channel, Unavailable> {
        let address = (*self.0.borrow()).ok_or_else(|| Unavailable("no route".into()))?;
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        Ok(endpoint.connect_timeout(Duration::from_secs(1)).connect_lazy())
    }
}

/// On threads of its own, which end with it, as a process does: its connections, too.
struct Directory {
    runtime: Option<Runtime>,
    _dir: TempDir,
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Frontends, and the place where the directory is.
struct World {
    place: watch::Sender<Option<SocketAddr>>,
    shutdown: CancellationToken,
}

impl World {
    fn new() -> Self {
        Self { place: watch::Sender::new(None), shutdown: CancellationToken::new() }
    }

    /// A directory that knows nothing takes the place.
    async fn directory(&self) -> Directory {
        let (dir, store) = open(StoreKind::Directory, "t-directory");
        let mut config = config(watch::channel(Vec::new()).1);
        config.screening = Some((Policy::default(), Lists::default()));
        let service = DirectoryService::new(store, config).unwrap();
        let check: PeerCheck = Arc::new(|_, wish| *wish == Wish::Screening);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.place.send_replace(Some(listener.local_addr().unwrap()));
        let routes = DirectoryServer::routes(service, check);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = listener.into_std().unwrap();
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            let incoming = TcpListenerStream::new(listener);
            Server::builder().add_routes(routes).serve_with_incoming(incoming).await.unwrap();
        });
        Directory { runtime: Some(runtime), _dir: dir }
    }

    fn source(&self) -> RemoteScreening {
        RemoteScreening::new(Arc::new(Leads(self.place.subscribe())))
    }

    fn frontend(&self, own: &str) -> Gate {
        let gate = Gate::new(Lists::default());
        gate.set_own([ip(own)]);
        tokio::spawn(run_screening(gate.clone(), Arc::new(self.source()), self.shutdown.clone()));
        gate
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + WAIT;
    while !condition() {
        assert!(Instant::now() < end, "{what}: not in time");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn is_refused(gate: &Gate, client: &str) -> bool {
    gate.check(Instant::now(), ip(client)).is_some()
}

/// So many failed logins, each at another account.
fn guess(gate: &Gate, client: &str, times: u32) {
    for at in 0..times {
        gate.failed(Instant::now(), ip(client), (&format!("user{at}@example.org"), "guess"));
    }
}

#[tokio::test]
async fn what_frontends_see_together_bans_at_all_of_them_and_outlives_the_directory() {
    let world = World::new();
    let first = world.directory().await;
    let gates = ["10.0.0.1", "10.0.0.2"].map(|own| world.frontend(own));
    // Neither has seen enough by itself. The first report may be lost: nobody listens yet.
    until("banned everywhere", || {
        (0..4).for_each(|at| gates[0].failed(Instant::now(), ip("192.0.2.1"), (&format!("a{at}"), "guess")));
        (0..8).for_each(|at| gates[1].failed(Instant::now(), ip("192.0.2.1"), (&format!("b{at}"), "guess")));
        gates.iter().all(|gate| is_refused(gate, "192.0.2.1"))
    })
    .await;
    let banned = gates[0].check(Instant::now(), ip("192.0.2.1"));
    assert_eq!(banned, Some(Refusal::Banned(Reason::Accounts)));
    assert!(gates.iter().all(|gate| !is_refused(gate, "192.0.2.2")), "a neighbour is not meant");

    drop(first);
    world.place.send_replace(None);
    assert!(gates.iter().all(|gate| is_refused(gate, "192.0.2.1")), "bans are kept while it is away");

    let _second = world.directory().await;
    // Whoever comes new hears from the others what the new directory cannot know.
    let late = world.frontend("10.0.0.3");
    until("given back and told", || is_refused(&late, "192.0.2.1")).await;
    let left = late.bans(Instant::now())[0].remaining;
    assert!(left <= Policy::default().first_ban, "{left:?}");
    assert!(gates.iter().all(|gate| is_refused(gate, "192.0.2.1")));
}

#[tokio::test]
async fn a_ban_is_lifted_everywhere_and_own_addresses_are_free_of_it() {
    let world = World::new();
    let _directory = world.directory().await;
    let one = world.frontend("10.0.0.1");
    until("banned", || {
        guess(&one, "10.0.0.2", 20);
        is_refused(&one, "10.0.0.2")
    })
    .await;
    // A frontend of that very address comes up: it was one of ours that was banned.
    let two = world.frontend("10.0.0.2");
    until("lifted", || !is_refused(&one, "10.0.0.2")).await;
    assert!(!is_refused(&two, "10.0.0.2"));
}

#[tokio::test]
async fn an_account_under_attack_is_slow_but_from_where_its_user_logs_in() {
    let world = World::new();
    let _directory = world.directory().await;
    let gate = world.frontend("10.0.0.1");
    let is_slow = |client: &str| {
        matches!(gate.login(Instant::now(), ip(client), "ann@example.org"), Verdict::Delay(..))
    };
    until("slow", || {
        gate.logged_in(ip("203.0.113.1"), "ann@example.org");
        for host in 0..60 {
            let client = IpAddr::from([192, 0, host, 1]);
            gate.failed(Instant::now(), client, ("ann@example.org", "guess"));
        }
        is_slow("198.51.100.1")
    })
    .await;
    until("she is not", || !is_slow("203.0.113.1")).await;
    assert!(!matches!(gate.login(Instant::now(), ip("198.51.100.1"), "bob@example.org"), Verdict::Delay(..)));
}

#[tokio::test]
async fn a_directory_that_does_not_screen_says_so_and_reports_are_for_frontends() {
    let world = World::new();
    let (_dir, store) = open(StoreKind::Directory, "t-directory");
    let off = DirectoryService::new(store, config(watch::channel(Vec::new()).1)).unwrap();
    assert!(ScreeningSource::news(&off, Vec::new()).await.is_err());
    let check: PeerCheck = Arc::new(|_, wish| *wish != Wish::Screening);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    world.place.send_replace(Some(listener.local_addr().unwrap()));
    let routes = DirectoryServer::routes(off, check);
    tokio::spawn(async move {
        let incoming = TcpListenerStream::new(listener);
        Server::builder().add_routes(routes).serve_with_incoming(incoming).await.unwrap();
    });
    let client = Cidr::address(ip("192.0.2.1"));
    let seen = Observation { client, kind: Kind::Abuse, account: String::new(), count: 1 };
    let refused = world.source().report(vec![seen], Vec::new()).await.unwrap_err();
    assert!(refused.to_string().contains("role"), "{refused}");
    assert!(world.source().news(Vec::new()).await.is_err());
}
