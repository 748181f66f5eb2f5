//! What claims and volumes say: whose they are, and which nodes reach them. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Node, NodeSelectorTerm, PersistentVolume, PersistentVolumeClaim};
use kube::ResourceExt;
use mailcluster_api::{labels, mailstore::FailoverMode};
use serde_json::{Value, json};

use crate::cluster::Invalid;

/// Does this claim ask for a volume by name that it has not got yet?
#[must_use]
pub fn binds_by_name(claim: &PersistentVolumeClaim) -> bool {
    let named = claim.spec.as_ref().is_some_and(|spec| spec.volume_name.is_some());
    named && claim.status.as_ref().and_then(|status| status.phase.as_deref()) != Some("Bound")
}

/// The reclaim policy of volumes that hold mail: the end of a claim is not the end of its volume.
const RETAIN: &str = "Retain";

/// A replica that a claim or a volume tells of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The replica's id.
    pub replica: String,
    /// The claim's name.
    pub claim: String,
    /// The volume, when it is known.
    pub volume: Option<String>,
}

/// The clusters that this namespace's and name's claims and volumes belong to.
///
/// # Errors
/// When there are two.
pub fn cluster_id(
    namespace: &str,
    cluster: &str,
    claims: &[PersistentVolumeClaim],
    volumes: &[PersistentVolume],
) -> Result<Option<String>, Invalid> {
    let of_claims = claims.iter().map(ResourceExt::labels);
    let of_volumes = volumes.iter().map(ResourceExt::labels).filter(|l| is_of(l, namespace, cluster));
    let ids: BTreeSet<&String> =
        of_claims.chain(of_volumes).filter_map(|l| l.get(labels::CLUSTER_ID)).collect();
    if ids.len() > 1 {
        return Err(Invalid::TwoClusters(ids.into_iter().cloned().collect()));
    }
    Ok(ids.into_iter().next().cloned())
}

fn is_of(found: &BTreeMap<String, String>, namespace: &str, cluster: &str) -> bool {
    found.get(labels::CLUSTER).is_some_and(|c| c == cluster)
        && found.get(labels::CLUSTER_NAMESPACE).is_some_and(|n| n == namespace)
}

/// The copies of `store` that claims and volumes tell of, by their ids; those are none whose places others have.
#[must_use]
pub fn replicas_of(
    store: &str,
    namespace: &str,
    claims: &[PersistentVolumeClaim],
    volumes: &[PersistentVolume],
) -> Vec<Known> {
    let mut found: BTreeMap<String, Known> = BTreeMap::new();
    let is_kept = |labels: &BTreeMap<String, String>| labels.contains_key(labels::RETIRED);
    let of_store = |c: &&PersistentVolumeClaim| c.labels().get(labels::STORE).is_some_and(|s| s == store);
    for claim in claims.iter().filter(of_store).filter(|c| !is_kept(c.labels())) {
        if let Some(replica) = claim.labels().get(labels::REPLICA) {
            let volume = claim.spec.as_ref().and_then(|s| s.volume_name.clone());
            found
                .insert(replica.clone(), Known { replica: replica.clone(), claim: claim.name_any(), volume });
        }
    }
    for volume in volumes {
        let l = volume.labels();
        let (Some(s), Some(replica), Some(ns)) =
            (l.get(labels::STORE), l.get(labels::REPLICA), l.get(labels::CLUSTER_NAMESPACE))
        else {
            continue;
        };
        if s == store && ns == namespace && !is_kept(l) {
            let claim = mailcluster_api::names::StoreNames::new(store).claim(replica);
            let known = Known { replica: replica.clone(), claim, volume: Some(volume.name_any()) };
            found.entry(replica.clone()).or_insert(known);
        }
    }
    found.into_values().collect()
}

/// The nodes that reach a volume; `None`: any of them.
#[must_use]
pub fn reached_from<'a>(
    volume: &PersistentVolume,
    nodes: impl IntoIterator<Item = &'a Node>,
) -> Option<Vec<String>> {
    let required = volume.spec.as_ref()?.node_affinity.as_ref()?.required.as_ref()?;
    let reaches = |node: &&Node| required.node_selector_terms.iter().any(|term| matches(term, node));
    Some(nodes.into_iter().filter(reaches).map(ResourceExt::name_any).collect())
}

