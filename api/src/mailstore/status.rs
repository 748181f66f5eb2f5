//! The status of a MailStore.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// What is known of a store. `serving` belongs to the holder of its lease, the rest to the operator.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("!has(oldSelf.serving) || has(self.serving)", "serving is replaced by a newer epoch, never removed"))]
pub struct MailStoreStatus {
    /// The generation of the spec that the operator's part speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Who serves the store: the route. Written by the holder alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serving: Option<Serving>,
    /// Where the copies of a mirrored store can be fed. Each entry is written by that copy's own pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["id".into()]))]
    #[schemars(length(max = 8))]
    pub mirrors: Vec<Mirror>,
    /// Where the store stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// The node it is served from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The node it was served from before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_host: Option<String>,
    /// The epoch of its Lease, as the operator last read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<i64>,
    /// What can be done when its node dies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failover: Option<FailoverMode>,
    /// How many copies of a mirrored store have everything, and how many there are, like 2/3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub copies: Option<String>,
    /// The copies of a mirrored store that take a snapshot of it now, and how far that has come.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["id".into()]))]
    #[schemars(length(max = 8))]
    pub snapshots: Vec<SnapshotProgress>,
    /// Accounts on it; at most a minute old.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accounts: Option<i64>,
    /// Bytes of mail on it; at most a minute old.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<i64>,
    /// The replica that is asked to take the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// What is known against the last holder, in the order it was found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<Evidence>,
    /// The copies of a mirrored store, as they were found when none that has everything answered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub survivors: Vec<Survivor>,
    /// The last change of host that was not asked for, or was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failover: Option<LastFailover>,
    /// What was brought back of what a forced takeover had left behind, since the process began that serves then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_salvage: Option<Salvage>,
    /// Its own crashes of the last hour that the operator had to act on, oldest first. A lost node is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub crashes: Vec<Crash>,
    /// The machine it was last served from, beyond its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_identity: Option<NodeIdentity>,
    /// Claims that were once made for it: never made again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claimed: Vec<String>,
    /// Ready, FailoverBlocked, Forced, VolumeMissing and others, each with a reason and a message that says what to do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

impl MailStoreStatus {
    /// Has a process ever opened the volume of this copy of a mirrored store?
    #[must_use]
    pub fn was_opened(&self, replica: &str) -> bool {
        self.mirrors.iter().any(|mirror| mirror.id == replica)
    }
}

/// Where a copy of a mirrored store can be fed.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Mirror {
    /// The copy's id.
    #[schemars(regex(pattern = r"^[0-9a-f]{32}$"))]
    pub id: String,
    /// `address:port` of its pod's gRPC port.
    #[schemars(length(max = 64))]
    pub endpoint: String,
}

/// How far a snapshot has come.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotProgress {
    /// The copy's id.
    #[schemars(regex(pattern = r"^[0-9a-f]{32}$"))]
    pub id: String,
    /// How much of it is there, of 100.
    #[schemars(range(min = 0, max = 100))]
    pub percent: i32,
    /// Bytes of all of it.
    pub bytes: i64,
}

/// Who serves a store.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("self.epoch >= oldSelf.epoch", "the epoch never falls"),
    validation = ("self.epoch > oldSelf.epoch || self.podUID == oldSelf.podUID", "one epoch belongs to one pod"),
)]
pub struct Serving {
    /// The holder's epoch.
    pub epoch: i64,
    /// The id of the replica that serves.
    #[schemars(length(max = 32))]
    pub replica: String,
    /// The UID of the pod that serves.
    #[serde(rename = "podUID")]
    #[schemars(length(max = 64))]
    pub pod_uid: String,
    /// `address:port` of its gRPC port; the other protocols' ports at the same address are those of the table of ports.
    #[schemars(length(max = 64))]
    pub endpoint: String,
    /// Since when.
    pub since: Time,
}

/// Where a store stands.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash, schemars::JsonSchema)]
pub enum Phase {
    /// Its volume is being prepared for the first time.
    Initialising,
    /// It serves.
    Serving,
    /// Its holder is not heard; it may come back by itself.
    Suspect,
    /// Its holder finishes its work, to hand it over.
    Draining,
    /// The old holder's end is being proven.
    Fencing,
    /// A sibling mounts the volume.
    Reattaching,
    /// A mirror takes over.
    Promoting,
    /// The new holder makes sure of its first epoch's record.
    Settling,
    /// It cannot go on by itself; conditions say why.
    Blocked,
    /// It is not served, and nothing is under way.
    Down,
}

impl Phase {
    /// As it stands in the status.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Initialising => "Initialising",
            Self::Serving => "Serving",
            Self::Suspect => "Suspect",
            Self::Draining => "Draining",
            Self::Fencing => "Fencing",
            Self::Reattaching => "Reattaching",
            Self::Promoting => "Promoting",
            Self::Settling => "Settling",
            Self::Blocked => "Blocked",
            Self::Down => "Down",
        }
    }
}

/// What can be done when a store's node dies.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FailoverMode {
    /// Nothing: only one node reaches its disk.
    None,
    /// A sibling node mounts the same volume.
    Reattach,
    /// Another copy is promoted.
    Mirror,
}

