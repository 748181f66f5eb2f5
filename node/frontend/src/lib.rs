//! A frontend: what faces the internet. It accepts mail (MX, submission), authenticates users and passes IMAP and
//! POP3 sessions on to the backend that serves the user's store. It keeps nothing.
//!
//! It knows the rest of the cluster only through `mailcluster_types::{Directory, Backends}`.

mod context;
mod ending;
pub mod imap;
mod login;
pub mod mailbox_metrics;
pub mod managesieve;
pub mod pop3;
mod relay;
mod screened;
pub mod smtp;
mod tls;

pub use context::{FrontendContext, FrontendLimits, TlsUpgrade};
