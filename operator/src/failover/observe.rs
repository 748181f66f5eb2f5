//! From objects to an observation: pure.

mod around;
mod frontends;
mod nodes;
mod survey;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::{
    api::{
        apps::v1::StatefulSet,
        core::v1::{PersistentVolume, Pod},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::ResourceExt;
use mailcluster_api::{
    MailStore, labels,
    mailcluster::{FailoverPolicy, FencingMinimum as SpecMinimum},
    mailstore::{self, StoreKind},
    names::REPLICAS,
    restore,
};
use mailcluster_failover::{
    Adoption, AdoptionState, Cluster, Evidence, EvidenceKind, FencingMinimum, LeaseView, Millis, NodeView,
    Observation, Placement, PodState, PodView, Policy, Position, ReplicaView, Request, StoreView, Target,
    TargetKind, Unplaced, VolumeAccount, VolumeView,
};
use mailcluster_rpc::control::v1::{DescribeResponse, State, StoreReach};

use self::survey::Survey;
pub use self::{
    around::Others,
    frontends::{is_frontend, is_on, lost_nodes, may_answer},
    nodes::{node_view, seat_of},
};
use super::{adopt, annotations as keys, cache::World, crashes, evictable, fence, forced, lease, rebalance};
use crate::{
    build::{self, tokens},
    volumes,
};

/// What cannot be read from objects.
#[derive(Debug, Clone, Default)]
pub struct Heard {
    /// For how long each lease (namespace, name) has been seen unchanged; none: not watched long enough.
    pub unchanged: BTreeMap<(String, String), Millis>,
    /// What each pod (by UID) says of itself.
    pub described: BTreeMap<String, DescribeResponse>,
    /// Has a whole round of asking ended?
    pub is_told: bool,
    /// What frontends (by pod UID) say they reach, since something has been suspected.
    pub reports: BTreeMap<String, Vec<StoreReach>>,
    /// The frontends that were asked and are still waited for; none: nobody was asked since something has been suspected.
    pub awaited: Option<BTreeSet<String>>,
    /// Seconds since 1970.
    pub now: i64,
    /// May PersistentVolumes be made and deleted?
    pub may_adopt: bool,
}

/// One look at the world.
pub struct Sight<'a> {
    world: &'a World,
    heard: &'a Heard,
    survey: Survey,
}

impl<'a> Sight<'a> {
    /// With what is the same for all stores.
    #[must_use]
    pub fn new(world: &'a World, heard: &'a Heard) -> Self {
        Self { world, heard, survey: Survey::new(world, heard) }
    }

    /// What the next step of this store depends on, without what goes on in the cluster. `None` when its cluster is not
    /// there, or is being taken down.
    #[must_use]
    pub fn alone(&self, store: &MailStore) -> Option<Observation> {
        alone(self.world, self.heard, &self.survey, store)
    }

    /// A store by itself, with what goes on around it.
    #[must_use]
    pub fn amid(&self, store: &MailStore, alone: Observation, others: &Others) -> Observation {
        Observation { cluster: around::around(self.world, store, &alone, others), ..alone }
    }

    /// What the next step of this store depends on.
    #[must_use]
    pub fn observe(&self, store: &MailStore, others: &Others) -> Option<Observation> {
        Some(self.amid(store, self.alone(store)?, others))
    }

    /// All stores by themselves.
    #[must_use]
    pub fn all_alone(&self) -> Vec<(Arc<MailStore>, Option<Observation>)> {
        self.world.stores.iter().map(|store| (store.clone(), self.alone(store))).collect()
    }

