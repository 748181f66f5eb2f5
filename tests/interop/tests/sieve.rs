//! Scripts by ManageSieve, and what they make of mail: protocol by protocol, against a standalone node.

mod common;

use std::fs;

use anyhow::{Context, Result, ensure};
use common::{ANN, BOB, LIMIT, PASSWORD, copies, imap, node};
use mailcluster_interop::{ClientRoot, NameServer, Standalone, wait_until};
use mailcluster_test_clients::{SendOutcome, SieveClient, SmtpClient, Tls, message};

const JOE: &str = "joe@elsewhere.test";

fn sieve(node: &Standalone) -> Result<SieveClient> {
    SieveClient::login(node.addr("sieve")?, LIMIT, ANN, PASSWORD)
}

/// Delivers by LMTP, as another program of this machine.
fn deliver(node: &Standalone, from: &str, to: &[&str], token: &str) -> Result<SendOutcome> {
    let mut text = format!("From: <{from}>\r\nTo: <{}>\r\n", to.join(">, <")).into_bytes();
    text.extend(message(token, 500));
    Ok(SmtpClient::lmtp(node.addr("lmtp")?, LIMIT)?.send(from, to, &text))
}

#[test]
fn managesieve_keeps_scripts_and_says_what_is_wrong() -> Result<()> {
    let mut node = node("sieve-scripts")?;
    let mut plain = SieveClient::connect(node.addr("sieve")?, Tls::None, LIMIT)?;
    let told = plain.ok("CAPABILITY")?;
    ensure!(
        told.iter().any(|line| line == "\"STARTTLS\"") && told.iter().any(|line| line == "\"SASL\" \"\"")
    );
    for (command, answer) in [
        ("AUTHENTICATE \"PLAIN\" \"AGFubgB4\"", "NO (ENCRYPT-NEEDED)"),
        ("LISTSCRIPTS", "NO \"log in first\""),
        ("NOOP \"x\"", "OK (TAG \"x\")"),
        ("NONSENSE", "NO \"unknown command\""),
    ] {
        let said = plain.command(command)?.last;
        ensure!(said.starts_with(answer), "{command}: {said}");
    }
    let wrong = SieveClient::login(node.addr("sieve")?, LIMIT, ANN, "wrong").err().context("let in")?;
    ensure!(wrong.to_string().contains("wrong user name or password"), "{wrong}");
    let mut client = sieve(&node)?;
    let told = client.ok("CAPABILITY")?;
    ensure!(told.contains(&format!("\"OWNER\" \"{ANN}\"")), "{told:?}");
    ensure!(told.iter().any(|line| line.contains("fileinto") && line.contains("vacation")), "{told:?}");
    for (command, answer) in [
        ("PUTSCRIPT \"bad\" \"keep; keeep;\"", "NO \"line 1, column 7"),
        ("CHECKSCRIPT \"fileinto\"", "NO \"line 1, column"),
        ("CHECKSCRIPT \"keep;\"", "OK"),
        ("HAVESPACE \"a\" 1000", "OK"),
        ("HAVESPACE \"a\" 99999999", "NO (QUOTA/MAXSIZE)"),
        ("PUTSCRIPT \"a\" {6+}\r\nkeep;\n", "OK"),
        ("PUTSCRIPT \"b\" \"discard;\"", "OK"),
        ("SETACTIVE \"c\"", "NO (NONEXISTENT)"),
        ("SETACTIVE \"a\"", "OK"),
        ("DELETESCRIPT \"a\"", "NO (ACTIVE)"),
        ("RENAMESCRIPT \"a\" \"b\"", "NO (ALREADYEXISTS)"),
        ("RENAMESCRIPT \"a\" \"main\"", "OK"),
        ("GETSCRIPT \"a\"", "NO (NONEXISTENT)"),
        ("DELETESCRIPT \"b\"", "OK"),
        ("STARTTLS", "NO"),
    ] {
        let said = client.command(command)?.last;
        ensure!(said.starts_with(answer), "{command}: {said}");
    }
    ensure!(client.ok("GETSCRIPT \"main\"")? == ["keep;\n"]);
    ensure!(client.ok("LISTSCRIPTS")? == ["\"main\" ACTIVE"]);
    ensure!(client.command("LOGOUT")?.last.starts_with("OK"));
    node.kill()?;
    node.restart()?;
    ensure!(sieve(&node)?.ok("LISTSCRIPTS")? == ["\"main\" ACTIVE"], "they survive a crash");
    Ok(())
}

