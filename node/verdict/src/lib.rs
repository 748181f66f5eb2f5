//! What mail that comes in from other sites is worth: SPF, DKIM, DMARC, ARC, iprev and DNS lists.
//!
//! Decisions are pure and stand in tables (`decide`, `field`, [`dnsbl`], `authors`); `check` asks the DNS and does the
//! arithmetic with `mail-auth`, which no other crate of ours sees. Nothing here refuses mail because the DNS does not answer.

mod authors;
mod body;
mod check;
mod decide;
pub mod dnsbl;
mod field;
mod lists;
mod lookups;
mod message;
mod network;
mod pulse;
mod results;
mod settings;
mod spf;

pub use check::{Checks, Mail, ResolverError, Text, Verdict};
pub use decide::{Action, decide};
pub use field::is_forged;
pub use network::{Network, NetworkError};
pub use results::{Authors, Dmarc, Listed, Outcome, Policy, Results, Signature};
pub use settings::{Check, List, ListAction, Settings, SettingsError};
