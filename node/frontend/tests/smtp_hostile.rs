//! Input that is wrong, on purpose or not: refused, never ambiguous, and the session stays in step or ends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

mod smtp_support;

use mailcluster_frontend::smtp::Service;
use smtp_support::{Cluster, Fault};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn smuggling_endings_are_refused_and_carry_nothing_in() {
    let cluster = Cluster::new(&["s-0"]).await;
    let ann = cluster.account("ann", "s-0").await;
    for ending in
        ["\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r\n.\r", "\r.\r\n", "\n.\r", "\n\n.\n\n", "\r\r\n.\r\r\n"]
    {
        let mut smtp = cluster.mx().await;
        smtp.envelope("x@y.example", &["ann@example.org"]).await;
        let inner = "MAIL FROM:<evil@y.example>\r\nRCPT TO:<ann@example.org>\r\nDATA\r\nSubject: evil\r\n\r\nx\r\n.\r\n";
        smtp.send(format!("Subject: a\r\n\r\nx{ending}{inner}").as_bytes()).await;
        let reply = smtp.reply().await;
        assert!(reply.starts_with("550 5.6.11"), "{ending:?}: {reply}");
        smtp.expect("NOOP", "250 ").await;
        smtp.expect("QUIT", "221 ").await;
    }
    assert!(cluster.inbox("s-0", ann).await.is_empty(), "nothing was smuggled in");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faulty_messages_are_refused_after_their_end() {
    let cluster = Cluster::new(&["s-0"]).await;
    let ann = cluster.account("ann", "s-0").await;
    let mut smtp = cluster.mx().await;
    smtp.expect("MAIL FROM:<x@y.example> SIZE=99999999", "552 5.3.4").await;
    let header_flood = "X-A: b\r\n".repeat(40_000);
    for (text, start) in [
        ("a\0b".to_owned(), "550 5.6.0"),
        ("x".repeat(70_000), "550 5.6.0"),
        ("line\r\n".repeat(200_000), "552 5.3.4"),
        (header_flood, "552 5.3.4"),
    ] {
        let reply = smtp.mail("x@y.example", &["ann@example.org"], &text).await;
        assert!(reply.starts_with(start), "{reply}");
    }
    smtp.expect("NOOP", "250 ").await;
    assert!(cluster.inbox("s-0", ann).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_without_header_or_empty_line_keeps_its_text() {
    let cluster = Cluster::new(&["s-0"]).await;
    let ann = cluster.account("ann", "s-0").await;
    let mut smtp = cluster.mx().await;
    for text in ["just text", "Subject: x", "", "Subject: x\r\nthen text"] {
        smtp.envelope("x@y.example", &["ann@example.org"]).await;
        let end = if text.is_empty() { ".\r\n" } else { "\r\n.\r\n" };
        smtp.send(format!("{text}{end}").as_bytes()).await;
        assert!(smtp.reply().await.starts_with("250 "), "{text:?}");
    }
    let inbox = cluster.inbox("s-0", ann).await;
    for (message, end) in inbox.iter().zip([
        "+0000\r\n\r\njust text\r\n",
        "+0000\r\nSubject: x\r\n\r\n",
        "+0000\r\n\r\n",
        "+0000\r\nSubject: x\r\n\r\nthen text\r\n",
    ]) {
        assert!(message.ends_with(end), "{message:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_command_lines_are_refused_and_too_many_end_the_session() {
    let cluster = Cluster::new(&["s-0"]).await;
    let mut smtp = cluster.mx().await;
    for (line, start) in [
        (b"NOOP\nQUIT\r\n".to_vec(), "500 5.5.2"),
        (b"NOOP\rQUIT\r\n".to_vec(), "500 5.5.2"),
        (b"NO\0OP\r\n".to_vec(), "500 5.5.2"),
        (b"NOOP \xff\xfe\r\n".to_vec(), "500 5.5.2"),
        ([vec![b'x'; 5000], b"\r\n".to_vec()].concat(), "500 5.5.2 line too long"),
        (b"EXPN all\r\n".to_vec(), "502 "),
        (b"BDAT 3 LAST\r\n".to_vec(), "502 "),
        (b"XCLIENT NAME=x\r\n".to_vec(), "502 "),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n".to_vec(), "500 "),
        (b"LHLO x\r\n".to_vec(), "500 "),
        (b"VRFY ann\r\n".to_vec(), "252 "),
        (b"HELP\r\n".to_vec(), "214 "),
        (b"AUTH PLAIN AGEAYQ==\r\n".to_vec(), "502 "),
        (b"DATA\r\n".to_vec(), "503 "),
    ] {
        smtp.send(&line).await;
        let reply = smtp.reply().await;
        assert!(reply.starts_with(start), "{:?}: {reply}", String::from_utf8_lossy(&line));
    }
    for _ in 0..8 {
        smtp.expect("GET / HTTP/1.1", "500 ").await;
    }
    assert!(smtp.reply().await.starts_with("421 "));
    smtp.closed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_recipients_are_put_off() {
    let cluster = Cluster::new(&["s-0"]).await;
    let ann = cluster.account("ann", "s-0").await;
    let mut smtp = cluster.mx().await;
    smtp.expect("MAIL FROM:<x@y.example>", "250 ").await;
    for _ in 0..20 {
        smtp.expect("RCPT TO:<ann@example.org>", "250 ").await;
    }
    smtp.expect("RCPT TO:<ann@example.org>", "452 4.5.3").await;
    smtp.expect("DATA", "354 ").await;
    smtp.expect("x\r\n.", "250 ").await;
    assert_eq!(cluster.inbox("s-0", ann).await.len(), 1, "an account named twenty times gets one copy");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_before_tls_is_not_heard_after_it() {
    let cluster = Cluster::new(&["s-0"]).await;
    let ann = cluster.account("ann", "s-0").await;
    let mut smtp = cluster.mx().await;
    smtp.send(b"STARTTLS\r\nEHLO evil\r\nMAIL FROM:<evil@y.example>\r\n").await;
    assert!(smtp.reply().await.starts_with("220 "));
    // The handshake is a pretended one: what follows is the first thing heard, and there was no EHLO.
    smtp.expect("MAIL FROM:<x@y.example>", "503 ").await;
    let offers = smtp.say("EHLO client.example.net").await;
    assert!(!offers.contains("STARTTLS"), "{offers}");
    smtp.expect("STARTTLS", "503 ").await;
    assert!(smtp.mail("x@y.example", &["ann@example.org"], "x").await.starts_with("250 "));
    let inbox = cluster.inbox("s-0", ann).await;
    assert!(
        inbox[0].contains("(using TLSv1.3 with TLS13_AES_256_GCM_SHA384)")
            && inbox[0].contains("with ESMTPS id")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_offers_of_each_service() {
    let cluster = Cluster::new(&["s-0"]).await;
    let mut mx = cluster.connect(Service::Mx, None).await;
    let offers = mx.say("EHLO x").await;
    for offer in ["PIPELINING", "SIZE 1048576", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "STARTTLS"] {
        assert!(offers.contains(offer), "{offer} in {offers}");
    }
    assert!(!offers.contains("AUTH") && !offers.contains("CHUNKING"));
    let mut plain = cluster.connect(Service::Submission, None).await;
    let offers = plain.say("EHLO x").await;
    assert!(offers.contains("STARTTLS") && !offers.contains("AUTH"), "{offers}");
    plain.expect("AUTH PLAIN AGEAYQ==", "538 ").await;
    plain.expect("MAIL FROM:<ann@example.org>", "530 5.7.0").await;
    plain.expect("STARTTLS", "220 ").await;
    assert!(plain.say("EHLO x").await.contains("AUTH PLAIN LOGIN"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipelined_transaction_is_answered_in_order() {
    let cluster = Cluster::new(&["s-0"]).await;
    let ann = cluster.account("ann", "s-0").await;
    let mut smtp = cluster.mx().await;
    smtp.send(
        b"RSET\r\nMAIL FROM:<x@y.example>\r\nRCPT TO:<nobody@example.org>\r\nRCPT TO:<ann@example.org>\r\nDATA\r\n",
    )
    .await;
    for start in ["250 ", "250 ", "550 ", "250 ", "354 "] {
        assert!(smtp.reply().await.starts_with(start));
    }
    smtp.send(b"Subject: x\r\n\r\nx\r\n.\r\nMAIL FROM:<x@y.example>\r\nDATA\r\nQUIT\r\n").await;
    for start in ["250 2.0.0 accepted", "250 ", "554 5.5.1", "221 "] {
        assert!(smtp.reply().await.starts_with(start));
    }
    assert_eq!(cluster.inbox("s-0", ann).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_trickle_of_data_and_silence_are_ended() {
    let cluster = Cluster::new(&["s-0"]).await;
    cluster.account("ann", "s-0").await;
    cluster.fault("s-0", Fault::Away);
    let mut smtp = cluster.mx().await;
    smtp.envelope("x@y.example", &["ann@example.org"]).await;
    for _ in 0..7 {
        smtp.send(b"x").await;
        tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    }
    assert!(smtp.reply().await.starts_with("421 4.4.2"));
    smtp.closed().await;
    let mut silent = cluster.mx().await;
    silent.patience = std::time::Duration::from_secs(301);
    assert!(silent.reply().await.starts_with("421 4.4.2"));
    let mut login = cluster.submission().await;
    let start = tokio::time::Instant::now();
    for _ in 0..5 {
        login.expect("NOOP", "250 ").await;
        tokio::time::sleep(std::time::Duration::from_secs(11)).await;
    }
    assert!(login.reply().await.starts_with("421 4.4.2"));
    assert!(start.elapsed().as_secs() <= 61, "whatever it says, a user must log in within a minute");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_is_told_between_commands() {
    let cluster = Cluster::new(&["s-0"]).await;
    let mut smtp = cluster.mx().await;
    cluster.shutdown.cancel();
    assert!(smtp.reply().await.starts_with("421 4.3.2"));
    smtp.closed().await;
}
