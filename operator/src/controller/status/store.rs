//! The status of a store, as far as it speaks of its volume. Pure.

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Condition, jiff::Timestamp};
use kube::ResourceExt;
use mailcluster_api::{
    MailStore,
    condition::{self, Draft},
    mailstore::FailoverMode,
};
use serde_json::{Value, json};

use crate::{
    controller::{
        observe::Observed,
        plan::{ClaimStep, Planned},
    },
    failover::annotations as keys,
    volumes,
};

/// The operator's part of a MailStore's status (claims, failover mode, conditions about the volume), as JSON, so that
/// what belongs to others is not in it.
#[must_use]
pub fn of_store(copies: &[Planned], store: &MailStore, observed: &Observed, now: Timestamp) -> Value {
    let old = store.status.clone().unwrap_or_default();
    let mut claimed = old.claimed.clone();
    for claim in copies.iter().map(|copy| &copy.store.claim) {
        // One that was never bound holds nothing, and may be made anew.
        let bound = observed.claims.get(claim).is_some_and(volumes::was_bound);
        if bound && !claimed.contains(claim) {
            claimed.push(claim.clone());
        }
    }
    let mode = match copies {
        [alone] => observed
            .volume_of(&alone.store.claim)
            .map(|volume| volumes::failover_mode(volume, &observed.nodes))
            .or(old.failover),
        _ => Some(FailoverMode::Mirror),
    };
    // The first that is missing is told of; the next, when that one is back.
    let mut volumes = copies.iter().map(|copy| missing(copy, observed, store));
    let first = volumes.next();
    let missing = volumes.fold(first, |worst, next| worst.filter(Draft::is_true).or(Some(next)));
    let single = match mode {
        Some(FailoverMode::None) => Draft::yes(
            condition::SINGLE_NODE_VOLUME,
            "OneNode",
            "only one node reaches this store's volume: when it dies, the store waits for it. Use volumes that two nodes reach",
        ),
        Some(_) => Draft::no(condition::SINGLE_NODE_VOLUME, "SeveralNodes", ""),
        None => Draft::unknown(
            condition::SINGLE_NODE_VOLUME,
            "NotBound",
            "the volume is not bound yet, or may not be read",
        ),
    };
    let generation = store.metadata.generation;
    let conditions =
        condition::merge(missing.into_iter().chain([single]).collect(), &old.conditions, generation, now);
    let mut status = json!({"observedGeneration": generation, "claimed": claimed, "conditions": conditions});
    if let Some(mode) = mode {
        status["failover"] = json!(mode);
    }
    status
}

/// The condition about a volume that is to be told in an event: one that was not there, or for another reason.
#[must_use]
pub fn volume_news(store: &MailStore, wanted: &Value) -> Option<Condition> {
    let conditions: Vec<Condition> = serde_json::from_value(wanted["conditions"].clone()).ok()?;
    let missing = |all: &[Condition]| {
        all.iter().find(|c| c.type_ == condition::VOLUME_MISSING && c.status == "True").cloned()
    };
    let old = missing(&store.status.as_ref().map(|s| s.conditions.clone()).unwrap_or_default());
    missing(&conditions).filter(|new| old.is_none_or(|old| old.reason != new.reason))
}

/// Is the volume gone, or about to go? Nothing is made in its place.
fn missing(planned: &Planned, observed: &Observed, store: &MailStore) -> Draft {
    let name = &planned.store.claim;
    let gone = |reason, message| Draft::yes(condition::VOLUME_MISSING, reason, message);
    if planned.claim == ClaimStep::Missing {
        return gone(
            "ClaimGone",
            format!(
                "PersistentVolumeClaim {name} is gone, and with it this store's mail: restore it under the same name; it is not replaced by an empty one"
            ),
        );
    }
    let claim = observed.claims.get(name);
    if claim.is_some_and(|c| c.metadata.deletion_timestamp.is_none())
        && store.annotations().contains_key(keys::ADOPTING)
    {
        let why = "the PersistentVolume is made anew for the node that has the disk now";
        return Draft::no(condition::VOLUME_MISSING, "Adopting", why);
    }
    let named = claim.and_then(|c| c.spec.as_ref()?.volume_name.as_deref()).unwrap_or_default();
    let volume = observed.volume_of(name);
    let policy = volume
        .and_then(|v| v.spec.as_ref()?.persistent_volume_reclaim_policy.as_deref())
        .unwrap_or("not known");
    if claim.is_some_and(|c| c.metadata.deletion_timestamp.is_some()) {
        return gone(
            "ClaimTerminating",
            format!(
                "PersistentVolumeClaim {name} is being deleted and goes when its pod ends; the store is not moved meanwhile. The reclaim policy of its volume {named} is {policy}: unless that is Retain, take a copy of the mail now. A retained volume is taken up again"
            ),
        );
    }
    let lost = claim.is_some_and(|c| c.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Lost"));
    if lost || (observed.volumes_known && !named.is_empty() && volume.is_none()) {
        return gone(
            "VolumeGone",
            format!(
                "PersistentVolume {named}, to which claim {name} is bound, is gone: create it anew under that name, for the same disk, with claimRef to the claim"
            ),
        );
    }
    if volume.is_some_and(|v| v.metadata.deletion_timestamp.is_some()) {
        return gone(
            "VolumeTerminating",
            format!(
                "PersistentVolume {named} is being deleted and goes with claim {name}; its reclaim policy is {policy}: keep the claim, and take a copy of the mail"
            ),
        );
    }
    Draft::no(condition::VOLUME_MISSING, "ClaimThere", "")
}
