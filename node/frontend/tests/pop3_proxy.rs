//! POP3 through a frontend to a real backend session.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod proxy_support;

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use mailcluster_frontend::pop3;
use proxy_support::{Client, World, client};

/// NUL ann@example.org NUL secret.
const PLAIN: &str = "AGFubkBleGFtcGxlLm9yZwBzZWNyZXQ=";

async fn greeted(world: &World, tls: bool) -> Client {
    let (near, far) = tokio::io::duplex(16 << 10);
    tokio::spawn(pop3::serve(Box::new(far), client(tls), world.context()));
    let mut client = Client::new(near);
    assert!(client.line().await.starts_with("+OK"));
    client
}

async fn capabilities(client: &mut Client) -> Vec<String> {
    client.expect("CAPA", "+OK").await;
    let mut lines = Vec::new();
    loop {
        match client.line().await {
            end if end == "." => return lines,
            line => lines.push(line),
        }
    }
}

#[tokio::test]
async fn a_session_passes_through() {
    let world = World::new().await;
    world.deliver("Subject: hello\r\n\r\n.world\r\n").await;
    let mut client = greeted(&world, true).await;
    let offered = capabilities(&mut client).await;
    assert_eq!(offered, ["TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", "USER", "SASL PLAIN"]);
    client.expect("STAT", "-ERR log in first").await;
    client.expect("PASS secret", "-ERR USER comes first").await;
    client.expect("USER ann@example.org", "+OK").await;
    client.expect("PASS secret", "+OK 1 messages (26 octets)").await;
    client.expect("RETR 1", "+OK 26 octets").await;
    for expected in ["Subject: hello", "", "..world", "."] {
        assert_eq!(client.line().await, expected);
    }
    client.expect("DELE 1", "+OK").await;
    client.expect("QUIT", "+OK").await;
    client.closed().await;
    world.until_messages(0).await;
}

#[tokio::test]
async fn all_ways_to_log_in_and_commands_sent_ahead() {
    let world = World::new().await;
    let mut client = greeted(&world, true).await;
    client.send("USER ann@example.org\r\nPASS secret\r\nSTAT\r\nNOOP\r\nQUIT\r\n").await;
    for _ in 0..2 {
        assert!(client.line().await.starts_with("+OK"));
    }
    assert_eq!(client.line().await, "+OK 0 0");
    client.until("+OK bye").await;
    client.closed().await;
    let mut client = greeted(&world, true).await;
    client.expect(&format!("AUTH PLAIN {PLAIN}"), "+OK").await;
    client.expect("STAT", "+OK 0 0").await;
    let mut client = greeted(&world, true).await;
    client.expect("AUTH PLAIN", "+ ").await;
    client.expect(PLAIN, "+OK").await;
    client.expect("STAT", "+OK 0 0").await;
}

#[tokio::test]
async fn no_password_in_clear_and_stls() {
    let world = World::new().await;
    let mut client = greeted(&world, false).await;
    let offered = capabilities(&mut client).await;
    assert_eq!(offered, ["TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", "STLS"]);
    for refused in ["USER ann@example.org", "PASS secret", &format!("AUTH PLAIN {PLAIN}")] {
        client.expect(refused, "-ERR").await;
    }
    client.send(&format!("STLS\r\nAUTH PLAIN {PLAIN}\r\nNOOP\r\n")).await;
    assert!(client.line().await.starts_with("+OK"));
    let mut client = Client::new(world.handshake(client.into_stream()).await);
    assert!(capabilities(&mut client).await.contains(&"SASL PLAIN".to_owned()));
    client.expect("STLS", "-ERR").await;
    client.expect("USER ann@example.org", "+OK").await;
    client.expect("PASS secret", "+OK").await;
    client.expect("STAT", "+OK 0 0").await;
    assert_eq!(world.opened.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn wrong_passwords_get_one_answer_and_three_strikes() {
    let world = World::new().await;
    let mut client = greeted(&world, true).await;
    let mut answers = Vec::new();
    for (user, password) in
        [("ann@example.org", "wrong"), ("nobody@example.org", "secret"), ("ann@example.org", "")]
    {
        client.expect(&format!("USER {user}"), "+OK").await;
        answers.push(client.expect(&format!("PASS {password}"), "-ERR [AUTH]").await);
    }
    assert!(answers.iter().all(|a| *a == answers[0]));
    client.closed().await;
}

#[tokio::test]
async fn what_is_away_is_told_in_time() {
    let world = World::new().await;
    let mut client = greeted(&world, true).await;
    let login = format!("AUTH PLAIN {PLAIN}");
    let started = Instant::now();
    world.directory_away.store(true, Ordering::SeqCst);
    client.expect(&login, "-ERR [SYS/TEMP]").await;
    world.directory_away.store(false, Ordering::SeqCst);
    world.backends_away.store(true, Ordering::SeqCst);
    client.expect(&login, "-ERR [SYS/TEMP]").await;
    world.backends_away.store(false, Ordering::SeqCst);
    for refusal in ["-ERR [SYS/TEMP] epoch=7 moved\r\n", "+OK\r\n-ERR no\r\n", "rubbish"] {
        *world.refusal.lock().unwrap() = Some(refusal);
        client.expect(&login, "-ERR [SYS/TEMP]").await;
    }
    *world.refusal.lock().unwrap() = None;
    world.throttle.store(true, Ordering::SeqCst);
    client.expect(&login, "-ERR [SYS/TEMP] too many failed logins, try again in 7 seconds").await;
    world.throttle.store(false, Ordering::SeqCst);
    client.expect(&login, "+OK").await;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[tokio::test]
async fn broken_input_is_answered_and_bounded() {
    let world = World::new().await;
    let mut client = greeted(&world, true).await;
    for bad in [
        "",
        "FOO",
        "AUTH GSSAPI",
        "AUTH PLAIN ?",
        "AUTH PLAIN AAAA",
        "USER",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 2",
    ] {
        client.expect(bad, "-ERR").await;
    }
    client.send(&"x".repeat(300)).await;
    assert!(client.line().await.contains("line too long"));
    client.closed().await;
    let mut client = greeted(&world, true).await;
    client.send("CAPA\n").await;
    assert!(client.line().await.contains("bare"));
    client.closed().await;
    let mut client = greeted(&world, true).await;
    for _ in 0..20 {
        client.expect("FOO", "-ERR").await;
    }
    client.closed().await;
}

#[tokio::test]
async fn nobody_stays_without_logging_in() {
    let mut world = World::new().await;
    world.login_timeout = Duration::from_millis(200);
    let mut client = greeted(&world, true).await;
    client.send("US").await;
    assert!(client.line().await.starts_with("-ERR [SYS/TEMP] no login in time"));
    client.closed().await;
}
