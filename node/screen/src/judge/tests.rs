use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn seen(client: &str, kind: Kind, account: &str, count: u32) -> Observation {
    Observation { client: Cidr::address(ip(client)), kind, account: account.into(), count }
}

fn judge(allow: &[&str]) -> Judge {
    Judge::new(Policy::default(), Lists::parse(allow, &[]).unwrap())
}

/// The bans among news, as (network, seconds, reason).
fn bans(news: &[News]) -> Vec<(String, u64, Reason)> {
    news.iter()
        .filter_map(|news| match news {
            News::Banned(ban) => Some((ban.network.to_string(), ban.remaining.as_secs(), ban.reason)),
            _ => None,
        })
        .collect()
}

fn fail(judge: &mut Judge, now: Instant, client: &str, times: u32) -> Vec<News> {
    judge.observe(now, &seen(client, Kind::Failed, "ann@example.org", times))
}

#[test]
fn what_bans_an_address() {
    let accounts = |many: u32| -> Vec<Observation> {
        (0..many).map(|at| seen("192.0.2.1", Kind::Failed, &format!("u{at}"), 1)).collect()
    };
    let one = |kind, count| vec![seen("192.0.2.1", kind, "ann", count)];
    let known = |then: Vec<Observation>| [one(Kind::LoggedIn, 1), then].concat();
    for (case, observations, reason) in [
        ("49 failures", one(Kind::Failed, 49), None),
        ("50 failures", one(Kind::Failed, 50), Some(Reason::Logins)),
        ("9 accounts", accounts(9), None),
        ("10 accounts", accounts(10), Some(Reason::Accounts)),
        ("an old phone", one(Kind::Repeated, 2400), None),
        ("a storm of it", one(Kind::Repeated, 2500), Some(Reason::Logins)),
        ("throttled", one(Kind::Throttled, 499), None),
        ("throttled for long", one(Kind::Throttled, 500), Some(Reason::Logins)),
        ("unknown recipients", one(Kind::UnknownRecipient, 99), None),
        ("many of them", one(Kind::UnknownRecipient, 100), Some(Reason::Recipients)),
        ("abuse", one(Kind::Abuse, 19), None),
        ("much of it", one(Kind::Abuse, 20), Some(Reason::Abuse)),
        ("known, 50 failures", known(one(Kind::Failed, 50)), None),
        ("known, 39 accounts", known(accounts(39)), None),
        ("known, 40 accounts", known(accounts(40)), Some(Reason::Accounts)),
        ("known, 200 failures", known(one(Kind::Failed, 200)), Some(Reason::Logins)),
        (
            "a list with old addresses",
            [one(Kind::UnknownRecipient, 90), one(Kind::TookRecipient, 200), one(Kind::UnknownRecipient, 90)]
                .concat(),
            None,
        ),
    ] {
        let (mut judge, t0) = (judge(&[]), Instant::now());
        let news: Vec<News> = observations.iter().flat_map(|seen| judge.observe(t0, seen)).collect();
        let expected: Vec<_> =
            reason.map(|reason| ("192.0.2.1/32".to_owned(), 900, reason)).into_iter().collect();
        assert_eq!(bans(&news), expected, "{case}");
    }
}

#[test]
fn counts_fade_and_bans_end_and_grow() {
    let (mut judge, t0) = (judge(&[]), Instant::now());
    let minutes = |minutes: u64| t0 + Duration::from_secs(60 * minutes);
    for hour in 0..10 {
        assert!(bans(&fail(&mut judge, minutes(hour * 60), "192.0.2.1", 40)).is_empty(), "40 an hour");
    }
    let mut at = minutes(2000);
    for seconds in [900, 1800, 3600, 7200] {
        assert_eq!(
            bans(&fail(&mut judge, at, "192.0.2.1", 60)),
            [("192.0.2.1/32".into(), seconds, Reason::Logins)]
        );
        assert!(
            bans(&fail(&mut judge, at, "192.0.2.1", 60)).is_empty(),
            "what was under way counts for nothing"
        );
        assert_eq!(judge.bans(at).len(), 1);
        at += Duration::from_secs(seconds);
        assert!(judge.bans(at).is_empty(), "it is over");
    }
    at += Policy::default().longest_ban;
    assert_eq!(bans(&fail(&mut judge, at, "192.0.2.1", 60)), [("192.0.2.1/32".into(), 900, Reason::Logins)]);
}

