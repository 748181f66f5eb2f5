//! What is kept of objects that watches show: of a large cluster's pods, StatefulSets, Jobs and nodes, the parts that
//! somebody here looks at. What is read anew before a step is whole. Pure.

use k8s_openapi::{
    api::{
        apps::v1::{StatefulSet, StatefulSetSpec},
        batch::v1::Job,
        core::v1::{Node, NodeStatus, Pod, PodSpec, PodTemplateSpec},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use mailcluster_api::labels;

use super::unreadable::Invalid;

/// All of it.
///
/// # Errors
/// None, as of the others here.
pub fn whole<K>(object: K) -> Result<K, Invalid> {
    Ok(object)
}

/// A pod: where it is and may be, and how it is; not what it is made of.
///
/// # Errors
/// None.
pub fn pod(pod: Pod) -> Result<Pod, Invalid> {
    Ok(Pod { spec: pod.spec.map(place), ..pod })
}

/// Where a pod is, and what says where it may be.
fn place(spec: PodSpec) -> PodSpec {
    PodSpec {
        node_name: spec.node_name,
        affinity: spec.affinity,
        node_selector: spec.node_selector,
        tolerations: spec.tolerations,
        ..PodSpec::default()
    }
}

/// A StatefulSet: where its pods may be, and which rendering they are made from; not the rendering, which stands in its
/// annotations a second time.
///
/// # Errors
/// None.
pub fn set(mut set: StatefulSet) -> Result<StatefulSet, Invalid> {
    if let Some(annotations) = &mut set.metadata.annotations {
        annotations.retain(|key, _| key == labels::ACCOUNT_SINCE);
    }
    let template = |template: PodTemplateSpec| PodTemplateSpec {
        metadata: template.metadata.map(|metadata| ObjectMeta {
            labels: metadata.labels,
            annotations: metadata.annotations,
            ..ObjectMeta::default()
        }),
        spec: template.spec.map(place),
    };
    let spec = set
        .spec
        .map(|spec| StatefulSetSpec { template: template(spec.template), ..StatefulSetSpec::default() });
    Ok(StatefulSet { metadata: set.metadata, spec, status: None })
}

/// A fence Job: which boot it is about, and its verdict.
///
/// # Errors
/// None.
pub fn job(job: Job) -> Result<Job, Invalid> {
    Ok(Job { spec: None, ..job })
}

/// A node: which machine and boot it is, and whether it is Ready; not its images and volumes.
///
/// # Errors
/// None.
pub fn node(node: Node) -> Result<Node, Invalid> {
    let status = node.status.map(|status| NodeStatus {
        conditions: status.conditions,
        node_info: status.node_info,
        ..NodeStatus::default()
    });
    Ok(Node { status, ..node })
}

#[cfg(test)]
mod tests {
    use kube::ResourceExt;
    use serde_json::json;

    use super::*;
    use crate::failover::observe::tests::{frozen, heard_still, seen};

    /// Whatever is decided follows from what is kept as it does from the whole.
    #[test]
    fn what_is_kept_is_all_that_decisions_depend_on() {
        let mut world = frozen();
        let full: StatefulSet = serde_json::from_value(json!({
            "metadata": {"name": "demo-0-a", "namespace": "mail", "annotations": {
                labels::ACCOUNT_SINCE: "2026-01-01T00:00:00Z", "mailcluster.io/rendered": "x".repeat(9_000)}},
            "spec": {"selector": {}, "serviceName": "s", "template": {
                "metadata": {"annotations": {labels::TEMPLATE_HASH: "b"}, "labels": {labels::REPLICA: "aa"}},
                "spec": {"containers": [{"name": "node", "env": [{"name": "A", "value": "B"}]}],
                    "nodeSelector": {"disk": "fast"}, "tolerations": [{"key": "dedicated", "operator": "Exists"}],
                    "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                        "nodeSelectorTerms": [{"matchFields": [
                            {"key": "metadata.name", "operator": "In", "values": ["n1"]}]}]}}}}}},
            "status": {"replicas": 1},
        }))
        .unwrap();
        let mut made = (*world.pods[0]).clone();
        made.metadata.creation_timestamp = serde_json::from_value(json!("2025-01-01T00:00:00Z")).unwrap();
        made.spec.as_mut().unwrap().affinity =
            full.spec.as_ref().unwrap().template.spec.as_ref().unwrap().affinity.clone();
        made.spec.as_mut().unwrap().containers = serde_json::from_value(json!([{"name": "node"}])).unwrap();
        let mut machine = (*world.nodes[0]).clone();
        machine.spec = serde_json::from_value(json!({"unschedulable": true,
            "taints": [{"key": "dedicated", "effect": "NoSchedule"}]}))
        .unwrap();
        machine.status.as_mut().unwrap().images = serde_json::from_value(json!([{"names": ["a"]}])).unwrap();
        world.sets.put(full.clone().into());
        world.pods.put(made.clone().into());
        world.nodes.put(machine.clone().into());
        let whole = seen(&world, &heard_still());
        assert!(whole.outdated && whole.unauthorised && whole.template_pin.is_some(), "nothing is looked at");
        let kept = set(full).unwrap();
        assert!(!kept.annotations().contains_key("mailcluster.io/rendered"));
        world.sets.put(kept.into());
        let kept = pod(made).unwrap();
        assert!(kept.spec.as_ref().unwrap().containers.is_empty());
        world.pods.put(kept.into());
        let kept = node(machine).unwrap();
        assert_eq!(kept.status.as_ref().unwrap().images, None);
        world.nodes.put(kept.into());
        assert_eq!(seen(&world, &heard_still()), whole);
    }
}
