//! The failover of a store with mirrors: which copy is asked to take the lease, and when. No volume moves, so nothing is
//! fenced: whoever takes the lease has every acknowledged record, and no other is acknowledged without it.

use std::cmp::Reverse;

use crate::{
    Blocked, Decision, Detection, Evidence, FencingMinimum, Gate, LeaseView, Observation, Phase, PodState,
    PodView, ReplicaView, Step, TargetKind, detect, forced, gate, gate_of_promotion, live_evidence,
    place::asked,
    restore::{has_history, made_anew, silent},
    step::{lease_is_fresh, undetected},
    suffices,
};

/// What the operator does next about this store.
pub(crate) fn decide(o: &Observation) -> Decision {
    if !o.is_told {
        let holds = o.lease.as_ref().is_some_and(|l| l.record.holder.is_some() && lease_is_fresh(o, l));
        let phase = if holds { Phase::Serving } else { Phase::Suspect };
        return Decision::new(phase, Step::Await("the copies to say what they have"));
    }
    let Some(lease) = &o.lease else {
        let why =
            "its Lease is missing: run `kubectl mailcluster store restore-lease` when its copies answer";
        return forced::impossible(o, why, without_lease(o));
    };
    let held = lease.record.holder.is_some() && lease_is_fresh(o, lease);
    // One that was not taken in time is replaced by another, where the store is not served.
    let overdue = !held && o.target.as_ref().is_some_and(|t| t.overdue);
    if o.target.is_some() && !target_stands(o, lease) && !overdue {
        return Decision::new(if held { Phase::Serving } else { Phase::Suspect }, Step::ClearTarget);
    }
    let silent = silent(o);
    let restores = o.restore_asked && !held && o.replicas.iter().any(has_history);
    if restores && silent.is_empty() {
        return Decision::new(Phase::Down, Step::RestoreLease);
    }
    let decision = forced::first(o, lease, || match &lease.record.holder {
        None => unheld(o, lease),
        Some(holder) => match ended(o, lease, &holder.pod_uid) {
            Some(decision) => decision,
            None if lease_is_fresh(o, lease) => alive(o, lease, &holder.pod_uid),
            None => lost(o, lease),
        },
    });
    // A person has said what is to be done about that; whom it waits for, nobody has been told yet.
    let is_refused = matches!(decision.step, Step::Block(Blocked::Refused(_)));
    if restores && is_refused { Decision::blocked(Blocked::CopiesSilent(silent)) } else { decision }
}

/// The target that stands.
fn is_asked(o: &Observation) -> bool {
    o.target.as_ref().is_some_and(|target| !target.overdue)
}

/// A5: epoch 0 only for a store that was never known; else only when every copy was asked, from the latest of them. One that has
/// just been given another's place has nothing to tell, and waits for the Lease itself.
fn without_lease(o: &Observation) -> Decision {
    if !o.store.known_before {
        return Decision::new(Phase::Initialising, Step::CreateLease);
    }
    if o.replicas.iter().all(|r| r.volume.is_none()) {
        return Decision::blocked(Blocked::LeaseMissing);
    }
    let is_unopened = |id: &String| o.replicas.iter().any(|r| r.id == *id && r.is_unopened());
    made_anew(o, silent(o).into_iter().filter(|id| !is_unopened(id)).collect())
}

/// The target names the lease as it is, and its deadline has not passed (A2, A4).
fn target_stands(o: &Observation, lease: &LeaseView) -> bool {
    o.target.as_ref().is_some_and(|t| {
        !t.overdue
            && o.replicas.iter().any(|r| r.id == t.replica)
            && t.lease_version == lease.resource_version
            && t.epoch == lease.record.epoch
    })
}

