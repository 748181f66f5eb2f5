//! Where a store goes, and how it gets there.

use crate::{
    Blocked, Decision, EvidenceKind, Gate, LeaseView, Millis, NodeView, Observation, Phase, PodState,
    PodView, Step, adopt, eviction, gate, gate_before_proof, step::fence,
};

/// What the scheduler has not placed for this long goes to another node, if there is one.
const UNPLACED: Millis = 15_000;
/// More own crashes than this in 15 minutes are flapping.
const FLAPPING: u32 = 3;
/// What is waited for when a pod stands in the way and its node says nothing.
pub(crate) const IN_THE_WAY: &str = "the node of the pod that is in the way";

/// Nobody holds the lease and the pod is not where it should be: on a node that is lost, cordoned, or not pinned.
pub(crate) fn lease_free_move(o: &Observation) -> Option<Decision> {
    if o.lease.as_ref().is_none_or(|l| l.record.epoch == 0) {
        return None;
    }
    let at = o.pin.clone().or_else(|| o.pod.as_ref().and_then(|p| p.node.clone()));
    // One that cannot take it is refused when the store serves; until then it is as if it had not been named.
    let requested = o.request.as_ref().and_then(|r| r.to.clone()).filter(|to| may_take(o, to));
    let usable =
        |name: &String| o.node(name).is_some_and(|n| n.ready && !n.unschedulable) && !refused(o, name);
    let stays = match (&at, &requested) {
        (Some(at), Some(to)) => at == to,
        (Some(at), None) => usable(at) || candidate(o, Some(at)).is_none(),
        (None, _) => true,
    };
    if stays {
        return settle_pin(o, o.pin.as_deref()?, Phase::Reattaching, None).map(|d| after_release(o, d));
    }
    let to = requested.or_else(|| candidate(o, at.as_deref()))?;
    match gate(o, asked(o)) {
        Some(gate) => Some(Decision::blocked(Blocked::Gate(gate))),
        None => settle_pin(o, &to, Phase::Reattaching, None).map(|d| after_release(o, d)),
    }
}

/// The pod that released the lease is in the way, on a node that says nothing. Nobody holds the store, but that pod's
/// container could be started again and open the volume: so its machine's end is proven as a holder's is, by the fence
/// Job's own verdict or a person's word about the boot that runs there.
fn after_release(o: &Observation, decision: Decision) -> Decision {
    if decision.step != Step::Await(IN_THE_WAY) {
        return decision;
    }
    let Some(pod) = &o.pod else { return decision };
    let node = pod.node.as_deref().and_then(|name| o.node(name));
    let ended = node.is_some_and(|n| fenced(o, n) || o.confirmed(&n.name, &n.boot_id))
        || o.confirmed_pods.contains(&pod.uid);
    if ended {
        return Decision::new(Phase::Reattaching, Step::DeleteForced(pod.uid.clone()));
    }
    if let Some(gate) = gate_before_proof(o, asked(o)) {
        return Decision::blocked(Blocked::Gate(gate));
    }
    let beside = o.placement.as_ref().is_some_and(|p| p.pod_uid == pod.uid);
    beside.then(|| fence(o)).flatten().unwrap_or(Decision::blocked(Blocked::NoEvidence))
}

/// A person or a drain wants a serving store elsewhere: pin, then delete gracefully; the holder drains and releases.
pub(crate) fn planned(o: &Observation, holder_pod: &str) -> Decision {
    let serving = |step| Decision::new(Phase::Serving, step);
    let at = o.placement.as_ref().map(|p| p.node.as_str());
    let wanted = o.request.as_ref().and_then(|r| r.to.as_deref());
    if wanted.is_some() && wanted == at && o.pin.as_deref() == at {
        return serving(Step::Idle);
    }
    let to = match planned_to(o, at, wanted) {
        Ok(to) => to,
        // A person is told at once, and asks again when it can be done; a drain goes on when it can.
        Err(why) if asked(o) => return serving(Step::RefuseRequest(why)),
        Err(why) => return serving(Step::Block(why)),
    };
    match gate(o, asked(o)) {
        Some(gate) if passes_by_itself(gate) => {
            return serving(Step::Await("its turn: other stores are moving"));
        }
        Some(gate) => return serving(Step::Block(Blocked::Gate(gate))),
        None => {}
    }
    if asked(o) && wanted.is_none() {
        // From here on the person's "any" has a name: the move is done when the store serves there.
        return serving(Step::NameRequest(to));
    }
    let next = settle_pin(o, &to, Phase::Draining, Some(holder_pod)).unwrap_or(serving(Step::Idle));
    if asked(o) { next } else { eviction::offered(o, next) }
}

