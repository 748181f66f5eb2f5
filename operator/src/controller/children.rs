//! Apply: writes all children of a cluster, each kind after those it needs.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, StatefulSet},
        core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Secret, Service, ServiceAccount},
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
        rbac::v1::{ClusterRoleBinding, Role, RoleBinding},
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{Api, Resource, ResourceExt, api::Patch};
use mailcluster_api::{MailStore, labels, roles};
use serde_json::json;

use super::{
    Error,
    observe::Observed,
    plan::{self, ClaimStep, Planned},
};
use crate::{
    apply::{self, Applier, fingerprint},
    build::{self, annotate, keep::keep, tokens},
    cluster::{Cluster, Store},
    context::Context,
    failover::evictable,
    pki::secrets::{Authority, identity},
    tls_merge::{self, Merged},
    volumes,
};

/// What is there after everything was applied.
pub struct Applied {
    /// The MailStores with the plans of their copies.
    pub stores: Vec<(Vec<Planned>, MailStore)>,
    /// The stores' StatefulSets.
    pub sets: Vec<StatefulSet>,
    /// The frontends.
    pub deployment: Option<Deployment>,
    /// The Service that clients connect to.
    pub service: Option<Service>,
    /// What clients are shown.
    pub tls: Merged,
    /// When a certificate is due next, seconds since 1970.
    pub due: i64,
}

/// The ServiceAccounts of pods, by name.
type Accounts = BTreeMap<String, ServiceAccount>;

/// A copy of a store with its MailStore's owner reference.
#[derive(Clone)]
struct Owned<'a> {
    store: &'a Store,
    owner: OwnerReference,
}

/// Applies everything.
///
/// # Errors
/// At the first object that cannot be built or written; the rest follows at the next try.
pub async fn apply(
    ctx: &Context,
    cluster: &Cluster,
    observed: &Observed,
    plan: Vec<Planned>,
    now: i64,
) -> Result<Applied, Error> {
    let applier = Applier::new(ctx, &cluster.namespace, &cluster.name);
    let plans: Vec<&[Planned]> = plan.chunk_by(|a, b| a.store.name == b.store.name).collect();
    let copies = |plan: &&[Planned]| {
        build::mailstore::build(cluster, &plan.iter().map(|p| &p.store).collect::<Vec<_>>())
    };
    let wanted = plans.iter().filter_map(copies).collect();
    // Failover may have given a copy's place to a new one since they were read.
    let objects: Vec<MailStore> = applier.apply_unchanged(wanted, &observed.stores).await?;
    let all: Vec<Owned<'_>> = plans
        .iter()
        .zip(&objects)
        .filter_map(|(plan, object)| Some((plan, object.controller_owner_ref(&())?)))
        .flat_map(|(plan, owner)| plan.iter().map(move |p| Owned { store: &p.store, owner: owner.clone() }))
        .collect();
    // What belongs to the store as a whole.
    let owned: Vec<Owned<'_>> = all.iter().filter(|o| o.store.is_first()).cloned().collect();
    let (tls, due, bundle) = secrets(ctx, &applier, cluster, observed, &owned, now).await?;
    let config_hash = configs(&applier, cluster, &owned, &bundle).await?;
    let accounts = accounts(ctx, &applier, cluster, &owned).await?;
    policies(ctx, &applier, cluster, &owned).await?;
    let service: Vec<Service> = sync(&applier, vec![build::service::build(cluster)]).await?;
    claims(ctx, &applier, cluster, observed, &plan).await?;
    let binding: BTreeSet<&str> =
        plan.iter().filter(|p| p.waits_for_its_volume(observed)).map(|p| p.store.claim.as_str()).collect();
    let sets = stateful_sets(ctx, &applier, cluster, &all, (&binding, &accounts)).await?;
    let deployment = frontends(ctx, &applier, cluster, &config_hash, &accounts).await?;
    let stores = plans.iter().map(|plan| plan.to_vec()).zip(objects).collect();
    Ok(Applied { stores, sets, deployment, service: service.into_iter().next(), tls, due })
}