/// Nobody holds the lease: a new store, or one whose holder gave it back.
fn unheld(o: &Observation, lease: &LeaseView) -> Decision {
    if is_asked(o) {
        return Decision::new(Phase::Promoting, Step::Await("the copy to take the lease"));
    }
    if lease.record.epoch == 0 {
        return initial(o);
    }
    match best(o, lease) {
        Ok(copy) => match gate_of_promotion(o, true) {
            Some(gate) => Decision::blocked(Blocked::Gate(gate)),
            None => Decision::new(Phase::Promoting, Step::Promote(copy, TargetKind::Planned)),
        },
        Err(why) => Decision::blocked(why),
    }
}

/// Every copy of a new store is there and empty; the one whose turn it is begins.
fn initial(o: &Observation) -> Decision {
    let is_ready = |r: &ReplicaView| stands_by(r) && r.volume.is_some_and(|v| v.last_epoch == 0);
    let all: Vec<&ReplicaView> = o.replicas.iter().collect();
    match all.iter().min_by_key(|r| turn(o, &all, r)) {
        Some(first) if o.replicas.iter().all(is_ready) => {
            Decision::new(Phase::Initialising, Step::Promote(first.id.clone(), TargetKind::Initial))
        }
        // The volumes have a history that this lease does not know.
        _ if o.replicas.iter().any(has_history) => made_anew(o, silent(o)),
        _ => Decision::new(Phase::Initialising, Step::Await("every copy to open its volume")),
    }
}

/// The lease is being renewed, or this observer has not watched long enough to say.
fn alive(o: &Observation, lease: &LeaseView, holder_pod: &str) -> Decision {
    let published = o.serving.as_ref().is_some_and(|(epoch, _)| *epoch == lease.record.epoch);
    if !published {
        // It may settle for ever, waiting for a copy whose disk is gone: that one's place can be given to another.
        let serves_on = |decision: &Decision| decision.phase != Phase::Draining;
        return replace(o, lease)
            .or_else(|| gone(o, lease).filter(serves_on))
            .map(|decision| Decision { phase: Phase::Settling, ..decision })
            .unwrap_or(Decision::new(Phase::Settling, Step::Await("the holder to publish its route")));
    }
    if o.pod.as_ref().is_some_and(|p| p.uid == holder_pod && p.terminating) {
        return Decision::new(Phase::Draining, Step::Await("the holder to hand the store over"));
    }
    replace(o, lease)
        .or_else(|| wanted_elsewhere(o, lease))
        .or_else(|| gone(o, lease))
        .or_else(|| anew(o, lease))
        .unwrap_or(Decision::new(Phase::Serving, Step::Idle))
}

/// A copy's place is to be given to a new one.
fn replace(o: &Observation, lease: &LeaseView) -> Option<Decision> {
    // Nobody would make the new one's claim, and the old one would be left out at once.
    if o.replace.is_some() && o.store.paused {
        return Some(Decision::new(Phase::Serving, Step::Block(Blocked::Gate(Gate::Paused))));
    }
    let step = match &o.replace {
        Some(id) => {
            may_replace(o, lease, id).map_or_else(Step::RefuseReplacement, |()| Step::Replace(id.clone()))
        }
        None => Step::Replace(long_away(o, lease)?.id.clone()),
    };
    Some(Decision::new(Phase::Serving, step))
}

/// # Errors
/// Why a person cannot have that.
fn may_replace(o: &Observation, lease: &LeaseView, id: &str) -> Result<(), String> {
    let copy = o.replicas.iter().find(|r| r.id == id).ok_or_else(|| format!("the store has no copy {id}"))?;
    if lease.record.replica.as_deref() == Some(id) {
        return Err(
            "it serves the store: run `kubectl mailcluster failover STORE` first, and ask again".into()
        );
    }
    // One that answers counts until the new one has everything, or writes would stop.
    let left = lease.record.in_sync.iter().filter(|other| *other != id).count();
    let is_needed = lease.record.in_sync.iter().any(|member| member == id) && copy.volume.is_some();
    if is_needed && left < lease.record.min_in_sync {
        return Err(format!(
            "it has everything and writes want {} copies that have: wait until another has caught up",
            lease.record.min_in_sync
        ));
    }
    Ok(())
}

