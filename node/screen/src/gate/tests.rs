use proptest::prelude::*;

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn ban(network: &str, seconds: u64) -> News {
    News::Banned(Ban {
        network: network.parse().unwrap(),
        remaining: Duration::from_secs(seconds),
        reason: Reason::Logins,
    })
}

fn slowed(account: &str, good: &[&str]) -> News {
    News::Slowed(Slowed {
        account: account.into(),
        delay: Duration::from_secs(2),
        remaining: Duration::from_secs(600),
        good: good.iter().map(|ip| Cidr::address(ip.parse().unwrap())).collect(),
    })
}

#[test]
fn who_is_refused() {
    let gate = Gate::new(
        Lists::parse(&["192.0.2.7", "203.0.113.0/24"], &["203.0.113.0/28", "198.51.100.0/24"]).unwrap(),
    );
    let t0 = Instant::now();
    gate.set_own([ip("192.0.2.8")]);
    for news in [ban("192.0.2.0/24", 60), ban("192.0.2.9/32", 600), ban("2001:db8:0:1::/64", 60)] {
        gate.heed(t0, news);
    }
    let banned = Some(Refusal::Banned(Reason::Logins));
    for (address, seconds, expected) in [
        ("192.0.2.1", 0, banned),
        ("::ffff:192.0.2.1", 59, banned),
        ("192.0.2.1", 60, None),
        ("192.0.2.9", 599, banned),
        ("192.0.2.9", 600, None),
        ("192.0.2.7", 0, None),
        ("192.0.2.8", 0, None),
        ("192.0.3.1", 0, None),
        ("2001:db8:0:1:ffff::", 0, banned),
        ("2001:db8:0:2::", 0, None),
        ("198.51.100.1", 0, Some(Refusal::Blocked)),
        ("203.0.113.1", 0, None),
    ] {
        let at = t0 + Duration::from_secs(seconds);
        assert_eq!(gate.check(at, ip(address)), expected, "{address} after {seconds} s");
    }
    gate.heed(t0, News::Lifted("192.0.2.0/24".parse().unwrap()));
    assert_eq!(gate.check(t0, ip("192.0.2.1")), None);
    assert_eq!(gate.bans(t0).len(), 2);
    assert_eq!(gate.bans(t0 + Duration::from_secs(60)).len(), 1);
    let counts = gate.counts(t0).unwrap();
    assert_eq!((counts.banned, counts.blocked, counts.bans), (4, 1, 2));
    gate.replace(t0, vec![ban("192.0.2.0/24", 60)]);
    assert_eq!(gate.bans(t0).len(), 1, "the others are forgotten");
    assert_eq!(gate.free().len(), 3);
}

#[test]
fn logins_to_an_account_under_attack_wait_but_for_good_addresses() {
    let gate = Gate::new(Lists::parse(&["192.0.2.7"], &[]).unwrap());
    let t0 = Instant::now();
    gate.heed(t0, slowed("ann@example.org", &["192.0.2.1"]));
    gate.heed(t0, ban("198.51.100.1/32", 90));
    let verdict = |seconds: u64, address: &str, user: &str| match gate.login(
        t0 + Duration::from_secs(seconds),
        ip(address),
        user,
    ) {
        Verdict::Allow => "allow".to_owned(),
        Verdict::Delay(wait, _) => format!("delay {}", wait.as_secs()),
        Verdict::Refuse(wait) => format!("refuse {}", wait.as_secs()),
    };
    for (seconds, address, user, expected) in [
        (0, "192.0.2.1", "ann@example.org", "allow"),
        (0, "192.0.2.2", "Ann@Example.org ", "delay 2"),
        (600, "192.0.2.2", "ann@example.org", "allow"),
        (0, "192.0.2.2", "bob@example.org", "allow"),
        (0, "192.0.2.7", "ann@example.org", "allow"),
        (30, "198.51.100.1", "bob@example.org", "refuse 60"),
    ] {
        assert_eq!(verdict(seconds, address, user), expected, "{address} {user} after {seconds} s");
    }
    let held: Vec<Verdict> =
        (0..WAITING).map(|_| gate.login(t0, ip("192.0.2.2"), "ann@example.org")).collect();
    assert!(held.iter().all(|verdict| matches!(verdict, Verdict::Delay(..))));
    assert_eq!(verdict(0, "192.0.2.2", "ann@example.org"), "refuse 2", "so many wait already");
    drop(held);
    assert_eq!(verdict(0, "192.0.2.2", "ann@example.org"), "delay 2");
}

