//! A disk that is full and a disk whose syncs fail: what was promised is there, nothing is half-written, nothing is
//! promised that is not durable.

mod common;

use std::{fs, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use common::{ANN, BOB, LIMIT, PASSWORD, accepted, copies, http, imap, mx, node, send};
use mailcluster_interop::{CrashDisk, Standalone, Strace, wait_until};
use mailcluster_test_clients::{
    Found, ImapClient, Ledger, Outcome, Pop3Client, Reply, SendOutcome, SmtpClient, Tls, message,
};

/// Fills the disk by mail to ann until one is refused; answers how.
fn fill(node: &Standalone, ledger: &mut Ledger, size: usize) -> Result<Reply> {
    // Where large ones found no room any more, many small ones may.
    for n in 0..4000 {
        match send(node, ledger, &format!("fill-{size}-{n}"), ANN, size) {
            SendOutcome::Accepted(_) => {}
            SendOutcome::Refused(reply) => return Ok(reply),
            other => bail!("{other:?}"),
        }
    }
    bail!("the disk never filled up")
}

/// The store itself says why. What comes by SMTP has some lines more, so one or two may find room yet.
fn fill_by_lmtp(node: &Standalone, ledger: &mut Ledger, size: usize) -> Result<Reply> {
    for n in 0..3 {
        let token = format!("lmtp-{size}-{n}");
        match SmtpClient::lmtp(node.addr("lmtp")?, LIMIT)?.send("", &[ANN], &message(&token, size)) {
            SendOutcome::Accepted(_) => ledger.record(&token, ANN, Outcome::Accepted),
            SendOutcome::Refused(reply) => return Ok(reply),
            other => bail!("{size}: {other:?}"),
        }
    }
    bail!("{size}: the disk is full for SMTP and not for LMTP")
}

fn check(node: &Standalone, ledger: &Ledger, mailboxes: &[&str]) -> Result<()> {
    let mut found = Vec::new();
    for mailbox in mailboxes {
        found.extend(copies(node, ANN, mailbox)?);
    }
    let verdict = ledger.compare(&found);
    ensure!(verdict.is_clean(), "{verdict:?}");
    Ok(())
}

#[test]
fn f08_a_full_disk_refuses_mail_and_still_lets_users_delete() -> Result<()> {
    let disk = CrashDisk::new("full", 200)?;
    let mut node = Standalone::start_on(&disk)?;
    node.accounts("example.test", &["ann", "bob"], PASSWORD)?;
    let mut ledger = Ledger::default();
    for size in [1 << 20, 2000] {
        let reply = fill(&node, &mut ledger, size)?;
        ensure!((400..500).contains(&reply.code), "{size}: {reply:?}");
        let reply = fill_by_lmtp(&node, &mut ledger, size)?;
        ensure!(reply.code == 452 && reply.text.starts_with("4.3.1 "), "{size}: {reply:?}");
    }
    let said = imap(&node, BOB)?.append("INBOX", "", &message("append", 1 << 20))?;
    ensure!(said.starts_with("NO [UNAVAILABLE]"), "{said}");
    check(&node, &ledger, &["INBOX"])?;
    // The same after a crash and a start on the full disk.
    node.kill()?;
    node.restart()?;
    check(&node, &ledger, &["INBOX"])?;
    ensure!(copies(&node, BOB, "INBOX")?.is_empty(), "a refused APPEND left something");
    // A start frees some room: the index has no write-ahead log then.
    let reply = fill(&node, &mut ledger, (1 << 20) + 1)?;
    ensure!((400..500).contains(&reply.code), "after the start: {reply:?}");
    deleting_works(&node, &mut ledger)?;
    drop(node);
    Ok(())
}

/// Users move to Trash and expunge, although the disk is full.
fn deleting_works(node: &Standalone, ledger: &mut Ledger) -> Result<()> {
    let mut ann = imap(node, ANN)?;
    ann.ok("SELECT INBOX")?;
    ann.ok("MOVE 1 Trash")?;
    check(node, ledger, &["INBOX", "Trash"])?;
    let going = ann.fetch_all("INBOX")?;
    let going = going.get(..3).context("less than three messages")?;
    ann.ok("STORE 1:3 +FLAGS (\\Deleted)")?;
    ann.ok("EXPUNGE")?;
    for message in going {
        // Expunged: it may not be there any more.
        ledger.record(&Found::read(ANN, &message.body)?.token, ANN, Outcome::Refused);
    }
    check(node, ledger, &["INBOX", "Trash"])
}

/// Sessions of each protocol, each one step before an acknowledgement.
struct Sessions {
    smtp: SmtpClient,
    storing: ImapClient,
    appending: ImapClient,
    pop3: Pop3Client,
}

impl Sessions {
    fn open(node: &Standalone) -> Result<Self> {
        let mut smtp = mx(node)?;
        smtp.expect("MAIL FROM:<joe@elsewhere.test>", 250)?;
        smtp.expect(&format!("RCPT TO:<{ANN}>"), 250)?;
        smtp.expect("DATA", 354)?;
        let mut storing = imap(node, ANN)?;
        storing.ok("SELECT INBOX")?;
        let mut pop3 = Pop3Client::login(node.addr("pop3s")?, Tls::Implicit, LIMIT, BOB, PASSWORD)?;
        pop3.ok("DELE 1")?;
        Ok(Self { smtp, storing, appending: imap(node, ANN)?, pop3 })
    }

    /// Goes the last step in all of them: none may say yes.
    fn refuse(mut self) -> Result<()> {
        let text = String::from_utf8(message("failing", 500))?;
        let stuffed = text.replace("\r\n.", "\r\n..");
        self.smtp.raw(format!("{stuffed}.\r\n").as_bytes())?;
        let reply = self.smtp.reply();
        ensure!(!reply.as_ref().is_ok_and(|reply| reply.code < 400), "SMTP: {reply:?}");
        let said = self.storing.command("STORE 1 +FLAGS (failing)").map(|(_, tagged)| tagged);
        ensure!(!said.as_ref().is_ok_and(|said| said.starts_with("OK")), "STORE: {said:?}");
        let said = self.appending.append("INBOX", "", &message("appended", 500));
        ensure!(!said.as_ref().is_ok_and(|said| said.starts_with("OK")), "APPEND: {said:?}");
        let said = self.pop3.ok("QUIT");
        ensure!(said.is_err(), "QUIT: {said:?}");
        Ok(())
    }
}

/// F06, and F07: once, then the disk is well again.
#[test]
fn f06_a_failed_sync_stops_the_store_and_nothing_is_acknowledged_after() -> Result<()> {
    // fsyncgate: in the second case only each thread's first sync fails. The later ones succeed, and must not bring
    // the failed one's changes back to life.
    for (name, fault) in [("fsync", "error=EIO"), ("fsync-once", "error=EIO:when=1")] {
        failed_syncs(name, fault).with_context(|| fault.to_owned())?;
    }
    Ok(())
}

fn failed_syncs(name: &str, fault: &str) -> Result<()> {
    let mut node = node(name)?;
    let mut ledger = Ledger::default();
    for to in [ANN, BOB] {
        ensure!(accepted(&send(&node, &mut ledger, "before", to, 500)));
    }
    let sessions = Sessions::open(&node)?;
    let strace = Strace::syncs(&node, fault)?;
    sessions.refuse()?;
    // It stops serving, and goes on not serving when the disk is well again.
    wait_until("not ready", Duration::from_secs(5), || {
        !http(&node, "/readyz").is_ok_and(|code| code == 200)
    })?;
    drop(strace);
    let later = send(&node, &mut ledger, "later", ANN, 500);
    ensure!(!accepted(&later), "{later:?}");
    ensure!(!http(&node, "/readyz").is_ok_and(|code| code == 200), "ready after a failed sync");
    let log = fs::read_to_string(node.data().with_extension("log"))?;
    ensure!(log.contains("the replica is poisoned"), "the log does not say why it stopped");
    // A start copies what was promised to files that were synced.
    let _ended_by_itself = node.kill();
    node.restart()?;
    for token in ["failing", "appended"] {
        ledger.record(token, ANN, Outcome::Ambiguous);
    }
    // Its deletion was not confirmed: there or not.
    ledger.record("before", BOB, Outcome::Ambiguous);
    let mut found = copies(&node, ANN, "INBOX")?;
    found.extend(copies(&node, BOB, "INBOX")?);
    let verdict = ledger.compare(&found);
    ensure!(verdict.is_clean(), "{verdict:?}");
    ensure!(accepted(&send(&node, &mut ledger, "after", ANN, 500)), "it does not serve after the restart");
    Ok(())
}
