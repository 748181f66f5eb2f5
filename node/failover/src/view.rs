//! What the operator sees of one store, as plain values.

use crate::{Evidence, FencingMinimum, LeaseRecord, Millis, Position, Reach};

/// Does the operator move stores by itself?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Yes.
    Automatic,
    /// It says what it would do, and waits for a person.
    Manual,
}

/// The spec's part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreView {
    /// The directory goes first and is not counted by `maxConcurrent`.
    pub directory: bool,
    /// The replica's id (of the first replica; a single copy has no other).
    pub replica: String,
    /// Whose turn it is among copies that could all do: another number for each store.
    pub turn: usize,
    /// Automatic or manual.
    pub policy: Policy,
    /// Is the cluster's reconciliation paused?
    pub paused: bool,
    /// Is `failover.suspendUntil` in the future?
    pub suspended: bool,
    /// The spec's `fencing.minimum`.
    pub fencing_minimum: FencingMinimum,
    /// D.
    pub lease_ms: Millis,
    /// What a lost store's pod gets to come back by itself.
    pub restart_grace_ms: Millis,
    /// Own crashes that may move the store in an hour; 0: no limit.
    pub max_moves_per_hour: u32,
    /// How often its own crash has moved it in the last hour.
    pub moves_last_hour: u32,
    /// Takeovers in the last 15 minutes that its own crash caused.
    pub takeovers_last_quarter: u32,
    /// Has this store ever had a lease, a claim or a route? Then a missing lease is never made at epoch 0.
    pub known_before: bool,
    /// Is a fence Job configured?
    pub fence_configured: bool,
    /// After this a copy that is away is replaced; `None`: only when a person asks.
    pub replace_after_ms: Option<Millis>,
}

/// The Lease as the operator read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseView {
    /// What it says.
    pub record: LeaseRecord,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
    /// For how long the operator's own clock saw this very version, by quorum reads only; `None`: it has not watched
    /// long enough to say.
    pub unchanged_for: Option<Millis>,
    /// Somebody deleted it; our finalizer keeps it.
    pub terminating: bool,
}

impl LeaseView {
    /// Was it written within `lease_ms`, as far as this observer knows? What it has not watched counts as fresh.
    #[must_use]
    pub fn fresh(&self, lease_ms: Millis) -> bool {
        self.unchanged_for.is_none_or(|age| age < lease_ms)
    }
}

/// Where the lease's holder runs, as recorded while it renewed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The holder's pod.
    pub pod_uid: String,
    /// Its node.
    pub node: String,
    /// The node's boot id then.
    pub boot_id: String,
    /// The machine's id then; empty when it was not recorded.
    pub system_uuid: String,
}

impl Placement {
    /// Is this node the machine that the holder ran on? A name can be given to another machine.
    #[must_use]
    pub fn is(&self, node: &NodeView) -> bool {
        let known = !self.system_uuid.is_empty() && !node.system_uuid.is_empty();
        node.name == self.node
            && if known { node.system_uuid == self.system_uuid } else { self.same_boot(node) }
    }

    /// Is this node under the boot that the holder ran on? An id that was not seen is no boot's.
    #[must_use]
    pub fn same_boot(&self, node: &NodeView) -> bool {
        !self.boot_id.is_empty() && node.boot_id == self.boot_id
    }

    /// Is this machine under another boot by now?
    #[must_use]
    pub fn other_boot(&self, node: &NodeView) -> bool {
        !self.boot_id.is_empty() && !node.boot_id.is_empty() && node.boot_id != self.boot_id && self.is(node)
    }
}

/// A node, read live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeView {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// Condition Ready is True.
    pub ready: bool,
    /// For how long it has not been Ready, by the API server's clock; 0 when it is, or when that is not known.
    pub unready_ms: Millis,
    /// Cordoned.
    pub unschedulable: bool,
    /// Tainted `node.kubernetes.io/out-of-service`.
    pub out_of_service: bool,
    /// `status.nodeInfo.bootID`.
    pub boot_id: String,
    /// `status.nodeInfo.systemUUID`.
    pub system_uuid: String,
    /// Its labels and taints let the store's pod onto it.
    pub admits: bool,
    /// Stores that are served from it.
    pub stores: usize,
}

