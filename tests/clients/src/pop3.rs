//! A POP3 client.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Result, bail};

use crate::wire::{Tls, Wire};

/// A POP3 session.
pub struct Pop3Client {
    wire: Wire,
}

impl Pop3Client {
    /// Connects, starts TLS as asked, and logs in.
    ///
    /// # Errors
    /// When the server is away or refuses.
    pub fn login(addr: SocketAddr, tls: Tls, timeout: Duration, user: &str, password: &str) -> Result<Self> {
        let mut wire = Wire::connect(addr, timeout)?;
        if tls == Tls::Implicit {
            wire.start_tls("localhost")?;
        }
        let mut client = Self { wire };
        client.status()?;
        if tls == Tls::StartTls {
            client.ok("STLS")?;
            client.wire.start_tls("localhost")?;
        }
        client.ok(&format!("USER {user}"))?;
        client.ok(&format!("PASS {password}"))?;
        Ok(client)
    }

    /// Sends a command; answers the text of `+OK`.
    ///
    /// # Errors
    /// On `-ERR`.
    pub fn ok(&mut self, command: &str) -> Result<String> {
        self.wire.send(format!("{command}\r\n").as_bytes())?;
        self.status()
    }

    /// All messages, unstuffed.
    ///
    /// # Errors
    /// When a command fails.
    pub fn retrieve_all(&mut self) -> Result<Vec<Vec<u8>>> {
        let stat = self.ok("STAT")?;
        let count: u32 = stat.split_whitespace().next().unwrap_or_default().parse()?;
        (1..=count).map(|n| self.multi_line(&format!("RETR {n}"))).collect()
    }

    /// A command with a multi-line answer.
    ///
    /// # Errors
    /// On `-ERR` and broken connections.
    pub fn multi_line(&mut self, command: &str) -> Result<Vec<u8>> {
        self.ok(command)?;
        let mut body = Vec::new();
        loop {
            let line = self.wire.line()?;
            if line == "." {
                return Ok(body);
            }
            body.extend_from_slice(line.strip_prefix('.').unwrap_or(&line).as_bytes());
            body.extend_from_slice(b"\r\n");
        }
    }

    fn status(&mut self) -> Result<String> {
        let line = self.wire.line()?;
        match line.strip_prefix("+OK") {
            Some(text) => Ok(text.trim().to_owned()),
            None => bail!("{line}"),
        }
    }
}
