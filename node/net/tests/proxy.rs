//! The PROXY protocol: tables, and whatever else may come.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

use std::{net::SocketAddr, time::Duration};

use mailcluster_net::proxy::{Header, ParseError, Private, ReadError, TrustedProxies, parse, read_header};
use mailcluster_types::{AccountId, ClusterId, SessionId, TlsFacts};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn addresses(source: &str, destination: &str) -> Option<(SocketAddr, SocketAddr)> {
    Some((source.parse().unwrap(), destination.parse().unwrap()))
}

#[test]
fn version_1_lines() {
    for (line, expected) in [
        ("PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n", addresses("192.0.2.1:56324", "192.0.2.2:443")),
        (
            "PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n",
            addresses("[2001:db8::1]:1", "[2001:db8::2]:65535"),
        ),
        ("PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", addresses("192.0.2.1:1", "[::1]:2")),
        ("PROXY UNKNOWN\r\n", None),
        ("PROXY UNKNOWN ffff::1 whatever 1 2\r\n", None),
    ] {
        let input = [line.as_bytes(), b"* rest"].concat();
        let (header, taken) = parse(&input).unwrap().unwrap();
        assert_eq!((header.addresses, taken), (expected, line.len()), "{line}");
        for cut in 0..line.len() {
            assert_eq!(parse(&line.as_bytes()[..cut]), Ok(None), "{line} cut at {cut}");
        }
    }
}

#[test]
fn version_1_garbage() {
    for line in [
        "PROXY TCP4 192.0.2.1 192.0.2.2 56324\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443 x\r\n",
        "PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY TCP4 2001:db8::1 192.0.2.2 1 2\r\n",
        "PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n",
        "PROXY tcp4 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY \u{fffd}\r\n",
    ] {
        assert!(matches!(parse(line.as_bytes()), Err(ParseError::Malformed(_))), "{line}");
    }
    for other in ["EHLO x\r\n", "PROXZ", "proxy TCP4", "\r\n\r\n\0\r\nQUIX"] {
        assert_eq!(parse(other.as_bytes()), Err(ParseError::NotProxy), "{other}");
    }
    let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(200));
    assert_eq!(parse(long.as_bytes()), Err(ParseError::TooLong));
}

#[test]
fn version_2_from_others() {
    let sig = b"\r\n\r\n\0\r\nQUIT\n";
    let tcp4 = [&sig[..], &[0x21, 0x11, 0, 12, 192, 0, 2, 1, 192, 0, 2, 2, 0xdc, 0x04, 1, 0xbb]].concat();
    let (header, taken) = parse(&tcp4).unwrap().unwrap();
    assert_eq!((header.addresses, taken), (addresses("192.0.2.1:56324", "192.0.2.2:443"), 28));
    // LOCAL: whatever the addresses say.
    let mut local = tcp4.clone();
    local[12] = 0x20;
    let (header, _) = parse(&local).unwrap().unwrap();
    assert!(header.local && header.addresses.is_none());
    // A type nobody knows (0x04 NOOP) is passed over.
    let noop = [&sig[..], &[0x21, 0x11, 0, 16, 1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 0, 2, 4, 0, 1, 9]].concat();
    assert_eq!(parse(&noop).unwrap().unwrap().0.addresses, addresses("1.2.3.4:1", "5.6.7.8:2"));
    for (at, octet) in [(12, 0x11), (12, 0x22), (13, 0x41), (13, 0x13), (15, 11)] {
        let mut bad = tcp4.clone();
        bad[at] = octet;
        assert!(matches!(parse(&bad), Err(ParseError::Malformed(_))), "{at} {octet:x}");
    }
    let mut long = tcp4.clone();
    long[14] = 0xff;
    assert_eq!(parse(&long), Err(ParseError::TooLong));
    for tail in [
        &[0xe2, 0, 7, 0, 0, 0, 0, 0, 0, 0][..],
        &[0xe1, 0, 2, b'A', b'\n'],
        &[0x02, 0, 2, b'\r', b'\n'],
        &[1, 0],
    ] {
        let mut bad = tcp4.clone();
        bad[15] += u8::try_from(tail.len()).unwrap();
        bad.extend_from_slice(tail);
        assert!(matches!(parse(&bad), Err(ParseError::Malformed(_))), "{tail:x?}");
    }
}

fn any_addr() -> impl Strategy<Value = SocketAddr> {
    let v4 = any::<([u8; 4], u16)>().prop_map(SocketAddr::from);
    let v6 = any::<([u8; 16], u16)>()
        .prop_map(|(ip, port)| SocketAddr::new(std::net::IpAddr::from(ip).to_canonical(), port));
    prop_oneof![v4, v6]
}

