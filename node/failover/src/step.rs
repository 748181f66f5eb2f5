//! The failover of a single copy: from what is seen now to what is done next. There is no memory but the objects
//! themselves, so an operator that is killed at any point, or replaced, goes on from where they stand (F24).

use crate::{
    Detection, EvidenceKind, FenceJob, Gate, LeaseView, NodeView, Observation, PodState, PodView, TargetKind,
    Undetected, detect, gate, live_evidence, outdated, suffices,
};

/// Where a store stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
    /// A pod mounts the volume.
    Reattaching,
    /// The new holder makes sure of its epoch's record.
    Settling,
    /// It cannot go on by itself.
    Blocked,
    /// It is not served, and nothing is under way.
    Down,
}

/// Why nothing is done.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Blocked {
    /// A gate is shut.
    Gate(Gate),
    /// Evidence is missing and nothing can bring it but what the message names.
    NoEvidence,
    /// The fence Job failed for good; its message.
    FenceFailed(String),
    /// Another store on the node renews its lease, so the node is not switched off.
    NodeStillServes,
    /// No other node can take the volume.
    NoCandidate,
    /// One node alone reaches the volume.
    OneNodeVolume,
    /// It has crashed by itself too often: it stays where it is (F3).
    Flapping,
    /// The process refuses its volume or lease.
    Refused(String),
    /// A sync failed on this disk.
    Poisoned,
    /// The lease is missing and no replica answers for it (A5).
    LeaseMissing,
    /// A shared block device is not moved without a fence, not even as planned (E4).
    SharedBlockDevice,
}

impl Blocked {
    /// A reason in CamelCase for conditions, events and metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Gate(gate) => gate.reason(),
            Self::NoEvidence => "AwaitingEvidence",
            Self::FenceFailed(_) => "FenceFailed",
            Self::NodeStillServes => "NodeStillServes",
            Self::NoCandidate => "NoCandidateNode",
            Self::OneNodeVolume => "OneNodeVolume",
            Self::Flapping => "Flapping",
            Self::Refused(_) => "VolumeRefused",
            Self::Poisoned => "Poisoned",
            Self::LeaseMissing => "LeaseMissing",
            Self::SharedBlockDevice => "SharedBlockDevice",
        }
    }
}

/// What is done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing: all is as it should be.
    Idle,
    /// Make the Lease: epoch 0, no holder.
    CreateLease,
    /// Make the Lease anew from what the replica's process says of its volume.
    RestoreLease,
    /// Let a Lease go that somebody deleted, to make it anew.
    ReleaseLease,
    /// Write `status.target` for the replica, this version and epoch of the lease.
    SetTarget(TargetKind),
    /// Remove `status.target`.
    ClearTarget,
    /// Write down what was found against the holder.
    RecordEvidence(EvidenceKind),
    /// Make the fence Job of this node and boot.
    CreateFenceJob {
        /// The node's name.
        node: String,
        /// The boot it may end.
        boot_id: String,
    },
    /// Write `spec.pinnedNode`, and apply the StatefulSet with it.
    Pin(String),
    /// Delete this very pod gracefully; its node is Ready.
    DeleteGracefully(String),
    /// Delete this very pod with grace 0; its holder is proven dead.
    DeleteForced(String),
    /// Wait for the named thing.
    Await(&'static str),
    /// Wait for a person, or for the gate to open.
    Block(Blocked),
}

/// A step and the phase it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// For `status.phase`.
    pub phase: Phase,
    /// What to do.
    pub step: Step,
}

impl Decision {
    fn new(phase: Phase, step: Step) -> Self {
        Self { phase, step }
    }

    fn blocked(why: Blocked) -> Self {
        Self::new(Phase::Blocked, Step::Block(why))
    }
}

