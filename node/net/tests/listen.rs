//! Client ports: limits, trusted proxies, stopping.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use mailcluster_net::{
    limits::ConnectionLimits,
    listen::{self, ClientPort, Words},
    proxy::TrustedProxies,
};
use mailcluster_screen::{Ban, Gate, Lists, News, Reason};
use mailcluster_types::{BoxStream, ClientInfo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

struct Running {
    addr: SocketAddr,
    shutdown: CancellationToken,
    tasks: TaskTracker,
    seen: Arc<Mutex<Vec<ClientInfo>>>,
}

/// A port that echoes.
fn run(limits: ConnectionLimits, trusted: &[&str]) -> Running {
    run_screened(limits, trusted, &Gate::default())
}

fn run_screened(limits: ConnectionLimits, trusted: &[&str], screen: &Gate) -> Running {
    let listener = listen::bind("127.0.0.1:0".parse::<SocketAddr>().unwrap()).unwrap();
    let (addr, shutdown, tasks) =
        (listener.local_addr().unwrap(), CancellationToken::new(), TaskTracker::new());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let port = ClientPort {
        name: "test",
        limits,
        trusted: Arc::new(TrustedProxies::parse(trusted).unwrap()),
        tls: None,
        screen: screen.clone(),
        words: Words {
            over_limit: b"421 too many\r\n",
            banned: b"421 banned\r\n",
            blocked: b"554 blocked\r\n",
        },
    };
    let log = seen.clone();
    let handler = move |stream: BoxStream, client| {
        log.lock().unwrap().push(client);
        async move {
            let (mut read, mut write) = tokio::io::split(stream);
            let _ = tokio::io::copy(&mut read, &mut write).await;
        }
    };
    tokio::spawn(port.run(listener, shutdown.clone(), tasks.clone(), handler));
    Running { addr, shutdown, tasks, seen }
}

async fn echo(stream: &mut TcpStream, text: &str) -> std::io::Result<String> {
    stream.write_all(text.as_bytes()).await?;
    let mut got = vec![0; text.len()];
    tokio::time::timeout(Duration::from_secs(5), stream.read_exact(&mut got)).await.unwrap()?;
    Ok(String::from_utf8(got).unwrap())
}

async fn all(mut stream: TcpStream) -> String {
    let mut got = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut got)).await.unwrap();
    String::from_utf8(got).unwrap()
}

#[tokio::test]
async fn limits_hold_and_places_come_back() {
    let limits = ConnectionLimits::new(10, 2);
    let running = run(limits.clone(), &[]);
    let mut one = TcpStream::connect(running.addr).await.unwrap();
    let mut two = TcpStream::connect(running.addr).await.unwrap();
    assert_eq!(echo(&mut one, "a").await.unwrap(), "a");
    assert_eq!(echo(&mut two, "b").await.unwrap(), "b");
    assert_eq!(all(TcpStream::connect(running.addr).await.unwrap()).await, "421 too many\r\n");
    drop(one);
    let freed = async {
        while limits.total() > 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), freed).await.unwrap();
    let mut three = TcpStream::connect(running.addr).await.unwrap();
    assert_eq!(echo(&mut three, "c").await.unwrap(), "c");
}

#[tokio::test]
async fn a_trusted_proxy_speaks_for_its_clients() {
    let limits = ConnectionLimits::new(10, 1);
    let running = run(limits, &["127.0.0.0/8"]);
    let header = "PROXY TCP4 203.0.113.5 198.51.100.1 4711 25\r\n";
    let mut one = TcpStream::connect(running.addr).await.unwrap();
    one.write_all(header.as_bytes()).await.unwrap();
    assert_eq!(echo(&mut one, "hello").await.unwrap(), "hello");
    let client = running.seen.lock().unwrap()[0].clone();
    assert_eq!(client.remote, "203.0.113.5:4711".parse().unwrap());
    assert_eq!(client.local, "198.51.100.1:25".parse().unwrap());
    // The same client has one place, whoever carries it; another client has its own.
    let mut two = TcpStream::connect(running.addr).await.unwrap();
    two.write_all(header.as_bytes()).await.unwrap();
    assert_eq!(all(two).await, "421 too many\r\n");
    let mut three = TcpStream::connect(running.addr).await.unwrap();
    three.write_all(header.replace("203.0.113.5", "203.0.113.6").as_bytes()).await.unwrap();
    assert_eq!(echo(&mut three, "hi").await.unwrap(), "hi");
    // One without a header is not served.
    let mut four = TcpStream::connect(running.addr).await.unwrap();
    four.write_all(b"EHLO example.org\r\n").await.unwrap();
    assert_eq!(all(four).await, "");
}

