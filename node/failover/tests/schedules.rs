//! The schedules of docs/failover.md as tables: each test has the id of the schedule whose rule it holds, and fails
//! when that rule is taken out.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod world;

use mailcluster_failover::*;
use world::{BOOT, evidence, healthy, holder, kill_node, step, suspect, with_target};

#[test]
fn serving_is_left_alone() {
    assert_eq!(next_step(&healthy()), Decision { phase: Phase::Serving, step: Step::Idle });
}

#[test]
fn a2_a_renewal_voids_the_target() {
    let mut o = with_target(suspect());
    kill_node(&mut o);
    if let Some(lease) = &mut o.lease {
        lease.resource_version = "101".into();
        lease.unchanged_for = Some(0);
    }
    assert_eq!(step(&o), Step::ClearTarget);
    let lease = o.lease.unwrap();
    let view = TakeoverView {
        lease: &lease.record,
        resource_version: &lease.resource_version,
        replica: "aa",
        target_replica: "aa",
        target_version: "100",
        kind: TargetKind::Auto,
        ready: true,
        end: Position { epoch: 5, seq: 900 },
        holder_heard: false,
        evidence: true,
    };
    assert_eq!(takeover(&view), Takeover::No(Refused::Void));
}

#[test]
fn a4_an_overdue_target_is_cleared() {
    let mut o = with_target(suspect());
    kill_node(&mut o);
    o.target.as_mut().unwrap().overdue = true;
    assert_eq!(step(&o), Step::ClearTarget);
}

#[test]
fn a5_a_missing_lease_is_never_made_at_epoch_0_for_a_known_store() {
    let mut o = healthy();
    o.lease = None;
    o.pod.as_mut().unwrap().lock_held = false;
    assert_eq!(step(&o), Step::Block(Blocked::LeaseMissing));
    o.pod.as_mut().unwrap().lock_held = true;
    assert_eq!(step(&o), Step::RestoreLease);
    o.store.known_before = false;
    assert_eq!(step(&o), Step::CreateLease);
}

#[test]
fn a5_old_volumes_under_a_new_lease_are_taken_at_their_epoch() {
    let mut o = healthy();
    o.lease.as_mut().unwrap().record = LeaseRecord::initial(vec!["aa".into()], 1);
    let pod = o.pod.as_mut().unwrap();
    pod.state = PodState::Refused("StateRolledBack".into());
    pod.volume_epoch = 7;
    assert_eq!(step(&o), Step::RestoreLease);
}

#[test]
fn a5_a_lease_that_disagrees_with_its_volume_is_made_anew_when_a_person_says_so() {
    // Its holder is another pod of long ago, or nobody. What the volume's process says, and the volume's epoch.
    for (refused, volume_epoch) in
        [("StateRolledBack: the volume has seen", 7), ("StaleCopy: the volume ends at", 4)]
    {
        for is_held in [true, false] {
            let mut o = suspect();
            let lease = o.lease.as_mut().unwrap();
            lease.record.holder = lease.record.holder.take().filter(|_| is_held);
            let pod = o.pod.as_mut().unwrap();
            (pod.state, pod.lock_held) = (PodState::Refused(refused.into()), true);
            pod.volume_epoch = volume_epoch;
            assert_ne!(step(&o), Step::RestoreLease, "{refused}: nobody has said so");
            o.restore_asked = true;
            assert_eq!(step(&o), Step::RestoreLease, "{refused}");
            o.pod.as_mut().unwrap().lock_held = false;
            assert_ne!(step(&o), Step::RestoreLease, "{refused}: it has not looked at its volume");
        }
    }
    let mut o = healthy();
    o.restore_asked = true;
    o.pod.as_mut().unwrap().volume_epoch = 7;
    assert_ne!(step(&o), Step::RestoreLease, "its holder renews it");
}