#[test]
fn a_password_that_failed_before_is_known_again_within_the_hour() {
    let gate = Gate::new(Lists::default());
    let t0 = Instant::now();
    let kinds = |seconds: u64, address: &str, user: &str, password: &str| {
        gate.failed(t0 + Duration::from_secs(seconds), ip(address), (user, password));
        gate.take().into_iter().map(|seen| seen.kind).collect::<Vec<_>>()
    };
    for (seconds, address, user, password, kind) in [
        (0, "192.0.2.1", "ann", "old", Kind::Failed),
        (5, "192.0.2.1", "ann", "old", Kind::Repeated),
        (5, "192.0.2.1", "ANN", "old", Kind::Repeated),
        (5, "192.0.2.1", "ann", "older", Kind::Failed),
        (5, "192.0.2.1", "bob", "old", Kind::Failed),
        (5, "192.0.2.2", "ann", "old", Kind::Failed),
        (3000, "192.0.2.1", "ann", "old", Kind::Repeated),
        (6599, "192.0.2.1", "ann", "old", Kind::Repeated),
        (10_199, "192.0.2.1", "ann", "old", Kind::Failed),
    ] {
        assert_eq!(
            kinds(seconds, address, user, password),
            [kind],
            "{address} {user} {password} {seconds} s"
        );
    }
    gate.throttled(t0, ip("192.0.2.3"), ("ann", "x"));
    gate.throttled(t0, ip("192.0.2.3"), ("ann", "x"));
    let mut seen: Vec<_> = gate.take().into_iter().map(|seen| (seen.kind, seen.count)).collect();
    seen.sort_unstable();
    assert_eq!(seen, [(Kind::Repeated, 1), (Kind::Throttled, 1)]);
}

#[test]
fn nothing_is_noted_of_those_who_are_never_refused_and_at_an_open_gate() {
    let gate = Gate::new(Lists::parse(&["192.0.2.7"], &[]).unwrap());
    gate.set_own([ip("192.0.2.8")]);
    for address in ["192.0.2.7", "192.0.2.8", "192.0.2.9"] {
        gate.saw(ip(address), Kind::Abuse);
    }
    assert_eq!(gate.take().len(), 1);
    let open = Gate::default();
    let t0 = Instant::now();
    open.heed(t0, ban("0.0.0.0/0", 60));
    open.failed(t0, ip("192.0.2.9"), ("ann", "x"));
    assert_eq!(open.check(t0, ip("192.0.2.9")), None);
    assert!(open.take().is_empty() && open.counts(t0).is_none());
}

#[test]
fn it_holds_no_more_bans_than_it_may() {
    let gate = Gate::new(Lists::default());
    let t0 = Instant::now();
    for number in 0..u32::try_from(MOST).unwrap() + 1000 {
        let network = Cidr::address(std::net::Ipv4Addr::from_bits(number).into());
        gate.heed(
            t0,
            News::Banned(Ban { network, remaining: Duration::from_secs(9), reason: Reason::Abuse }),
        );
    }
    assert_eq!(gate.counts(t0).unwrap().bans, MOST);
    let later = t0 + Duration::from_secs(10);
    gate.heed(later, ban("203.0.113.1/32", 9));
    assert_eq!(
        gate.check(later, ip("203.0.113.1")),
        Some(Refusal::Banned(Reason::Logins)),
        "those that are over made room"
    );
}

proptest! {
    #[test]
    fn those_who_are_allowed_are_never_refused(
        bans in proptest::collection::vec((any::<u32>(), 0_u8..=32), 0..50),
        allowed in any::<u32>(),
        prefix in 0_u8..=32,
    ) {
        let address = |number: u32| IpAddr::from(std::net::Ipv4Addr::from_bits(number));
        let allow = Cidr::of(address(allowed), prefix);
        let gate = Gate::new(Lists::parse(&[allow.to_string()], &["0.0.0.0/0".to_owned()]).unwrap());
        let t0 = Instant::now();
        for (number, prefix) in bans {
            gate.heed(t0, ban(&Cidr::of(address(number), prefix).to_string(), 60));
        }
        prop_assert_eq!(gate.check(t0, address(allowed)), None);
        prop_assert!(matches!(gate.login(t0, address(allowed), "ann"), Verdict::Allow));
        let outside = address(!allowed);
        prop_assert_eq!(gate.check(t0, outside).is_none(), allow.contains(outside));
    }
}
