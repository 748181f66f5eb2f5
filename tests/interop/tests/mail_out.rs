//! Mail of users to other sites: a second node is the other site, found by a real name server.

mod common;

use std::net::TcpListener;

use anyhow::{Context, Result, ensure};
use common::{ANN, BOB, LIMIT, PASSWORD, accepted, copies, imap};
use mailcluster_interop::{NameServer, Standalone, wait_until};
use mailcluster_test_clients::{SendOutcome, SmtpClient, Tls, message};

const JOE: &str = "joe@elsewhere.test";
const ZONE: &str = "elsewhere.test MX 10 mx.elsewhere.test.
    elsewhere.test MX 5 gone.elsewhere.test.
    mx.elsewhere.test A 127.0.0.1
    closed.test MX 0 .
    ours.test MX 10 mail.example.test.
    mail.example.test A 127.0.0.1";

/// A node that sends to `port` at hosts that the zone names, with `ann` and `bob`.
fn sender(name: &str, names: &NameServer, port: u16) -> Result<Standalone> {
    let (server, port) = (names.addr().to_string(), port.to_string());
    let options =
        ["--outbound", "direct", "--name-server", &server, "--outbound-port", &port, "--outbound-pause", "1"];
    let node = Standalone::start_so(name, &options)?;
    node.accounts("example.test", &["ann", "bob"], PASSWORD)?;
    Ok(node)
}

/// The other site, with `joe`.
fn other(name: &str) -> Result<Standalone> {
    let node = Standalone::start(name)?;
    node.accounts("elsewhere.test", &["joe"], PASSWORD)?;
    Ok(node)
}

fn submit(node: &Standalone, to: &[&str], token: &str) -> Result<SendOutcome> {
    let mut client = SmtpClient::connect(node.addr("submissions")?, Tls::Implicit, LIMIT)?;
    client.auth_plain(ANN, PASSWORD)?;
    Ok(client.send(ANN, to, &message(token, 2000)))
}

fn delivery_of(outcome: &SendOutcome) -> Result<String> {
    let SendOutcome::Accepted(reply) = outcome else { anyhow::bail!("{outcome:?}") };
    let id = reply.text.split(|c: char| c.is_whitespace()).find_map(|word| word.strip_prefix("id="));
    id.map(str::to_owned).with_context(|| format!("no id in {reply:?}"))
}

/// Waits for `count` messages in a mailbox; answers their texts.
fn arrived(node: &Standalone, account: &str, count: usize) -> Result<Vec<String>> {
    let texts = || -> Result<Vec<String>> {
        let found = imap(node, account)?.fetch_all("INBOX")?;
        Ok(found.into_iter().map(|message| String::from_utf8_lossy(&message.body).into_owned()).collect())
    };
    wait_until("the mail arrives", LIMIT, || texts().is_ok_and(|texts| texts.len() >= count))?;
    texts()
}

fn queue_is_empty(node: &Standalone) -> bool {
    node.admin(&["queue", "list"], "").is_ok_and(|listed| !listed.contains('@'))
}

#[test]
fn mail_to_another_site_arrives_there_once_and_its_trace_says_so() -> Result<()> {
    let there = other("out-there")?;
    let names = NameServer::start(ZONE)?;
    let here = sender("out-here", &names, there.addr("smtp")?.port())?;
    let outcome = submit(&here, &[JOE, BOB], "both")?;
    ensure!(accepted(&outcome), "{outcome:?}");
    ensure!(copies(&here, BOB, "INBOX")?.len() == 1, "the local copy is there at once");
    let texts = arrived(&there, JOE, 1)?;
    // Its host offers STARTTLS, with a certificate that nobody knows.
    ensure!(texts[0].contains("with ESMTPS"), "{}", texts[0]);
    ensure!(copies(&there, JOE, "INBOX")?.len() == 1);
    wait_until("the queue is empty", LIMIT, || queue_is_empty(&here))?;
    let trace = here.admin(&["trace", &delivery_of(&outcome)?], "")?;
    ensure!(trace.contains("sent: mx.elsewhere.test said: 250"), "{trace}");
    Ok(())
}

#[test]
fn what_can_never_arrive_comes_back_with_the_reason() -> Result<()> {
    let there = other("never-there")?;
    let names = NameServer::start(ZONE)?;
    let here = sender("never-here", &names, there.addr("smtp")?.port())?;
    for (count, to, status, reason) in [
        (1, "nobody@elsewhere.test", "5.1.1", "Remote-MTA: dns; mx.elsewhere.test"),
        (2, "joe@no-such-domain.test", "5.1.2", "the domain does not exist"),
        (3, "joe@closed.test", "5.1.10", "the domain takes no mail"),
        (4, "joe@ours.test", "5.4.6", "would come back to this site"),
    ] {
        ensure!(accepted(&submit(&here, &[to], &format!("n{count}"))?), "{to}");
        let texts = arrived(&here, ANN, count)?;
        let bounce =
            texts.iter().find(|text| text.contains(to)).with_context(|| format!("{to}: {texts:?}"))?;
        for part in [&format!("Final-Recipient: rfc822; {to}\r\n"), &format!("Status: {status}\r\n"), reason]
        {
            ensure!(bounce.contains(part), "{to}: no {part:?} in {bounce}");
        }
    }
    wait_until("the queue is empty", LIMIT, || queue_is_empty(&here))?;
    // A report about a report is never made.
    ensure!(arrived(&here, ANN, 4)?.len() == 4);
    Ok(())
}

#[test]
fn mail_that_is_put_off_is_tried_again_and_survives_a_crash() -> Result<()> {
    let names = NameServer::start(ZONE)?;
    let site = TcpListener::bind("127.0.0.1:0")?;
    let mut here = sender("later-here", &names, site.local_addr()?.port())?;
    let outcome = submit(&here, &[JOE], "later")?;
    ensure!(accepted(&outcome), "{outcome:?}");
    ensure!(spoken_to(&site, "451 4.7.1 come back later")?.is_empty(), "it was put off");
    wait_until("the queue says why", LIMIT, || {
        here.admin(&["queue", "list"], "").is_ok_and(|listed| listed.contains("come back later"))
    })?;
    here.kill()?;
    here.restart()?;
    // The process that was killed may have left a connection.
    let taken = (0..5).find_map(|_| spoken_to(&site, "250 2.1.5 ok").ok().filter(|text| !text.is_empty()));
    ensure!(taken.is_some_and(|text| text.contains("later")));
    wait_until("the queue is empty", LIMIT, || queue_is_empty(&here))?;
    Ok(())
}

/// Plays a server for one session, which answers RCPT so; answers the message that it was given.
fn spoken_to(site: &TcpListener, rcpt: &str) -> Result<String> {
    Ok(common::spoken_to(&site.accept()?.0, rcpt)?.concat())
}