/// The copy that has been away for longer than the spec allows, while all others have everything: one at a time.
fn long_away<'a>(o: &'a Observation, lease: &LeaseView) -> Option<&'a ReplicaView> {
    let limit = o.store.replace_after_ms?;
    let mut unwell = o.replicas.iter().filter(|r| !has_everything(r, lease));
    let (copy, others) = (unwell.next()?, unwell.count());
    let is_due = others == 0 && copy.volume.is_none() && copy.was_open && copy.away_ms >= limit;
    let holds = lease.record.replica.as_ref() == Some(&copy.id);
    (is_due && !holds && gate(o, false).is_none()).then_some(copy)
}

/// The pod of a copy whose place another has is in the new one's way. It needs no proof of its end: it has a volume of
/// its own, nobody feeds it, and the store does not name it any more.
fn gone(o: &Observation, lease: &LeaseView) -> Option<Decision> {
    let copy = o.replicas.iter().find(|r| r.replaced && !o.store.paused)?;
    let pod = copy.pod.as_ref()?;
    let holder = lease.record.holder.as_ref().is_some_and(|holder| holder.pod_uid == pod.uid);
    let has_heir = o.replicas.iter().any(|r| unfit(r, lease).is_none());
    if holder && !has_heir {
        return None;
    }
    let is_up = pod.node.as_ref().is_some_and(|name| o.node(name).is_some_and(|node| node.ready));
    let step = match (is_up, pod.terminating) {
        (true, true) => return None,
        (true, false) => Step::DeleteGracefully(pod.uid.clone()),
        (false, _) if holder => return None,
        (false, _) => Step::DeleteForced(pod.uid.clone()),
    };
    Some(Decision::new(if holder { Phase::Draining } else { Phase::Serving }, step))
}

/// A person wants the store served from another node. A drained node's store goes when its pod is evicted.
fn wanted_elsewhere(o: &Observation, lease: &LeaseView) -> Option<Decision> {
    let serving = |step| Some(Decision::new(Phase::Serving, step));
    let wanted = &o.request.as_ref().filter(|_| asked(o))?.to;
    let node = |r: &ReplicaView| r.pod.as_ref().and_then(|p| p.node.clone());
    let holder = o.replicas.iter().find(|r| lease.record.replica.as_ref() == Some(&r.id));
    let is_there = |at: Option<String>| at.is_some() && at == *wanted;
    if is_there(o.placement.as_ref().map(|p| p.node.clone())) || is_there(holder.and_then(node)) {
        return None;
    }
    // Where their logs end is older news than the lease's position, while mail flows: the holder knows better who has it.
    let may = |r: &&ReplicaView| {
        has_everything(r, lease) && stands_by(r) && lease.record.replica.as_ref() != Some(&r.id)
    };
    let fit = o.replicas.iter().filter(may);
    let there = fit.filter(|r| wanted.is_none() || node(r) == *wanted);
    let Some(copy) = there.max_by_key(|r| r.volume.map(|v| v.end)) else {
        let why = "no copy that has everything stands by there";
        let to = wanted.clone().unwrap_or_else(|| "any other".into());
        return serving(Step::RefuseRequest(Blocked::UnfitNode(to, why)));
    };
    if let Some(gate) = gate(o, true) {
        return serving(Step::Block(Blocked::Gate(gate)));
    }
    match (wanted, node(copy)) {
        // From here on the person's "any" has a name: the move is done when the store serves there.
        (None, Some(node)) => serving(Step::NameRequest(node)),
        _ => Some(Decision::new(Phase::Draining, Step::HandOver(copy.id.clone()))),
    }
}

