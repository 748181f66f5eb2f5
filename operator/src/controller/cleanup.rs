//! Takes things down in order: pods first, then what they were held by; volumes stay unless asked otherwise.

use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    coordination::v1::Lease,
    core::v1::{PersistentVolume, PersistentVolumeClaim, Pod},
    rbac::v1::ClusterRoleBinding,
};
use kube::{
    Api, Resource, ResourceExt,
    api::{ListParams, Patch},
    runtime::{controller::Action, events::EventType},
};
use mailcluster_api::{
    FINALIZER, MailCluster, MailStore, labels, mailcluster::DeletionPolicy, names::ClusterNames,
};
use serde_json::json;

use super::{Error, observe::Observed, reconcile::tell};
use crate::{
    apply::{self, Child},
    cluster::{Cluster, Store},
    context::Context,
    volumes,
};

/// Takes a cluster down. Returns once nothing of it is left that holds it; otherwise it is called again.
///
/// # Errors
/// When the API server does not answer, or pods still run.
pub async fn take_down(ctx: &Context, object: &MailCluster) -> Result<Action, Error> {
    let (name, namespace) = (object.name_any(), object.namespace().unwrap_or_default());
    let of_cluster = format!("{}={name}", labels::CLUSTER);
    delete_all::<Deployment>(ctx, &namespace, &of_cluster).await?;
    delete_all::<StatefulSet>(ctx, &namespace, &of_cluster).await?;
    let pods = running(ctx, &namespace, &of_cluster).await?;
    if !pods.is_empty() {
        let note = format!("waiting for the end of {}", pods.join(", "));
        tell(ctx, object, EventType::Normal, "TakingDown", &note).await;
        // An error keeps the finalizer.
        return Err(Error::Waiting(note));
    }
    delete_all::<MailStore>(ctx, &namespace, &of_cluster).await?;
    release_all::<MailStore>(ctx, &namespace, &of_cluster).await?;
    delete_all::<Lease>(ctx, &namespace, &of_cluster).await?;
    release_all::<Lease>(ctx, &namespace, &of_cluster).await?;
    delete_claims(ctx, &namespace, &name, object.spec.deletion_policy).await?;
    if ctx.config.token_review_cluster_role.is_some() {
        let api: Api<ClusterRoleBinding> = Api::all(ctx.client.clone());
        apply::delete(&api, &ClusterNames::new(name.clone()).token_review(&namespace), None).await?;
    }
    tracing::info!(name, namespace, volumes = ?object.spec.deletion_policy, "cluster taken down");
    Ok(Action::await_change())
}

/// Claims that were never bound hold nothing and go, so that a wrong storage class can be put right. The others go only
/// when it is asked for, and then their volumes are given up: no cluster of the same name takes them up again.
async fn delete_claims(
    ctx: &Context,
    namespace: &str,
    cluster: &str,
    policy: DeletionPolicy,
) -> Result<(), Error> {
    if policy == DeletionPolicy::Delete && ctx.config.manage_volumes {
        let all: Api<PersistentVolume> = Api::all(ctx.client.clone());
        let ours = format!("{}={cluster},{}={namespace}", labels::CLUSTER, labels::CLUSTER_NAMESPACE);
        for volume in all.list(&ListParams::default().labels(&ours)).await?.items {
            let patch = Patch::Merge(volumes::give_up_patch(&volume));
            all.patch(&volume.name_any(), &apply::ours(), &patch).await?;
        }
    }
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(ctx.client.clone(), namespace);
    let ours = ListParams::default().labels(&format!("{}={cluster}", labels::CLUSTER));
    for claim in claims.list(&ours).await?.items {
        if policy == DeletionPolicy::Delete || !volumes::was_bound(&claim) {
            apply::delete(&claims, &claim.name_any(), claim.uid()).await?;
        }
    }
    Ok(())
}

/// MailStores that somebody deleted: ends their pods and lets them go, so that they can be made anew with the copies
/// that their claims name. True while there are any.
///
/// # Errors
/// When the API server does not answer.
pub async fn deleted_stores(ctx: &Context, cluster: &Cluster, observed: &Observed) -> Result<bool, Error> {
    let deleted = observed.deleted_stores();
    for object in &deleted {
        let name = object.name_any();
        let api: Api<StatefulSet> = Api::namespaced(ctx.client.clone(), &cluster.namespace);
        for copy in Store::copies(object) {
            apply::delete(&api, &copy.stateful_set(), None).await?;
        }
        let of_store = format!("{}={},{}={name}", labels::CLUSTER, cluster.name, labels::STORE);
        let pods = running(ctx, &cluster.namespace, &of_store).await?;
        if pods.is_empty() {
            let api: Api<MailStore> = Api::namespaced(ctx.client.clone(), &cluster.namespace);
            release(&api, *object).await?;
            tracing::warn!(store = name, "a deleted MailStore was let go; it is made anew from its volume");
        } else {
            tracing::warn!(store = name, ?pods, "a MailStore was deleted; waiting for the end of its pods");
        }
    }
    Ok(!deleted.is_empty())
}

/// The names of pods that have not ended.
async fn running(ctx: &Context, namespace: &str, selector: &str) -> Result<Vec<String>, Error> {
    let api: Api<Pod> = Api::namespaced(ctx.client.clone(), namespace);
    let pods = api.list(&ListParams::default().labels(selector)).await?;
    Ok(pods.items.iter().map(ResourceExt::name_any).collect())
}

async fn delete_all<K>(ctx: &Context, namespace: &str, selector: &str) -> Result<(), Error>
where
    K: Child + Resource<Scope = k8s_openapi::NamespaceResourceScope>,
{
    let api: Api<K> = Api::namespaced(ctx.client.clone(), namespace);
    for object in api.list(&ListParams::default().labels(selector)).await?.items {
        if object.meta().deletion_timestamp.is_none() {
            apply::delete(&api, &object.name_any(), object.uid()).await?;
        }
    }
    Ok(())
}

async fn release_all<K>(ctx: &Context, namespace: &str, selector: &str) -> Result<(), Error>
where
    K: Child + Resource<Scope = k8s_openapi::NamespaceResourceScope>,
{
    let api: Api<K> = Api::namespaced(ctx.client.clone(), namespace);
    for object in api.list(&ListParams::default().labels(selector)).await?.items {
        release(&api, &object).await?;
    }
    Ok(())
}

/// Removes our finalizer.
async fn release<K: Child>(api: &Api<K>, object: &K) -> Result<(), Error> {
    let mut finalizers = object.finalizers().to_vec();
    finalizers.retain(|f| f != FINALIZER);
    if finalizers.len() == object.finalizers().len() {
        return Ok(());
    }
    let patch = json!({"metadata": {"resourceVersion": object.resource_version(), "finalizers": finalizers}});
    match api.patch(&object.name_any(), &apply::ours(), &Patch::Merge(patch)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => Err(error.into()),
    }
}
