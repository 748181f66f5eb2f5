//! Sieve at delivery: an account's active script is run over the message, and what it wants becomes a part of the delivery.
//!
//! 1. The script runs over a snapshot of the store (`run`), on a thread of its own, within limits.
//! 2. What it wants is turned into copies, mail to be sent and ids to be remembered (`filing`); addresses are looked up in
//!    the directory (`leads`).
//! 3. The store does all of it in the delivery's batch, or nothing. Mail that is sent has ids derived from the delivery's
//!    (`ids`): a delivery that is tried again sends nothing twice, even where the first try was forgotten.
//!
//! Mail is never lost for a script: one that fails keeps the message, and its user is told once a day.

mod answer;
mod filing;
mod ids;
mod leads;
mod mail;
mod run;

use std::sync::Arc;

use mailcluster_sieve::{Capabilities, CompileError, Limits, Script};
use mailcluster_types::Directory;

pub(crate) use self::filing::{About, Wish, wish};
pub(crate) use self::run::{Asked, Ran, run};

/// What scripts send by. The default sends nothing: what is to be sent on is kept.
#[derive(Clone, Default)]
pub struct Sending {
    /// Finds the accounts of this cluster; `None`: nothing can be sent.
    pub directory: Option<Arc<dyn Directory>>,
    /// This store's queue sends mail to other sites.
    pub to_other_sites: bool,
}

/// What a script and its run may use up. The work is a second's, about.
#[must_use]
pub fn limits() -> Limits {
    Limits { script: mailcluster_store::MAX_SCRIPT, work: 256 << 20, ..Limits::default() }
}

/// Compiles a script as deliveries do.
///
/// # Errors
/// Where it is wrong, for its author.
pub fn compile(script: &[u8]) -> Result<Script, CompileError> {
    Script::compile(script, &Capabilities::at_delivery(), &limits())
}
