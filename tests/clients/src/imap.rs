//! An IMAP client: commands in, lines (with their literals) out.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result, bail};

use crate::wire::{Tls, Wire};

/// A fetched message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Its UID.
    pub uid: u32,
    /// Its flags, in the server's order.
    pub flags: Vec<String>,
    /// Its text.
    pub body: Vec<u8>,
}

/// An untagged response: its line, with literals cut out and kept beside it.
#[derive(Debug, Clone)]
pub struct Untagged {
    /// The line; each literal stands as `{n}`.
    pub line: String,
    /// The literals in order.
    pub literals: Vec<Vec<u8>>,
}

/// An IMAP session.
pub struct ImapClient {
    wire: Wire,
    tag: u32,
}

impl ImapClient {
    /// Connects, reads the greeting and starts TLS as asked.
    ///
    /// # Errors
    /// When the server is away or greets with BYE.
    pub fn connect(addr: SocketAddr, tls: Tls, timeout: Duration) -> Result<Self> {
        let mut wire = Wire::connect(addr, timeout)?;
        if tls == Tls::Implicit {
            wire.start_tls("localhost")?;
        }
        let greeting = wire.line()?;
        if !greeting.starts_with("* OK") {
            bail!("greeting: {greeting}");
        }
        let mut client = Self { wire, tag: 0 };
        if tls == Tls::StartTls {
            client.ok("STARTTLS")?;
            client.wire.start_tls("localhost")?;
        }
        Ok(client)
    }

    /// Connects over TLS and logs in.
    ///
    /// # Errors
    /// When that fails.
    pub fn login(addr: SocketAddr, tls: Tls, timeout: Duration, user: &str, password: &str) -> Result<Self> {
        let mut client = Self::connect(addr, tls, timeout)?;
        client.ok(&format!("LOGIN \"{user}\" \"{password}\""))?;
        Ok(client)
    }

    /// Sends a command; answers the untagged responses and the tagged one (without its tag).
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn command(&mut self, command: &str) -> Result<(Vec<Untagged>, String)> {
        let tag = self.send_tagged(command)?;
        self.until(&tag)
    }

    /// As [`Self::command`], and insists on OK.
    ///
    /// # Errors
    /// On NO and BAD too.
    pub fn ok(&mut self, command: &str) -> Result<Vec<Untagged>> {
        let (untagged, tagged) = self.command(command)?;
        if !tagged.starts_with("OK") {
            bail!("{}: {tagged}", command.split(' ').next().unwrap_or_default());
        }
        Ok(untagged)
    }

    /// SELECT, then every message with UID, flags and body.
    ///
    /// # Errors
    /// When a command fails.
    pub fn fetch_all(&mut self, mailbox: &str) -> Result<Vec<Fetched>> {
        self.ok(&format!("SELECT \"{mailbox}\""))?;
        let untagged = self.ok("UID FETCH 1:* (UID FLAGS BODY.PEEK[])")?;
        untagged.iter().filter(|u| u.line.contains(" FETCH ")).map(Untagged::fetched).collect()
    }

    /// APPEND with a synchronising literal. Answers the tagged response.
    ///
    /// # Errors
    /// When the connection breaks; a refusal is in the answer.
    pub fn append(&mut self, mailbox: &str, flags: &str, body: &[u8]) -> Result<String> {
        let tag = self.send_tagged(&format!("APPEND \"{mailbox}\" ({flags}) {{{}}}", body.len()))?;
        let line = self.wire.line()?;
        if !line.starts_with('+') {
            return Ok(line.strip_prefix(&format!("{tag} ")).unwrap_or(&line).to_owned());
        }
        self.wire.send(body)?;
        self.wire.send(b"\r\n")?;
        Ok(self.until(&tag)?.1)
    }

    /// Raw octets.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn raw(&mut self, octets: &[u8]) -> Result<()> {
        self.wire.send(octets)
    }

    /// One raw line.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn line(&mut self) -> Result<String> {
        self.wire.line()
    }

    fn send_tagged(&mut self, command: &str) -> Result<String> {
        self.tag += 1;
        let tag = format!("t{}", self.tag);
        self.wire.send(format!("{tag} {command}\r\n").as_bytes())?;
        Ok(tag)
    }

    fn until(&mut self, tag: &str) -> Result<(Vec<Untagged>, String)> {
        let mut untagged = Vec::new();
        loop {
            let response = self.response()?;
            match response.line.strip_prefix(tag).and_then(|rest| rest.strip_prefix(' ')) {
                Some(tagged) => return Ok((untagged, tagged.to_owned())),
                None => untagged.push(response),
            }
        }
    }

    fn response(&mut self) -> Result<Untagged> {
        let (mut line, mut literals) = (String::new(), Vec::new());
        loop {
            line.push_str(&self.wire.line()?);
            let size =
                line.strip_suffix('}').and_then(|l| l.rsplit_once('{')).and_then(|(_, n)| n.parse().ok());
            let Some(size) = size else { return Ok(Untagged { line, literals }) };
            literals.push(self.wire.octets(size)?);
        }
    }
}

impl Untagged {
    /// What a FETCH response says of a message; its body is empty where none came.
    ///
    /// # Errors
    /// When it names no UID.
    pub fn fetched(&self) -> Result<Fetched> {
        let line = &self.line;
        let after = |key: &str| line.split_once(key).map(|(_, rest)| rest);
        let uid =
            after("UID ").and_then(|rest| rest.split([' ', ')']).next()).and_then(|uid| uid.parse().ok());
        let flags = after("FLAGS (").and_then(|rest| rest.split(')').next()).unwrap_or_default();
        Ok(Fetched {
            uid: uid.with_context(|| format!("no UID in {line}"))?,
            flags: flags.split_whitespace().map(str::to_owned).collect(),
            body: self.literals.first().cloned().unwrap_or_default(),
        })
    }
}
