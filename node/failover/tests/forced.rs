//! A person's order that a copy take the store which lacks something: a table of when it is done, and why it is refused.

#![allow(clippy::unwrap_used, reason = "tests")]

mod world;

use mailcluster_failover::*;
use world::{BOOT, evidence, healthy, holder};

fn copy(id: &str, state: PodState, seq: u64) -> ReplicaView {
    let pod =
        PodView { uid: format!("pod-{id}"), node: Some(format!("n-{id}")), state, ..healthy().pod.unwrap() };
    let end = Position { epoch: 5, seq };
    let volume = VolumeAccount { end, last_epoch: 5, promise: 5, in_sync_version: 1, newest: 0 };
    ReplicaView {
        id: id.into(),
        pod: Some(pod),
        volume: Some(volume),
        in_sync: vec!["aa".into()],
        outdated: false,
        replaced: false,
        was_open: true,
        away_ms: 0,
    }
}

/// The primary `aa` was alone in the in-sync set, and its machine is dead for good. `bb` was left out at 90, `cc` at 40.
fn alone() -> Observation {
    let mut o = healthy();
    kill(&mut o);
    let lease = o.lease.as_mut().unwrap();
    lease.unchanged_for = Some(60_000);
    lease.record.in_sync_version = 4;
    lease.record.position = Position { epoch: 5, seq: 118 };
    lease.record.in_force =
        Some(InForce { durability: Durability::Preferred, fencing: FencingMinimum::Proof });
    o.store.fence_configured = false;
    o.replicas = vec![
        ReplicaView { pod: o.pod.clone(), volume: None, ..copy("aa", PodState::Silent, 118) },
        copy("bb", PodState::Standby, 90),
        copy("cc", PodState::Standby, 40),
    ];
    o.force = Some(Ok(ForceRequest { copy: "bb".into(), epoch: 5, accept_loss: false }));
    o.evidence = vec![evidence(EvidenceKind::HumanConfirmed)];
    o
}

fn kill(o: &mut Observation) {
    o.reach.reach = 0;
    o.nodes[0].ready = false;
    let pod = o.pod.as_mut().unwrap();
    (pod.state, pod.lock_held) = (PodState::Silent, false);
}

/// All that is known is that the lease ran out.
fn unproven(o: &mut Observation) {
    o.evidence = vec![evidence(EvidenceKind::LeaseExpired)];
}

type Change = fn(&mut Observation);

fn force(o: &mut Observation) -> &mut ForceRequest {
    o.force.as_mut().unwrap().as_mut().unwrap()
}

fn record(o: &mut Observation) -> &mut LeaseRecord {
    &mut o.lease.as_mut().unwrap().record
}

fn after(change: Change) -> Decision {
    let mut o = alone();
    change(&mut o);
    next_step(&o)
}

fn target(o: &mut Observation, replica: &str, kind: TargetKind) {
    o.target =
        Some(Target { replica: replica.into(), lease_version: "100".into(), epoch: 5, kind, overdue: false });
}

#[test]
fn without_an_order_it_waits_for_ever() {
    let decision = after(|o| o.force = None);
    assert!(matches!(decision.step, Step::Block(Blocked::NoCopy(_))), "{decision:?}");
}

#[test]
fn an_order_that_is_needed_and_proven_is_done() {
    let promote = || Step::Promote("bb".into(), TargetKind::Forced);
    let done: [(&str, Change, Step); 12] = [
        ("a person has confirmed the end", |_| (), promote()),
        ("nobody holds it", |o| record(o).holder = None, promote()),
        (
            "the loss is accepted",
            |o| {
                unproven(o);
                force(o).accept_loss = true;
            },
            promote(),
        ),
        (
            "a copy that is behind, and the loss accepted",
            |o| o.force = Some(Ok(ForceRequest { copy: "cc".into(), epoch: 5, accept_loss: true })),
            Step::Promote("cc".into(), TargetKind::Forced),
        ),
        (
            "the best one died as well",
            |o| {
                o.replicas[1].volume = None;
                force(o).copy = "cc".into();
            },
            Step::Promote("cc".into(), TargetKind::Forced),
        ),
        ("a member whose disk was set back", |o| record(o).in_sync.push("bb".into()), promote()),
        ("it was asked", |o| target(o, "bb", TargetKind::Forced), Step::Await("the copy to take the lease")),
        ("another was asked", |o| target(o, "cc", TargetKind::Auto), Step::ClearTarget),
        (
            "a proof can be seen",
            |o| {
                unproven(o);
                o.confirmed_boots = vec![("n1".into(), BOOT.into())];
            },
            Step::RecordEvidence(EvidenceKind::HumanConfirmed),
        ),
        (
            "its node lives: the kubelet is asked",
            |o| {
                unproven(o);
                o.nodes[0].ready = true;
                o.pod.as_mut().unwrap().state = PodState::Poisoned;
            },
            Step::DeleteGracefully("pod-1".into()),
        ),
        (
            "the machine can be switched off",
            |o| {
                unproven(o);
                o.store.fence_configured = true;
            },
            Step::CreateFenceJob { node: "n1".into(), boot_id: BOOT.into() },
        ),
        ("paused", |o| o.store.paused = true, Step::Block(Blocked::Gate(Gate::Paused))),
    ];
    for (what, change, wanted) in done {
        assert_eq!(after(change).step, wanted, "{what}");
    }
}

