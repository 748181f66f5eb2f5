//! PodDisruptionBudgets.

use k8s_openapi::{
    api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    apimachinery::pkg::{apis::meta::v1::OwnerReference, util::intstr::IntOrString},
};
use mailcluster_api::{labels, roles::Role};

use super::{meta, select, store_meta};
use crate::cluster::{Cluster, Store};

/// One frontend at a time.
#[must_use]
pub fn frontends(cluster: &Cluster) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: meta(cluster, cluster.names().frontend()),
        spec: Some(budget(1, labels::selector(&cluster.name, Role::Frontend))),
        status: None,
    }
}

/// A store's pod is evicted only when failover has said so (`unavailable` is 1 then, else 0): in the store's turn, after
/// its sibling was pinned.
#[must_use]
pub fn store(
    cluster: &Cluster,
    store: &Store,
    owner: &OwnerReference,
    unavailable: i32,
) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: store_meta(cluster, store, owner, store.name.clone()),
        spec: Some(budget(unavailable, labels::store_selector(&cluster.name, store.role(), &store.name))),
        status: None,
    }
}

fn budget(unavailable: i32, selector: std::collections::BTreeMap<String, String>) -> PodDisruptionBudgetSpec {
    PodDisruptionBudgetSpec {
        max_unavailable: Some(IntOrString::Int(unavailable)),
        selector: Some(select(selector)),
        // A pod that is not Ready serves nobody, and must not keep a drain waiting for ever (G5).
        unhealthy_pod_eviction_policy: Some("AlwaysAllow".into()),
        ..PodDisruptionBudgetSpec::default()
    }
}
