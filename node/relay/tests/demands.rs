//! What destinations demand of connections: DANE (RFC 7672) and MTA-STS (RFC 8461), with real handshakes on loopback.

mod site;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use mailcluster_outbound::{route::Answer, tls::dane::Tlsa};
use mailcluster_relay::{Fate, Relay, Settings, Tls};
use ring::digest::{SHA256, digest};
use site::{Identity, Names, Play, Site, relay_with, send, settings};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

const OFFERS: &str = "250-mx\r\n250 STARTTLS";
const PLAIN: &[(&str, &str)] = &[
    ("", "220 mx"),
    ("EHLO", "250 mx"),
    ("MAIL", "250 ok"),
    ("RCPT", "250 ok"),
    ("DATA", "354 go on"),
    (".", "250 taken"),
    ("QUIT", "221 bye"),
];

fn sha256(usage: u8, der: &[u8]) -> Tlsa {
    Tlsa { usage, selector: 0, matching: 1, data: digest(&SHA256, der).as_ref().to_vec() }
}

/// What became of a message, and what stood in its way.
async fn sent(relay: &Relay) -> (Fate, String) {
    let told = send(relay, &["joe@a.test"], b"x\r\n").await.told.remove(0);
    (told.fate, format!("{} {told}", told.status))
}

/// To a server of the name `host` with this answer of the DNS about its TLSA records.
async fn with_tlsa(
    (host, play): (&str, Play),
    secure: bool,
    tlsa: impl FnOnce(&Identity) -> Answer<Tlsa>,
) -> (Fate, String, String) {
    let site = Site::open(vec![play, Play::Script(PLAIN.to_vec())]).await;
    let names = Names { secure, tlsa: tlsa(&site.identity), ..site.names(&[host]) };
    let (fate, why) = sent(&relay_with(settings(&site), names)).await;
    (fate, why, site.heard().await)
}

#[tokio::test]
async fn tlsa_records_are_kept() {
    let records = |list: Vec<Tlsa>| Answer::Records(list);
    let own = |of: &Identity| records(vec![sha256(3, &of.own)]);
    let authority = |of: &Identity| records(vec![sha256(2, &of.authority)]);
    let another = |_: &Identity| records(vec![sha256(3, b"another"), sha256(2, b"another")]);
    let unusable = |_: &Identity| records(vec![sha256(0, b"x"), sha256(1, b"x")]);
    let host = ("mx.a.test", Play::Tls(OFFERS));
    let in_clear = ("mx.a.test", Play::Script(PLAIN.to_vec()));

    let (fate, why, _) = with_tlsa(host.clone(), true, own).await;
    assert_eq!(fate, Fate::Delivered, "{why}");
    let (fate, why, _) = with_tlsa(host.clone(), true, authority).await;
    assert_eq!(fate, Fate::Delivered, "{why}");
    let (fate, why, _) = with_tlsa(host.clone(), true, unusable).await;
    assert_eq!(fate, Fate::Delivered, "any certificate: {why}");
    let (fate, why, heard) = with_tlsa(host.clone(), true, another).await;
    assert_eq!(fate, Fate::Later, "{why}");
    assert!(why.starts_with("4.7.5") && why.contains("TLSA"), "{why}");
    assert!(!heard.contains("MAIL"), "it was sent in clear: {heard}");
    let (fate, why, heard) = with_tlsa(in_clear.clone(), true, own).await;
    assert_eq!(fate, Fate::Later, "{why}");
    assert!(why.starts_with("4.7.4") && !heard.contains("MAIL"), "{why}: {heard}");
    let (fate, why, heard) = with_tlsa(host, true, |_| Answer::Bogus).await;
    assert_eq!((fate, heard.as_str()), (Fate::Later, ""), "it was connected to: {why}");
    let (fate, why, _) = with_tlsa(in_clear, false, another).await;
    assert_eq!(fate, Fate::Delivered, "records that nobody vouches for do not count: {why}");
}

#[tokio::test]
async fn below_an_authority_names_and_dates_count() {
    let site = Site::open(vec![Play::Tls(OFFERS)]).await;
    // The certificate is of mx.a.test, and the MX record names another host.
    let tlsa = Answer::Records(vec![sha256(2, &site.identity.authority)]);
    let names = Other(Names { secure: true, tlsa, ..site.names(&["other.test"]) });
    let relay = Relay::new(settings(&site), Arc::new(names), Tls::new(&[]).unwrap());
    let (fate, why) = sent(&relay).await;
    assert_eq!(fate, Fate::Later, "{why}");
    assert!(why.contains("TLSA"), "{why}");
}

