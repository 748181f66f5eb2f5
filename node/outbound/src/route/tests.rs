use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

fn ourselves() -> Ourselves {
    Ourselves {
        names: ["mx.us.example".to_owned(), "us.example".to_owned()].into(),
        addresses: ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()].into(),
        loopback_is_another: false,
    }
}

fn relay() -> Smarthost {
    Smarthost { host: "relay.example".into(), port: 587 }
}

fn refused<T: std::fmt::Debug>(result: Result<T, Failure>) -> String {
    result.unwrap_err().status.to_string()
}

#[test]
fn the_first_step_is_the_administrators_or_the_dns() {
    let ways = Ways {
        by_domain: [
            ("partner.example".to_owned(), Way::Via(relay())),
            (".internal.example".to_owned(), Way::Via(relay())),
            ("out.internal.example".to_owned(), Way::Direct),
            ("xn--mnchen-3ya.example".to_owned(), Way::Via(relay())),
        ]
        .into(),
        default: Way::Direct,
    };
    let mx = |name: &str| First::LookUpMx(name.to_owned());
    for (domain, expected) in [
        ("example.com", mx("example.com")),
        ("EXAMPLE.com.", mx("example.com")),
        ("partner.example", First::Smarthost(relay())),
        ("a.partner.example", mx("a.partner.example")),
        ("internal.example", mx("internal.example")),
        ("a.b.internal.example", First::Smarthost(relay())),
        ("out.internal.example", mx("out.internal.example")),
        // IDN: as U-label and as A-label it is the same domain.
        ("M\u{fc}nchen.example", First::Smarthost(relay())),
        ("b\u{fc}cher.example", mx("xn--bcher-kva.example")),
        ("[192.0.2.9]", First::Address("192.0.2.9".parse().unwrap())),
        ("[IPv6:2001:db8::9]", First::Address("2001:db8::9".parse().unwrap())),
        ("[ipv6:::ffff:192.0.2.9]", First::Address("192.0.2.9".parse().unwrap())),
    ] {
        assert_eq!(first(domain, &ways, &ourselves()), Ok(expected), "{domain}");
    }
    let all = Ways { default: Way::Via(relay()), ..Ways::default() };
    for domain in ["example.com", "[192.0.2.9]"] {
        assert_eq!(first(domain, &all, &ourselves()), Ok(First::Smarthost(relay())), "{domain}");
    }
}

#[test]
fn what_is_no_domain_goes_nowhere() {
    let long = format!("{}.example", "a".repeat(64));
    let longer = "a.".repeat(127) + "toolong";
    let longest = "\u{fc}".repeat(100_000);
    for domain in [
        "",
        ".",
        "a..b",
        "-a.b",
        "a-.b",
        "a b",
        "a\r\n.b",
        "192.0.2.9",
        "\u{fc}\u{0}.x",
        "xn--\u{fc}",
        &long,
        &longer,
        &longest,
        "[192.0.2]",
        "[]",
        "[IPv6:192.0.2.9]",
        "[2001:db8::9]",
        "[x",
        "[0.0.0.0]",
        "[224.0.0.1]",
        "[255.255.255.255]",
        "[IPv6:::]",
        "[IPv6:ff02::1]",
    ] {
        assert_eq!(refused(first(domain, &Ways::default(), &ourselves())), "5.1.2", "{domain:?}");
    }
    for domain in
        ["[127.0.0.1]", "[192.0.2.1]", "[IPv6:2001:db8::1]", "[IPv6:::1]", "[IPv6:::ffff:192.0.2.1]"]
    {
        assert_eq!(refused(first(domain, &Ways::default(), &ourselves())), "5.4.6", "{domain}");
    }
    let elsewhere = Ourselves { loopback_is_another: true, ..ourselves() };
    assert!(first("[127.0.0.1]", &Ways::default(), &elsewhere).is_ok());
}

fn mx(records: &[(u16, &str)]) -> Looked<Exchange> {
    let record =
        |(preference, host): &(u16, &str)| Exchange { preference: *preference, host: (*host).to_owned() };
    Looked { answer: Answer::Records(records.iter().map(record).collect()), secure: true }
}

/// The last of a group comes first: an order that is not that of the records.
fn reversed(n: usize) -> usize {
    let _ = n;
    0
}

fn hosts(looked: &Looked<Exchange>) -> Result<Vec<String>, Failure> {
    let found = exchanges("dest.example", looked, &ourselves(), Limits::default(), &mut reversed)?;
    Ok(found.hosts.into_iter().map(|exchange| exchange.host).collect())
}

