//! Where a store goes, who asked for it, and what is believed of whom on the way. Each test fails without its rule.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod world;

use mailcluster_failover::*;
use world::{BOOT, evidence, healthy, kill_node, step, suspect, with_target};

/// Lost for a minute, with a target, and with the lease's end on record.
fn lost() -> Observation {
    let mut o = with_target(suspect());
    o.lease.as_mut().unwrap().unchanged_for = Some(60_000);
    o.evidence = vec![evidence(EvidenceKind::LeaseExpired)];
    o
}

fn pinned(o: &mut Observation, node: &str) {
    (o.pin, o.template_pin) = (Some(node.into()), Some(node.into()));
}

/// Another pod than the holder's, on that node.
fn replaced(o: &mut Observation, node: Option<&str>) {
    let pod = o.pod.as_mut().unwrap();
    (pod.uid, pod.node, pod.state) = ("pod-2".into(), node.map(str::to_owned), PodState::Waiting);
}

fn ask(o: &mut Observation, to: Option<&str>) {
    o.request = Some(Request { to: to.map(str::to_owned), drain: false });
}

#[test]
fn a_pod_elsewhere_says_nothing_of_the_holder() {
    let mut o = lost();
    kill_node(&mut o);
    replaced(&mut o, Some("n2"));
    o.reach = Reach { frontends: 2, answered: 2, reach: 1, pending: 0 };
    assert_eq!(
        detect(&o),
        Detection::Not(Undetected::FrontendReachesIt),
        "its pod object was deleted by force"
    );
    o.reach = Reach::default();
    o.nodes[0].ready = true;
    assert_eq!(detect(&o), Detection::Not(Undetected::NodeDisagrees));
    // With the lock in its hands, on the holder's node and boot, it does.
    replaced(&mut o, Some("n1"));
    o.pod.as_mut().unwrap().lock_held = true;
    assert_eq!(detect(&o), Detection::Lost);
    let mut o = lost();
    o.reach = Reach::default();
    o.pod.as_mut().unwrap().state = PodState::Waiting;
    assert_eq!(detect(&o), Detection::Lost, "the holder's own pod");
}

#[test]
fn what_cannot_be_told_for_long_is_told_to_people() {
    for (reach, why) in [
        (Reach { frontends: 2, answered: 1, reach: 0, pending: 0 }, Undetected::TooFewReports),
        // Two have said no, and the third may say yes.
        (Reach { frontends: 3, answered: 2, reach: 0, pending: 1 }, Undetected::TooFewReports),
        (Reach::default(), Undetected::NodeDisagrees),
    ] {
        let mut o = suspect();
        o.reach = reach;
        assert!(matches!(step(&o), Step::Await(_)));
        o.lease.as_mut().unwrap().unchanged_for = Some(38_000);
        let wanted = Decision { phase: Phase::Suspect, step: Step::Block(Blocked::Undetected(why)) };
        assert_eq!(next_step(&o), wanted);
    }
}

#[test]
fn a_pod_that_somebody_removed_is_brought_back_to_the_holders_node() {
    let mut o = lost();
    replaced(&mut o, Some("n2"));
    assert_eq!(step(&o), Step::Pin("n1".into()));
    pinned(&mut o, "n1");
    assert_eq!(step(&o), Step::DeleteGracefully("pod-2".into()));
    let pod = o.pod.as_mut().unwrap();
    (pod.uid, pod.node, pod.pin) = ("pod-3".into(), None, Some("n1".into()));
    assert!(matches!(step(&o), Step::Await(_)), "{:?}", step(&o));
    o.pod.as_mut().unwrap().node = Some("n1".into());
    assert!(matches!(step(&o), Step::Await(_)), "{:?}", step(&o));
    o.pod.as_mut().unwrap().cannot_start = true;
    assert_eq!(step(&o), Step::Block(Blocked::NoEvidence));
    let pod = o.pod.as_mut().unwrap();
    (pod.cannot_start, pod.state, pod.lock_held) = (false, PodState::Standby, true);
    assert_eq!(step(&o), Step::Await("the replica to take the lease"), "the lock is the proof");
}