/// The next pod that is to be made from another template: mirrors first, and none while a copy is away or lacks
/// something, but that copy itself: one of an older version may lack what it cannot read, and nothing counts on it. The
/// holder hands its store over before it goes.
fn anew(o: &Observation, lease: &LeaseView) -> Option<Decision> {
    if o.request.is_some() || gate(o, false).is_some() {
        return None;
    }
    let lacks = |r: &&ReplicaView| r.outdated && stands_by(r) && !lease.record.in_sync.contains(&r.id);
    if let Some(pod) = o.replicas.iter().find(lacks).and_then(|r| r.pod.as_ref()) {
        return Some(Decision::new(Phase::Serving, Step::DeleteGracefully(pod.uid.clone())));
    }
    if !o.cluster.others_are_well || !o.replicas.iter().all(|r| has_everything(r, lease)) {
        return None;
    }
    let holds = |r: &&ReplicaView| lease.record.replica.as_ref() == Some(&r.id);
    let mirrors = o.replicas.iter().filter(|r| !holds(r));
    let next = mirrors.chain(o.replicas.iter().filter(holds)).find(|r| r.outdated)?;
    let pod = next.pod.as_ref().filter(|pod| !pod.terminating)?;
    let phase = if holds(&next) { Phase::Draining } else { Phase::Serving };
    Some(Decision::new(phase, Step::DeleteGracefully(pod.uid.clone())))
}

/// The lease was not renewed for D.
fn lost(o: &Observation, lease: &LeaseView) -> Decision {
    if let Detection::Not(why) = detect(o) {
        return undetected(o, lease, why);
    }
    if is_asked(o) {
        return Decision::new(Phase::Promoting, Step::Await("the copy to take the lease"));
    }
    let copy = match best(o, lease) {
        Ok(copy) => copy,
        Err(why) => return returned(o, lease).unwrap_or(Decision::blocked(why)),
    };
    match gate_of_promotion(o, asked(o)) {
        Some(gate) => Decision::blocked(Blocked::Gate(gate)),
        None => Decision::new(Phase::Promoting, Step::Promote(copy, TargetKind::Auto)),
    }
}

/// The holder's process has ended, and its kubelet waits before it starts it again: a mirror need not wait for the lease
/// to run out. Which of the two takes it is the lease's matter.
fn ended(o: &Observation, lease: &LeaseView, holder_pod: &str) -> Option<Decision> {
    let pod = o.pod.as_ref().filter(|pod| pod.uid == holder_pod && pod.backs_off)?;
    let is_up = pod.node.as_ref().is_some_and(|name| o.node(name).is_some_and(|node| node.ready));
    let copy = best(o, lease).ok().filter(|_| is_up && gate_of_promotion(o, asked(o)).is_none())?;
    Some(if is_asked(o) {
        Decision::new(Phase::Promoting, Step::Await("the copy to take the lease"))
    } else {
        Decision::new(Phase::Promoting, Step::Promote(copy, TargetKind::Planned))
    })
}

/// The holder's own copy under another pod, with no other left: its volume may be opened when the old process is proven
/// to have ended.
fn returned(o: &Observation, lease: &LeaseView) -> Option<Decision> {
    let own = &waits_for_proof(o, lease)?.id;
    // Alone it acknowledges as long as nothing short of a proof could replace it, whatever the spec says.
    let holder = lease.record.holder.as_ref()?;
    let proves = |e: &Evidence| {
        e.kind.strength() == FencingMinimum::Proof
            && e.pod_uid == holder.pod_uid
            && e.epoch == lease.record.epoch
    };
    if !(suffices(o, false) && o.evidence.iter().any(proves)) {
        let found = live_evidence(o)?;
        return Some(Decision::new(Phase::Fencing, Step::RecordEvidence(found.kind)));
    }
    Some(Decision::new(Phase::Promoting, Step::Promote(own.clone(), TargetKind::Auto)))
}

