use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn fail(throttle: &mut Throttle, now: Instant, client: &str, account: &str, times: usize) {
    (0..times).for_each(|_| throttle.failed(now, ip(client), account));
}

fn waits(throttle: &mut Throttle, now: Instant, client: &str, account: &str) -> u64 {
    match throttle.check(now, ip(client), account) {
        Verdict::Allowed => 0,
        Verdict::Wait(wait) => wait.as_secs(),
    }
}

#[test]
fn waits_double_up_to_a_ban() {
    let t0 = Instant::now();
    for (failures, expected) in
        [(0, 0), (5, 0), (6, 2), (7, 4), (8, 8), (10, 32), (15, 1024), (16, 1800), (29, 1800)]
    {
        let mut throttle = Throttle::new(ThrottlePolicy::default());
        fail(&mut throttle, t0, "192.0.2.1", "a@b.c", failures);
        assert_eq!(waits(&mut throttle, t0, "192.0.2.1", "a@b.c"), expected, "{failures} failures");
    }
}

#[test]
fn a_ban_holds_for_one_network_at_one_account() {
    let t0 = Instant::now();
    let mut throttle = Throttle::new(ThrottlePolicy::default());
    fail(&mut throttle, t0, "192.0.2.1", "a@b.c", 20);
    for (client, account, banned) in [
        ("192.0.2.1", "a@b.c", true),
        ("::ffff:192.0.2.1", "a@b.c", true),
        ("192.0.2.2", "a@b.c", false),
        ("192.0.2.1", "b@b.c", false),
        ("2001:db8::1", "a@b.c", false),
    ] {
        assert_eq!(waits(&mut throttle, t0, client, account) > 0, banned, "{client} {account}");
    }
}

#[test]
fn an_ipv6_network_is_one_client() {
    let t0 = Instant::now();
    let mut throttle = Throttle::new(ThrottlePolicy::default());
    (0..20).for_each(|i| throttle.failed(t0, ip(&format!("2001:db8:0:1::{i}")), "a@b.c"));
    assert!(waits(&mut throttle, t0, "2001:db8:0:1:ffff::", "a@b.c") > 0);
    assert_eq!(waits(&mut throttle, t0, "2001:db8:0:2::", "a@b.c"), 0);
}

#[test]
fn guessing_across_accounts_bans_the_network() {
    let t0 = Instant::now();
    let mut throttle = Throttle::new(ThrottlePolicy::default());
    (0..40).for_each(|i| throttle.failed(t0, ip("192.0.2.1"), &format!("u{i}@b.c")));
    assert!(waits(&mut throttle, t0, "192.0.2.1", "new@b.c") > 0);
    assert_eq!(waits(&mut throttle, t0, "192.0.2.2", "new@b.c"), 0);
}

#[test]
fn an_attack_from_many_networks_never_locks_a_fresh_one_out() {
    let t0 = Instant::now();
    let mut throttle = Throttle::new(ThrottlePolicy::default());
    (0..200).for_each(|i| throttle.failed(t0, ip(&format!("198.51.100.{i}")), "a@b.c"));
    assert_eq!(waits(&mut throttle, t0, "192.0.2.1", "a@b.c"), 0);
    fail(&mut throttle, t0, "192.0.2.1", "a@b.c", 1);
    assert_eq!(waits(&mut throttle, t0, "192.0.2.1", "a@b.c"), 0, "one free failure is left");
    fail(&mut throttle, t0, "192.0.2.1", "a@b.c", 1);
    assert!(waits(&mut throttle, t0, "192.0.2.1", "a@b.c") > 0);
}