/// What the operator does next about this store.
#[must_use]
pub fn next_step(o: &Observation) -> Decision {
    let Some(lease) = &o.lease else { return without_lease(o) };
    // A Lease that somebody deletes stays until its finalizer goes, and can be renewed meanwhile: only a replica that
    // answers for its volume is a reason to let it go; otherwise it is judged like any other.
    if lease.terminating && o.pod.as_ref().is_some_and(|p| p.lock_held) {
        let held = lease.record.holder.is_some() && lease_is_fresh(o, lease);
        let phase = match (held, lease.record.epoch) {
            (true, _) => Phase::Serving,
            (false, 0) => Phase::Initialising,
            (false, _) => Phase::Down,
        };
        return Decision::new(phase, Step::ReleaseLease);
    }
    match &lease.record.holder {
        None => unheld(o, lease),
        Some(holder) if lease_is_fresh(o, lease) => alive(o, lease, &holder.pod_uid),
        Some(holder) => silent(o, lease, &holder.pod_uid),
    }
}

fn lease_is_fresh(o: &Observation, lease: &LeaseView) -> bool {
    lease.fresh(o.store.lease_ms)
}

/// A5: epoch 0 only for a store that was never known; else only from a replica that has its volume open.
fn without_lease(o: &Observation) -> Decision {
    if !o.store.known_before {
        return Decision::new(Phase::Initialising, Step::CreateLease);
    }
    match &o.pod {
        Some(pod) if pod.lock_held => Decision::new(Phase::Down, Step::RestoreLease),
        _ => Decision::blocked(Blocked::LeaseMissing),
    }
}

/// Nobody holds the lease: a new store, or one whose holder released it after it had stopped.
fn unheld(o: &Observation, lease: &LeaseView) -> Decision {
    let (phase, kind) = if lease.record.epoch == 0 {
        (Phase::Initialising, TargetKind::Initial)
    } else {
        (Phase::Reattaching, TargetKind::Planned)
    };
    if o.target.is_some() && !target_stands(o, lease) {
        return Decision::new(phase, Step::ClearTarget);
    }
    if restorable(o, lease) {
        return Decision::new(Phase::Down, Step::RestoreLease);
    }
    // The volume goes where it is wanted first; the pod that is not there yet is in nobody's way.
    if let Some(decision) = lease_free_move(o) {
        return decision;
    }
    let Some(pod) = &o.pod else { return Decision::new(phase, Step::Await("the StatefulSet's pod")) };
    match &pod.state {
        PodState::Refused(why) => Decision::blocked(Blocked::Refused(why.clone())),
        PodState::Poisoned => Decision::blocked(Blocked::Poisoned),
        PodState::Standby | PodState::CrashLoop if !pod.terminating => {
            if o.target.is_some() {
                Decision::new(Phase::Settling, Step::Await("the replica to take the lease"))
            } else {
                Decision::new(phase, Step::SetTarget(kind))
            }
        }
        PodState::Silent if pod.unschedulable && o.volume.single_node() => {
            Decision::blocked(Blocked::OneNodeVolume)
        }
        _ => Decision::new(phase, Step::Await("the replica to open its volume")),
    }
}

/// A5: the lease is at epoch 0 over a volume with a history, or older than it and a person asked; the only replica of
/// the store has been asked, as it holds the volume.
fn restorable(o: &Observation, lease: &LeaseView) -> bool {
    let newer = o.pod.as_ref().is_some_and(|p| p.lock_held && p.volume_epoch > lease.record.epoch);
    newer && (lease.record.epoch == 0 || o.restore_asked)
}

/// Nobody holds the lease and the pod is not where it should be: on a node that is lost, cordoned, or not pinned.
fn lease_free_move(o: &Observation) -> Option<Decision> {
    if lease_epoch(o) == 0 {
        return None;
    }
    let at = o.pin.clone().or_else(|| o.pod.as_ref().and_then(|p| p.node.clone()));
    let requested = o.request.as_ref().and_then(|r| r.to.clone());
    let usable = |name: &String| o.node(name).is_some_and(|n| n.ready && !n.unschedulable);
    let stays = match (&at, &requested) {
        (Some(at), Some(to)) => at == to,
        (Some(at), None) => usable(at) || candidate(o, Some(at)).is_none(),
        (None, _) => true,
    };
    if stays {
        return settle_pin(o, o.pin.as_deref()?, Phase::Reattaching, None);
    }
    let to = requested.or_else(|| candidate(o, at.as_deref()))?;
    match gate(o, true) {
        Some(gate) => Some(Decision::blocked(Blocked::Gate(gate))),
        None => settle_pin(o, &to, Phase::Reattaching, None),
    }
}

