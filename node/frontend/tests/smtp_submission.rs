//! Mail from our own users.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

mod smtp_support;

use smtp_support::{Cluster, client::Smtp};

/// Base64 of NUL, `ann@example.org`, NUL, `secret`.
const ANN: &str = "AGFubkBleGFtcGxlLm9yZwBzZWNyZXQ=";
/// Of NUL, `ann@example.org`, NUL, `wrong`.
const WRONG: &str = "AGFubkBleGFtcGxlLm9yZwB3cm9uZw==";
/// Of NUL, `nobody@example.org`, NUL, `wrong`.
const NOBODY: &str = "AG5vYm9keUBleGFtcGxlLm9yZwB3cm9uZw==";
/// Of NUL, `slow@example.org`, NUL, `x`.
const SLOW: &str = "AHNsb3dAZXhhbXBsZS5vcmcAeA==";

async fn session(cluster: &Cluster) -> Smtp {
    let mut smtp = cluster.submission().await;
    assert!(smtp.say("EHLO laptop").await.contains("AUTH PLAIN LOGIN"));
    smtp
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logins_are_answered_alike_whatever_was_wrong() {
    let cluster = Cluster::new(&["s-0"]).await;
    cluster.account("ann", "s-0").await;
    let mut smtp = session(&cluster).await;
    smtp.expect("MAIL FROM:<ann@example.org>", "530 5.7.0").await;
    smtp.expect("RCPT TO:<ann@example.org>", "530 5.7.0").await;
    smtp.expect("AUTH CRAM-MD5", "504 ").await;
    smtp.expect("AUTH PLAIN ???", "501 ").await;
    smtp.expect("AUTH PLAIN", "334").await;
    smtp.expect("*", "501 ").await;
    smtp.expect(&format!("AUTH PLAIN {SLOW}"), "454 4.7.0").await;
    let unknown = smtp.expect(&format!("AUTH PLAIN {NOBODY}"), "535 5.7.8").await;
    let wrong = smtp.expect(&format!("AUTH PLAIN {WRONG}"), "535 5.7.8").await;
    assert_eq!(unknown, wrong);
    smtp.expect(&format!("AUTH PLAIN {WRONG}"), "535 5.7.8").await;
    assert!(smtp.reply().await.starts_with("421 "), "three are enough");
    smtp.closed().await;
    cluster.directory.away.store(true, std::sync::atomic::Ordering::SeqCst);
    let mut smtp = session(&cluster).await;
    smtp.expect(&format!("AUTH PLAIN {ANN}"), "454 4.7.0").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_way_of_logging_in_works() {
    let cluster = Cluster::new(&["s-0"]).await;
    cluster.account("ann", "s-0").await;
    let mut one = session(&cluster).await;
    one.expect(&format!("AUTH PLAIN {ANN}"), "235 ").await;
    one.expect(&format!("AUTH PLAIN {ANN}"), "503 ").await;
    let mut two = session(&cluster).await;
    two.expect("AUTH plain", "334").await;
    two.expect(ANN, "235 ").await;
    let mut three = session(&cluster).await;
    three.expect("AUTH LOGIN", "334 VXNlcm5hbWU6").await;
    three.expect("YW5uQGV4YW1wbGUub3Jn", "334 UGFzc3dvcmQ6").await;
    three.expect("c2VjcmV0", "235 ").await;
    let mut four = session(&cluster).await;
    four.expect("AUTH LOGIN YW5uQGV4YW1wbGUub3Jn", "334 UGFzc3dvcmQ6").await;
    four.expect("c2VjcmV0", "235 ").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_send_as_themselves_and_to_our_own_only() {
    let cluster = Cluster::new(&["s-0", "s-1"]).await;
    let ann = cluster.account("ann", "s-0").await;
    let bob = cluster.account("bob", "s-1").await;
    cluster.resolve_as("ann.alias", vec![cluster.resolved("ann")]);
    let mut smtp = session(&cluster).await;
    smtp.expect(&format!("AUTH PLAIN {ANN}"), "235 ").await;
    smtp.expect("MAIL FROM:<bob@example.org>", "553 5.7.1").await;
    smtp.expect("MAIL FROM:<>", "553 5.7.1").await;
    smtp.expect("MAIL FROM:<ann@elsewhere.example>", "553 5.7.1").await;
    smtp.expect("MAIL FROM:<ann.alias@example.org> AUTH=<>", "250 ").await;
    smtp.expect("RCPT TO:<x@elsewhere.example>", "550 5.7.1").await;
    smtp.expect("RCPT TO:<bob@example.org>", "250 ").await;
    smtp.expect("RCPT TO:<ann@example.org>", "250 ").await;
    smtp.expect("DATA", "354 ").await;
    smtp.expect("Subject: hi\r\nBCC: secret@example.org,\r\n\tmore@example.org\r\n\r\ntext\r\n.", "250 ")
        .await;
    for (store, account) in [("s-1", bob), ("s-0", ann)] {
        let inbox = cluster.inbox(store, account).await;
        assert_eq!(inbox.len(), 1);
        assert!(!inbox[0].to_lowercase().contains("bcc") && !inbox[0].contains("more@"), "{}", inbox[0]);
        for part in ["\r\nDate: ", "\r\nMessage-ID: <", "@mail.example.org>\r\n", "with ESMTPSA id"] {
            assert!(inbox[0].contains(part), "{part:?} in {}", inbox[0]);
        }
    }
}

/// What a signature's `d=` says, in the order of the signatures.
fn signers(message: &str) -> Vec<&str> {
    let fields = message.split("\r\nReceived: ").next().unwrap().split("DKIM-Signature: ").skip(1);
    fields.map(|field| field.split("d=").nth(1).unwrap().split(';').next().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_users_send_is_signed_by_whoever_answers_for_it() {
    let cluster = Cluster::new(&["s-0"]).await;
    let ann = cluster.account("ann", "s-0").await;
    cluster.account("bob", "s-0").await;
    cluster.directory.sign_for("example.org");
    let mut smtp = session(&cluster).await;
    smtp.expect(&format!("AUTH PLAIN {ANN}"), "235 ").await;
    for (count, from, reply, signer) in [
        (1, "From: Ann <ann@example.org>\r\n", "250 ", Some("example.org")),
        (2, "", "250 ", Some("example.org")),
        (3, "From: ann@elsewhere.example\r\n", "250 ", Some("example.org")),
        (3, "From: Bob <bob@example.org>\r\n", "550 5.7.1", None),
        (3, "From: nobody@example.org\r\n", "550 5.7.1", None),
        (3, "From: ann@example.org\r\nFrom: x@y.example\r\n", "550 5.6.0", None),
    ] {
        smtp.expect("MAIL FROM:<ann@example.org>", "250 ").await;
        smtp.expect("RCPT TO:<ann@example.org>", "250 ").await;
        smtp.expect("DATA", "354 ").await;
        smtp.expect(&format!("{from}Subject: hi\r\n\r\n..text\r\n."), reply).await;
        let inbox = cluster.inbox("s-0", ann).await;
        assert_eq!(inbox.len(), count, "{from}");
        assert_eq!(signers(inbox.last().unwrap()).first().copied(), signer.or(Some("example.org")), "{from}");
        assert!(inbox.last().unwrap().contains("\r\nFrom: "), "{from}");
    }
    // A frontend that has never heard of the domain's keys sends nothing unsigned.
    cluster.directory.keys_away.store(true, std::sync::atomic::Ordering::SeqCst);
    smtp.expect("MAIL FROM:<ann@example.org>", "250 ").await;
    smtp.expect("RCPT TO:<ann@example.org>", "250 ").await;
    smtp.expect("DATA", "354 ").await;
    smtp.expect("From: ann@example.org\r\n\r\ntext\r\n.", "451 4.3.0").await;
    assert_eq!(cluster.inbox("s-0", ann).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_from_other_servers_is_not_signed() {
    let cluster = Cluster::new(&["s-0"]).await;
    let ann = cluster.account("ann", "s-0").await;
    cluster.directory.sign_for("example.org");
    let mut smtp = cluster.mx().await;
    smtp.expect("MAIL FROM:<x@elsewhere.example>", "250 ").await;
    smtp.expect("RCPT TO:<ann@example.org>", "250 ").await;
    smtp.expect("DATA", "354 ").await;
    smtp.expect("From: bob@example.org\r\n\r\ntext\r\n.", "250 ").await;
    assert!(signers(&cluster.inbox("s-0", ann).await[0]).is_empty());
}