    /// All stores, as they matter to each other.
    #[must_use]
    pub fn others(&self, alone: &[(Arc<MailStore>, Option<Observation>)]) -> Others {
        let seen =
            alone.iter().filter_map(|(store, o)| Some(around::other(store, o.as_ref()?, self.heard.now)));
        seen.collect::<Vec<_>>().into()
    }
}

fn alone(world: &World, heard: &Heard, survey: &Survey, store: &MailStore) -> Option<Observation> {
    let cluster = world.cluster(store)?;
    if cluster.metadata.deletion_timestamp.is_some() {
        // Taking it down deletes what a step would make anew.
        return None;
    }
    let status = store.status.clone().unwrap_or_default();
    let nodes = nodes::nodes(world, survey, store);
    let lease = world.lease(store).and_then(|l| lease_view(heard, store, l));
    let pod = world.pod(store);
    let placement = nodes::placement(store, &status, lease.as_ref(), pod.map(|p| &**p), &nodes);
    let annotation = |key: &str| store.annotations().get(key).cloned();
    let job = placement.as_ref().and_then(|p| {
        // Of the boot that runs now, where the holder's machine has booted since.
        let present = nodes.iter().find(|n| p.other_boot(n)).map_or(&p.boot_id, |n| &n.boot_id);
        let of_cluster = world.jobs.iter().filter(|j| j.metadata.namespace == store.metadata.namespace);
        of_cluster.filter_map(|j| fence::verdict(j, &p.node, present)).next()
    });
    let lease_ms = lease_ms(cluster, world.lease(store).map(|l| &**l));
    let epoch = lease.as_ref().map(|l| l.record.epoch);
    let reach =
        frontends::reach(&survey.frontends, store, lease_ms, placement.as_ref().map(|p| p.node.as_str()));
    let adoption = adopt::view(world, store, heard.may_adopt);
    let asked = annotation(keys::FAILOVER).filter(|_| !rebalance::is_void(store, cluster, heard.now));
    let last = status.last_failover.as_ref().filter(|l| l.serving_at.is_none());
    let restore = annotation(keys::RESTORE_LEASE).and_then(|text| restore::without(&text));
    Some(Observation {
        store: StoreView { lease_ms, ..store_view(store, cluster, &status, epoch, heard.now) },
        pod: pod.map(|p| pod_view(p, heard)),
        replicas: replicas(world, heard, store),
        is_told: heard.is_told,
        tried: last.map(|l| l.tried.clone()).unwrap_or_default(),
        deleting: annotation(keys::DELETING),
        eviction: evictable::view(store, heard.now),
        pin: store.spec.pinned_node.clone(),
        template_pin: world.set(store).and_then(|s| nodes::template_pin(s)),
        volume: if store.spec.is_mirrored() {
            no_volume_moves()
        } else {
            volume_to_be(world, store, adoption.as_ref())
        },
        reach,
        evidence: status.evidence.iter().map(evidence_of).collect(),
        fence_job: job,
        confirmed_boots: survey.confirmed_boots.clone(),
        confirmed_pods: annotation(keys::FENCE_CONFIRMED).into_iter().collect(),
        target: status.target.as_ref().map(|t| target_of(t, heard.now)),
        serving: status.serving.as_ref().map(|s| (u64::try_from(s.epoch).unwrap_or(0), s.pod_uid.clone())),
        request: wanted_there(adoption.as_ref())
            .or_else(|| request(asked, placement.as_ref(), &nodes, lease.as_ref())),
        force: forced::order(store),
        adoption,
        replace: annotation(keys::REPLACE),
        restore_asked: restore.is_some(),
        left_out: restore.unwrap_or_default(),
        outdated: world.set(store).zip(pod).is_some_and(|(set, pod)| outdated(set, pod)),
        unauthorised: world.set(store).zip(pod).is_some_and(|(set, pod)| tokens::refused(set, pod)),
        cluster: Cluster::default(),
        nodes,
        lease,
        placement,
    })
}

fn store_view(
    store: &MailStore,
    cluster: &mailcluster_api::MailCluster,
    status: &mailstore::MailStoreStatus,
    epoch: Option<u64>,
    now: i64,
) -> StoreView {
    let failover = &cluster.spec.failover;
    StoreView {
        directory: store.spec.kind == StoreKind::Directory,
        replica: store.spec.replicas.first().map(|r| r.id.clone()).unwrap_or_default(),
        // Stores are numbered, so one cluster's have different turns.
        turn: store.name_any().bytes().map(usize::from).sum(),
        policy: match failover.policy {
            FailoverPolicy::Automatic => Policy::Automatic,
            FailoverPolicy::Manual => Policy::Manual,
        },
        paused: cluster.spec.paused,
        suspended: failover.suspend_until.as_ref().is_some_and(|until| until.0.as_second() > now),
        fencing_minimum: minimum(failover.fencing.minimum),
        lease_ms: lease_ms(cluster, None),
        restart_grace_ms: u64::from(failover.restart_grace_seconds) * 1000,
        max_moves_per_hour: failover.max_moves_per_hour,
        moves_last_hour: crashes::moves(&status.crashes, epoch, now),
        takeovers_last_quarter: crashes::takeovers(&status.crashes, now),
        known_before: status.epoch.is_some() || status.serving.is_some(),
        fence_configured: failover.fencing.job.is_some(),
        replace_after_ms: cluster.spec.stores.replace_after_seconds.map(|seconds| u64::from(seconds) * 1000),
    }
}

/// The crate's word for the schema's.
#[must_use]
pub fn minimum(minimum: SpecMinimum) -> FencingMinimum {
    match minimum {
        SpecMinimum::Proof => FencingMinimum::Proof,
        SpecMinimum::Statement => FencingMinimum::Statement,
        SpecMinimum::LeaseExpired => FencingMinimum::LeaseExpired,
    }
}

/// D of a store: the spec's, or the longer one that its holder still counts by (it says so at each renewal, and stops
/// by itself after three quarters of that one).
#[must_use]
pub fn lease_ms(
    cluster: &mailcluster_api::MailCluster,
    lease: Option<&k8s_openapi::api::coordination::v1::Lease>,
) -> Millis {
    let spec = lease.and_then(|l| l.spec.as_ref());
    let held = spec.is_some_and(|s| s.holder_identity.as_ref().is_some_and(|h| !h.is_empty()));
    let written = spec.filter(|_| held).and_then(|s| u32::try_from(s.lease_duration_seconds?).ok());
    u64::from(cluster.spec.lease_seconds().max(written.unwrap_or(0))) * 1000
}

fn lease_view(
    heard: &Heard,
    store: &MailStore,
    lease: &k8s_openapi::api::coordination::v1::Lease,
) -> Option<LeaseView> {
    let record = lease::record(lease)
        .inspect_err(
            |error| tracing::error!(%error, store = store.name_any(), "nothing is decided for this store"),
        )
        .ok()?;
    let key = (store.namespace().unwrap_or_default(), store.name_any());
    Some(LeaseView {
        record,
        resource_version: lease.metadata.resource_version.clone().unwrap_or_default(),
        unchanged_for: heard.unchanged.get(&key).copied(),
        terminating: lease.metadata.deletion_timestamp.is_some(),
    })
}

fn pod_view(pod: &Pod, heard: &Heard) -> PodView {
    let described = heard.described.get(&pod.uid().unwrap_or_default());
    let status = pod.status.as_ref();
    let unplaced = status.and_then(|s| {
        s.conditions.iter().flatten().find(|c| {
            c.type_ == "PodScheduled" && c.status == "False" && c.reason.as_deref() == Some("Unschedulable")
        })
    });
    let containers = status.and_then(|s| s.container_statuses.as_ref());
    let waiting: Vec<(String, i32)> = containers
        .into_iter()
        .flatten()
        .filter_map(|c| Some((c.state.as_ref()?.waiting.as_ref()?.reason.clone()?, c.restart_count)))
        .collect();
    PodView {
        uid: pod.uid().unwrap_or_default(),
        node: pod.spec.as_ref().and_then(|s| s.node_name.clone()),
        terminating: pod.metadata.deletion_timestamp.is_some(),
        pin: pod.spec.as_ref().and_then(nodes::pin_of),
        unplaced: unplaced.map(|c| Unplaced {
            for_ms: nodes::since(c.last_transition_time.as_ref(), heard.now),
            why: c.message.clone().unwrap_or_default(),
        }),
        backs_off: containers.into_iter().flatten().any(|c| {
            let waiting = c.state.as_ref().and_then(|state| state.waiting.as_ref());
            c.name == build::pod::CONTAINER
                && waiting.and_then(|w| w.reason.as_deref()) == Some("CrashLoopBackOff")
        }),
        cannot_start: waiting.iter().any(|(reason, restarts)| match reason.as_str() {
            "ImagePullBackOff"
            | "ErrImageNeverPull"
            | "InvalidImageName"
            | "CreateContainerConfigError"
            | "CreateContainerError" => true,
            "CrashLoopBackOff" => *restarts >= 3,
            _ => false,
        }),
        state: described.map_or(PodState::Silent, pod_state),
        lock_held: described.is_some_and(|d| d.open),
        volume_epoch: described.filter(|d| d.open).map_or(0, |d| d.last_epoch),
    }
}

/// The copies of a mirrored store; none of a single one.
fn replicas(world: &World, heard: &Heard, store: &MailStore) -> Vec<ReplicaView> {
    if !store.spec.is_mirrored() {
        return Vec::new();
    }
    let view = |(replica, letter): (&mailstore::Replica, char)| {
        let pod = world.pod_of(store, letter);
        let described = pod.and_then(|pod| heard.described.get(&pod.uid()?));
        ReplicaView {
            id: replica.id.clone(),
            pod: pod.map(|pod| pod_view(pod, heard)),
            volume: described.filter(|d| d.open && d.replica == replica.id).map(|d| VolumeAccount {
                end: Position { epoch: d.end_epoch, seq: d.end_seq },
                last_epoch: d.last_epoch,
                promise: d.promise,
                in_sync_version: d.in_sync_version,
                newest: d.newest,
            }),
            in_sync: described.map(|d| d.in_sync.clone()).unwrap_or_default(),
            outdated: world.set_of(store, letter).zip(pod).is_some_and(|(set, pod)| outdated(set, pod)),
            replaced: world.set_of(store, letter).zip(pod).is_some_and(|(set, pod)| {
                !is_of(Some(&pod.metadata), &replica.id) && is_of(template_meta(set), &replica.id)
            }),
            was_open: store.status.as_ref().is_some_and(|s| s.was_opened(&replica.id)),
            away_ms: pod
                .filter(|pod| is_of(Some(&pod.metadata), &replica.id))
                .map_or(0, |pod| away_ms(pod, heard.now)),
        }
    };
    store.spec.replicas.iter().zip(REPLICAS).map(view).collect()
}

/// Are these the metadata of a pod of this copy?
fn is_of(metadata: Option<&ObjectMeta>, id: &str) -> bool {
    metadata.and_then(|m| m.labels.as_ref()?.get(labels::REPLICA)).is_some_and(|of| of == id)
}

fn template_meta(set: &StatefulSet) -> Option<&ObjectMeta> {
    set.spec.as_ref()?.template.metadata.as_ref()
}

/// For how long a pod has not been Ready.
fn away_ms(pod: &Pod, now: i64) -> Millis {
    let conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let since = |kind: &str| {
        let not = conditions.clone().find(|c| c.type_ == kind && c.status != "True");
        not.and_then(|c| c.last_transition_time.clone())
    };
    nodes::since(since("Ready").or_else(|| since("PodScheduled")).as_ref(), now)
}

/// A mirrored store leaves its volumes where they are.
fn no_volume_moves() -> VolumeView {
    VolumeView { bound: true, retain: true, nodes: Vec::new(), shared_block: false }
}

fn pod_state(described: &DescribeResponse) -> PodState {
    match described.state() {
        State::Waiting => PodState::Waiting,
        State::Standby => PodState::Standby,
        State::Forked => PodState::Forked(described.reason.clone()),
        State::CrashLoop => PodState::CrashLoop,
        State::Candidate | State::Settling | State::Primary | State::Draining => PodState::Active,
        State::Poisoned => PodState::Poisoned,
        State::Refused => PodState::Refused(described.reason.clone()),
        State::Unspecified => PodState::Silent,
    }
}

/// Was this pod made from another template than its StatefulSet has now? The node it is pinned to does not count.
#[must_use]
pub fn outdated(set: &StatefulSet, pod: &Pod) -> bool {
    use mailcluster_api::labels::TEMPLATE_HASH;
    let wanted = template_meta(set).and_then(|m| m.annotations.as_ref()?.get(TEMPLATE_HASH));
    wanted.is_some() && pod.annotations().get(TEMPLATE_HASH) != wanted
}

fn volume_view(world: &World, store: &MailStore) -> VolumeView {
    let claim = world.claim(store);
    // A claim that is being deleted goes with its pod: the pod is not touched.
    let bound = claim.is_some_and(|c| {
        c.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound")
            && c.metadata.deletion_timestamp.is_none()
    });
    let name = claim.and_then(|c| c.spec.as_ref()?.volume_name.clone());
    let volume = name.and_then(|name| world.volumes.get(None, &name));
    let reached = volume.and_then(|v| volumes::reached_from(v, world.nodes.iter().map(|n| &**n)));
    VolumeView {
        bound: bound && volume.is_some(),
        retain: volume.is_some_and(|v| {
            v.spec.as_ref().and_then(|s| s.persistent_volume_reclaim_policy.as_deref()) == Some("Retain")
        }),
        // An affinity that no present node meets is not the same as none.
        nodes: reached
            .map(|list| if list.is_empty() { vec![String::new()] } else { list })
            .unwrap_or_default(),
        shared_block: volume.is_some_and(|v| shared_block(v)),
    }
}

/// An adoption goes the way of a failover to the node that has the disk: the volume counts as it will be, and is made so
/// before a pod needs it.
fn volume_to_be(world: &World, store: &MailStore, adoption: Option<&Adoption>) -> VolumeView {
    let now = volume_view(world, store);
    match adoption {
        Some(Adoption { to, state: AdoptionState::Due(_) | AdoptionState::Await(_) }) => {
            VolumeView { bound: true, retain: true, nodes: vec![to.clone()], ..now }
        }
        _ => now,
    }
}

/// Who asks to adopt a disk asks to move the store to it.
fn wanted_there(adoption: Option<&Adoption>) -> Option<Request> {
    let adoption = adoption.filter(|a| !matches!(a.state, AdoptionState::Refused(_)))?;
    Some(Request { to: Some(adoption.to.clone()), drain: false })
}

/// A local volume with a file system type is a block device that the kubelet formats and mounts; when several nodes
/// reach it, its end on one says nothing of the mount (E4). Drivers with an attach step see to that themselves.
fn shared_block(volume: &PersistentVolume) -> bool {
    let Some(spec) = &volume.spec else { return false };
    spec.local.as_ref().is_some_and(|local| local.fs_type.is_some() || local.path.starts_with("/dev/"))
}

fn evidence_of(e: &mailstore::Evidence) -> Evidence {
    Evidence {
        kind: kind_of(e.kind),
        pod_uid: e.pod_uid.clone(),
        boot_id: e.boot_id.clone(),
        epoch: u64::try_from(e.epoch).unwrap_or(0),
        at: e.at.0.to_string(),
    }
}

fn kind_of(kind: mailstore::EvidenceKind) -> EvidenceKind {
    use mailstore::EvidenceKind as Api;
    match kind {
        Api::KubeletConfirmed => EvidenceKind::KubeletConfirmed,
        Api::NewBoot => EvidenceKind::NewBoot,
        Api::FenceJob => EvidenceKind::FenceJob,
        Api::HumanConfirmed => EvidenceKind::HumanConfirmed,
        Api::NodeDeleted => EvidenceKind::NodeDeleted,
        Api::OutOfServiceTaint => EvidenceKind::OutOfServiceTaint,
        Api::LeaseExpired => EvidenceKind::LeaseExpired,
    }
}

/// The schema's word for the crate's.
#[must_use]
pub fn kind_to(kind: EvidenceKind) -> mailstore::EvidenceKind {
    use mailstore::EvidenceKind as Api;
    match kind {
        EvidenceKind::KubeletConfirmed => Api::KubeletConfirmed,
        EvidenceKind::NewBoot => Api::NewBoot,
        EvidenceKind::FenceJob => Api::FenceJob,
        EvidenceKind::HumanConfirmed => Api::HumanConfirmed,
        EvidenceKind::NodeDeleted => Api::NodeDeleted,
        EvidenceKind::OutOfServiceTaint => Api::OutOfServiceTaint,
        EvidenceKind::LeaseExpired => Api::LeaseExpired,
    }
}

fn target_of(target: &mailstore::Target, now: i64) -> Target {
    Target {
        replica: target.replica.clone(),
        lease_version: target.lease_version.clone(),
        epoch: u64::try_from(target.epoch).unwrap_or(0),
        kind: match target.kind {
            mailstore::TargetKind::Initial => TargetKind::Initial,
            mailstore::TargetKind::Auto => TargetKind::Auto,
            mailstore::TargetKind::Planned => TargetKind::Planned,
            mailstore::TargetKind::Forced => TargetKind::Forced,
        },
        overdue: target.deadline.0.as_second() < now,
    }
}

/// What a person asks for; else, a holder on a cordoned node is to go elsewhere.
fn request(
    asked: Option<String>,
    placement: Option<&Placement>,
    nodes: &[NodeView],
    lease: Option<&LeaseView>,
) -> Option<Request> {
    if let Some(to) = asked {
        return Some(Request { to: Some(to).filter(|to| to != keys::ANY && !to.is_empty()), drain: false });
    }
    let held = lease.is_some_and(|l| l.record.holder.is_some());
    let node = placement.and_then(|p| nodes.iter().find(|n| n.name == p.node));
    (held && node.is_some_and(|n| n.unschedulable && n.ready)).then_some(Request { to: None, drain: true })
}

#[cfg(test)]
pub(crate) mod tests;
