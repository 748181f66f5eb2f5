//! What the API server shows, kept up by watches, and read anew before anything is done.

use std::{fmt::Debug, sync::Arc, time::Duration};

use futures::future::try_join_all;
use k8s_openapi::{
    ClusterResourceScope, NamespaceResourceScope,
    api::{
        apps::v1::StatefulSet,
        batch::v1::Job,
        coordination::v1::Lease,
        core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod},
    },
};
use kube::{Api, Resource, ResourceExt, api::ListParams, core::DeserializeGuard, runtime::watcher};
use mailcluster_api::{
    MailCluster, MailStore, labels,
    names::{FIRST_REPLICA, REPLICAS, StoreNames},
    roles::Role,
};
use mailcluster_failover::keys::REPLICA;
use serde::de::DeserializeOwned;

use super::{
    kept::{Kept, Read},
    shelf::Shelf,
    trim,
    unreadable::{Invalid, readable},
};
use crate::{context::Context, controller::apis};

/// No read may take longer.
const READ_LIMIT: Duration = Duration::from_secs(3);

/// Everything failover looks at.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// The MailClusters.
    pub clusters: Shelf<MailCluster>,
    /// The MailStores.
    pub stores: Shelf<MailStore>,
    /// The stores' Leases.
    pub leases: Shelf<Lease>,
    /// Mail pods.
    pub pods: Shelf<Pod>,
    /// The StatefulSets of replicas.
    pub sets: Shelf<StatefulSet>,
    /// The claims of replicas.
    pub claims: Shelf<PersistentVolumeClaim>,
    /// Fence Jobs.
    pub jobs: Shelf<Job>,
    /// Nodes.
    pub nodes: Shelf<Node>,
    /// Volumes.
    pub volumes: Shelf<PersistentVolume>,
    /// MailClusters and MailStores that cannot be read as such: nothing is done for them.
    pub unreadable: Vec<Invalid>,
}

impl World {
    /// The cluster of a store.
    #[must_use]
    pub fn cluster(&self, store: &MailStore) -> Option<&Arc<MailCluster>> {
        self.clusters.get(namespace(store), &store.spec.cluster)
    }

    /// The Lease of a store.
    #[must_use]
    pub fn lease(&self, store: &MailStore) -> Option<&Arc<Lease>> {
        self.leases.get(namespace(store), store.metadata.name.as_deref()?)
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
        self.pods.get(namespace(store), &StoreNames::new(store.name_any()).pod(letter))
    }

    /// The StatefulSet of one of a store's copies.
    #[must_use]
    pub fn set_of(&self, store: &MailStore, letter: char) -> Option<&Arc<StatefulSet>> {
        self.sets.get(namespace(store), &StoreNames::new(store.name_any()).stateful_set(letter))
    }

    /// The claim of a store's only copy, or of the first.
    #[must_use]
    pub fn claim(&self, store: &MailStore) -> Option<&Arc<PersistentVolumeClaim>> {
        self.claims.get(namespace(store), &store.spec.replicas.first()?.pvc)
    }

    /// The copy whose replica the Lease names, or the first.
    fn holding(&self, store: &MailStore) -> char {
        let named = self.lease(store).and_then(|l| l.annotations().get(REPLICA));
        let copies = store.spec.replicas.iter().zip(REPLICAS);
        let holding = copies.into_iter().find(|(replica, _)| Some(&replica.id) == named);
        holding.map_or(FIRST_REPLICA, |(_, letter)| letter)
    }
}

fn namespace(store: &MailStore) -> Option<&str> {
    store.metadata.namespace.as_deref()
}

/// The watches of everything; the frontends' probe looks at the same pods.
#[derive(Default)]
pub struct Caches {
    clusters: Kept<MailCluster>,
    stores: Kept<MailStore>,
    leases: Kept<Lease>,
    pods: Kept<Pod>,
    sets: Kept<StatefulSet>,
    claims: Kept<PersistentVolumeClaim>,
    jobs: Kept<Job>,
    nodes: Kept<Node>,
    volumes: Kept<PersistentVolume>,
}

impl Caches {
    /// Starts all watches; they end with the process.
    #[must_use]
    pub fn start(ctx: &Context) -> Self {
        let ours = format!("{}={}", labels::NAME, labels::APP_NAME);
        let of_stores = format!("{ours},{}", labels::STORE);
        let mut all = Self::default();
        // One that this version cannot read must not end the watch of all others.
        watch::<DeserializeGuard<MailCluster>, _>(ctx, &mut all.clusters, None, readable);
        watch::<DeserializeGuard<MailStore>, _>(ctx, &mut all.stores, None, readable);
        watch::<Lease, _>(ctx, &mut all.leases, Some(&of_stores), trim::whole);
        watch::<Pod, _>(ctx, &mut all.pods, Some(&ours), trim::pod);
        watch::<StatefulSet, _>(ctx, &mut all.sets, Some(&of_stores), trim::set);
        watch::<PersistentVolumeClaim, _>(ctx, &mut all.claims, Some(labels::STORE), trim::whole);
        watch::<Job, _>(ctx, &mut all.jobs, Some(&ours), trim::job);
        if ctx.config.manage_volumes {
            let (nodes, volumes) = (Api::all(ctx.client.clone()), Api::all(ctx.client.clone()));
            all.nodes.watch(nodes, config::<Node>(None), trim::node, &ctx.stop);
            all.volumes.watch(volumes, config::<PersistentVolume>(None), trim::whole, &ctx.stop);
        }
        all
    }

