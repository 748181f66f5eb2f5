//! From objects to an observation: pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Node, PersistentVolume, Pod};
use kube::ResourceExt;
use mailcluster_api::{
    MailStore,
    mailcluster::{FailoverPolicy, FencingMinimum as SpecMinimum},
    mailstore::{self, StoreKind},
};
use mailcluster_failover::{
    Cluster, Detection, Evidence, EvidenceKind, FencingMinimum, LeaseView, Millis, NodeView, Observation,
    Placement, PodState, PodView, Policy, Reach, Request, StoreView, Target, TargetKind, VolumeView, detect,
};
use mailcluster_rpc::control::v1::{DescribeResponse, State};

use super::{annotations as keys, cache::World, fence, lease, peers::Report};
use crate::volumes;

/// What cannot be read from objects.
#[derive(Debug, Clone, Default)]
pub struct Heard {
    /// For how long each lease (namespace, name) has been seen unchanged; none: not watched long enough.
    pub unchanged: BTreeMap<(String, String), Millis>,
    /// What each pod (by UID) says of itself.
    pub described: BTreeMap<String, DescribeResponse>,
    /// What frontends (by pod UID) say they reach.
    pub reports: Vec<Report>,
    /// Seconds since 1970.
    pub now: i64,
}

/// What the next step of this store depends on. `None` when its cluster is not there.
#[must_use]
pub fn observe(world: &World, heard: &Heard, store: &MailStore, others: &[Other]) -> Option<Observation> {
    let mut o = alone(world, heard, store)?;
    o.cluster = around(world, store, &o, others);
    Some(o)
}

/// As much of a store as matters to the others.
#[derive(Debug, Clone)]
pub struct Other {
    namespace: Option<String>,
    cluster: String,
    name: String,
    node: Option<String>,
    directory: bool,
    blocked: bool,
    moving: bool,
    lost: bool,
    renewing: bool,
    outdated: bool,
}

impl Other {
    /// It does not serve where it is, or will not for long.
    fn away(&self) -> bool {
        !self.renewing || self.moving || self.blocked
    }

    /// This store moves now: what is decided for the next one counts it.
    pub fn began_to_move(&mut self, store: &MailStore) {
        self.moving |= self.name == store.name_any() && self.namespace == store.namespace();
    }
}

/// All stores, as they matter to each other.
#[must_use]
pub fn others(world: &World, heard: &Heard) -> Vec<Other> {
    world.stores.iter().filter_map(|store| other(world, heard, store)).collect()
}

fn other(world: &World, heard: &Heard, store: &MailStore) -> Option<Other> {
    use mailstore::Phase;
    let o = alone(world, heard, store)?;
    let status = store.status.as_ref();
    let phase = status.and_then(|s| s.phase);
    let targeted = status.is_some_and(|s| s.target.is_some());
    let held = o.lease.as_ref().is_some_and(|l| l.record.holder.is_some());
    Some(Other {
        namespace: store.namespace(),
        cluster: store.spec.cluster.clone(),
        name: store.name_any(),
        directory: o.store.directory,
        blocked: phase == Some(Phase::Blocked),
        moving: phase == Some(Phase::Draining)
            || targeted && matches!(phase, Some(Phase::Fencing | Phase::Reattaching)),
        lost: held && detect(&o) == Detection::Lost,
        renewing: held && o.lease.as_ref().is_some_and(|l| l.fresh(o.store.lease_ms)),
        outdated: o.outdated,
        node: o.placement.map(|p| p.node),
    })
}

