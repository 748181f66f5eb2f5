//! Mutual TLS: who is let in, who is not.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod common;

use std::{net::SocketAddr, time::Duration};

use common::{CLUSTER, Ca};
use mailcluster_net::{
    listen,
    mtls::{Expect, Identity, MtlsError, Peer, Role},
};
use mailcluster_types::ClusterId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const LIMIT: Duration = Duration::from_secs(5);

/// Both sides of one connection; each says whom it met or why not.
async fn meet(
    server: &Identity,
    allowed: &[Role],
    client: &Identity,
    expect: Expect,
) -> (Result<Peer, MtlsError>, Result<Peer, MtlsError>) {
    let listener = listen::bind("127.0.0.1:0".parse::<SocketAddr>().unwrap()).unwrap();
    let addr = listener.local_addr().unwrap();
    let serve = async {
        let (tcp, _) = listen::accept(&listener).await;
        let (mut stream, peer) = server.accept(Box::new(tcp), allowed).await?;
        stream.write_all(b"hello").await?;
        stream.shutdown().await?;
        Ok(peer)
    };
    let connect = async {
        let (mut stream, peer) = client.connect(addr, &expect, LIMIT).await?;
        // In TLS 1.3 a client learns only now that it was refused.
        let mut said = Vec::new();
        stream.read_to_end(&mut said).await?;
        if said != b"hello" {
            return Err(MtlsError::Io(std::io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(peer)
    };
    tokio::join!(serve, connect)
}

fn backend(store: &str) -> Expect {
    Expect { role: Role::Backend, store: Some(store.into()) }
}

#[tokio::test]
async fn the_right_peers_meet() {
    let ca = Ca::new();
    let (server, client) = (ca.identity(Role::Backend, Some("m-0")), ca.identity(Role::Frontend, None));
    let (met, found) = meet(&server, &[Role::Frontend], &client, backend("m-0")).await;
    assert_eq!(met.unwrap().role, Role::Frontend);
    let found = found.unwrap();
    assert_eq!((found.cluster, found.store), (CLUSTER, Some("m-0".into())));
}

#[tokio::test]
async fn a_role_that_is_not_admitted_is_refused() {
    let ca = Ca::new();
    let (server, client) = (ca.identity(Role::Backend, Some("m-0")), ca.identity(Role::Operator, None));
    let (met, found) = meet(&server, &[Role::Frontend, Role::Backend], &client, backend("m-0")).await;
    assert!(matches!(met, Err(MtlsError::NotAdmitted { .. })));
    assert!(found.is_err());
}

#[tokio::test]
async fn another_store_role_or_cluster_is_not_whom_we_want() {
    let ca = Ca::new();
    let client = ca.identity(Role::Frontend, None);
    let other = ca.identity(Role::Backend, Some("m-1"));
    let (_, found) = meet(&other, &[Role::Frontend], &client, backend("m-0")).await;
    assert!(matches!(found, Err(MtlsError::NotAdmitted { .. })), "{found:?}");

    let directory = ca.identity(Role::Directory, Some("m-directory"));
    let (_, found) = meet(&directory, &[Role::Frontend], &client, backend("m-0")).await;
    assert!(matches!(found, Err(MtlsError::Io(_))), "TLS itself checks the role's DNS name: {found:?}");

    let pair = ca.pod(ClusterId(1), Role::Backend, Some("m-0"));
    let foreign = Identity::from_pem(ca.pem().as_bytes(), pair.cert.as_bytes(), pair.key.as_bytes()).unwrap();
    let (met, found) = meet(&foreign, &[Role::Frontend], &client, backend("m-0")).await;
    assert!(matches!(met, Err(MtlsError::NotAdmitted { .. })));
    assert!(matches!(found, Err(MtlsError::NotAdmitted { .. })));
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused() {
    let (ca, other) = (Ca::new(), Ca::new());
    let (server, client) = (ca.identity(Role::Backend, Some("m-0")), other.identity(Role::Frontend, None));
    let (met, found) = meet(&server, &[Role::Frontend], &client, backend("m-0")).await;
    assert!(met.is_err() && found.is_err());
}

#[test]
fn a_certificate_that_names_nobody_is_no_identity() {
    let ca = Ca::new();
    let pair = ca.issue(&["frontend.mailcluster.internal"], None);
    let made = Identity::from_pem(ca.pem().as_bytes(), pair.cert.as_bytes(), pair.key.as_bytes());
    assert!(made.is_err());
}

#[tokio::test]
async fn authorities_overlap_while_they_change() {
    let (old, new, dir) = (Ca::new(), Ca::new(), tempfile::tempdir().unwrap());
    let write = |ca: &str, issuer: &Ca| {
        std::fs::write(dir.path().join("ca.crt"), ca).unwrap();
        issuer.pod(CLUSTER, Role::Backend, Some("m-0")).write(dir.path(), "tls");
    };
    write(&old.pem(), &old);
    let server = Identity::load(dir.path()).unwrap();
    let (before, after) = (old.identity(Role::Frontend, None), new.identity(Role::Frontend, None));
    assert!(meet(&server, &[Role::Frontend], &after, backend("m-0")).await.0.is_err());

    // Both authorities are believed; the server still shows its old certificate.
    write(&format!("{}{}", old.pem(), new.pem()), &old);
    assert!(server.reload().unwrap());
    let (met, found) = meet(&server, &[Role::Frontend], &before, backend("m-0")).await;
    assert!(met.is_ok() && found.is_ok());
    assert!(
        meet(&server, &[Role::Frontend], &after, backend("m-0")).await.0.is_err(),
        "it believes the new one only"
    );

    write(&format!("{}{}", old.pem(), new.pem()), &new);
    assert!(server.reload().unwrap());
    let (met, found) = meet(&server, &[Role::Frontend], &after, backend("m-0")).await;
    assert!(met.is_ok() && found.is_ok());

    std::fs::write(dir.path().join("tls.key"), "rubbish").unwrap();
    assert!(server.reload().is_err());
    assert!(server.reload().is_err(), "it is looked at again until it is good");
    assert!(meet(&server, &[Role::Frontend], &after, backend("m-0")).await.0.is_ok());
}
