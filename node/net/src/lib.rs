//! The network's edge of a mail node: listeners and their limits, TLS for clients, mutual TLS between our pods, the
//! PROXY protocol, and the connections from frontends to backends. Knows no mail protocol but the first line of a
//! greeting.

pub mod grpc;
pub mod limits;
pub mod listen;
pub mod mtls;
mod pem;
pub mod proxy;
pub mod remote;
pub mod stream;
pub mod tls;
