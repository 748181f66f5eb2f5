//! What a person orders with `kubectl mailcluster failover STORE --force`, as it stands on a MailStore.

use serde::{Deserialize, Serialize};

/// The annotation of a MailStore that carries the [`Request`], as JSON. Removed by the operator when it is done, or refused.
pub const ANNOTATION: &str = "mailcluster.io/force-failover";
/// The annotation that says why the last one was refused.
pub const REFUSED: &str = "mailcluster.io/force-failover-refused";

/// A copy is to take the store that need not have everything: those that have are gone for good.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Request {
    /// The copy's id.
    pub copy: String,
    /// The epoch of the Lease that the person saw; at another one it is void.
    pub epoch: u64,
    /// Also without proof that the old holder's process has ended.
    #[serde(default)]
    pub accept_loss: bool,
}