/// The holder's own copy, which has everything, when its pod waits until it may open its volume.
pub(crate) fn waits_for_proof<'a>(o: &'a Observation, lease: &LeaseView) -> Option<&'a ReplicaView> {
    let own = lease.record.replica.as_ref().filter(|id| lease.record.in_sync.contains(id))?;
    let waits = |pod: &PodView| pod.state == PodState::Waiting && !pod.terminating;
    o.replicas.iter().find(|r| r.id == *own && r.pod.as_ref().is_some_and(waits))
}

/// A copy that has seen a later state of the store than the Lease knows of.
pub(crate) fn seen_more<'a>(o: &'a Observation, lease: &LeaseView) -> Option<&'a str> {
    let newer = |r: &&ReplicaView| r.volume.is_some_and(|v| v.history().is_later_than(&lease.record));
    o.replicas.iter().find(newer).map(|r| r.id.as_str())
}

/// That it has, in words.
pub(crate) fn rolled_back(copy: &str) -> String {
    format!(
        "StateRolledBack: copy {copy} has seen a later state of this store than its Lease: run `kubectl mailcluster store restore-lease`"
    )
}

/// How far this copy is from its turn among those that could do as well. The nodes' order gives it, so that stores with
/// copies on the same nodes begin on different ones, and those of a lost node go to different ones.
fn turn(o: &Observation, among: &[&ReplicaView], copy: &ReplicaView) -> usize {
    let place = |r: &ReplicaView| (r.pod.as_ref().and_then(|pod| pod.node.clone()), r.id.clone());
    let before = among.iter().filter(|other| place(other) < place(copy)).count();
    let count = among.len().max(1);
    (before + count - o.store.turn % count) % count
}

/// The copy that the holder has named, or else the one with the most, of those that have everything; another than one
/// that was asked and did not come, if there is one. Or why there is none.
pub(crate) fn best(o: &Observation, lease: &LeaseView) -> Result<String, Blocked> {
    if let Some(copy) = seen_more(o, lease) {
        return Err(Blocked::Refused(rolled_back(copy)));
    }
    let fit: Vec<&ReplicaView> = o.replicas.iter().filter(|r| unfit(r, lease).is_none()).collect();
    let late = |r: &ReplicaView| o.target.as_ref().is_some_and(|t| t.overdue && t.replica == r.id);
    let is_heir = |r: &ReplicaView| lease.record.transfer_to.as_ref() == Some(&r.id);
    let end = |r: &ReplicaView| r.volume.map(|v| (v.last_epoch, v.end));
    // One that gave the store back may have done so because nobody reaches it.
    let is_other = |r: &ReplicaView| lease.record.replica.as_ref() != Some(&r.id);
    let most =
        fit.iter().max_by_key(|r| (!late(r), is_heir(r), end(r), is_other(r), Reverse(turn(o, &fit, r))));
    most.map(|r| r.id.clone()).ok_or_else(|| {
        let why = |r: &ReplicaView| Some((r.id.clone(), unfit(r, lease)?));
        Blocked::NoCopy(o.replicas.iter().filter_map(why).collect())
    })
}

/// Why this copy may not take the store; `None` when it may.
fn unfit(replica: &ReplicaView, lease: &LeaseView) -> Option<&'static str> {
    let Some(volume) = replica.volume else { return Some("it does not answer") };
    let checks = [
        (lease.record.in_sync.contains(&replica.id), "it may lack what was acknowledged"),
        (volume.end >= lease.record.position, "its log ends before what was acknowledged"),
        (stands_by(replica), "it does not stand by"),
    ];
    checks.into_iter().find(|(good, _)| !good).map(|(_, why)| why)
}

/// It answers, and counts.
pub(crate) fn has_everything(replica: &ReplicaView, lease: &LeaseView) -> bool {
    replica.volume.is_some() && lease.record.in_sync.contains(&replica.id)
}

pub(crate) fn stands_by(replica: &ReplicaView) -> bool {
    let pod = replica.pod.as_ref().filter(|p| !p.terminating);
    pod.is_some_and(|p| matches!(p.state, PodState::Standby | PodState::CrashLoop))
}
