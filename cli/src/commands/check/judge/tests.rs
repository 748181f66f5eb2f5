use super::{Level::*, *};

const HOST: &str = "mail.example.org";

fn host_facts() -> HostFacts {
    let address: IpAddr = "192.0.2.1".parse().unwrap();
    HostFacts { addresses: Some(vec![address]), names: vec![(address, Some(vec![HOST.into()]))] }
}

fn some(texts: &[&str]) -> Found<String> {
    Some(texts.iter().map(|text| (*text).to_owned()).collect())
}

#[test]
fn who_may_send() {
    for (texts, level) in [
        (some(&["v=spf1 mx -all"]), Ok),
        (some(&["other", "v=spf1 +a:Mail.example.org ~all"]), Ok),
        (some(&["v=spf1 ip4:192.0.2.1 -all"]), Ok),
        (some(&["v=spf1 ip4:192.0.2.0/24 -all"]), Advice),
        (some(&["v=spf1 include:example.net -all"]), Advice),
        (some(&["v=spf1 -mx -all"]), Wrong),
        (some(&["v=spf1 -all"]), Wrong),
        (some(&["v=spf1 mx -all", "v=spf1 mx -all"]), Wrong),
        (some(&["v=spf10 mx -all"]), Missing),
        (some(&[]), Missing),
        (None, Unknown),
    ] {
        let found = spf("example.org", (HOST, &host_facts()), &texts);
        assert_eq!(found.level, level, "{texts:?}");
        assert_eq!(found.publish.is_some(), matches!(level, Wrong | Missing), "{texts:?}");
    }
}

#[test]
fn who_takes_mail() {
    let facts = |exchanges: Found<(u16, &str)>| DomainFacts {
        exchanges: exchanges.map(|all| all.into_iter().map(|(n, host)| (n, host.to_owned())).collect()),
        texts: None,
        dmarc: None,
        mta_sts: None,
        keys: Vec::new(),
    };
    for (exchanges, level) in [
        (Some(vec![(10, HOST)]), Ok),
        (Some(vec![(10, "a.example.net"), (10, HOST)]), Ok),
        (Some(vec![(5, "a.example.net"), (10, HOST)]), Advice),
        (Some(vec![(5, "a.example.net")]), Wrong),
        (Some(vec![(0, ".")]), Wrong),
        (Some(vec![]), Missing),
        (None, Unknown),
    ] {
        assert_eq!(exchange("example.org", HOST, &facts(exchanges.clone())).level, level, "{exchanges:?}");
    }
}

#[test]
fn keys_policies_and_names() {
    let key = DomainKey { record_text: "v=DKIM1; k=rsa; p=AB".into(), ..Default::default() };
    for (found, level) in [
        (some(&["v=DKIM1;k=rsa;p=A B;"]), Ok),
        (some(&["v=DKIM1; k=rsa; p="]), Wrong),
        (some(&[]), Missing),
        (None, Unknown),
    ] {
        assert_eq!(dkim(&key, &found).level, level, "{found:?}");
    }
    for (found, level) in [
        (some(&["v=DMARC1; p=reject"]), Ok),
        (some(&["v=DMARC1; rua=mailto:a@b"]), Wrong),
        (some(&["v=DMARC1; p=none", "v=DMARC1; p=none"]), Wrong),
        (some(&["p=none"]), Missing),
        (None, Unknown),
    ] {
        assert_eq!(dmarc("example.org", &found).level, level, "{found:?}");
    }
    let address = "192.0.2.1".parse().unwrap();
    for (names, level) in
        [(some(&["x", HOST]), Ok), (some(&["x"]), Wrong), (some(&[]), Missing), (None, Unknown)]
    {
        assert_eq!(pointer(HOST, address, &names).level, level, "{names:?}");
    }
    let nowhere = HostFacts { addresses: Some(Vec::new()), names: Vec::new() };
    assert_eq!(host(HOST, &nowhere)[0].level, Missing);
}