/// What the replica's process says of itself, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PodState {
    /// It does not answer.
    Silent,
    /// It waits to be allowed to open the volume.
    Waiting,
    /// Open, not serving.
    Standby,
    /// Three starts in two minutes: it stays a standby until it is asked.
    CrashLoop,
    /// Settling, serving or draining.
    Active,
    /// It keeps what a forced failover left behind, and follows nobody; the last record of both lines, in words.
    Forked(String),
    /// It refuses its volume or its lease; the reason in words.
    Refused(String),
    /// Its sync failed.
    Poisoned,
}

/// A pod that the scheduler has not placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unplaced {
    /// For how long.
    pub for_ms: Millis,
    /// What the scheduler says.
    pub why: String,
}

/// The replica's pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodView {
    /// `metadata.uid`.
    pub uid: String,
    /// `spec.nodeName`.
    pub node: Option<String>,
    /// It has a deletionTimestamp.
    pub terminating: bool,
    /// The node that its own affinity names.
    pub pin: Option<String>,
    /// The scheduler said that it fits nowhere.
    pub unplaced: Option<Unplaced>,
    /// Its process has ended, and its kubelet waits before it starts it again.
    pub backs_off: bool,
    /// The kubelet cannot start it (image, mount, crash loop back-off).
    pub cannot_start: bool,
    /// What its process says.
    pub state: PodState,
    /// Its process holds the volume's lock, so it has read the volume.
    pub lock_held: bool,
    /// The highest epoch that its volume has seen, when it holds the lock; 0 on a new one.
    pub volume_epoch: u64,
}

/// A copy of a mirrored store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaView {
    /// Its id.
    pub id: String,
    /// Its pod.
    pub pod: Option<PodView>,
    /// Its own account of its volume, while its process has that open.
    pub volume: Option<VolumeAccount>,
    /// The copies that must have what is acknowledged, by the last record of its log that names them; none before the first
    /// epoch, and where it does not say.
    pub in_sync: Vec<String>,
    /// Its pod was made from an older template than its StatefulSet's.
    pub outdated: bool,
    /// Its pod is that of the copy whose place this one has taken, and its StatefulSet makes no such pod any more.
    pub replaced: bool,
    /// Has a process ever opened its volume? One that has not may be waiting for a place.
    pub was_open: bool,
    /// For how long its pod has not been Ready, by the API server's clock; 0 when it is, or when that is not known.
    pub away_ms: Millis,
}

impl ReplicaView {
    /// Does it say nothing of its volume because no process has ever opened that? With no Lease to go by, a copy opens what has
    /// a store on it, and waits with what is empty.
    #[must_use]
    pub fn is_unopened(&self) -> bool {
        let waits = self.pod.as_ref().is_some_and(|pod| pod.state == PodState::Waiting);
        !self.was_open && self.volume.is_none() && waits
    }

    /// Does it keep what a forced failover left behind?
    #[must_use]
    pub fn is_forked(&self) -> bool {
        self.pod.as_ref().is_some_and(|pod| matches!(pod.state, PodState::Forked(_)))
    }
}

/// What a replica says of its volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VolumeAccount {
    /// Where its log ends.
    pub end: Position,
    /// The last epoch that begins in its log.
    pub last_epoch: u64,
    /// The highest epoch that it has promised.
    pub promise: u64,
    /// The version of the last in-sync set in its log.
    pub in_sync_version: u64,
    /// The latest time that a record in its index carries, in seconds since 1970; 0 when there is none.
    pub newest: i64,
}

impl VolumeAccount {
    /// What it has seen of its store.
    pub(crate) fn history(&self) -> crate::VolumeHistory {
        let Self { last_epoch, promise, in_sync_version, .. } = *self;
        crate::VolumeHistory { last_epoch, promise, in_sync_version }
    }
}

/// The replica's volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeView {
    /// The claim is bound.
    pub bound: bool,
    /// The PersistentVolume's reclaim policy is Retain.
    pub retain: bool,
    /// The nodes that reach it; empty: every node.
    pub nodes: Vec<String>,
    /// A block device that the kubelet mounts and that several nodes reach (E4).
    pub shared_block: bool,
}

impl VolumeView {
    /// Can this node reach it?
    #[must_use]
    pub fn reachable_from(&self, node: &str) -> bool {
        self.nodes.is_empty() || self.nodes.iter().any(|n| n == node)
    }

