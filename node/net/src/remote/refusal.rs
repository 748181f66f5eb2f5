//! A backend's refusal, told in the greeting of its protocol: `epoch=` and `endpoint=` let a frontend follow.

use std::net::SocketAddr;

use mailcluster_types::{Epoch, Protocol};

/// Longest reason written.
const MAX_REASON: usize = 200;

/// Why a backend refuses a connection before serving it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// For people.
    pub reason: String,
    /// The epoch this backend serves at or knows of; 0 when it knows none.
    pub epoch: Epoch,
    /// Where the store is served, when known.
    pub endpoint: Option<SocketAddr>,
}

impl Refusal {
    /// The greeting that tells it.
    #[must_use]
    pub fn greeting(&self, protocol: Protocol) -> String {
        let start = match protocol {
            Protocol::Lmtp => "421 4.3.2",
            Protocol::Imap => "* BYE [UNAVAILABLE]",
            Protocol::Pop3 => "-ERR [SYS/TEMP]",
            Protocol::ManageSieve => "BYE (TRYLATER) \"refused",
        };
        let end = if protocol == Protocol::ManageSieve { "\"" } else { "" };
        let endpoint = self.endpoint.map(|e| format!(" endpoint={e}")).unwrap_or_default();
        let plain = |c: &char| (c.is_ascii_graphic() && !matches!(c, '"' | '\\')) || *c == ' ';
        let reason: String = self.reason.chars().filter(plain).take(MAX_REASON).collect();
        format!("{start} epoch={}{endpoint} {reason}{end}\r\n", self.epoch)
    }

    /// Reads a greeting's first line: `Some` when it refuses, in whatever words.
    #[must_use]
    pub fn parse(protocol: Protocol, line: &[u8]) -> Option<Self> {
        let starts = match protocol {
            Protocol::Lmtp => !line.starts_with(b"220"),
            Protocol::Imap => !line.starts_with(b"* OK") && !line.starts_with(b"* PREAUTH"),
            Protocol::Pop3 => !line.starts_with(b"+OK"),
            Protocol::ManageSieve => !line.starts_with(b"OK"),
        };
        if !starts {
            return None;
        }
        let text = String::from_utf8_lossy(line);
        let word = |key: &str| text.split_ascii_whitespace().find_map(|w| w.strip_prefix(key));
        let plain = |c: &char| c.is_ascii_graphic() || *c == ' ';
        Some(Self {
            epoch: word("epoch=").and_then(|e| e.parse().ok()).unwrap_or(0),
            endpoint: word("endpoint=").and_then(|e| e.parse().ok()),
            reason: text.chars().filter(plain).take(MAX_REASON).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_read_back() {
        let refusal = Refusal {
            reason: "this store has\r\n moved".to_owned(),
            epoch: 7,
            endpoint: Some(([10, 1, 2, 3], 11143).into()),
        };
        for protocol in [Protocol::Lmtp, Protocol::Imap, Protocol::Pop3, Protocol::ManageSieve] {
            let greeting = refusal.greeting(protocol);
            assert_eq!(greeting.matches("\r\n").count(), 1, "{greeting}");
            let read = Refusal::parse(protocol, greeting.as_bytes()).unwrap();
            assert_eq!((read.epoch, read.endpoint), (7, refusal.endpoint));
        }
    }

    #[test]
    fn greetings_that_serve_and_refusals_of_others() {
        assert_eq!(Refusal::parse(Protocol::Lmtp, b"220 mail LMTP\r\n"), None);
        assert_eq!(Refusal::parse(Protocol::Imap, b"* OK ready\r\n"), None);
        assert_eq!(Refusal::parse(Protocol::Pop3, b"+OK\r\n"), None);
        assert_eq!(Refusal::parse(Protocol::ManageSieve, b"OK \"ready\"\r\n"), None);
        let other = Refusal::parse(Protocol::Lmtp, b"554 go away epoch=x\xff\r\n").unwrap();
        assert_eq!((other.epoch, other.endpoint), (0, None));
    }
}
