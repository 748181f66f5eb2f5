//! The MailCluster controller: dereference -> validate -> build -> apply -> status.

mod children;
mod cleanup;
mod observe;
mod plan;
mod reconcile;
mod status;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{StreamExt, future::join_all};
use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    core::v1::{ConfigMap, PersistentVolumeClaim, Secret, Service, ServiceAccount},
    networking::v1::NetworkPolicy,
    policy::v1::PodDisruptionBudget,
    rbac::v1::{ClusterRoleBinding, Role, RoleBinding},
};
use kube::{
    Api, Resource, ResourceExt,
    core::{DeserializeGuard, PartialObjectMeta},
    runtime::{
        Controller,
        controller::{self, Action},
        reflector::ObjectRef,
        watcher,
    },
};
use mailcluster_api::{MailCluster, MailStore, OPERATOR_FIELD_MANAGER, labels, retry::Retry};

use crate::{apply::ApplyError, cluster::Invalid, context::Context, pki::PkiError};

/// A MailCluster, or what could not be read as one.
type Guarded = DeserializeGuard<MailCluster>;

/// Several changes within this time are looked at once.
const DEBOUNCE: Duration = Duration::from_millis(500);
/// The longest wait after a failure.
const MAX_BACK_OFF: Duration = Duration::from_secs(60);

/// Between two looks at something that must end first.
const WAIT: Duration = Duration::from_secs(2);