#[test]
fn a_pod_that_waits_for_the_scheduler_where_it_belongs_is_left_to_it() {
    let mut o = lost();
    kill_node(&mut o);
    o.evidence.push(evidence(EvidenceKind::FenceJob));
    pinned(&mut o, "n2");
    replaced(&mut o, None);
    let unplaced = |for_ms| Some(Unplaced { for_ms, why: "too little memory".into() });
    let pod = o.pod.as_mut().unwrap();
    (pod.state, pod.unplaced) = (PodState::Silent, unplaced(14_000));
    assert_eq!(step(&o), Step::DeleteGracefully("pod-2".into()), "it was made before the pin");
    o.deleting = Some("pod-2".into());
    assert_eq!(step(&o), Step::DeleteGracefully("pod-2".into()), "noted by an operator that died then");
    o.pod.as_mut().unwrap().terminating = true;
    assert!(matches!(step(&o), Step::Await(_)), "it is deleted once");
    o.deleting = None;
    let pod = o.pod.as_mut().unwrap();
    (pod.terminating, pod.pin) = (false, Some("n2".into()));
    assert!(matches!(step(&o), Step::Await(_)));
    // For too long: it goes elsewhere if it can, and does not come back here in this failover.
    o.pod.as_mut().unwrap().unplaced = unplaced(15_000);
    assert_eq!(step(&o), Step::Block(Blocked::Unschedulable("too little memory".into())));
    o.volume.nodes.push("n3".into());
    assert_eq!(step(&o), Step::Pin("n3".into()));
    pinned(&mut o, "n3");
    o.tried = vec!["n2".into()];
    let pod = o.pod.as_mut().unwrap();
    (pod.uid, pod.pin) = ("pod-3".into(), Some("n3".into()));
    assert_eq!(step(&o), Step::Block(Blocked::Unschedulable("too little memory".into())));
}

#[test]
fn a_store_goes_where_its_pod_may_run_and_least_is_served() {
    type Change = fn(&mut Observation);
    let cases: [(&str, Change, Option<&str>); 5] = [
        ("the first by name", |_| (), Some("n2")),
        ("the emptier", |o| o.nodes[1].stores = 1, Some("n3")),
        ("tainted or not selected", |o| o.nodes[1].admits = false, Some("n3")),
        ("cordoned", |o| o.nodes[1].unschedulable = true, Some("n3")),
        ("none", |o| o.nodes[1..].iter_mut().for_each(|n| n.admits = false), None),
    ];
    for (name, change, wanted) in cases {
        let mut o = lost();
        kill_node(&mut o);
        o.volume.nodes.push("n3".into());
        o.evidence.push(evidence(EvidenceKind::FenceJob));
        change(&mut o);
        let kept_away = "the node selector or the node's taints keep the store's pod away";
        let nobody = ["n2", "n3"].map(|name| (name.to_owned(), kept_away)).to_vec();
        let wanted = wanted.map_or(Step::Block(Blocked::NoCandidate(nobody)), |to| Step::Pin(to.into()));
        assert_eq!(step(&o), wanted, "{name}");
    }
}

#[test]
fn a_move_by_its_own_crash_is_finished_once_it_is_begun() {
    let mut o = lost();
    o.evidence.push(evidence(EvidenceKind::KubeletConfirmed));
    o.pod.as_mut().unwrap().state = PodState::CrashLoop;
    assert_eq!(step(&o), Step::Pin("n2".into()));
    pinned(&mut o, "n2");
    replaced(&mut o, Some("n2"));
    assert_eq!(step(&o), Step::Await("the replica to take the lease"), "the new pod has not crashed yet");
}

#[test]
fn a_store_that_refuses_its_data_stays() {
    for (why, moves) in [
        ("StaleCopy: the volume ends at", false),
        ("StateRolledBack: the volume has seen", false),
        ("ForeignVolume: /data belongs to", false),
        ("EmptyVolume: the volume is empty", false),
        ("the file system fails an fsync", true),
    ] {
        let mut o = lost();
        o.evidence.push(evidence(EvidenceKind::KubeletConfirmed));
        o.pod.as_mut().unwrap().state = PodState::Refused(why.into());
        let wanted =
            if moves { Step::Pin("n2".into()) } else { Step::Block(Blocked::Refused(why.to_owned())) };
        assert_eq!(step(&o), wanted);
    }
}

#[test]
fn a_persons_request_passes_flapping_and_goes_where_it_can() {
    let mut o = lost();
    o.evidence.push(evidence(EvidenceKind::KubeletConfirmed));
    o.store.takeovers_last_quarter = 4;
    assert_eq!(step(&o), Step::Block(Blocked::Flapping));
    ask(&mut o, None);
    assert_eq!(step(&o), Step::NameRequest("n2".into()));
    ask(&mut o, Some("n2"));
    assert_eq!(step(&o), Step::Pin("n2".into()));
    // A node that cannot take it does not switch failover off.
    ask(&mut o, Some("n3"));
    kill_node(&mut o);
    o.evidence = vec![evidence(EvidenceKind::FenceJob)];
    assert_eq!(step(&o), Step::Pin("n2".into()));
}

