//! What the frontends on Ready nodes say of a store: pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt;
use mailcluster_api::{MailStore, labels};
use mailcluster_failover::{Millis, Reach};
use mailcluster_rpc::control::v1::StoreReach;

use super::Heard;
use crate::failover::cache::World;

/// The frontends on Ready nodes, by the namespace and the name of their cluster.
pub(super) type Frontends = BTreeMap<(String, String), Vec<Frontend>>;

/// One of them.
#[derive(Debug)]
pub(super) struct Frontend {
    node: Option<String>,
    is_in_service: bool,
    is_awaited: bool,
    /// The stores that it reaches by its own word, and how old that is; none: it has not answered.
    reaches: Option<BTreeMap<String, Millis>>,
}

/// All of them.
pub(super) fn frontends(world: &World, heard: &Heard) -> Frontends {
    let ready: BTreeSet<&str> =
        world.nodes.iter().filter(|n| is_ready(n)).filter_map(|n| n.metadata.name.as_deref()).collect();
    let mut all = Frontends::new();
    for pod in &world.pods {
        let node = pod.spec.as_ref().and_then(|s| s.node_name.as_deref());
        if !is_frontend(pod) || !node.is_some_and(|node| ready.contains(node)) {
            continue;
        }
        let Some(cluster) = pod.labels().get(labels::CLUSTER) else { continue };
        let uid = pod.uid().unwrap_or_default();
        let one = Frontend {
            node: node.map(str::to_owned),
            is_in_service: is_in_service(pod),
            is_awaited: heard.awaited.as_ref().is_none_or(|awaited| awaited.contains(&uid)),
            reaches: heard.reports.get(&uid).map(|report| reached(report)),
        };
        all.entry((pod.namespace().unwrap_or_default(), cluster.clone())).or_default().push(one);
    }
    all
}

fn reached(report: &[StoreReach]) -> BTreeMap<String, Millis> {
    let mut youngest = BTreeMap::new();
    for store in report.iter().filter(|store| store.reachable) {
        let age = youngest.entry(store.store.clone()).or_insert(store.age_ms);
        *age = store.age_ms.min(*age);
    }
    youngest
}

/// What the frontends say of a store. Those count that can be expected to answer; one on the holder's own node that is
/// silent may have gone with it, long before Kubernetes says so, and is not waited for.
pub(super) fn reach(
    all: &Frontends,
    store: &MailStore,
    lease_ms: Millis,
    holder_node: Option<&str>,
) -> Reach {
    let of = (store.namespace().unwrap_or_default(), store.spec.cluster.clone());
    let name = store.metadata.name.as_deref().unwrap_or_default();
    let mut seen = Reach::default();
    for frontend in all.get(&of).into_iter().flatten() {
        let answered = frontend.reaches.is_some();
        let beside = frontend.node.as_deref() == holder_node;
        let counts = frontend.is_in_service && (answered || !beside);
        let age = frontend.reaches.as_ref().and_then(|reaches| reaches.get(name));
        seen.frontends += usize::from(counts);
        seen.answered += usize::from(counts && answered);
        seen.pending += usize::from(counts && !answered && frontend.is_awaited);
        // Whoever reaches it says so, whether or not clients are sent there.
        seen.reach += usize::from(age.is_some_and(|age| *age < lease_ms));
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

/// Is this pod a frontend?
#[must_use]
pub fn is_frontend(pod: &Pod) -> bool {
    pod.labels().get(labels::COMPONENT).is_some_and(|c| c == "frontend")
}

fn is_ready(node: &Node) -> bool {
    super::nodes::node_view(node, 0).ready
}
