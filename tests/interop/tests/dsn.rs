//! What senders ask for by the parameters of DSN (RFC 3461), over submission, the queue, another site and back.

mod common;

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use common::{ANN, BOB, LIMIT, PASSWORD, imap};
use mailcluster_interop::{NameServer, Standalone, wait_until};
use mailcluster_test_clients::{SmtpClient, Tls, message};

const JOE: &str = "joe@elsewhere.test";
/// Each of two sites finds the other at its own port: both are on loopback.
const ZONE: &str = "elsewhere.test MX 10 mx.elsewhere.test.
    mx.elsewhere.test A 127.0.0.1
    example.test MX 10 mx.example.test.
    mx.example.test A 127.0.0.1";

fn node(name: &str, domain: &str, users: &[&str], names: &NameServer, port: u16) -> Result<Standalone> {
    let (server, port) = (names.addr().to_string(), port.to_string());
    let options =
        ["--outbound", "direct", "--name-server", &server, "--outbound-port", &port, "--outbound-pause", "1"];
    let node = Standalone::start_so(name, &options)?;
    node.accounts(domain, users, PASSWORD)?;
    Ok(node)
}

/// Sends from ann, with these parameters.
fn submit(node: &Standalone, mail: &str, rcpt: &[(&str, &str)]) -> Result<()> {
    let mut client = SmtpClient::connect(node.addr("submissions")?, Tls::Implicit, LIMIT)?;
    client.auth_plain(ANN, PASSWORD)?;
    client.expect(&format!("MAIL FROM:<{ANN}> {mail}"), 250)?;
    for (address, params) in rcpt {
        client.expect(&format!("RCPT TO:<{address}> {params}"), 250)?;
    }
    client.expect("DATA", 354)?;
    let text = String::from_utf8(message("dsn", 300))?;
    client.expect(&format!("{}\r\n.", text.trim_end()), 250)?;
    Ok(())
}

fn reports(node: &Standalone, count: usize) -> Result<Vec<String>> {
    let texts = || -> Result<Vec<String>> {
        let found = imap(node, ANN)?.fetch_all("INBOX")?;
        Ok(found.into_iter().map(|message| String::from_utf8_lossy(&message.body).into_owned()).collect())
    };
    wait_until("the reports arrive", LIMIT, || texts().is_ok_and(|texts| texts.len() >= count))?;
    texts()
}

fn queue_is_empty(node: &Standalone) -> Result<()> {
    let empty = || node.admin(&["queue", "list"], "").is_ok_and(|listed| !listed.contains('@'));
    wait_until("the queue is empty", LIMIT, empty)
}

#[test]
fn who_asks_hears_of_success_from_whoever_has_the_mail() -> Result<()> {
    let names = NameServer::start(ZONE)?;
    // Which port the other one has is known only when it is there: reports of elsewhere.test do not find back.
    let there = node("dsn-there", "elsewhere.test", &["joe"], &names, 1)?;
    let here = node("dsn-here", "example.test", &["ann", "bob"], &names, there.addr("smtp")?.port())?;
    submit(
        &here,
        "RET=HDRS ENVID=QQ+20314",
        &[(BOB, "NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;bob@alias.test"), (JOE, "NOTIFY=SUCCESS")],
    )?;
    let found = reports(&here, 1)?;
    for part in [
        "Original-Envelope-Id: QQ 314\r\n",
        "Original-Recipient: rfc822; bob@alias.test\r\n",
        "Final-Recipient: rfc822; bob@example.test\r\nAction: delivered\r\nStatus: 2.0.0\r\n",
    ] {
        ensure!(found[0].contains(part), "no {part:?} in {}", found[0]);
    }
    // The other site took over joe's part: its report waits there, as it finds no way back.
    queue_is_empty(&here)?;
    let waits = || there.admin(&["queue", "list"], "").is_ok_and(|listed| listed.contains(ANN));
    wait_until("the other site has a report for ann", LIMIT, waits)?;
    ensure!(reports(&here, 1)?.len() == 1, "nothing is told twice");
    Ok(())
}

#[test]
fn who_wants_no_report_gets_none_and_who_wants_all_of_it_gets_that() -> Result<()> {
    let names = NameServer::start(ZONE)?;
    let there = node("notify-there", "elsewhere.test", &["joe"], &names, 1)?;
    let here = node("notify-here", "example.test", &["ann"], &names, there.addr("smtp")?.port())?;
    submit(&here, "", &[("never@elsewhere.test", "NOTIFY=NEVER"), ("late@elsewhere.test", "NOTIFY=DELAY")])?;
    queue_is_empty(&here)?;
    submit(&here, "RET=FULL ENVID=x1", &[("full@elsewhere.test", "NOTIFY=FAILURE")])?;
    let found = reports(&here, 1)?;
    ensure!(found.len() == 1 && found[0].contains("full@elsewhere.test"), "{found:?}");
    for part in ["Original-Envelope-Id: x1\r\n", "Action: failed\r\n", "message/rfc822", "dsn"] {
        ensure!(found[0].contains(part), "no {part:?} in {}", found[0]);
    }
    Ok(())
}

#[test]
fn a_server_that_sends_no_reports_is_reported_on() -> Result<()> {
    let names = NameServer::start(ZONE)?;
    let site = TcpListener::bind("127.0.0.1:0")?;
    let here = node("relayed", "example.test", &["ann"], &names, site.local_addr()?.port())?;
    submit(&here, "ENVID=r1", &[(JOE, "NOTIFY=SUCCESS")])?;
    let heard = take_one(&site)?;
    ensure!(!heard.contains("NOTIFY") && !heard.contains("ENVID"), "{heard}");
    let found = reports(&here, 1)?;
    for part in ["Action: relayed\r\n", "Original-Envelope-Id: r1\r\n", "Remote-MTA: dns; mx.elsewhere.test"]
    {
        ensure!(found[0].contains(part), "no {part:?} in {}", found[0]);
    }
    Ok(())
}

/// Plays a server without any extension, for one message; answers what it heard.
fn take_one(site: &TcpListener) -> Result<String> {
    let (stream, _) = site.accept()?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let say = |text: &str| write!(&stream, "{text}\r\n");
    say("220 mx.elsewhere.test")?;
    let (mut heard, mut in_message) = (String::new(), false);
    for line in BufReader::new(stream.try_clone()?).lines() {
        let line = line.context("the session broke off")?;
        heard.push_str(&line);
        heard.push('\n');
        let reply = match line.get(..4).unwrap_or_default() {
            _ if in_message && line != "." => continue,
            _ if in_message => {
                in_message = false;
                "250 2.0.0 taken"
            }
            "DATA" => {
                in_message = true;
                "354 go on"
            }
            "QUIT" => {
                let _gone = say("221 bye");
                break;
            }
            _ => "250 2.0.0 ok",
        };
        say(reply)?;
    }
    Ok(heard)
}
