//! An SMTP and LMTP client.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Result, bail};
use base64::{Engine, engine::general_purpose::STANDARD};

use crate::wire::{Tls, Wire};

/// A server's reply, all lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The three digit code.
    pub code: u16,
    /// The text of all lines, joined by newlines.
    pub text: String,
}

/// What became of an attempt to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendOutcome {
    /// 250 after the final dot: the cluster has the message.
    Accepted(Reply),
    /// A reply that refuses; the cluster has not got it.
    Refused(Reply),
    /// The final dot was (perhaps) sent and no reply came: it may or may not be there.
    Ambiguous(String),
    /// No reply came, and the final dot had not been sent.
    Failed(String),
}

/// An SMTP (or, after [`SmtpClient::lmtp`], LMTP) session.
pub struct SmtpClient {
    wire: Wire,
    /// The greeting and the last EHLO reply.
    pub ehlo: Reply,
    /// One reply for each recipient behind the final dot.
    one_for_each: bool,
}

impl SmtpClient {
    /// Connects, reads the greeting, says EHLO, and starts TLS as asked.
    ///
    /// # Errors
    /// When the server is away or refuses.
    pub fn connect(addr: SocketAddr, tls: Tls, timeout: Duration) -> Result<Self> {
        let mut client = Self::greet(Wire::connect(addr, timeout)?, tls, "EHLO")?;
        if tls == Tls::StartTls {
            client.expect("STARTTLS", 220)?;
            client.wire.start_tls("localhost")?;
            client.ehlo = client.expect("EHLO client.test", 250)?;
        }
        Ok(client)
    }

    /// Connects and says LHLO (RFC 2033).
    ///
    /// # Errors
    /// When the server is away or refuses.
    pub fn lmtp(addr: SocketAddr, timeout: Duration) -> Result<Self> {
        Self::greet(Wire::connect(addr, timeout)?, Tls::None, "LHLO")
    }

    fn greet(mut wire: Wire, tls: Tls, hello: &str) -> Result<Self> {
        if tls == Tls::Implicit {
            wire.start_tls("localhost")?;
        }
        let one_for_each = hello == "LHLO";
        let mut client = Self { wire, ehlo: Reply { code: 0, text: String::new() }, one_for_each };
        let greeting = client.reply()?;
        if greeting.code != 220 {
            bail!("greeting: {greeting:?}");
        }
        client.ehlo = client.expect(&format!("{hello} client.test"), 250)?;
        Ok(client)
    }

    /// Sends a line and reads the reply.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn command(&mut self, line: &str) -> Result<Reply> {
        self.wire.send(format!("{line}\r\n").as_bytes())?;
        self.reply()
    }

    /// Sends a line and insists on this code.
    ///
    /// # Errors
    /// When the reply is another one.
    pub fn expect(&mut self, line: &str, code: u16) -> Result<Reply> {
        let reply = self.command(line)?;
        if reply.code != code {
            let verb = line.split(' ').next().unwrap_or_default();
            bail!("{verb}: expected {code}, got {} {}", reply.code, reply.text);
        }
        Ok(reply)
    }

    /// Raw octets, for tests of what a server must refuse.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn raw(&mut self, octets: &[u8]) -> Result<()> {
        self.wire.send(octets)
    }

    /// Reads one reply.
    ///
    /// # Errors
    /// When the connection breaks or what came is no reply.
    pub fn reply(&mut self) -> Result<Reply> {
        let mut text = String::new();
        loop {
            let line = self.wire.line()?;
            let Some(code) = line.get(..3).and_then(|c| c.parse().ok()) else {
                bail!("not a reply: {line:?}")
            };
            text.push_str(line.get(4..).unwrap_or_default());
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(Reply { code, text });
            }
            text.push('\n');
        }
    }

    /// AUTH PLAIN.
    ///
    /// # Errors
    /// When it is refused.
    pub fn auth_plain(&mut self, user: &str, password: &str) -> Result<()> {
        let token = STANDARD.encode(format!("\0{user}\0{password}"));
        self.expect(&format!("AUTH PLAIN {token}"), 235).map(|_| ())
    }

    /// What is said behind the final dot; of several replies (RFC 2033 section 4.2) the worst.
    fn verdict(&mut self, recipients: usize) -> Result<Reply> {
        let mut worst = self.reply()?;
        for _ in 1..if self.one_for_each { recipients } else { 1 } {
            let reply = self.reply()?;
            if reply.code > worst.code {
                worst = reply;
            }
        }
        Ok(worst)
    }

    /// MAIL, RCPT and DATA of one message; `body` has CRLF line endings and is dot-stuffed here.
    pub fn send(&mut self, from: &str, to: &[&str], body: &[u8]) -> SendOutcome {
        let mut envelope = vec![format!("MAIL FROM:<{from}>")];
        envelope.extend(to.iter().map(|rcpt| format!("RCPT TO:<{rcpt}>")));
        envelope.push("DATA".to_owned());
        for line in &envelope {
            match self.command(line) {
                Ok(reply) if reply.code < 400 => {}
                Ok(reply) => return SendOutcome::Refused(reply),
                Err(error) => return SendOutcome::Failed(format!("{error:#}")),
            }
        }
        let sent = self.wire.send(&stuffed(body)).and_then(|()| self.verdict(to.len()));
        match sent {
            Ok(reply) if reply.code < 300 => SendOutcome::Accepted(reply),
            Ok(reply) => SendOutcome::Refused(reply),
            Err(error) => SendOutcome::Ambiguous(format!("{error:#}")),
        }
    }
}

/// The body with leading dots doubled and the final dot (RFC 5321 section 4.5.2).
fn stuffed(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + 8);
    for line in body.split_inclusive(|b| *b == b'\n') {
        if line.starts_with(b".") {
            out.push(b'.');
        }
        out.extend_from_slice(line);
    }
    if !out.is_empty() && !out.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b".\r\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_are_doubled() {
        assert_eq!(stuffed(b".a\r\nb\r\n..\r\n"), b"..a\r\nb\r\n...\r\n.\r\n");
        assert_eq!(stuffed(b""), b".\r\n");
    }
}
