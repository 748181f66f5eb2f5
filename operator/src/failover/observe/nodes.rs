//! Nodes, and where a store's holder and pod sit: pure.

use std::sync::Arc;

use k8s_openapi::{
    api::{
        apps::v1::StatefulSet,
        core::v1::{Node, Pod, PodSpec, Taint, Toleration},
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::ResourceExt;
use mailcluster_api::{MailStore, mailstore};
use mailcluster_failover::{LeaseView, Millis, NodeView, Placement};

use super::survey::Survey;
use crate::failover::{annotations as keys, cache::World};

/// Taints that say what the node's conditions and its cordon say already.
const CONDITIONS: [&str; 3] =
    ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable", "node.kubernetes.io/unschedulable"];

/// All nodes, as they matter to this store.
pub(super) fn nodes(world: &World, survey: &Survey, store: &MailStore) -> Vec<NodeView> {
    let template = world.set(store).and_then(|s| s.spec.as_ref()?.template.spec.as_ref());
    let seen = |(node, view): (&Arc<Node>, &NodeView)| NodeView {
        admits: template.is_none_or(|spec| admits(node, spec)),
        stores: survey.others_on(&view.name, store),
        ..view.clone()
    };
    world.nodes.iter().zip(&survey.nodes).map(seen).collect()
}

/// A node by itself.
#[must_use]
pub fn node_view(node: &Node, now: i64) -> NodeView {
    let spec = node.spec.as_ref();
    let status = node.status.as_ref();
    let info = status.and_then(|s| s.node_info.as_ref());
    let condition = status.and_then(|s| s.conditions.iter().flatten().find(|c| c.type_ == "Ready"));
    let ready = condition.is_some_and(|c| c.status == "True");
    let taints = spec.and_then(|s| s.taints.as_ref());
    NodeView {
        name: node.name_any(),
        uid: node.uid().unwrap_or_default(),
        ready,
        unready_ms: since(condition.filter(|_| !ready).and_then(|c| c.last_transition_time.as_ref()), now),
        unschedulable: spec.and_then(|s| s.unschedulable).unwrap_or(false),
        out_of_service: taints
            .is_some_and(|all| all.iter().any(|t| t.key == "node.kubernetes.io/out-of-service")),
        boot_id: info.map(|i| i.boot_id.clone()).unwrap_or_default(),
        system_uuid: info.map(|i| i.system_uuid.clone()).unwrap_or_default(),
        admits: true,
        stores: 0,
    }
}

/// For how long something has been so; 0 when that is not said.
pub(super) fn since(time: Option<&Time>, now: i64) -> Millis {
    let seconds = time.map_or(0, |t| now.saturating_sub(t.0.as_second()));
    u64::try_from(seconds).unwrap_or(0) * 1000
}

/// Do a pod's node selector and tolerations let it onto the node?
fn admits(node: &Node, spec: &PodSpec) -> bool {
    let selected =
        spec.node_selector.iter().flatten().all(|(key, value)| node.labels().get(key) == Some(value));
    let none = Vec::new();
    let tolerations = spec.tolerations.as_ref().unwrap_or(&none);
    let taints = node.spec.iter().flat_map(|s| s.taints.iter().flatten());
    selected
        && taints
            .filter(|t| matches!(t.effect.as_str(), "NoSchedule" | "NoExecute"))
            .filter(|t| !CONDITIONS.contains(&t.key.as_str()))
            .all(|taint| tolerations.iter().any(|t| tolerates(t, taint)))
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let empty = |text: &Option<String>| text.as_deref().unwrap_or_default().is_empty();
    let exists = toleration.operator.as_deref() == Some("Exists");
    let effect = empty(&toleration.effect) || toleration.effect.as_ref() == Some(&taint.effect);
    let key = toleration.key.as_ref() == Some(&taint.key) || (exists && empty(&toleration.key));
    let value = exists
        || toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default();
    effect && key && value
}

/// Where the lease's holder runs. Its own word counts first: node and boot stand in the lease, written by the process
/// that took it; the Node object may show another boot by now, or an older one still. The machine's id is as recorded
/// while it renewed, or as the Node shows it under that same boot.
pub(super) fn placement(
    store: &MailStore,
    status: &mailstore::MailStoreStatus,
    lease: Option<&LeaseView>,
    pod: Option<&Pod>,
    nodes: &[NodeView],
) -> Option<Placement> {
    let recorded =
        store.annotations().get(keys::HELD_BY).zip(status.node_identity.as_ref()).map(|(uid, n)| Placement {
            pod_uid: uid.clone(),
            node: n.node.clone(),
            boot_id: n.boot_id.clone(),
            system_uuid: n.system_uuid.clone(),
        });
    let Some((holder, seat)) =
        lease.and_then(|l| Some((l.record.holder.as_ref()?, l.record.seat.as_deref())))
    else {
        // Nobody holds it: the pod that is there, which may be the one that released it.
        let there = pod.and_then(|p| seat_of(p, nodes));
        return match (recorded, there) {
            (Some(recorded), Some(there)) if recorded.pod_uid != there.pod_uid => Some(there),
            (recorded, there) => recorded.or(there),
        };
    };
    let recorded = recorded.filter(|p| p.pod_uid == holder.pod_uid);
    let said =
        seat.and_then(|s| s.rsplit_once('@')).filter(|(node, boot)| !node.is_empty() && !boot.is_empty());
    if let Some((node, boot_id)) = said {
        let machine = recorded.filter(|p| p.node == node).map(|p| p.system_uuid);
        let shown =
            || nodes.iter().find(|n| n.name == node && n.boot_id == boot_id).map(|n| n.system_uuid.clone());
        return Some(Placement {
            pod_uid: holder.pod_uid.clone(),
            node: node.to_owned(),
            boot_id: boot_id.to_owned(),
            system_uuid: machine.or_else(shown).unwrap_or_default(),
        });
    }
    recorded.or_else(|| seat_of(pod?, nodes).filter(|p| p.pod_uid == holder.pod_uid))
}

/// Where a pod runs now.
#[must_use]
pub fn seat_of(pod: &Pod, nodes: &[NodeView]) -> Option<Placement> {
    let node = pod.spec.as_ref()?.node_name.as_deref()?;
    let node = nodes.iter().find(|n| n.name == node)?;
    Some(Placement {
        pod_uid: pod.uid()?,
        node: node.name.clone(),
        boot_id: node.boot_id.clone(),
        system_uuid: node.system_uuid.clone(),
    })
}

/// The node that a StatefulSet's template names.
#[must_use]
pub fn template_pin(set: &StatefulSet) -> Option<String> {
    pin_of(set.spec.as_ref()?.template.spec.as_ref()?)
}

/// The node that a pod's own affinity names.
pub(super) fn pin_of(spec: &PodSpec) -> Option<String> {
    let affinity = spec.affinity.as_ref()?.node_affinity.as_ref()?;
    let required = affinity.required_during_scheduling_ignored_during_execution.as_ref()?;
    let fields = required.node_selector_terms.iter().flat_map(|t| t.match_fields.iter().flatten());
    fields.filter(|f| f.key == "metadata.name").find_map(|f| f.values.as_ref()?.first().cloned())
}
