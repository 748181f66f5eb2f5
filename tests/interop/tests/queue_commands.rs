//! What a person does about mail that waits: held, released, tried now, deleted, sent back.

mod common;

use std::net::{SocketAddr, TcpListener};

use anyhow::{Context, Result, ensure};
use common::{ANN, BOB, LIMIT, PASSWORD, accepted, copies};
use mailcluster_interop::{NameServer, Standalone, wait_until};
use mailcluster_test_clients::{SendOutcome, SmtpClient, Tls, message};

const JOE: &str = "joe@elsewhere.test";
const ZONE: &str = "elsewhere.test MX 10 mx.elsewhere.test.
    mx.elsewhere.test A 127.0.0.1
    other.test MX 10 mx.elsewhere.test.";

/// A node whose mail to other sites goes to `port`, and is tried again by itself after an hour.
fn sender(name: &str, names: &NameServer, port: u16) -> Result<Standalone> {
    let (server, port) = (names.addr().to_string(), port.to_string());
    let options = [
        "--outbound",
        "direct",
        "--name-server",
        &server,
        "--outbound-port",
        &port,
        "--outbound-pause",
        "3600",
    ];
    let node = Standalone::start_so(name, &options)?;
    node.accounts("example.test", &["ann", "bob"], PASSWORD)?;
    Ok(node)
}

fn submit(node: &Standalone, to: &[&str], token: &str) -> Result<String> {
    let mut client = SmtpClient::connect(node.addr("submissions")?, Tls::Implicit, LIMIT)?;
    client.auth_plain(ANN, PASSWORD)?;
    let outcome = client.send(ANN, to, &message(token, 2000));
    ensure!(accepted(&outcome), "{outcome:?}");
    let SendOutcome::Accepted(reply) = outcome else { anyhow::bail!("{outcome:?}") };
    let id = reply.text.split(|c: char| c.is_whitespace()).find_map(|word| word.strip_prefix("id="));
    id.map(str::to_owned).with_context(|| format!("no id in {reply:?}"))
}

fn listed(node: &Standalone) -> String {
    node.admin(&["queue", "list"], "").unwrap_or_default()
}

fn lists(node: &Standalone, what: &str) -> Result<()> {
    wait_until(what, LIMIT, || listed(node).contains(what)).with_context(|| listed(node))
}

fn queue_is_empty(node: &Standalone) -> Result<()> {
    let empty = || node.admin(&["queue", "list"], "").is_ok_and(|listed| !listed.contains('@'));
    wait_until("the queue is empty", LIMIT, empty)
}

/// A server that is there only while it is held open, and answers RCPT so.
struct Site {
    addr: SocketAddr,
}

impl Site {
    fn closed() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        Ok(Self { addr: listener.local_addr()? })
    }

    /// From here on it can be connected to.
    fn open(&self) -> Result<Door> {
        Ok(Door(TcpListener::bind(self.addr)?))
    }
}

/// A site that is there.
struct Door(TcpListener);

impl Door {
    /// Plays a server for one session; answers how many messages it took.
    fn serve(self, rcpt: &str) -> Result<usize> {
        self.0.set_nonblocking(true)?;
        let mut found = None;
        wait_until("the site is connected to", LIMIT, || {
            found = found.take().or_else(|| self.0.accept().ok());
            found.is_some()
        })?;
        let (stream, _) = found.context("no connection")?;
        stream.set_nonblocking(false)?;
        Ok(common::spoken_to(&stream, rcpt)?.len())
    }
}