#[test]
fn hosts_stand_by_preference_and_then_as_drawn() {
    for (records, expected) in [
        (&[(10, "a.example"), (5, "b.example")][..], &["b.example", "a.example"][..]),
        (
            &[(5, "a.example"), (5, "b.example"), (5, "c.example"), (1, "d.example")],
            &["d.example", "b.example", "c.example", "a.example"],
        ),
        (&[(5, "A.Example."), (9, "a.example"), (1, "b.example")], &["b.example", "a.example"]),
        // What is no name is no host; the rest stands.
        (&[(1, "192.0.2.7"), (1, "."), (1, "-x"), (5, "a.example")], &["a.example"]),
        // We, and all that are no nearer to the mailbox than we are, are dropped.
        (&[(5, "a.example"), (10, "MX.us.example."), (10, "b.example"), (20, "c.example")], &["a.example"]),
    ] {
        let expected: Vec<String> = expected.iter().map(|host| (*host).to_owned()).collect();
        assert_eq!(hosts(&mx(records)), Ok(expected), "{records:?}");
    }
}

#[test]
fn what_the_dns_answers_decides() {
    let plain = Looked::plain;
    for (looked, status) in [
        (plain(Answer::NoName), "5.1.2"),
        (plain(Answer::Failed), "4.4.3"),
        (plain(Answer::Bogus), "4.4.3"),
        (mx(&[(0, ".")]), "5.1.10"),
        (mx(&[(0, "")]), "5.1.10"),
        (mx(&[(5, "mx.us.example"), (7, "b.example")]), "5.4.6"),
        (mx(&[(5, "192.0.2.7"), (7, "-")]), "5.4.4"),
        (mx(&[(0, "."), (0, ".")]), "5.4.4"),
    ] {
        assert_eq!(refused(hosts(&looked)), status, "{looked:?}");
    }
    let list = |domain: &str, looked: &Looked<Exchange>| {
        exchanges(domain, looked, &ourselves(), Limits::default(), &mut reversed)
    };
    let own = Exchange { preference: 0, host: "dest.example".into() };
    for secure in [true, false] {
        let looked = Looked { answer: Answer::NoRecord, secure };
        let expected = Exchanges { hosts: vec![own.clone()], implicit: true, secure };
        assert_eq!(list("dest.example", &looked), Ok(expected));
    }
    assert_eq!(refused(list("us.example", &plain(Answer::NoRecord))), "5.4.6");
    assert!(list("dest.example", &mx(&[(1, "a.example")])).unwrap().secure);
    let failure = list("dest.example", &plain(Answer::NoName)).unwrap_err();
    assert!(failure.is_permanent());
    assert!(!failure.of_our_own_making().is_permanent());
}

fn answer(v4: &[&str], v6: &[&str]) -> HostAnswer {
    fn looked<T: std::str::FromStr<Err: std::fmt::Debug>>(texts: &[&str]) -> Looked<T> {
        match texts {
            [] => Looked::plain(Answer::NoRecord),
            ["failed"] => Looked::plain(Answer::Failed),
            ["bogus"] => Looked::plain(Answer::Bogus),
            ["none"] => Looked::plain(Answer::NoName),
            texts => Looked::plain(Answer::Records(texts.iter().map(|text| text.parse().unwrap()).collect())),
        }
    }
    HostAnswer { v4: looked(v4), v6: looked(v6), canonical: None }
}

fn two_hosts(implicit: bool) -> Exchanges {
    let host = |preference, host: &str| Exchange { preference, host: host.to_owned() };
    let hosts = match implicit {
        true => vec![host(0, "dest.example")],
        false => vec![host(5, "a.example"), host(10, "b.example")],
    };
    Exchanges { hosts, implicit, secure: false }
}

#[test]
fn addresses_take_turns_and_are_bounded() {
    let find = |answers: &[HostAnswer], limits| {
        let found = targets(&two_hosts(false), answers, &ourselves(), limits, &mut |n| n - 1)?;
        Ok::<_, Failure>(found.into_iter().map(|t| t.address.to_string()).collect::<Vec<_>>())
    };
    let many = [
        answer(&["198.51.100.1", "198.51.100.2", "198.51.100.3"], &["2001:db8:1::1", "::ffff:198.51.100.2"]),
        answer(&["0.0.0.0", "198.51.100.9", "224.0.0.1"], &["failed"]),
    ];
    let limits = Limits::default();
    assert_eq!(
        find(&many, limits).unwrap(),
        ["2001:db8:1::1", "198.51.100.1", "198.51.100.2", "198.51.100.3", "198.51.100.9"]
    );
    let few = Limits { addresses_of_a_host: 2, ..limits };
    assert_eq!(find(&many, few).unwrap(), ["2001:db8:1::1", "198.51.100.1", "198.51.100.9"]);
    assert_eq!(find(&many, Limits { addresses: 1, ..limits }).unwrap(), ["2001:db8:1::1"]);
    // One host that cannot be looked up does not keep mail from another.
    assert_eq!(
        find(&[answer(&["failed"], &["failed"]), answer(&["198.51.100.9"], &[])], limits).unwrap(),
        ["198.51.100.9"]
    );
    // A host with one of our addresses is us, whatever it calls itself.
    let we_second = [answer(&["198.51.100.1"], &[]), answer(&["192.0.2.1"], &[])];
    assert_eq!(find(&we_second, limits).unwrap(), ["198.51.100.1"]);
    let we_first = [answer(&["127.0.0.1"], &[]), answer(&["198.51.100.1"], &[])];
    assert_eq!(refused(find(&we_first, limits)), "5.4.6");
}

