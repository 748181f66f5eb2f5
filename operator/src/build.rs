//! Builds every child of a MailCluster: pure functions from [`Cluster`] and the operator's configuration.

pub mod claim;
pub mod config;
pub mod deployment;
pub mod disruption;
pub mod keep;
pub mod mailstore;
pub mod network;
pub mod pod;
pub mod rbac;
pub mod secret;
pub mod service;
pub mod statefulset;
pub mod tokens;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use mailcluster_api::labels;

use crate::cluster::{Cluster, Store};

/// The taints of a node that is away.
pub const NODE_AWAY: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

/// Metadata of a child of the cluster itself.
#[must_use]
pub fn meta(cluster: &Cluster, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(cluster.namespace.clone()),
        labels: Some(labels::common(&cluster.name)),
        owner_references: Some(vec![cluster.owner.clone()]),
        ..ObjectMeta::default()
    }
}

/// Metadata of a child of a store; `owner` is the MailStore.
#[must_use]
pub fn store_meta(cluster: &Cluster, store: &Store, owner: &OwnerReference, name: String) -> ObjectMeta {
    let mut labels = labels::common(&cluster.name);
    labels.insert(labels::STORE.into(), store.name.clone());
    ObjectMeta {
        name: Some(name),
        namespace: Some(cluster.namespace.clone()),
        labels: Some(labels),
        owner_references: Some(vec![owner.clone()]),
        ..ObjectMeta::default()
    }
}

/// Adds annotations to an object's own.
pub fn annotate(metadata: &mut ObjectMeta, annotations: BTreeMap<String, String>) {
    metadata.annotations.get_or_insert_with(BTreeMap::new).extend(annotations);
}

/// A selector of exactly these labels.
#[must_use]
pub fn select(labels: BTreeMap<String, String>) -> LabelSelector {
    LabelSelector { match_labels: Some(labels), ..LabelSelector::default() }
}

#[cfg(test)]
#[path = "build/tests.rs"]
pub(crate) mod tests;