#[test]
fn a5_rolled_back_and_stale_copies_are_refused() {
    let mut lease = LeaseRecord::initial(vec!["aa".into()], 1);
    (lease.epoch, lease.position) = (5, Position { epoch: 5, seq: 100 });
    assert_eq!(complete(&lease, Position { epoch: 5, seq: 100 }), Ok(()));
    // The last epoch, the promise, the version of the set.
    for (last_epoch, promise, in_sync_version, is_later) in
        [(5, 5, 1, false), (5, 6, 1, false), (6, 6, 1, true), (5, 5, 2, true), (4, 7, 1, true)]
    {
        let refused = known(&lease, &VolumeHistory { last_epoch, promise, in_sync_version });
        let says_so = matches!(refused, Err(OpeningRefused::StateRolledBack { .. }));
        assert_eq!(says_so, is_later, "{last_epoch} {promise} {in_sync_version}: {refused:?}");
    }
    let stale = complete(&lease, Position { epoch: 5, seq: 99 });
    assert!(matches!(stale, Err(OpeningRefused::StaleCopy { .. })), "{stale:?}");
}

#[test]
fn e1_yesterdays_evidence_proves_nothing() {
    let mut o = with_target(suspect());
    kill_node(&mut o);
    for (name, stale) in [
        ("another pod", Evidence { pod_uid: "pod-0".into(), ..evidence(EvidenceKind::FenceJob) }),
        ("another boot", Evidence { boot_id: "boot-0".into(), ..evidence(EvidenceKind::FenceJob) }),
        ("another epoch", Evidence { epoch: 4, ..evidence(EvidenceKind::FenceJob) }),
    ] {
        o.evidence = vec![stale];
        assert!(!suffices(&o, true), "{name}");
    }
    o.evidence = vec![evidence(EvidenceKind::FenceJob)];
    assert!(suffices(&o, true));
    // The Job of another boot is not evidence either.
    o.evidence.clear();
    o.fence_job = Some(FenceJob::Off { node: "n1".into(), boot_id: "boot-0".into() });
    assert_eq!(live_evidence(&o).map(|f| f.kind), Some(EvidenceKind::LeaseExpired));
}

#[test]
fn e1_statements_are_not_proofs() {
    let mut o = with_target(suspect());
    kill_node(&mut o);
    o.evidence = vec![evidence(EvidenceKind::NodeDeleted), evidence(EvidenceKind::OutOfServiceTaint)];
    assert!(!suffices(&o, true));
    o.store.fencing_minimum = FencingMinimum::Statement;
    assert!(!suffices(&o, true), "E2: the holder still relies on Proof");
}

#[test]
fn e2_the_stricter_of_spec_and_in_force_counts() {
    let mut o = with_target(suspect());
    kill_node(&mut o);
    o.evidence = vec![evidence(EvidenceKind::LeaseExpired)];
    let cases = [
        (FencingMinimum::LeaseExpired, FencingMinimum::LeaseExpired, true),
        (FencingMinimum::LeaseExpired, FencingMinimum::Proof, false),
        (FencingMinimum::Proof, FencingMinimum::LeaseExpired, false),
        (FencingMinimum::LeaseExpired, FencingMinimum::Statement, false),
    ];
    for (spec, in_force, enough) in cases {
        o.store.fencing_minimum = spec;
        o.lease.as_mut().unwrap().record.in_force =
            Some(InForce { durability: Durability::Single, fencing: in_force });
        assert_eq!(suffices(&o, true), enough, "{spec:?} {in_force:?}");
    }
}

#[test]
fn e3_a_ready_node_gets_a_graceful_deletion_never_grace_0() {
    let mut o = with_target(suspect());
    o.lease.as_mut().unwrap().unchanged_for = Some(60_000);
    assert_eq!(step(&o), Step::RecordEvidence(EvidenceKind::LeaseExpired));
    o.evidence = vec![evidence(EvidenceKind::LeaseExpired)];
    assert_eq!(
        step(&o),
        Step::Pin("n1".into()),
        "the StatefulSet makes it anew before the operator can say where"
    );
    (o.pin, o.template_pin) = (Some("n1".into()), Some("n1".into()));
    assert_eq!(step(&o), Step::DeleteGracefully("pod-1".into()));
    o.deleting = Some("pod-1".into());
    o.pod.as_mut().unwrap().terminating = true;
    assert_eq!(step(&o), Step::Await("the kubelet to end the pod"));
    // The kubelet has ended it: the StatefulSet's next pod has another UID.
    let pod = o.pod.as_mut().unwrap();
    (pod.uid, pod.terminating, pod.state) = ("pod-2".into(), false, PodState::Waiting);
    assert_eq!(step(&o), Step::RecordEvidence(EvidenceKind::KubeletConfirmed));
    o.evidence = vec![evidence(EvidenceKind::KubeletConfirmed)];
    assert_eq!(step(&o), Step::Await("the replica to take the lease"), "it starts anew where it was");
}

