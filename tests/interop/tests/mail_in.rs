//! Mail from other sites is judged by what a real name server says: signed with published keys, by signers that are not
//! ours, and forged.

mod common;

use std::{
    net::{Ipv4Addr, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use common::{ANN, LIMIT, PASSWORD, accepted, connect_from, imap, mx};
use mailcluster_interop::{ClientRoot, NameServer, Standalone};
use mailcluster_test_clients::{SendOutcome, Wire};

/// The message of RFC 8463 appendix A.3, signed with both algorithms.
const SIGNED: &str = "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n d=football.example.com; i=@football.example.com;\r\n q=dns/txt; s=brisbane; t=1528637909; h=from : to :\r\n subject : date : message-id : from : subject : date;\r\n bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus\r\n Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==\r\nDKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;\r\n d=football.example.com; i=@football.example.com;\r\n q=dns/txt; s=test; t=1528637909; h=from : to : subject :\r\n date : message-id : from : subject : date;\r\n bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3\r\n DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz\r\n dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=\r\nFrom: Joe SixPack <joe@football.example.com>\r\nTo: Suzie Q <suzie@shopping.example.net>\r\nSubject: Is dinner ready?\r\nDate: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\nMessage-ID: <20030712040037.46341.5F8J@football.example.com>\r\n\r\nHi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n";

/// Its Ed25519 secret, published there, too.
const SECRET: &str = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=";

const ZONE: &str = r#"brisbane._domainkey.football.example.com TXT "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
    test._domainkey.football.example.com TXT "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3F" "utACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB"
    _dmarc.football.example.com TXT "v=DMARC1; p=reject"
    _dmarc.quarantine.test TXT "v=DMARC1; p=quarantine"
    _dmarc.tested.test TXT "v=DMARC1; p=none"
    closed.test TXT "v=spf1 -all"
    open.test TXT "v=spf1 ip4:127.0.0.1 -all"
    _dmarc.open.test TXT "v=DMARC1; p=reject; aspf=s"
    void.test TXT "v=spf1 a:n1.void.test a:n2.void.test a:n3.void.test ip4:127.0.0.1 -all"
    loop.test TXT "v=spf1 include:loop.test -all"
    broken.test TXT "v=spf1 ip4:192.0.2 -all"
    2.0.0.127.bl.test A 127.0.0.2
    9.0.0.127.bl.test A 127.0.0.4
    2.0.0.127.junk.test A 127.0.0.2
    8.0.0.127.junk.test A 127.0.0.2
    7.0.0.127.junk.test A 127.255.255.254
    *.dead.test A 127.0.0.2"#;

const MARK: &[&str] = &["--spf", "mark", "--dkim", "mark", "--dmarc", "mark"];
const ENFORCE: &[&str] = &["--spf", "enforce", "--dkim", "mark", "--dmarc", "enforce"];

fn node(name: &str, names: &NameServer, options: &[&str]) -> Result<Standalone> {
    let server = names.addr().to_string();
    let node = Standalone::start_so(name, &[options, &["--name-server", &server]].concat())?;
    node.accounts("example.test", &["ann", "bob"], PASSWORD)?;
    Ok(node)
}

/// A message without a signature.
fn plain(author: &str) -> String {
    format!("From: {author}\r\nSubject: hello\r\nDate: Mon, 23 Nov 2026 00:00:00 +0000\r\n\r\nhello\r\n")
}

fn send(node: &Standalone, sender: &str, text: &str) -> Result<SendOutcome> {
    Ok(mx(node)?.send(sender, &[ANN], text.as_bytes()))
}

/// The texts in a mailbox.
fn texts(node: &Standalone, mailbox: &str) -> Result<Vec<String>> {
    let found = imap(node, ANN)?.fetch_all(mailbox)?;
    Ok(found.into_iter().map(|message| String::from_utf8_lossy(&message.body).into_owned()).collect())
}

/// The last message in INBOX.
fn last(node: &Standalone) -> Result<String> {
    texts(node, "INBOX")?.pop().context("INBOX is empty")
}

fn refusal(outcome: &SendOutcome) -> Result<String> {
    let SendOutcome::Refused(reply) = outcome else { anyhow::bail!("not refused: {outcome:?}") };
    ensure!(reply.code == 550, "{reply:?}");
    Ok(reply.text.clone())
}

#[test]
fn a_signed_message_passes_and_what_others_say_in_our_name_is_gone() -> Result<()> {
    let names = NameServer::start(ZONE)?;
    let node = node("in-signed", &names, ENFORCE)?;
    let forged = "Authentication-Results: mail.example.test; dmarc=fail header.from=x\r\n\
                  Authentication-Results: (no) \"mail.example.test\" 1; spf=fail\r\n\
                  Authentication-Results: elsewhere.test; spf=pass\r\n";
    let outcome = send(&node, "joe@open.test", &format!("{forged}{SIGNED}"))?;
    ensure!(accepted(&outcome), "{outcome:?}");
    let text = last(&node)?;
    for part in [
        "\r\nAuthentication-Results: mail.example.test;\r\n\t",
        "spf=pass smtp.mailfrom=joe@open.test;\r\n",
        "dkim=pass header.d=football.example.com header.s=brisbane;\r\n",
        "dkim=pass header.d=football.example.com header.s=test;\r\n",
        "arc=none;\r\n",
        "dmarc=pass (p=reject) header.from=football.example.com\r\n",
        "Authentication-Results: elsewhere.test; spf=pass\r\n",
    ] {
        ensure!(text.contains(part), "no {part:?} in {text}");
    }
    ensure!(text.matches("mail.example.test;").count() == 1 && !text.contains("(no)"), "{text}");
    let SendOutcome::Accepted(reply) = outcome else { unreachable!("it was accepted") };
    let id = reply.text.split("id=").nth(1).context("no id")?.trim().to_owned();
    let trace = node.admin(&["trace", &id], "")?;
    ensure!(trace.contains("dkim:pass,dmarc:pass"), "{trace}");
    Ok(())
}

#[test]
fn a_signed_message_that_was_changed_is_refused_where_its_author_asks_for_it() -> Result<()> {
    let names = NameServer::start(ZONE)?;
    let (marks, enforces) = (node("in-marks", &names, MARK)?, node("in-enforces", &names, ENFORCE)?);
    let changed = SIGNED.replace("We lost the game", "We won the game");
    let header = SIGNED.replace("Is dinner ready", "Where is dinner");
    for (text, why) in [(&changed, "(the body was changed)"), (&header, "(the signature does not hold)")] {
        ensure!(accepted(&send(&marks, "joe@open.test", text)?));
        let got = last(&marks)?;
        ensure!(got.contains(&format!("dkim=fail {why} header.d=football.example.com")), "{got}");
        ensure!(got.contains("dmarc=fail (p=reject) header.from=football.example.com"), "{got}");
        let said = refusal(&send(&enforces, "joe@open.test", text)?)?;
        ensure!(said.starts_with("5.7.26 football.example.com asks") && said.contains("RFC 9989"), "{said}");
    }
    let unsigned = plain("joe@football.example.com");
    ensure!(refusal(&send(&enforces, "joe@open.test", &unsigned)?)?.starts_with("5.7.26"));
    // Two From fields, one of which would pass.
    let twice = format!("From: boss@example.test\r\n{SIGNED}");
    ensure!(refusal(&send(&enforces, "joe@open.test", &twice)?)?.starts_with("5.7.1 "));
    ensure!(texts(&enforces, "INBOX")?.is_empty() && texts(&enforces, "Junk")?.is_empty());
    Ok(())
}

#[test]
fn what_is_to_be_quarantined_is_in_junk_whatever_that_is_called() -> Result<()> {
    let names = NameServer::start(ZONE)?;
    let node = node("in-junk", &names, ENFORCE)?;
    let suspicious = plain("joe@quarantine.test");
    ensure!(accepted(&send(&node, "joe@open.test", &suspicious)?));
    ensure!(texts(&node, "INBOX")?.is_empty());
    let junk = texts(&node, "Junk")?;
    ensure!(junk.len() == 1 && junk[0].contains("dmarc=fail (p=quarantine)"), "{junk:?}");
    imap(&node, ANN)?.command("RENAME Junk Spam")?;
    ensure!(accepted(&send(&node, "joe@open.test", &suspicious)?));
    ensure!(texts(&node, "Spam")?.len() == 2);
    imap(&node, ANN)?.command("DELETE Spam")?;
    ensure!(accepted(&send(&node, "joe@open.test", &suspicious)?));
    ensure!(texts(&node, "Junk")?.len() == 1, "it is made anew");
    // What only asks to be looked at is delivered as ever, and so is what cannot be refused for its author.
    ensure!(accepted(&send(&node, "joe@open.test", &plain("joe@tested.test"))?));
    ensure!(texts(&node, "INBOX")?.len() == 1);
    ensure!(accepted(&send(&node, "joe@open.test", &plain("nobody in particular"))?));
    ensure!(texts(&node, "Junk")?.len() == 2, "no author that can be read");
    Ok(())
}

#[test]
fn spf_says_who_may_send() -> Result<()> {
    let names = NameServer::start(ZONE)?;
    let (marks, enforces) = (node("in-spf-marks", &names, MARK)?, node("in-spf-enforces", &names, ENFORCE)?);
    for (domain, result, refused) in [
        ("open.test", "pass", false),
        ("closed.test", "fail", true),
        ("none.test", "none", false),
        ("void.test", "permerror", false),
        ("loop.test", "permerror", false),
        ("broken.test", "permerror", false),
    ] {
        let (sender, text) = (format!("joe@{domain}"), plain("joe@tested.test"));
        ensure!(accepted(&send(&marks, &sender, &text)?), "{domain}");
        let got = last(&marks)?;
        ensure!(got.contains(&format!("spf={result} smtp.mailfrom={sender}")), "{domain}: {got}");
        let outcome = send(&enforces, &sender, &text)?;
        ensure!(accepted(&outcome) != refused, "{domain}: {outcome:?}");
        if refused {
            ensure!(refusal(&outcome)?.starts_with("5.7.23"), "{outcome:?}");
        }
    }
    // DMARC passes by SPF alone, strictly.
    ensure!(accepted(&send(&enforces, "joe@open.test", &plain("joe@open.test"))?));
    ensure!(last(&enforces)?.contains("dmarc=pass (p=reject) header.from=open.test"));
    // A signature of the author's vouches for mail that comes another way.
    ensure!(accepted(&send(&enforces, "list@closed.test", SIGNED)?));
    // The null sender is postmaster at the HELO name (client.test), which nobody speaks for.
    ensure!(accepted(&send(&enforces, "", &plain("joe@tested.test"))?));
    Ok(())
}

/// What is said to a client at this address, up to RCPT, or up to the end of a message.
fn from(source: [u8; 4], node: &Standalone, to: &str) -> Result<String> {
    let mut wire = Wire::over(connect_from(Ipv4Addr::from(source), node.addr("smtp")?)?)?;
    let mut said = wire.line()?;
    let text = plain("joe@tested.test");
    for line in [
        "HELO client.test",
        "MAIL FROM:<joe@none.test>",
        &format!("RCPT TO:<{to}>"),
        "DATA",
        &format!("{text}."),
    ] {
        wire.send(format!("{line}\r\n").as_bytes())?;
        said = wire.line()?;
        if said.starts_with(['4', '5']) {
            break;
        }
    }
    Ok(said)
}

#[test]
fn listed_clients_are_refused_or_their_mail_is_junk() -> Result<()> {
    let names = NameServer::start(ZONE)?;
    let lists = ["--dnsbl", "bl.test=reject", "--dnsbl", "junk.test=junk", "--dnsbl", "dead.test=reject"];
    let node = node("in-listed", &names, &lists)?;
    let said = from([127, 0, 0, 9], &node, ANN)?;
    ensure!(said == "550 5.7.1 [127.0.0.9] is listed by bl.test: ask there why (RFC 5782)", "{said}");
    let said = from([127, 0, 0, 9], &node, "postmaster@example.test")?;
    ensure!(said.starts_with("250"), "postmaster can be asked: {said}");
    for source in [[127, 0, 0, 8], [127, 0, 0, 7], [127, 0, 0, 6]] {
        let said = from(source, &node, ANN)?;
        ensure!(said.starts_with("250"), "{source:?}: {said}");
    }
    let junk = texts(&node, "Junk")?;
    ensure!(
        junk.len() == 1 && junk[0].contains("x-dnsbl=fail policy.zone=junk.test policy.answer=127.0.0.2"),
        "{junk:?}"
    );
    ensure!(
        texts(&node, "INBOX")?.len() == 2,
        "an answer that tells of an error lists nobody, nor does a dead list"
    );
    Ok(())
}

#[test]
fn networks_that_are_allowed_are_marked_and_never_refused() -> Result<()> {
    let names = NameServer::start(ZONE)?;
    let node = node(
        "in-allowed",
        &names,
        &[ENFORCE, &["--dnsbl", "bl.test=reject", "--allow", "127.0.0.8/31"]].concat(),
    )?;
    let said = from([127, 0, 0, 9], &node, ANN)?;
    ensure!(said.starts_with("250"), "{said}");
    let outcome = send(&node, "joe@closed.test", &plain("joe@football.example.com"))?;
    ensure!(refusal(&outcome)?.starts_with("5.7.26"), "127.0.0.1 is not allowed: {outcome:?}");
    Ok(())
}

#[test]
fn mail_comes_in_when_the_dns_is_dead() -> Result<()> {
    // Takes questions, and answers none.
    let silent = UdpSocket::bind("127.0.0.1:0")?;
    let server = silent.local_addr()?.to_string();
    let options = [ENFORCE, &["--dnsbl", "bl.test=reject", "--name-server", &server]].concat();
    let node = Standalone::start_so("in-dead", &options)?;
    node.accounts("example.test", &["ann"], PASSWORD)?;
    let start = Instant::now();
    for count in 1..=20 {
        let outcome = send(&node, "joe@closed.test", &plain("joe@football.example.com"))?;
        ensure!(accepted(&outcome), "{count}: {outcome:?}");
    }
    // Each on its own would have waited for all of its questions.
    ensure!(start.elapsed() < LIMIT + Duration::from_secs(30), "{:?}", start.elapsed());
    let got = last(&node)?;
    ensure!(got.contains("spf=temperror") && got.contains("dmarc=temperror"), "{got}");
    Ok(())
}

#[test]
fn a_header_made_to_be_costly_is_judged_within_bounds() -> Result<()> {
    let names = NameServer::start(ZONE)?;
    let node = node("in-bomb", &names, ENFORCE)?;
    let signature =
        "DKIM-Signature: v=1; a=rsa-sha256; d=football.example.com; s=test; h=from; bh=AAAA; b=AAAA\r\n";
    let names_many = format!(
        "DKIM-Signature: v=1; a=rsa-sha256; d=football.example.com; s=test; h=from{}; bh=AAAA; b=AAAA\r\n",
        ":\r\n x".repeat(20_000)
    );
    let recipients = format!("From: {}\r\n", vec!["joe@tested.test"; 5000].join(",\r\n "));
    for (what, header) in [
        ("signatures", signature.repeat(2000)),
        ("fields that are signed", names_many + &"X: y\r\n".repeat(10_000)),
        ("addresses", recipients),
    ] {
        let text = format!("{header}From: joe@tested.test\r\n\r\nhello\r\n");
        let outcome = send(&node, "joe@open.test", &text)?;
        ensure!(matches!(outcome, SendOutcome::Accepted(_) | SendOutcome::Refused(_)), "{what}: {outcome:?}");
    }
    ensure!(last(&node)?.matches("dkim=").count() <= 16);
    Ok(())
}

#[test]
fn an_independent_signer_is_understood() -> Result<()> {
    let root = ClientRoot::ensure()?;
    let names = NameServer::start(ZONE)?;
    let node = node("in-dkimpy", &names, ENFORCE)?;
    let sign = |canonical: &str| {
        format!(
            "python3 -c \"import dkim,sys; t=sys.stdin.buffer.read(); c=b'{canonical}'; \
             sys.stdout.buffer.write(dkim.sign(t, b'brisbane', b'football.example.com', b'{SECRET}', \
             canonicalize=(c,c), signature_algorithm=b'ed25519-sha256')+t)\""
        )
    };
    let text =
        plain("joe@football.example.com").replace("\r\nhello\r\n", "\r\nhello  there \r\n\r\n.\r\n\r\n\r\n");
    for canonical in ["relaxed", "simple"] {
        let ran = root.shell(&sign(canonical), text.as_bytes(), 60)?;
        ensure!(ran.success, "{}", ran.output);
        ensure!(accepted(&send(&node, "joe@none.test", &ran.output)?), "{canonical}: {}", ran.output);
        let got = last(&node)?;
        ensure!(
            got.contains("dkim=pass header.d=football.example.com header.s=brisbane"),
            "{canonical}: {got}"
        );
    }
    Ok(())
}