#[test]
fn no_address_is_final_only_when_every_answer_was_had() {
    for (implicit, answers, status) in [
        (false, &[answer(&[], &[]), answer(&["none"], &["none"])][..], "5.4.4"),
        (false, &[answer(&[], &[]), answer(&[], &["failed"])], "4.4.3"),
        (false, &[answer(&[], &[]), answer(&["bogus"], &[])], "4.4.3"),
        (false, &[answer(&[], &[])], "4.4.3"),
        (false, &[answer(&["failed"], &[]), answer(&["192.0.2.1"], &[])], "4.4.3"),
        (true, &[answer(&[], &[])], "5.1.2"),
        (true, &[answer(&["0.0.0.0"], &[])], "5.1.2"),
        (true, &[answer(&["failed"], &[])], "4.4.3"),
        (true, &[answer(&[], &["2001:db8::1"])], "5.4.6"),
    ] {
        let found = targets(&two_hosts(implicit), answers, &ourselves(), Limits::default(), &mut reversed);
        assert_eq!(refused(found), status, "{answers:?}");
    }
}

#[test]
fn what_dnssec_vouches_for_is_kept_apart_by_kind() {
    let mut one = answer(&["198.51.100.1"], &["2001:db8:1::1"]);
    one.v6.secure = true;
    one.canonical = Some("real.example".into());
    let found = targets(&two_hosts(true), &[one], &ourselves(), Limits::default(), &mut reversed).unwrap();
    let secure: Vec<(bool, bool)> = found.iter().map(|t| (t.address.is_ipv6(), t.secure)).collect();
    assert_eq!(secure, [(true, true), (false, false)]);
    assert!(found.iter().all(|t| t.canonical.as_deref() == Some("real.example")));
}

proptest! {
    /// Any records and draws: no panic, the best first, nobody twice, never we, within the limits.
    #[test]
    fn any_mx_records_give_an_ordered_list(
        records in prop::collection::vec((0u16..4, "[a-c]{1,2}\\.example|mx.us.example|\\PC{0,6}|\\.?"), 0..30),
        draws in prop::collection::vec(any::<usize>(), 1..10),
        limit in 0usize..6,
    ) {
        let named: Vec<(u16, &str)> = records.iter().map(|(preference, host)| (*preference, host.as_str())).collect();
        let mut drawn = draws.into_iter().cycle();
        let limits = Limits { hosts: limit, ..Limits::default() };
        let result = exchanges("d.example", &mx(&named), &ourselves(), limits, &mut |_| drawn.next().unwrap());
        if let Ok(found) = result {
            let list = &found.hosts;
            prop_assert!(!list.is_empty() && list.len() <= limit.max(1));
            prop_assert!(list.windows(2).all(|w| w[0].preference <= w[1].preference));
            let distinct: BTreeSet<&str> = list.iter().map(|e| e.host.as_str()).collect();
            prop_assert_eq!(distinct.len(), list.len());
            prop_assert!(!distinct.contains("mx.us.example"));
            let us = named.iter().filter(|(_, host)| *host == "mx.us.example").map(|(p, _)| *p).min();
            prop_assert!(list.iter().all(|e| us.is_none_or(|us| e.preference < us)));
        }
    }

    #[test]
    fn no_domain_makes_it_panic(domain in "\\PC{0,80}|\\[.{0,30}\\]|xn--[a-z0-9-]{0,60}") {
        if let Ok(First::LookUpMx(name)) = first(&domain, &Ways::default(), &ourselves()) {
            prop_assert!(name.is_ascii() && name.len() <= 253);
            prop_assert_eq!(a_labels(&name), Ok(name.clone()));
        }
    }

    #[test]
    fn any_addresses_give_a_bounded_list(
        v4 in prop::collection::vec(any::<u32>(), 0..50),
        v6 in prop::collection::vec(any::<u128>(), 0..50),
        draw in any::<usize>(),
    ) {
        let answer = HostAnswer {
            v4: Looked::plain(Answer::Records(v4.into_iter().map(Ipv4Addr::from).collect())),
            v6: Looked::plain(Answer::Records(v6.into_iter().map(Ipv6Addr::from).collect())),
            canonical: None,
        };
        if let Ok(found) = targets(&two_hosts(true), &[answer], &ourselves(), Limits::default(), &mut |_| draw) {
            prop_assert!((1..=4).contains(&found.len()));
            prop_assert!(found.iter().all(|t| usable(t.address) == Some(t.address)));
        }
    }
}