fn lease_epoch(o: &Observation) -> u64 {
    o.lease.as_ref().map_or(0, |l| l.record.epoch)
}

/// The target names the lease as it is, and its deadline has not passed (A2, A4).
fn target_stands(o: &Observation, lease: &LeaseView) -> bool {
    o.target.as_ref().is_some_and(|t| {
        !t.overdue
            && t.replica == o.store.replica
            && t.lease_version == lease.resource_version
            && t.epoch == lease.record.epoch
    })
}

/// The lease is being renewed, or this observer has not watched long enough to say.
fn alive(o: &Observation, lease: &LeaseView, holder_pod: &str) -> Decision {
    if o.target.is_some() && !target_stands(o, lease) {
        return Decision::new(Phase::Serving, Step::ClearTarget);
    }
    let published = o.serving.as_ref().is_some_and(|(epoch, _)| *epoch == lease.record.epoch);
    if o.request.is_some() && published {
        return planned(o, holder_pod);
    }
    if o.deleting.as_deref() == Some(holder_pod) && o.pod.as_ref().is_some_and(|p| p.terminating) {
        return Decision::new(Phase::Draining, Step::Await("the holder to stop"));
    }
    if published {
        outdated::restart(o, holder_pod).unwrap_or(Decision::new(Phase::Serving, Step::Idle))
    } else {
        Decision::new(Phase::Settling, Step::Await("the holder to publish its route"))
    }
}

/// A person or a drain wants a serving store elsewhere: pin, then delete gracefully; the holder drains and releases.
fn planned(o: &Observation, holder_pod: &str) -> Decision {
    let at = o.placement.as_ref().map(|p| p.node.as_str());
    let wanted = o.request.as_ref().and_then(|r| r.to.as_deref());
    if wanted.is_some() && wanted == at && o.pin.as_deref() == at {
        return Decision::new(Phase::Serving, Step::Idle);
    }
    let to = match wanted {
        Some(to) => o.node(to).filter(|n| fits(o, n)).map(|n| n.name.clone()),
        None => candidate(o, at),
    };
    let Some(to) = to else {
        let why = if o.volume.single_node() { Blocked::OneNodeVolume } else { Blocked::NoCandidate };
        return Decision::new(Phase::Serving, Step::Block(why));
    };
    if o.volume.shared_block {
        return Decision::new(Phase::Serving, Step::Block(Blocked::SharedBlockDevice));
    }
    if let Some(gate) = gate(o, true) {
        return Decision::new(Phase::Serving, Step::Block(Blocked::Gate(gate)));
    }
    settle_pin(o, &to, Phase::Draining, Some(holder_pod)).unwrap_or(Decision::new(Phase::Serving, Step::Idle))
}

/// The lease was not renewed for D.
fn silent(o: &Observation, lease: &LeaseView, holder_pod: &str) -> Decision {
    if let Detection::Not(why) = detect(o) {
        let what = match why {
            Undetected::LeaseFresh => "the lease to be renewed",
            Undetected::FrontendReachesIt => "the lease to be renewed: frontends reach the store",
            Undetected::TooFewReports => "frontends to say whether they reach the store",
            Undetected::NodeDisagrees => "the node's condition: there is no frontend to ask",
        };
        return Decision::new(Phase::Suspect, Step::Await(what));
    }
    if o.target.is_some() && !target_stands(o, lease) {
        return Decision::new(Phase::Suspect, Step::ClearTarget);
    }
    let node_up = holder_node(o).is_some_and(|n| n.ready);
    let pod_stands = o.pod.as_ref().is_some_and(|p| p.uid == holder_pod);
    // Restart in place beats moving: a process that the kubelet can start again takes its own lease back.
    if node_up && pod_stands && o.deleting.is_none() && !given_up(o) && grace_left(o, lease) {
        return Decision::new(Phase::Suspect, Step::Await("the pod to come back by itself"));
    }
    let to = match destination(o, node_up) {
        Ok(to) => to,
        // Nothing is proven, and no machine switched off, for a store that has nowhere to go.
        Err(why) => return Decision::blocked(why),
    };
    let elsewhere = o.placement.as_ref().is_none_or(|p| p.node != to);
    let asked = o.request.as_ref().is_some_and(|r| !r.drain);
    match gate(o, asked) {
        // Starting anew on the same node is not a move: only a paused cluster stays away from it.
        Some(gate) if elsewhere || gate == Gate::Paused => return Decision::blocked(Blocked::Gate(gate)),
        _ => {}
    }
    if o.target.is_none() {
        return Decision::new(Phase::Fencing, Step::SetTarget(TargetKind::Auto));
    }
    if !suffices(o, elsewhere) {
        return prove(o, holder_pod, node_up).unwrap_or(Decision::blocked(Blocked::NoEvidence));
    }
    reattach(o, &to)
}

