//! Labels and annotations of our objects.

use std::collections::BTreeMap;

/// `app.kubernetes.io/name`; its value is [`APP_NAME`] on every object.
pub const NAME: &str = "app.kubernetes.io/name";
/// The value of [`NAME`].
pub const APP_NAME: &str = "mailcluster";
/// The MailCluster's name.
pub const INSTANCE: &str = "app.kubernetes.io/instance";
/// The role of a pod: see [`crate::roles::Role`].
pub const COMPONENT: &str = "app.kubernetes.io/component";
/// `mailcluster-operator` on everything it applies.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The MailCluster's name; on everything, volumes included.
pub const CLUSTER: &str = "mailcluster.io/cluster";
/// The namespace of the MailCluster; on PersistentVolumes, which have none.
pub const CLUSTER_NAMESPACE: &str = "mailcluster.io/cluster-namespace";
/// The cluster id, 32 hexadecimal digits; on volumes and claims.
pub const CLUSTER_ID: &str = "mailcluster.io/cluster-id";
/// The store's name.
pub const STORE: &str = "mailcluster.io/store";
/// The replica's id, 32 hexadecimal digits.
pub const REPLICA: &str = "mailcluster.io/replica";
/// What a copy of a mirrored store is called among those of the store; on its pods.
pub const COPY: &str = "mailcluster.io/copy";
/// `true` on claims and volumes of copies that others have taken the place of: they are served no more, and kept.
pub const RETIRED: &str = "mailcluster.io/retired";
/// Annotation of PersistentVolumes: the reclaim policy before the operator set it to Retain, for when they are given up.
pub const RECLAIM_POLICY: &str = "mailcluster.io/reclaim-policy";
/// Annotation: a hash of what the operator applied last, so that nothing is written twice.
pub const SPEC_HASH: &str = "mailcluster.io/spec-hash";
/// Annotation: what the operator rendered for pods when the MailCluster asked for it last. A newer operator goes on with
/// it until the MailCluster asks for something else.
pub const RENDERED: &str = "mailcluster.io/rendered";
/// Annotation: for which MailCluster, generation and spec that was.
pub const RENDERED_FOR: &str = "mailcluster.io/rendered-for";
/// Annotation of stores' pods: a hash of what they were made from; one that differs from its StatefulSet's is restarted
/// when the others serve.
pub const TEMPLATE_HASH: &str = "mailcluster.io/template-hash";
/// Annotation: since when there has been a ServiceAccount that was made anew. The API server refuses the tokens of pods
/// that are older.
pub const ACCOUNT_SINCE: &str = "mailcluster.io/account-since";
/// Annotation of pods: a hash of their configuration, so that a change replaces them.
pub const CONFIG_HASH: &str = "mailcluster.io/config-hash";

/// The labels of every object of a cluster.
#[must_use]
pub fn common(cluster: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        (NAME.into(), APP_NAME.into()),
        (INSTANCE.into(), cluster.into()),
        (MANAGED_BY.into(), crate::OPERATOR_FIELD_MANAGER.into()),
        (CLUSTER.into(), cluster.into()),
    ])
}

/// The labels that select the pods of one role of a cluster.
#[must_use]
pub fn selector(cluster: &str, role: crate::roles::Role) -> BTreeMap<String, String> {
    BTreeMap::from([
        (NAME.into(), APP_NAME.into()),
        (INSTANCE.into(), cluster.into()),
        (COMPONENT.into(), role.as_str().into()),
    ])
}

/// The labels that select the pods of one store.
#[must_use]
pub fn store_selector(cluster: &str, role: crate::roles::Role, store: &str) -> BTreeMap<String, String> {
    let mut labels = selector(cluster, role);
    labels.insert(STORE.into(), store.into());
    labels
}
