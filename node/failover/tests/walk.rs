//! F24: the operator killed at every step. A small world carries out what `next_step` says; every step starts from
//! the objects alone, each is carried out twice (as by an operator that died before it could see the result), and the
//! order fence, evidence, pin, delete is checked on the way.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod world;

use mailcluster_failover::*;
use world::{BOOT, healthy, holder, kill_node, suspect};

/// The cluster's answer to a step. Every write is idempotent, as the real ones are.
fn apply(o: &mut Observation, step: &Step, log: &mut Vec<String>) {
    let entry = format!("{step:?}");
    if log.last() != Some(&entry) {
        log.push(entry);
    }
    let (version, epoch) =
        o.lease.as_ref().map(|l| (l.resource_version.clone(), l.record.epoch)).unwrap_or_default();
    match step {
        Step::SetTarget(kind) => {
            o.target = Some(Target {
                replica: "aa".into(),
                lease_version: version,
                epoch,
                kind: *kind,
                overdue: false,
            });
        }
        Step::ClearTarget => o.target = None,
        Step::RecordEvidence(kind) => o.evidence.push(Evidence {
            kind: *kind,
            pod_uid: "pod-1".into(),
            boot_id: BOOT.into(),
            epoch,
            at: String::new(),
        }),
        Step::CreateFenceJob { node, boot_id } => {
            o.fence_job = Some(FenceJob::Off { node: node.clone(), boot_id: boot_id.clone() });
        }
        Step::Pin(node) => (o.pin, o.template_pin) = (Some(node.clone()), Some(node.clone())),
        Step::DeleteForced(uid) | Step::DeleteGracefully(uid) => delete(o, uid, step),
        Step::AllowEviction(uid) => o.eviction = Some(Eviction { pod_uid: uid.clone(), open_ms: Some(0) }),
        Step::EndEviction => {
            o.eviction =
                o.eviction.take().filter(Eviction::was_in_vain).map(|e| Eviction { open_ms: None, ..e });
        }
        Step::Await(_) if o.eviction.as_ref().is_some_and(|e| e.open_ms.is_some()) => await_eviction(o),
        Step::Await(_) => advance(o),
        other => panic!("the walk does not expect {other:?}"),
    }
}

fn delete(o: &mut Observation, uid: &str, step: &Step) {
    let stands = o.pod.as_ref().is_some_and(|p| p.uid == uid);
    if !stands {
        return;
    }
    if let Step::DeleteForced(_) = step {
        assert!(suffices(o, true), "grace 0 without proof");
    } else {
        o.deleting = Some(uid.to_owned());
        // The holder drains and releases; a frozen one is killed.
        let lease = o.lease.as_mut().unwrap();
        if lease.unchanged_for < Some(8_000) {
            lease.record.holder = None;
            lease.resource_version.push('+');
        }
    }
    assert_eq!(o.pin, o.template_pin, "pinned before the deletion");
    o.pod = None;
}

/// Nobody evicts: time passes.
fn await_eviction(o: &mut Observation) {
    assert_eq!(o.pin.as_deref(), Some("n2"), "pinned before anybody may evict");
    let open = o.eviction.as_mut().unwrap().open_ms.as_mut().unwrap();
    *open += 5_000;
}

/// The StatefulSet and the replica do their part.
fn advance(o: &mut Observation) {
    let Some(pod) = &mut o.pod else {
        // Where nothing is said, the scheduler chooses: not the node that it would be best on.
        let node = o.template_pin.clone().unwrap_or("n2".into());
        o.pod = Some(PodView {
            uid: "pod-2".into(),
            node: Some(node),
            terminating: false,
            pin: o.template_pin.clone(),
            unplaced: None,
            backs_off: false,
            cannot_start: false,
            state: PodState::Waiting,
            lock_held: false,
            volume_epoch: 0,
        });
        return;
    };
    let lease = o.lease.as_mut().unwrap();
    let target = o.target.as_ref().is_some_and(|t| t.lease_version == lease.resource_version);
    if pod.state == PodState::Waiting {
        if lease.record.holder.is_none() || target {
            pod.state = PodState::Standby;
        }
    } else if pod.state == PodState::Standby && target {
        pod.state = PodState::Active;
        lease.record.holder = Some(holder("pod-2"));
        lease.record.epoch += 1;
        lease.resource_version.push('+');
        lease.unchanged_for = Some(0);
        o.serving = Some((lease.record.epoch, "pod-2".into()));
        o.placement.as_mut().unwrap().pod_uid = "pod-2".into();
        o.placement.as_mut().unwrap().node = pod.node.clone().unwrap();
    }
}

fn walk(o: &mut Observation) -> Vec<String> {
    let mut log = Vec::new();
    for _ in 0..60 {
        let decision = next_step(o);
        if decision.step == Step::Idle {
            return log;
        }
        apply(o, &decision.step, &mut log);
        if matches!(
            decision.step,
            Step::Pin(_) | Step::SetTarget(_) | Step::DeleteForced(_) | Step::CreateFenceJob { .. }
        ) {
            apply(o, &decision.step, &mut log);
        }
    }
    panic!("it does not come to an end: {log:#?}");
}