#[test]
fn e3_restart_in_place_gets_its_grace() {
    let mut o = suspect();
    assert_eq!(next_step(&o).phase, Phase::Suspect);
    o.pod.as_mut().unwrap().cannot_start = true;
    assert_eq!(step(&o), Step::SetTarget(TargetKind::Auto));
}

#[test]
fn e4_a_shared_block_device_is_not_moved_on_the_kubelets_word() {
    let mut o = with_target(suspect());
    kill_node(&mut o);
    o.volume.shared_block = true;
    o.evidence = vec![evidence(EvidenceKind::KubeletConfirmed)];
    assert!(!suffices(&o, true) && suffices(&o, false));
    let mut o = healthy();
    o.volume.shared_block = true;
    o.request = Some(Request { to: Some("n2".into()), drain: false });
    assert_eq!(step(&o), Step::RefuseRequest(Blocked::SharedBlockDevice));
    o.request = Some(Request { to: None, drain: true });
    assert_eq!(step(&o), Step::Block(Blocked::SharedBlockDevice));
}

#[test]
fn e5_a_fence_names_the_boot_and_spares_a_node_that_serves() {
    let mut o = with_target(suspect());
    kill_node(&mut o);
    o.evidence = vec![evidence(EvidenceKind::LeaseExpired)];
    assert_eq!(step(&o), Step::CreateFenceJob { node: "n1".into(), boot_id: BOOT.into() });
    o.cluster.node_has_renewing_store = true;
    assert_eq!(step(&o), Step::Block(Blocked::NodeStillServes));
    // The node is back, healthy, with another boot: there is nothing to switch off.
    o.cluster.node_has_renewing_store = false;
    let node = o.nodes.iter_mut().find(|n| n.name == "n1").unwrap();
    (node.ready, node.boot_id) = (true, "boot-2".into());
    o.lease.as_mut().unwrap().unchanged_for = Some(60_000);
    assert_eq!(step(&o), Step::RecordEvidence(EvidenceKind::NewBoot));
    // A machine of the same name is another machine.
    o.nodes.iter_mut().find(|n| n.name == "n1").unwrap().system_uuid = "other".into();
    assert_ne!(step(&o), Step::RecordEvidence(EvidenceKind::NewBoot));
}

#[test]
fn e6_lease_expired_is_enough_only_where_both_say_so() {
    let mut o = with_target(suspect());
    kill_node(&mut o);
    o.store.fencing_minimum = FencingMinimum::LeaseExpired;
    o.lease.as_mut().unwrap().record.in_force =
        Some(InForce { durability: Durability::Single, fencing: FencingMinimum::LeaseExpired });
    assert_eq!(step(&o), Step::RecordEvidence(EvidenceKind::LeaseExpired));
    o.evidence = vec![evidence(EvidenceKind::LeaseExpired)];
    assert_eq!(step(&o), Step::Pin("n2".into()));
}

#[test]
fn e6_the_lock_decides_between_two_processes_of_one_kernel_only() {
    let mut o = with_target(suspect());
    o.lease.as_mut().unwrap().unchanged_for = Some(60_000);
    let pod = o.pod.as_mut().unwrap();
    (pod.uid, pod.state, pod.lock_held) = ("pod-2".into(), PodState::Standby, true);
    assert!(suffices(&o, false) && !suffices(&o, true));
    o.nodes[0].boot_id = "boot-2".into();
    assert!(!suffices(&o, false), "another boot is another kernel");
}

