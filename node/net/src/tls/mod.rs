//! TLS for clients: certificates chosen by the name they ask for, reloaded when their files change.

mod acceptor;
mod store;
mod table;

pub use crate::pem::PemError;
pub use acceptor::TlsAcceptor;
pub use store::{CertInfo, CertStore};
