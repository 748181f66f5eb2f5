//! Frontends and backends: routes, opening headers, refusals and hints, probes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod common;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use common::{CLUSTER, Ca, client};
use mailcluster_net::{
    limits::ConnectionLimits,
    listen,
    mtls::{Identity, Role},
    remote::{Admission, Admitted, BackendPort, BackendPorts, Refusal, RemoteBackends, RouteTable, Serving},
};
use mailcluster_types::{AccountId, Backends, Epoch, OpenError, Protocol, Route, StoreName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

struct Fixed {
    state: Mutex<Result<Serving, Refusal>>,
    higher: Mutex<Vec<Epoch>>,
}

impl Admission for Fixed {
    fn serving(&self) -> Result<Serving, Refusal> {
        self.state.lock().unwrap().clone()
    }
    fn higher_epoch_seen(&self, epoch: Epoch) {
        self.higher.lock().unwrap().push(epoch);
    }
}

struct Backend {
    addr: SocketAddr,
    admission: Arc<Fixed>,
    seen: Arc<Mutex<Vec<Admitted>>>,
}

fn serving(store: &str, epoch: Epoch) -> Result<Serving, Refusal> {
    Ok(Serving { cluster: CLUSTER, store: store.into(), epoch })
}

/// A backend that greets, and says what it is told.
fn backend(
    identity: Identity,
    protocol: Protocol,
    state: Result<Serving, Refusal>,
    ip: [u8; 4],
    port: u16,
) -> Backend {
    let listener = listen::bind(SocketAddr::from((ip, port))).unwrap();
    let addr = listener.local_addr().unwrap();
    let admission = Arc::new(Fixed { state: Mutex::new(state), higher: Mutex::default() });
    let seen = Arc::new(Mutex::new(Vec::new()));
    let port = BackendPort {
        identity,
        admission: admission.clone(),
        protocol,
        limits: ConnectionLimits::new(100, 100),
    };
    let log = seen.clone();
    let handler = move |mut admitted: Admitted| {
        let log = log.clone();
        async move {
            let greeting: &[u8] = match protocol {
                Protocol::Lmtp => b"220 hello\r\n250 more\r\n",
                Protocol::Imap => b"* OK hello\r\n",
                Protocol::Pop3 => b"+OK hello\r\n",
                Protocol::ManageSieve => b"OK \"hello\"\r\n",
            };
            admitted.stream.write_all(greeting).await.unwrap();
            admitted.stream.shutdown().await.unwrap();
            log.lock().unwrap().push(admitted);
        }
    };
    tokio::spawn(port.run(listener, CancellationToken::new(), TaskTracker::new(), handler));
    Backend { addr, admission, seen }
}

fn ports(addr: SocketAddr) -> BackendPorts {
    BackendPorts { lmtp: addr.port(), imap: addr.port(), pop3: addr.port(), managesieve: addr.port() }
}

fn route(store: &str, epoch: Epoch, endpoint: SocketAddr) -> Route {
    Route { store: store.into(), epoch, endpoint }
}

fn frontend(ca: &Ca, addr: SocketAddr, routes: &[Route]) -> RemoteBackends {
    let table = RouteTable::new();
    routes.iter().for_each(|r| assert!(table.set(r.clone())));
    RemoteBackends::with_ports(table, ca.identity(Role::Frontend, None), ports(addr))
}

async fn all(mut stream: mailcluster_types::BoxStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

fn unreachable(error: &OpenError) -> &str {
    match error {
        OpenError::Unreachable { reason, .. } => reason,
        OpenError::NoRoute(_) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_session_arrives_with_all_that_is_known_of_it() {
    let ca = Ca::new();
    let backend = backend(
        ca.identity(Role::Backend, Some("m-0")),
        Protocol::Imap,
        serving("m-0", 5),
        [127, 0, 0, 1],
        0,
    );
    let backends = frontend(&ca, backend.addr, &[route("m-0", 5, backend.addr)]);
    let mut told = client();
    told.tls = Some(mailcluster_types::TlsFacts {
        version: "TLSv1.3".into(),
        cipher: "TLS13_AES_256_GCM_SHA384".into(),
        sni: Some("mail.example.org".into()),
    });
    let stream = backends.open(&"m-0".into(), Protocol::Imap, Some(AccountId(9)), &told).await.unwrap();
    assert_eq!(all(stream).await, "* OK hello\r\n");
    let seen = backend.seen.lock().unwrap();
    assert_eq!((&seen[0].client, seen[0].account, seen[0].epoch), (&told, Some(AccountId(9)), 5));
    assert_eq!(seen[0].peer.role, Role::Frontend);
    let reach = backends.reachability();
    assert!(reach[0].ok && reach[0].epoch == 5 && reach[0].store == "m-0".into());
}

#[tokio::test]
async fn no_route_and_no_listener() {
    let ca = Ca::new();
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
    let backends = frontend(&ca, nowhere, &[route("m-0", 1, nowhere)]);
    let error = backends.open(&"m-9".into(), Protocol::Lmtp, None, &client()).await.err().unwrap();
    assert_eq!(error, OpenError::NoRoute("m-9".into()));
    let error = backends.open(&"m-0".into(), Protocol::Lmtp, None, &client()).await.err().unwrap();
    unreachable(&error);
    assert!(!backends.reachability()[0].ok);
}

#[tokio::test]
async fn a_higher_epoch_told_by_the_store_itself_is_followed_once() {
    let ca = Ca::new();
    for protocol in [Protocol::Lmtp, Protocol::Imap, Protocol::Pop3, Protocol::ManageSieve] {
        let identity = ca.identity(Role::Backend, Some("m-0"));
        let backend = backend(identity, protocol, serving("m-0", 7), [127, 0, 0, 1], 0);
        let backends = frontend(&ca, backend.addr, &[route("m-0", 5, backend.addr)]);
        let stream = backends.open(&"m-0".into(), protocol, Some(AccountId(1)), &client()).await.unwrap();
        assert!(all(stream).await.contains("hello"));
        assert_eq!(backends.routes().get(&"m-0".into()).unwrap().epoch, 7);
    }
}

#[tokio::test]
async fn the_old_holder_sends_on_to_the_new_one() {
    let ca = Ca::new();
    let identity = ca.identity(Role::Backend, Some("m-0"));
    let new = backend(identity.clone(), Protocol::Lmtp, serving("m-0", 8), [127, 0, 0, 2], 0);
    let moved = Refusal { reason: "moved".into(), epoch: 8, endpoint: Some(new.addr) };
    let old = backend(identity, Protocol::Lmtp, Err(moved), [127, 0, 0, 1], new.addr.port());
    let backends = frontend(&ca, new.addr, &[route("m-0", 7, old.addr)]);
    let stream = backends.open(&"m-0".into(), Protocol::Lmtp, None, &client()).await.unwrap();
    assert_eq!(all(stream).await, "220 hello\r\n250 more\r\n");
    assert_eq!(backends.routes().get(&"m-0".into()), Some(route("m-0", 8, new.addr)));
}

#[tokio::test]
async fn a_deposed_backend_is_not_followed_and_learns_of_it() {
    let ca = Ca::new();
    let backend = backend(
        ca.identity(Role::Backend, Some("m-0")),
        Protocol::Lmtp,
        serving("m-0", 4),
        [127, 0, 0, 1],
        0,
    );
    let backends = frontend(&ca, backend.addr, &[route("m-0", 5, backend.addr)]);
    let error = backends.open(&"m-0".into(), Protocol::Lmtp, None, &client()).await.err().unwrap();
    assert!(unreachable(&error).contains("epoch=4"), "{error}");
    assert_eq!(backends.routes().get(&"m-0".into()).unwrap().epoch, 5);
    assert_eq!(*backend.admission.higher.lock().unwrap(), [5]);
    assert!(backend.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_address_that_went_to_another_stores_pod_does_no_harm() {
    let ca = Ca::new();
    // Its certificate names another store: TLS is as far as it gets.
    let other = backend(
        ca.identity(Role::Backend, Some("m-1")),
        Protocol::Lmtp,
        serving("m-1", 5),
        [127, 0, 0, 1],
        0,
    );
    let backends = frontend(&ca, other.addr, &[route("m-0", 5, other.addr)]);
    let error = backends.open(&"m-0".into(), Protocol::Lmtp, None, &client()).await.err().unwrap();
    assert!(unreachable(&error).contains("not admitted"), "{error}");
    // And where the certificate fits, the backend itself checks.
    let confused = backend(
        ca.identity(Role::Backend, Some("m-0")),
        Protocol::Lmtp,
        serving("m-1", 9),
        [127, 0, 0, 1],
        0,
    );
    let backends = frontend(&ca, confused.addr, &[route("m-0", 5, confused.addr)]);
    let error = backends.open(&"m-0".into(), Protocol::Lmtp, None, &client()).await.err().unwrap();
    assert!(unreachable(&error).contains("another store"), "{error}");
    assert_eq!(backends.routes().get(&"m-0".into()).unwrap().epoch, 5);
}

#[tokio::test]
async fn sessions_of_users_come_from_frontends_alone_and_name_an_account() {
    let ca = Ca::new();
    let imap = backend(
        ca.identity(Role::Backend, Some("m-0")),
        Protocol::Imap,
        serving("m-0", 1),
        [127, 0, 0, 1],
        0,
    );
    let table = RouteTable::new();
    table.set(route("m-0", 1, imap.addr));
    let sibling =
        RemoteBackends::with_ports(table, ca.identity(Role::Backend, Some("m-1")), ports(imap.addr));
    let error =
        sibling.open(&"m-0".into(), Protocol::Imap, Some(AccountId(1)), &client()).await.err().unwrap();
    unreachable(&error);
    let backends = frontend(&ca, imap.addr, &[route("m-0", 1, imap.addr)]);
    let error = backends.open(&"m-0".into(), Protocol::Imap, None, &client()).await.err().unwrap();
    assert!(unreachable(&error).contains("no account"), "{error}");
    assert!(imap.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn probes_tell_who_serves() {
    let ca = Ca::new();
    let up = backend(
        ca.identity(Role::Backend, Some("m-0")),
        Protocol::Lmtp,
        serving("m-0", 3),
        [127, 0, 0, 1],
        0,
    );
    let down = Err(Refusal { reason: "no lease".into(), epoch: 3, endpoint: None });
    let fenced = backend(
        ca.identity(Role::Backend, Some("m-1")),
        Protocol::Lmtp,
        down,
        [127, 0, 0, 2],
        up.addr.port(),
    );
    let routes =
        [route("m-0", 3, up.addr), route("m-1", 3, fenced.addr), route("m-2", 3, ([127, 0, 0, 3], 1).into())];
    let backends = frontend(&ca, up.addr, &routes);
    backends.probe_all(Duration::from_secs(2)).await;
    let reach: Vec<_> = backends.reachability().into_iter().map(|r| (r.store, r.ok)).collect();
    assert_eq!(reach, [("m-0".into(), true), ("m-1".into(), false), ("m-2".into(), false)]);
    assert!(up.seen.lock().unwrap().is_empty(), "a probe is no session");
    // Those that answer come first, and never the one that is away itself.
    assert_eq!(
        backends.hand_off_candidates(&"m-2".into(), 5),
        ["m-0".into(), "m-1".into()] as [StoreName; 2]
    );
    assert_eq!(backends.hand_off_candidates(&"m-0".into(), 1).len(), 1);
}

#[tokio::test]
async fn hand_off_is_spread() {
    let ca = Ca::new();
    let routes: Vec<_> = (0..5).map(|n| route(&format!("m-{n}"), 1, ([127, 0, 0, 1], 1).into())).collect();
    let backends = frontend(&ca, ([127, 0, 0, 1], 1).into(), &routes);
    backends.routes().set(route("m-directory", 1, ([127, 0, 0, 1], 1).into()));
    let mut first = std::collections::BTreeSet::new();
    for _ in 0..200 {
        let candidates = backends.hand_off_candidates(&"m-0".into(), 10);
        assert_eq!(candidates.len(), 4);
        first.insert(candidates[0].clone());
    }
    assert_eq!(first.len(), 4);
}