/// The replica that is asked to take the store.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// Its id.
    pub replica: String,
    /// The resourceVersion of the Lease that it is to replace.
    pub lease_version: String,
    /// The epoch of that Lease.
    pub epoch: i64,
    /// Why.
    pub kind: TargetKind,
    /// After this the target is void.
    pub deadline: Time,
}

/// Why a replica is asked to take a store.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TargetKind {
    /// The store is new.
    Initial,
    /// The holder is lost.
    Auto,
    /// The holder hands it over.
    Planned,
    /// A person ordered it.
    Forced,
}

/// Something known against a holder.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    /// Of what kind.
    pub kind: EvidenceKind,
    /// The pod it speaks of.
    #[serde(rename = "podUID")]
    pub pod_uid: String,
    /// The node it ran on.
    pub node: String,
    /// That node's boot id while it ran; the evidence holds for this boot alone.
    #[serde(rename = "bootID")]
    pub boot_id: String,
    /// The holder's epoch.
    pub epoch: i64,
    /// When it was found.
    pub at: Time,
    /// In words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Kinds of evidence that a holder writes no more. Proofs first, then statements.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash, schemars::JsonSchema)]
pub enum EvidenceKind {
    /// Proof: the kubelet of a Ready node completed the pod's deletion.
    KubeletConfirmed,
    /// Proof: the node is back with another boot id.
    NewBoot,
    /// Proof: the fence Job read the node's power state as Off.
    FenceJob,
    /// Proof: a person confirmed it.
    HumanConfirmed,
    /// Statement: the Node object was deleted.
    NodeDeleted,
    /// Statement: the node carries the out-of-service taint.
    OutOfServiceTaint,
    /// Statement: the lease was not renewed for its length.
    LeaseExpired,
}

impl EvidenceKind {
    /// The highest `failover.fencing.minimum` that it satisfies.
    #[must_use]
    pub fn grade(self) -> crate::mailcluster::FencingMinimum {
        use crate::mailcluster::FencingMinimum as Minimum;
        match self {
            Self::KubeletConfirmed | Self::NewBoot | Self::FenceJob | Self::HumanConfirmed => Minimum::Proof,
            Self::NodeDeleted | Self::OutOfServiceTaint => Minimum::Statement,
            Self::LeaseExpired => Minimum::LeaseExpired,
        }
    }
}

/// A change of host.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastFailover {
    /// Why it happened.
    pub reason: String,
    /// The evidence that allowed it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<EvidenceKind>,
    /// The node it was served from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The node it is served from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The nodes that its pod could not be placed on meanwhile, in that order: it is not sent there again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tried: Vec<String>,
    /// When the loss was noticed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detected_at: Option<Time>,
    /// When the evidence sufficed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fenced_at: Option<Time>,
    /// When it was served again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serving_at: Option<Time>,
    /// A person had a copy take the store that lacked something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forced: Option<Forced>,
}

/// What was known when a person ordered a copy to take a store of which it need not have had everything.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Forced {
    /// The copy's id.
    pub copy: String,
    /// The epoch that it was to begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<i64>,
    /// Where its log ended: epoch/sequence.
    pub end: String,
    /// What was acknowledged at the last renewal of the lease: epoch/sequence.
    pub acknowledged: String,
    /// So many changes were acknowledged and are missing; those after the last renewal are not counted.
    pub missing_at_least: i64,
    /// It was ordered without proof that the old holder's process had ended, or of a copy that was not the best.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub loss_accepted: bool,
}

/// What `kubectl mailcluster store salvage` has brought, however often a file was sent.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Salvage {
    /// When the last one ended.
    pub at: Time,
    /// Messages that came.
    pub messages: i64,
    /// Messages that moved.
    pub moved: i64,
    /// Messages that got other flags.
    pub flags: i64,
    /// Messages that went.
    pub expunged: i64,
    /// Messages that the store had already, as they had come from elsewhere.
    pub already: i64,
    /// Mailboxes that were made, and names subscribed to.
    pub mailboxes: i64,
    /// Records of accounts, domains and aliases, scripts, lines of the audit log.
    pub records: i64,
    /// Queued recipients that were taken in or done with.
    pub queued: i64,
    /// Things that the last one did not take over; the command named them.
    pub not_taken_over: i64,
}

/// A copy, as it was found when none that has everything answered.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Survivor {
    /// Its id.
    pub id: String,
    /// The node that its pod is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// What its process says, in words.
    pub state: String,
    /// Where its log ends: epoch/sequence; none when it does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
    /// The latest time that a change in it carries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<Time>,
}

/// A crash of a store's process that it did not come back from by itself.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Crash {
    /// The epoch it served at: each is counted once.
    pub epoch: i64,
    /// When the operator began to act.
    pub at: Time,
    /// Did it move the store to another node?
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub moved: bool,
}

/// A machine, beyond its name.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeIdentity {
    /// The node's name.
    pub node: String,
    /// New at each boot.
    #[serde(rename = "bootID")]
    pub boot_id: String,
    /// The machine's own.
    #[serde(rename = "systemUUID")]
    pub system_uuid: String,
}
