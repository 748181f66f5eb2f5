//! A store whose pod must be made anew where it is: from another configuration, or because the API server refuses its
//! tokens. One store after another.

use crate::{Decision, Observation, Phase, Step, gate, place::being_deleted};

/// The restart of a serving store that is outdated, when nothing stands against it: nobody is to move, every other
/// store of the cluster serves, and the gates for what nobody asked for are open. It is not urgent, so whatever holds
/// it back is no condition of the store.
pub(crate) fn restart(o: &Observation, holder_pod: &str) -> Option<Decision> {
    (o.outdated && o.cluster.others_are_well).then(|| in_place(o, holder_pod)).flatten()
}

/// The restart of a store that frontends reach and that cannot renew its lease, as its pod has no account any more.
/// That may be so of all stores at once, so they don't wait for each other to serve, only for their turn.
pub(crate) fn reauthorise(o: &Observation, holder_pod: &str) -> Option<Decision> {
    let turn = o.cluster.moving == 0 && !o.cluster.directory_first;
    (o.unauthorised && turn).then(|| in_place(o, holder_pod)).flatten()
}

fn in_place(o: &Observation, holder_pod: &str) -> Option<Decision> {
    let going = o.pod.as_ref().is_none_or(|pod| pod.uid != holder_pod || being_deleted(o, pod));
    let free = o.request.is_none() && gate(o, false).is_none();
    (free && !going)
        .then(|| Decision { phase: Phase::Draining, step: Step::DeleteGracefully(holder_pod.to_owned()) })
}
