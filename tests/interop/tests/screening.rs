//! Bad logins against a real node: their address is refused, others are not; bans end, and administrators see, make and
//! lift them.

mod common;

use std::net::{Ipv4Addr, TcpStream};

use anyhow::{Context, Result, bail, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use common::{LIMIT, PASSWORD, connect_from};
use mailcluster_interop::{Standalone, wait_until};
use mailcluster_test_clients::Wire;

const ONE: Ipv4Addr = Ipv4Addr::LOCALHOST;
const TWO: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const THREE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
/// Loopback is looked at like any other address.
const NOBODY: &str = "--screening-allow=192.0.2.0/24";

fn node(name: &str, options: &[&str]) -> Result<Standalone> {
    let node = Standalone::start_so(name, options)?;
    node.accounts("example.test", &["ann"], PASSWORD)?;
    Ok(node)
}

/// The first line that a port says to this address; nothing: it hung up.
fn greeting(node: &Standalone, proto: &str, from: Ipv4Addr) -> Result<String> {
    let mut wire = Wire::over(connect_from(from, node.addr(proto)?)?)?;
    Ok(wire.line().unwrap_or_default())
}

/// Logs in for submission, after `ahead` was sent in clear; the code of the answer, 0: refused before.
fn submit(node: &Standalone, from: Ipv4Addr, ahead: &str, user: &str, password: &str) -> Result<u16> {
    use std::io::Write;
    let mut stream: TcpStream = connect_from(from, node.addr("submissions")?)?;
    stream.write_all(ahead.as_bytes())?;
    let mut wire = Wire::over(stream)?;
    if wire.start_tls("localhost").is_err() {
        return Ok(0);
    }
    wire.line()?;
    wire.send(b"EHLO client.test\r\n")?;
    while wire.line()?.starts_with("250-") {}
    let plain = STANDARD.encode(format!("\0{user}\0{password}"));
    wire.send(format!("AUTH PLAIN {plain}\r\n").as_bytes())?;
    wire.line()?.get(..3).and_then(|code| code.parse().ok()).context("no code")
}

fn is_served(node: &Standalone, from: Ipv4Addr) -> bool {
    submit(node, from, "", "ann@example.test", PASSWORD).is_ok_and(|code| code == 235)
}

/// Guesses at so many accounts, one after the other, or until it is refused.
fn guess(node: &Standalone, from: Ipv4Addr, ahead: &str, accounts: u32) -> Result<()> {
    for at in 0..accounts {
        match submit(node, from, ahead, &format!("user{at}@example.test"), "guess")? {
            0 => return Ok(()),
            535 | 454 => {}
            other => bail!("guess {at}: {other}"),
        }
    }
    Ok(())
}

fn until_refused(node: &Standalone, from: Ipv4Addr) -> Result<()> {
    wait_until("refused", LIMIT, || {
        greeting(node, "smtp", from).is_ok_and(|line| line.starts_with("421 4.7.0"))
    })
}

#[test]
fn an_address_that_guesses_is_refused_on_every_port_and_another_logs_in() -> Result<()> {
    let node = node("screening", &[NOBODY])?;
    ensure!(is_served(&node, ONE) && node.admin(&["bans", "list"], "")? == "nobody is refused\n");
    // From an address where somebody logged in well, it takes four times as many.
    guess(&node, TWO, "", 12)?;
    guess(&node, ONE, "", 12)?;
    until_refused(&node, TWO)?;
    for (proto, words) in [
        ("smtp", "421 4.7.0 refused"),
        ("submission", "421 4.7.0 refused"),
        ("imap", "* BYE [UNAVAILABLE] refused"),
        ("pop3", "-ERR [SYS/TEMP] refused"),
        ("sieve", "BYE (TRYLATER) \"refused"),
        ("imaps", ""),
        ("pop3s", ""),
        ("submissions", ""),
    ] {
        let said = greeting(&node, proto, TWO)?;
        ensure!(
            if words.is_empty() { said.is_empty() } else { said.starts_with(words) },
            "{proto}: {said:?}"
        );
    }
    ensure!(is_served(&node, ONE), "where somebody logged in well");
    ensure!(is_served(&node, THREE), "another address");
    let listed = node.admin(&["bans", "list"], "")?;
    ensure!(listed.starts_with("127.0.0.2/32 refused for "), "{listed}");
    ensure!(listed.ends_with("failed logins at many accounts\n") && listed.lines().count() == 1, "{listed}");
    node.admin(&["bans", "remove", "127.0.0.2"], "")?;
    wait_until("served again", LIMIT, || is_served(&node, TWO))
}

#[test]
fn bans_end_and_what_is_allowed_is_never_banned() -> Result<()> {
    let options = ["--screening-allow=127.0.0.2", "--screening-first-ban=10", "--screening-block=127.0.0.4"];
    let node = node("screening-ends", &options)?;
    guess(&node, TWO, "", 12)?;
    guess(&node, ONE, "", 12)?;
    until_refused(&node, ONE)?;
    ensure!(is_served(&node, TWO), "allowed");
    let blocked = greeting(&node, "smtp", Ipv4Addr::new(127, 0, 0, 4))?;
    ensure!(blocked.starts_with("554 5.7.1"), "{blocked}");
    wait_until("the ban is over", LIMIT, || is_served(&node, ONE))?;
    ensure!(node.admin(&["bans", "list"], "")? == "nobody is refused\n");
    Ok(())
}

#[test]
fn administrators_ban_and_lift() -> Result<()> {
    let node = node("screening-admin", &["--screening-allow=127.0.0.2"])?;
    let said = node.admin(&["bans", "add", "127.0.0.3", "--for", "2h"], "")?;
    ensure!(said == "127.0.0.3/32 is refused for 2 h\n", "{said}");
    until_refused(&node, THREE)?;
    ensure!(is_served(&node, ONE));
    let listed = node.admin(&["bans", "list", "-o", "json"], "")?;
    let listed: serde_json::Value = serde_json::from_str(&listed)?;
    ensure!(listed["bans"][0]["network"] == "127.0.0.3/32", "{listed}");
    ensure!(listed["bans"][0]["reason"] == "administrator", "{listed}");
    for (args, code, words) in [
        (["add", "127.0.0.0/8"], 1, "never refused"),
        (["add", "127.0.0.0/33"], 1, "is not an address or a network"),
        (["remove", "127.0.0.9"], 3, "127.0.0.9/32 is not banned"),
    ] {
        let output = node.admin_output(&["bans", args[0], args[1]], "")?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(code) && error.contains(words), "{args:?}: {error}");
    }
    node.admin(&["bans", "remove", "127.0.0.3/32"], "")?;
    wait_until("served again", LIMIT, || is_served(&node, THREE))?;
    let audit = node.admin(&["audit"], "")?;
    ensure!(
        audit.contains("ban 127.0.0.3/32 for 7200 s") && audit.contains("ban of 127.0.0.3/32 removed"),
        "{audit}"
    );
    Ok(())
}

