//! POP3 sessions against a real store.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod imap_support;

use std::{
    ops::Add,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use imap_support::World;
use mailcluster_backend::{Peer, SessionContext, pop3};
use mailcluster_store::{Account, Expunge, Gate};
use mailcluster_types::{AccountId, ClientInfo, SessionId};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    task::JoinHandle,
    time::timeout,
};

const LIMIT: Duration = Duration::from_secs(20);

struct Client {
    stream: DuplexStream,
    task: JoinHandle<()>,
}

fn connect_as(world: &World, account: Option<AccountId>) -> Client {
    let address = "127.0.0.1:1".parse().unwrap();
    let context = SessionContext {
        store: world.store.clone(),
        peer: Peer::Ours,
        account,
        client: ClientInfo { remote: address, local: address, tls: None, session: SessionId(1) },
        hostname: "mail.example.org".into(),
        directory: None,
        sending: mailcluster_backend::sieve::Sending::default(),
        shutdown: world.shutdown.clone(),
        limits: Arc::new(world.limits.clone()),
    };
    let (stream, far) = tokio::io::duplex(4096);
    Client { stream, task: tokio::spawn(pop3::serve(Box::new(far), context)) }
}

async fn login(world: &World) -> Client {
    let mut client = connect_as(world, Some(world.account));
    assert!(client.line().await.starts_with("+OK"));
    assert!(client.say("AUTH EXTERNAL YW5u").await.starts_with("+OK"));
    client
}

impl Client {
    async fn send(&mut self, text: &str) {
        timeout(LIMIT, self.stream.write_all(text.as_bytes())).await.unwrap().unwrap();
    }

    async fn line(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let octet = timeout(LIMIT, self.stream.read_u8()).await.expect("nothing is said");
            line.push(octet.unwrap_or_else(|_| panic!("closed after {line:?}")));
        }
        String::from_utf8_lossy(&line[..line.len() - 2]).into_owned()
    }

    async fn say(&mut self, command: &str) -> String {
        self.send(&format!("{command}\r\n")).await;
        self.line().await
    }

    /// The lines of a multi-line answer that has begun, as they stand on the wire.
    async fn lines(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            match self.line().await {
                end if end == "." => return lines,
                line => lines.push(line),
            }
        }
    }

    async fn say_many(&mut self, command: &str) -> Vec<String> {
        let first = self.say(command).await;
        assert!(first.starts_with("+OK"), "{command}: {first}");
        self.lines().await
    }

    /// The session ends without another octet.
    async fn closed(mut self) {
        let mut rest = String::new();
        timeout(LIMIT, self.stream.read_to_string(&mut rest)).await.expect("the session goes on").unwrap();
        assert_eq!(rest, "");
        timeout(LIMIT, self.task).await.expect("the session goes on").unwrap();
    }
}

async fn uids(world: &World) -> Vec<u32> {
    let account = world.account;
    let read = world.store.read(move |view| view.uids(view.mailbox_by_name(account, "INBOX")?.unwrap().id));
    read.await.unwrap()
}

/// The outcome of a change becomes visible off the acknowledgement's path.
async fn until_uids(world: &World, expected: &[u32]) {
    let wait = async {
        while uids(world).await != expected {
            tokio::task::yield_now().await;
        }
    };
    timeout(LIMIT, wait).await.unwrap_or_else(|_| panic!("expected {expected:?}"));
}

async fn world(messages: &[&str]) -> World {
    let world = World::new().await;
    for message in messages {
        world.deliver(message).await;
    }
    world
}

#[tokio::test]
async fn a_mailbox_is_read_and_emptied() {
    let world =
        world(&["A: 1\r\n\r\none\r\n", "A: 2\r\n\r\n.dot\r\n..\r\nlast", "A: 3\r\n\r\nthree\r\n"]).await;
    let mut client = connect_as(&world, Some(world.account));
    assert_eq!(client.line().await, "+OK mailcluster POP3 ready");
    let offered = client.say_many("CAPA").await;
    for capability in ["TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", "SASL EXTERNAL"] {
        assert!(offered.iter().any(|o| o == capability), "{capability}");
    }
    assert_eq!(client.say("STAT").await, "-ERR log in first");
    assert_eq!(client.say_many("AUTH").await, ["EXTERNAL"]);
    assert_eq!(client.say("AUTH EXTERNAL").await, "+ ");
    assert_eq!(client.say("YW5u").await, "+OK 3 messages (50 octets)");
    assert_eq!(client.say("STAT").await, "+OK 3 50");
    assert_eq!(client.say_many("LIST").await, ["1 13", "2 22", "3 15"]);
    assert_eq!(client.say("LIST 2").await, "+OK 2 22");
    let ids = client.say_many("UIDL").await;
    assert_eq!(ids.len(), 3);
    assert_eq!(client.say("UIDL 2").await, format!("+OK {}", ids[1]));
    assert_eq!(client.say("RETR 2").await, "+OK 22 octets");
    assert_eq!(client.lines().await, ["A: 2", "", "..dot", "...", "last"]);
    assert_eq!(client.say_many("TOP 2 1").await, ["A: 2", "", "..dot"]);
    assert_eq!(client.say_many("TOP 2 0").await, ["A: 2", ""]);
    assert_eq!(client.say("RETR 4").await, "-ERR no such message");
    assert_eq!(client.say("RETR 0").await, "-ERR no such message");
    assert!(client.say("DELE 1").await.starts_with("+OK"));
    assert_eq!(client.say("DELE 1").await, "-ERR no such message");
    assert_eq!(client.say("STAT").await, "+OK 2 37");
    assert_eq!(client.say_many("LIST").await, ["2 22", "3 15"]);
    assert!(client.say("RSET").await.starts_with("+OK"));
    assert_eq!(client.say("STAT").await, "+OK 3 50");
    assert!(client.say("DELE 3").await.starts_with("+OK"));
    assert!(client.say("DELE 1").await.starts_with("+OK"));
    assert_eq!(uids(&world).await, [1, 2, 3]);
    assert_eq!(client.say("QUIT").await, "+OK bye");
    client.closed().await;
    until_uids(&world, &[2]).await;
    // The unique id stays the message's own, whatever its number.
    let mut again = login(&world).await;
    assert_eq!(again.say("UIDL 1").await, format!("+OK 1{}", ids[1].strip_prefix('2').unwrap()));
}

