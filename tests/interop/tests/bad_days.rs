//! Bad input and bad days against a standalone node (issue section 10's list; ids of the fault matrix where they
//! fit).

mod common;

use std::{
    fs,
    net::Ipv4Addr,
    ops::Range,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Result, bail, ensure};
use common::{LIMIT, PASSWORD, connect_from, mx, node};
use mailcluster_interop::{NodeBinary, Standalone};
use mailcluster_test_clients::{ImapClient, SendOutcome, Tls, Wire, message};

fn inbox(node: &Standalone, account: &str) -> Result<usize> {
    let mut client = ImapClient::login(node.addr("imaps")?, Tls::Implicit, LIMIT, account, PASSWORD)?;
    Ok(client.fetch_all("INBOX")?.len())
}

#[test]
fn unknown_recipients_and_relaying_are_refused_at_rcpt() -> Result<()> {
    let node = node("refused")?;
    let mut client = mx(&node)?;
    client.expect("MAIL FROM:<joe@elsewhere.test>", 250)?;
    let unknown = client.expect("RCPT TO:<nobody@example.test>", 550)?;
    ensure!(unknown.text.contains("5.1.1"), "{unknown:?}");
    let relay = client.expect("RCPT TO:<x@outside.test>", 550)?;
    ensure!(relay.text.contains("5.7.1"), "{relay:?}");
    client.expect("RCPT TO:<postmaster>", 250)?;
    client.expect("RCPT TO:<Postmaster@example.test>", 250)?;
    Ok(())
}

#[test]
fn smuggling_endings_are_refused_and_never_ambiguous() -> Result<()> {
    let node = node("smuggling")?;
    for ending in ["\n.\n", "\n.\r\n", "\r.\r", "\r\n.\n", "\r\n.\r", "\r.\r\n"] {
        let mut client = mx(&node)?;
        client.expect("MAIL FROM:<joe@elsewhere.test>", 250)?;
        client.expect("RCPT TO:<ann@example.test>", 250)?;
        client.expect("DATA", 354)?;
        let smuggled = format!(
            "Subject: one\r\n\r\ntext{ending}MAIL FROM:<evil@elsewhere.test>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\nSubject: two\r\n\r\n.\r\n"
        );
        client.raw(smuggled.as_bytes())?;
        // One reply (a refusal) or a closed connection; never a second acceptance.
        if let Ok(reply) = client.reply() {
            ensure!(reply.code >= 500, "{ending:?}: {reply:?}");
        }
    }
    ensure!(inbox(&node, "ann@example.test")? == 0 && inbox(&node, "bob@example.test")? == 0);
    Ok(())
}

#[test]
fn commands_pipelined_before_starttls_are_dropped() -> Result<()> {
    let node = node("starttls")?;
    let cases = [
        ("smtp", "220", "EHLO x.test\r\nSTARTTLS\r\nMAIL FROM:<injected@elsewhere.test>\r\n", "220 "),
        ("imap", "* OK", "a STARTTLS\r\nb LOGIN ann@example.test wrong\r\n", "a OK"),
        ("pop3", "+OK", "STLS\r\nUSER injected\r\n", "+OK"),
    ];
    for (proto, greeting, attack, answer) in cases {
        let mut wire = mailcluster_test_clients::Wire::connect(node.addr(proto)?, LIMIT)?;
        ensure!(wire.line()?.starts_with(greeting), "{proto}");
        wire.send(attack.as_bytes())?;
        while !wire.line()?.starts_with(answer) {}
        wire.start_tls("localhost")?;
        // The next answer is to what is said inside of TLS, not to what was injected.
        let (ask, wanted) = match proto {
            "smtp" => ("RCPT TO:<ann@example.test>\r\n", "503"),
            "imap" => ("c NOOP\r\n", "c OK"),
            _ => ("PASS x\r\n", "-ERR"),
        };
        wire.send(ask.as_bytes())?;
        let line = wire.line()?;
        ensure!(line.starts_with(wanted), "{proto}: {line}");
    }
    Ok(())
}

#[test]
fn wrong_password_and_unknown_user_get_the_same_answer() -> Result<()> {
    let node = node("passwords")?;
    let mut answers = Vec::new();
    for user in ["ann@example.test", "nobody@example.test", "x@outside.test"] {
        let mut client = ImapClient::connect(node.addr("imaps")?, Tls::Implicit, LIMIT)?;
        answers.push(client.command(&format!("LOGIN {user} wrong"))?.1);
    }
    ensure!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    ensure!(answers[0].contains("AUTHENTICATIONFAILED"), "{answers:?}");
    let mut plain = ImapClient::connect(node.addr("imap")?, Tls::None, LIMIT)?;
    let (_, refused) = plain.command(&format!("LOGIN ann@example.test \"{PASSWORD}\""))?;
    ensure!(refused.starts_with("NO") && refused.contains("PRIVACYREQUIRED"), "{refused}");
    Ok(())
}

/// Tries of each kind; an account and an address of its own for each, so that no back-off comes between.
const TRIES: u8 = 4;
/// How often those of each kind are made.
const ROUNDS: u8 = 4;

