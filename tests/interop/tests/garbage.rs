//! Input that is too long, malformed or no protocol at all, against a real process: each has its one answer, the
//! session goes on where it may, and nothing else suffers.

mod common;

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use common::{ANN, LIMIT, accepted, descriptors, http, imap, mx, node};
use mailcluster_interop::wait_until;
use mailcluster_test_clients::{Wire, message};

#[test]
fn garbage_on_every_port_costs_nothing() -> Result<()> {
    let node = node("garbage")?;
    let before = descriptors(&node);
    let long = "x".repeat(200_000);
    let garbage: [&[u8]; 6] = [
        long.as_bytes(),
        b"\0\0\0\r\n",
        b"\xff\xfe\xfd\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"\x16\x03\x01\xff\xff\xff\xff\xff\r\n\r\n",
    ];
    for proto in
        ["smtp", "submission", "submissions", "imap", "imaps", "pop3", "pop3s", "sieve", "lmtp", "http"]
    {
        for octets in garbage {
            let mut stream = TcpStream::connect(node.addr(proto)?)?;
            stream.set_read_timeout(Some(Duration::from_millis(200)))?;
            let _closed_early = stream.write_all(octets);
            let _any_answer = stream.read(&mut [0; 4096]);
        }
    }
    for proto in ["submissions", "imaps", "pop3s"] {
        for octets in garbage {
            let mut wire = Wire::connect(node.addr(proto)?, LIMIT)?;
            wire.start_tls("localhost")?;
            wire.line()?;
            let _closed_early = wire.send(octets);
        }
    }
    wait_until("all connections forgotten", LIMIT, || descriptors(&node) <= before + 10)?;
    ensure!(node.resident()? < 128 << 20, "{} MiB", node.resident()? >> 20);
    ensure!(http(&node, "/readyz")? == 200);
    let log = fs::read_to_string(node.data().with_extension("log"))?;
    ensure!(!log.contains("panicked"), "{log}");
    ensure!(accepted(&mx(&node)?.send("joe@elsewhere.test", &[ANN], &message("fine", 300))));
    Ok(())
}

#[test]
fn mailbox_names_are_names_and_no_paths() -> Result<()> {
    let mut node = node("names")?;
    let mut client = imap(&node, ANN)?;
    for (name, answer) in [
        ("\"../../etc/passwd\"", "OK"),
        ("\"a/../b\"", "OK"),
        ("\"a//b\"", "NO"),
        ("\"/\"", "NO"),
        ("\"\"", "NO"),
        ("\"x\x01y\"", "NO"),
        ("{3+}\r\nx\x7fy", "NO"),
        ("\"&bad\"", "NO"),
        ("\"&AGE-\"", "NO"),
    ] {
        let (_, tagged) = client.command(&format!("CREATE {name}"))?;
        let refused = answer == "NO" && tagged.starts_with("BAD");
        ensure!(refused || tagged.starts_with(answer), "CREATE {name}: {tagged}");
        client.ok("NOOP")?;
    }
    let listed = client.ok("LIST \"\" \"*\"")?;
    for name in ["../../etc/passwd", "a/../b"] {
        ensure!(
            listed.iter().any(|line| line.line.ends_with(&format!("\"{name}\""))
                || line.line.ends_with(&format!(" {name}"))),
            "{name}: {listed:?}"
        );
        ensure!(client.append(name, "", &message("kept", 300))?.starts_with("OK"), "{name}");
    }
    drop(client);
    node.stop()?;
    exported_inside(&node)
}

/// What a tool for a stopped store says in the end.
fn tool(name: &str, paths: &[&Path]) -> Result<String> {
    let binary = mailcluster_interop::NodeBinary::find()?;
    let done = std::process::Command::new(&binary.node).args(["store", name]).args(paths).output()?;
    ensure!(done.status.success(), "{name}: {}", String::from_utf8_lossy(&done.stderr));
    Ok(String::from_utf8(done.stdout)?)
}

/// What was stored under such a name is exported into the folder that was asked for, and nowhere else.
fn exported_inside(node: &mailcluster_interop::Standalone) -> Result<()> {
    let around = mailcluster_interop::scratch("names-export")?;
    let out = around.join("one/two/three/out");
    fs::create_dir_all(out.parent().context("no parent")?)?;
    let store = node.data().join("store");
    let checked = tool("fsck", &[&store])?;
    ensure!(checked.trim_end().ends_with(" batches, 2 messages: 0 problems"), "{checked}");
    let exported = tool("export", &[&store, &out])?;
    ensure!(exported.starts_with("2 accounts, 2 messages, "), "{exported}");
    let end = " octets exported; 0 messages are damaged and left out";
    ensure!(exported.trim_end().ends_with(end) && exported.lines().count() == 1, "{exported}");
    let mut folder = out.clone();
    while folder != around {
        let parent = folder.parent().context("no parent")?.to_owned();
        let inside = fs::read_dir(&parent)?.collect::<Result<Vec<_>, _>>()?;
        ensure!(inside.len() == 1 && inside[0].path() == folder, "{} has {inside:?}", parent.display());
        folder = parent;
    }
    fs::remove_dir_all(around)?;
    Ok(())
}

#[test]
fn octets_that_no_command_has_are_refused_and_the_session_stays_in_step() -> Result<()> {
    let node = node("octets")?;
    let lines: [&[u8]; 4] = [b"NOOP\0\r\n", b"NO\0OP\r\n", b"RCPT TO:<\xff>\r\n", b"USER \xff\r\n"];
    for (proto, refusal, hello, good) in [
        ("lmtp", "5", "LHLO x\r\nNOOP\r\n", "250 2.0.0"),
        ("smtp", "5", "EHLO x\r\nNOOP\r\n", "250 2.0.0"),
        ("pop3", "-ERR", "CAPA\r\n", "+OK"),
    ] {
        for line in lines {
            let mut wire = Wire::connect(node.addr(proto)?, LIMIT)?;
            wire.line()?;
            wire.send(line)?;
            let answer = wire.line()?;
            ensure!(answer.starts_with(refusal), "{proto} said {answer} to {line:?}");
            if proto == "pop3" && line.contains(&0) {
                // A NUL ends a POP3 session: nothing after it is taken for a command.
                ensure!(wire.line().is_err(), "the session goes on after a NUL");
                continue;
            }
            wire.send(hello.as_bytes())?;
            let in_step = |wire: &mut Wire| -> Result<()> {
                while !wire.line()?.starts_with(good) {}
                Ok(())
            };
            in_step(&mut wire).with_context(|| format!("{proto} after {line:?}"))?;
        }
    }
    Ok(())
}

#[test]
fn what_is_too_large_is_refused_before_it_comes() -> Result<()> {
    let node = node("oversize")?;
    let mut client = imap(&node, ANN)?;
    let (_, tagged) = client.command(&format!("SEARCH {}ALL", "(".repeat(64)))?;
    ensure!(tagged.starts_with("BAD"), "{tagged}");
    client.raw(b"x APPEND INBOX {99999999999}\r\n")?;
    let line = client.line()?;
    ensure!(!line.starts_with('+'), "a literal of 99 GB was asked for: {line}");
    let mut client = mx(&node)?;
    client.expect("MAIL FROM:<joe@elsewhere.test> SIZE=99999999999", 552)?;
    ensure!(accepted(&client.send("joe@elsewhere.test", &[ANN], &message("fine", 300))));
    Ok(())
}