#[test]
fn what_is_flushed_is_tried_now_and_what_is_held_only_when_it_is_released() -> Result<()> {
    let names = NameServer::start(ZONE)?;
    let site = Site::closed()?;
    let here = sender("flush", &names, site.addr.port())?;
    let id = submit(&here, &[JOE], "one")?;
    lists(&here, "tried 1 times")?;
    // Held, it is not tried, also when all is to be tried now.
    here.admin(&["queue", "hold", &id], "")?;
    lists(&here, "held")?;
    ensure!(here.admin(&["queue", "flush", &id], "").is_err(), "what is held is not flushed");
    ensure!(here.admin(&["queue", "hold", &id], "").is_err(), "it is held already");
    let shown = here.admin(&["queue", "show", &id], "")?;
    for part in [&*id, ANN, JOE, "held", "no connection"] {
        ensure!(shown.contains(part), "no {part} in {shown}");
    }
    // Its destination rests after the failure, and its own pause is an hour: both end when it is let go.
    let door = site.open()?;
    here.admin(&["queue", "release", "--destination", "elsewhere.test"], "")?;
    ensure!(door.serve("451 4.7.1 come back later")? == 0);
    lists(&here, "come back later")?;
    let door = site.open()?;
    here.admin(&["queue", "flush", "--address", JOE], "")?;
    ensure!(door.serve("250 2.1.5 ok")? == 1);
    queue_is_empty(&here)?;
    let trace = here.admin(&["trace", &id], "")?;
    for part in ["held by", "released by", "to be tried now, as asked by", "sent: mx.elsewhere.test said"] {
        ensure!(trace.contains(part), "no {part} in {trace}");
    }
    let audit = here.admin(&["audit"], "")?;
    for part in [format!("queue hold {id}"), format!("queue flush --address {JOE}: 1 recipients")] {
        ensure!(audit.contains(&part), "no {part} in {audit}");
    }
    Ok(())
}

#[test]
fn what_is_deleted_is_gone_and_its_sender_is_told_only_when_that_was_asked() -> Result<()> {
    let names = NameServer::start(ZONE)?;
    let site = Site::closed()?;
    let here = sender("delete", &names, site.addr.port())?;
    let silent = submit(&here, &[JOE, "jim@other.test"], "silent")?;
    lists(&here, "tried 1 times")?;
    ensure!(here.admin(&["queue", "delete"], "").is_err(), "which?");
    ensure!(here.admin(&["queue", "delete", &silent], "").is_err(), "nobody agreed to it");
    let counted = here.admin(&["queue", "delete", "--dry-run", "--destination", "other.test"], "")?;
    ensure!(counted.contains("1 recipients of 1 messages") && listed(&here).contains("jim@"), "{counted}");
    here.admin(&["queue", "delete", "--yes", &silent], "")?;
    queue_is_empty(&here)?;
    let trace = here.admin(&["trace", &silent], "")?;
    ensure!(trace.contains("deleted by") && trace.contains("its sender was not told"), "{trace}");
    let told = submit(&here, &[JOE], "told")?;
    lists(&here, "tried 1 times")?;
    here.admin(&["queue", "hold", "--all"], "")?;
    here.admin(&["queue", "delete", "--bounce", "--yes", "--all"], "")?;
    queue_is_empty(&here)?;
    let texts = || common::imap(&here, ANN).and_then(|mut imap| imap.fetch_all("INBOX"));
    wait_until("the report arrives", LIMIT, || texts().is_ok_and(|texts| !texts.is_empty()))?;
    let reports = texts()?;
    ensure!(reports.len() == 1, "one report, about what was sent back: {}", reports.len());
    let report = String::from_utf8_lossy(&reports[0].body).into_owned();
    for part in ["Status: 5.7.1", &format!("Final-Recipient: rfc822; {JOE}"), "taken out of the queue"] {
        ensure!(report.contains(part), "no {part} in {report}");
    }
    ensure!(here.admin(&["trace", &told], "")?.contains("sent back by"));
    Ok(())
}

#[test]
fn what_is_queued_anew_starts_its_pauses_from_the_beginning() -> Result<()> {
    let names = NameServer::start(ZONE)?;
    let site = Site::closed()?;
    let here = sender("requeue", &names, site.addr.port())?;
    let id = submit(&here, &[JOE, BOB], "again")?;
    ensure!(copies(&here, BOB, "INBOX")?.len() == 1);
    lists(&here, "tried 1 times")?;
    here.admin(&["queue", "hold", &id], "")?;
    let door = site.open()?;
    here.admin(&["queue", "requeue", &id], "")?;
    ensure!(door.serve("250 2.1.5 ok")? == 1);
    queue_is_empty(&here)?;
    ensure!(here.admin(&["trace", &id], "")?.contains("queued anew by"));
    ensure!(here.admin(&["queue", "requeue", &id], "").is_err(), "it is gone");
    ensure!(here.admin(&["queue", "show", &id], "").is_err());
    Ok(())
}