/// A move that nobody wants any more, after its pin and before its pod went: the pin goes back to where the store
/// serves, or its next start would carry the move out, unasked.
pub(crate) fn called_off(o: &Observation, lease: &LeaseView, holder_pod: &str) -> Option<Decision> {
    let stands = o.pod.as_ref().is_some_and(|p| p.uid == holder_pod && !p.terminating);
    let judged = stands && lease.unchanged_for.is_some() && o.request.is_none() && !o.store.paused;
    let home = &o.placement.as_ref().filter(|p| p.pod_uid == holder_pod && judged)?.node;
    let elsewhere = o.pin.as_ref().is_some_and(|pin| pin != home);
    elsewhere.then(|| Decision::new(Phase::Serving, Step::Pin(home.clone())))
}

/// Did we ask for this pod's deletion, and is it going? One that another deletes is asked for by us as well, so that its
/// end counts as the kubelet's answer to us; and what was only noted, by an operator that died then, is asked for again.
pub(crate) fn being_deleted(o: &Observation, pod: &PodView) -> bool {
    pod.terminating && o.deleting.as_deref() == Some(pod.uid.as_str())
}

fn planned_to(o: &Observation, at: Option<&str>, wanted: Option<&str>) -> Result<String, Blocked> {
    if o.volume.shared_block {
        return Err(Blocked::SharedBlockDevice);
    }
    match wanted {
        Some(to) => match unfit(o, to) {
            Some(why) => Err(Blocked::UnfitNode(to.to_owned(), why)),
            None => Ok(to.to_owned()),
        },
        None => candidate(o, at).ok_or_else(|| nowhere(o)),
    }
}

/// Did a person ask for a move? A drain is no such request: it is held back by what holds back failover.
pub(crate) fn asked(o: &Observation) -> bool {
    o.request.as_ref().is_some_and(|r| !r.drain)
}

/// The holder's node, if the machine that has its name now is the one that the holder ran on.
pub(crate) fn holder_node(o: &Observation) -> Option<&NodeView> {
    let placement = o.placement.as_ref()?;
    o.node(&placement.node).filter(|n| placement.is(n))
}

/// The pod says itself that it will not come back, or the kubelet cannot start it.
pub(crate) fn given_up(o: &Observation) -> bool {
    o.pod.as_ref().is_some_and(|p| {
        p.cannot_start || matches!(p.state, PodState::CrashLoop | PodState::Refused(_) | PodState::Poisoned)
    })
}

/// The process refuses what is on its volume: another node would show it the same.
pub(crate) fn refuses_its_data(o: &Observation) -> Option<&str> {
    const ABOUT_DATA: [&str; 5] =
        ["EmptyVolume", "ForeignVolume", "NotInSync", "StaleCopy", "StateRolledBack"];
    match &o.pod.as_ref()?.state {
        PodState::Refused(why) if ABOUT_DATA.iter().any(|what| why.starts_with(what)) => Some(why),
        _ => None,
    }
}

/// What is on its volume is older than the lease: it was restored from a backup.
pub(crate) fn refuses_its_age(o: &Observation) -> bool {
    refuses_its_data(o).is_some_and(|why| why.starts_with("StaleCopy"))
}

pub(crate) fn grace_left(o: &Observation, lease: &LeaseView) -> bool {
    lease.unchanged_for.is_some_and(|age| age < o.store.lease_ms + o.store.restart_grace_ms)
}