/// Why a reconciliation failed. It is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused or did not answer.
    #[error("the Kubernetes API refused or did not answer")]
    Kube(#[from] kube::Error),
    /// A child could not be written.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// A certificate could not be made.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The nodes' configuration could not be rendered.
    #[error(transparent)]
    Config(#[from] mailcluster_api::config::ConfigError),
    /// An object could not be written as JSON.
    #[error("failed to serialize an object")]
    Json(#[from] serde_json::Error),
    /// The MailCluster contradicts what is there; its Ready condition says how.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// Something must end before the next step; it is looked at again soon.
    #[error("{0}")]
    Waiting(String),
    /// The finalizer could not be set or removed.
    #[error("failed to handle the finalizer: {0}")]
    Finalizer(String),
}

/// What the controller's functions share.
struct State {
    ctx: Context,
    failures: Mutex<HashMap<ObjectRef<Guarded>, u32>>,
}

/// One API per served namespace, or one for all.
#[must_use]
pub fn apis<K>(ctx: &Context) -> Vec<Api<K>>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
{
    if ctx.config.watch_namespaces.is_empty() {
        return vec![Api::all(ctx.client.clone())];
    }
    ctx.config.watch_namespaces.iter().map(|ns| Api::namespaced(ctx.client.clone(), ns)).collect()
}

/// Runs until the process is to stop; works only while this replica leads.
///
/// # Errors
/// When leader election has ended.
pub async fn run(mut ctx: Context) -> anyhow::Result<()> {
    let stop = ctx.stop.clone();
    loop {
        tokio::select! { () = stop.cancelled() => return Ok(()), led = ctx.until_leading() => led? }
        let mut deposed = ctx.clone();
        let namespaces = ctx.config.watch_namespaces.clone();
        let scopes =
            if namespaces.is_empty() { vec![None] } else { namespaces.into_iter().map(Some).collect() };
        let work = join_all(scopes.into_iter().map(|scope| control(ctx.clone(), scope)));
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = deposed.until_deposed() => {}
            _ = work => {}
        }
    }
}

/// The API of one kind in one namespace, or in all.
fn api<K>(ctx: &Context, scope: Option<&str>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
{
    match scope {
        Some(namespace) => Api::namespaced(ctx.client.clone(), namespace),
        None => Api::all(ctx.client.clone()),
    }
}

/// Watches a kind of child by its metadata: any change of it is a reason to look at its cluster.
macro_rules! children {
    ($controller:ident, $ctx:expr, $scope:expr, $($kind:ty),+ $(,)?) => {
        $(
            let $controller = $controller.watches(
                api::<PartialObjectMeta<$kind>>($ctx, $scope),
                ours(),
                |object| cluster_of(&object),
            );
        )+
    };
}

/// Only what the operator applied.
fn ours() -> watcher::Config {
    watcher::Config::default().labels(&format!("{}={OPERATOR_FIELD_MANAGER}", labels::MANAGED_BY))
}

async fn control(ctx: Context, scope: Option<String>) {
    let scope = scope.as_deref();
    let controller = Controller::new(api::<Guarded>(&ctx, scope), watcher::Config::default())
        .trigger_backoff(Retry::default())
        .with_config(controller::Config::default().concurrency(8).debounce(DEBOUNCE));
    let store = controller.store();
    children!(
        controller,
        &ctx,
        scope,
        MailStore,
        StatefulSet,
        Deployment,
        Service,
        ServiceAccount,
        ConfigMap,
        Secret,
        PersistentVolumeClaim,
        PodDisruptionBudget,
        NetworkPolicy,
        Role,
        RoleBinding,
    );
    let controller = controller.watches(
        api::<PartialObjectMeta<Secret>>(&ctx, scope),
        watcher::Config::default().fields("type=kubernetes.io/tls"),
        move |secret| {
            let uses = |cluster: &Arc<Guarded>| {
                cluster.namespace() == secret.namespace()
                    && cluster.0.as_ref().is_ok_and(|c| c.spec.tls.secret_names.contains(&secret.name_any()))
            };
            store.state().iter().filter(|c| uses(c)).map(|c| ObjectRef::from_obj(&**c)).collect::<Vec<_>>()
        },
    );
    // It belongs to the whole cluster, and there is one only where directories may review tokens.
    let bindings = Api::<PartialObjectMeta<ClusterRoleBinding>>::all(ctx.client.clone());
    let controller = match ctx.config.token_review_cluster_role {
        Some(_) => controller.watches(bindings, ours(), |object| cluster_of(&object)),
        None => controller,
    };
    let state = Arc::new(State { ctx: ctx.clone(), failures: Mutex::new(HashMap::new()) });
    let stop = ctx.stop.clone();
    controller
        .graceful_shutdown_on(async move { stop.cancelled().await })
        .run(reconcile_guarded, error_policy, state)
        .for_each(|result| async {
            if let Err(error @ (controller::Error::QueueError(_) | controller::Error::RunnerError(_))) =
                result
            {
                tracing::warn!(%error, "a watch failed; it is started again");
            }
        })
        .await;
}

/// The MailCluster that a child's labels name; what has no namespace of its own names that too.
fn cluster_of<K>(object: &PartialObjectMeta<K>) -> Option<ObjectRef<Guarded>> {
    let metadata = &object.metadata;
    let own = metadata.labels.as_ref()?;
    let namespace = metadata.namespace.as_ref().or_else(|| own.get(labels::CLUSTER_NAMESPACE))?;
    Some(ObjectRef::new(own.get(labels::CLUSTER)?).within(namespace))
}

async fn reconcile_guarded(object: Arc<Guarded>, state: Arc<State>) -> Result<Action, Error> {
    let cluster = match &object.0 {
        Ok(cluster) => Arc::new(cluster.clone()),
        Err(invalid) => {
            tracing::error!(error = %invalid, name = object.name_any(), "a MailCluster cannot be read");
            return Ok(Action::await_change());
        }
    };
    let result = reconcile::run(&state.ctx, cluster).await;
    if result.is_ok() {
        state.ctx.metrics.reconciliations.with_label_values(&["ok"]).inc();
        let mut failures = state.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.remove(&ObjectRef::from_obj(&*object));
    }
    result
}

fn error_policy(object: Arc<Guarded>, error: &Error, state: Arc<State>) -> Action {
    if let Error::Waiting(what) = error {
        tracing::info!(name = object.name_any(), namespace = ?object.namespace(), what, "waiting");
        return Action::requeue(WAIT);
    }
    state.ctx.metrics.reconciliations.with_label_values(&["error"]).inc();
    let mut failures = state.failures.lock().unwrap_or_else(PoisonError::into_inner);
    let count = failures.entry(ObjectRef::from_obj(&*object)).or_default();
    *count = count.saturating_add(1);
    let wait = back_off(*count);
    let cause = std::error::Error::source(error).map(ToString::to_string);
    tracing::warn!(%error, cause, name = object.name_any(), namespace = ?object.namespace(), again_in = ?wait, "reconciliation failed");
    Action::requeue(wait)
}

/// 1, 2, 4 … seconds, up to a minute.
fn back_off(failures: u32) -> Duration {
    Duration::from_secs(1 << failures.saturating_sub(1).min(6)).min(MAX_BACK_OFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_end() {
        let waits: Vec<u64> = (1..9).map(|n| back_off(n).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    }
}
