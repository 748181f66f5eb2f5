//! A person's order that a copy take the store of which it need not have everything, because all that have are gone for
//! good. It is bound to the epoch that the person saw, and refused wherever anything less would do.

use crate::{
    Blocked, Decision, Detection, Evidence, FencingMinimum, LeaseRecord, LeaseView, Observation, Phase, Step,
    TargetKind, Undetected, detect,
    evidence::same_kernel_lock,
    gate_of_promotion,
    mirrored::{best, rolled_back, seen_more, stands_by, waits_for_proof},
    place::holder_node,
    step::prove,
    suffices,
};

/// What a person orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForceRequest {
    /// The copy's id.
    pub copy: String,
    /// The epoch of the Lease that the person saw: at another one, the order is void.
    pub epoch: u64,
    /// Without proof that the old holder's process has ended, and of a copy that is not the best: what only others have,
    /// and what the old holder may still acknowledge, is given up.
    pub accept_loss: bool,
}

impl ForceRequest {
    /// Has the copy taken the store by it?
    #[must_use]
    pub fn is_done(&self, record: &LeaseRecord) -> bool {
        record.forced.is_some_and(|epoch| epoch > self.epoch) && record.replica.as_ref() == Some(&self.copy)
    }
}

/// What the order comes to before anything else is decided. `rest`: what would be done otherwise.
pub(crate) fn first(o: &Observation, lease: &LeaseView, rest: impl FnOnce() -> Decision) -> Decision {
    let judged = match &o.force {
        None => return rest(),
        Some(Ok(order)) if order.is_done(&lease.record) => return rest(),
        Some(Ok(order)) => judge(o, lease, order),
        Some(Err(why)) => Err(why.clone()),
    };
    judged.unwrap_or_else(|why| Decision { step: Step::RefuseForce(why), ..rest() })
}

/// Nothing can be ordered here; why.
pub(crate) fn impossible(o: &Observation, why: &str, rest: Decision) -> Decision {
    if o.force.is_some() { Decision { step: Step::RefuseForce(why.to_owned()), ..rest } } else { rest }
}

/// # Errors
/// Why it is not done.
fn judge(o: &Observation, lease: &LeaseView, order: &ForceRequest) -> Result<Decision, String> {
    let epoch = lease.record.epoch;
    if epoch != order.epoch {
        return Err(format!(
            "it was ordered at epoch {} and the Lease is at epoch {epoch} by now: look again, and order anew",
            order.epoch
        ));
    }
    if let Some(what) = is_lost(o, lease)? {
        return Ok(Decision::new(Phase::Suspect, Step::Await(what)));
    }
    needed(o, lease)?;
    able(o, order)?;
    if let Some(gate) = gate_of_promotion(o, true) {
        return Ok(Decision::blocked(Blocked::Gate(gate)));
    }
    if !order.accept_loss
        && let Some(decision) = proof(o, lease)?
    {
        return Ok(decision);
    }
    let (asked, promote) = (o.target.as_ref().filter(|t| !t.overdue), Phase::Promoting);
    let is_asked = |t: &crate::Target| t.kind == TargetKind::Forced && t.replica == order.copy;
    Ok(match asked {
        Some(target) if is_asked(target) => Decision::new(promote, Step::Await("the copy to take the lease")),
        Some(_) => Decision::new(promote, Step::ClearTarget),
        None => Decision::new(promote, Step::Promote(order.copy.clone(), TargetKind::Forced)),
    })
}

/// Does nobody serve it? Answers what must be waited for before that can be told.
fn is_lost(o: &Observation, lease: &LeaseView) -> Result<Option<&'static str>, String> {
    if lease.record.holder.is_none() {
        return Ok(None);
    }
    if lease.unchanged_for.is_none() {
        return Ok(Some("the lease to stand still"));
    }
    match detect(o) {
        Detection::Not(Undetected::LeaseFresh) => Err("its holder renews its lease".into()),
        Detection::Not(Undetected::FrontendReachesIt) => {
            Err("frontends reach its holder: it serves, whatever its lease says".into())
        }
        Detection::Not(Undetected::TooFewReports) if o.reach.pending > 0 => {
            Ok(Some("frontends to say whether they reach the store"))
        }
        // What else cannot be told, a person has seen, or proves below.
        Detection::Not(Undetected::TooFewReports | Undetected::NodeDisagrees) | Detection::Lost => Ok(None),
    }
}

/// Is nobody there who has everything, or says that there is more than the Lease knows of?
fn needed(o: &Observation, lease: &LeaseView) -> Result<(), String> {
    if lease.record.epoch == 0 {
        return Err("nobody has served it yet: there is nothing to lose, and nothing to take".into());
    }
    if let Some(copy) = seen_more(o, lease) {
        return Err(rolled_back(copy));
    }
    if let Ok(copy) = best(o, lease) {
        return Err(format!(
            "copy {copy} has everything and can take the store: run `kubectl mailcluster failover` without --force"
        ));
    }
    if let Some(copy) = waits_for_proof(o, lease) {
        return Err(format!(
            "copy {} has everything and waits for proof that its old process has ended: run `kubectl mailcluster fence confirm NODE` for the node where that ran",
            copy.id
        ));
    }
    Ok(())
}

/// Can this copy take it, and has no other that could more?
fn able(o: &Observation, order: &ForceRequest) -> Result<(), String> {
    let id = &order.copy;
    let copy =
        o.replicas.iter().find(|r| r.id == *id).ok_or_else(|| format!("the store has no copy {id}"))?;
    let volume = copy.volume.ok_or_else(|| format!("copy {id} does not answer"))?;
    if copy.is_forked() {
        return Err(format!(
            "copy {id} keeps what an earlier forced failover left behind: nobody follows it"
        ));
    }
    if volume.last_epoch == 0 {
        return Err(format!("copy {id} is empty"));
    }
    if !stands_by(copy) {
        return Err(format!("copy {id} does not stand by"));
    }
    let able = o.replicas.iter().filter(|r| stands_by(r));
    let more =
        able.filter(|r| r.volume.is_some_and(|v| (v.last_epoch, v.end) > (volume.last_epoch, volume.end)));
    match more.max_by_key(|r| r.volume.map(|v| (v.last_epoch, v.end))) {
        Some(better) if !order.accept_loss => {
            Err(format!("copy {} has more than copy {id}: name that one, or say --accept-loss", better.id))
        }
        _ => Ok(()),
    }
}

/// What proves that the old holder acknowledges nothing more; `None` when it is proven.
fn proof(o: &Observation, lease: &LeaseView) -> Result<Option<Decision>, String> {
    let Some(holder) = &lease.record.holder else { return Ok(None) };
    let proves = |e: &Evidence| {
        e.kind.strength() == FencingMinimum::Proof
            && e.pod_uid == holder.pod_uid
            && e.epoch == lease.record.epoch
    };
    let is_known = o.evidence.iter().any(proves) || same_kernel_lock(o, &holder.pod_uid);
    if is_known && suffices(o, false) {
        return Ok(None);
    }
    let node_up = holder_node(o).is_some_and(|node| node.ready);
    prove(o, &holder.pod_uid, node_up).map(Some).ok_or_else(|| {
        let node = o.placement.as_ref().map_or("NODE", |p| p.node.as_str());
        format!(
            "nothing proves that the old holder's process on {node} has ended: power that machine off and run `kubectl mailcluster fence confirm {node}`, or say --accept-loss"
        )
    })
}
