//! What the API server shows, kept up by watches, and read anew before anything is done.

use std::{fmt::Debug, future::ready, sync::Arc, time::Duration};

use futures::{StreamExt, future::try_join_all};
use k8s_openapi::{
    ClusterResourceScope, NamespaceResourceScope,
    api::{
        apps::v1::StatefulSet,
        batch::v1::Job,
        coordination::v1::Lease,
        core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod},
    },
};
use kube::{
    Api, Resource, ResourceExt,
    api::ListParams,
    core::DeserializeGuard,
    runtime::{WatchStreamExt, reflector, watcher},
};
use mailcluster_api::{
    MailCluster, MailStore, labels,
    names::{FIRST_REPLICA, REPLICAS, StoreNames},
    roles::Role,
};
use mailcluster_failover::keys::REPLICA;
use serde::de::DeserializeOwned;

use super::unreadable::{Invalid, sort_out};
use crate::{context::Context, controller::apis};

/// No read may take longer.
const READ_LIMIT: Duration = Duration::from_secs(3);

/// Everything failover looks at.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// The MailClusters.
    pub clusters: Vec<Arc<MailCluster>>,
    /// The MailStores.
    pub stores: Vec<Arc<MailStore>>,
    /// The stores' Leases.
    pub leases: Vec<Arc<Lease>>,
    /// Mail pods.
    pub pods: Vec<Arc<Pod>>,
    /// The StatefulSets of replicas.
    pub sets: Vec<Arc<StatefulSet>>,
    /// The claims of replicas.
    pub claims: Vec<Arc<PersistentVolumeClaim>>,
    /// Fence Jobs.
    pub jobs: Vec<Arc<Job>>,
    /// Nodes.
    pub nodes: Vec<Arc<Node>>,
    /// Volumes.
    pub volumes: Vec<Arc<PersistentVolume>>,
    /// MailClusters and MailStores that cannot be read as such: nothing is done for them.
    pub unreadable: Vec<Invalid>,
}

impl World {
    /// The cluster of a store.
    #[must_use]
    pub fn cluster(&self, store: &MailStore) -> Option<&Arc<MailCluster>> {
        self.clusters
            .iter()
            .find(|c| c.namespace() == store.namespace() && c.name_any() == store.spec.cluster)
    }

    /// The Lease of a store.
    #[must_use]
    pub fn lease(&self, store: &MailStore) -> Option<&Arc<Lease>> {
        self.leases.iter().find(|l| same(&***l, store))
    }

    /// The pod of a store: of its only copy, or of the one that holds it.
    #[must_use]
    pub fn pod(&self, store: &MailStore) -> Option<&Arc<Pod>> {
        self.pod_of(store, self.holding(store))
    }

    /// The StatefulSet of that pod.
    #[must_use]
    pub fn set(&self, store: &MailStore) -> Option<&Arc<StatefulSet>> {
        self.set_of(store, self.holding(store))
    }

    /// The pod of one of a store's copies.
    #[must_use]
    pub fn pod_of(&self, store: &MailStore, letter: char) -> Option<&Arc<Pod>> {
        let name = StoreNames::new(store.name_any()).pod(letter);
        self.pods.iter().find(|p| p.namespace() == store.namespace() && p.name_any() == name)
    }

    /// The StatefulSet of one of a store's copies.
    #[must_use]
    pub fn set_of(&self, store: &MailStore, letter: char) -> Option<&Arc<StatefulSet>> {
        let name = StoreNames::new(store.name_any()).stateful_set(letter);
        self.sets.iter().find(|s| s.namespace() == store.namespace() && s.name_any() == name)
    }

    /// The copy whose replica the Lease names, or the first.
    fn holding(&self, store: &MailStore) -> char {
        let named = self.lease(store).and_then(|l| l.annotations().get(REPLICA).cloned());
        let copies = store.spec.replicas.iter().zip(REPLICAS);
        let holding = copies.into_iter().find(|(replica, _)| Some(&replica.id) == named.as_ref());
        holding.map_or(FIRST_REPLICA, |(_, letter)| letter)
    }
}

fn same<K: ResourceExt>(object: &K, store: &MailStore) -> bool {
    object.name_any() == store.name_any() && object.namespace() == store.namespace()
}

/// The watches of everything; the frontends' probe looks at the same pods.
pub struct Caches {
    // One that this version cannot read must not end the watch of all others.
    clusters: Vec<reflector::Store<DeserializeGuard<MailCluster>>>,
    stores: Vec<reflector::Store<DeserializeGuard<MailStore>>>,
    leases: Vec<reflector::Store<Lease>>,
    pods: Vec<reflector::Store<Pod>>,
    sets: Vec<reflector::Store<StatefulSet>>,
    claims: Vec<reflector::Store<PersistentVolumeClaim>>,
    jobs: Vec<reflector::Store<Job>>,
    nodes: Option<reflector::Store<Node>>,
    volumes: Option<reflector::Store<PersistentVolume>>,
}

