//! Which stores there shall be, with which copies, and what to do about their volumes: pure.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::ResourceExt;
use mailcluster_api::{
    MailStore, labels,
    mailstore::{MailStoreStatus, StoreKind},
    names::StoreNames,
};

use super::observe::Observed;
use crate::{
    cluster::{Cluster, Invalid, Store},
    volumes::{self, Known},
};

/// What to do about the claim of a store's copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimStep {
    /// It is there; only its labels are kept as they should be.
    Keep,
    /// It was never made: make it. Or its volume is still there: take that up again.
    Create {
        /// The volume that already holds this copy.
        volume: Option<String>,
    },
    /// It was there and is gone: nothing is made in its place.
    Missing,
}

/// A copy of a store that shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// The store, as this copy.
    pub store: Store,
    /// What to do about its claim.
    pub claim: ClaimStep,
}

/// Plans all stores of a cluster, the directory first, each with its copies in their order. `draw` gives new replica ids.
///
/// # Errors
/// When volumes contradict each other.
pub fn stores<E: From<Invalid>>(
    cluster: &Cluster,
    observed: &Observed,
    mut draw: impl FnMut() -> Result<String, E>,
) -> Result<Vec<Planned>, E> {
    let names = cluster.names();
    let claims: Vec<PersistentVolumeClaim> = observed.claims.values().cloned().collect();
    let directory = names.directory();
    // A store beyond the count stays: accounts live on it, and the schema refuses to shrink.
    let beyond = observed.stores.keys().filter_map(|name| names.store_number(name)).map(|n| n + 1).max();
    let count = cluster.store_count().max(beyond.unwrap_or(0));
    let mut plan = Vec::new();
    for name in names.stores(count) {
        let kind = if name == directory { StoreKind::Directory } else { StoreKind::Mail };
        let known = volumes::replicas_of(&name, &cluster.namespace, &claims, &observed.volumes);
        let object = observed.stores.get(&name);
        let copies = match object.map(Store::copies).filter(|copies| !copies.is_empty()) {
            Some(copies) => copies,
            None => {
                let mut ids = known_ids(cluster, &name, &known)?;
                while ids.len() < cluster.spec.stores.replicas() {
                    let replica = draw()?;
                    let claim = StoreNames::new(name.clone()).claim(&replica);
                    ids.push((replica, claim));
                }
                Store::new(&name, kind, ids)
            }
        };
        plan.extend(copies.into_iter().map(|store| {
            let known = known.iter().find(|known| known.replica == store.replica);
            let claim = claim_step(&store, object, known, observed);
            Planned { store, claim }
        }));
    }
    Ok(plan)
}

/// The copies that volumes tell of, with their claims; there may not be more of them than the store shall have.
fn known_ids(cluster: &Cluster, store: &str, known: &[Known]) -> Result<Vec<(String, String)>, Invalid> {
    if known.len() > cluster.spec.stores.replicas() {
        let claims = known.iter().map(|k| k.claim.as_str()).collect::<Vec<_>>().join(", ");
        return Err(Invalid::TooManyReplicas { store: store.into(), claims });
    }
    Ok(known.iter().map(|k| (k.replica.clone(), k.claim.clone())).collect())
}

impl Planned {
    /// Its claim names a volume and is not bound to it yet.
    #[must_use]
    pub fn waits_for_its_volume(&self, observed: &Observed) -> bool {
        match &self.claim {
            ClaimStep::Create { volume } => volume.is_some(),
            ClaimStep::Keep => observed.claims.get(&self.store.claim).is_some_and(volumes::binds_by_name),
            ClaimStep::Missing => false,
        }
    }
}

fn claim_step(
    store: &Store,
    object: Option<&MailStore>,
    known: Option<&Known>,
    observed: &Observed,
) -> ClaimStep {
    if observed.claims.contains_key(&store.claim) {
        return ClaimStep::Keep;
    }
    let volume = known.and_then(|k| k.volume.clone());
    // A volume that is being deleted cannot be kept from going.
    let stays = |v: &PersistentVolume| v.metadata.deletion_timestamp.is_none();
    let volume = volume.filter(|name| observed.volumes.iter().any(|v| v.name_any() == *name && stays(v)));
    if volume.is_some() {
        return ClaimStep::Create { volume };
    }
    let status = object.and_then(|o| o.status.as_ref());
    // A copy that takes another's place has no claim yet, although the store is served.
    let was_open = |s: &MailStoreStatus| match store.is_mirrored() {
        true => s.was_opened(&store.replica),
        false => s.serving.is_some(),
    };
    let was_there = status.is_some_and(|s| was_open(s) || s.claimed.contains(&store.claim));
    if was_there { ClaimStep::Missing } else { ClaimStep::Create { volume: None } }
}

/// Claims of copies whose places others have, which do not say so yet.
#[must_use]
pub fn to_retire<'a>(plan: &[Planned], observed: &'a Observed) -> Vec<&'a PersistentVolumeClaim> {
    let is_retired = |claim: &&PersistentVolumeClaim| {
        let of = |key: &str| claim.labels().get(key);
        let mut copies = plan.iter().map(|p| &p.store).filter(|store| of(labels::STORE) == Some(&store.name));
        let is_known = copies.clone().next().is_some() && of(labels::REPLICA).is_some();
        is_known
            && of(labels::RETIRED).is_none()
            && copies.all(|store| of(labels::REPLICA) != Some(&store.replica))
    };
    observed.claims.values().filter(is_retired).collect()
}

/// The volumes whose last claim is gone and that must forget its UID, so that the same claim made anew can have them.
#[must_use]
pub fn to_release<'a>(
    plan: &[Planned],
    cluster: &Cluster,
    volumes: &'a [PersistentVolume],
) -> Vec<&'a PersistentVolume> {
    plan.iter()
        .filter_map(|planned| match &planned.claim {
            ClaimStep::Create { volume: Some(volume) } => {
                let found = volumes.iter().find(|v| v.name_any() == *volume)?;
                volumes::waits_for_claim(found, &cluster.namespace, &planned.store.claim).then_some(found)
            }
            _ => None,
        })
        .collect()
}

#[cfg(test)]
#[path = "plan/tests.rs"]
mod tests;
