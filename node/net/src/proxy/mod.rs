//! The PROXY protocol, versions 1 and 2 (haproxy's proxy-protocol.txt): from load balancers we trust, and between
//! our own frontends and backends with private fields (design section 10a).

mod read;
mod trusted;
mod v1;
mod v2;

use std::net::SocketAddr;

use mailcluster_types::{AccountId, ClusterId, Epoch, SessionId, StoreName, TlsFacts};

pub use read::{ReadError, read_header};
pub use trusted::{CidrError, TrustedProxies};

/// The twelve bytes a version 2 header starts with.
pub const V2_SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Largest header taken, in octets.
pub const MAX_HEADER: usize = 4096;

/// What a header says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Header {
    /// The proxy itself speaks (health checks): no client is behind it.
    pub local: bool,
    /// The client's address and the address it connected to; `None` for LOCAL and UNKNOWN.
    pub addresses: Option<(SocketAddr, SocketAddr)>,
    /// What TLS agreed on with the client.
    pub tls: Option<TlsFacts>,
    /// Private fields, between our own pods only.
    pub private: Private,
}

/// The private fields 0xE0 to 0xE4: whom the connection is for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Private {
    /// 0xE0, 16 octets.
    pub cluster: Option<ClusterId>,
    /// 0xE1, its name.
    pub store: Option<StoreName>,
    /// 0xE2, 8 octets, most significant first.
    pub epoch: Option<Epoch>,
    /// 0xE3, 16 octets.
    pub account: Option<AccountId>,
    /// 0xE4, 16 octets.
    pub session: Option<SessionId>,
}

/// Not a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// It does not start like one.
    #[error("not a PROXY header")]
    NotProxy,
    /// It starts like one and then breaks the rules.
    #[error("malformed PROXY header: {0}")]
    Malformed(&'static str),
    /// Longer than [`MAX_HEADER`].
    #[error("PROXY header too long")]
    TooLong,
}

/// Reads a header from the start of `input`. `Ok(None)`: more octets are needed. Otherwise the header and how many
/// octets it took.
///
/// # Errors
/// As soon as it is sure that `input` cannot become a header.
pub fn parse(input: &[u8]) -> Result<Option<(Header, usize)>, ParseError> {
    let start = input.len().min(V2_SIGNATURE.len());
    if input[..start] == V2_SIGNATURE[..start] {
        // An empty input fits both versions.
        return if start < V2_SIGNATURE.len() { Ok(None) } else { v2::parse(input) };
    }
    v1::parse(input)
}

impl Header {
    /// The version 2 form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        v2::encode(self)
    }
}
