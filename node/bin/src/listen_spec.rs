//! `--listen PROTO=ADDR:PORT`.

use std::{fmt, net::SocketAddr, str::FromStr};

/// What a port speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Proto {
    /// MX, with STARTTLS.
    Smtp,
    /// Submission with STARTTLS.
    Submission,
    /// Submission over TLS.
    Submissions,
    /// IMAP with STARTTLS.
    Imap,
    /// IMAP over TLS.
    Imaps,
    /// POP3 with STLS.
    Pop3,
    /// POP3 over TLS.
    Pop3s,
    /// ManageSieve with STARTTLS.
    Sieve,
    /// LMTP, plain: for peers on this machine.
    Lmtp,
    /// Health and metrics.
    Http,
}

/// Names and default ports of the protocols.
const PROTOS: [(Proto, &str, u16); 10] = [
    (Proto::Smtp, "smtp", 2525),
    (Proto::Submission, "submission", 2587),
    (Proto::Submissions, "submissions", 2465),
    (Proto::Imap, "imap", 2143),
    (Proto::Imaps, "imaps", 2993),
    (Proto::Pop3, "pop3", 2110),
    (Proto::Pop3s, "pop3s", 2995),
    (Proto::Sieve, "sieve", 4190),
    (Proto::Lmtp, "lmtp", 2424),
    (Proto::Http, "http", 2080),
];

impl Proto {
    /// Does TLS start with the connection?
    pub fn implicit_tls(self) -> bool {
        matches!(self, Self::Submissions | Self::Imaps | Self::Pop3s)
    }
}

impl fmt::Display for Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = PROTOS.iter().find(|(proto, ..)| proto == self).map_or("?", |(_, name, _)| name);
        f.write_str(name)
    }
}

/// One listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenSpec {
    /// What it speaks.
    pub proto: Proto,
    /// Where.
    pub addr: SocketAddr,
}

/// All protocols on 127.0.0.1.
pub fn defaults() -> Vec<ListenSpec> {
    PROTOS
        .iter()
        .map(|(proto, _, port)| ListenSpec { proto: *proto, addr: SocketAddr::from(([127, 0, 0, 1], *port)) })
        .collect()
}

impl FromStr for ListenSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, addr) =
            text.split_once('=').ok_or("expected PROTO=ADDR:PORT, for example imap=127.0.0.1:2143")?;
        let proto =
            PROTOS.iter().find(|(_, n, _)| *n == name).map(|(proto, ..)| *proto).ok_or_else(|| {
                let names: Vec<_> = PROTOS.iter().map(|(_, n, _)| *n).collect();
                format!("unknown protocol {name:?}: use one of {}", names.join(", "))
            })?;
        let addr =
            addr.parse().map_err(|_| format!("{addr:?} is not ADDR:PORT (an IP address, not a name)"))?;
        Ok(Self { proto, addr })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_parse_or_say_what_is_wrong() {
        let spec: ListenSpec = "imaps=[::1]:993".parse().unwrap();
        assert_eq!((spec.proto, spec.addr.port()), (Proto::Imaps, 993));
        for (bad, says) in
            [("imap", "expected"), ("gopher=1.2.3.4:5", "unknown protocol"), ("imap=host:1", "IP")]
        {
            assert!(bad.parse::<ListenSpec>().unwrap_err().contains(says), "{bad}");
        }
        assert_eq!(defaults().len(), 10);
    }
}
