//! The failover of a single copy: from what is seen now to what is done next. There is no memory but the objects
//! themselves, so an operator that is killed at any point, or replaced, goes on from where they stand (F24).

use crate::{
    AdoptionStep, Detection, EvidenceKind, FenceJob, Gate, LeaseView, Millis, Observation, PodState,
    TargetKind, Undetected, adopt, detect, eviction, forced, gate, gate_before_proof, live_evidence,
    mirrored, outdated,
    place::{
        IN_THE_WAY, asked, being_deleted, bring_home, called_off, destination, given_up, grace_left,
        holder_node, is_pinned, lease_free_move, nowhere, planned, refuses_its_age, refuses_its_data,
        settle_pin,
    },
    suffices,
};

/// What cannot be told for this long is told to people.
const UNDETECTED: Millis = 30_000;
/// A node that has booted anew gets this long to become Ready before it is switched off.
const COMING_UP: Millis = 60_000;

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
    /// A mirror takes over.
    Promoting,
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
    /// No other node can take the volume: each that reaches it, and why not.
    NoCandidate(Vec<(String, &'static str)>),
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
    /// The scheduler places the pod nowhere; what it says.
    Unschedulable(String),
    /// The node that a person named cannot take the store: its name, and why.
    UnfitNode(String, &'static str),
    /// The lease stands still, and it cannot be told whether the holder is lost.
    Undetected(Undetected),
    /// No copy that has everything answers: each copy, and why not.
    NoCopy(Vec<(String, &'static str)>),
    /// The Lease is to be made anew, and these copies do not say what they have.
    CopiesSilent(Vec<String>),
    /// The Lease is to be made anew, and these copies, which are not here, may have more than those that are; empty: no copy
    /// that is here tells who has everything.
    CopiesMissed(Vec<String>),
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
            Self::NoCandidate(_) => "NoCandidateNode",
            Self::OneNodeVolume => "OneNodeVolume",
            Self::Flapping => "Flapping",
            Self::Refused(_) => "VolumeRefused",
            Self::Poisoned => "Poisoned",
            Self::LeaseMissing => "LeaseMissing",
            Self::SharedBlockDevice => "SharedBlockDevice",
            Self::Unschedulable(_) => "PodUnschedulable",
            Self::UnfitNode(..) => "NodeCannotTakeIt",
            Self::NoCopy(_) => "NoInSyncCopy",
            Self::CopiesSilent(_) => "CopiesSilent",
            Self::CopiesMissed(_) => "CopiesMissed",
            Self::Undetected(Undetected::TooFewReports) => "TooFewReports",
            Self::Undetected(Undetected::NodeDisagrees) => "NodeDisagrees",
            Self::Undetected(_) => "HolderReached",
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
    /// The same for this mirror.
    Promote(String, TargetKind),
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
    /// Ask the holder to hand its store over to this mirror.
    HandOver(String),
    /// Write `spec.pinnedNode`, and apply the StatefulSet with it.
    Pin(String),
    /// Let an eviction of this very pod through: its sibling is pinned.
    AllowEviction(String),
    /// Let none through any more.
    EndEviction,
    /// Delete this very pod gracefully; its node is Ready.
    DeleteGracefully(String),
    /// Delete this very pod with grace 0; its holder is proven dead.
    DeleteForced(String),
    /// Give this copy's place to a new one, on a volume of its own.
    Replace(String),
    /// Remove a person's request to replace a copy, and say why.
    RefuseReplacement(String),
    /// Write the node's name into a person's request for any other one.
    NameRequest(String),
    /// Remove a person's request, and say why.
    RefuseRequest(Blocked),
    /// Remove a person's order that a copy take the store that lacks something, and say why.
    RefuseForce(String),
    /// Do this about the PersistentVolume of a disk that was moved.
    Adopt(AdoptionStep),
    /// Remove a person's request to adopt a disk, and say why.
    RefuseAdoption(String),
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
    pub(crate) fn new(phase: Phase, step: Step) -> Self {
        Self { phase, step }
    }

    pub(crate) fn blocked(why: Blocked) -> Self {
        Self::new(Phase::Blocked, Step::Block(why))
    }
}

/// What the operator does next about this store.
#[must_use]
pub fn next_step(o: &Observation) -> Decision {
    if !o.replicas.is_empty() {
        return mirrored::decide(o);
    }
    let why = "it has a single copy: nothing else could serve it";
    forced::impossible(o, why, eviction::shut(o, adopt::first(o, || decide(o))))
}

fn decide(o: &Observation) -> Decision {
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
        Some(_) if restorable(o, lease) => Decision::new(Phase::Down, Step::RestoreLease),
        Some(holder) => silent(o, lease, &holder.pod_uid),
    }
}

pub(crate) fn lease_is_fresh(o: &Observation, lease: &LeaseView) -> bool {
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
    if let Some(decision) = adopt::replace(o) {
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
        PodState::Silent if pod.unplaced.is_some() && o.volume.single_node() => {
            Decision::blocked(Blocked::OneNodeVolume)
        }
        PodState::Silent if pod.unplaced.is_some() && !matches!(nowhere(o), Blocked::NoCandidate(_)) => {
            Decision::blocked(nowhere(o))
        }
        _ => Decision::new(phase, Step::Await("the replica to open its volume")),
    }
}

/// A5: the lease is at epoch 0 over a volume with a history; or volume and lease disagree (either came from a backup) and a
/// person asked. The only replica of the store has been asked, as it holds the volume.
fn restorable(o: &Observation, lease: &LeaseView) -> bool {
    let Some(pod) = o.pod.as_ref().filter(|pod| pod.lock_held) else { return false };
    let newer = pod.volume_epoch > lease.record.epoch;
    newer && lease.record.epoch == 0 || (newer || refuses_its_age(o)) && o.restore_asked
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
    let refused = o.pod.as_ref().filter(|p| p.uid == holder_pod).and_then(|p| match &p.state {
        PodState::Refused(why) => Some(why.clone()),
        _ => None,
    });
    if published {
        called_off(o, lease, holder_pod)
            .or_else(|| outdated::restart(o, holder_pod))
            .unwrap_or(Decision::new(Phase::Serving, Step::Idle))
    } else if let Some(why) = refused {
        Decision::new(Phase::Settling, Step::Block(Blocked::Refused(why)))
    } else {
        Decision::new(Phase::Settling, Step::Await("the holder to publish its route"))
    }
}

/// The lease was not renewed for D.
fn silent(o: &Observation, lease: &LeaseView, holder_pod: &str) -> Decision {
    if let Detection::Not(why) = detect(o) {
        return outdated::reauthorise(o, holder_pod).unwrap_or_else(|| undetected(o, lease, why));
    }
    if o.target.is_some() && !target_stands(o, lease) {
        return Decision::new(Phase::Suspect, Step::ClearTarget);
    }
    // The place that a disk was taken from shows no data, or another's.
    if let Some(why) = refuses_its_data(o).filter(|_| adopt::pending(o).is_none()) {
        return Decision::blocked(Blocked::Refused(why.to_owned()));
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
    // Starting anew on the same node is not a move: only a paused cluster stays away from it.
    let holds = |shut: Option<Gate>| shut.filter(|gate| elsewhere || *gate == Gate::Paused);
    if let Some(gate) = holds(gate_before_proof(o, asked(o))) {
        return Decision::blocked(Blocked::Gate(gate));
    }
    if o.target.is_none() {
        return Decision::new(Phase::Fencing, Step::SetTarget(TargetKind::Auto));
    }
    if !suffices(o, elsewhere) {
        let home = || (!elsewhere).then(|| bring_home(o, &to, holder_pod)).flatten();
        let proof = prove(o, holder_pod, node_up).map(|decision| pinned_first(o, &to, decision));
        return proof.or_else(home).unwrap_or(Decision::blocked(Blocked::NoEvidence));
    }
    if let Some(gate) = holds(gate(o, asked(o))) {
        return Decision::blocked(Blocked::Gate(gate));
    }
    if elsewhere && asked(o) && o.request.as_ref().is_some_and(|r| r.to.is_none()) {
        return Decision::new(Phase::Fencing, Step::NameRequest(to));
    }
    reattach(o, &to)
}

/// The lease stands still, but the holder does not count as lost.
pub(crate) fn undetected(o: &Observation, lease: &LeaseView, why: Undetected) -> Decision {
    let long = lease.unchanged_for.is_some_and(|age| age >= o.store.lease_ms + UNDETECTED);
    let what = match why {
        Undetected::TooFewReports | Undetected::NodeDisagrees if long => {
            return Decision::new(Phase::Suspect, Step::Block(Blocked::Undetected(why)));
        }
        Undetected::LeaseFresh => "the lease to be renewed",
        Undetected::FrontendReachesIt => "the lease to be renewed: frontends reach the store",
        Undetected::TooFewReports => "frontends to say whether they reach the store",
        Undetected::NodeDisagrees => "the node's condition: there is no frontend to ask",
    };
    Decision::new(Phase::Suspect, Step::Await(what))
}

/// The kubelet ends the pod, and the StatefulSet makes it anew at once: where must stand before (K16), or it comes back
/// on any node, takes the lease there, and is deleted again to be brought to `to`.
fn pinned_first(o: &Observation, to: &str, decision: Decision) -> Decision {
    match decision.step {
        Step::DeleteGracefully(_) if !is_pinned(o, to) => {
            Decision { step: Step::Pin(to.to_owned()), ..decision }
        }
        _ => decision,
    }
}

/// What brings the missing evidence; `None` when nothing can.
pub(crate) fn prove(o: &Observation, holder_pod: &str, node_up: bool) -> Option<Decision> {
    if let Some(found) = live_evidence(o) {
        return Some(Decision::new(Phase::Fencing, Step::RecordEvidence(found.kind)));
    }
    let fencing = |step| Some(Decision::new(Phase::Fencing, step));
    let pod = o.pod.as_ref().filter(|p| p.uid == holder_pod);
    if node_up && let Some(pod) = pod {
        return fencing(if being_deleted(o, pod) {
            Step::Await("the kubelet to end the pod")
        } else {
            Step::DeleteGracefully(pod.uid.clone())
        });
    }
    if node_up { None } else { fence(o) }
}

/// Switches the holder's machine off: the boot that runs now, which may be a later one than the holder's; with it, all
/// before it have ended.
pub(crate) fn fence(o: &Observation) -> Option<Decision> {
    let fencing = |step| Some(Decision::new(Phase::Fencing, step));
    let node = holder_node(o).filter(|n| o.store.fence_configured && !n.ready && !n.boot_id.is_empty())?;
    let rebooted = o.placement.as_ref().is_some_and(|p| p.other_boot(node));
    match &o.fence_job {
        Some(FenceJob::Failed(why)) => Some(Decision::blocked(Blocked::FenceFailed(why.clone()))),
        Some(FenceJob::Running | FenceJob::Off { .. }) => fencing(Step::Await("the fence Job's verdict")),
        None if o.cluster.node_has_renewing_store => Some(Decision::blocked(Blocked::NodeStillServes)),
        None if rebooted && node.unready_ms < COMING_UP => {
            fencing(Step::Await("the node to become Ready under its new boot"))
        }
        None => fencing(Step::CreateFenceJob { node: node.name.clone(), boot_id: node.boot_id.clone() }),
    }
}

/// The holder is proven dead: pin, delete by UID, wait.
fn reattach(o: &Observation, to: &str) -> Decision {
    let holder = o.lease.as_ref().and_then(|l| l.record.holder.as_ref()).map(|h| h.pod_uid.as_str());
    if let Some(decision) = settle_pin(o, to, Phase::Reattaching, holder) {
        // A machine that came back under another boot, and is not Ready, may have started that pod again.
        if decision.step != Step::Await(IN_THE_WAY) {
            return decision;
        }
        let beside = o.pod.as_ref().and_then(|p| p.node.as_ref()) == o.placement.as_ref().map(|p| &p.node);
        return beside.then(|| fence(o)).flatten().unwrap_or(Decision::blocked(Blocked::NoEvidence));
    }
    if let Some(decision) = adopt::replace(o) {
        return decision;
    }
    let Some(pod) = &o.pod else {
        return Decision::new(Phase::Reattaching, Step::Await("the StatefulSet's pod"));
    };
    match &pod.state {
        PodState::Refused(why) => Decision::blocked(Blocked::Refused(why.clone())),
        PodState::Poisoned => Decision::blocked(Blocked::Poisoned),
        PodState::Silent if pod.unplaced.is_some() && !matches!(nowhere(o), Blocked::NoCandidate(_)) => {
            Decision::blocked(nowhere(o))
        }
        _ => Decision::new(Phase::Reattaching, Step::Await("the replica to take the lease")),
    }
}