#[test]
fn a_request_that_cannot_be_done_is_refused_and_not_kept() {
    let refused = |o: &Observation| match step(o) {
        Step::RefuseRequest(why) => why.reason(),
        other => panic!("{other:?}"),
    };
    let mut o = healthy();
    ask(&mut o, Some("n3"));
    assert_eq!(refused(&o), "NodeCannotTakeIt", "it does not reach the volume");
    ask(&mut o, Some("typo"));
    assert_eq!(refused(&o), "NodeCannotTakeIt");
    ask(&mut o, None);
    o.nodes[1].unschedulable = true;
    assert_eq!(refused(&o), "NoCandidateNode");
    o.volume.nodes = vec!["n1".into()];
    assert_eq!(refused(&o), "OneNodeVolume");
    // A drain asks on: the node may come.
    o.request = Some(Request { to: None, drain: true });
    assert_eq!(step(&o), Step::Block(Blocked::OneNodeVolume));
}

#[test]
fn any_other_node_gets_its_name_before_anything_moves() {
    let mut o = healthy();
    ask(&mut o, None);
    assert_eq!(step(&o), Step::NameRequest("n2".into()));
    ask(&mut o, Some("n2"));
    assert_eq!(step(&o), Step::Pin("n2".into()));
    // A released lease is not led astray by a name that cannot be.
    let mut o = healthy();
    o.lease.as_mut().unwrap().record.holder = None;
    o.pod.as_mut().unwrap().state = PodState::Standby;
    pinned(&mut o, "n1");
    ask(&mut o, Some("typo"));
    assert_eq!(step(&o), Step::SetTarget(TargetKind::Planned));
}

#[test]
fn a_move_that_is_called_off_before_its_pod_goes_leaves_no_pin_behind() {
    type Change = fn(&mut Observation);
    let cases: [(&str, Change, Step); 6] = [
        ("nobody wants it any more", |_| (), Step::Pin("n1".into())),
        ("its configuration waits", |o| o.outdated = true, Step::Pin("n1".into())),
        ("it is where it serves", |o| pinned(o, "n1"), Step::Idle),
        ("paused", |o| o.store.paused = true, Step::Idle),
        ("not watched for long enough", |o| o.lease.as_mut().unwrap().unchanged_for = None, Step::Idle),
        ("its pod is going by somebody's hand", |o| o.pod.as_mut().unwrap().terminating = true, Step::Idle),
    ];
    for (name, change, wanted) in cases {
        let mut o = healthy();
        o.cluster.others_are_well = true;
        pinned(&mut o, "n2");
        change(&mut o);
        assert_eq!(next_step(&o), Decision { phase: Phase::Serving, step: wanted }, "{name}");
    }
    let mut wanted = healthy();
    pinned(&mut wanted, "n2");
    ask(&mut wanted, Some("n2"));
    assert_eq!(step(&wanted), Step::DeleteGracefully("pod-1".into()), "it is still asked for");
}

#[test]
fn a_drain_waits_for_what_holds_failover_back() {
    let drained = |change: fn(&mut Observation)| {
        let mut o = healthy();
        o.request = Some(Request { to: None, drain: true });
        o.nodes[0].unschedulable = true;
        change(&mut o);
        step(&o)
    };
    assert_eq!(drained(|_| ()), Step::Pin("n2".into()));
    assert_eq!(drained(|o| o.store.suspended = true), Step::Block(Blocked::Gate(Gate::Suspended)));
    assert_eq!(drained(|o| o.store.policy = Policy::Manual), Step::Block(Blocked::Gate(Gate::Manual)));
    assert!(matches!(drained(|o| o.cluster.moving = 2), Step::Await(_)), "its turn comes");
    assert!(matches!(drained(|o| o.cluster.directory_first = true), Step::Await(_)));
    let mut o = healthy();
    (o.store.suspended, o.store.policy) = (true, Policy::Manual);
    ask(&mut o, Some("n2"));
    assert_eq!(step(&o), Step::Pin("n2".into()), "a person passes both");
}

#[test]
fn a_budget_that_was_shut_before_its_time_is_opened_again() {
    for (open_ms, expected) in [(Some(10), false), (Some(29_999), false), (Some(30_000), true), (None, true)]
    {
        let eviction = Eviction { pod_uid: "pod-1".into(), open_ms };
        assert_eq!(eviction.was_in_vain(), expected, "{eviction:?}");
    }
}