#[test]
fn f1_lost_on_most_nodes_and_on_three_holds() {
    for (nodes, lost, holds) in
        [(1, 1, false), (3, 2, false), (3, 3, true), (5, 3, true), (6, 3, false), (8, 4, false)]
    {
        let mut o = with_target(suspect());
        kill_node(&mut o);
        (o.cluster.nodes, o.cluster.lost_nodes) = (nodes, lost);
        assert_eq!(step(&o) == Step::Block(Blocked::Gate(Gate::TooManyNodes)), holds, "{lost} of {nodes}");
    }
}

#[test]
fn f2_a_failed_read_starts_the_watch_anew() {
    let mut watch = LeaseWatch::default();
    assert_eq!(watch.observe("1", 0, 10), 0);
    assert_eq!(watch.observe("1", 8_010, 8_020), 8_000);
    watch.failed();
    assert_eq!(watch.observe("1", 9_000, 9_010), 0);
    assert_eq!(watch.observe("2", 20_000, 20_010), 0, "another version");
    let mut o = suspect();
    kill_node(&mut o);
    o.lease.as_mut().unwrap().unchanged_for = None;
    assert_eq!(next_step(&o).phase, Phase::Serving, "what was not watched for D is not judged");
}

#[test]
fn f2_a_watch_that_lags_behind_does_not_make_an_old_version_a_new_one() {
    let mut watch = LeaseWatch::default();
    watch.observe("1", 0, 0);
    watch.observe("2", 1_000, 1_000);
    assert!(watch.changed());
    // The watch hangs at version 1, quorum reads show 2: both say the same.
    for now in (2_000..10_000).step_by(500) {
        assert_eq!(watch.observe("1", now, now), now - 1_000);
        assert_eq!(watch.observe("2", now, now + 10), now - 1_000);
    }
    assert_eq!(watch.observe("3", 10_000, 10_000), 0);
    assert_eq!(watch.observe("2", 11_000, 11_000), 1_000);
}

#[test]
fn f3_the_fourth_start_within_two_minutes_waits_for_the_operator() {
    let mut lease = LeaseRecord::initial(vec!["aa".into()], 1);
    lease.holder = Some(holder("pod-1"));
    for at in [1_000, 40_000, 80_000] {
        lease.starts = lease.starts.and(BOOT, at);
    }
    let view = |now, boot: &'static str| RestartView {
        lease: &lease,
        pod_uid: "pod-1",
        target_is_anothers: false,
        boot_id: boot,
        now,
    };
    assert_eq!(restart(&view(100_000, BOOT)), Restart::CrashLoop);
    assert_eq!(restart(&view(121_500, BOOT)), Restart::Take, "the first is two minutes ago");
    assert_eq!(restart(&view(100_000, "boot-2")), Restart::Take, "another boot");
    assert_eq!(restart(&RestartView { pod_uid: "pod-2", ..view(1, BOOT) }), Restart::Standby);
    assert_eq!(restart(&RestartView { target_is_anothers: true, ..view(1, "b") }), Restart::Standby);
}

#[test]
fn f3_a_store_that_crashes_on_its_own_data_does_not_tour_the_cluster() {
    let mut o = with_target(suspect());
    o.pod.as_mut().unwrap().state = PodState::CrashLoop;
    o.evidence = vec![evidence(EvidenceKind::KubeletConfirmed)];
    assert_eq!(step(&o), Step::Pin("n2".into()));
    o.store.moves_last_hour = 2;
    assert_eq!(step(&o), Step::Pin("n1".into()));
    o.store.max_moves_per_hour = 0;
    assert_eq!(step(&o), Step::Pin("n2".into()), "0: no limit");
    o.store.takeovers_last_quarter = 4;
    assert_eq!(step(&o), Step::Block(Blocked::Flapping));
    kill_node(&mut o);
    assert_eq!(step(&o), Step::Pin("n2".into()), "a lost node never counts");
}