    /// Does one node alone reach it?
    #[must_use]
    pub fn single_node(&self) -> bool {
        self.nodes.len() == 1
    }
}

/// Why a replica is asked to take the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetKind {
    /// The store is new.
    Initial,
    /// The holder is lost.
    Auto,
    /// The holder released it.
    Planned,
    /// A person ordered it.
    Forced,
}

/// `MailStore.status.target`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The replica that is asked.
    pub replica: String,
    /// The very version of the Lease that it is to replace (A2).
    pub lease_version: String,
    /// The epoch of that Lease.
    pub epoch: u64,
    /// Why.
    pub kind: TargetKind,
    /// Its deadline has passed (A4).
    pub overdue: bool,
}

/// The fence Job of the holder's node and boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FenceJob {
    /// It runs, or is being tried again.
    Running,
    /// It read back Off.
    Off {
        /// The node that it switched off.
        node: String,
        /// The boot that it was asked to end.
        boot_id: String,
    },
    /// It failed for good.
    Failed(String),
}

/// A person's or a drain's wish to move a store that serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The node asked for; `None`: any other.
    pub to: Option<String>,
    /// From a cordoned node: it is passed over when the store cannot move.
    pub drain: bool,
}

/// Everything that the next step depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// The spec's part.
    pub store: StoreView,
    /// The Lease.
    pub lease: Option<LeaseView>,
    /// Where its holder runs.
    pub placement: Option<Placement>,
    /// All nodes, live.
    pub nodes: Vec<NodeView>,
    /// The replica's pod; of a mirrored store, the holder's, or the first copy's.
    pub pod: Option<PodView>,
    /// All copies of a mirrored store; none for a single copy.
    pub replicas: Vec<ReplicaView>,
    /// Has every pod been asked at least once, and been waited for? Before that, no answer says nothing.
    pub is_told: bool,
    /// The pod whose graceful deletion we asked for.
    pub deleting: Option<String>,
    /// Whether the pod's budget lets an eviction through.
    pub eviction: Option<crate::Eviction>,
    /// The nodes that the pod could not be placed on in the failover that is under way.
    pub tried: Vec<String>,
    /// `MailStore.spec.pinnedNode`.
    pub pin: Option<String>,
    /// The node that the StatefulSet's template names.
    pub template_pin: Option<String>,
    /// The replica's volume.
    pub volume: VolumeView,
    /// What the frontends on Ready nodes say.
    pub reach: Reach,
    /// Recorded evidence.
    pub evidence: Vec<Evidence>,
    /// The fence Job of the holder's node and boot, if there is one.
    pub fence_job: Option<FenceJob>,
    /// (node, boot id) that a person has confirmed dead.
    pub confirmed_boots: Vec<(String, String)>,
    /// Pods that a person has confirmed dead.
    pub confirmed_pods: Vec<String>,
    /// `status.target`.
    pub target: Option<Target>,
    /// The epoch of `status.serving`, and its pod.
    pub serving: Option<(u64, String)>,
    /// What a person, or a cordon, asks for.
    pub request: Option<Request>,
    /// A person orders a copy that lacks something to take the store (`failover --force`); or why that cannot be read.
    pub force: Option<Result<crate::ForceRequest, String>>,
    /// A person asks to adopt the store's disk on another node (`store adopt`).
    pub adoption: Option<crate::Adoption>,
    /// The copy (its id, name or node) that a person asks to replace (`store replace-replica`).
    pub replace: Option<String>,
    /// A person asked to make the lease anew from the volume (`store restore-lease`).
    pub restore_asked: bool,
    /// The copies that this is not to wait for (`--without`).
    pub left_out: Vec<String>,
    /// The pod was made from an older template than its StatefulSet's.
    pub outdated: bool,
    /// The API server refuses the pod's tokens: its ServiceAccount was deleted and made anew. It can renew nothing, ever.
    pub unauthorised: bool,
    /// What goes on in the cluster.
    pub cluster: crate::Cluster,
}

impl Observation {
    /// The node of that name.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&NodeView> {
        self.nodes.iter().find(|n| n.name == name)
    }

    /// Has a person confirmed that this boot of the node has ended?
    #[must_use]
    pub fn confirmed(&self, node: &str, boot_id: &str) -> bool {
        !boot_id.is_empty() && self.confirmed_boots.iter().any(|(n, boot)| n == node && boot == boot_id)
    }
}
