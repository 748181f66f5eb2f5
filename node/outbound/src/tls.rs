//! What must hold of a connection to a host before mail goes over it, and what is reported when it does not.
//!
//! - [`dane`]: what TLSA records demand (RFC 6698, RFC 7671, RFC 7672).
//! - [`sts`]: policies that domains publish over HTTPS (RFC 8461).
//! - [`policy`]: both together, with what the administrator and the sender (REQUIRETLS, RFC 8689) demand, and the words
//!   of TLS-RPT (RFC 8460).
//!
//! Certificates are read, and chains are built, by the caller.

pub mod dane;
pub mod policy;
pub mod sts;
