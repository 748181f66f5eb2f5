//! Mail to other sites is signed, and Debian's dkimpy verifies what arrives there.

mod common;

use std::fs;

use anyhow::{Context, Result, ensure};
use common::{ANN, BOB, LIMIT, PASSWORD, accepted, imap};
use mailcluster_interop::{ClientRoot, NameServer, Standalone, wait_until};
use mailcluster_test_clients::{SendOutcome, SmtpClient, Tls};
use serde_json::Value;

const ZONE: &str = "elsewhere.test MX 10 mx.elsewhere.test.
    mx.elsewhere.test A 127.0.0.1";
/// All that could come to harm on the way: dots, white space, empty lines, octets above 127, long and folded fields.
const MESSAGE: &str = "From: Ann <ann@example.test>\r\nTo: joe@elsewhere.test\r\nBcc: secret@example.test\r\n\
    Subject: a  subject\r\n\tin two \t lines\r\nMIME-Version: 1.0\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\
    .\r\n..two dots\r\n  spaces   and\ttabs \t \r\n\r\n gr\u{fc}\u{df}e\r\n \r\n\t\r\n\r\n";
/// Says for each signature whether it is right; the records are `NAME TEXT` in each line of the file.
const VERIFY: &str = r"
import sys, dkim
records = dict(line.rstrip('\n').split(' ', 1) for line in open(sys.argv[1]))
def txt(name, timeout=5):
    text = records.get(name.decode().rstrip('.'))
    return text.encode() if text else None
message = sys.stdin.buffer.read()
count = sum(1 for name, _ in dkim.rfc822_parse(message)[0] if name.lower() == b'dkim-signature')
for n in range(count):
    verifier = dkim.DKIM(message)
    try:
        good = verifier.verify(n, dnsfunc=txt)
    except dkim.DKIMException as error:
        good = error
    print(verifier.signature_fields.get(b'a', b'?').decode(), verifier.domain.decode(), good)
";

/// A node whose domain has keys that sign, and their records.
fn signing(names: &NameServer, port: u16) -> Result<(Standalone, String)> {
    let (server, port) = (names.addr().to_string(), port.to_string());
    let options = ["--outbound", "direct", "--name-server", &server, "--outbound-port", &port];
    let node = Standalone::start_so("signed-here", &options)?;
    node.accounts("example.test", &["ann"], PASSWORD)?;
    ensure!(node.admin(&["domain", "dkim", "list", "example.test"], "")?.contains("not signed"));
    node.admin(&["domain", "dkim", "rotate", "example.test"], "")?;
    node.admin(&["domain", "dkim", "activate", "example.test"], "")?;
    let listed = node.admin(&["-o", "json", "domain", "dkim", "list", "example.test"], "")?;
    let keys: Vec<Value> = serde_json::from_str(&listed)?;
    let line = |key: &Value| {
        let (name, text) = (key["record"]["name"].as_str()?, key["record"]["text"].as_str()?);
        (key["state"] == "Active").then(|| format!("{name} {text}\n"))
    };
    let records: String = keys.iter().filter_map(line).collect();
    ensure!(records.lines().count() == 2, "{listed}");
    Ok((node, records))
}

/// The only message of an INBOX, waited for.
fn arrived(node: &Standalone, account: &str) -> Result<Vec<u8>> {
    let first = || -> Result<Vec<u8>> {
        let found = imap(node, account)?.fetch_all("INBOX")?;
        found.into_iter().next().map(|message| message.body).context("nothing there")
    };
    wait_until("the mail arrives", LIMIT, || first().is_ok())?;
    first()
}

fn verdicts(root: &ClientRoot, records: &str, message: &[u8]) -> Result<String> {
    let (outside, inside) = root.scratch("signed")?;
    fs::write(outside.join("records"), records)?;
    fs::write(outside.join("verify.py"), VERIFY)?;
    let ran = root.shell(&format!("python3 {inside}/verify.py {inside}/records"), message, 60)?;
    ensure!(ran.success, "{}", ran.output);
    Ok(ran.output)
}

