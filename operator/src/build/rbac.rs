//! ServiceAccounts and what they may do: as little as their roles need. No mail pod may read Secrets through the API.

use k8s_openapi::{
    api::{
        core::v1::ServiceAccount,
        rbac::v1::{ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject},
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use mailcluster_api::{GROUP, labels};

use super::{meta, store_meta};
use crate::cluster::{Cluster, Store};

const RBAC: &str = "rbac.authorization.k8s.io";

/// A ServiceAccount with its Role and the binding of the two.
pub struct Account {
    /// The account.
    pub account: ServiceAccount,
    /// What it may do; none: nothing.
    pub role: Option<(Role, RoleBinding)>,
}

/// The frontends': they watch the routing table.
#[must_use]
pub fn frontends(cluster: &Cluster) -> Account {
    account(meta(cluster, cluster.names().frontend()), vec![routes()])
}

/// A store's pods: they renew their own lease, tell their own route, and know the other stores' routes, to hand mail
/// over and to find the directory.
#[must_use]
pub fn store(cluster: &Cluster, store: &Store, owner: &OwnerReference) -> Account {
    let own = vec![store.name.clone()];
    let rules = vec![
        rule("coordination.k8s.io", "leases", &["get", "update"], own.clone()),
        routes(),
        rule(GROUP, "mailstores/status", &["patch"], own),
    ];
    account(store_meta(cluster, store, owner, store.name.clone()), rules)
}

/// The account whose tokens admit to the directory's admin port. It may do nothing in the Kubernetes API.
#[must_use]
pub fn admin(cluster: &Cluster) -> Account {
    let mut account = account(meta(cluster, cluster.names().admin()), vec![]);
    account.account.automount_service_account_token = Some(false);
    account
}

/// Lets the directory ask the API server whose a token is. Belongs to the cluster scope, so nothing owns it: it is
/// removed when the MailCluster is.
#[must_use]
pub fn token_review(cluster: &Cluster, cluster_role: &str) -> ClusterRoleBinding {
    let mut own = labels::common(&cluster.name);
    own.insert(labels::CLUSTER_NAMESPACE.into(), cluster.namespace.clone());
    ClusterRoleBinding {
        metadata: ObjectMeta {
            name: Some(cluster.names().token_review(&cluster.namespace)),
            labels: Some(own),
            ..ObjectMeta::default()
        },
        role_ref: RoleRef { api_group: RBAC.into(), kind: "ClusterRole".into(), name: cluster_role.into() },
        subjects: Some(vec![subject(cluster.names().directory(), Some(cluster.namespace.clone()))]),
    }
}

fn routes() -> PolicyRule {
    rule(GROUP, "mailstores", &["get", "list", "watch"], vec![])
}

fn rule(group: &str, resource: &str, verbs: &[&str], names: Vec<String>) -> PolicyRule {
    PolicyRule {
        api_groups: Some(vec![group.into()]),
        resources: Some(vec![resource.into()]),
        resource_names: Some(names).filter(|names| !names.is_empty()),
        verbs: verbs.iter().map(|v| (*v).to_owned()).collect(),
        non_resource_urls: None,
    }
}

fn subject(name: String, namespace: Option<String>) -> Subject {
    Subject { kind: "ServiceAccount".into(), name, namespace, api_group: None }
}

fn account(metadata: ObjectMeta, rules: Vec<PolicyRule>) -> Account {
    let name = metadata.name.clone().unwrap_or_default();
    let role = (!rules.is_empty()).then(|| {
        let role = Role { metadata: metadata.clone(), rules: Some(rules) };
        let binding = RoleBinding {
            metadata: metadata.clone(),
            role_ref: RoleRef { api_group: RBAC.into(), kind: "Role".into(), name: name.clone() },
            subjects: Some(vec![subject(name, metadata.namespace.clone())]),
        };
        (role, binding)
    });
    Account { account: ServiceAccount { metadata, ..ServiceAccount::default() }, role }
}
