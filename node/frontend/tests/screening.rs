//! What sessions note of their clients, and that those who are banned or under suspicion get no further.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod proxy_support;

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use mailcluster_frontend::pop3;
use mailcluster_screen::{Ban, Cidr, Gate, Kind, Lists, News, Reason, Slowed};
use proxy_support::{Client, World, client};

async fn world() -> World {
    let mut world = World::new().await;
    world.screen = Gate::new(Lists::default());
    world
}

async fn greeted(world: &World) -> Client {
    let (near, far) = tokio::io::duplex(16 << 10);
    tokio::spawn(pop3::serve(Box::new(far), client(true), world.context()));
    let mut client = Client::new(near);
    assert!(client.line().await.starts_with("+OK"));
    client
}

/// One login, and what was noted of it.
async fn log_in(world: &World, password: &str, answer: &str) -> Vec<(Kind, String)> {
    let mut client = greeted(world).await;
    client.expect("USER ann@example.org", "+OK").await;
    client.expect(&format!("PASS {password}"), answer).await;
    world.screen.take().into_iter().map(|seen| (seen.kind, seen.account)).collect()
}

#[tokio::test]
async fn only_real_failures_are_noted() {
    let world = world().await;
    let ann = || "ann@example.org".to_owned();
    assert_eq!(log_in(&world, "wrong", "-ERR [AUTH]").await, [(Kind::Failed, ann())]);
    assert_eq!(log_in(&world, "wrong", "-ERR [AUTH]").await, [(Kind::Repeated, ann())]);
    assert_eq!(log_in(&world, "secret", "+OK").await, [(Kind::LoggedIn, ann())]);
    world.directory_away.store(true, Ordering::Relaxed);
    assert_eq!(log_in(&world, "other", "-ERR [SYS/TEMP]").await, [], "the directory could not say");
    world.directory_away.store(false, Ordering::Relaxed);
    world.throttle.store(true, Ordering::Relaxed);
    assert_eq!(log_in(&world, "third", "-ERR [SYS/TEMP]").await, [(Kind::Throttled, ann())]);
}

#[tokio::test]
async fn garbage_is_noted_once_the_session_is_ended_for_it() {
    let world = world().await;
    let mut session = greeted(&world).await;
    for _ in 0..20 {
        session.expect("NONSENSE", "-ERR").await;
    }
    session.closed().await;
    let seen: Vec<_> = world.screen.take().into_iter().map(|seen| (seen.kind, seen.count)).collect();
    assert_eq!(seen, [(Kind::Abuse, 1)]);
}

#[tokio::test]
async fn a_banned_client_does_not_log_in_and_one_under_suspicion_waits() {
    let world = world().await;
    let network = Cidr::address(client(true).remote.ip());
    let (now, remaining) = (Instant::now(), Duration::from_secs(600));
    let ban = Ban { network, remaining, reason: Reason::Logins };
    world.screen.heed(now, News::Banned(ban));
    log_in(&world, "secret", "-ERR [SYS/TEMP] too many failed logins").await;
    world.screen.heed(now, News::Lifted(network));
    let account = "ann@example.org".to_owned();
    let delay = Duration::from_secs(1);
    world.screen.heed(now, News::Slowed(Slowed { account, delay, remaining, good: Vec::new() }));
    let begun = Instant::now();
    assert_eq!(log_in(&world, "secret", "+OK").await, [(Kind::LoggedIn, "ann@example.org".to_owned())]);
    assert!(begun.elapsed() >= delay);
}