#[test]
fn it_waits_until_it_can_be_told_that_nobody_serves() {
    let waits: [(&str, Change); 2] = [
        ("a leader that has just begun", |o| o.lease.as_mut().unwrap().unchanged_for = None),
        ("frontends are being asked", |o| {
            o.reach = Reach { frontends: 2, answered: 0, reach: 0, pending: 2 }
        }),
    ];
    for (what, change) in waits {
        let step = after(change).step;
        assert!(matches!(step, Step::Await(_)), "{what}: {step:?}");
    }
}

/// Each of these is refused, with these words.
fn refuse(cases: &[(&str, Change, &str)]) {
    for (what, change, why) in cases {
        let step = after(*change).step;
        assert!(matches!(&step, Step::RefuseForce(said) if said.contains(why)), "{what}: {step:?}");
    }
}

#[test]
fn an_order_that_is_not_needed_or_not_proven_is_refused() {
    refuse(&[
        ("no proof", unproven, "nothing proves"),
        (
            "a statement is no proof",
            |o| {
                unproven(o);
                o.evidence.push(evidence(EvidenceKind::NodeDeleted));
            },
            "nothing proves",
        ),
        (
            "a proof about an earlier process",
            |o| {
                unproven(o);
                o.evidence.push(Evidence { epoch: 4, ..evidence(EvidenceKind::HumanConfirmed) });
            },
            "nothing proves",
        ),
        ("the lease is renewed", |o| o.lease.as_mut().unwrap().unchanged_for = Some(500), "renews its lease"),
        ("frontends reach the holder", |o| o.reach.reach = 1, "frontends reach"),
        (
            "and accepting loss is no answer to that",
            |o| {
                o.reach.reach = 1;
                force(o).accept_loss = true;
            },
            "frontends reach",
        ),
        ("somebody took it since", |o| record(o).epoch = 6, "at epoch 6"),
        (
            "a copy that has everything answers",
            |o| {
                record(o).in_sync.push("cc".into());
                o.replicas[2].volume.as_mut().unwrap().end.seq = 118;
            },
            "copy cc has everything",
        ),
        (
            "the holder's own copy is back",
            |o| {
                let pod = PodView { uid: "pod-2".into(), ..copy("aa", PodState::Waiting, 0).pod.unwrap() };
                o.replicas[0].pod = Some(pod);
            },
            "copy aa has everything and waits for proof",
        ),
    ]);
}

#[test]
fn an_order_for_a_copy_that_cannot_take_the_store_is_refused() {
    refuse(&[
        (
            "the Lease went back in time",
            |o| o.replicas[2].volume.as_mut().unwrap().last_epoch = 6,
            "StateRolledBack",
        ),
        ("its Lease is gone", |o| o.lease = None, "Lease is missing"),
        ("a single copy", |o| o.replicas.clear(), "single copy"),
        ("it cannot be read", |o| o.force = Some(Err("malformed".into())), "malformed"),
        ("no such copy", |o| force(o).copy = "dd".into(), "no copy dd"),
        ("it does not answer", |o| o.replicas[1].volume = None, "bb does not answer"),
        ("it is empty", |o| o.replicas[1].volume = Some(VolumeAccount::default()), "bb is empty"),
        (
            "it does not stand by",
            |o| o.replicas[1].pod.as_mut().unwrap().state = PodState::Poisoned,
            "does not stand by",
        ),
        (
            "it keeps another fork",
            |o| o.replicas[1].pod.as_mut().unwrap().state = PodState::Forked("3/9".into()),
            "earlier forced failover",
        ),
        ("another has more", |o| force(o).copy = "cc".into(), "copy bb has more"),
        (
            "a new store",
            |o| {
                (record(o).epoch, force(o).epoch) = (0, 0);
                record(o).holder = None;
            },
            "nobody has served it yet",
        ),
    ]);
}

#[test]
fn an_order_is_void_once_it_is_done() {
    let decision = after(|o| {
        let record = record(o);
        (record.epoch, record.replica, record.forced) = (6, Some("bb".into()), Some(6));
        record.holder = Some(holder("pod-bb"));
        o.lease.as_mut().unwrap().unchanged_for = Some(500);
        o.serving = Some((6, "pod-bb".into()));
    });
    assert_eq!(decision, Decision { phase: Phase::Serving, step: Step::Idle });
    // The same copy took it, but not by force: that order was another's.
    let decision = after(|o| {
        let record = record(o);
        (record.epoch, record.replica) = (6, Some("bb".into()));
    });
    assert!(matches!(decision.step, Step::RefuseForce(_)), "{decision:?}");
}