#[test]
fn ipv6_is_counted_by_its_64() {
    let (mut judge, t0) = (judge(&[]), Instant::now());
    for host in 1..50 {
        assert!(fail(&mut judge, t0, &format!("2001:db8:1:2::{host}"), 1).is_empty());
    }
    let news = fail(&mut judge, t0, "2001:db8:1:2:ffff::", 1);
    let banned = bans(&news);
    assert_eq!(banned, [("2001:db8:1:2::/64".to_owned(), 900, Reason::Logins)]);
}

#[test]
fn a_network_is_banned_only_when_nobody_logs_in_from_it() {
    for (case, good, own, expected) in [
        ("a network of bots", None, None, true),
        ("a NAT pool", Some("192.0.2.200"), None, false),
        ("a pod lives there", None, Some("192.0.2.201"), false),
    ] {
        let (mut judge, t0) = (judge(&[]), Instant::now());
        judge.own(t0, own.map(|own| Cidr::address(ip(own))));
        good.map(|good| judge.observe(t0, &seen(good, Kind::LoggedIn, "ann", 1)));
        let news: Vec<News> =
            (1..=5).flat_map(|host| fail(&mut judge, t0, &format!("192.0.2.{host}"), 60)).collect();
        let banned = bans(&news).iter().any(|(network, ..)| network == "192.0.2.0/24");
        assert_eq!(banned, expected, "{case}");
        assert_eq!(judge.bans(t0).len(), 5 + usize::from(expected), "{case}");
    }
}

#[test]
fn nobody_who_is_allowed_or_our_own_is_ever_banned() {
    let (mut judge, t0) = (judge(&["192.0.2.7", "2001:db8::1/128"]), Instant::now());
    judge.own(t0, [Cidr::address(ip("10.0.0.5"))]);
    for client in ["192.0.2.7", "10.0.0.5", "2001:db8::9"] {
        for kind in Kind::ALL {
            assert!(judge.observe(t0, &seen(client, kind, "ann", 1_000_000)).is_empty(), "{client} {kind:?}");
        }
        let networks = [Cidr::address(ip(client)), Cidr::network(ip(client)), Cidr::of(ip(client), 0)];
        for network in networks {
            assert_eq!(
                judge.ban(t0, network, Duration::from_secs(60)),
                Err(BanError::Protected),
                "{network}"
            );
            let ban = Ban { network, remaining: Duration::from_secs(60), reason: Reason::Logins };
            assert!(judge.adopt(t0, ban).is_empty(), "{network}");
        }
    }
    assert!(judge.bans(t0).is_empty());
}

#[test]
fn an_address_that_turns_out_to_be_our_own_is_banned_no_longer() {
    let (mut judge, t0) = (judge(&[]), Instant::now());
    fail(&mut judge, t0, "10.0.0.5", 60);
    fail(&mut judge, t0, "10.1.0.5", 60);
    let news = judge.own(t0, [Cidr::address(ip("10.0.0.5")), "10.1.0.0/16".parse().unwrap()]);
    let lifted = ["10.0.0.5", "10.1.0.5"].map(|address| News::Lifted(Cidr::address(ip(address))));
    assert_eq!(news, lifted);
    assert!(bans(&fail(&mut judge, t0, "10.1.0.9", 60)).is_empty());
    assert!(judge.bans(t0).is_empty());
}

#[test]
fn an_account_under_attack_is_slowed_and_its_good_addresses_are_told() {
    let (mut judge, t0) = (judge(&[]), Instant::now());
    judge.observe(t0, &seen("203.0.113.1", Kind::LoggedIn, "ann@example.org", 1));
    for _ in 0..100 {
        judge.observe(t0, &seen("203.0.113.1", Kind::Failed, "ann@example.org", 1));
    }
    assert!(judge.slowed(t0).is_empty(), "failures from where she logs in say nothing");
    let attack = |judge: &mut Judge, hosts: std::ops::Range<u32>| -> Vec<News> {
        hosts
            .flat_map(|host| fail(judge, t0, &Ipv4Addr::from_bits(0x0a00_0000 + (host << 8)).to_string(), 1))
            .collect()
    };
    let news = attack(&mut judge, 0..99);
    let slowed = |delay, good: &[&str]| {
        News::Slowed(Slowed {
            account: "ann@example.org".into(),
            delay: Duration::from_secs(delay),
            remaining: Policy::default().half_life,
            good: good.iter().map(|good| Cidr::address(ip(good))).collect(),
        })
    };
    assert_eq!(news, [slowed(1, &["203.0.113.1"])], "told once");
    assert_eq!(attack(&mut judge, 99..150), [slowed(2, &["203.0.113.1"])], "and when it grows");
    let again = judge.observe(t0, &seen("203.0.113.2", Kind::LoggedIn, "ann@example.org", 1));
    assert_eq!(again, [slowed(2, &["203.0.113.1", "203.0.113.2"])], "she logged in from elsewhere");
    assert_eq!(judge.slowed(t0).len(), 1);
    assert!(judge.slowed(t0 + Policy::default().half_life).is_empty());
    assert!(judge.bans(t0).is_empty(), "one failure of each address bans none");
}

