//! A drain's own eviction begins the move. `kubectl drain` evicts pods by their names and asks again after five seconds
//! when a budget refuses; a store that came back on its sibling meanwhile has the same name, and would be refused for
//! ever. So, when the sibling is pinned and the old pod is to go, its budget lets the eviction through for a while: the
//! drain waits for that very pod's end, and is done. Where nobody evicts (a node that is only cordoned), the pod is
//! deleted as in any planned move.

use crate::{Decision, Millis, Observation, Phase, Step};

/// For how long the eviction is waited for: several of a drain's tries, five seconds apart, as on a busy control plane the
/// budget's status lags behind its spec. The old pod serves meanwhile; a drain that finds it evicted waits no longer.
const WINDOW: Millis = 30_000;
/// What is waited for meanwhile.
const WAITED_FOR: &str = "an eviction of the pod, as by kubectl drain";

/// Whether the budget of the store's pod lets an eviction through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eviction {
    /// The pod that it was opened for.
    pub pod_uid: String,
    /// For how long it has been open; `None`: it was shut again.
    pub open_ms: Option<Millis>,
}

impl Eviction {
    /// Was it open for its whole time, and nobody evicted? Shut for another reason (it is not the store's turn for a moment),
    /// it is opened anew in its turn: a drain still asks, and would be refused for ever.
    #[must_use]
    pub fn was_in_vain(&self) -> bool {
        self.open_ms.is_none_or(|open| open >= WINDOW)
    }
}

/// Offers the pod that a drain's move is about to delete to the drain's own eviction first.
pub(crate) fn offered(o: &Observation, decision: Decision) -> Decision {
    let Step::DeleteGracefully(uid) = &decision.step else { return decision };
    if o.pod.as_ref().is_none_or(|pod| pod.terminating || pod.uid != *uid) {
        return decision;
    }
    match o.eviction.as_ref().filter(|eviction| eviction.pod_uid == *uid) {
        None => Decision::new(Phase::Draining, Step::AllowEviction(uid.clone())),
        Some(Eviction { open_ms: Some(open), .. }) if *open < WINDOW => {
            Decision::new(Phase::Draining, Step::Await(WAITED_FOR))
        }
        Some(_) => decision,
    }
}

/// The budget is open only while just that is waited for: it is shut before the pod is deleted otherwise, and when the
/// pod is going, so that no eviction meets the pod that comes after it.
pub(crate) fn shut(o: &Observation, decision: Decision) -> Decision {
    let open = o.eviction.as_ref().is_some_and(|eviction| eviction.open_ms.is_some());
    if open && decision.step != Step::Await(WAITED_FOR) {
        return Decision { step: Step::EndEviction, ..decision };
    }
    decision
}
