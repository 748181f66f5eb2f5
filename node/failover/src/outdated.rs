//! A store whose pod was made from an older configuration: it is restarted in place, one store after another.

use crate::{Decision, Observation, Phase, Step, gate, place::being_deleted};

/// The restart of a serving store that is outdated, when nothing stands against it: nobody is to move, every other
/// store of the cluster serves, and the gates for what nobody asked for are open. It is not urgent, so whatever holds
/// it back is no condition of the store.
pub(crate) fn restart(o: &Observation, holder_pod: &str) -> Option<Decision> {
    let going = o.pod.as_ref().is_none_or(|pod| pod.uid != holder_pod || being_deleted(o, pod));
    let wanted = o.outdated && !going;
    let free = o.request.is_none() && o.cluster.others_are_well && gate(o, false).is_none();
    (wanted && free)
        .then(|| Decision { phase: Phase::Draining, step: Step::DeleteGracefully(holder_pod.to_owned()) })
}
