//! One reconciliation of one MailCluster.

use std::{sync::Arc, time::Duration};

use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
    runtime::{
        controller::Action,
        events::{Event, EventType},
        finalizer::{self, finalizer},
    },
};
use mailcluster_api::{
    FINALIZER, MailCluster, MailStore, OPERATOR_FIELD_MANAGER,
    condition::{self, Draft},
};
use serde_json::{Value, json};

use super::{
    Error, children, cleanup,
    observe::{Observed, observe},
    plan,
    status::{self, Summary},
};
use crate::{
    apply::{covers, ours},
    cluster::Cluster,
    context::Context,
    pki::random_hex,
    volumes,
};

/// Everything is looked at again after this time, whatever happened.
const LONGEST: Duration = Duration::from_secs(600);
/// While something is on its way that no watch tells of.
const SOON: Duration = Duration::from_secs(3);

/// Brings about what the MailCluster asks for, or takes it down.
///
/// # Errors
/// When the API server does not answer or refuses; it is tried again.
pub async fn run(ctx: &Context, cluster: Arc<MailCluster>) -> Result<Action, Error> {
    let namespace = cluster.namespace().unwrap_or_default();
    let api: Api<MailCluster> = Api::namespaced(ctx.client.clone(), &namespace);
    let result = finalizer(&api, FINALIZER, cluster, |event| async {
        match event {
            finalizer::Event::Apply(cluster) => bring_up(ctx, &cluster).await,
            finalizer::Event::Cleanup(cluster) => cleanup::take_down(ctx, &cluster).await,
        }
    })
    .await;
    result.map_err(|error| match error {
        finalizer::Error::ApplyFailed(error) | finalizer::Error::CleanupFailed(error) => error,
        // The MailCluster is gone already; or somebody else changed it, and it is looked at again.
        other => Error::Finalizer(other.to_string()),
    })
}

async fn bring_up(ctx: &Context, object: &MailCluster) -> Result<Action, Error> {
    if object.spec.paused {
        paused(ctx, object).await?;
        return Ok(Action::requeue(LONGEST));
    }
    let observed = observe(ctx, object).await?;
    let outcome = match decide_identity(ctx, object, &observed).await {
        Ok(cluster) => build_up(ctx, object, &cluster, observed).await,
        Err(error) => Err(error),
    };
    if let Err(Error::Invalid(invalid)) = &outcome {
        refuse(ctx, object, &invalid.to_string()).await?;
        return Ok(Action::requeue(Duration::from_secs(60)));
    }
    outcome
}

/// Draws or finds the cluster id and fixes the image, before any child is made.
async fn decide_identity(ctx: &Context, object: &MailCluster, observed: &Observed) -> Result<Cluster, Error> {
    let (name, namespace) = (object.name_any(), object.namespace().unwrap_or_default());
    let claims: Vec<_> = observed.claims.values().cloned().collect();
    let found = volumes::cluster_id(&namespace, &name, &claims, &observed.volumes)?;
    let status = object.status.clone().unwrap_or_default();
    let id = match (&status.cluster_id, found) {
        (Some(status), Some(volumes)) if *status != volumes => {
            return Err(crate::cluster::Invalid::OtherCluster { status: status.clone(), volumes }.into());
        }
        (Some(id), _) => id.clone(),
        (None, Some(id)) => id,
        (None, None) => random_hex()?,
    };
    let image =
        object.spec.image.clone().or(status.image.clone()).unwrap_or_else(|| ctx.config.node_image.clone());
    if status.cluster_id.as_ref() != Some(&id) || status.image.as_ref() != Some(&image) {
        let api: Api<MailCluster> = Api::namespaced(ctx.client.clone(), &namespace);
        // With the resourceVersion: of two operators only one can draw.
        let patch = json!({
            "metadata": {"resourceVersion": object.resource_version()},
            "status": {"clusterID": id, "image": image},
        });
        api.patch_status(&name, &ours(), &Patch::Merge(patch)).await?;
        tracing::info!(name, namespace, cluster_id = id, image, "cluster id and image decided");
    }
    Ok(Cluster::new(object, &id, &image)?)
}

