//! `store adopt`: how far the adoption of a disk that was moved is, from the objects alone. Pure; `effects` does it.
//!
//! A PersistentVolume's node affinity cannot be changed, so its object is made anew: same name, same source, bound to
//! the same claim by UID, reached from the new node alone. Its claim is `Lost` meanwhile, and Bound again when a volume
//! of its name that names it is there. What the new object shall be is written to the MailStore before the old one is
//! deleted: whoever leads goes on from there.

mod effects;

use k8s_openapi::{
    api::core::v1::{
        Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, ObjectReference, PersistentVolume,
        PersistentVolumeClaim, Pod, VolumeNodeAffinity,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::ResourceExt;
use mailcluster_api::{MailStore, adoption::Request};
use mailcluster_failover::{Adoption, AdoptionState, AdoptionStep};

use super::{annotations as keys, cache::World};
use crate::volumes;

/// Keeps a PersistentVolume for as long as its claim is bound.
const PROTECTION: &str = "kubernetes.io/pv-protection";
/// The label by which volumes name their nodes; its value need not be the node's name.
const HOSTNAME: &str = "kubernetes.io/hostname";
/// Set by the controller that bound a volume; one that was made for its claim has none.
const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// The only policy under which deleting the object leaves the disk alone.
const RETAIN: &str = "Retain";

/// The adoption that a person asks for, and how far it is. `may_adopt`: may PersistentVolumes be made and deleted?
#[must_use]
pub fn view(world: &World, store: &MailStore, may_adopt: bool) -> Option<Adoption> {
    let text = store.annotations().get(keys::ADOPT)?;
    Some(match serde_json::from_str::<Request>(text) {
        Ok(asked) => {
            let state = state(world, store, &asked, may_adopt).unwrap_or_else(AdoptionState::Refused);
            Adoption { to: asked.to, state }
        }
        Err(error) => Adoption {
            to: String::new(),
            state: AdoptionState::Refused(format!("the annotation {} cannot be read: {error}", keys::ADOPT)),
        },
    })
}

fn state(
    world: &World,
    store: &MailStore,
    asked: &Request,
    may_adopt: bool,
) -> Result<AdoptionState, String> {
    let record = recorded(store, asked);
    if record.is_none() && !may_adopt {
        return Err("the operator may not make PersistentVolumes anew: set the chart's value clusterAccess.adoptVolumes to true".into());
    }
    let claim = world.claim(store).ok_or("the store's claim is not there")?;
    match (claim.metadata.deletion_timestamp.is_some(), &record) {
        (true, None) => return Err("the store's claim is being deleted".into()),
        (true, Some(_)) => return Ok(AdoptionState::Await("the claim, which is being deleted")),
        (false, _) => {}
    }
    if claim.spec.as_ref().and_then(|s| s.volume_name.as_ref()) != Some(&asked.pv) {
        return Err(format!(
            "PersistentVolume {} is not the one that the store's claim is bound to",
            asked.pv
        ));
    }
    let volume = world.volumes.get(None, &asked.pv);
    match (volume, record) {
        (None, Some(_)) => Ok(AdoptionState::Due(AdoptionStep::Create)),
        (None, None) => Err(format!("there is no PersistentVolume {}", asked.pv)),
        (Some(volume), record) if volume.uid().as_ref() == Some(&asked.uid) => {
            old_volume(world, volume, claim, asked, record.is_some())
        }
        (Some(volume), _) if volume.annotations().get(keys::ADOPTED_FROM) == Some(&asked.uid) => {
            Ok(made(volume, claim, world.pod(store).map(|p| &**p)))
        }
        (Some(_), _) => Err(format!("PersistentVolume {} was made anew by somebody else", asked.pv)),
    }
}

/// The object is still the one that the person looked at.
fn old_volume(
    world: &World,
    volume: &PersistentVolume,
    claim: &PersistentVolumeClaim,
    asked: &Request,
    is_recorded: bool,
) -> Result<AdoptionState, String> {
    let goes = volume.metadata.deletion_timestamp.is_some();
    if goes && !is_recorded {
        return Err(format!("PersistentVolume {} is being deleted by somebody else", asked.pv));
    }
    if goes {
        let ours = volume.finalizers().iter().any(|f| f == PROTECTION);
        return Ok(match (retains(volume), ours) {
            (false, _) => AdoptionState::Await("the volume's reclaim policy to be Retain again"),
            (true, true) => AdoptionState::Due(AdoptionStep::Release),
            (true, false) => AdoptionState::Await("the old volume's object to go"),
        });
    }
    may_be_replaced(world, volume, claim, asked)?;
    Ok(AdoptionState::Due(if is_recorded { AdoptionStep::Delete } else { AdoptionStep::Record }))
}

/// Nothing is lost when the object goes and comes again for the other node.
fn may_be_replaced(
    world: &World,
    volume: &PersistentVolume,
    claim: &PersistentVolumeClaim,
    asked: &Request,
) -> Result<(), String> {
    let spec = volume.spec.as_ref();
    let owner = spec.and_then(|s| s.claim_ref.as_ref()).and_then(|r| r.uid.as_ref());
    let reached = volumes::reached_from(volume, world.nodes.iter().map(|n| &**n));
    if !retains(volume) {
        return Err(format!("the reclaim policy of PersistentVolume {} is not Retain", asked.pv));
    }
    if spec.is_none_or(|s| s.local.is_none()) {
        return Err(format!(
            "PersistentVolume {} is not a local volume: its driver says which nodes reach it",
            asked.pv
        ));
    }
    if owner.is_none() || owner != claim.metadata.uid.as_ref() {
        return Err(format!("PersistentVolume {} is bound to another claim", asked.pv));
    }
    if let Some(other) = volume.finalizers().iter().find(|f| *f != PROTECTION) {
        return Err(format!("PersistentVolume {} is kept by the finalizer {other}", asked.pv));
    }
    if world.nodes.get(None, &asked.to).is_none() {
        return Err(format!("there is no node {}", asked.to));
    }
    if reached.is_none_or(|names| names.contains(&asked.to)) {
        return Err(format!(
            "node {} reaches PersistentVolume {} already: use `kubectl mailcluster failover --to`",
            asked.to, asked.pv
        ));
    }
    Ok(())
}

/// The object is the new one.
fn made(volume: &PersistentVolume, claim: &PersistentVolumeClaim, pod: Option<&Pod>) -> AdoptionState {
    let bound = claim.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound");
    if !bound || volume.metadata.deletion_timestamp.is_some() {
        return AdoptionState::Await("the claim to be bound to the volume that was made anew");
    }
    let unplaced = pod.filter(|p| {
        p.metadata.deletion_timestamp.is_none() && p.spec.as_ref().is_some_and(|s| s.node_name.is_none())
    });
    let made = volume.metadata.creation_timestamp.as_ref();
    let older = unplaced.filter(|p| p.metadata.creation_timestamp.as_ref() <= made);
    AdoptionState::Done { refused_pod: older.and_then(ResourceExt::uid) }
}

fn retains(volume: &PersistentVolume) -> bool {
    let policy = volume.spec.as_ref().and_then(|s| s.persistent_volume_reclaim_policy.as_deref());
    policy == Some(RETAIN)
}

/// The volume as it shall be, if it was written down for this very request.
fn recorded(store: &MailStore, asked: &Request) -> Option<PersistentVolume> {
    let record: PersistentVolume = serde_json::from_str(store.annotations().get(keys::ADOPTING)?).ok()?;
    let of_this = record.annotations().get(keys::ADOPTED_FROM) == Some(&asked.uid)
        && record.name_any() == asked.pv
        && record.spec.as_ref().and_then(|s| s.node_affinity.as_ref()).is_some();
    of_this.then_some(record)
}

/// The same volume, reached from the node with this hostname alone, and bound to the claim that it is bound to.
fn made_anew(old: &PersistentVolume, hostname: &str) -> PersistentVolume {
    let mut annotations = old.annotations().clone();
    annotations.remove(BOUND_BY_CONTROLLER);
    annotations.insert(keys::ADOPTED_FROM.into(), old.uid().unwrap_or_default());
    let term = NodeSelectorTerm {
        match_expressions: Some(vec![NodeSelectorRequirement {
            key: HOSTNAME.into(),
            operator: "In".into(),
            values: Some(vec![hostname.to_owned()]),
        }]),
        match_fields: None,
    };
    let mut spec = old.spec.clone().unwrap_or_default();
    spec.node_affinity =
        Some(VolumeNodeAffinity { required: Some(NodeSelector { node_selector_terms: vec![term] }) });
    spec.claim_ref = spec.claim_ref.map(|claim| ObjectReference { resource_version: None, ..claim });
    PersistentVolume {
        metadata: ObjectMeta {
            name: old.metadata.name.clone(),
            labels: old.metadata.labels.clone(),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        status: None,
    }
}

/// What a node's volumes are told by.
fn hostname(node: &Node) -> String {
    node.labels().get(HOSTNAME).cloned().unwrap_or_else(|| node.name_any())
}

#[cfg(test)]
mod tests;