/// A single copy moves only when its node is not Ready or proven off, or its pod cannot start there; by its own crash
/// at most so many times an hour. Else it starts anew where it was.
pub(crate) fn destination(o: &Observation, node_up: bool) -> Result<String, Blocked> {
    let at = o.placement.as_ref().map(|p| p.node.as_str());
    let wanted = o.request.as_ref().and_then(|r| r.to.as_deref());
    if let Some(to) = wanted.filter(|to| may_take(o, to)) {
        return Ok(to.to_owned());
    }
    // What was begun is finished: a pin that was set for this failover stands while its node can take the store.
    let begun = o.pin.as_deref().filter(|pin| Some(*pin) != at && may_take(o, pin)).map(str::to_owned);
    let back = holder_node(o).filter(|n| n.ready && !n.unschedulable).map(|n| n.name.clone());
    if node_up && let Some(home) = back.clone() {
        if o.store.takeovers_last_quarter > FLAPPING && !asked(o) {
            return Err(Blocked::Flapping);
        }
        let touring =
            o.store.max_moves_per_hour != 0 && o.store.moves_last_hour >= o.store.max_moves_per_hour;
        let leaves = asked(o) || (given_up(o) && !touring);
        let other = begun.or_else(|| candidate(o, at).filter(|_| leaves));
        return Ok(other.unwrap_or(home));
    }
    begun.or_else(|| candidate(o, at)).or(back).ok_or_else(|| nowhere(o))
}

/// Why no other node can take it.
pub(crate) fn nowhere(o: &Observation) -> Blocked {
    match o.pod.as_ref().and_then(|p| p.unplaced.as_ref()).filter(|u| u.for_ms >= UNPLACED) {
        _ if o.volume.single_node() => Blocked::OneNodeVolume,
        Some(unplaced) => Blocked::Unschedulable(unplaced.why.clone()),
        None => Blocked::NoCandidate(refusals(o)),
    }
}

/// What keeps each other node that reaches the volume from taking the store.
fn refusals(o: &Observation) -> Vec<(String, &'static str)> {
    let at = o.placement.as_ref().map(|p| p.node.as_str());
    let present = o.nodes.iter().map(|n| n.name.as_str()).filter(|name| o.volume.reachable_from(name));
    present
        .filter(|name| Some(*name) != at)
        .filter_map(|name| {
            let unplaced = refused(o, name).then_some("the scheduler did not place the store's pod on it");
            Some((name.to_owned(), unfit(o, name).or(unplaced)?))
        })
        .collect()
}

/// Can this node take the store? If not, why.
pub(crate) fn unfit(o: &Observation, name: &str) -> Option<&'static str> {
    let Some(node) = o.node(name) else { return Some("there is no such node") };
    let checks = [
        (node.ready, "it is not Ready"),
        (!node.unschedulable, "it is cordoned"),
        (!node.out_of_service, "it is out of service"),
        (o.volume.reachable_from(name), "it does not reach the volume"),
        (node.admits, "the node selector or the node's taints keep the store's pod away"),
    ];
    checks.into_iter().find(|(good, _)| !good).map(|(_, why)| why)
}

fn may_take(o: &Observation, name: &str) -> bool {
    unfit(o, name).is_none() && !refused(o, name)
}

/// The node that the pod was made for, when the scheduler has not placed it there for long.
#[must_use]
pub fn unplaced_on(o: &Observation) -> Option<&str> {
    let waits = |p: &&PodView| p.node.is_none() && p.unplaced.as_ref().is_some_and(|u| u.for_ms >= UNPLACED);
    o.pod.as_ref().filter(waits)?.pin.as_deref()
}

/// The scheduler does not place the pod on this node: it waits for it now, or did before in this failover.
fn refused(o: &Observation, name: &str) -> bool {
    // Its volume is still to be made for that node: until then the scheduler has nowhere to place the pod.
    if adopt::pending(o).is_some_and(|adoption| adoption.to == name) {
        return false;
    }
    unplaced_on(o) == Some(name)
        || (o.tried.iter().any(|tried| tried == name) && o.pin.as_deref() != Some(name))
}

/// The node, other than `not`, that can take the volume and serves the fewest stores; the first by name of those.
fn candidate(o: &Observation, not: Option<&str>) -> Option<String> {
    o.nodes
        .iter()
        .filter(|n| may_take(o, &n.name) && Some(n.name.as_str()) != not)
        .min_by_key(|n| (n.stores, &n.name))
        .map(|n| n.name.clone())
}

