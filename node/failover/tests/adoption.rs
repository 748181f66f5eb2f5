//! A disk that was moved to another machine (`store adopt`): what is asked of it before its volume is made anew, and
//! that no pod has it then. Each test fails without its rule.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod world;

use mailcluster_failover::*;
use world::{BOOT, evidence, healthy, kill_node, step, suspect, with_target};

type Change = fn(&mut Observation);

/// The store's disk was in n1, which is lost, and is in n3 now.
fn moved(state: AdoptionState) -> Observation {
    let mut o = with_target(suspect());
    o.lease.as_mut().unwrap().unchanged_for = Some(60_000);
    kill_node(&mut o);
    adopting(&mut o, state);
    o
}

fn adopting(o: &mut Observation, state: AdoptionState) {
    o.volume.nodes = vec!["n3".into()];
    o.request = Some(Request { to: Some("n3".into()), drain: false });
    o.adoption = Some(Adoption { to: "n3".into(), state });
}

fn record() -> AdoptionState {
    AdoptionState::Due(AdoptionStep::Record)
}

fn pinned(o: &mut Observation, node: &str) {
    (o.pin, o.template_pin) = (Some(node.into()), Some(node.into()));
}

/// The pod that came after the old one; the scheduler finds no place for it.
fn unplaced(o: &mut Observation) {
    let pod = o.pod.as_mut().unwrap();
    (pod.uid, pod.node, pod.pin) = ("pod-2".into(), None, Some("n3".into()));
    pod.unplaced = Some(Unplaced { for_ms: 60_000, why: "volume node affinity".into() });
}

#[test]
fn the_volume_is_made_anew_after_proof_pin_and_the_old_pods_end() {
    let mut o = moved(record());
    let fence = Step::CreateFenceJob { node: "n1".into(), boot_id: BOOT.into() };
    o.evidence = vec![evidence(EvidenceKind::LeaseExpired)];
    assert_eq!(step(&o), fence, "the lease's end proves nothing");
    o.store.fence_configured = false;
    assert_eq!(step(&o), Step::Block(Blocked::NoEvidence));
    o.confirmed_pods = vec!["pod-1".into()];
    assert_eq!(step(&o), Step::RecordEvidence(EvidenceKind::HumanConfirmed));
    o.evidence.push(evidence(EvidenceKind::HumanConfirmed));
    assert_eq!(step(&o), Step::Pin("n3".into()));
    pinned(&mut o, "n3");
    assert_eq!(step(&o), Step::DeleteForced("pod-1".into()));
    for pod_is_there in [true, false] {
        let mut o = o.clone();
        unplaced(&mut o);
        o.pod = o.pod.filter(|_| pod_is_there);
        for due in [AdoptionStep::Record, AdoptionStep::Delete, AdoptionStep::Release, AdoptionStep::Create] {
            adopting(&mut o, AdoptionState::Due(due));
            assert_eq!(next_step(&o), Decision { phase: Phase::Reattaching, step: Step::Adopt(due) });
        }
        adopting(&mut o, AdoptionState::Await("the claim"));
        assert_eq!(step(&o), Step::Await("the claim"));
    }
    unplaced(&mut o);
    adopting(&mut o, AdoptionState::Done { refused_pod: Some("pod-2".into()) });
    assert_eq!(step(&o), Step::DeleteGracefully("pod-2".into()));
    adopting(&mut o, AdoptionState::Done { refused_pod: None });
    let pod = o.pod.as_mut().unwrap();
    (pod.node, pod.unplaced) = (Some("n3".into()), None);
    assert_eq!(step(&o), Step::Await("the replica to take the lease"));
}

#[test]
fn a_released_stores_volume_waits_for_its_pod_to_be_gone() {
    let mut o = moved(record());
    o.lease.as_mut().unwrap().record.holder = None;
    o.target = None;
    o.store.fence_configured = false;
    assert_eq!(step(&o), Step::Pin("n3".into()));
    pinned(&mut o, "n3");
    assert_eq!(step(&o), Step::Block(Blocked::NoEvidence), "its pod stands on a node that says nothing");
    o.nodes[0].ready = true;
    assert_eq!(step(&o), Step::DeleteGracefully("pod-1".into()));
    unplaced(&mut o);
    assert_eq!(step(&o), Step::Adopt(AdoptionStep::Record));
    // A store that has never served is in nobody's hands, but a pod that was placed elsewhere may have the volume.
    o.lease.as_mut().unwrap().record.epoch = 0;
    assert_eq!(step(&o), Step::Adopt(AdoptionStep::Record));
    o.pod.as_mut().unwrap().node = Some("n1".into());
    assert_ne!(step(&o), Step::Adopt(AdoptionStep::Record));
}

#[test]
fn what_cannot_be_adopted_is_refused_before_anything_is_changed() {
    let served = |o: &mut Observation| o.lease.as_mut().unwrap().unchanged_for = Some(100);
    let cordoned = |o: &mut Observation| o.nodes[2].unschedulable = true;
    let gone = |o: &mut Observation| drop(o.nodes.remove(2));
    let table: [(&str, Change); 3] =
        [("it is served from n1", served), ("it is cordoned", cordoned), ("there is no such node", gone)];
    for (word, change) in table {
        let mut o = moved(record());
        change(&mut o);
        let Step::RefuseAdoption(why) = step(&o) else { panic!("{word}: {:?}", step(&o)) };
        assert!(why.contains(word), "{why}");
    }
    let mut o = moved(AdoptionState::Refused("no such volume".into()));
    assert_eq!(step(&o), Step::RefuseAdoption("no such volume".into()));
    // Once the old object is gone, there is no way back but the node's.
    o = moved(AdoptionState::Due(AdoptionStep::Create));
    cordoned(&mut o);
    assert_eq!(step(&o), Step::Block(Blocked::UnfitNode("n3".into(), "it is cordoned")));
    o = healthy();
    adopting(&mut o, record());
    o.store.paused = true;
    assert!(!matches!(step(&o), Step::RefuseAdoption(_) | Step::Adopt(_)), "{:?}", step(&o));
}

#[test]
fn a_leader_that_has_not_watched_neither_refuses_nor_begins() {
    for state in [record(), AdoptionState::Due(AdoptionStep::Create)] {
        let mut o = moved(state);
        o.lease.as_mut().unwrap().unchanged_for = None;
        assert_eq!(step(&o), Step::Await("the lease to stand still"));
    }
}

#[test]
fn the_place_that_a_disk_was_taken_from_is_not_asked_for_its_data() {
    let mut o = moved(record());
    o.nodes[0].ready = true;
    o.evidence = vec![evidence(EvidenceKind::LeaseExpired)];
    o.pod.as_mut().unwrap().state = PodState::Refused("EmptyVolume: nothing there".into());
    assert_eq!(step(&o), Step::Pin("n3".into()));
    pinned(&mut o, "n3");
    assert_eq!(step(&o), Step::DeleteGracefully("pod-1".into()));
    o.adoption = None;
    assert!(matches!(step(&o), Step::Block(Blocked::Refused(_))));
}