#[test]
fn f4_demotion_is_for_a_foreign_lease_a_higher_epoch_or_long_silence() {
    let me = holder("pod-1");
    let mut lease = LeaseRecord::initial(vec!["aa".into()], 1);
    (lease.holder, lease.epoch) = (Some(me.clone()), 5);
    assert_eq!(demote(&me, 5, Some(&lease), 5, 0, 8_000), None);
    assert_eq!(demote(&me, 5, None, 5, 7_999, 8_000), None, "the API is away: no reason by itself");
    assert_eq!(demote(&me, 5, None, 5, 8_000, 8_000), Some(Demotion::CannotAcknowledge));
    assert_eq!(demote(&me, 5, Some(&lease), 6, 0, 8_000), Some(Demotion::HigherEpochSeen));
    lease.epoch = 6;
    assert_eq!(demote(&me, 5, Some(&lease), 5, 0, 8_000), Some(Demotion::LeaseLost));
}

#[test]
fn detection_wants_two_paths() {
    let reach = |frontends, answered, reach| Reach { frontends, answered, reach, pending: 0 };
    let cases = [
        ("both frontends miss it", reach(2, 2, 0), false, Detection::Lost),
        ("one of two reaches it", reach(2, 2, 1), true, Detection::Not(Undetected::FrontendReachesIt)),
        ("one of two answers", reach(2, 1, 0), false, Detection::Not(Undetected::TooFewReports)),
        ("the only one misses it", reach(1, 1, 0), false, Detection::Lost),
        ("none left, node fine", reach(0, 0, 0), false, Detection::Not(Undetected::NodeDisagrees)),
        ("none left, node lost", reach(0, 0, 0), true, Detection::Lost),
        ("three, two answer", reach(3, 2, 0), false, Detection::Lost),
    ];
    for (name, reach, node_lost, wanted) in cases {
        let mut o = suspect();
        if node_lost {
            kill_node(&mut o);
        }
        o.reach = reach;
        assert_eq!(detect(&o), wanted, "{name}");
    }
    let mut fresh = suspect();
    fresh.lease.as_mut().unwrap().unchanged_for = Some(7_999);
    assert_eq!(detect(&fresh), Detection::Not(Undetected::LeaseFresh));
}

#[test]
fn gates_hold_what_nobody_asked_for() {
    type Change = fn(&mut Observation);
    let cases: [(Gate, Change, bool); 8] = [
        (Gate::Paused, |o| o.store.paused = true, true),
        (Gate::NotBound, |o| o.volume.bound = false, true),
        (Gate::NotRetained, |o| o.volume.retain = false, true),
        (Gate::Suspended, |o| o.store.suspended = true, false),
        (Gate::Manual, |o| o.store.policy = Policy::Manual, false),
        (Gate::DirectoryFirst, |o| o.cluster.directory_first = true, true),
        (Gate::Concurrency, |o| o.cluster.moving = 2, true),
        (Gate::TooManyNodes, |o| (o.cluster.nodes, o.cluster.lost_nodes) = (4, 3), false),
    ];
    for (wanted, change, also_asked) in cases {
        let mut o = with_target(suspect());
        kill_node(&mut o);
        o.evidence = vec![evidence(EvidenceKind::FenceJob)];
        change(&mut o);
        assert_eq!(step(&o), Step::Block(Blocked::Gate(wanted)));
        assert_eq!(gate(&o, true).is_some(), also_asked, "{wanted:?}");
    }
    let mut o = healthy();
    (o.store.directory, o.cluster.moving, o.cluster.directory_first) = (true, 9, true);
    assert_eq!(gate(&o, false), None, "the directory goes first and is not counted");
}

#[test]
fn nothing_is_fenced_for_a_store_that_has_nowhere_to_go() {
    let mut o = with_target(suspect());
    kill_node(&mut o);
    o.nodes[1].unschedulable = true;
    assert_eq!(step(&o), Step::Block(Blocked::NoCandidate(vec![("n2".into(), "it is cordoned")])));
    o.volume.nodes = vec!["n1".into()];
    assert_eq!(step(&o), Step::Block(Blocked::OneNodeVolume));
}