fn holder_node(o: &Observation) -> Option<&NodeView> {
    o.placement.as_ref().and_then(|p| o.node(&p.node))
}

/// The pod says itself that it will not come back, or the kubelet cannot start it.
fn given_up(o: &Observation) -> bool {
    o.pod.as_ref().is_some_and(|p| {
        p.cannot_start || matches!(p.state, PodState::CrashLoop | PodState::Refused(_) | PodState::Poisoned)
    })
}

fn grace_left(o: &Observation, lease: &LeaseView) -> bool {
    lease.unchanged_for.is_some_and(|age| age < o.store.lease_ms + o.store.restart_grace_ms)
}

/// A single copy moves only when its node is not Ready or proven off, or its pod cannot start there; by its own crash
/// at most so many times an hour. Else it starts anew where it was.
fn destination(o: &Observation, node_up: bool) -> Result<String, Blocked> {
    let at = o.placement.as_ref().map(|p| p.node.clone());
    if let Some(to) = o.request.as_ref().and_then(|r| r.to.as_deref()) {
        return o.node(to).filter(|n| fits(o, n)).map(|n| n.name.clone()).ok_or(Blocked::NoCandidate);
    }
    let back = holder_node(o).filter(|n| n.ready && !n.unschedulable);
    if node_up && let Some(node) = back {
        let touring =
            o.store.max_moves_per_hour != 0 && o.store.moves_last_hour >= o.store.max_moves_per_hour;
        if o.store.takeovers_last_quarter > 3 {
            return Err(Blocked::Flapping);
        }
        return match candidate(o, at.as_deref()) {
            Some(other) if given_up(o) && !touring => Ok(other),
            _ => Ok(node.name.clone()),
        };
    }
    // What was begun is finished: a pin that was set for this failover stands while its node can take the store.
    let pinned = o.pin.as_deref().filter(|pin| Some(*pin) != at.as_deref());
    if let Some(node) = pinned.and_then(|pin| o.node(pin)).filter(|n| fits(o, n)) {
        return Ok(node.name.clone());
    }
    candidate(o, at.as_deref()).or_else(|| back.map(|n| n.name.clone())).ok_or(if o.volume.single_node() {
        Blocked::OneNodeVolume
    } else {
        Blocked::NoCandidate
    })
}

fn fits(o: &Observation, node: &NodeView) -> bool {
    node.ready && !node.unschedulable && !node.out_of_service && o.volume.reachable_from(&node.name)
}

/// The first node by name, other than `not`, that can take the volume.
fn candidate(o: &Observation, not: Option<&str>) -> Option<String> {
    let mut names: Vec<&str> = o
        .nodes
        .iter()
        .filter(|n| fits(o, n) && Some(n.name.as_str()) != not)
        .map(|n| n.name.as_str())
        .collect();
    names.sort_unstable();
    names.first().map(|name| (*name).to_owned())
}