/// The same without what goes on in the cluster.
fn alone(world: &World, heard: &Heard, store: &MailStore) -> Option<Observation> {
    let cluster = world.cluster(store)?;
    let status = store.status.clone().unwrap_or_default();
    let nodes: Vec<NodeView> = world.nodes.iter().map(|n| node_view(n)).collect();
    let lease = world.lease(store).and_then(|l| lease_view(heard, store, l));
    let pod = world.pod(store);
    let placement = placement(store, &status, lease.as_ref(), pod.map(|p| &**p), &nodes);
    let annotation = |key: &str| store.annotations().get(key).cloned();
    let job = placement.as_ref().and_then(|p| {
        let of_cluster = world.jobs.iter().filter(|j| j.namespace() == store.namespace());
        of_cluster.filter_map(|j| fence::verdict(j, &p.node, &p.boot_id)).next()
    });
    let lease_ms = u64::from(cluster.spec.lease_seconds()) * 1000;
    Some(Observation {
        store: store_view(store, cluster, &status, heard.now),
        nodes: nodes.clone(),
        pod: pod.map(|p| pod_view(p, heard.described.get(&p.uid().unwrap_or_default()))),
        deleting: annotation(keys::DELETING),
        pin: store.spec.pinned_node.clone(),
        template_pin: world.set(store).and_then(|s| template_pin(s)),
        volume: volume_view(world, store),
        reach: reach(world, heard, store, lease_ms),
        evidence: status.evidence.iter().map(evidence_of).collect(),
        fence_job: job,
        confirmed_boots: world
            .nodes
            .iter()
            .filter_map(|n| Some((n.name_any(), n.annotations().get(keys::FENCE_CONFIRMED)?.clone())))
            .collect(),
        confirmed_pods: annotation(keys::FENCE_CONFIRMED).into_iter().collect(),
        target: status.target.as_ref().map(|t| target_of(t, heard.now)),
        serving: status.serving.as_ref().map(|s| (u64::try_from(s.epoch).unwrap_or(0), s.pod_uid.clone())),
        request: request(annotation(keys::FAILOVER), placement.as_ref(), &nodes, lease.as_ref()),
        restore_asked: annotation(keys::RESTORE_LEASE).is_some_and(|v| v == "true"),
        outdated: world.set(store).zip(pod).is_some_and(|(set, pod)| outdated(set, pod)),
        cluster: Cluster::default(),
        lease,
        placement,
    })
}

