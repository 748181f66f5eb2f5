//! Writes children by server-side apply, but only when something differs: an idle cluster causes no writes.

mod drift;
mod surplus;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
};

use k8s_openapi::{
    NamespaceResourceScope,
    api::{apps::v1::StatefulSet, policy::v1::PodDisruptionBudget},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions},
};
use mailcluster_api::{MailCluster, MailStore, OPERATOR_FIELD_MANAGER, labels};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

use crate::{
    build::{self, annotate, keep::keep},
    cluster::{Cluster, Store},
    context::Context,
    failover::evictable,
};

pub use drift::{covers, fingerprint};
use surplus::surplus;

/// Why a child could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The API server refused or did not answer.
    #[error("failed to apply {kind} {name}")]
    Kube {
        /// The kind.
        kind: String,
        /// The object's name.
        name: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// The object cannot be written as JSON, which would be a defect.
    #[error("failed to serialize a child")]
    Json(#[from] serde_json::Error),
    /// The nodes' configuration cannot be rendered.
    #[error(transparent)]
    Config(#[from] mailcluster_api::config::ConfigError),
    /// A MailStore or MailCluster is not complete enough to build from.
    #[error("{0} is not complete yet")]
    Incomplete(String),
}

/// What a kind of child must be able to do.
pub trait Child: Resource<DynamicType = ()> + Serialize + DeserializeOwned + Clone + Debug {}
impl<K: Resource<DynamicType = ()> + Serialize + DeserializeOwned + Clone + Debug> Child for K {}

/// Applies the children of one cluster.
pub struct Applier<'a> {
    ctx: &'a Context,
    namespace: &'a str,
    cluster: &'a str,
}

impl<'a> Applier<'a> {
    /// For the children of `cluster` in `namespace`.
    #[must_use]
    pub fn new(ctx: &'a Context, namespace: &'a str, cluster: &'a str) -> Self {
        Self { ctx, namespace, cluster }
    }

    /// All children of one kind that carry the cluster's labels, by name.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn live<K>(&self) -> kube::Result<BTreeMap<String, K>>
    where
        K: Child + Resource<Scope = NamespaceResourceScope>,
    {
        let selector =
            format!("{}={},{}={OPERATOR_FIELD_MANAGER}", labels::CLUSTER, self.cluster, labels::MANAGED_BY);
        let api: Api<K> = Api::namespaced(self.ctx.client.clone(), self.namespace);
        let list = api.list(&ListParams::default().labels(&selector)).await?;
        Ok(list.items.into_iter().map(|object| (object.name_any(), object)).collect())
    }

    /// Makes `live` what is `desired`: writes what differs and returns all objects as they are then.
    ///
    /// # Errors
    /// At the first object that cannot be written.
    pub async fn apply<K>(&self, desired: Vec<K>, live: &BTreeMap<String, K>) -> Result<Vec<K>, ApplyError>
    where
        K: Child + Resource<Scope = NamespaceResourceScope>,
    {
        let api: Api<K> = Api::namespaced(self.ctx.client.clone(), self.namespace);
        let mut applied = Vec::with_capacity(desired.len());
        for object in desired {
            let name = object.name_any();
            applied.push(apply_one(self.ctx, &api, object, live.get(&name)).await?);
        }
        Ok(applied)
    }

    /// Like [`Self::apply`], but an object that was changed since `live` was read is left alone: the write is refused
    /// (409) and the whole is tried again.
    ///
    /// # Errors
    /// At the first object that cannot be written.
    pub async fn apply_unchanged<K>(
        &self,
        desired: Vec<K>,
        live: &BTreeMap<String, K>,
    ) -> Result<Vec<K>, ApplyError>
    where
        K: Child + Resource<Scope = NamespaceResourceScope>,
    {
        let api: Api<K> = Api::namespaced(self.ctx.client.clone(), self.namespace);
        let mut applied = Vec::with_capacity(desired.len());
        for object in desired {
            let found = live.get(&object.name_any());
            let version = found.and_then(ResourceExt::resource_version);
            applied.push(write(self.ctx, &api, object, found, version).await?);
        }
        Ok(applied)
    }

    /// Deletes children of this kind that the operator applied once and that are wanted no more.
    ///
    /// # Errors
    /// At the first object that cannot be deleted.
    pub async fn prune<K>(
        &self,
        wanted: &BTreeSet<String>,
        live: &BTreeMap<String, K>,
    ) -> Result<(), ApplyError>
    where
        K: Child + Resource<Scope = NamespaceResourceScope>,
    {
        let api: Api<K> = Api::namespaced(self.ctx.client.clone(), self.namespace);
        for (name, object) in live {
            let ours = object.annotations().contains_key(labels::SPEC_HASH);
            if ours && !wanted.contains(name) && object.meta().deletion_timestamp.is_none() {
                delete(&api, name, object.uid()).await.map_err(|source| failed::<K>(name, source))?;
                tracing::info!(kind = %K::kind(&()), name, namespace = self.namespace, "removed what is wanted no more");
            }
        }
        Ok(())
    }
}

/// Deletes exactly this incarnation; one that is gone already is as good.
///
/// # Errors
/// When the API server refuses for another reason.
pub async fn delete<K: Child>(api: &Api<K>, name: &str, uid: Option<String>) -> kube::Result<()> {
    let only = Preconditions { uid, resource_version: None };
    match api.delete(name, &DeleteParams { preconditions: Some(only), ..DeleteParams::default() }).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Applies one object of any scope unless `live` is it already.
///
/// # Errors
/// When it cannot be written.
pub async fn apply_one<K: Child>(
    ctx: &Context,
    api: &Api<K>,
    desired: K,
    live: Option<&K>,
) -> Result<K, ApplyError> {
    write(ctx, api, desired, live, None).await
}

async fn write<K: Child>(
    ctx: &Context,
    api: &Api<K>,
    mut desired: K,
    live: Option<&K>,
    version: Option<String>,
) -> Result<K, ApplyError> {
    let hash = fingerprint(&serde_json::to_value(&desired)?);
    desired.annotations_mut().insert(labels::SPEC_HASH.into(), hash);
    let wanted = serde_json::to_value(&desired)?;
    let found = live.map(serde_json::to_value).transpose()?;
    let current = match live {
        Some(live) if found.as_ref().is_some_and(|found| covers(found, &wanted)) => live.clone(),
        _ => {
            desired.meta_mut().resource_version = version;
            let params = PatchParams::apply(OPERATOR_FIELD_MANAGER).force();
            patch(ctx, api, &desired.name_any(), &params, &Patch::Apply(&desired)).await?
        }
    };
    // What an apply leaves there although nobody else has a say in it.
    match surplus(&K::kind(&()), &serde_json::to_value(&current)?, &wanted) {
        None => Ok(current),
        Some(mut back) => {
            back["metadata"] = json!({"resourceVersion": current.resource_version()});
            patch(ctx, api, &current.name_any(), &ours(), &Patch::Merge(back)).await
        }
    }
}

/// A change of single fields, under the operator's name.
#[must_use]
pub fn ours() -> PatchParams {
    PatchParams { field_manager: Some(OPERATOR_FIELD_MANAGER.into()), ..PatchParams::default() }
}

async fn patch<K: Child, P: Serialize + Debug>(
    ctx: &Context,
    api: &Api<K>,
    name: &str,
    params: &PatchParams,
    patch: &Patch<P>,
) -> Result<K, ApplyError> {
    let applied = api.patch(name, params, patch).await.map_err(|e| failed::<K>(name, e))?;
    ctx.metrics.writes.with_label_values(&[&K::kind(&())]).inc();
    tracing::info!(kind = %K::kind(&()), name, namespace = ?api.namespace(), "applied");
    Ok(applied)
}

fn failed<K: Child>(name: &str, source: kube::Error) -> ApplyError {
    ApplyError::Kube { kind: K::kind(&()).into_owned(), name: name.to_owned(), source: Box::new(source) }
}

/// Applies a store's StatefulSet as its MailStore says now, `pinnedNode` included. The failover part calls it after it
/// has pinned the sibling and before it deletes the old pod.
///
/// # Errors
/// When the MailCluster has no id or image yet, or the StatefulSet cannot be written.
pub async fn stateful_set(ctx: &Context, object: &MailCluster, store: &MailStore) -> Result<(), ApplyError> {
    let incomplete = || ApplyError::Incomplete(store.name_any());
    let cluster = Cluster::from_status(object).ok_or_else(incomplete)?;
    let part = Store::of(store).ok_or_else(incomplete)?;
    let owner = store.controller_owner_ref(&()).ok_or_else(incomplete)?;
    let pinned = store.spec.pinned_node.as_deref();
    let api = Api::namespaced(ctx.client.clone(), &cluster.namespace);
    let name = part.stateful_set();
    let live: Option<StatefulSet> = api.get_opt(&name).await.map_err(|e| failed::<StatefulSet>(&name, e))?;
    let account_since = live.as_ref().and_then(|set| set.annotations().get(labels::ACCOUNT_SINCE).cloned());
    let seat = Seat { pinned, old: live.as_ref(), account_since };
    let desired = rendered_set(ctx, &cluster, &part, &owner, seat)?;
    apply_one(ctx, &api, desired, live.as_ref()).await?;
    Ok(())
}

/// Applies the budget of a store's pod as its MailStore says now.
///
/// # Errors
/// When the MailCluster has no id or image yet, or the budget cannot be written.
pub async fn budget(ctx: &Context, object: &MailCluster, store: &MailStore) -> Result<(), ApplyError> {
    let incomplete = || ApplyError::Incomplete(store.name_any());
    let cluster = Cluster::from_status(object).ok_or_else(incomplete)?;
    let part = Store::of(store).ok_or_else(incomplete)?;
    let owner = store.controller_owner_ref(&()).ok_or_else(incomplete)?;
    let desired = build::disruption::store(&cluster, &part, &owner, evictable::budget(store));
    let api: Api<PodDisruptionBudget> = Api::namespaced(ctx.client.clone(), &cluster.namespace);
    let name = desired.name_any();
    let live = api.get_opt(&name).await.map_err(|e| failed::<PodDisruptionBudget>(&name, e))?;
    apply_one(ctx, &api, desired, live.as_ref()).await?;
    Ok(())
}

/// What is known of a store's StatefulSet beside the spec.
pub struct Seat<'a> {
    /// The node its pod is pinned to.
    pub pinned: Option<&'a str>,
    /// The StatefulSet that is there.
    pub old: Option<&'a StatefulSet>,
    /// Since when there has been a ServiceAccount that is younger than it.
    pub account_since: Option<String>,
}

/// A store's StatefulSet, with its template as it was rendered for this very MailCluster.
///
/// # Errors
/// When something cannot be written as YAML or JSON.
pub fn rendered_set(
    ctx: &Context,
    cluster: &Cluster,
    store: &Store,
    owner: &OwnerReference,
    seat: Seat<'_>,
) -> Result<StatefulSet, ApplyError> {
    let data = build::config::store(cluster, store, owner)?.data;
    let hash = fingerprint(&serde_json::to_value(data)?);
    let rendered = build::statefulset::template(cluster, &ctx.config, store, &hash);
    // What was rendered for the copy whose place this one has is of no use.
    let of_this = |set: &&StatefulSet| {
        let labels = set.spec.as_ref().and_then(|s| s.template.metadata.as_ref()?.labels.as_ref());
        labels.and_then(|labels| labels.get(labels::REPLICA)).is_none_or(|of| *of == store.replica)
    };
    let old = seat.old.filter(of_this).map(ResourceExt::annotations);
    let (template, kept) = keep(cluster, old, rendered)?;
    let mut set = build::statefulset::build(cluster, store, owner, template, seat.pinned);
    annotate(&mut set.metadata, kept);
    if let Some(since) = seat.account_since {
        annotate(&mut set.metadata, [(labels::ACCOUNT_SINCE.to_owned(), since)].into());
    }
    Ok(set)
}