#[test]
fn a_request_moves_by_pin_and_graceful_deletion() {
    let mut o = healthy();
    o.request = Some(Request { to: None, drain: true });
    o.nodes[0].unschedulable = true;
    assert_eq!(step(&o), Step::Pin("n2".into()));
    (o.pin, o.template_pin) = (Some("n2".into()), Some("n2".into()));
    assert_eq!(step(&o), Step::AllowEviction("pod-1".into()));
    o.eviction = Some(Eviction { pod_uid: "pod-1".into(), open_ms: None });
    assert_eq!(step(&o), Step::DeleteGracefully("pod-1".into()));
    o.volume.nodes = vec!["n1".into()];
    assert_eq!(step(&o), Step::Block(Blocked::OneNodeVolume));
}

#[test]
fn a_released_lease_is_handed_to_the_pod_that_is_there() {
    let mut o = healthy();
    let lease = o.lease.as_mut().unwrap();
    lease.record.holder = None;
    let pod = o.pod.as_mut().unwrap();
    (pod.uid, pod.state) = ("pod-2".into(), PodState::Standby);
    assert_eq!(step(&o), Step::SetTarget(TargetKind::Planned));
}

#[test]
fn a_store_whose_account_was_deleted_gets_a_pod_with_new_tokens() {
    let mut refused = suspect();
    (refused.unauthorised, refused.reach.reach) = (true, 1);
    refused.cluster.moving = 0;
    let restart = Decision { phase: Phase::Draining, step: Step::DeleteGracefully("pod-1".into()) };
    assert_eq!(next_step(&refused), restart, "whether the others serve or not");
    type Change = fn(&mut Observation);
    let not_now: [(&str, Change); 5] = [
        ("its tokens are good", |o| o.unauthorised = false),
        ("another moves", |o| o.cluster.moving = 1),
        ("the directory goes first", |o| o.cluster.directory_first = true),
        ("paused", |o| o.store.paused = true),
        ("on its way", |o| {
            o.deleting = Some("pod-1".into());
            o.pod.as_mut().unwrap().terminating = true;
        }),
    ];
    for (name, change) in not_now {
        let mut o = refused.clone();
        change(&mut o);
        assert_ne!(next_step(&o), restart, "{name}");
    }
}

#[test]
fn an_outdated_store_is_restarted_in_place_when_all_others_serve() {
    let mut outdated = healthy();
    (outdated.outdated, outdated.cluster.others_are_well) = (true, true);
    let with = |change: &dyn Fn(&mut Observation)| {
        let mut o = outdated.clone();
        change(&mut o);
        o
    };
    let restart = Decision { phase: Phase::Draining, step: Step::DeleteGracefully("pod-1".into()) };
    let idle = Decision { phase: Phase::Serving, step: Step::Idle };
    for (name, o, expected) in [
        ("as it should be", with(&|o| o.outdated = false), idle.clone()),
        ("outdated", outdated.clone(), restart.clone()),
        ("another is away or moves", with(&|o| o.cluster.others_are_well = false), idle.clone()),
        ("paused", with(&|o| o.store.paused = true), idle.clone()),
        ("suspended", with(&|o| o.store.suspended = true), idle.clone()),
        ("manual", with(&|o| o.store.policy = Policy::Manual), idle.clone()),
        ("its claim is being deleted", with(&|o| o.volume.bound = false), idle.clone()),
        (
            "on its way",
            with(&|o| {
                o.deleting = Some("pod-1".into());
                o.pod.as_mut().unwrap().terminating = true;
            }),
            Decision { phase: Phase::Draining, step: Step::Await("the holder to stop") },
        ),
        (
            "noted by an operator that died then",
            with(&|o| o.deleting = Some("pod-1".into())),
            restart.clone(),
        ),
    ] {
        assert_eq!(next_step(&o), expected, "{name}");
    }
    // A move comes first, and brings the new configuration with it.
    let asked = with(&|o| o.request = Some(Request { to: None, drain: true }));
    assert_eq!(step(&asked), Step::Pin("n2".into()));
    // A lost one is no matter of its configuration.
    let mut lost = suspect();
    (lost.outdated, lost.cluster.others_are_well) = (true, true);
    assert_ne!(next_step(&lost), restart);
}