#[test]
fn failures_fade_and_success_clears_the_pair_alone() {
    let t0 = Instant::now();
    let mut throttle = Throttle::new(ThrottlePolicy::default());
    fail(&mut throttle, t0, "192.0.2.1", "a@b.c", 6);
    let hour = t0 + Duration::from_secs(3600);
    assert_eq!(waits(&mut throttle, hour, "192.0.2.1", "a@b.c"), 0);
    fail(&mut throttle, hour, "192.0.2.1", "a@b.c", 4);
    assert_eq!(waits(&mut throttle, hour, "192.0.2.1", "a@b.c"), 0, "the old ones have faded");
    fail(&mut throttle, hour, "192.0.2.1", "a@b.c", 9);
    assert!(waits(&mut throttle, hour, "192.0.2.1", "a@b.c") > 0);
    throttle.succeeded(ip("192.0.2.1"), "a@b.c");
    assert_eq!(waits(&mut throttle, hour, "192.0.2.1", "a@b.c"), 0);
    (0..40).for_each(|i| throttle.failed(hour, ip("192.0.2.1"), &format!("u{i}@b.c")));
    throttle.succeeded(ip("192.0.2.1"), "a@b.c");
    assert!(
        waits(&mut throttle, hour, "192.0.2.1", "a@b.c") > 0,
        "an own account clears no ban of the network"
    );
}

#[test]
fn trusted_networks_are_never_slowed() {
    let t0 = Instant::now();
    let trusted = vec![
        Network { address: ip("10.0.0.0"), prefix: 8 },
        Network { address: ip("fd00::"), prefix: 7 },
        Network { address: ip("192.0.2.9"), prefix: 32 },
    ];
    let mut throttle = Throttle::new(ThrottlePolicy { trusted, ..ThrottlePolicy::default() });
    for (client, banned) in
        [("10.9.8.7", false), ("fd12::1", false), ("192.0.2.9", false), ("192.0.2.8", true)]
    {
        fail(&mut throttle, t0, client, "a@b.c", 50);
        throttle.impose(t0, ip(client), "a@b.c", Duration::from_secs(60));
        assert_eq!(waits(&mut throttle, t0, client, "a@b.c") > 0, banned, "{client}");
    }
    assert!(Network { address: ip("0.0.0.0"), prefix: 0 }.contains(ip("203.0.113.1")));
    assert!(Network { address: ip("::"), prefix: 0 }.contains(ip("2001:db8::1")));
}

#[test]
fn what_is_imposed_holds_and_tables_are_bounded() {
    let t0 = Instant::now();
    let mut throttle = Throttle::new(ThrottlePolicy { capacity: 10, ..ThrottlePolicy::default() });
    throttle.impose(t0, ip("192.0.2.1"), "a@b.c", Duration::from_secs(90));
    assert_eq!(waits(&mut throttle, t0, "192.0.2.1", "a@b.c"), 90);
    assert_eq!(waits(&mut throttle, t0 + Duration::from_secs(90), "192.0.2.1", "a@b.c"), 0);
    (0..1000).for_each(|i| throttle.failed(t0, ip("192.0.2.1"), &format!("u{i}@b.c")));
    assert!(throttle.pairs.len() <= 10 && throttle.accounts.len() <= 10 && throttle.networks.len() <= 10);
}

#[test]
fn guesses_that_run_together_are_bounded() {
    let t0 = Instant::now();
    let trusted = vec![Network { address: ip("10.0.0.0"), prefix: 8 }];
    let mut throttle = Throttle::new(ThrottlePolicy { together: 3, trusted, ..ThrottlePolicy::default() });
    let mut begin = |client: &str| throttle.begin(t0, ip(client), "a@b.c") == Verdict::Allowed;
    assert_eq!([0; 5].map(|_| begin("192.0.2.1")), [true, true, true, false, false]);
    assert!(begin("192.0.2.2"));
    assert_eq!([0; 5].map(|_| begin("10.0.0.1")), [true; 5]);
    throttle.end(ip("192.0.2.1"), "a@b.c");
    assert_eq!(throttle.begin(t0, ip("192.0.2.1"), "a@b.c"), Verdict::Allowed);
    (0..3).for_each(|_| throttle.end(ip("192.0.2.1"), "a@b.c"));
    throttle.end(ip("192.0.2.2"), "a@b.c");
    (0..5).for_each(|_| throttle.end(ip("10.0.0.1"), "a@b.c"));
    throttle.end(ip("192.0.2.9"), "a@b.c");
    assert!(throttle.under_way.is_empty());
}