#[test]
fn a_drain_may_evict_the_pod_whose_sibling_is_pinned() {
    let mut drained = healthy();
    drained.request = Some(Request { to: None, drain: true });
    drained.nodes[0].unschedulable = true;
    let open = |pod: &str, ms| Some(Eviction { pod_uid: pod.into(), open_ms: Some(ms) });
    let shut = Some(Eviction { pod_uid: "pod-1".into(), open_ms: None });
    drained.eviction = open("pod-1", 10);
    assert_eq!(step(&drained), Step::EndEviction, "never before the pin");
    pinned(&mut drained, "n2");
    let going = |o: &mut Observation| o.pod.as_mut().unwrap().terminating = true;
    type Change = Box<dyn Fn(&mut Observation)>;
    let cases: Vec<(&str, Option<Eviction>, Change, Step)> = vec![
        ("pinned", None, Box::new(|_| ()), Step::AllowEviction("pod-1".into())),
        ("another pod's", open("pod-0", 10), Box::new(|_| ()), Step::EndEviction),
        (
            "waited for",
            open("pod-1", 7_900),
            Box::new(|_| ()),
            Step::Await("an eviction of the pod, as by kubectl drain"),
        ),
        ("nobody evicts", open("pod-1", 30_000), Box::new(|_| ()), Step::EndEviction),
        ("nobody did", shut.clone(), Box::new(|_| ()), Step::DeleteGracefully("pod-1".into())),
        ("evicted", open("pod-1", 3_000), Box::new(going), Step::EndEviction),
        ("evicted, shut again", shut.clone(), Box::new(going), Step::DeleteGracefully("pod-1".into())),
        (
            "on record as ours",
            shut.clone(),
            Box::new(move |o| {
                going(o);
                o.deleting = Some("pod-1".into());
            }),
            Step::Await("the kubelet to end the pod"),
        ),
        ("uncordoned", open("pod-1", 10), Box::new(|o| o.request = None), Step::EndEviction),
        ("paused", open("pod-1", 10), Box::new(|o| o.store.paused = true), Step::EndEviction),
        (
            "suspended",
            None,
            Box::new(|o| o.store.suspended = true),
            Step::Block(Blocked::Gate(Gate::Suspended)),
        ),
        ("others move", open("pod-1", 10), Box::new(|o| o.cluster.moving = 2), Step::EndEviction),
        (
            "lost meanwhile",
            open("pod-1", 10),
            Box::new(|o| *o = Observation { eviction: o.eviction.clone(), ..lost() }),
            Step::EndEviction,
        ),
        (
            "a person's move waits for nobody",
            None,
            Box::new(|o| ask(o, Some("n2"))),
            Step::DeleteGracefully("pod-1".into()),
        ),
    ];
    for (name, eviction, change, expected) in cases {
        let mut o = Observation { eviction, ..drained.clone() };
        change(&mut o);
        assert_eq!(step(&o), expected, "{name}");
    }
}

#[test]
fn the_directory_goes_first_and_the_proof_of_its_node_serves_all() {
    let mut o = lost();
    kill_node(&mut o);
    o.cluster.directory_first = true;
    assert!(matches!(step(&o), Step::CreateFenceJob { .. }));
    o.evidence.push(evidence(EvidenceKind::FenceJob));
    assert_eq!(step(&o), Step::Block(Blocked::Gate(Gate::DirectoryFirst)));
}

#[test]
fn a_machine_that_booted_anew_is_fenced_under_its_present_boot() {
    let mut o = lost();
    kill_node(&mut o);
    o.nodes[0].boot_id = "boot-9".into();
    o.nodes[0].unready_ms = 59_000;
    assert_eq!(step(&o), Step::Await("the node to become Ready under its new boot"));
    o.nodes[0].unready_ms = 60_000;
    assert_eq!(step(&o), Step::CreateFenceJob { node: "n1".into(), boot_id: "boot-9".into() });
    o.fence_job = Some(FenceJob::Off { node: "n1".into(), boot_id: "boot-9".into() });
    assert_eq!(step(&o), Step::RecordEvidence(EvidenceKind::FenceJob));
    o.evidence.push(evidence(EvidenceKind::FenceJob));
    pinned(&mut o, "n2");
    assert_eq!(step(&o), Step::DeleteForced("pod-1".into()));
    // It was switched on again, and its kubelet may have started the same pod: not with grace 0.
    o.nodes[0].boot_id = "boot-10".into();
    o.fence_job = None;
    assert_eq!(step(&o), Step::CreateFenceJob { node: "n1".into(), boot_id: "boot-10".into() });
    o.store.fence_configured = false;
    assert_eq!(step(&o), Step::Block(Blocked::NoEvidence));
    o.confirmed_boots = vec![("n1".into(), "boot-10".into())];
    assert_eq!(step(&o), Step::DeleteForced("pod-1".into()), "a person has seen this boot end as well");
    o.evidence.clear();
    assert_eq!(live_evidence(&o).map(|f| f.kind), Some(EvidenceKind::HumanConfirmed));
    o.evidence = vec![evidence(EvidenceKind::FenceJob)];
    o.nodes[0].ready = true;
    assert_eq!(step(&o), Step::DeleteGracefully("pod-1".into()));
}

