//! What checks said goes with a message, wherever it waits. (What they say is tested with a name server, in
//! `tests/interop`.)

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

mod smtp_support;

use std::{net::SocketAddr, sync::Arc};

use mailcluster_frontend::smtp::Service;
use mailcluster_verdict::{Check, Checks, Settings};
use smtp_support::{Cluster, Fault, client::id_in, facts};
use tokio::net::UdpSocket;

/// A name server of which every name is unknown.
async fn nameless() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let addr = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut question = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut question).await {
            // An answer with authority, NXDOMAIN, and no records but the question.
            question[2] |= 0x84;
            question[3] = 3;
            question[6..12].fill(0);
            // The question alone: what EDNS added stands behind it.
            let end = 12 + question[12..length].iter().position(|b| *b == 0).unwrap_or(0) + 5;
            let _gone = socket.send_to(&question[..end], from).await;
        }
    });
    addr
}

async fn cluster(settings: Settings) -> Cluster {
    let mut cluster = Cluster::new(&["s-0", "s-1"]).await;
    let checks = Checks::new(settings, smtp_support::HOST, &[nameless().await]).unwrap();
    cluster.checks = Some(Arc::new(checks));
    cluster
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn junk_that_waited_in_another_stores_queue_is_junk_still_and_its_trace_says_why() {
    let cluster = cluster(Settings { dmarc: Check::Enforce, ..Settings::mark() }).await;
    let ann = cluster.account("ann", "s-0").await;
    let bob = cluster.account("bob", "s-1").await;
    cluster.fault("s-1", Fault::Away);
    let to = ["ann@example.org", "bob@example.org"];
    let reply = cluster.mx().await.mail("x@y.example", &to, "From: nobody\r\n\r\ntext").await;
    let id = id_in(&reply);
    assert_eq!(cluster.mailbox("s-0", ann, "Junk").await.len(), 1);
    cluster.heal("s-1");
    cluster.run_queue("s-0");
    cluster.queue_drained("s-0").await;
    let junk = cluster.mailbox("s-1", bob, "Junk").await;
    assert_eq!((junk.len(), cluster.inbox("s-1", bob).await.len()), (1, 0));
    assert!(junk[0].contains("dmarc=permerror (no author that can be read)"), "{}", junk[0]);
    for store in ["s-0", "s-1"] {
        let history = cluster.history(store, id).await;
        let delivered = history.iter().find(|event| event.event == "delivered").unwrap();
        assert!(format!("{delivered:?}").contains("spf:none,dkim:none,dmarc:permerror"), "{delivered:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_mail_is_not_judged() {
    let cluster = cluster(Settings { dmarc: Check::Enforce, ..Settings::mark() }).await;
    let ann = cluster.account("ann", "s-0").await;
    let mut smtp = cluster.connect(Service::Submission, Some(facts())).await;
    assert!(smtp.say("EHLO client.example.net").await.starts_with("250-"));
    assert!(smtp.say("AUTH PLAIN AGFubkBleGFtcGxlLm9yZwBzZWNyZXQ=").await.starts_with("235 "));
    let reply = smtp.mail("ann@example.org", &["ann@example.org"], "From: ann@example.org\r\n\r\ntext").await;
    assert!(reply.starts_with("250 "), "{reply}");
    let inbox = cluster.inbox("s-0", ann).await;
    assert!(inbox.len() == 1 && !inbox[0].contains("Authentication-Results"), "{inbox:?}");
}
