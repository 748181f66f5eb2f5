//! The MailStore: one per store and one for the directory, written by the operator; the routing table.
//!
//! `status.serving` is written by the holder of the store's lease alone, everything else in the status by the operator
//! alone. Nothing is decided from the status: the Lease is the one arbiter (see the failover protocol).

// The derive's print columns repeat keys like `type_`.
#![allow(clippy::duplicated_attributes)]

mod status;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

pub use status::{
    Crash, Evidence, EvidenceKind, FailoverMode, Forced, LastFailover, MailStoreStatus, Mirror, NodeIdentity,
    Phase, Salvage, Serving, SnapshotProgress, Survivor, Target, TargetKind,
};

/// One store: where its copies are.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[kube(
    group = "mailcluster.io",
    version = "v1alpha1",
    kind = "MailStore",
    plural = "mailstores",
    shortname = "mst",
    category = "mail",
    namespaced,
    status = "MailStoreStatus",
    derive = "PartialEq",
    doc = "One store of a mail cluster, or its directory: where it is served, and how it failed over last. Written by the operator; do not edit.",
    selectable = ".spec.cluster",
    printcolumn(name = "Host", type_ = "string", json_path = ".status.host"),
    printcolumn(name = "Epoch", type_ = "integer", json_path = ".status.serving.epoch"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Failover", type_ = "string", json_path = ".status.failover"),
    printcolumn(name = "Copies", type_ = "string", json_path = ".status.copies"),
    printcolumn(name = "Accounts", type_ = "integer", json_path = ".status.accounts"),
    printcolumn(name = "Old-Host", type_ = "string", priority = "1", json_path = ".status.oldHost"),
    printcolumn(name = "Endpoint", type_ = "string", priority = "1", json_path = ".status.serving.endpoint"),
    printcolumn(
        name = "Last-Failover",
        type_ = "string",
        priority = "1",
        json_path = ".status.lastFailover.reason"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    cel
)]
#[serde(rename_all = "camelCase")]
pub struct MailStoreSpec {
    /// Does it hold mail, or is it the directory?
    #[x_kube(validation = ("self == oldSelf", "kind never changes"))]
    pub kind: StoreKind,
    /// The MailCluster it belongs to.
    #[schemars(length(min = 1, max = 40))]
    #[x_kube(validation = ("self == oldSelf", "cluster never changes"))]
    pub cluster: String,
    /// Its copies. A copy stands here from before its volume is claimed; a volume that was claimed once is never
    /// claimed anew under the same id.
    #[schemars(length(min = 1, max = 3))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["id".into()]))]
    pub replicas: Vec<Replica>,
    /// The node its pod is pinned to since it moved; none: wherever its volume can be reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned_node: Option<String>,
}

impl MailStoreSpec {
    /// Has it several copies?
    #[must_use]
    pub fn is_mirrored(&self) -> bool {
        self.replicas.len() > 1
    }
}

/// Does a store hold mail, or is it the directory?
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash, schemars::JsonSchema)]
pub enum StoreKind {
    /// Accounts and their mail.
    Mail,
    /// Domains, accounts and aliases.
    Directory,
}

/// Annotation of a MailStore by which a person asks to replace one of its copies: the copy's id. Removed when done.
pub const REPLACE_REPLICA: &str = "mailcluster.io/replace-replica";
/// Annotation of a MailStore: why the last such request was refused.
pub const REPLACE_REFUSED: &str = "mailcluster.io/replace-replica-refused";
/// Annotation of a MailStore by which a person asks for a move, and the operator itself in a window for rebalancing: the
/// node that is to serve it. Removed when done.
pub const FAILOVER: &str = "mailcluster.io/failover";
/// Annotation of a MailStore: why the last such request was refused.
pub const FAILOVER_REFUSED: &str = "mailcluster.io/failover-refused";
/// Annotation of a MailStore: the node that the operator itself asked for last, and when the window closes in which it did
/// (RFC 3339). A person's request takes it away.
pub const REBALANCED: &str = "mailcluster.io/rebalanced";

/// One copy of a store.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Replica {
    /// 32 hexadecimal digits; the volume's superblock carries the same.
    #[schemars(regex(pattern = r"^[0-9a-f]{32}$"))]
    pub id: String,
    /// The PersistentVolumeClaim that holds it.
    #[schemars(length(min = 1, max = 253))]
    pub pvc: String,
}
