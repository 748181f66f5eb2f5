//! What a client expunges, by whatever command, an administrator brings back; what it moves is not gone; and without
//! retention nothing is kept.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mailcluster_interop::Standalone;
use mailcluster_test_clients::{ImapClient, Pop3Client, Tls};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);
const PASSWORD: &str = "correct horse";
const ANN: &str = "ann@example.test";

fn node(name: &str, options: &[&str]) -> Result<Standalone> {
    let node = Standalone::start_so(name, options)?;
    node.accounts("example.test", &["ann"], PASSWORD)?;
    Ok(node)
}

fn imap(node: &Standalone) -> Result<ImapClient> {
    ImapClient::login(node.addr("imaps")?, Tls::Implicit, LIMIT, ANN, PASSWORD)
}

fn append(imap: &mut ImapClient, mailbox: &str, subject: &str) -> Result<()> {
    let text = format!("Subject: {subject}\r\n\r\nThis is {subject}.\r\n");
    let told = imap.append(mailbox, "\\Seen", text.as_bytes())?;
    ensure!(told.starts_with("OK"), "{told}");
    Ok(())
}

fn undelete(node: &Standalone, options: &[&str]) -> Result<Value> {
    let words: Vec<&str> = ["undelete", ANN, "-o", "json"].iter().chain(options).copied().collect();
    let told = node.admin(&words, "")?;
    serde_json::from_str(&told).with_context(|| told.clone())
}

/// Mailboxes and subjects, sorted.
fn told(answer: &Value) -> Result<Vec<String>> {
    let messages = answer["messages"].as_array().context("no messages")?;
    let text = |message: &Value, key: &str| message[key].as_str().unwrap_or_default().to_owned();
    let mut told: Vec<String> = messages
        .iter()
        .map(|message| format!("{} {}", text(message, "mailbox"), text(message, "subject")))
        .collect();
    told.sort();
    Ok(told)
}

fn subjects(imap: &mut ImapClient, mailbox: &str) -> Result<Vec<String>> {
    let fetched = imap.fetch_all(mailbox)?;
    let subject = |body: &[u8]| {
        let text = String::from_utf8_lossy(body).into_owned();
        text.lines().find_map(|line| line.strip_prefix("Subject: ")).unwrap_or_default().to_owned()
    };
    let mut all: Vec<String> = fetched.iter().map(|message| subject(&message.body)).collect();
    all.sort();
    Ok(all)
}

#[test]
fn what_is_expunged_comes_back_whatever_expunged_it() -> Result<()> {
    let mut node = node("undelete", &[])?;
    let mut client = imap(&node)?;
    client.ok("CREATE Work/old")?;
    for n in 1..=5 {
        append(&mut client, "INBOX", &format!("inbox {n}"))?;
    }
    append(&mut client, "Work/old", "work 1")?;
    append(&mut client, "Work/old", "work 2")?;
    client.ok("SELECT INBOX")?;
    client.ok("UID STORE 1,2 +FLAGS.SILENT (\\Deleted)")?;
    client.ok("UID EXPUNGE 1")?;
    client.ok("EXPUNGE")?;
    client.ok("UID MOVE 3 Trash")?;
    client.ok("CLOSE")?;
    let mut pop = Pop3Client::login(node.addr("pop3s")?, Tls::Implicit, LIMIT, ANN, PASSWORD)?;
    pop.ok("DELE 1")?;
    pop.ok("QUIT")?;
    client.ok("DELETE Work/old")?;

    let gone = ["INBOX inbox 1", "INBOX inbox 2", "INBOX inbox 4", "Work/old work 1", "Work/old work 2"];
    let listed = undelete(&node, &["--dry-run"])?;
    ensure!(told(&listed)? == gone, "{listed}");
    ensure!(listed["dryRun"] == true && listed["mailboxesMade"] == 0, "{listed}");
    ensure!(told(&undelete(&node, &["--dry-run", "--mailbox", "inbox", "--since", "1h"])?)? == gone[..3]);
    ensure!(told(&undelete(&node, &["--dry-run", "--since", "2100-01-01"])?)?.is_empty());
    ensure!(subjects(&mut client, "INBOX")? == ["inbox 5"], "a list brings nothing back");

    // They are there still when the node comes again.
    node.kill()?;
    node.restart()?;
    let mut client = imap(&node)?;
    let back = undelete(&node, &["--mailbox", "INBOX"])?;
    ensure!(told(&back)? == gone[..3], "{back}");
    let rest = undelete(&node, &[])?;
    ensure!(told(&rest)? == gone[3..] && rest["mailboxesMade"] == 1, "{rest}");
    ensure!(told(&undelete(&node, &[])?)?.is_empty(), "it came back twice");
    ensure!(subjects(&mut client, "INBOX")? == ["inbox 1", "inbox 2", "inbox 4", "inbox 5"]);
    ensure!(subjects(&mut client, "Work/old")? == ["work 1", "work 2"]);
    ensure!(subjects(&mut client, "Trash")? == ["inbox 3"]);
    // None of it is \Deleted any more: the next EXPUNGE leaves it.
    client.ok("SELECT INBOX")?;
    client.ok("EXPUNGE")?;
    ensure!(subjects(&mut client, "INBOX")?.len() == 4);
    let audit = node.admin(&["audit"], "")?;
    ensure!(audit.contains("account undelete ann@example.test: 2 messages came back"), "{audit}");
    Ok(())
}

#[test]
fn without_retention_what_is_expunged_is_gone() -> Result<()> {
    let node = node("undelete-off", &["--undelete-days", "0"])?;
    let mut client = imap(&node)?;
    append(&mut client, "INBOX", "inbox 1")?;
    client.ok("SELECT INBOX")?;
    client.ok("UID STORE 1 +FLAGS.SILENT (\\Deleted)")?;
    client.ok("EXPUNGE")?;
    ensure!(told(&undelete(&node, &["--dry-run"])?)?.is_empty());
    ensure!(
        Standalone::start_so("undelete-much", &["--undelete-days", "3651"]).is_err(),
        "ten years at most"
    );
    Ok(())
}
