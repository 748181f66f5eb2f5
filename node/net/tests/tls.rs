//! Certificates for clients: choice by name, reload, versions.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod common;

use std::{sync::Arc, time::Duration};

use common::{Ca, Pair};
use mailcluster_net::tls::{CertStore, TlsAcceptor};
use mailcluster_types::TlsFacts;
use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::io::duplex;
use tokio_rustls::TlsConnector;

/// Shakes hands as a client that asks for `name`; answers what the server saw and the certificate it showed.
async fn shake(
    acceptor: &TlsAcceptor,
    ca: &Ca,
    name: &'static str,
    versions: &[&'static SupportedProtocolVersion],
) -> std::io::Result<(TlsFacts, Vec<u8>)> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let (near, far) = duplex(16 << 10);
    let connector = TlsConnector::from(Arc::new(config));
    let connect = connector.connect(ServerName::try_from(name).unwrap(), near);
    let (server, client) = tokio::join!(acceptor.accept(Box::new(far)), connect);
    let client = client?;
    let shown = client.get_ref().1.peer_certificates().unwrap()[0].to_vec();
    Ok((server?.1, shown))
}

fn der(pair: &Pair) -> Vec<u8> {
    CertificateDer::from_pem_slice(pair.cert.as_bytes()).unwrap().to_vec()
}

#[tokio::test]
async fn a_name_chooses_its_certificate() {
    let (ca, dir) = (Ca::new(), tempfile::tempdir().unwrap());
    let exact = ca.issue(&["mail.example.org"], None);
    let wild = ca.issue(&["*.example.org", "example.net"], None);
    let fallback = ca.issue(&["fallback.test"], None);
    exact.write(dir.path(), "a");
    wild.write(dir.path(), "b");
    fallback.write(dir.path(), "tls");
    let store = CertStore::load(dir.path()).unwrap();
    for (name, entry) in [
        (Some("mail.example.org"), "a"),
        (Some("MAIL.example.org."), "a"),
        (Some("imap.example.org"), "b"),
        (Some("a.imap.example.org"), "tls"),
        (Some("example.net"), "b"),
        (Some("example.org"), "tls"),
        (None, "tls"),
    ] {
        assert_eq!(store.entry_for(name).as_deref(), Some(entry), "{name:?}");
    }
    let acceptor = TlsAcceptor::new(store).unwrap();
    let both = [&rustls::version::TLS13, &rustls::version::TLS12];
    let (facts, shown) = shake(&acceptor, &ca, "imap.example.org", &both).await.unwrap();
    assert_eq!(shown, der(&wild));
    assert_eq!((facts.version.as_str(), facts.sni.as_deref()), ("TLSv1.3", Some("imap.example.org")));
    assert!(facts.cipher.starts_with("TLS13_"), "{facts:?}");
    let (facts, shown) = shake(&acceptor, &ca, "mail.example.org", &[&rustls::version::TLS12]).await.unwrap();
    assert_eq!((facts.version.as_str(), shown), ("TLSv1.2", der(&exact)));
}

#[tokio::test]
async fn a_broken_certificate_keeps_the_old_and_a_good_one_is_taken() {
    let (ca, dir) = (Ca::new(), tempfile::tempdir().unwrap());
    let (first, second, other) =
        (ca.issue(&["a.test"], None), ca.issue(&["a.test"], None), ca.issue(&["b.test"], None));
    first.write(dir.path(), "tls");
    let store = CertStore::load(dir.path()).unwrap();
    let acceptor = TlsAcceptor::new(store.clone()).unwrap();
    let versions = [&rustls::version::TLS13];
    assert!(!store.reload().unwrap());
    assert!(store.certificates()[0].not_after > 0);

    std::fs::write(dir.path().join("tls.crt"), "-----BEGIN CERTIFICATE-----\nrubbish").unwrap();
    other.write(dir.path(), "other");
    assert!(store.reload().unwrap());
    assert_eq!(shake(&acceptor, &ca, "a.test", &versions).await.unwrap().1, der(&first));
    assert_eq!(shake(&acceptor, &ca, "b.test", &versions).await.unwrap().1, der(&other));
    assert_eq!(store.failures(), 1);

    // A certificate beside another's key is as broken.
    Pair { cert: second.cert.clone(), key: other.key.clone() }.write(dir.path(), "tls");
    assert!(store.reload().unwrap());
    assert_eq!(shake(&acceptor, &ca, "a.test", &versions).await.unwrap().1, der(&first));

    second.write(dir.path(), "tls");
    assert!(store.reload().unwrap());
    assert_eq!(shake(&acceptor, &ca, "a.test", &versions).await.unwrap().1, der(&second));
    assert_eq!((store.failures(), store.reloads()), (2, 3));
}

#[tokio::test]
async fn a_swapped_secret_is_seen_by_the_watcher() {
    let (ca, dir) = (Ca::new(), tempfile::tempdir().unwrap());
    // As the kubelet lays it out: files are links through `..data`, which is replaced by a rename.
    for (version, name) in [("..1", "one.test"), ("..2", "two.test")] {
        std::fs::create_dir(dir.path().join(version)).unwrap();
        ca.issue(&[name], None).write(&dir.path().join(version), "tls");
    }
    let link = |target: &str, name: &str| std::os::unix::fs::symlink(target, dir.path().join(name)).unwrap();
    link("..1", "..data");
    link("..data/tls.crt", "tls.crt");
    link("..data/tls.key", "tls.key");
    let store = CertStore::load(dir.path()).unwrap();
    assert_eq!(store.certificates()[0].dns_names, ["one.test"]);
    let watcher = tokio::spawn(store.clone().watch(Duration::from_millis(20)));
    link("..2", "..data_tmp");
    std::fs::rename(dir.path().join("..data_tmp"), dir.path().join("..data")).unwrap();
    let seen = async {
        while store.certificates()[0].dns_names != ["two.test"] {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), seen).await.unwrap();
    watcher.abort();
}

#[test]
fn nothing_usable_is_an_error() {
    let (ca, dir) = (Ca::new(), tempfile::tempdir().unwrap());
    assert!(CertStore::load(dir.path()).is_err());
    std::fs::write(dir.path().join("tls.crt"), ca.issue(&["a.test"], None).cert).unwrap();
    let error = CertStore::load(dir.path()).unwrap_err();
    assert!(error.to_string().contains("no usable pair"), "{error}");
    assert!(CertStore::load(&dir.path().join("absent")).is_err());
}

#[tokio::test]
async fn a_silent_client_is_given_up() {
    let ca = Ca::new();
    let pair = ca.issue(&["a.test"], None);
    let store = CertStore::from_pem(pair.cert.as_bytes(), pair.key.as_bytes()).unwrap();
    let acceptor = TlsAcceptor::new(store).unwrap().with_limit(Duration::from_millis(50));
    let (_near, far) = duplex(64);
    let error = acceptor.accept(Box::new(far)).await.err().unwrap();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
}
