use std::sync::Arc;

use mailcluster_failover::{Observation, Phase, Step, TargetKind};

use super::*;
use crate::failover::observe::tests::{frozen, observed, unready};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn fencing(step: Step) -> Decision {
    Decision { phase: Phase::Fencing, step }
}

fn noted(crashes: &mut Vec<Crash>, o: &Observation, step: Step, seconds: i64) {
    note(crashes, o, &fencing(step), at(seconds));
}

/// The store of a world where it ran on n1.
fn pinned_to(node: &str) -> Observation {
    let mut world = frozen();
    Arc::make_mut(&mut world.stores[0]).spec.pinned_node = Some(node.into());
    observed(&world)
}

#[test]
fn an_epoch_counts_once_however_often_it_is_looked_at() {
    let o = observed(&frozen());
    let mut crashes = Vec::new();
    for second in 1_000..1_010 {
        noted(&mut crashes, &o, Step::SetTarget(TargetKind::Auto), second);
    }
    assert_eq!((crashes.len(), takeovers(&crashes, 1_010), moves(&crashes, None, 1_010)), (1, 1, 0));
    noted(&mut crashes, &o, Step::Pin("n2".into()), 1_011);
    assert_eq!(moves(&crashes, Some(6), 1_011), 0, "a leader that dies here has moved nothing");
    noted(&mut crashes, &pinned_to("n2"), Step::Await("x"), 1_012);
    noted(&mut crashes, &pinned_to("n1"), Step::Await("x"), 1_012);
    assert_eq!(moves(&crashes, Some(6), 1_012), 1);
    assert_eq!(moves(&crashes, Some(5), 1_012), 0, "the move that is under way does not hold itself back");
    assert_eq!((takeovers(&crashes, 1_901), moves(&crashes, None, 1_901)), (0, 1));
    assert_eq!(moves(&crashes, None, 4_600), 0);
    assert_eq!(takeovers(&crashes, 999), 0, "a clock that was set back");
}

#[test]
fn a_pin_to_where_it_was_is_no_move() {
    let mut crashes = Vec::new();
    noted(&mut crashes, &pinned_to("n1"), Step::Await("x"), 1_000);
    assert_eq!((takeovers(&crashes, 1_000), moves(&crashes, None, 1_000)), (1, 0));
}

#[test]
fn a_node_that_was_lost_is_no_crash_even_when_it_looked_ready_at_first() {
    let mut world = frozen();
    let mut crashes = Vec::new();
    noted(&mut crashes, &observed(&world), Step::SetTarget(TargetKind::Auto), 1_000);
    assert_eq!(crashes.len(), 1);
    let mut proven = crashes.clone();
    noted(&mut proven, &observed(&world), Step::RecordEvidence(EvidenceKind::FenceJob), 1_001);
    assert_eq!(proven, []);
    unready(&mut world, "n1");
    noted(&mut crashes, &observed(&world), Step::Await("x"), 1_002);
    assert_eq!(crashes, []);
}

#[test]
fn a_persons_request_counts_anew() {
    let mut world = frozen();
    let mut crashes = Vec::new();
    noted(&mut crashes, &observed(&world), Step::SetTarget(TargetKind::Auto), 1_000);
    let mut store = (*world.stores[0]).clone();
    store.metadata.annotations.get_or_insert_default().insert("mailcluster.io/failover".into(), "any".into());
    world.stores = vec![Arc::new(store)].into();
    noted(&mut crashes, &observed(&world), Step::Await("x"), 1_001);
    assert_eq!(crashes, []);
}
