use std::sync::Arc;

use mailcluster_failover::next_step;

use super::*;
use crate::failover::observe::tests::{NOW, frozen, renewing};

/// What is left behind of these annotations by a store that p1 serves from n1; also with its pod on its way out.
fn left(annotations: &[(&str, &str)], terminating: bool) -> Option<Value> {
    let mut world = frozen();
    let store = Arc::make_mut(&mut world.stores[0]);
    store.spec.pinned_node = Some("n1".into());
    store.annotations_mut().extend(annotations.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
    if terminating {
        let gone = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        Arc::make_mut(&mut world.pods[0]).metadata.deletion_timestamp = Some(gone);
    }
    let o = renewing(&world);
    changes(&world, &world.stores[0], &o, &next_step(&o), NOW)
}

#[test]
fn what_is_over_goes_while_the_store_serves() {
    let cases = [
        ("a request that is done", keys::FAILOVER, "n1", true),
        ("a pod before this one", keys::DELETING, "p0", true),
        ("this pod, which stands: the leader died before it deleted it", keys::DELETING, "p1", true),
        ("a word about a pod before this one", keys::FENCE_CONFIRMED, "p0", true),
        ("a word about this pod", keys::FENCE_CONFIRMED, "p1", false),
        ("a lease that was made anew by a leader that died then", keys::RESTORE_LEASE, "true", true),
        ("nothing that is known", "example.org/note", "x", false),
    ];
    for (name, key, value, goes) in cases {
        assert_eq!(left(&[(key, value)], false), goes.then(|| json!({ key: null })), "{name}");
    }
    let (closed, open) = ("n2 2027-01-15T08:00:00Z", "n2 2027-01-15T08:00:01Z");
    assert_eq!(left(&[(keys::REBALANCED, open)], false), None, "its window is open");
    assert_eq!(left(&[(keys::REBALANCED, closed)], false), Some(json!({ keys::REBALANCED: null })));
    let late = [(keys::FAILOVER, "n2"), (keys::REBALANCED, closed)];
    let both = json!({ keys::FAILOVER: null, keys::REBALANCED: null });
    assert_eq!(left(&late, false), Some(both), "a request of the operator's own that came to nothing");
    assert_eq!(left(&[(keys::DELETING, "p1")], true), None, "the pod is going as we asked");
    assert_eq!(left(&[(keys::HELD_BY, "p0")], false), Some(json!({ keys::HELD_BY: "p1" })));
    assert_eq!(left(&[], false), None);
}