/// StatefulSets, with the pins of this very moment: the failover part pins a sibling, applies the StatefulSet and then
/// deletes the old pod, and an older pin written over that one would bring the pod back to the dead node. So the
/// StatefulSets are read first, then the pins, and a StatefulSet that was changed in between is not written.
///
/// `binding`: claims that ask for a volume by name and have not got it yet. The scheduler refuses a pod that comes
/// before, and may look at it again only after five minutes. `accounts`: the ServiceAccounts, by name.
async fn stateful_sets(
    ctx: &Context,
    applier: &Applier<'_>,
    cluster: &Cluster,
    owned: &[Owned<'_>],
    (binding, accounts): (&BTreeSet<&str>, &Accounts),
) -> Result<Vec<StatefulSet>, Error> {
    let live = applier.live::<StatefulSet>().await?;
    let stores = applier.live::<MailStore>().await?;
    let mut wanted = Vec::with_capacity(owned.len());
    for o in owned {
        let pinned = stores.get(&o.store.name).and_then(|s| s.spec.pinned_node.as_deref());
        let old = live.get(&o.store.stateful_set());
        if old.is_none() && binding.contains(o.store.claim.as_str()) {
            continue;
        }
        let account = accounts.get(&o.store.name);
        let account_since = tokens::account_since(account, old.map(|set| &set.metadata));
        let seat = apply::Seat { pinned, old, account_since };
        wanted.push(apply::rendered_set(ctx, cluster, o.store, &o.owner, seat)?);
    }
    let names = wanted.iter().map(ResourceExt::name_any).collect();
    let applied = applier.apply_unchanged(wanted, &live).await?;
    applier.prune(&names, &live).await?;
    Ok(applied)
}

/// The frontends, as they were rendered for this very MailCluster.
async fn frontends(
    ctx: &Context,
    applier: &Applier<'_>,
    cluster: &Cluster,
    config_hash: &str,
    accounts: &Accounts,
) -> Result<Option<Deployment>, Error> {
    let live = applier.live::<Deployment>().await?;
    let name = cluster.names().frontend();
    let old = live.get(&name);
    let rendered = build::deployment::template(cluster, &ctx.config, config_hash);
    let (mut template, kept) = keep(cluster, old.map(ResourceExt::annotations), rendered)?;
    // Beside what is kept: a new account rolls the pods whatever the MailCluster says.
    if let Some(since) = tokens::account_since(accounts.get(&name), old.map(|d| &d.metadata)) {
        annotate(
            template.metadata.get_or_insert_default(),
            [(labels::ACCOUNT_SINCE.to_owned(), since)].into(),
        );
    }
    let mut deployment = build::deployment::build(cluster, template);
    annotate(&mut deployment.metadata, kept);
    let names = [deployment.name_any()].into();
    let applied = applier.apply(vec![deployment], &live).await?;
    applier.prune(&names, &live).await?;
    Ok(applied.into_iter().next())
}

/// Applies all children of one kind and removes those that are wanted no more.
async fn sync<K>(applier: &Applier<'_>, wanted: Vec<K>) -> Result<Vec<K>, Error>
where
    K: apply::Child + Resource<Scope = k8s_openapi::NamespaceResourceScope>,
{
    let live = applier.live::<K>().await?;
    let names: BTreeSet<String> = wanted.iter().map(ResourceExt::name_any).collect();
    let applied = applier.apply(wanted, &live).await?;
    applier.prune(&names, &live).await?;
    Ok(applied)
}

/// The CA, everybody's identity, and what clients are shown; returns the latter, when to look again, and the trusted CAs.
async fn secrets(
    ctx: &Context,
    applier: &Applier<'_>,
    cluster: &Cluster,
    observed: &Observed,
    owned: &[Owned<'_>],
    now: i64,
) -> Result<(Merged, i64, String), Error> {
    let (names, lifetimes) = (cluster.names(), &ctx.config.lifetimes);
    let handed_out: Vec<_> = observed.secrets.keys().map(|name| observed.secret(name)).collect();
    let handed_out: Vec<_> = handed_out.iter().collect();
    let authority = Authority::next(&observed.secret(&names.ca()), &handed_out, &cluster.id, now, lifetimes)?;
    let mut due = authority.due;
    let mut wanted = vec![build::secret::of_cluster(cluster, names.ca(), authority.to_data())];
    for (name, role) in [
        (names.frontend_identity(), roles::Role::Frontend),
        (names.operator_identity(), roles::Role::Operator),
    ] {
        let (data, renew) =
            identity(&observed.secret(&name), &authority, &cluster.identity(role), now, lifetimes)?;
        due = due.min(renew);
        wanted.push(build::secret::of_cluster(cluster, name, data));
    }
    for Owned { store, owner } in owned {
        let before = observed.secret(&store.names().identity());
        let (data, renew) = identity(&before, &authority, &store.identity(cluster), now, lifetimes)?;
        due = due.min(renew);
        wanted.push(build::secret::of_store(cluster, store, owner, data));
    }
    let sources: Vec<_> = observed.certificates.iter().map(|(n, d)| (n.as_str(), d.clone())).collect();
    let tls = tls_merge::merge(&sources, &observed.secret(&names.tls()), &cluster.spec.hostname, now)?;
    wanted.push(build::secret::of_cluster(cluster, names.tls(), tls.data.clone()));
    let keep: BTreeSet<String> = wanted.iter().map(ResourceExt::name_any).collect();
    applier.apply::<Secret>(wanted, &observed.secrets).await?;
    applier.prune(&keep, &observed.secrets).await?;
    Ok((tls, due, authority.bundle))
}

/// The nodes' configuration, as it was rendered for this very MailCluster: the image that reads it is no newer. Returns
/// the hash of the frontends'.
async fn configs(
    applier: &Applier<'_>,
    cluster: &Cluster,
    owned: &[Owned<'_>],
    bundle: &str,
) -> Result<String, Error> {
    let live = applier.live::<ConfigMap>().await?;
    let frontends = build::config::frontends(cluster)?;
    let hash = fingerprint(&serde_json::to_value(&frontends.data)?);
    let mut wanted = vec![frontends];
    for Owned { store, owner } in owned {
        wanted.push(build::config::store(cluster, store, owner)?);
    }
    for map in &mut wanted {
        let old = live.get(&map.name_any()).map(ResourceExt::annotations);
        let (data, kept) = keep(cluster, old, map.data.take())?;
        map.data = data;
        annotate(&mut map.metadata, kept);
    }
    wanted.push(build::config::authority(cluster, bundle));
    let names = wanted.iter().map(ResourceExt::name_any).collect();
    applier.apply(wanted, &live).await?;
    applier.prune(&names, &live).await?;
    Ok(hash)
}

/// ServiceAccounts, Roles and their bindings.
async fn accounts(
    ctx: &Context,
    applier: &Applier<'_>,
    cluster: &Cluster,
    owned: &[Owned<'_>],
) -> Result<Accounts, Error> {
    let all = [build::rbac::frontends(cluster), build::rbac::admin(cluster)]
        .into_iter()
        .chain(owned.iter().map(|o| build::rbac::store(cluster, o.store, &o.owner)));
    let (mut accounts, mut roles, mut bindings) = (vec![], vec![], vec![]);
    for part in all {
        accounts.push(part.account);
        if let Some((role, binding)) = part.role {
            roles.push(role);
            bindings.push(binding);
        }
    }
    let accounts = sync::<ServiceAccount>(applier, accounts).await?;
    sync::<Role>(applier, roles).await?;
    sync::<RoleBinding>(applier, bindings).await?;
    if let Some(role) = &ctx.config.token_review_cluster_role {
        let api: Api<ClusterRoleBinding> = Api::all(ctx.client.clone());
        let binding = build::rbac::token_review(cluster, role);
        let mut live = api.get_opt(&binding.name_any()).await?;
        if let Some(other) = live.take_if(|live| live.role_ref != binding.role_ref) {
            // A binding cannot change its role: it is made anew.
            apply::delete(&api, &other.name_any(), other.uid()).await?;
        }
        apply::apply_one(ctx, &api, binding, live.as_ref()).await?;
    }
    Ok(accounts.into_iter().map(|account| (account.name_any(), account)).collect())
}

/// NetworkPolicies and PodDisruptionBudgets.
async fn policies(
    ctx: &Context,
    applier: &Applier<'_>,
    cluster: &Cluster,
    owned: &[Owned<'_>],
) -> Result<(), Error> {
    sync::<NetworkPolicy>(applier, build::network::build(cluster, &ctx.config)).await?;
    // As with the pins: read first what is there, then what failover says of it now.
    let live = applier.live::<PodDisruptionBudget>().await?;
    let stores = applier.live::<MailStore>().await?;
    let mut budgets = vec![build::disruption::frontends(cluster)];
    for o in owned {
        let allowed = stores.get(&o.store.name).map_or(0, evictable::budget);
        budgets.push(build::disruption::store(cluster, o.store, &o.owner, allowed));
    }
    let names = budgets.iter().map(ResourceExt::name_any).collect();
    applier.apply_unchanged(budgets, &live).await?;
    applier.prune(&names, &live).await?;
    Ok(())
}

/// Marks what copies have left behind whose places others have: it is kept, and is no copy of the store any more.
async fn retire(
    ctx: &Context,
    cluster: &Cluster,
    observed: &Observed,
    plan: &[Planned],
) -> Result<(), Error> {
    let mark = Patch::Merge(json!({"metadata": {"labels": {labels::RETIRED: "true"}}}));
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(ctx.client.clone(), &cluster.namespace);
    let all: Api<PersistentVolume> = Api::all(ctx.client.clone());
    for claim in plan::to_retire(plan, observed) {
        // The claim last: while it is not marked, this is done again.
        if let Some(volume) = observed.volume_of(&claim.name_any()) {
            all.patch(&volume.name_any(), &apply::ours(), &mark).await?;
        }
        claims.patch(&claim.name_any(), &apply::ours(), &mark).await?;
        tracing::info!(claim = claim.name_any(), "the claim of a copy that was replaced is kept, and marked");
    }
    Ok(())
}

/// Claims and the labels of their volumes. A claim that is missing stays missing.
async fn claims(
    ctx: &Context,
    applier: &Applier<'_>,
    cluster: &Cluster,
    observed: &Observed,
    plan: &[Planned],
) -> Result<(), Error> {
    let all: Api<PersistentVolume> = Api::all(ctx.client.clone());
    for volume in plan::to_release(plan, cluster, &observed.volumes) {
        let patch = json!({"metadata": {"resourceVersion": volume.resource_version()}, "spec": {"claimRef": {"uid": null, "resourceVersion": null}}});
        all.patch(&volume.name_any(), &apply::ours(), &Patch::Merge(patch)).await?;
        tracing::info!(volume = volume.name_any(), "the volume is given back to the claim it belongs to");
    }
    let wanted = plan.iter().filter_map(|planned| match &planned.claim {
        ClaimStep::Missing => None,
        ClaimStep::Create { volume } => Some(build::claim::build(cluster, &planned.store, volume.clone())),
        ClaimStep::Keep => {
            // Its spec can hardly be changed, and must not be; the volume it is bound to stays as it is.
            let live = observed.claims.get(&planned.store.claim)?;
            let mut claim = build::claim::build(cluster, &planned.store, None);
            claim.spec.clone_from(&live.spec);
            Some(claim)
        }
    });
    applier.apply::<PersistentVolumeClaim>(wanted.collect(), &observed.claims).await?;
    retire(ctx, cluster, observed, plan).await?;
    for planned in plan {
        let Some(volume) = observed.volume_of(&planned.store.claim) else { continue };
        let labels = build::claim::volume_labels(cluster, &planned.store);
        if let Some(patch) = volumes::keep_patch(volume, &labels) {
            all.patch(&volume.name_any(), &apply::ours(), &Patch::Merge(patch)).await?;
            tracing::info!(
                volume = volume.name_any(),
                store = planned.store.name,
                "volume labelled and retained"
            );
        }
    }
    Ok(())
}