#[test]
fn administrators_ban_and_lift() {
    let (mut judge, t0) = (judge(&[]), Instant::now());
    let network: Cidr = "198.51.100.0/22".parse().unwrap();
    let news = judge.ban(t0, network, Duration::from_secs(3600)).unwrap();
    assert_eq!(bans(&news), [("198.51.100.0/22".to_owned(), 3600, Reason::Administrator)]);
    assert_eq!(judge.lift(network), Some(News::Lifted(network)));
    assert_eq!(judge.lift(network), None);
    fail(&mut judge, t0, "192.0.2.1", 60);
    let client = Cidr::address(ip("192.0.2.1"));
    assert_eq!(judge.lift(client), Some(News::Lifted(client)));
    assert_eq!(
        bans(&fail(&mut judge, t0, "192.0.2.1", 60))[0].1,
        900,
        "what was lifted does not make the next longer"
    );
}

#[test]
fn what_frontends_hold_after_a_restart_is_taken_over() {
    let (mut judge, t0) = (judge(&[]), Instant::now());
    let ban = |seconds| Ban {
        network: Cidr::address(ip("192.0.2.1")),
        remaining: Duration::from_secs(seconds),
        reason: Reason::Logins,
    };
    assert_eq!(judge.adopt(t0, ban(100)), [News::Banned(ban(100))]);
    assert!(judge.adopt(t0, ban(99)).is_empty(), "another frontend has it too");
    assert!(judge.adopt(t0, ban(0)).is_empty());
    let over = t0 + Duration::from_secs(100);
    assert_eq!(bans(&fail(&mut judge, over, "192.0.2.1", 60))[0].1, 1800, "the next one is longer");
}

fn kinds() -> impl Strategy<Value = Kind> {
    proptest::sample::select(Kind::ALL.to_vec())
}

proptest! {
    #[test]
    fn memory_is_bounded_and_trusted_are_free_whatever_comes(
        observations in proptest::collection::vec(
            (any::<u32>(), any::<bool>(), kinds(), any::<u16>(), 1_u32..1000, 0_u64..100_000), 1..400),
        trusted in any::<u32>(),
    ) {
        let capacity = 20;
        let address = |number: u32| IpAddr::from(Ipv4Addr::from_bits(number));
        let allowed = address(trusted);
        let policy = Policy { capacity, ..Policy::default() };
        let mut judge = Judge::new(policy, Lists::parse(&[allowed.to_string()], &[]).unwrap());
        let t0 = Instant::now();
        for (number, near, kind, account, count, later) in observations {
            // Every second one is the trusted address itself or a neighbour.
            let client = if near { address(trusted & !3 | number & 3) } else { address(number) };
            let account = format!("u{account}");
            let seen = Observation { client: Cidr::address(client), kind, account, count };
            let news = judge.observe(t0 + Duration::from_millis(later), &seen);
            for news in news {
                if let News::Banned(ban) = news {
                    prop_assert!(!ban.network.contains(allowed), "{}", ban.network);
                    prop_assert!(ban.remaining <= Policy::default().longest_ban);
                }
            }
            prop_assert!(judge.entries() <= 5 * capacity);
        }
    }

    #[test]
    fn every_ban_ends(times in 1_u32..40) {
        let (mut judge, mut now) = (judge(&[]), Instant::now());
        for _ in 0..times {
            fail(&mut judge, now, "192.0.2.1", 60);
            now += Policy::default().longest_ban;
            prop_assert!(judge.bans(now).is_empty());
        }
    }
}
