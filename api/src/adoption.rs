//! What a person asks for with `kubectl mailcluster store adopt`, as it stands on a MailStore.

use serde::{Deserialize, Serialize};

/// The annotation of a MailStore that carries the [`Request`], as JSON. Removed by the operator when it is done.
pub const ANNOTATION: &str = "mailcluster.io/adopt";

/// A store's disk stands in another machine now, or its machine has another name: its volume is to be reached there.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The PersistentVolume's name.
    pub pv: String,
    /// The UID of the PersistentVolume that the person looked at: one made anew under its name has another.
    pub uid: String,
    /// The node that has the disk now.
    pub to: String,
}
