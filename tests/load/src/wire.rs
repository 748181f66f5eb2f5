//! What the kernel has counted on the connections to the mirrors: octets of TCP, TLS included.

use std::{net::SocketAddr, process::Command};

use anyhow::{Context, Result, ensure};

/// Octets on connections to mirrors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Octets {
    /// To them, and acknowledged.
    pub sent: u64,
    /// From them.
    pub received: u64,
}

impl Octets {
    /// On all connections to these mirrors, since each began.
    pub fn to(mirrors: impl IntoIterator<Item = SocketAddr>) -> Result<Self> {
        let mut sum = Self::default();
        for at in mirrors {
            let output = Command::new("ss")
                .args(["-tinHO", "state", "established", "dst", &at.to_string()])
                .output()
                .context("failed to start ss (Debian package iproute2)")?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "ss: {}", said.trim());
            let text = String::from_utf8_lossy(&output.stdout);
            ensure!(!text.trim().is_empty(), "there is no connection to the mirror at {at}");
            let Self { sent, received } = counted(&text)?;
            sum = Self { sent: sum.sent + sent, received: sum.received + received };
        }
        Ok(sum)
    }

    /// What has come since `before`.
    pub fn since(self, before: Self) -> Self {
        Self { sent: self.sent - before.sent, received: self.received - before.received }
    }
}

/// What `ss` says, one connection a line. A counter that is still zero is left out.
fn counted(text: &str) -> Result<Octets> {
    let sum = |name: &str| -> Result<u64> {
        let words = text.split_whitespace().filter_map(|word| word.strip_prefix(name)?.strip_prefix(':'));
        words.map(|digits| digits.parse::<u64>().with_context(|| format!("{name}:{digits}"))).sum()
    };
    Ok(Octets { sent: sum("bytes_acked")?, received: sum("bytes_received")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counters_of_all_connections_are_added_up() {
        let line = "0 0 127.0.0.1:5 127.0.0.1:6 cubic wscale:7,7 mss:32768 bytes_sent:900 bytes_acked:812 bytes_received:57 segs_out:9";
        let quiet = "0 0 127.0.0.1:7 127.0.0.1:6 cubic bytes_acked:100";
        assert_eq!(counted(&format!("{line}\n{quiet}\n")).unwrap(), Octets { sent: 912, received: 57 });
        assert!(counted("bytes_acked:many").is_err());
    }
}