impl Caches {
    /// Starts all watches; they end with the process.
    #[must_use]
    pub fn start(ctx: &Context) -> Self {
        let ours = format!("{}={}", labels::NAME, labels::APP_NAME);
        let of_stores = format!("{ours},{}", labels::STORE);
        let cluster_wide = ctx.config.manage_volumes;
        Self {
            clusters: watch_all(ctx, None),
            stores: watch_all(ctx, None),
            leases: watch_all(ctx, Some(&of_stores)),
            pods: watch_all(ctx, Some(&ours)),
            sets: watch_all(ctx, Some(&of_stores)),
            claims: watch_all(ctx, Some(labels::STORE)),
            jobs: watch_all(ctx, Some(&ours)),
            nodes: cluster_wide.then(|| watch_one(ctx, Api::all(ctx.client.clone()), None)),
            volumes: cluster_wide.then(|| watch_one(ctx, Api::all(ctx.client.clone()), None)),
        }
    }

    /// Waits until every watch has shown what there is.
    pub async fn ready(&self) {
        ready_all(&self.clusters).await;
        ready_all(&self.stores).await;
        ready_all(&self.leases).await;
        ready_all(&self.pods).await;
        ready_all(&self.sets).await;
        ready_all(&self.claims).await;
        ready_all(&self.jobs).await;
        ready_all(self.nodes.as_slice()).await;
        ready_all(self.volumes.as_slice()).await;
    }

    /// What they show now.
    #[must_use]
    pub fn world(&self) -> World {
        let (clusters, mut unreadable) = sort_out(all(&self.clusters));
        let (stores, more) = sort_out(all(&self.stores));
        unreadable.extend(more);
        World {
            clusters,
            stores,
            unreadable,
            leases: all(&self.leases),
            pods: all(&self.pods),
            sets: all(&self.sets),
            claims: all(&self.claims),
            jobs: all(&self.jobs),
            nodes: all(self.nodes.as_slice()),
            volumes: all(self.volumes.as_slice()),
        }
    }

    /// The pods of one role.
    #[must_use]
    pub fn pods_of(&self, role: Role) -> Vec<Arc<Pod>> {
        let of_role =
            |pod: &Arc<Pod>| pod.labels().get(labels::COMPONENT).is_some_and(|c| *c == role.to_string());
        all(&self.pods).into_iter().filter(of_role).collect()
    }
}

fn all<K: Resource<DynamicType = ()> + Clone + 'static>(stores: &[reflector::Store<K>]) -> Vec<Arc<K>> {
    stores.iter().flat_map(reflector::Store::state).collect()
}

async fn ready_all<K: Resource<DynamicType = ()> + Clone + 'static>(stores: &[reflector::Store<K>]) {
    for store in stores {
        // An error means that the watch's task has ended, which it does only with the process.
        drop(store.wait_until_ready().await);
    }
}

fn watch_all<K>(ctx: &Context, selector: Option<&str>) -> Vec<reflector::Store<K>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    apis::<K>(ctx).into_iter().map(|api| watch_one(ctx, api, selector)).collect()
}

fn watch_one<K>(ctx: &Context, api: Api<K>, selector: Option<&str>) -> reflector::Store<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    // What changes by itself is watched closely; the rest is read anew before anything is done with it.
    let seconds = match K::kind(&()).as_ref() {
        "Pod" => 30,
        "Lease" | "Node" => 60,
        _ => 290,
    };
    let mut config = watcher::Config::default().timeout(seconds);
    if let Some(selector) = selector {
        config = config.labels(selector);
    }
    let (store, writer) = reflector::store();
    let stream = watcher(api, config)
        .default_backoff()
        .modify(|object| object.meta_mut().managed_fields = None)
        .reflect(writer);
    let stop = ctx.stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = stream.for_each(|event| {
                if let Err(error) = event {
                    tracing::warn!(%error, kind = %K::kind(&()), "a watch of failover failed; it is started again");
                }
                ready(())
            }) => {}
        }
    });
    store
}

