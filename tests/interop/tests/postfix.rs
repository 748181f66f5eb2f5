//! Postfix as the other site: what we send it, what it relays to us, and the reports both ways.

mod common;

use anyhow::{Context, Result, ensure};
use common::{ANN, LIMIT, PASSWORD, imap};
use mailcluster_interop::{ClientRoot, NameServer, Postfix, Standalone, wait_until};
use mailcluster_test_clients::{SmtpClient, Tls, message};

const JOE: &str = "joe@elsewhere.test";
const ZONE: &str = "elsewhere.test MX 10 mx.elsewhere.test.
    mx.elsewhere.test A 127.0.0.1";

fn world(name: &str) -> Result<(Postfix, Standalone, NameServer)> {
    let root = ClientRoot::ensure()?;
    let names = NameServer::start(ZONE)?;
    let addr = Postfix::free_addr()?;
    let (server, port) = (names.addr().to_string(), addr.port().to_string());
    let options =
        ["--outbound", "direct", "--name-server", &server, "--outbound-port", &port, "--outbound-pause", "1"];
    let node = Standalone::start_so(name, &options)?;
    node.accounts("example.test", &["ann"], PASSWORD)?;
    let postfix = Postfix::start(&root, name, addr, node.addr("smtp")?)?;
    Ok((postfix, node, names))
}

fn submission(node: &Standalone) -> Result<SmtpClient> {
    let mut client = SmtpClient::connect(node.addr("submissions")?, Tls::Implicit, LIMIT)?;
    client.auth_plain(ANN, PASSWORD)?;
    Ok(client)
}

fn transaction(client: &mut SmtpClient, mail: &str, rcpt: &str, text: &[u8]) -> Result<()> {
    client.expect(&format!("MAIL FROM:{mail}"), 250)?;
    client.expect(&format!("RCPT TO:{rcpt}"), 250)?;
    client.expect("DATA", 354)?;
    client.raw(text)?;
    client.expect("\r\n.", 250)?;
    Ok(())
}

fn arrived(node: &Standalone, count: usize) -> Result<Vec<String>> {
    let texts = || -> Result<Vec<String>> {
        let found = imap(node, ANN)?.fetch_all("INBOX")?;
        Ok(found.into_iter().map(|message| String::from_utf8_lossy(&message.body).into_owned()).collect())
    };
    wait_until("the mail arrives", LIMIT, || texts().is_ok_and(|texts| texts.len() >= count))?;
    texts()
}

fn at_joe(postfix: &Postfix, count: usize) -> Result<Vec<String>> {
    let there = || postfix.inbox().is_ok_and(|found| found.len() >= count);
    wait_until("the mail arrives at Postfix", LIMIT, there).with_context(|| postfix.log())?;
    postfix.inbox()
}

#[test]
fn postfix_takes_what_we_send_and_reports_what_we_ask_it_to() -> Result<()> {
    let (postfix, node, _names) = world("pf-to")?;
    let mut client = submission(&node)?;
    let mail = format!("<{ANN}> RET=HDRS ENVID=QQ314");
    transaction(&mut client, &mail, &format!("<{JOE}> NOTIFY=SUCCESS"), &message("plain", 200_000))?;
    let found = at_joe(&postfix, 1)?;
    ensure!(found[0].contains("with ESMTPS") && found[0].contains("plain"), "{}", found[0]);
    // It offers DSN, so the report is its own; and it comes in by our MX, over TLS.
    let report = arrived(&node, 1)?.remove(0);
    for part in [
        "with ESMTPS",
        "Reporting-MTA: dns; mx.elsewhere.test\r\n",
        "Original-Envelope-Id: QQ314\r\n",
        "Action: delivered\r\n",
    ] {
        ensure!(report.contains(part), "no {part:?} in {report}");
    }
    // What it does not know comes back from us.
    transaction(&mut client, &format!("<{ANN}>"), "<nobody@elsewhere.test>", &message("unknown", 300))?;
    let found = arrived(&node, 2)?;
    ensure!(
        found
            .iter()
            .any(|text| text.contains("Status: 5.1.1\r\n") && text.contains("Remote-MTA: dns; mx.els"))
    );
    Ok(())
}

#[test]
fn utf8_and_eight_bits_arrive_as_they_are() -> Result<()> {
    let (postfix, node, _names) = world("pf-utf8")?;
    let mut client = submission(&node)?;
    let text = "From: ann@example.test\r\nTo: j\u{f6}rg@elsewhere.test\r\nSubject: gr\u{fc}\u{df}e\r\n\
                Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\u{20ac}\r\n..\r\n";
    let mail = format!("<{ANN}> SMTPUTF8 BODY=8BITMIME");
    transaction(&mut client, &mail, "<j\u{f6}rg@elsewhere.test>", text.as_bytes())?;
    let found = at_joe(&postfix, 1)?.remove(0);
    for part in ["with UTF8SMTPS", "Subject: gr\u{fc}\u{df}e", "\u{20ac}"] {
        ensure!(found.contains(part), "no {part:?} in {found}");
    }
    Ok(())
}

#[test]
fn what_postfix_relays_to_us_arrives_and_its_sender_hears_of_it() -> Result<()> {
    let (postfix, node, _names) = world("pf-from")?;
    let mut client = SmtpClient::connect(postfix.addr(), Tls::StartTls, LIMIT)?;
    let rcpt = format!("<{ANN}> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;{ANN}");
    transaction(&mut client, &format!("<{JOE}> ENVID=from-joe"), &rcpt, &message("relayed", 3000))?;
    let found = arrived(&node, 1).with_context(|| postfix.log())?;
    ensure!(found[0].contains("with ESMTPS") && found[0].contains("relayed"), "{}", found[0]);
    // We offer DSN: the report is ours, and goes back to joe.
    let report = at_joe(&postfix, 1)?.remove(0);
    for part in [
        "Action: delivered\n",
        "Original-Envelope-Id: from-joe\n",
        "Original-Recipient: rfc822; ann@example.test\n",
        "Final-Recipient: rfc822; ann@example.test\n",
    ] {
        ensure!(report.contains(part), "no {part:?} in {report}");
    }
    Ok(())
}
