//! A stand-in for the operator's failover loop: it observes and acts as `operator/src/failover` does, over the decisions of
//! `mailcluster_failover::next_step`.
//!
//! Simpler than the operator: its reads and writes of the API take no time; it asks processes in place of calling them;
//! frontends are two places from where a process is reached or not; pods are restarted in place and never deleted, so
//! nothing that deletes, pins or fences is carried out. What takes the place of another copy is there at once.

use mailcluster_arbiter::ReplicaState;
use mailcluster_failover::{
    Blocked, Cluster, FencingMinimum, Holder, LeaseRecord, LeaseView, LeaseWatch, NodeView, Observation,
    Placement, PodState, PodView, Policy, Position, Reach, ReplicaView, Request, Shown, Step, StoreView,
    Target, TargetKind, VolumeAccount, VolumeView, Witness, next_step,
};
use mailcluster_store::ReplicaDescription;

use crate::{
    LEASE_SECONDS,
    api::{Api, Objects},
    net::Place,
    node::{self, Node},
};

/// How often it looks.
pub const TICK: u64 = 500;
/// A mirror that was asked has so long to take the lease.
const PROMOTION: u64 = 10_000;
const LEASE_MS: u64 = LEASE_SECONDS as u64 * 1000;

/// The operator.
#[derive(Default)]
pub struct Operator {
    watch: LeaseWatch,
    /// A person wants the store served there.
    pub wanted: Option<Place>,
    /// A person wants another copy in the place of the one there.
    pub ordered: Option<Place>,
    /// A person says that the Lease is to be made of the copies that are here: what it waits for has lost its disk.
    restored: bool,
    /// The API, or its own process, is away from it.
    pub is_away: bool,
}

impl Operator {
    /// Looks, and does the next step. Answers where another copy is to have a place.
    pub fn tick(&mut self, now: u64, api: &Api, nodes: &[Node]) -> Option<Place> {
        if self.is_away || api.is_down() {
            self.watch.failed();
            return None;
        }
        for node in nodes {
            if description(node).is_some() {
                api.note_opened(node.id());
            }
        }
        let objects = api.objects();
        let o = self.observe(now, &objects, nodes);
        let version = objects.lease.as_ref().map(|(_, version)| *version);
        match next_step(&o).step {
            Step::Promote(replica, kind) => api.write_target(target(&o, replica, kind, now)),
            Step::ClearTarget => api.write_target(None),
            Step::Block(Blocked::CopiesMissed(_)) => self.restored = true,
            Step::RestoreLease => {
                self.restored = false;
                if let Some(record) = restored(&objects, nodes) {
                    api.restore_lease(record, version);
                }
            }
            Step::HandOver(replica) => {
                let holder = o.lease.as_ref().and_then(|lease| lease.record.replica.clone());
                let at = (0..nodes.len()).find(|place| Some(nodes[*place].id()) == holder);
                let holder = at.map(|place| &nodes[place]).filter(|node| node.answers());
                if let Some(process) = holder.and_then(|node| node.process.as_ref()) {
                    process.block_on(async { process.status.request_drain(Some(replica)) });
                }
            }
            Step::RefuseRequest(_) => self.wanted = None,
            Step::Replace(replica) => {
                self.ordered = None;
                return (0..nodes.len()).find(|place| nodes[*place].id() == replica);
            }
            Step::RefuseReplacement(_) => self.ordered = None,
            _ => {}
        }
        let served_at = objects.serving.map(|(.., place)| place);
        self.wanted = self.wanted.filter(|wanted| Some(*wanted) != served_at);
        None
    }

    fn lease(&mut self, now: u64, (record, version): &(LeaseRecord, u64)) -> LeaseView {
        let age = self.watch.observe(&version.to_string(), now, now);
        let knows = age >= LEASE_MS / 2 || self.watch.watched_for(now) >= LEASE_MS || self.watch.changed();
        LeaseView {
            record: record.clone(),
            resource_version: version.to_string(),
            unchanged_for: knows.then_some(age),
            terminating: false,
        }
    }

    fn observe(&mut self, now: u64, objects: &Objects, nodes: &[Node]) -> Observation {
        let lease = objects.lease.as_ref().map(|lease| self.lease(now, lease));
        let holder = lease.as_ref().and_then(|lease| lease.record.replica.clone());
        let at = (0..nodes.len()).find(|place| Some(nodes[*place].id()) == holder);
        let placement = at.map(|place| Placement {
            pod_uid: nodes[place].pod(),
            node: node::node_name(place),
            boot_id: nodes[place].boot_id(),
            system_uuid: format!("machine-{place}"),
        });
        Observation {
            store: store(objects.serving.is_some(), nodes[0].id()),
            lease,
            placement,
            nodes: (0..nodes.len()).map(|place| node_view(place, nodes)).collect(),
            pod: nodes.get(at.unwrap_or(0)).map(|node| pod_view(at.unwrap_or(0), node)),
            replicas: nodes
                .iter()
                .enumerate()
                .map(|(place, node)| replica_view(place, node, objects))
                .collect(),
            is_told: true,
            force: None,
            deleting: None,
            eviction: None,
            tried: Vec::new(),
            pin: None,
            template_pin: None,
            volume: VolumeView { bound: true, retain: true, nodes: Vec::new(), shared_block: false },
            reach: reach(objects, nodes),
            evidence: Vec::new(),
            fence_job: None,
            confirmed_boots: Vec::new(),
            confirmed_pods: Vec::new(),
            target: objects
                .target
                .as_ref()
                .map(|(target, until)| Target { overdue: now >= *until, ..target.clone() }),
            serving: objects.serving.as_ref().map(|(epoch, pod, _)| (*epoch, pod.clone())),
            request: self.wanted.map(|place| Request { to: Some(node::node_name(place)), drain: false }),
            adoption: None,
            replace: self.ordered.map(|place| nodes[place].id()),
            restore_asked: self.restored,
            left_out: Vec::new(),
            outdated: false,
            unauthorised: false,
            cluster: Cluster {
                nodes: nodes.len(),
                max_concurrent: 1,
                others_are_well: true,
                ..Cluster::default()
            },
        }
    }
}