#[tokio::test]
async fn only_quit_removes() {
    let world = world(&["A: 1\r\n\r\none\r\n"]).await;
    let mut client = login(&world).await;
    assert!(client.say("DELE 1").await.starts_with("+OK"));
    client.stream.shutdown().await.unwrap();
    client.closed().await;
    let mut client = login(&world).await;
    assert_eq!(client.say("STAT").await, "+OK 1 13");
    assert_eq!(client.say("QUIT").await, "+OK bye");
    assert_eq!(uids(&world).await, [1]);
}

#[tokio::test]
async fn commands_may_come_all_at_once() {
    let world = world(&["A: 1\r\n\r\none\r\n", "A: 2\r\n\r\ntwo\r\n"]).await;
    let mut client = connect_as(&world, Some(world.account));
    client.send("AUTH EXTERNAL =\r\nSTAT\r\nRETR 1\r\nDELE 1\r\nRETR 2\r\nDELE 2\r\nQUIT\r\n").await;
    let mut all = String::new();
    timeout(LIMIT, client.stream.read_to_string(&mut all)).await.unwrap().unwrap();
    let lines: Vec<&str> = all.split_terminator("\r\n").collect();
    assert_eq!(
        lines,
        [
            "+OK mailcluster POP3 ready",
            "+OK 2 messages (26 octets)",
            "+OK 2 26",
            "+OK 13 octets",
            "A: 1",
            "",
            "one",
            ".",
            "+OK marked",
            "+OK 13 octets",
            "A: 2",
            "",
            "two",
            ".",
            "+OK marked",
            "+OK bye"
        ]
    );
    until_uids(&world, &[]).await;
}

#[tokio::test]
async fn what_imap_removed_meanwhile_is_told() {
    let world = world(&["A: 1\r\n\r\none\r\n", "A: 2\r\n\r\ntwo\r\n"]).await;
    let mut client = login(&world).await;
    let account = world.account;
    let inbox =
        world.store.read(move |v| Ok(v.mailbox_by_name(account, "INBOX")?.unwrap().id)).await.unwrap();
    world.store.expunge(inbox, Expunge::These(vec![1])).await.unwrap().acknowledge().unwrap();
    until_uids(&world, &[2]).await;
    assert_eq!(client.say("STAT").await, "+OK 2 26");
    assert!(client.say("RETR 1").await.starts_with("-ERR"));
    assert!(client.say("DELE 1").await.starts_with("+OK"));
    assert!(client.say("DELE 2").await.starts_with("+OK"));
    assert_eq!(client.say("QUIT").await, "+OK bye");
    until_uids(&world, &[]).await;
}

#[tokio::test]
async fn a_large_message_comes_whole() {
    let body: String =
        (0..60_000).map(|n| format!("{}line {n}\r\n", if n % 7 == 0 { "." } else { "" })).collect();
    let message = format!("Subject: large\r\n\r\n{body}");
    let world = world(&[&message]).await;
    let mut client = login(&world).await;
    assert_eq!(client.say("RETR 1").await, format!("+OK {} octets", message.len()));
    let mut got = String::new();
    for line in client.lines().await {
        got.push_str(line.strip_prefix('.').unwrap_or(&line));
        got.push_str("\r\n");
    }
    assert!(got == message);
    // Of a large message TOP sends no more than is asked for.
    assert_eq!(client.say_many("TOP 1 2").await, ["Subject: large", "", "..line 0", "line 1"]);
    assert_eq!(client.say_many("TOP 1 59999").await.len(), 2 + 59_999);
}