#[tokio::test]
async fn from_all_others_a_header_is_just_octets() {
    let running = run(ConnectionLimits::new(10, 10), &["192.0.2.0/24"]);
    let mut one = TcpStream::connect(running.addr).await.unwrap();
    let header = "PROXY TCP4 203.0.113.5 198.51.100.1 4711 25\r\n";
    assert_eq!(echo(&mut one, header).await.unwrap(), header);
    assert!(running.seen.lock().unwrap()[0].remote.ip().is_loopback());
}

#[tokio::test]
async fn stopping_lets_sessions_end() {
    let running = run(ConnectionLimits::new(10, 10), &[]);
    let mut one = TcpStream::connect(running.addr).await.unwrap();
    assert_eq!(echo(&mut one, "a").await.unwrap(), "a");
    running.shutdown.cancel();
    let refused = async { while TcpStream::connect(running.addr).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(5), refused).await.unwrap();
    assert_eq!(echo(&mut one, "b").await.unwrap(), "b");
    running.tasks.close();
    drop(one);
    tokio::time::timeout(Duration::from_secs(5), running.tasks.wait()).await.unwrap();
}

#[test]
fn the_limit_of_open_files_is_raised() {
    let (_, most) = listen::raise_nofile().unwrap();
    assert_eq!(listen::raise_nofile().unwrap().0, most);
}

fn ban(network: &str) -> News {
    let network = network.parse().unwrap();
    News::Banned(Ban { network, remaining: Duration::from_secs(600), reason: Reason::Logins })
}

/// All that is said before the connection ends.
async fn said(mut stream: TcpStream) -> String {
    let mut all = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut all));
    let _reset_is_an_end_too = read.await.unwrap();
    String::from_utf8(all).unwrap()
}

#[tokio::test]
async fn who_is_banned_is_told_so_and_served_by_nobody() {
    let screen = Gate::new(Lists::parse(&[], &["127.0.0.1/32"]).unwrap());
    let port = run_screened(ConnectionLimits::new(10, 10), &[], &screen);
    assert_eq!(said(TcpStream::connect(port.addr).await.unwrap()).await, "554 blocked\r\n");
    let screen = Gate::new(Lists::default());
    let port = run_screened(ConnectionLimits::new(10, 10), &[], &screen);
    let mut before = TcpStream::connect(port.addr).await.unwrap();
    assert_eq!(echo(&mut before, "hello").await.unwrap(), "hello");
    screen.heed(Instant::now(), ban("127.0.0.1/32"));
    assert_eq!(said(TcpStream::connect(port.addr).await.unwrap()).await, "421 banned\r\n");
    assert_eq!(echo(&mut before, "still").await.unwrap(), "still", "a session that is served goes on");
    assert_eq!(port.seen.lock().unwrap().len(), 1);
    assert_eq!(screen.counts(Instant::now()).unwrap().banned, 1);
}

#[tokio::test]
async fn behind_a_proxy_the_client_is_banned_and_the_proxy_never() {
    let screen = Gate::new(Lists::parse(&["127.0.0.1/32"], &[]).unwrap());
    let port = run_screened(ConnectionLimits::new(10, 10), &["127.0.0.1/32"], &screen);
    screen.heed(Instant::now(), ban("192.0.2.1/32"));
    screen.heed(Instant::now(), ban("127.0.0.0/8"));
    for (client, expected) in [("192.0.2.1", "421 banned\r\n"), ("192.0.2.2", "hello")] {
        let mut stream = TcpStream::connect(port.addr).await.unwrap();
        stream.write_all(format!("PROXY TCP4 {client} 192.0.2.9 1 2\r\n").as_bytes()).await.unwrap();
        if expected == "hello" {
            assert_eq!(echo(&mut stream, "hello").await.unwrap(), "hello", "{client}");
        } else {
            assert_eq!(said(stream).await, expected, "{client}");
        }
    }
}