fn store_view(
    store: &MailStore,
    cluster: &mailcluster_api::MailCluster,
    status: &mailstore::MailStoreStatus,
    now: i64,
) -> StoreView {
    let failover = &cluster.spec.failover;
    let count = |key: &str, window| {
        let times = keys::recent(store.annotations().get(key), now, window);
        u32::try_from(times.len()).unwrap_or(u32::MAX)
    };
    StoreView {
        directory: store.spec.kind == StoreKind::Directory,
        replica: store.spec.replicas.first().map(|r| r.id.clone()).unwrap_or_default(),
        policy: match failover.policy {
            FailoverPolicy::Automatic => Policy::Automatic,
            FailoverPolicy::Manual => Policy::Manual,
        },
        paused: cluster.spec.paused,
        suspended: failover.suspend_until.as_ref().is_some_and(|until| until.0.as_second() > now),
        fencing_minimum: minimum(failover.fencing.minimum),
        lease_ms: u64::from(cluster.spec.lease_seconds()) * 1000,
        restart_grace_ms: u64::from(failover.restart_grace_seconds) * 1000,
        max_moves_per_hour: failover.max_moves_per_hour,
        moves_last_hour: count(keys::CRASH_MOVES, 3600),
        takeovers_last_quarter: count(keys::CRASH_TAKEOVERS, 900),
        known_before: status.epoch.is_some() || status.serving.is_some(),
        fence_configured: failover.fencing.job.is_some(),
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

/// A node as failover sees it.
#[must_use]
pub fn node_view(node: &Node) -> NodeView {
    let spec = node.spec.as_ref();
    let status = node.status.as_ref();
    let info = status.and_then(|s| s.node_info.as_ref());
    let conditions = status.and_then(|s| s.conditions.as_ref());
    let taints = spec.and_then(|s| s.taints.as_ref());
    NodeView {
        name: node.name_any(),
        uid: node.uid().unwrap_or_default(),
        ready: conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True")),
        unschedulable: spec.and_then(|s| s.unschedulable).unwrap_or(false),
        out_of_service: taints
            .is_some_and(|all| all.iter().any(|t| t.key == "node.kubernetes.io/out-of-service")),
        boot_id: info.map(|i| i.boot_id.clone()).unwrap_or_default(),
        system_uuid: info.map(|i| i.system_uuid.clone()).unwrap_or_default(),
    }
}

/// Where the lease's holder runs: as recorded while it renewed; for a holder that was never recorded, where its pod is.
fn placement(
    store: &MailStore,
    status: &mailstore::MailStoreStatus,
    lease: Option<&LeaseView>,
    pod: Option<&Pod>,
    nodes: &[NodeView],
) -> Option<Placement> {
    let holder = lease.and_then(|l| l.record.holder.as_ref()).map(|h| h.pod_uid.clone());
    let recorded =
        store.annotations().get(keys::HELD_BY).zip(status.node_identity.as_ref()).map(|(uid, n)| Placement {
            pod_uid: uid.clone(),
            node: n.node.clone(),
            boot_id: n.boot_id.clone(),
            system_uuid: n.system_uuid.clone(),
        });
    let Some(holder) = holder else { return recorded };
    recorded.filter(|p| p.pod_uid == holder).or_else(|| seat(pod?, nodes).filter(|p| p.pod_uid == holder))
}

/// Where a pod runs now.
#[must_use]
pub fn seat(pod: &Pod, nodes: &[NodeView]) -> Option<Placement> {
    let node = pod.spec.as_ref()?.node_name.as_deref()?;
    let node = nodes.iter().find(|n| n.name == node)?;
    Some(Placement {
        pod_uid: pod.uid()?,
        node: node.name.clone(),
        boot_id: node.boot_id.clone(),
        system_uuid: node.system_uuid.clone(),
    })
}

fn pod_view(pod: &Pod, described: Option<&DescribeResponse>) -> PodView {
    let status = pod.status.as_ref();
    let conditions = status.and_then(|s| s.conditions.as_ref());
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
        unschedulable: conditions.is_some_and(|all| {
            all.iter().any(|c| {
                c.type_ == "PodScheduled"
                    && c.status == "False"
                    && c.reason.as_deref() == Some("Unschedulable")
            })
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

fn pod_state(described: &DescribeResponse) -> PodState {
    match described.state() {
        State::Waiting => PodState::Waiting,
        State::Standby => PodState::Standby,
        State::CrashLoop => PodState::CrashLoop,
        State::Candidate | State::Settling | State::Primary | State::Draining => PodState::Active,
        State::Poisoned => PodState::Poisoned,
        State::Refused => PodState::Refused(described.reason.clone()),
        State::Unspecified => PodState::Silent,
    }
}

/// The node that a StatefulSet's template names.
#[must_use]
pub fn template_pin(set: &k8s_openapi::api::apps::v1::StatefulSet) -> Option<String> {
    let affinity = set.spec.as_ref()?.template.spec.as_ref()?.affinity.as_ref()?;
    let required =
        affinity.node_affinity.as_ref()?.required_during_scheduling_ignored_during_execution.as_ref()?;
    let fields = required.node_selector_terms.iter().flat_map(|t| t.match_fields.iter().flatten());
    fields.filter(|f| f.key == "metadata.name").find_map(|f| f.values.as_ref()?.first().cloned())
}

/// Was this pod made from another template than its StatefulSet has now? The node it is pinned to does not count.
#[must_use]
pub fn outdated(set: &k8s_openapi::api::apps::v1::StatefulSet, pod: &Pod) -> bool {
    use mailcluster_api::labels::TEMPLATE_HASH;
    let template = set.spec.as_ref().and_then(|s| s.template.metadata.as_ref());
    let wanted = template.and_then(|m| m.annotations.as_ref()?.get(TEMPLATE_HASH));
    wanted.is_some() && pod.annotations().get(TEMPLATE_HASH) != wanted
}

fn volume_view(world: &World, store: &MailStore) -> VolumeView {
    let claim = store.spec.replicas.first().and_then(|r| {
        world.claims.iter().find(|c| c.name_any() == r.pvc && c.namespace() == store.namespace())
    });
    // A claim that is being deleted goes with its pod: the pod is not touched.
    let bound = claim.is_some_and(|c| {
        c.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound")
            && c.metadata.deletion_timestamp.is_none()
    });
    let name = claim.and_then(|c| c.spec.as_ref()?.volume_name.clone());
    let volume = name.and_then(|name| world.volumes.iter().find(|v| v.name_any() == name));
    let nodes: Vec<Node> = world.nodes.iter().map(|n| (**n).clone()).collect();
    let reached = volume.and_then(|v| volumes::reached_from(v, &nodes));
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

/// A local volume with a file system type is a block device that the kubelet formats and mounts; when several nodes
/// reach it, its end on one says nothing of the mount (E4). Drivers with an attach step see to that themselves.
fn shared_block(volume: &PersistentVolume) -> bool {
    let Some(spec) = &volume.spec else { return false };
    spec.local.as_ref().is_some_and(|local| local.fs_type.is_some() || local.path.starts_with("/dev/"))
}

fn reach(world: &World, heard: &Heard, store: &MailStore, lease_ms: Millis) -> Reach {
    let ready: BTreeSet<String> =
        world.nodes.iter().map(|n| node_view(n)).filter(|n| n.ready).map(|n| n.name).collect();
    let frontends: BTreeSet<String> = world
        .pods
        .iter()
        .filter(|p| is_frontend_of(p, store) && p.metadata.deletion_timestamp.is_none())
        .filter(|p| p.spec.as_ref().and_then(|s| s.node_name.as_ref()).is_some_and(|n| ready.contains(n)))
        .filter_map(|p| p.uid())
        .collect();
    let name = store.name_any();
    let answers: Vec<&Report> = heard.reports.iter().filter(|r| frontends.contains(&r.pod)).collect();
    let reaches = |report: &&&Report| {
        report.stores.iter().any(|s| s.store == name && s.reachable && s.age_ms < lease_ms)
    };
    Reach {
        frontends: frontends.len(),
        answered: answers.len(),
        reach: answers.iter().filter(reaches).count(),
    }
}

/// The nodes that are not Ready.
#[must_use]
pub fn lost_nodes(world: &World) -> BTreeSet<String> {
    world.nodes.iter().map(|n| node_view(n)).filter(|n| !n.ready).map(|n| n.name).collect()
}

/// Is this pod on one of these nodes?
#[must_use]
pub fn is_on(pod: &Pod, nodes: &BTreeSet<String>) -> bool {
    pod.spec.as_ref().and_then(|s| s.node_name.as_ref()).is_some_and(|node| nodes.contains(node))
}

/// Is this pod a frontend of the store's cluster?
#[must_use]
pub fn is_frontend_of(pod: &Pod, store: &MailStore) -> bool {
    use mailcluster_api::labels;
    pod.namespace() == store.namespace()
        && pod.labels().get(labels::CLUSTER) == Some(&store.spec.cluster)
        && pod.labels().get(labels::COMPONENT).is_some_and(|c| c == "frontend")
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

/// What goes on around this store.
fn around(world: &World, store: &MailStore, own: &Observation, others: &[Other]) -> Cluster {
    let max_concurrent = world.cluster(store).map_or(1, |c| c.spec.failover.max_concurrent);
    let node = own.placement.as_ref().map(|p| p.node.as_str());
    let namespace = store.namespace();
    let of_cluster = || others.iter().filter(|x| x.namespace == namespace && x.cluster == store.spec.cluster);
    let rest = || of_cluster().filter(|x| x.name != store.name_any());
    let lost: BTreeSet<&str> = of_cluster().filter(|x| x.lost).filter_map(|x| x.node.as_deref()).collect();
    Cluster {
        nodes: world.nodes.len(),
        lost_nodes: lost.len(),
        moving: rest().filter(|x| x.moving && !x.directory).count(),
        max_concurrent: usize::try_from(max_concurrent).unwrap_or(1),
        directory_first: rest().any(|x| x.directory && (x.lost || x.moving) && !x.blocked),
        // Of any cluster: a machine is switched off for nobody whose neighbour lives.
        node_has_renewing_store: node.is_some()
            && others.iter().any(|x| x.renewing && x.node.as_deref() == node),
        others_are_well: !rest().any(|x| x.away() || (own.store.directory && x.outdated)),
    }
}

#[cfg(test)]
mod tests;
