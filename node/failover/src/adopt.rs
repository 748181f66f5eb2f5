//! A disk that a person has moved to another machine, or whose machine has another name now (`store adopt`). The way is
//! that of any reattachment: the holder's end is proven, the sibling pinned, the old pod removed. Then, when no pod is
//! left that could have the volume, its PersistentVolume is made anew for the other node.

use crate::{Blocked, Decision, Observation, Phase, Step, place::unfit};

/// What a person asks for, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adoption {
    /// The node that has the disk now.
    pub to: String,
    /// How far it is.
    pub state: AdoptionState,
}

/// How far an adoption is, as the objects show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdoptionState {
    /// It cannot be done; why, in words.
    Refused(String),
    /// This is to be done when no pod has the volume.
    Due(AdoptionStep),
    /// The named thing is waited for.
    Await(&'static str),
    /// The claim is bound to the volume that was made anew.
    Done {
        /// The store's pod, when it is older than the volume and was placed nowhere: the scheduler may look at it again
        /// late, so it is made anew.
        refused_pod: Option<String>,
    },
}

/// The writes that make a PersistentVolume anew, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdoptionStep {
    /// Write down the volume as it shall be: from then on it can be made whatever happens.
    Record,
    /// Delete the old object.
    Delete,
    /// Take off the finalizer that keeps it while its claim is bound.
    Release,
    /// Make it anew, bound to the same claim.
    Create,
}

/// Is an adoption wanted whose volume is not there yet?
pub(crate) fn pending(o: &Observation) -> Option<&Adoption> {
    o.adoption.as_ref().filter(|a| matches!(a.state, AdoptionState::Due(_) | AdoptionState::Await(_)))
}

/// What an adoption asks for before anything else is decided. `rest`: what would be done otherwise.
pub(crate) fn first(o: &Observation, rest: impl FnOnce() -> Decision) -> Decision {
    let Some(adoption) = o.adoption.as_ref().filter(|_| !o.store.paused) else { return rest() };
    let refuse = |why: String| Step::RefuseAdoption(why);
    let begun = adoption.state != AdoptionState::Due(AdoptionStep::Record);
    match &adoption.state {
        AdoptionState::Refused(why) => Decision { step: refuse(why.clone()), ..rest() },
        AdoptionState::Done { refused_pod: Some(uid) } => {
            Decision::new(Phase::Reattaching, Step::DeleteGracefully(uid.clone()))
        }
        AdoptionState::Done { refused_pod: None } => rest(),
        AdoptionState::Due(_) | AdoptionState::Await(_) => match (held(o), unfit(o, &adoption.to)) {
            // A leader that has not watched for long enough can take no living store for a dead one, nor the other way.
            (Some(None), _) => Decision::new(Phase::Serving, Step::Await("the lease to stand still")),
            (Some(Some(true)), _) if !begun => Decision { step: refuse(served(o)), ..rest() },
            (_, Some(why)) if !begun => {
                Decision { step: refuse(format!("node {} cannot take it: {why}", adoption.to)), ..rest() }
            }
            (_, Some(why)) => Decision::blocked(Blocked::UnfitNode(adoption.to.clone(), why)),
            _ => rest(),
        },
    }
}

/// The store is pinned and no pod is in the way: what is to be done about the volume now.
pub(crate) fn replace(o: &Observation) -> Option<Decision> {
    let adoption = pending(o)?;
    let elsewhere = o.pod.as_ref().and_then(|p| p.node.as_deref()).is_some_and(|node| node != adoption.to);
    let step = match &adoption.state {
        _ if elsewhere => return None,
        AdoptionState::Due(step) => Step::Adopt(*step),
        AdoptionState::Await(what) => Step::Await(what),
        AdoptionState::Refused(_) | AdoptionState::Done { .. } => return None,
    };
    Some(Decision::new(Phase::Reattaching, step))
}

/// Does somebody hold the lease, and is it being renewed? The latter is `None` when it was not watched long enough.
fn held(o: &Observation) -> Option<Option<bool>> {
    let lease = o.lease.as_ref().filter(|l| l.record.holder.is_some())?;
    Some(lease.unchanged_for.map(|age| age < o.store.lease_ms))
}

fn served(o: &Observation) -> String {
    let node = o.placement.as_ref().map_or("a node", |p| p.node.as_str());
    format!("it is served from {node}: power that machine off before its disk is moved, then ask again")
}