/// Reads what one store's next step depends on live: Lease, MailStore, MailCluster, pod, StatefulSet, claim, volume,
/// fence Jobs, and all nodes. The rest of the world stays as the watches show it.
///
/// # Errors
/// When one read fails: then nothing is done.
pub async fn live(ctx: &Context, cached: &World, store: &MailStore) -> anyhow::Result<World> {
    let namespace = store.namespace().unwrap_or_default();
    let mut world = cached.clone();
    let name = store.name_any();
    let cluster = &store.spec.cluster;
    let names = StoreNames::new(name.clone());
    let letters: Vec<char> = REPLICAS.into_iter().take(store.spec.replicas.len().max(1)).collect();
    let sets: Vec<String> = letters.iter().map(|letter| names.stateful_set(*letter)).collect();
    let pods: Vec<String> = letters.iter().map(|letter| names.pod(*letter)).collect();
    let replica = store.spec.replicas.first();
    let jobs: Api<Job> = Api::namespaced(ctx.client.clone(), &namespace);
    let ours = ListParams::default().labels(&format!("{}={}", labels::NAME, labels::APP_NAME));
    // All at once: a failover reads them before each of its steps.
    let (live_store, lease, live_cluster, live_sets, live_pods, claim, nodes, live_jobs) = tokio::try_join!(
        get(ctx, &namespace, &name),
        get(ctx, &namespace, &name),
        get(ctx, &namespace, cluster),
        try_join_all(sets.iter().map(|set| get(ctx, &namespace, set))),
        try_join_all(pods.iter().map(|pod| get(ctx, &namespace, pod))),
        claim_of(ctx, &namespace, replica.map(|r| r.pvc.as_str())),
        nodes(ctx),
        limited(jobs.list(&ours)),
    )?;
    replace(&mut world.stores, &name, &namespace, live_store);
    replace(&mut world.leases, &name, &namespace, lease);
    replace(&mut world.clusters, cluster, &namespace, live_cluster);
    for (name, live) in sets.iter().zip(live_sets) {
        replace(&mut world.sets, name, &namespace, live);
    }
    for (name, live) in pods.iter().zip(live_pods) {
        replace(&mut world.pods, name, &namespace, live);
    }
    if let Some(replica) = replica {
        let volume = claim.as_ref().and_then(|c| c.spec.as_ref()?.volume_name.clone());
        replace(&mut world.claims, &replica.pvc, &namespace, claim);
        if let (Some(volume), true) = (volume, ctx.config.manage_volumes) {
            let api: Api<PersistentVolume> = Api::all(ctx.client.clone());
            let live = limited(api.get_opt(&volume)).await?;
            world.volumes.retain(|v| v.name_any() != volume);
            world.volumes.extend(live.map(Arc::new));
        }
    }
    if let Some(nodes) = nodes {
        world.nodes = nodes;
    }
    world.jobs.retain(|j| j.namespace().as_deref() != Some(namespace.as_str()));
    world.jobs.extend(live_jobs.items.into_iter().map(Arc::new));
    Ok(world)
}

/// Reads the MailStores of this store's cluster anew: what a store that serves is stopped for must not rest on what the
/// watch shows of the others, which another leader may have begun to move a moment ago.
///
/// # Errors
/// When the API server does not answer.
pub async fn live_stores(ctx: &Context, world: &mut World, store: &MailStore) -> anyhow::Result<()> {
    let namespace = store.namespace().unwrap_or_default();
    let api: Api<DeserializeGuard<MailStore>> = Api::namespaced(ctx.client.clone(), &namespace);
    let ours = ListParams::default().labels(&format!("{}={}", labels::CLUSTER, store.spec.cluster));
    for live in limited(api.list(&ours)).await?.items {
        // One that cannot be read takes no part, as in what the watches show.
        replace(&mut world.stores, &live.name_any(), &namespace, live.0.ok());
    }
    Ok(())
}

async fn claim_of(
    ctx: &Context,
    namespace: &str,
    name: Option<&str>,
) -> anyhow::Result<Option<PersistentVolumeClaim>> {
    match name {
        Some(name) => get(ctx, namespace, name).await,
        None => Ok(None),
    }
}

/// All nodes, where they may be read.
async fn nodes(ctx: &Context) -> anyhow::Result<Option<Vec<Arc<Node>>>> {
    if ctx.config.manage_volumes { list_all::<Node>(ctx).await.map(Some) } else { Ok(None) }
}

fn replace<K: ResourceExt>(list: &mut Vec<Arc<K>>, name: &str, namespace: &str, live: Option<K>) {
    list.retain(|o| o.name_any() != name || o.namespace().as_deref() != Some(namespace));
    list.extend(live.map(Arc::new));
}

async fn list_all<K>(ctx: &Context) -> anyhow::Result<Vec<Arc<K>>>
where
    K: Resource<DynamicType = (), Scope = ClusterResourceScope> + Clone + Debug + DeserializeOwned,
{
    let api: Api<K> = Api::all(ctx.client.clone());
    Ok(limited(api.list(&ListParams::default())).await?.items.into_iter().map(Arc::new).collect())
}

/// One object by a quorum read; `None` when it is not there.
///
/// # Errors
/// When there is no answer in time.
pub async fn get<K>(ctx: &Context, namespace: &str, name: &str) -> anyhow::Result<Option<K>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(ctx.client.clone(), namespace);
    limited(api.get_opt(name)).await
}

/// A call to the API that takes no longer than it may.
///
/// # Errors
/// The call's own, or that it took too long.
pub async fn limited<T>(call: impl Future<Output = kube::Result<T>>) -> anyhow::Result<T> {
    Ok(tokio::time::timeout(READ_LIMIT, call)
        .await
        .map_err(|_| anyhow::anyhow!("no answer from the API server in time"))??)
}