#[tokio::test]
async fn a_client_that_takes_nothing_holds_no_message_in_memory() {
    let message = format!("Subject: large\r\n\r\n{}", "x".repeat(70).add("\r\n").repeat(100_000));
    let world = world(&[&message]).await;
    let mut clients = Vec::new();
    for _ in 0..40 {
        clients.push(login(&world).await);
    }
    let before = resident();
    for client in &mut clients {
        assert_eq!(client.say("RETR 1").await, format!("+OK {} octets", message.len()));
    }
    // 7 MB each, if they held them.
    let held = resident().saturating_sub(before);
    assert!(held < 100 << 20, "{held} octets");
}

/// Memory of this process in octets.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[tokio::test]
async fn who_is_let_in() {
    let world = world(&[]).await;
    let mut nobody = connect_as(&world, None);
    nobody.line().await;
    assert!(nobody.say("AUTH EXTERNAL =").await.starts_with("-ERR [AUTH]"));
    assert!(nobody.say("USER ann").await.starts_with("-ERR"));
    assert!(nobody.say("AUTH PLAIN AGFubgBwdw==").await.starts_with("-ERR"));
    assert!(nobody.say("AUTH EXTERNAL ?").await.starts_with("-ERR"));
    let mut elsewhere = connect_as(&world, Some(AccountId(7)));
    elsewhere.line().await;
    assert!(elsewhere.say("AUTH EXTERNAL =").await.starts_with("-ERR [SYS/TEMP]"));
    let mut twice = login(&world).await;
    assert_eq!(twice.say("AUTH EXTERNAL =").await, "-ERR not now");
}

#[tokio::test]
async fn broken_input_is_answered_and_bounded() {
    let world = world(&[]).await;
    let mut client = login(&world).await;
    for bad in ["", "FOO", "RETR x", "LIST 1 2", "STAT 1", "RETR 99999999999"] {
        assert!(client.say(bad).await.starts_with("-ERR"), "{bad:?}");
    }
    client.send(&"x".repeat(300)).await;
    assert_eq!(client.line().await, "-ERR line too long");
    client.closed().await;
    let mut client = login(&world).await;
    client.send("NOOP\nNOOP\r\n").await;
    assert!(client.line().await.starts_with("-ERR bare"));
    client.closed().await;
    let mut client = login(&world).await;
    for _ in 0..20 {
        assert!(client.say("FOO").await.starts_with("-ERR"));
    }
    client.closed().await;
}

#[tokio::test]
async fn silence_and_shutdown_end_the_session_and_remove_nothing() {
    let mut world = world(&["A: 1\r\n\r\none\r\n"]).await;
    world.limits.pop3_idle = Duration::from_millis(50);
    let mut client = login(&world).await;
    assert!(client.say("DELE 1").await.starts_with("+OK"));
    client.closed().await;
    world.limits.pop3_idle = Duration::from_secs(60);
    let mut client = login(&world).await;
    assert!(client.say("DELE 1").await.starts_with("+OK"));
    world.shutdown.cancel();
    client.closed().await;
    assert_eq!(uids(&world).await, [1]);
}

/// Shuts on demand.
struct Shut {
    acknowledge: AtomicBool,
    read: AtomicBool,
}

impl Gate for Shut {
    fn may_acknowledge(&self, _: u64, _: u64) -> bool {
        self.acknowledge.load(Ordering::SeqCst)
    }
    fn may_read(&self) -> bool {
        self.read.load(Ordering::SeqCst)
    }
    fn may_write(&self) -> bool {
        true
    }
    fn poisoned(&self) {}
}

#[tokio::test]
async fn a_replica_that_may_not_acknowledge_says_nothing() {
    let gate = Arc::new(Shut { acknowledge: AtomicBool::new(true), read: AtomicBool::new(true) });
    let world = World::with_gate(gate.clone()).await;
    world.deliver("A: 1\r\n\r\none\r\n").await;
    let mut client = login(&world).await;
    assert!(client.say("DELE 1").await.starts_with("+OK"));
    gate.acknowledge.store(false, Ordering::SeqCst);
    client.send("QUIT\r\n").await;
    client.closed().await;
    gate.acknowledge.store(true, Ordering::SeqCst);
    let mut client = login(&world).await;
    gate.read.store(false, Ordering::SeqCst);
    client.send("STAT\r\n").await;
    client.closed().await;
}

#[tokio::test]
async fn a_suspended_account_is_not_opened() {
    let world = World::new().await;
    let account = world.account;
    let held = world.store.read(move |view| view.account(account)).await.unwrap().unwrap();
    let suspended = Account { generation: 2, suspended: true, ..held };
    world.store.put_account(suspended).await.unwrap().acknowledge().unwrap();
    let mut client = connect_as(&world, Some(account));
    assert!(client.line().await.starts_with("+OK"));
    let answer = client.say("AUTH EXTERNAL YW5u").await;
    assert!(answer.starts_with("-ERR [AUTH]"), "{answer}");
}