/// A gate that others open by going on: it is waited for without a word, where nothing is lost.
fn passes_by_itself(gate: Gate) -> bool {
    matches!(gate, Gate::Concurrency | Gate::DirectoryFirst)
}

/// Will the StatefulSet's next pod go to this node?
pub(crate) fn is_pinned(o: &Observation, to: &str) -> bool {
    o.pin.as_deref() == Some(to) && o.template_pin.as_deref() == Some(to)
}

/// Pins the store to `to`, then removes the pod that is in the way: the holder's own, or one on another node (K16: pin
/// first, or the pod comes back where it was). `None` when pin and pod are as they should be.
pub(crate) fn settle_pin(o: &Observation, to: &str, phase: Phase, holder: Option<&str>) -> Option<Decision> {
    if !is_pinned(o, to) {
        return Some(Decision::new(phase, Step::Pin(to.to_owned())));
    }
    let pod = o.pod.as_ref()?;
    let in_the_way = holder == Some(pod.uid.as_str()) || misplaced(pod, to);
    if !in_the_way {
        return None;
    }
    let node = pod.node.as_deref().and_then(|name| o.node(name));
    let deleted = being_deleted(o, pod);
    // E3: a Ready node's kubelet ends the pod; grace 0 is for what is proven dead.
    let step = match node {
        _ if pod.node.is_none() && deleted => Step::Await("the pod that was never placed to go"),
        _ if pod.node.is_none() => Step::DeleteGracefully(pod.uid.clone()),
        Some(node) if node.ready && deleted => Step::Await("the kubelet to end the pod"),
        Some(node) if node.ready => Step::DeleteGracefully(pod.uid.clone()),
        _ if phase == Phase::Reattaching && dead_with_holder(o, pod, holder) => {
            Step::DeleteForced(pod.uid.clone())
        }
        _ => Step::Await(IN_THE_WAY),
    };
    Some(Decision::new(phase, step))
}

/// The holder's pod is gone from a node that lives, and nothing proves how: the pod that came in its place is brought
/// to that node. There the volume's lock decides, so that needs no evidence.
pub(crate) fn bring_home(o: &Observation, to: &str, holder_pod: &str) -> Option<Decision> {
    let pod = o.pod.as_ref().filter(|p| p.uid != holder_pod && !p.cannot_start)?;
    if let Some(decision) = settle_pin(o, to, Phase::Fencing, None) {
        return Some(decision);
    }
    let placed = pod.unplaced.is_none();
    placed.then(|| Decision::new(Phase::Fencing, Step::Await("the volume's lock, on the holder's own node")))
}

/// Is this pod proven dead by what proves the holder dead: it is the holder's, or it is on the machine whose boot has
/// ended? (The caller has seen that the evidence suffices.) A machine that is back under another boot may have started
/// the same pod again, so it must be gone, or still be the boot that was proven to have ended.
fn dead_with_holder(o: &Observation, pod: &PodView, holder: Option<&str>) -> bool {
    let (Some(holder), Some(placement)) = (holder, &o.placement) else { return false };
    let ended =
        |n: &NodeView| n.boot_id == placement.boot_id || fenced(o, n) || o.confirmed(&n.name, &n.boot_id);
    let same_boot = o.node(&placement.node).is_none_or(ended);
    let machine_ended = o
        .evidence
        .iter()
        .any(|e| e.pod_uid == holder && matches!(e.kind, EvidenceKind::FenceJob | EvidenceKind::NewBoot));
    let on_it = Some(&placement.node) == pod.node.as_ref();
    same_boot && (pod.uid == holder || (machine_ended && on_it))
}

/// Did the fence Job read this very boot of the node off?
fn fenced(o: &Observation, node: &NodeView) -> bool {
    matches!(&o.fence_job, Some(crate::FenceJob::Off { node: name, boot_id })
        if *name == node.name && *boot_id == node.boot_id)
}

fn misplaced(pod: &PodView, to: &str) -> bool {
    match &pod.node {
        Some(node) => node != to,
        // It was made from a template that named another node, or none.
        None => pod.pin.as_deref() != Some(to),
    }
}