fn any_tls() -> impl Strategy<Value = TlsFacts> {
    ("TLSv1\\.[23]", "[A-Z0-9_]{1,40}", proptest::option::of("[a-z0-9.-]{1,60}"))
        .prop_map(|(version, cipher, sni)| TlsFacts { version, cipher, sni })
}

fn any_private() -> impl Strategy<Value = Private> {
    use proptest::option::of;
    (of(any::<u128>()), of("[a-z0-9-]{1,50}"), of(any::<u64>()), of(any::<u128>()), of(any::<u128>()))
        .prop_map(|(cluster, store, epoch, account, session)| Private {
            cluster: cluster.map(ClusterId),
            store: store.map(Into::into),
            epoch,
            account: account.map(AccountId),
            session: session.map(SessionId),
        })
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        pair in proptest::option::of((any_addr(), any_addr())),
        tls in proptest::option::of(any_tls()),
        private in any_private(),
        rest in proptest::collection::vec(any::<u8>(), 0..20),
    ) {
        let header = Header { local: false, addresses: pair, tls, private };
        let written = header.encode();
        let input = [&written[..], &rest].concat();
        prop_assert_eq!(parse(&input), Ok(Some((header, written.len()))));
        for cut in 0..written.len() {
            prop_assert_eq!(parse(&written[..cut]), Ok(None));
        }
    }

    #[test]
    fn octets_never_panic(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&octets);
        let _ = parse(&[b"\r\n\r\n\0\r\nQUIT\n\x21", &octets[..]].concat());
        let _ = parse(&[b"PROXY ", &octets[..]].concat());
    }

    #[test]
    fn damaged_headers_never_panic(private in any_private(), tls in any_tls(), at in 0usize..300, octet: u8) {
        let addresses = addresses("192.0.2.1:1", "[::1]:2");
        let mut written = Header { local: false, addresses, tls: Some(tls), private }.encode();
        let at = at % written.len();
        written[at] = octet;
        let _ = parse(&written);
    }
}

#[tokio::test]
async fn reading_takes_the_header_and_not_an_octet_more() {
    let v2 = Header { addresses: addresses("192.0.2.1:1", "192.0.2.2:2"), ..Header::default() }.encode();
    for header in [&v2[..], b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"] {
        for piece in [1, 5, 1000] {
            let (mut near, mut far) = tokio::io::duplex(64);
            let input = [header, b"a1 NOOP\r\n"].concat();
            let send = async move {
                for octets in input.chunks(piece) {
                    near.write_all(octets).await.unwrap();
                }
            };
            let receive = async {
                let header = read_header(&mut far, Duration::from_secs(5)).await.unwrap();
                assert_eq!(header.addresses, addresses("192.0.2.1:1", "192.0.2.2:2"));
                let mut rest = String::new();
                far.read_to_string(&mut rest).await.unwrap();
                assert_eq!(rest, "a1 NOOP\r\n");
            };
            tokio::join!(send, receive);
        }
    }
}

#[tokio::test]
async fn a_header_that_does_not_come_or_is_none_is_an_error() {
    let (_near, mut far) = tokio::io::duplex(64);
    let error = read_header(&mut far, Duration::from_millis(20)).await.unwrap_err();
    assert!(matches!(error, ReadError::Timeout));
    let mut garbage = &b"EHLO example.org\r\n"[..];
    let error = read_header(&mut garbage, Duration::from_secs(5)).await.unwrap_err();
    assert!(matches!(error, ReadError::Parse(ParseError::NotProxy)));
}

#[test]
fn trusted_networks() {
    let trusted =
        TrustedProxies::parse(&["192.0.2.0/24", "10.1.2.3", "2001:db8::/32", "0.0.0.0/32"]).unwrap();
    for (ip, expected) in [
        ("192.0.2.255", true),
        ("192.0.3.0", false),
        ("::ffff:192.0.2.7", true),
        ("10.1.2.3", true),
        ("10.1.2.4", false),
        ("2001:db8:ffff::1", true),
        ("2001:db9::1", false),
    ] {
        assert_eq!(trusted.contains(ip.parse().unwrap()), expected, "{ip}");
    }
    assert!(TrustedProxies::parse(&["0.0.0.0/0"]).unwrap().contains("8.8.8.8".parse().unwrap()));
    assert!(!TrustedProxies::parse(&["0.0.0.0/0"]).unwrap().contains("::1".parse().unwrap()));
    for bad in ["", "192.0.2.0/33", "x/8", "192.0.2.0/", "192.0.2.0/-1"] {
        assert!(TrustedProxies::parse(&[bad]).is_err(), "{bad}");
    }
}