/// The processor time of all of the node's threads in microseconds: every refusal comes after the same wait, so that a
/// clock on the wall says nothing of the work.
fn processor_time(node: &Standalone) -> Result<u64> {
    let mut sum = 0;
    for thread in fs::read_dir(format!("/proc/{}/task", node.pid()))? {
        let nanoseconds = fs::read_to_string(thread?.path().join("schedstat"))?;
        sum += nanoseconds.split(' ').next().unwrap_or_default().parse::<u64>()? / 1000;
    }
    Ok(sum)
}

/// What the node works for these refused logins, all at once.
fn work_of_refused(
    node: &Standalone,
    kind: u8,
    tries: Range<u8>,
    user: &dyn Fn(u8) -> String,
) -> Result<u64> {
    let mut wires = Vec::new();
    for n in tries.clone() {
        let source = Ipv4Addr::new(127, 0, 2 + kind, n + 1);
        let mut wire = Wire::over(connect_from(source, node.addr("imaps")?)?)?;
        wire.start_tls("localhost")?;
        wire.line()?;
        wires.push(wire);
    }
    let before = processor_time(node)?;
    for (n, wire) in tries.zip(&mut wires) {
        wire.send(format!("a LOGIN {} wrong-{n}\r\n", user(n)).as_bytes())?;
    }
    for wire in &mut wires {
        let line = wire.line()?;
        ensure!(line.starts_with("a NO [AUTHENTICATIONFAILED]"), "{line}");
    }
    Ok(processor_time(node)?.saturating_sub(before))
}

#[test]
fn a_refused_login_is_the_same_work_whatever_is_wrong() -> Result<()> {
    let node = node("same-work")?;
    let account = |name: &str, n: u8| format!("{name}{n}@example.test");
    for (name, n) in (0..ROUNDS * TRIES).flat_map(|n| [("known", n), ("suspended", n)]) {
        node.admin(&["account", "add", &account(name, n), "--password-file", "-"], PASSWORD)?;
        if name == "suspended" {
            node.admin(&["account", "suspend", &account(name, n)], "")?;
        }
    }
    let kinds: [(&str, &dyn Fn(u8) -> String); 4] = [
        ("wrong password", &|n| account("known", n)),
        ("unknown user", &|n| account("nobody", n)),
        ("suspended user", &|n| account("suspended", n)),
        ("foreign domain", &|n| format!("joe@outside{n}.test")),
    ];
    let mut works = kinds.map(|(kind, _)| (kind, u64::MAX));
    // In turn, and the least of each: what the node does beside only adds.
    for round in 0..ROUNDS {
        for (number, (work, (_, user))) in (0..).zip(works.iter_mut().zip(kinds)) {
            let tries = round * TRIES..(round + 1) * TRIES;
            work.1 = work.1.min(work_of_refused(&node, number, tries, user)?);
        }
    }
    println!("processor time of {TRIES} refused logins each, in µs: {works:?}");
    let (_, wrong) = works[0];
    for (kind, work) in &works {
        ensure!(wrong > 0 && (wrong * 6..=wrong * 16).contains(&(work * 10)), "{kind}: {works:?}");
    }
    Ok(())
}

#[test]
fn fifty_received_headers_are_a_loop() -> Result<()> {
    let node = node("loop")?;
    let mut body = "Received: from a by b; Mon, 23 Nov 2026 00:00:00 +0000\r\n".repeat(60).into_bytes();
    body.extend(message("loop", 300));
    match mx(&node)?.send("joe@elsewhere.test", &["ann@example.test"], &body) {
        SendOutcome::Refused(reply) if reply.text.contains("5.4.6") => Ok(()),
        other => bail!("{other:?}"),
    }
}

#[test]
fn a_foreign_volume_and_a_full_folder_are_refused() -> Result<()> {
    let binary = NodeBinary::find()?;
    let start = |data: &Path| -> Result<String> {
        let output = Command::new("timeout")
            .args(["20"])
            .arg(&binary.node)
            .arg("standalone")
            .arg("--data")
            .arg(data)
            .args(["--listen", "http=127.0.0.1:0"])
            .stdin(Stdio::null())
            .output()?;
        ensure!(!output.status.success(), "it served");
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let folder = mailcluster_interop::scratch("foreign")?;
    fs::create_dir_all(folder.join("store"))?;
    fs::write(folder.join("store/holiday.jpg"), "not a store")?;
    // One that others can look into is refused before anything in it is looked at.
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
    let said = start(&folder)?;
    ensure!(said.contains("chmod 700"), "{said}");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
    let said = start(&folder)?;
    ensure!(said.contains("not empty"), "{said}");
    // Another node's store put into this one's place.
    let (mut one, mut two) = (Standalone::start("volume-one")?, Standalone::start("volume-two")?);
    one.stop()?;
    two.stop()?;
    fs::remove_dir_all(two.data().join("store"))?;
    let copied =
        Command::new("cp").arg("-a").arg(one.data().join("store")).arg(two.data().join("store")).status()?;
    ensure!(copied.success());
    let said = start(two.data())?;
    ensure!(said.contains("belongs to"), "{said}");
    fs::remove_dir_all(folder)?;
    Ok(())
}
