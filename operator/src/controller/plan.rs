//! Which stores there shall be, with which copies, and what to do about their volumes: pure.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::ResourceExt;
use mailcluster_api::{MailStore, mailstore::StoreKind};

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

/// A store that shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// The store.
    pub store: Store,
    /// What to do about its claim.
    pub claim: ClaimStep,
}

/// Plans all stores of a cluster, the directory first. `draw` gives new replica ids.
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
    names
        .stores(count)
        .map(|name| {
            let kind = if name == directory { StoreKind::Directory } else { StoreKind::Mail };
            let known = volumes::replica_of(&name, &cluster.namespace, &claims, &observed.volumes)?;
            let object = observed.stores.get(&name);
            let store = match (object.and_then(Store::of), &known) {
                (Some(store), _) => store,
                (None, Some(known)) => {
                    Store { name, kind, replica: known.replica.clone(), claim: known.claim.clone() }
                }
                (None, None) => {
                    let replica = draw()?;
                    let claim = mailcluster_api::names::StoreNames::new(name.clone()).claim(&replica);
                    Store { name, kind, replica, claim }
                }
            };
            let claim = claim_step(&store, object, known.as_ref(), observed);
            Ok(Planned { store, claim })
        })
        .collect()
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
    let volume = known.filter(|k| k.replica == store.replica).and_then(|k| k.volume.clone());
    // A volume that is being deleted cannot be kept from going.
    let stays = |v: &PersistentVolume| v.metadata.deletion_timestamp.is_none();
    let volume = volume.filter(|name| observed.volumes.iter().any(|v| v.name_any() == *name && stays(v)));
    if volume.is_some() {
        return ClaimStep::Create { volume };
    }
    let status = object.and_then(|o| o.status.as_ref());
    let was_there = status.is_some_and(|s| s.serving.is_some() || s.claimed.contains(&store.claim));
    if was_there { ClaimStep::Missing } else { ClaimStep::Create { volume: None } }
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