#[test]
fn clients_behind_a_proxy_are_told_apart() -> Result<()> {
    let node = node("screening-proxy", &[NOBODY, "--trusted-proxy=127.0.0.3/32"])?;
    let header = |client: &str| format!("PROXY TCP4 {client} 203.0.113.1 40000 465\r\n");
    let log_in = |client: &str| submit(&node, THREE, &header(client), "ann@example.test", PASSWORD);
    guess(&node, THREE, &header("203.0.113.66"), 12)?;
    wait_until("refused", LIMIT, || log_in("203.0.113.66").is_ok_and(|code| code == 0))?;
    ensure!(log_in("203.0.113.67")? == 235, "another client of the same proxy");
    let listed = node.admin(&["bans", "list"], "")?;
    ensure!(listed.starts_with("203.0.113.66/32 refused") && listed.lines().count() == 1, "{listed}");
    Ok(())
}

#[test]
fn loopback_is_allowed_where_nothing_is_said_and_screening_can_be_off() -> Result<()> {
    let nothing: &[&str] = &[];
    for options in [nothing, &[NOBODY, "--screening-off"]] {
        let node = node("screening-off", options)?;
        guess(&node, ONE, "", 12)?;
        ensure!(is_served(&node, ONE), "{options:?}");
        let output = node.admin_output(&["bans", "list"], "")?;
        ensure!(output.status.success() == options.is_empty(), "{output:?}");
    }
    Ok(())
}