/// Does a node meet all of a term's expressions? Operators that are not known are met by none.
fn matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    let labels = node.labels();
    let expressions = term.match_expressions.iter().flatten();
    let fields = term.match_fields.iter().flatten();
    expressions.clone().count() + fields.clone().count() > 0
        && expressions.into_iter().all(|e| holds(&e.operator, e.values.as_deref(), labels.get(&e.key)))
        && fields.into_iter().all(|e| {
            e.key == "metadata.name" && holds(&e.operator, e.values.as_deref(), node.metadata.name.as_ref())
        })
}

fn holds(operator: &str, values: Option<&[String]>, found: Option<&String>) -> bool {
    let listed = || found.is_some_and(|f| values.unwrap_or_default().contains(f));
    let number = |text: Option<&String>| text.and_then(|t| t.parse::<i64>().ok());
    let bound = || number(values.unwrap_or_default().first());
    match operator {
        "In" => listed(),
        "NotIn" => !listed(),
        "Exists" => found.is_some(),
        "DoesNotExist" => found.is_none(),
        "Gt" => number(found).zip(bound()).is_some_and(|(f, b)| f > b),
        "Lt" => number(found).zip(bound()).is_some_and(|(f, b)| f < b),
        _ => false,
    }
}

/// What can be done when the node of a store with this volume dies.
#[must_use]
pub fn failover_mode(volume: &PersistentVolume, nodes: &[Node]) -> FailoverMode {
    match reached_from(volume, nodes) {
        Some(nodes) if nodes.len() < 2 => FailoverMode::None,
        _ => FailoverMode::Reattach,
    }
}

/// Is this volume free of its last claim, but still pointing to it, so that the same claim made anew must be let in?
#[must_use]
pub fn waits_for_claim(volume: &PersistentVolume, namespace: &str, claim: &str) -> bool {
    let reference = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref());
    let phase = volume.status.as_ref().and_then(|s| s.phase.as_deref());
    phase == Some("Released")
        && reference.is_some_and(|r| {
            r.uid.is_some() && r.name.as_deref() == Some(claim) && r.namespace.as_deref() == Some(namespace)
        })
}

/// A merge patch that makes a volume ours: `labels` say whose copy it holds, and it outlives its claim. `None` when it is.
#[must_use]
pub fn keep_patch(volume: &PersistentVolume, labels: &BTreeMap<String, String>) -> Option<Value> {
    let mut patch = json!({});
    if labels.iter().any(|(key, value)| volume.labels().get(key) != Some(value)) {
        patch["metadata"]["labels"] = json!(labels);
    }
    let policy = volume.spec.as_ref().and_then(|s| s.persistent_volume_reclaim_policy.as_deref());
    if let Some(policy) = policy.filter(|policy| *policy != RETAIN) {
        patch["spec"]["persistentVolumeReclaimPolicy"] = json!(RETAIN);
        patch["metadata"]["annotations"][labels::RECLAIM_POLICY] = json!(policy);
    }
    patch.as_object().is_some_and(|fields| !fields.is_empty()).then_some(patch)
}

/// A merge patch that gives a volume up: it is no copy of ours any more, and goes with its claim if it did so before.
#[must_use]
pub fn give_up_patch(volume: &PersistentVolume) -> Value {
    let ours = [
        labels::CLUSTER,
        labels::CLUSTER_NAMESPACE,
        labels::CLUSTER_ID,
        labels::STORE,
        labels::REPLICA,
        labels::RETIRED,
    ];
    let gone: BTreeMap<&str, Value> = ours.into_iter().map(|key| (key, Value::Null)).collect();
    let mut patch = json!({"metadata": {"labels": gone}});
    if let Some(before) = volume.annotations().get(labels::RECLAIM_POLICY) {
        patch["spec"]["persistentVolumeReclaimPolicy"] = json!(before);
        patch["metadata"]["annotations"][labels::RECLAIM_POLICY] = Value::Null;
    }
    patch
}

/// Was this claim ever bound? One that was not holds nothing.
#[must_use]
pub fn was_bound(claim: &PersistentVolumeClaim) -> bool {
    claim.spec.as_ref().is_some_and(|s| s.volume_name.as_ref().is_some_and(|name| !name.is_empty()))
}

#[cfg(test)]
#[path = "volumes/tests.rs"]
mod tests;
