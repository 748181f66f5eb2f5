//! What is known of the client at the far end of a connection.

use std::net::SocketAddr;

use crate::SessionId;

/// The client that a session serves, as the frontend saw it (or was told by a trusted PROXY header).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientInfo {
    /// The client's own address and port.
    pub remote: SocketAddr,
    /// The address and port it connected to.
    pub local: SocketAddr,
    /// What TLS agreed on; `None` on a plaintext connection.
    pub tls: Option<TlsFacts>,
    /// Ties the log lines of frontend and backend together.
    pub session: SessionId,
}

/// What TLS agreed on, for the Received header and the logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFacts {
    /// For example `TLSv1.3`.
    pub version: String,
    /// For example `TLS13_AES_256_GCM_SHA384`.
    pub cipher: String,
    /// The server name the client asked for.
    pub sni: Option<String>,
}
