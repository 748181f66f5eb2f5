//! Mail from other servers: what gets into mailboxes, and how it looks there.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

mod smtp_support;

use mailcluster_types::{AccountStatus, ResolvedAccount};
use smtp_support::{Cluster, client::id_in};

const TEXT: &str = "Subject: hello\r\nFrom: <x@y.example>\r\n\r\ntext";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_arrives_once_at_every_account_with_its_trace() {
    let cluster = Cluster::new(&["s-0", "s-1", "s-2"]).await;
    let ann = cluster.account("ann", "s-0").await;
    let bob = cluster.account("bob", "s-1").await;
    let cy = cluster.account("cy", "s-2").await;
    cluster.resolve_as("all", ["ann", "bob", "cy"].map(|n| cluster.resolved(n)).to_vec());
    let mut smtp = cluster.mx().await;
    let to = ["all@example.org", "ANN@Example.org", "bob@example.org"];
    let reply = smtp.mail("x@y.example", &to, TEXT).await;
    let id = id_in(&reply);
    assert_eq!(reply, format!("250 2.0.0 accepted id={id}"));
    for (store, account, address) in
        [("s-0", ann, "ann@example.org"), ("s-1", bob, "bob@example.org"), ("s-2", cy, "cy@example.org")]
    {
        let inbox = cluster.inbox(store, account).await;
        assert_eq!(inbox.len(), 1, "{store}");
        let expected = format!(
            "Return-Path: <x@y.example>\r\nDelivered-To: {address}\r\nReceived: from client.example.net \
             ([192.0.2.10])\r\n\tby mail.example.org with ESMTP id {id};\r\n\t"
        );
        assert!(inbox[0].starts_with(&expected), "{}", inbox[0]);
        assert!(inbox[0].ends_with(&format!(" +0000\r\n{TEXT}\r\n")), "{}", inbox[0]);
    }
    assert!(cluster.queue("s-0").await.is_empty());
    smtp.expect("QUIT", "221 ").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_session_brings_many_messages_small_and_large_in_order() {
    let cluster = Cluster::new(&["s-0"]).await;
    let ann = cluster.account("ann", "s-0").await;
    let mut smtp = cluster.mx().await;
    let bodies: Vec<String> = [0, 1, 5_000, 200_000, 70_000, 3]
        .iter()
        .map(|n| format!("Subject: {n}\r\n\r\n{}", ".a line that starts with a dot\r\n".repeat(n / 32)))
        .collect();
    for body in &bodies {
        let stuffed = body.replace("\r\n.", "\r\n..");
        let reply = smtp.mail("", &["ann@example.org"], stuffed.trim_end_matches("\r\n")).await;
        assert!(reply.starts_with("250 "), "{reply}");
    }
    let inbox = cluster.inbox("s-0", ann).await;
    assert_eq!(inbox.len(), bodies.len());
    for (got, sent) in inbox.iter().zip(&bodies) {
        let text = got.split_once("+0000\r\n").unwrap().1;
        assert!(text.trim_end() == sent.trim_end(), "{} octets sent", sent.len());
        assert!(got.starts_with("Return-Path: <>\r\n"));
        assert!(got.contains("\r\n\tfor <ann@example.org>;\r\n"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recipients_are_answered_by_what_the_directory_knows() {
    let cluster = Cluster::new(&["s-0"]).await;
    cluster.account("ann", "s-0").await;
    cluster.account_with_quota("full", "s-0", 1).await;
    let pending = ResolvedAccount { status: AccountStatus::Pending, ..cluster.resolved("ann") };
    cluster.resolve_as("new", vec![pending]);
    let mut smtp = cluster.mx().await;
    smtp.expect("RCPT TO:<ann@example.org>", "503 ").await;
    smtp.expect("MAIL FROM:<x@y.example> SIZE=500", "250 ").await;
    for (to, start) in [
        ("ann@example.org", "250 2.1.5"),
        ("nobody@example.org", "550 5.1.1"),
        ("ann@elsewhere.example", "550 5.7.1 relaying denied"),
        ("new@example.org", "451 4.3.0"),
        ("full@example.org", "552 5.2.2"),
        ("not an address", "501 "),
        ("a..b@example.org", "553 5.1.3"),
        ("\u{fc}@example.org", "553 5.6.7"),
    ] {
        smtp.expect(&format!("RCPT TO:<{to}>"), start).await;
    }
    smtp.expect("RCPT TO:<ann@example.org> MCACCT=00", "555 ").await;
    cluster.directory.away.store(true, std::sync::atomic::Ordering::SeqCst);
    smtp.expect("RCPT TO:<nobody@example.org>", "451 4.3.0").await;
    smtp.expect("RCPT TO:<ann@elsewhere.example>", "451 4.3.0").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postmaster_always_works() {
    let cluster = Cluster::new(&["s-0"]).await;
    let mut smtp = cluster.mx().await;
    let reply = smtp.mail("x@y.example", &["PostMaster", "postmaster@example.org"], TEXT).await;
    assert!(reply.starts_with("250 "), "{reply}");
    let queue = cluster.queue("s-0").await;
    let held: Vec<&str> = queue[0].recipients.iter().map(|r| r.address.as_str()).collect();
    assert_eq!(held, ["postmaster@example.org", "postmaster@mail.example.org"]);
    assert!(queue[0].recipients.iter().all(|r| r.held));
    let ann = cluster.account("postmaster", "s-0").await;
    let reply = smtp.mail("x@y.example", &["postmaster@example.org"], TEXT).await;
    assert!(reply.starts_with("250 "), "{reply}");
    assert_eq!(cluster.inbox("s-0", ann).await.len(), 1);
    smtp.expect("MAIL FROM:<x@y.example>", "250 ").await;
    smtp.expect("RCPT TO:<postmaster@elsewhere.example>", "550 5.7.1").await;
    smtp.expect("RSET", "250 ").await;
    cluster.account_with_quota("postmaster", "s-0", 1).await;
    smtp.expect("MAIL FROM:<x@y.example> SIZE=500", "250 ").await;
    smtp.expect("RCPT TO:<postmaster@example.org>", "250 ").await;
    smtp.expect("DATA", "354 ").await;
    smtp.expect(&format!("{TEXT}\r\n."), "250 ").await;
    assert_eq!(cluster.queue("s-0").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loops_end_at_fifty_hops() {
    let cluster = Cluster::new(&["s-0"]).await;
    let ann = cluster.account("ann", "s-0").await;
    let mut smtp = cluster.mx().await;
    let hops = |n: usize| format!("{}Subject: x\r\n\r\nx", "Received: from a by b;\r\n\tdate\r\n".repeat(n));
    let reply = smtp.mail("x@y.example", &["ann@example.org"], &hops(51)).await;
    assert!(reply.starts_with("554 5.4.6"), "{reply}");
    let reply = smtp.mail("x@y.example", &["ann@example.org"], &hops(50)).await;
    assert!(reply.starts_with("250 "), "{reply}");
    assert_eq!(cluster.inbox("s-0", ann).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mailbox_that_is_full_by_the_end_of_data_is_refused_then() {
    let cluster = Cluster::new(&["s-0"]).await;
    let ann = cluster.account_with_quota("ann", "s-0", 2000).await;
    let mut smtp = cluster.mx().await;
    let reply = smtp.mail("x@y.example", &["ann@example.org"], &"x".repeat(5000)).await;
    assert!(reply.starts_with("552 5.2.2"), "{reply}");
    assert!(cluster.inbox("s-0", ann).await.is_empty() && cluster.queue("s-0").await.is_empty());
}