async fn build_up(
    ctx: &Context,
    object: &MailCluster,
    cluster: &Cluster,
    observed: Observed,
) -> Result<Action, Error> {
    if cleanup::deleted_stores(ctx, cluster, &observed).await? {
        return Ok(Action::requeue(SOON));
    }
    let now = Timestamp::now();
    let plan = plan::stores::<Error>(cluster, &observed, || Ok(random_hex()?))?;
    let applied = children::apply(ctx, cluster, &observed, plan, now.as_second()).await?;
    for (planned, store) in &applied.stores {
        let wanted = status::of_store(planned, store, &observed, now);
        if let Some(news) = status::volume_news(store, &wanted) {
            tell(ctx, store, EventType::Warning, &news.reason, &news.message).await;
        }
        write_store_status(ctx, store, wanted).await?;
    }
    let summary = Summary {
        cluster,
        stores: applied.stores.iter().map(|(_, s)| s).collect(),
        claims: &observed.claims,
        sets: &applied.sets,
        deployment: applied.deployment.as_ref(),
        service: applied.service.as_ref(),
        tls: &applied.tls,
        now,
    };
    let days = (applied.tls.expires - now.as_second()) / 86_400;
    ctx.metrics.certificate_days.with_label_values(&[&cluster.namespace, &cluster.name]).set(days);
    write_status(ctx, object, status::of_cluster(&summary, object)).await?;
    let due = u64::try_from(applied.due - now.as_second()).unwrap_or(0);
    Ok(Action::requeue(Duration::from_secs(due.max(1)).min(LONGEST)))
}

/// Says that nothing is done, and does nothing else.
async fn paused(ctx: &Context, object: &MailCluster) -> Result<(), Error> {
    let old = object.status.clone().unwrap_or_default();
    let draft =
        Draft::yes(condition::PAUSED, "Paused", "spec.paused is true: nothing is changed and no store moves");
    let mut next = old.clone();
    next.observed_generation = object.metadata.generation;
    let paused = draft.finish(&old.conditions, object.metadata.generation, Timestamp::now());
    next.conditions.retain(|c| c.type_ != condition::PAUSED);
    next.conditions.push(paused);
    write_status(ctx, object, next).await
}

/// Says in status and in an event why nothing can be built.
async fn refuse(ctx: &Context, object: &MailCluster, message: &str) -> Result<(), Error> {
    let old = object.status.clone().unwrap_or_default();
    let draft = Draft::no(condition::READY, "Refused", message);
    let mut next = old.clone();
    next.observed_generation = object.metadata.generation;
    let ready = draft.finish(&old.conditions, object.metadata.generation, Timestamp::now());
    next.conditions.retain(|c| c.type_ != condition::READY);
    next.conditions.push(ready);
    tell(ctx, object, EventType::Warning, "Refused", message).await;
    write_status(ctx, object, next).await
}

/// Publishes an event; that it cannot be published is no reason to stop.
pub async fn tell<K>(ctx: &Context, object: &K, type_: EventType, reason: &str, note: &str)
where
    K: Resource<DynamicType = ()>,
{
    let event = Event {
        type_,
        reason: reason.into(),
        note: Some(note.chars().take(1_000).collect()),
        action: "Reconcile".into(),
        secondary: None,
    };
    if let Err(error) = ctx.recorder.publish(&event, &object.object_ref(&())).await {
        tracing::warn!(%error, reason, "an event could not be published");
    }
}

async fn write_status(
    ctx: &Context,
    object: &MailCluster,
    wanted: mailcluster_api::MailClusterStatus,
) -> Result<(), Error> {
    // An empty list is not written at all, so that its becoming empty is to be looked at by itself.
    let same_addresses = object.status.as_ref().is_some_and(|s| s.addresses == wanted.addresses);
    let wanted = serde_json::to_value(wanted)?;
    if same_addresses && covers(&serde_json::to_value(&object.status)?, &wanted) {
        return Ok(());
    }
    let api: Api<MailCluster> = Api::namespaced(ctx.client.clone(), &object.namespace().unwrap_or_default());
    let patch = json!({
        "apiVersion": MailCluster::api_version(&()), "kind": MailCluster::kind(&()), "status": wanted,
    });
    let params = PatchParams::apply(OPERATOR_FIELD_MANAGER).force();
    api.patch_status(&object.name_any(), &params, &Patch::Apply(patch)).await?;
    ctx.metrics.writes.with_label_values(&["MailCluster/status"]).inc();
    Ok(())
}

/// The operator's part of a MailStore's status; failover and the holder write theirs under other field managers.
async fn write_store_status(ctx: &Context, store: &MailStore, wanted: Value) -> Result<(), Error> {
    if covers(&serde_json::to_value(&store.status)?, &wanted) {
        return Ok(());
    }
    let api: Api<MailStore> = Api::namespaced(ctx.client.clone(), &store.namespace().unwrap_or_default());
    let patch =
        json!({"apiVersion": MailStore::api_version(&()), "kind": MailStore::kind(&()), "status": wanted});
    let params = PatchParams::apply(OPERATOR_FIELD_MANAGER).force();
    api.patch_status(&store.name_any(), &params, &Patch::Apply(patch)).await?;
    ctx.metrics.writes.with_label_values(&["MailStore/status"]).inc();
    Ok(())
}