    /// Waits until every watch has shown what there is.
    pub async fn ready(&self) {
        self.clusters.ready().await;
        self.stores.ready().await;
        self.leases.ready().await;
        self.pods.ready().await;
        self.sets.ready().await;
        self.claims.ready().await;
        self.jobs.ready().await;
        self.nodes.ready().await;
        self.volumes.ready().await;
    }

    /// What they show now.
    #[must_use]
    pub fn world(&self) -> World {
        let mut unreadable = self.clusters.unreadable();
        unreadable.extend(self.stores.unreadable());
        World {
            clusters: self.clusters.shelf(),
            stores: self.stores.shelf(),
            leases: self.leases.shelf(),
            pods: self.pods.shelf(),
            sets: self.sets.shelf(),
            claims: self.claims.shelf(),
            jobs: self.jobs.shelf(),
            nodes: self.nodes.shelf(),
            volumes: self.volumes.shelf(),
            unreadable,
        }
    }

    /// The pods of one role.
    #[must_use]
    pub fn pods_of(&self, role: Role) -> Vec<Arc<Pod>> {
        let role = role.to_string();
        let of_role = |pod: &&Arc<Pod>| pod.labels().get(labels::COMPONENT) == Some(&role);
        self.pods.shelf().iter().filter(of_role).cloned().collect()
    }
}

fn watch<G, K>(ctx: &Context, kept: &mut Kept<K>, selector: Option<&str>, read: Read<G, K>)
where
    G: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + 'static,
    K: ResourceExt + Send + Sync + 'static,
{
    for api in apis::<G>(ctx) {
        kept.watch(api, config::<G>(selector), read, &ctx.stop);
    }
}

fn config<G: Resource<DynamicType = ()>>(selector: Option<&str>) -> watcher::Config {
    // What changes by itself is watched closely; the rest is read anew before anything is done with it.
    let seconds = match G::kind(&()).as_ref() {
        "Pod" => 30,
        "Lease" | "Node" => 60,
        _ => 290,
    };
    let config = watcher::Config::default().timeout(seconds);
    match selector {
        Some(selector) => config.labels(selector),
        None => config,
    }
}

/// Reads what one store's next step depends on live: Lease, MailStore, MailCluster, pod, StatefulSet, claim, volume,
/// fence Jobs, and all nodes. The rest of the world stays as the watches show it.
///
/// # Errors
/// When one read fails: then nothing is done.
pub async fn live(ctx: &Context, cached: &World, store: &MailStore) -> anyhow::Result<World> {
    let namespace = store.namespace().unwrap_or_default();
    let within = Some(namespace.as_str());
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
    world.stores.set(within, &name, live_store);
    world.leases.set(within, &name, lease);
    world.clusters.set(within, cluster, live_cluster);
    for (name, live) in sets.iter().zip(live_sets) {
        world.sets.set(within, name, live);
    }
    for (name, live) in pods.iter().zip(live_pods) {
        world.pods.set(within, name, live);
    }
    if let Some(replica) = replica {
        let volume = claim.as_ref().and_then(|c| c.spec.as_ref()?.volume_name.clone());
        world.claims.set(within, &replica.pvc, claim);
        if let (Some(volume), true) = (volume, ctx.config.manage_volumes) {
            let api: Api<PersistentVolume> = Api::all(ctx.client.clone());
            world.volumes.set(None, &volume, limited(api.get_opt(&volume)).await?);
        }
    }
    if let Some(nodes) = nodes {
        world.nodes = nodes.into();
    }
    world.jobs.replace(within, live_jobs.items.into_iter().map(Arc::new).collect());
    Ok(world)
}

/// Reads the MailStores of this store's cluster anew: what a store that serves is stopped for must not rest on what the
/// watch shows of the others, which another leader may have begun to move a moment ago.
///
/// # Errors
/// When the API server does not answer.
pub async fn live_stores(ctx: &Context, world: &mut World, store: &MailStore) -> anyhow::Result<()> {
    let namespace = store.namespace().unwrap_or_default();
    stores_of(ctx, world, &namespace, &store.spec.cluster).await
}

async fn stores_of(ctx: &Context, world: &mut World, namespace: &str, cluster: &str) -> anyhow::Result<()> {
    let api: Api<DeserializeGuard<MailStore>> = Api::namespaced(ctx.client.clone(), namespace);
    for live in limited(api.list(&of_cluster(cluster))).await?.items {
        // One that cannot be read takes no part, as in what the watches show.
        world.stores.set(Some(namespace), &live.name_any(), live.0.ok());
    }
    Ok(())
}

fn of_cluster(cluster: &str) -> ListParams {
    ListParams::default().labels(&format!("{}={cluster}", labels::CLUSTER))
}

/// Reads a MailCluster, its MailStores and their Leases, and all nodes anew. The rest stays as the watches show it.
///
/// # Errors
/// When one read fails.
pub async fn live_cluster(ctx: &Context, cached: &World, cluster: &MailCluster) -> anyhow::Result<World> {
    let (namespace, name) = (cluster.namespace().unwrap_or_default(), cluster.name_any());
    let mut world = cached.clone();
    let leases: Api<Lease> = Api::namespaced(ctx.client.clone(), &namespace);
    let params = of_cluster(&name);
    let (live, leases, nodes) =
        tokio::try_join!(get(ctx, &namespace, &name), limited(leases.list(&params)), nodes(ctx))?;
    stores_of(ctx, &mut world, &namespace, &name).await?;
    world.clusters.set(Some(&namespace), &name, live);
    for lease in leases.items {
        world.leases.put(Arc::new(lease));
    }
    if let Some(nodes) = nodes {
        world.nodes = nodes.into();
    }
    Ok(world)
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