/// Answers for any host's TLSA records.
struct Other(Names);

#[async_trait::async_trait]
impl mailcluster_relay::Dns for Other {
    async fn exchanges(
        &self,
        domain: &str,
    ) -> mailcluster_outbound::route::Looked<mailcluster_outbound::route::Exchange> {
        self.0.exchanges(domain).await
    }

    async fn host(&self, host: &str) -> mailcluster_outbound::route::HostAnswer {
        self.0.host(host).await
    }

    async fn tlsa(&self, _: &str) -> mailcluster_outbound::route::Looked<Tlsa> {
        self.0.tlsa("_25._tcp.mx.a.test").await
    }

    async fn texts(&self, name: &str) -> Answer<String> {
        self.0.texts(name).await
    }
}

/// A web server that answers each request with this; answers its port, and how often it was asked.
async fn web(identity: Arc<Identity>, answer: &'static str) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, asked) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
    let counts = asked.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = identity.acceptor().accept(stream).await else { continue };
            let mut request = vec![0; 4096];
            let got = stream.read(&mut request).await.unwrap_or(0);
            let text = String::from_utf8_lossy(&request[..got]).into_owned();
            assert!(text.starts_with("GET /.well-known/mta-sts.txt HTTP/1.1\r\n"), "{text}");
            assert!(text.to_ascii_lowercase().contains("host: mta-sts.a.test\r\n"), "{text}");
            counts.fetch_add(1, Ordering::SeqCst);
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    (port, asked)
}

macro_rules! policy {
    ($mode:literal, $host:literal) => {
        concat!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n",
            "version: STSv1\nmode: ",
            $mode,
            "\nmx: ",
            $host,
            "\nmax_age: 86400\n"
        )
    };
}

/// To a server that plays these, under a policy that a web server answers with; the site's authority is trusted when that is
/// said. Answers what became of two messages.
async fn under(plays: Vec<Play>, answer: &'static str, trusted: Trusted) -> [(Fate, String); 2] {
    let site = Site::open(plays).await;
    let (https_port, asked) = web(site.identity.clone(), answer).await;
    let texts = Answer::Records(vec!["v=STSv1; id=1;".to_owned()]);
    let names = Names { texts, ..site.names(&["mx.a.test"]) };
    let more = match trusted {
        Trusted::Yes => vec![site.identity.authority.clone()],
        Trusted::No => vec![],
    };
    let settings = Settings { https_port, ..settings(&site) };
    let relay = Relay::new(settings, Arc::new(names), Tls::new(&more).unwrap());
    let both = [sent(&relay).await, sent(&relay).await];
    assert!(asked.load(Ordering::SeqCst) <= 1, "a policy is fetched once, and so is one that cannot be had");
    both
}

#[derive(Clone, Copy)]
enum Trusted {
    Yes,
    No,
}

#[tokio::test]
async fn a_policy_that_is_enforced_is_kept() {
    let (tls, clear) = (Play::Tls(OFFERS), Play::Script(PLAIN.to_vec()));
    let twice = |play: &Play| vec![play.clone(), play.clone()];
    for (what, plays, answer, trusted, fate, word) in [
        ("kept", twice(&tls), policy!("enforce", "*.a.test"), Trusted::Yes, Fate::Delivered, ""),
        ("no TLS", twice(&clear), policy!("enforce", "mx.a.test"), Trusted::Yes, Fate::Later, "4.7.4"),
        ("another host", twice(&tls), policy!("enforce", "mx.b.test"), Trusted::Yes, Fate::Later, "policy"),
        ("testing", twice(&clear), policy!("testing", "mx.b.test"), Trusted::Yes, Fate::Delivered, ""),
        ("none", twice(&clear), policy!("none", "mx.b.test"), Trusted::Yes, Fate::Delivered, ""),
        // A policy that cannot be believed is none.
        ("untrusted", twice(&clear), policy!("enforce", "mx.b.test"), Trusted::No, Fate::Delivered, ""),
        ("moved", twice(&clear), "HTTP/1.1 301 x\r\nLocation: /\r\n\r\n", Trusted::Yes, Fate::Delivered, ""),
        (
            "not text",
            twice(&clear),
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\nversion: STSv1",
            Trusted::Yes,
            Fate::Delivered,
            "",
        ),
    ] {
        for (became, why) in under(plays, answer, trusted).await {
            assert_eq!(became, fate, "{what}: {why}");
            assert!(why.contains(word), "{what}: {why}");
        }
    }
}
