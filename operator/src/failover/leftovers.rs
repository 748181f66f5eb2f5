//! Annotations that are to change while a store serves: whose machine the status names, and what requests that are
//! done, or leaders that died on the way, left behind. Pure.

use kube::ResourceExt;
use mailcluster_api::MailStore;
use mailcluster_failover::{AdoptionState, Decision, Observation, Phase, Placement, Step};
use serde_json::{Map, Value, json};

use super::{annotations as keys, cache::World, evictable, holds, observe, rebalance};

/// The changes to the store's annotations; `None` when there are none, or when it is not known to serve and be left
/// alone.
#[must_use]
pub fn changes(
    world: &World,
    store: &MailStore,
    o: &Observation,
    decision: &Decision,
    now: i64,
) -> Option<Value> {
    if decision.phase != Phase::Serving || decision.step != Step::Idle {
        return None;
    }
    let fresh = o.lease.as_ref().is_some_and(|l| l.unchanged_for.is_some_and(|age| age < o.store.lease_ms));
    let seat = world
        .pod(store)
        .and_then(|p| observe::seat_of(p, &o.nodes))
        .filter(|s| holds(o, &s.pod_uid) && fresh)?;
    let mut changes = Map::new();
    if store.annotations().get(keys::HELD_BY) != Some(&seat.pod_uid) {
        changes.insert(keys::HELD_BY.into(), json!(seat.pod_uid));
    }
    let is_void = world.cluster(store).is_some_and(|cluster| rebalance::is_void(store, cluster, now));
    let done = done(store, o, &seat, now).into_iter();
    let void = [(keys::FAILOVER, is_void), (keys::REBALANCED, rebalance::is_over(store, now))];
    changes.extend(
        done.chain(void)
            .filter(|(key, done)| *done && store.annotations().contains_key(*key))
            .map(|(key, _)| (key.to_owned(), Value::Null)),
    );
    (!changes.is_empty()).then_some(Value::Object(changes))
}

/// Each annotation that may go, and whether what it says is over.
fn done(store: &MailStore, o: &Observation, seat: &Placement, now: i64) -> [(&'static str, bool); 8] {
    let says = |key: &str, what: &str| store.annotations().get(key).is_some_and(|value| value == what);
    let of_seat = |key: &str| says(key, &seat.pod_uid);
    // A leader may die between its note and the deletion: should another delete the pod some day, its end must not
    // count as the kubelet's answer to us.
    let goes = o.pod.as_ref().is_some_and(|p| p.uid == seat.pod_uid && p.terminating);
    let adopted = o
        .adoption
        .as_ref()
        .is_some_and(|a| matches!(a.state, AdoptionState::Done { .. }) && a.to == seat.node);
    // A drain that was called off leaves its word behind; the next one says it anew.
    let shut = evictable::view(store, now)
        .is_some_and(|w| w.open_ms.is_none() && (w.pod_uid != seat.pod_uid || o.request.is_none()));
    let lease = o.lease.as_ref().map(|lease| &lease.record);
    let forced = matches!((&o.force, lease), (Some(Ok(order)), Some(record)) if order.is_done(record));
    [
        (keys::FORCE, forced),
        (keys::FAILOVER, says(keys::FAILOVER, &seat.node)),
        (keys::DELETING, !(of_seat(keys::DELETING) && goes)),
        (keys::FENCE_CONFIRMED, !of_seat(keys::FENCE_CONFIRMED)),
        // The lease is there and is renewed: nothing is restored, now or later, without a new request.
        (keys::RESTORE_LEASE, true),
        (keys::ADOPT, adopted),
        (keys::ADOPTING, adopted),
        (keys::EVICTION, shut),
    ]
}

#[cfg(test)]
mod tests;