fn order(log: &[String], names: &[&str]) {
    let mut rest = log.iter();
    for name in names {
        assert!(rest.any(|entry| entry.contains(name)), "{name} is missing or out of order in {log:#?}");
    }
}

#[test]
fn f24_power_loss_goes_fence_evidence_pin_delete_serve() {
    let mut o = suspect();
    kill_node(&mut o);
    let log = walk(&mut o);
    order(
        &log,
        &["SetTarget(Auto)", "CreateFenceJob", "RecordEvidence(FenceJob)", "Pin(\"n2\")", "DeleteForced"],
    );
    assert_eq!(o.placement.unwrap().node, "n2");
}

#[test]
fn f24_a_frozen_process_on_a_ready_node_starts_anew_there() {
    let mut o = suspect();
    o.lease.as_mut().unwrap().unchanged_for = Some(60_000);
    let log = walk(&mut o);
    order(&log, &["SetTarget(Auto)", "Pin(\"n1\")", "DeleteGracefully", "RecordEvidence(KubeletConfirmed)"]);
    assert_eq!(
        log.iter().filter(|entry| entry.contains("Delete")).count(),
        1,
        "its pod is made anew once: {log:#?}"
    );
    assert!(!log.iter().any(|entry| entry.contains("Forced") || entry.contains("Fence")), "{log:#?}");
    assert_eq!(o.placement.unwrap().node, "n1");
}

#[test]
fn f24_a_planned_move_goes_pin_delete_release_target() {
    let mut o = healthy();
    o.request = Some(Request { to: Some("n2".into()), drain: false });
    let log = walk(&mut o);
    order(&log, &["Pin(\"n2\")", "DeleteGracefully", "SetTarget(Planned)"]);
    assert_eq!(o.placement.unwrap().node, "n2");
}

#[test]
fn a_move_that_is_called_off_at_any_step_leaves_the_pin_where_the_store_serves() {
    for (to, drain) in [(Some("n2"), false), (None, true)] {
        for steps in 0..20 {
            let mut o = healthy();
            o.request = Some(Request { to: to.map(str::to_owned), drain });
            o.nodes[0].unschedulable = drain;
            for _ in 0..steps {
                let step = next_step(&o).step;
                // Arrived: the drain of a node that it no longer runs on would want it back.
                if matches!(step, Step::Idle | Step::Block(_)) {
                    break;
                }
                apply(&mut o, &step, &mut Vec::new());
            }
            (o.request, o.nodes[0].unschedulable) = (None, false);
            let log = walk(&mut o);
            let served_from = o.placement.unwrap().node;
            let stays = o.pin.as_ref().is_none_or(|pin| *pin == served_from) && o.pin == o.template_pin;
            assert!(stays, "after {steps} steps: {log:#?}");
            assert!(o.eviction.is_none_or(|e| e.open_ms.is_none()), "after {steps} steps: {log:#?}");
        }
    }
}

#[test]
fn f24_a_cordoned_node_is_left_without_anybody_who_evicts() {
    let mut o = healthy();
    o.request = Some(Request { to: None, drain: true });
    o.nodes[0].unschedulable = true;
    let mut log = Vec::new();
    while o.pod.as_ref().is_some_and(|pod| pod.uid == "pod-1") {
        let step = next_step(&o).step;
        apply(&mut o, &step, &mut log);
    }
    order(&log, &["Pin(\"n2\")", "AllowEviction", "Await", "EndEviction", "DeleteGracefully"]);
    o.request = None;
    walk(&mut o);
    assert_eq!(o.placement.unwrap().node, "n2");
}

/// Whatever is observed: grace 0 and another node only with enough evidence, never on a held lease otherwise.
#[test]
fn no_observation_leads_to_grace_0_without_evidence() {
    let mut seen = 0_u32;
    for bits in 0_u32..(1 << 12) {
        let on = |bit: u32| bits & (1 << bit) != 0;
        let mut o = if on(0) { suspect() } else { healthy() };
        if on(1) {
            kill_node(&mut o);
        }
        if on(2) {
            o.pin = Some("n2".into());
            o.template_pin = Some("n2".into());
        }
        if on(3) {
            o.deleting = Some("pod-1".into());
        }
        if on(4) {
            o.lease.as_mut().unwrap().record.holder = None;
        }
        if on(5) {
            o.pod.as_mut().unwrap().uid = "pod-2".into();
        }
        if on(6) {
            o.pod.as_mut().unwrap().state = PodState::Standby;
        }
        if on(7) {
            o.request = Some(Request { to: Some("n2".into()), drain: false });
        }
        if on(8) {
            apply(&mut o, &Step::SetTarget(TargetKind::Auto), &mut Vec::new());
        }
        let proof = on(9);
        if proof {
            apply(&mut o, &Step::RecordEvidence(EvidenceKind::FenceJob), &mut Vec::new());
        }
        if on(10) {
            o.nodes[1].ready = false;
        }
        if on(11) {
            o.lease.as_mut().unwrap().unchanged_for = Some(60_000);
        }
        if let Step::DeleteForced(_) = next_step(&o).step {
            seen += 1;
            assert!(proof && !on(4) && (on(0) || on(11)), "{bits:012b}: {:?}", next_step(&o));
        }
    }
    assert!(seen > 0);
}
