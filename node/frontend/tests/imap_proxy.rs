//! IMAP through a frontend to a real backend session.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod proxy_support;

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use mailcluster_frontend::imap;
use proxy_support::{Client, World, client};

fn connect(world: &World, tls: bool) -> Client {
    let (near, far) = tokio::io::duplex(16 << 10);
    tokio::spawn(imap::serve(Box::new(far), client(tls), world.context()));
    Client::new(near)
}

async fn greeted(world: &World, tls: bool) -> (Client, String) {
    let mut client = connect(world, tls);
    let greeting = client.line().await;
    (client, greeting)
}

#[tokio::test]
async fn a_session_passes_through() {
    let world = World::new().await;
    world.deliver("Subject: hello\r\n\r\nworld\r\n").await;
    let (mut client, greeting) = greeted(&world, true).await;
    assert!(
        greeting.starts_with("* OK [CAPABILITY IMAP4rev1 ") && greeting.contains(" AUTH=PLAIN]"),
        "{greeting}"
    );
    assert!(!greeting.contains("STARTTLS") && !greeting.contains("LOGINDISABLED"));
    client.expect("a ID NIL", "* ID (\"name\" \"mailcluster\")").await;
    client.until("a OK").await;
    client.expect("b NOOP", "b OK").await;
    client.expect("c SELECT INBOX", "c BAD log in first").await;
    let inside = client.expect("d LOGIN ann@example.org secret", "d OK [CAPABILITY IMAP4rev1 ").await;
    assert!(inside.contains(" UIDPLUS"), "{inside}");
    client.send("e SELECT INBOX\r\n").await;
    client.until("e OK").await;
    client.expect("f FETCH 1 BODY[TEXT]", "* 1 FETCH (BODY[TEXT] {7}").await;
    assert_eq!(client.line().await, "world");
    client.until("f OK").await;
    client.expect("g LOGOUT", "* BYE").await;
    client.until("g OK").await;
    client.closed().await;
    let seen = world.seen.lock().unwrap();
    assert_eq!((seen.len(), seen[0].remote.port()), (1, 4711));
}

#[tokio::test]
async fn all_ways_to_log_in() {
    let world = World::new().await;
    // AGFubkBleGFtcGxlLm9yZwBzZWNyZXQ= is NUL ann@example.org NUL secret.
    for script in [
        "a LOGIN ann@example.org secret\r\n",
        "a login \"ann@example.org\" \"secret\"\r\n",
        "a LOGIN {15+}\r\nann@example.org {6+}\r\nsecret\r\n",
        "a AUTHENTICATE PLAIN AGFubkBleGFtcGxlLm9yZwBzZWNyZXQ=\r\n",
    ] {
        let (mut client, _) = greeted(&world, true).await;
        // What is sent ahead goes to the backend.
        client.send(&format!("{script}b NOOP\r\nc STATUS INBOX (MESSAGES)\r\n")).await;
        client.until("a OK").await;
        client.until("b OK").await;
        client.until("* STATUS").await;
        client.until("c OK").await;
    }
    let (mut client, _) = greeted(&world, true).await;
    client.expect("a AUTHENTICATE PLAIN", "+ ").await;
    client.expect("AGFubkBleGFtcGxlLm9yZwBzZWNyZXQ=", "a OK").await;
    client.expect("b NOOP", "b OK").await;
    let (mut client, _) = greeted(&world, true).await;
    client.expect("a LOGIN {15}", "+ ").await;
    client.expect("ann@example.org {6}", "+ ").await;
    client.expect("secret", "a OK").await;
}