#[test]
fn what_arrives_is_verified_by_dkimpy_and_so_is_a_bounce() -> Result<()> {
    const GOOD: &str = "rsa-sha256 example.test True\ned25519-sha256 example.test True\n";
    let root = ClientRoot::ensure()?;
    let there = Standalone::start("signed-there")?;
    there.accounts("elsewhere.test", &["joe"], PASSWORD)?;
    let names = NameServer::start(ZONE)?;
    let (here, records) = signing(&names, there.addr("smtp")?.port())?;
    let mut client = SmtpClient::connect(here.addr("submissions")?, Tls::Implicit, LIMIT)?;
    client.auth_plain(ANN, PASSWORD)?;
    let outcome = client.send(ANN, &["joe@elsewhere.test"], MESSAGE.as_bytes());
    ensure!(accepted(&outcome), "{outcome:?}");
    let message = arrived(&there, "joe@elsewhere.test")?;
    let text = String::from_utf8_lossy(&message).into_owned();
    ensure!(text.contains("\r\n\r\n.\r\n..two dots\r\n") && !text.contains("secret@"), "{text}");
    let said = verdicts(&root, &records, &message)?;
    ensure!(said == GOOD, "{said} of {text}");
    for (from, to) in [("..two dots", "...two dots"), ("Subject: a", "Subject: b")] {
        let said = verdicts(&root, &records, text.replace(from, to).as_bytes())?;
        ensure!(said.lines().count() == 2 && !said.contains("True"), "{to}: {said}");
    }

    let outcome = client.send(ANN, &["nobody@elsewhere.test"], MESSAGE.as_bytes());
    ensure!(accepted(&outcome), "{outcome:?}");
    let bounce = arrived(&here, ANN)?;
    ensure!(String::from_utf8_lossy(&bounce).contains("Final-Recipient: rfc822; nobody@elsewhere.test"));
    // The host's own domain has no keys; the one above it signs.
    let said = verdicts(&root, &records, &bounce)?;
    ensure!(said == GOOD, "{said}");
    Ok(())
}

#[test]
fn an_account_sends_no_more_than_it_may_and_others_go_on() -> Result<()> {
    let names = NameServer::start(ZONE)?;
    let server = names.addr().to_string();
    let options = ["--outbound", "direct", "--name-server", &server, "--messages-per-hour", "2"];
    let options = [&options[..], &["--recipients-per-hour", "4", "--outbound-port", "9"]].concat();
    let node = Standalone::start_so("limited", &options)?;
    node.accounts("example.test", &["ann", "bob"], PASSWORD)?;
    let send = |from: &str, to: &[&str]| -> Result<String> {
        // A connection of its own each time: what counts is the account.
        let mut client = SmtpClient::connect(node.addr("submissions")?, Tls::Implicit, LIMIT)?;
        client.auth_plain(from, PASSWORD)?;
        let message = format!("From: {from}\r\n\r\nhello\r\n");
        Ok(match client.send(from, to, message.as_bytes()) {
            SendOutcome::Accepted(reply) | SendOutcome::Refused(reply) => {
                format!("{} {}", reply.code, reply.text)
            }
            other => format!("{other:?}"),
        })
    };
    let (a, b) = ("a@elsewhere.test", "b@elsewhere.test");
    let five = [a, b, "c@elsewhere.test", "d@elsewhere.test", "e@elsewhere.test"];
    for (from, to, expected) in [
        (ANN, &five[..], "550 5.7.1 more recipients"),
        (ANN, &[a, b], "250 "),
        (ANN, &five[..3], "450 4.7.1 this account has sent what it may for now"),
        (ANN, &[a], "250 "),
        (ANN, &[a], "450 4.7.1 this account has sent what it may for now"),
        (ANN, &[BOB], "250 "),
        (BOB, &[a, b, ANN], "250 "),
    ] {
        let said = send(from, to)?;
        ensure!(said.starts_with(expected), "{from} to {to:?}: {said}");
    }
    Ok(())
}