#[test]
fn mail_goes_where_the_script_says() -> Result<()> {
    let node = node("sieve-mail")?;
    sieve(&node)?.activate(
        "main",
        "require [\"fileinto\", \"mailbox\", \"imap4flags\", \"envelope\", \"ereject\", \"vacation\", \"copy\"];\n\
         if envelope :is \"from\" \"evil@elsewhere.test\" { ereject \"go away\"; stop; }\n\
         if header :contains \"subject\" \"list\" { fileinto :create :flags [\"\\\\Seen\", \"Work\"] \"lists/rust\"; stop; }\n\
         vacation :days 1 \"I am away\";\n\
         redirect :copy \"bob@example.test\";",
    )?;
    ensure!(common::accepted(&deliver(&node, JOE, &[ANN], "list-1")?));
    let filed = imap(&node, ANN)?.fetch_all("lists/rust")?;
    ensure!(filed.len() == 1 && filed[0].flags.contains(&"\\Seen".to_owned()), "{filed:?}");
    ensure!(filed[0].flags.contains(&"Work".to_owned()), "{filed:?}");
    let refused = deliver(&node, "evil@elsewhere.test", &[ANN], "evil")?;
    ensure!(
        matches!(&refused, SendOutcome::Refused(reply) if reply.code == 550 && reply.text.contains("go away")),
        "{refused:?}"
    );
    // Of bob, who is here: the answer comes to him, and what is sent on, too.
    ensure!(common::accepted(&deliver(&node, BOB, &[ANN], "to-both")?));
    ensure!(copies(&node, ANN, "INBOX")?.len() == 1);
    let texts = || -> Result<Vec<String>> {
        let found = imap(&node, BOB)?.fetch_all("INBOX")?;
        Ok(found.into_iter().map(|message| String::from_utf8_lossy(&message.body).into_owned()).collect())
    };
    wait_until("both came", LIMIT, || texts().is_ok_and(|texts| texts.len() == 2))?;
    let texts = texts()?;
    ensure!(
        texts.iter().any(|text| text.contains("I am away") && text.contains("Return-Path: <>")),
        "{texts:?}"
    );
    let sent_on = format!("X-Sieve-Redirected-From: {ANN}");
    ensure!(
        texts.iter().any(|text| text.contains(&sent_on) && text.contains(&format!("Return-Path: <{BOB}>")))
    );
    Ok(())
}

#[test]
fn a_refusal_reaches_the_sender_at_the_final_dot_of_smtp() -> Result<()> {
    let node = node("sieve-reject")?;
    sieve(&node)?.activate("main", "require \"reject\"; reject \"not today\";")?;
    let mut client = common::mx(&node)?;
    let refused = client.send(JOE, &[ANN], &message("only-ann", 300));
    ensure!(
        matches!(&refused, SendOutcome::Refused(reply) if reply.code == 550 && reply.text.contains("not today")),
        "{refused:?}"
    );
    Ok(())
}

#[test]
fn mail_is_sent_on_to_another_site_once_through_a_crash() -> Result<()> {
    let there = Standalone::start("sieve-there")?;
    there.accounts("elsewhere.test", &["joe"], PASSWORD)?;
    let names =
        NameServer::start("elsewhere.test MX 10 mx.elsewhere.test.\n    mx.elsewhere.test A 127.0.0.1")?;
    let (server, port) = (names.addr().to_string(), there.addr("smtp")?.port().to_string());
    let options =
        ["--outbound", "direct", "--name-server", &server, "--outbound-port", &port, "--outbound-pause", "1"];
    let mut here = Standalone::start_so("sieve-here", &options)?;
    here.accounts("example.test", &["ann", "bob"], PASSWORD)?;
    sieve(&here)?.activate("main", &format!("redirect \"{JOE}\";"))?;
    ensure!(common::accepted(&deliver(&here, BOB, &[ANN], "sent-on")?));
    here.kill()?;
    here.restart()?;
    wait_until("it arrives", LIMIT, || copies(&there, JOE, "INBOX").is_ok_and(|found| found.len() == 1))?;
    ensure!(copies(&here, ANN, "INBOX")?.is_empty());
    wait_until("the queue is empty", LIMIT, || {
        here.admin(&["queue", "list"], "").is_ok_and(|listed| !listed.contains('@'))
    })?;
    ensure!(copies(&there, JOE, "INBOX")?.len() == 1, "once");
    Ok(())
}

#[test]
fn sieve_connect_puts_and_lists_scripts() -> Result<()> {
    let (root, node) = (ClientRoot::ensure()?, node("sieve-connect")?);
    let (outside, inside) = root.scratch("sieve-connect")?;
    fs::copy(node.data().join("tls.crt"), outside.join("ca.pem")).context("the node's own certificate")?;
    fs::write(outside.join("main"), "require \"fileinto\";\nfileinto \"Archive\";\n")?;
    fs::write(outside.join("bad"), "fileinto \"Archive\";\n")?;
    fs::write(outside.join("password"), format!("{PASSWORD}\n"))?;
    let run = |action: &str| {
        root.shell(
            &format!(
                "cd {inside} && sieve-connect --nosrv -s localhost -p {} -u {ANN} --passwordfd 3 --notlsverify \
                 --noclearauth -m PLAIN {action} 3<{inside}/password",
                node.addr("sieve")?.port()
            ),
            b"",
            60,
        )
    };
    let put = run("--localsieve main --remotesieve main --upload")?;
    ensure!(put.success, "{}", put.output);
    let active = run("--remotesieve main --activate")?;
    ensure!(active.success, "{}", active.output);
    let refused = run("--localsieve bad --remotesieve bad --upload")?;
    ensure!(refused.output.contains("line 1, column 1"), "{}", refused.output);
    let listed = run("--list")?;
    ensure!(
        listed.success && listed.output.contains("main") && !listed.output.contains("bad"),
        "{}",
        listed.output
    );
    ensure!(common::accepted(&deliver(&node, JOE, &[ANN], "filed")?));
    ensure!(copies(&node, ANN, "Archive")?.len() == 1);
    Ok(())
}
