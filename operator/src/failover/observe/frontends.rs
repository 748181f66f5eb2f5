//! What the frontends on Ready nodes say of a store: pure.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt;
use mailcluster_api::MailStore;
use mailcluster_failover::{Millis, Reach};

use super::Heard;
use crate::failover::cache::World;

/// What the frontends say of a store. Those count that can be expected to answer; one on the holder's own node that is
/// silent may have gone with it, long before Kubernetes says so, and is not waited for.
pub(super) fn reach(
    world: &World,
    heard: &Heard,
    store: &MailStore,
    lease_ms: Millis,
    holder_node: Option<&str>,
) -> Reach {
    let ready: BTreeSet<String> = world.nodes.iter().filter(|n| is_ready(n)).map(|n| n.name_any()).collect();
    let name = store.name_any();
    let mut seen = Reach::default();
    for pod in world.pods.iter().filter(|p| is_frontend_of(p, store) && is_on(p, &ready)) {
        let uid = pod.uid().unwrap_or_default();
        let report = heard.reports.get(&uid);
        let beside = pod.spec.as_ref().and_then(|s| s.node_name.as_deref()) == holder_node;
        let counts = is_in_service(pod) && (report.is_some() || !beside);
        let reaches = report.is_some_and(|report| {
            report.iter().any(|s| s.store == name && s.reachable && s.age_ms < lease_ms)
        });
        seen.frontends += usize::from(counts);
        seen.answered += usize::from(counts && report.is_some());
        let is_awaited =
            report.is_none() && heard.awaited.as_ref().is_none_or(|awaited| awaited.contains(&uid));
        seen.pending += usize::from(counts && is_awaited);
        // Whoever reaches it says so, whether or not clients are sent there.
        seen.reach += usize::from(reaches);
    }
    seen
}

/// Is it worth asking this frontend? One that the leader's probes have taken out of the Service does not answer.
#[must_use]
pub fn may_answer(pod: &Pod) -> bool {
    let Some(status) = &pod.status else { return false };
    let gate = status.conditions.iter().flatten().find(|c| c.type_ == mailcluster_api::FRONTEND_GATE);
    status.phase.as_deref() == Some("Running") && gate.is_none_or(|c| c.status != "False")
}

/// Can it be expected to answer: it runs, its containers are ready, it is not being deleted, and probes reach it?
fn is_in_service(pod: &Pod) -> bool {
    let containers = pod.status.as_ref().and_then(|s| s.container_statuses.as_ref());
    may_answer(pod)
        && pod.metadata.deletion_timestamp.is_none()
        && containers.is_some_and(|all| !all.is_empty() && all.iter().all(|c| c.ready))
}

/// The nodes that are not Ready.
#[must_use]
pub fn lost_nodes(world: &World) -> BTreeSet<String> {
    world.nodes.iter().filter(|n| !is_ready(n)).map(|n| n.name_any()).collect()
}

/// Is this pod on one of these nodes?
#[must_use]
pub fn is_on(pod: &Pod, nodes: &BTreeSet<String>) -> bool {
    pod.spec.as_ref().and_then(|s| s.node_name.as_ref()).is_some_and(|node| nodes.contains(node))
}

/// Is this pod a frontend of the store's cluster?
#[must_use]
pub fn is_frontend_of(pod: &Pod, store: &MailStore) -> bool {
    use mailcluster_api::labels;
    pod.namespace() == store.namespace()
        && pod.labels().get(labels::CLUSTER) == Some(&store.spec.cluster)
        && pod.labels().get(labels::COMPONENT).is_some_and(|c| c == "frontend")
}

fn is_ready(node: &Node) -> bool {
    super::nodes::node_view(node, 0).ready
}
