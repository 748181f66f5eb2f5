//! A node with two accounts, and short words for what the tests do with it.

#![allow(dead_code, reason = "each test file uses a part of this")]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result};
use mailcluster_interop::Standalone;
use mailcluster_test_clients::{Found, ImapClient, Ledger, Outcome, SendOutcome, SmtpClient, Tls, message};

pub const PASSWORD: &str = "correct horse";
pub const LIMIT: Duration = Duration::from_secs(30);
pub const ANN: &str = "ann@example.test";
pub const BOB: &str = "bob@example.test";

/// A node with `ann` and `bob`.
pub fn node(name: &str) -> Result<Standalone> {
    let node = Standalone::start(name)?;
    node.accounts("example.test", &["ann", "bob"], PASSWORD)?;
    Ok(node)
}

pub fn mx(node: &Standalone) -> Result<SmtpClient> {
    SmtpClient::connect(node.addr("smtp")?, Tls::None, LIMIT)
}

pub fn imap(node: &Standalone, account: &str) -> Result<ImapClient> {
    ImapClient::login(node.addr("imaps")?, Tls::Implicit, LIMIT, account, PASSWORD)
}

pub fn accepted(outcome: &SendOutcome) -> bool {
    matches!(outcome, SendOutcome::Accepted(_))
}

/// Sends a message by a new connection and writes down what was promised.
pub fn send(node: &Standalone, ledger: &mut Ledger, token: &str, to: &str, size: usize) -> SendOutcome {
    let outcome = match mx(node) {
        Ok(mut client) => client.send("joe@elsewhere.test", &[to], &message(token, size)),
        Err(error) => SendOutcome::Failed(format!("{error:#}")),
    };
    let promised = match &outcome {
        SendOutcome::Accepted(_) => Outcome::Accepted,
        SendOutcome::Refused(_) | SendOutcome::Failed(_) => Outcome::Refused,
        SendOutcome::Ambiguous(_) => Outcome::Ambiguous,
    };
    ledger.record(token, to, promised);
    outcome
}

/// Every copy in a mailbox.
pub fn copies(node: &Standalone, account: &str, mailbox: &str) -> Result<Vec<Found>> {
    let found = imap(node, account)?.fetch_all(mailbox)?;
    found.iter().map(|message| Found::read(account, &message.body)).collect()
}

/// The status code that the http port answers.
pub fn http(node: &Standalone, path: &str) -> Result<u16> {
    let mut stream = TcpStream::connect(node.addr("http")?)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    code.with_context(|| format!("{path}: {answer:?}"))
}

/// A connection from one of the addresses of loopback.
pub fn connect_from(source: Ipv4Addr, to: SocketAddr) -> Result<TcpStream> {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&socket, &SocketAddrV4::new(source, 0))?;
    connect(&socket, &to)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    Ok(stream)
}

/// How many files and sockets the node has open.
pub fn descriptors(node: &Standalone) -> usize {
    fs::read_dir(format!("/proc/{}/fd", node.pid())).map_or(0, Iterator::count)
}

/// Plays a server for one session, which answers RCPT so; answers the messages that it was given.
pub fn spoken_to(stream: &TcpStream, rcpt: &str) -> Result<Vec<String>> {
    stream.set_read_timeout(Some(LIMIT))?;
    let say = |text: &str| {
        let mut out = stream;
        write!(out, "{text}\r\n")
    };
    say("220 mx.elsewhere.test")?;
    let (mut messages, mut open) = (Vec::new(), None::<String>);
    for line in BufReader::new(stream.try_clone()?).lines() {
        let line = line?;
        let reply = match (open.as_mut(), line.get(..4).unwrap_or_default()) {
            (Some(text), _) if line != "." => {
                text.push_str(&line);
                text.push('\n');
                continue;
            }
            (Some(_), _) => {
                messages.extend(open.take());
                "250 2.0.0 taken"
            }
            (None, "EHLO" | "MAIL" | "RSET") => "250 2.0.0 ok",
            (None, "RCPT") => rcpt,
            (None, "DATA") if rcpt.starts_with('2') => {
                open = Some(String::new());
                "354 go on"
            }
            (None, "DATA") => "554 5.5.1 no recipients",
            (None, "QUIT") => {
                // Who says it need not wait for the answer.
                let _gone = say("221 bye");
                break;
            }
            (None, _) => "500 5.5.2 what?",
        };
        say(reply)?;
    }
    Ok(messages)
}
