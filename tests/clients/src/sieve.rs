//! A ManageSieve client (RFC 5804).

use std::{net::SocketAddr, time::Duration};

use anyhow::{Result, bail, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::wire::{Tls, Wire};

/// What a command was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SieveAnswer {
    /// The lines before the last, literals in place.
    pub lines: Vec<String>,
    /// `OK`, `NO` or `BYE` with what follows, literals in place.
    pub last: String,
}

/// A ManageSieve session.
pub struct SieveClient {
    wire: Wire,
}

impl SieveClient {
    /// Connects, reads the greeting and starts TLS as asked.
    ///
    /// # Errors
    /// When the server is away or does not say OK.
    pub fn connect(addr: SocketAddr, tls: Tls, timeout: Duration) -> Result<Self> {
        let mut client = Self { wire: Wire::connect(addr, timeout)? };
        let greeting = client.answer()?;
        ensure!(greeting.last.starts_with("OK"), "greeting: {greeting:?}");
        if tls == Tls::StartTls {
            client.ok("STARTTLS")?;
            client.wire.start_tls("localhost")?;
            let anew = client.answer()?;
            ensure!(anew.lines.iter().any(|line| line == "\"SASL\" \"PLAIN\""), "{anew:?}");
        }
        Ok(client)
    }

    /// Connects by STARTTLS and logs in.
    ///
    /// # Errors
    /// When that fails.
    pub fn login(addr: SocketAddr, timeout: Duration, user: &str, password: &str) -> Result<Self> {
        let mut client = Self::connect(addr, Tls::StartTls, timeout)?;
        let token = STANDARD.encode(format!("\0{user}\0{password}"));
        client.ok(&format!("AUTHENTICATE \"PLAIN\" \"{token}\""))?;
        Ok(client)
    }

    /// Sends a command.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn command(&mut self, command: &str) -> Result<SieveAnswer> {
        self.wire.send(format!("{command}\r\n").as_bytes())?;
        self.answer()
    }

    /// As [`Self::command`], and insists on OK.
    ///
    /// # Errors
    /// On NO and BYE too.
    pub fn ok(&mut self, command: &str) -> Result<Vec<String>> {
        let answer = self.command(command)?;
        if !answer.last.starts_with("OK") {
            bail!("{}: {}", command.split(' ').next().unwrap_or_default(), answer.last);
        }
        Ok(answer.lines)
    }

    /// PUTSCRIPT and SETACTIVE.
    ///
    /// # Errors
    /// When one of them is refused.
    pub fn activate(&mut self, name: &str, script: &str) -> Result<()> {
        self.ok(&format!("PUTSCRIPT \"{name}\" {{{}+}}\r\n{script}", script.len()))?;
        self.ok(&format!("SETACTIVE \"{name}\"")).map(|_| ())
    }

    fn answer(&mut self) -> Result<SieveAnswer> {
        let mut lines = Vec::new();
        loop {
            let line = self.whole_line()?;
            if ["OK", "NO", "BYE"].iter().any(|word| line.starts_with(word)) {
                return Ok(SieveAnswer { lines, last: line });
            }
            lines.push(line);
        }
    }

    /// A line, with its literals in place of their sizes.
    fn whole_line(&mut self) -> Result<String> {
        let mut whole = self.wire.line()?;
        loop {
            let size = whole.rsplit_once('{').and_then(|(_, rest)| rest.strip_suffix('}')?.parse().ok());
            let Some(size) = size else { return Ok(whole) };
            let literal = self.wire.octets(size)?;
            let rest = self.wire.line()?;
            whole = format!(
                "{}{}{rest}",
                whole.rsplit_once('{').map_or("", |(head, _)| head),
                String::from_utf8_lossy(&literal)
            );
            if !rest.ends_with('}') {
                return Ok(whole);
            }
        }
    }
}