#[test]
fn an_unknown_boot_and_a_node_that_is_gone_are_a_persons_business() {
    let mut o = lost();
    kill_node(&mut o);
    o.nodes[0].boot_id = String::new();
    assert_eq!(step(&o), Step::Block(Blocked::NoEvidence), "there is no boot to end");
    o.placement.as_mut().unwrap().boot_id = String::new();
    (o.nodes[0].ready, o.nodes[0].boot_id) = (true, BOOT.into());
    assert_ne!(live_evidence(&o).map(|f| f.kind), Some(EvidenceKind::NewBoot), "no id is not another id");
    let mut o = lost();
    o.evidence.push(evidence(EvidenceKind::NodeDeleted));
    o.nodes.remove(0);
    assert_eq!(step(&o), Step::Block(Blocked::NoEvidence));
    o.confirmed_pods = vec!["pod-1".into()];
    assert_eq!(step(&o), Step::RecordEvidence(EvidenceKind::HumanConfirmed));
    // Another machine under its name is no better than none, however Ready.
    let mut o = lost();
    (o.nodes[0].system_uuid, o.nodes[0].boot_id) = ("other".into(), "boot-2".into());
    assert_eq!(step(&o), Step::RecordEvidence(EvidenceKind::NodeDeleted));
    o.evidence.push(evidence(EvidenceKind::NodeDeleted));
    assert_eq!(step(&o), Step::Block(Blocked::NoEvidence));
}

#[test]
fn a_fence_that_switched_off_another_machine_proves_nothing() {
    let mut o = lost();
    kill_node(&mut o);
    o.fence_job = Some(FenceJob::Off { node: "n1".into(), boot_id: BOOT.into() });
    o.evidence.push(evidence(EvidenceKind::FenceJob));
    assert!(suffices(&o, true));
    o.nodes[0].ready = true;
    assert!(!suffices(&o, true), "the very boot is Ready");
    o.evidence.pop();
    assert_ne!(live_evidence(&o).map(|f| f.kind), Some(EvidenceKind::FenceJob));
}

#[test]
fn a_pod_that_released_its_lease_on_a_dying_node_is_proven_dead_first() {
    let mut o = healthy();
    o.lease.as_mut().unwrap().record.holder = None;
    o.pod.as_mut().unwrap().state = PodState::Silent;
    kill_node(&mut o);
    assert_eq!(step(&o), Step::Pin("n2".into()));
    pinned(&mut o, "n2");
    let fence = Step::CreateFenceJob { node: "n1".into(), boot_id: BOOT.into() };
    assert_eq!(step(&o), fence);
    o.store.suspended = true;
    assert_eq!(step(&o), Step::Block(Blocked::Gate(Gate::Suspended)));
    o.store.suspended = false;
    o.cluster.node_has_renewing_store = true;
    assert_eq!(step(&o), Step::Block(Blocked::NodeStillServes));
    o.cluster.node_has_renewing_store = false;
    o.store.fence_configured = false;
    assert_eq!(step(&o), Step::Block(Blocked::NoEvidence));
    for proof in 0..3 {
        let mut o = o.clone();
        match proof {
            0 => o.fence_job = Some(FenceJob::Off { node: "n1".into(), boot_id: BOOT.into() }),
            1 => o.confirmed_boots = vec![("n1".into(), BOOT.into())],
            _ => o.confirmed_pods = vec!["pod-1".into()],
        }
        assert_eq!(step(&o), Step::DeleteForced("pod-1".into()));
        // Under another boot its kubelet may have started the pod again.
        o.nodes[0].boot_id = "boot-2".into();
        assert!(proof == 2 || step(&o) == Step::Block(Blocked::NoEvidence));
    }
}