fn target(o: &Observation, replica: String, kind: TargetKind, now: u64) -> Option<(Target, u64)> {
    let lease = o.lease.as_ref()?;
    let target = Target {
        replica,
        lease_version: lease.resource_version.clone(),
        epoch: lease.record.epoch,
        kind,
        overdue: false,
    };
    Some((target, now + PROMOTION))
}

fn store(known_before: bool, replica: String) -> StoreView {
    StoreView {
        directory: false,
        replica,
        turn: 0,
        policy: Policy::Automatic,
        paused: false,
        suspended: false,
        fencing_minimum: FencingMinimum::Proof,
        lease_ms: LEASE_MS,
        restart_grace_ms: 10_000,
        max_moves_per_hour: 0,
        moves_last_hour: 0,
        takeovers_last_quarter: 0,
        known_before,
        fence_configured: false,
        replace_after_ms: None,
    }
}

fn node_view(place: Place, nodes: &[Node]) -> NodeView {
    NodeView {
        name: node::node_name(place),
        uid: format!("uid-{place}"),
        ready: nodes[place].answers(),
        unready_ms: 0,
        unschedulable: false,
        out_of_service: false,
        boot_id: nodes[place].boot_id(),
        system_uuid: format!("machine-{place}"),
        admits: true,
        stores: 1,
    }
}

/// Does the operator hear its process?
fn is_heard(node: &Node) -> bool {
    node.answers() && !node.is_cut.load(std::sync::atomic::Ordering::Relaxed)
}

fn description(node: &Node) -> Option<ReplicaDescription> {
    node.process.as_ref().filter(|_| is_heard(node)).and_then(|process| process.status.get().description)
}

fn pod_view(place: Place, node: &Node) -> PodView {
    let description = description(node);
    let state = match node.process.as_ref().filter(|_| is_heard(node)).map(|p| p.status.get().state) {
        None => PodState::Silent,
        Some(ReplicaState::Starting | ReplicaState::Waiting(_)) => PodState::Waiting,
        Some(ReplicaState::Standby) => PodState::Standby,
        Some(ReplicaState::CrashLoop) => PodState::CrashLoop,
        Some(ReplicaState::Poisoned) => PodState::Poisoned,
        Some(ReplicaState::Refused(why)) => PodState::Refused(why),
        Some(_) => PodState::Active,
    };
    PodView {
        uid: node.pod(),
        node: Some(node::node_name(place)),
        terminating: false,
        pin: None,
        unplaced: None,
        backs_off: false,
        cannot_start: false,
        state,
        lock_held: description.is_some(),
        volume_epoch: description.map_or(0, |d| d.last_epoch),
    }
}

fn replica_view(place: Place, node: &Node, objects: &Objects) -> ReplicaView {
    let id = node.id();
    ReplicaView {
        pod: Some(pod_view(place, node)),
        volume: description(node).map(|d| VolumeAccount {
            end: Position { epoch: d.end.0, seq: d.end.1 },
            last_epoch: d.last_epoch,
            promise: d.promise,
            in_sync_version: d.in_sync_version,
            newest: d.newest,
        }),
        in_sync: description(node).map(|d| named(&d)).unwrap_or_default(),
        outdated: false,
        replaced: false,
        was_open: objects.opened.contains(&id),
        away_ms: 0,
        id,
    }
}

/// Who must have what is acknowledged, by its log.
fn named(said: &ReplicaDescription) -> Vec<String> {
    said.in_sync.iter().map(ToString::to_string).collect()
}

/// What two frontends say: they reach the place of the route, or do not.
fn reach(objects: &Objects, nodes: &[Node]) -> Reach {
    let at = objects.serving.as_ref().and_then(|(.., place)| nodes.get(*place));
    let serves = |node: &&Node| {
        is_heard(node) && node.process.as_ref().is_some_and(|p| p.status.get().state == ReplicaState::Primary)
    };
    let reach = if at.filter(serves).is_some() { 2 } else { 0 };
    Reach { frontends: 2, answered: 2, reach, pending: 0 }
}

/// From what all replicas say of their volumes; `None` while one says nothing.
fn restored(objects: &Objects, nodes: &[Node]) -> Option<LeaseRecord> {
    let witness = |node: &Node| {
        let (said, process) = (description(node)?, node.process.as_ref()?);
        Some(Witness {
            replica: node.id(),
            process: Holder { pod_uid: node.pod(), start_id: format!("s{}", process.number) },
            serves_at: process.status.get().store.map_or(0, |store| store.epoch()),
            last_epoch: said.last_epoch,
            last_forced: said.last_forced,
            promise: said.promise,
            end: Position { epoch: said.end.0, seq: said.end.1 },
            in_sync_version: said.in_sync_version,
            in_sync: named(&said),
        })
    };
    let copies: Option<Vec<Witness>> = nodes.iter().map(witness).collect();
    let epoch = objects.serving.as_ref().map_or(0, |(epoch, ..)| *epoch);
    let lease = objects.lease.as_ref().map(|(record, _)| record);
    mailcluster_failover::restored(&copies?, Shown { lease, epoch, ordered: None })
}