/// What brings the missing evidence; `None` when nothing can.
fn prove(o: &Observation, holder_pod: &str, node_up: bool) -> Option<Decision> {
    if let Some(found) = live_evidence(o) {
        return Some(Decision::new(Phase::Fencing, Step::RecordEvidence(found.kind)));
    }
    let fencing = |step| Some(Decision::new(Phase::Fencing, step));
    let deleted = o.deleting.as_deref() == Some(holder_pod);
    let pod = o.pod.as_ref().filter(|p| p.uid == holder_pod);
    if node_up && let Some(pod) = pod {
        return fencing(if deleted || pod.terminating {
            Step::Await("the kubelet to end the pod")
        } else {
            Step::DeleteGracefully(pod.uid.clone())
        });
    }
    let placement = o.placement.as_ref().filter(|_| o.store.fence_configured && !node_up)?;
    match &o.fence_job {
        Some(FenceJob::Failed(why)) => Some(Decision::blocked(Blocked::FenceFailed(why.clone()))),
        Some(FenceJob::Running | FenceJob::Off { .. }) => fencing(Step::Await("the fence Job's verdict")),
        None if o.cluster.node_has_renewing_store => Some(Decision::blocked(Blocked::NodeStillServes)),
        None => {
            fencing(Step::CreateFenceJob { node: placement.node.clone(), boot_id: placement.boot_id.clone() })
        }
    }
}

/// The holder is proven dead: pin, delete by UID, wait.
fn reattach(o: &Observation, to: &str) -> Decision {
    let holder = o.lease.as_ref().and_then(|l| l.record.holder.as_ref()).map(|h| h.pod_uid.as_str());
    if let Some(decision) = settle_pin(o, to, Phase::Reattaching, holder) {
        return decision;
    }
    let Some(pod) = &o.pod else {
        return Decision::new(Phase::Reattaching, Step::Await("the StatefulSet's pod"));
    };
    match &pod.state {
        PodState::Refused(why) => Decision::blocked(Blocked::Refused(why.clone())),
        PodState::Poisoned => Decision::blocked(Blocked::Poisoned),
        _ => Decision::new(Phase::Reattaching, Step::Await("the replica to take the lease")),
    }
}

/// Pins the store to `to`, then removes the pod that is in the way: the holder's own, or one on another node (K16: pin
/// first, or the pod comes back where it was). `None` when pin and pod are as they should be.
fn settle_pin(o: &Observation, to: &str, phase: Phase, holder: Option<&str>) -> Option<Decision> {
    if o.pin.as_deref() != Some(to) || o.template_pin.as_deref() != Some(to) {
        return Some(Decision::new(phase, Step::Pin(to.to_owned())));
    }
    let pod = o.pod.as_ref()?;
    let in_the_way = holder == Some(pod.uid.as_str()) || misplaced(pod, to);
    if !in_the_way {
        return None;
    }
    let node = pod.node.as_deref().and_then(|name| o.node(name));
    let deleted = o.deleting.as_deref() == Some(pod.uid.as_str()) || pod.terminating;
    // E3: a Ready node's kubelet ends the pod; grace 0 is for what is proven dead.
    let step = match node {
        _ if pod.node.is_none() => Step::DeleteGracefully(pod.uid.clone()),
        Some(node) if node.ready && deleted => Step::Await("the kubelet to end the pod"),
        Some(node) if node.ready => Step::DeleteGracefully(pod.uid.clone()),
        _ if phase == Phase::Reattaching && dead_with_holder(o, pod, holder) => {
            Step::DeleteForced(pod.uid.clone())
        }
        _ => Step::Await("the node of the pod that is in the way"),
    };
    Some(Decision::new(phase, step))
}

/// Is this pod proven dead by what proves the holder dead: it is the holder's, or it is on the machine whose boot has
/// ended? (The caller has seen that the evidence suffices.)
fn dead_with_holder(o: &Observation, pod: &PodView, holder: Option<&str>) -> bool {
    let Some(holder) = holder else { return false };
    let machine_ended = o
        .evidence
        .iter()
        .any(|e| e.pod_uid == holder && matches!(e.kind, EvidenceKind::FenceJob | EvidenceKind::NewBoot));
    pod.uid == holder || (machine_ended && o.placement.as_ref().map(|p| &p.node) == pod.node.as_ref())
}

fn misplaced(pod: &PodView, to: &str) -> bool {
    match &pod.node {
        Some(node) => node != to,
        // It was made from a template that named another node.
        None => pod.unschedulable,
    }
}