#[tokio::test]
async fn no_password_in_clear() {
    let world = World::new().await;
    let (mut client, greeting) = greeted(&world, false).await;
    assert!(greeting.contains("LOGINDISABLED STARTTLS") && !greeting.contains("AUTH="), "{greeting}");
    client.expect("a LOGIN ann@example.org secret", "a NO [PRIVACYREQUIRED]").await;
    client.expect("b AUTHENTICATE PLAIN AGFubkBleGFtcGxlLm9yZwBzZWNyZXQ=", "b NO [PRIVACYREQUIRED]").await;
    client.expect("c AUTHENTICATE PLAIN", "c NO [PRIVACYREQUIRED]").await;
    client.send("d CAPABILITY\r\n").await;
    assert_eq!(client.line().await, "* CAPABILITY IMAP4rev1 LITERAL+ SASL-IR ID LOGINDISABLED STARTTLS");
    assert_eq!(world.opened.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn starttls_and_what_was_sent_ahead_of_it() {
    let world = World::new().await;
    let (mut client, _) = greeted(&world, false).await;
    // A man in the middle puts commands of his own behind STARTTLS.
    client.send("a STARTTLS\r\nx LOGIN ann@example.org secret\r\nx2 NOOP\r\n").await;
    assert!(client.line().await.starts_with("a OK"));
    let mut client = Client::new(world.handshake(client.into_stream()).await);
    client.expect("b NOOP", "b OK").await;
    client.send("c CAPABILITY\r\n").await;
    let offered = client.line().await;
    assert!(offered.contains("AUTH=PLAIN") && !offered.contains("STARTTLS"), "{offered}");
    client.until("c OK").await;
    client.expect("d STARTTLS", "d BAD").await;
    client.expect("e LOGIN ann@example.org secret", "e OK").await;
    client.expect("f NOOP", "f OK").await;
    let seen = world.seen.lock().unwrap()[0].clone();
    assert_eq!(seen.tls.unwrap().sni.as_deref(), Some("mail.example.org"));
}

#[tokio::test]
async fn wrong_passwords_get_one_answer_and_three_strikes() {
    let world = World::new().await;
    let (mut client, _) = greeted(&world, true).await;
    let wrong = client.expect("a LOGIN ann@example.org wrong", "a NO [AUTHENTICATIONFAILED]").await;
    let unknown = client.expect("a LOGIN nobody@example.org secret", "a NO").await;
    assert_eq!(wrong, unknown);
    let odd = client.expect("a LOGIN {4+}\r\na\tb\u{7f} secret", "a NO").await;
    assert_eq!(wrong, odd);
    assert!(client.line().await.starts_with("* BYE"));
    client.closed().await;
}

#[tokio::test]
async fn what_is_away_is_told_in_time() {
    let world = World::new().await;
    let (mut client, _) = greeted(&world, true).await;
    let started = Instant::now();
    world.directory_away.store(true, Ordering::SeqCst);
    client.expect("a LOGIN ann@example.org secret", "a NO [UNAVAILABLE]").await;
    world.directory_away.store(false, Ordering::SeqCst);
    world.backends_away.store(true, Ordering::SeqCst);
    client.expect("b LOGIN ann@example.org secret", "b NO [UNAVAILABLE]").await;
    world.backends_away.store(false, Ordering::SeqCst);
    for refusal in [
        "* BYE [UNAVAILABLE] epoch=7 moved\r\n",
        "* OK hello\r\nmc1 NO no\r\n",
        "* OK\r\n* BYE\r\n",
        "rubbish",
    ] {
        *world.refusal.lock().unwrap() = Some(refusal);
        client.expect("c LOGIN ann@example.org secret", "c NO [UNAVAILABLE]").await;
    }
    *world.refusal.lock().unwrap() = None;
    world.throttle.store(true, Ordering::SeqCst);
    let told = client.expect("d LOGIN ann@example.org secret", "d NO [UNAVAILABLE]").await;
    assert!(told.contains("7 seconds"), "{told}");
    world.throttle.store(false, Ordering::SeqCst);
    client.expect("e LOGIN ann@example.org secret", "e OK").await;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[tokio::test]
async fn broken_input_is_answered_and_bounded() {
    let world = World::new().await;
    let (mut client, _) = greeted(&world, true).await;
    client.expect("a LOGIN {100000}", "a BAD").await;
    client.expect("b APPEND INBOX {3+}\r\nabc", "b BAD log in first").await;
    client.expect("c AUTHENTICATE GSSAPI", "c NO").await;
    client.expect("d AUTHENTICATE PLAIN ====", "d BAD").await;
    client.expect("e AUTHENTICATE PLAIN", "+ ").await;
    client.expect("*", "e BAD").await;
    client.expect("f NOOP", "f OK").await;
    client.expect("PROXY TCP4 1.2.3.4 5.6.7.8 1 2", "PROXY BAD").await;
    client.expect("g \0", "g BAD").await;
    client.send("h NOOP\n").await;
    assert!(client.line().await.starts_with("h BAD"));
    client.send(&format!("i {}", "x".repeat(20_000))).await;
    client.send("\r\n").await;
    assert!(client.line().await.starts_with("i BAD"));
    for _ in 0..50 {
        client.send("x FOO\r\n").await;
        if client.line().await.starts_with("* BYE") {
            client.closed().await;
            return;
        }
    }
    panic!("errors without end");
}

#[tokio::test]
async fn nobody_stays_without_logging_in() {
    let mut world = World::new().await;
    world.login_timeout = Duration::from_millis(200);
    let started = Instant::now();
    let (mut client, _) = greeted(&world, true).await;
    // Busy or not.
    client.expect("a NOOP", "a OK").await;
    client.send("b LOG").await;
    assert!(client.line().await.starts_with("* BYE"));
    client.closed().await;
    assert!(started.elapsed() >= Duration::from_millis(200) && started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_backend_that_goes_takes_its_session_along() {
    let world = World::new().await;
    let (mut client, _) = greeted(&world, true).await;
    client.expect("a LOGIN ann@example.org secret", "a OK").await;
    world.backend_shutdown.cancel();
    assert!(client.line().await.starts_with("* BYE"));
    client.closed().await;
}

#[tokio::test]
async fn a_frontend_that_stops_says_so() {
    let world = World::new().await;
    let (mut waiting, _) = greeted(&world, true).await;
    let (mut inside, _) = greeted(&world, true).await;
    inside.expect("a LOGIN ann@example.org secret", "a OK").await;
    inside.send("b IDLE\r\n").await;
    inside.until("+").await;
    world.shutdown.cancel();
    for client in [&mut waiting, &mut inside] {
        assert!(client.line().await.starts_with("* BYE [UNAVAILABLE]"));
    }
    waiting.closed().await;
    inside.closed().await;
}

/// Resident octets of this process.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[tokio::test]
async fn two_thousand_slow_connections_cost_little_and_an_honest_client_is_served() {
    let world = World::new().await;
    let before = resident();
    let mut slow = Vec::new();
    for n in 0..2000 {
        let (near, far) = tokio::io::duplex(1024);
        tokio::spawn(imap::serve(Box::new(far), client(true), world.context()));
        let mut client = Client::new(near);
        client.line().await;
        match n % 3 {
            0 => client.send("a").await,
            1 => client.send(&format!("a LOGIN {{8000+}}\r\n{}", "x".repeat(7999))).await,
            _ => client.send(&format!("a NOOP {}", "x".repeat(8000))).await,
        }
        slow.push(client);
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 256 << 20, "{} KiB each", grown / 2000 / 1024);
    println!("{} KiB for each of 2000 connections, with the test's own side", grown / 2000 / 1024);
    let started = Instant::now();
    let (mut honest, _) = greeted(&world, true).await;
    honest.expect("a LOGIN ann@example.org secret", "a OK").await;
    honest.expect("b STATUS INBOX (MESSAGES)", "* STATUS").await;
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    drop(slow);
}
