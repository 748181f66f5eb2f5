//! Which copy of a mirrored store is asked to take it, and when: a table.

#![allow(clippy::unwrap_used, reason = "tests")]

mod world;

use mailcluster_failover::*;
use world::healthy;

fn copy(id: &str, state: PodState, end: (u64, u64)) -> ReplicaView {
    let pod = PodView {
        uid: format!("pod-{id}"),
        node: Some(format!("n-{id}")),
        terminating: false,
        pin: None,
        unplaced: None,
        backs_off: false,
        cannot_start: false,
        lock_held: true,
        volume_epoch: end.0,
        state,
    };
    let volume = VolumeAccount {
        end: Position { epoch: end.0, seq: end.1 },
        last_epoch: end.0,
        promise: end.0,
        in_sync_version: 1,
        newest: 0,
    };
    let (outdated, replaced, was_open, away_ms) = (false, false, true, 0);
    // It had the store by itself.
    let in_sync = vec![id.into()];
    let (id, pod, volume) = (id.into(), Some(pod), Some(volume));
    ReplicaView { id, pod, volume, in_sync, outdated, replaced, was_open, away_ms }
}

/// Served by copy `aa` at epoch 5; `bb` and `cc` follow.
fn mirrored() -> Observation {
    let mut o = healthy();
    let lease = o.lease.as_mut().unwrap();
    lease.record.in_sync = vec!["aa".into(), "bb".into(), "cc".into()];
    lease.record.in_force =
        Some(InForce { durability: Durability::Required, fencing: FencingMinimum::Proof });
    o.replicas = vec![
        ReplicaView { pod: o.pod.clone(), ..copy("aa", PodState::Active, (5, 120)) },
        copy("bb", PodState::Standby, (5, 118)),
        copy("cc", PodState::Standby, (5, 119)),
    ];
    o
}

/// The holder is not heard of, by any path.
fn lost() -> Observation {
    let mut o = mirrored();
    o.lease.as_mut().unwrap().unchanged_for = Some(8_000);
    o.reach.reach = 0;
    o.pod.as_mut().unwrap().state = PodState::Silent;
    o.replicas[0].pod.clone_from(&o.pod);
    o.replicas[0].volume = None;
    o
}

#[test]
fn pods_are_made_anew_mirrors_first_and_one_after_another() {
    let all = || {
        let mut o = mirrored();
        o.replicas.iter_mut().for_each(|r| r.outdated = true);
        o.cluster.others_are_well = true;
        o
    };
    let anew = |uid: &str| Step::DeleteGracefully(uid.into());
    check(vec![
        ("a mirror first", all(), set(|_| ()), anew("pod-bb")),
        ("then the next", all(), set(|o| o.replicas[1].outdated = false), anew("pod-cc")),
        (
            "the holder last",
            all(),
            set(|o| o.replicas[1..].iter_mut().for_each(|r| r.outdated = false)),
            anew("pod-1"),
        ),
        (
            "what lacks something before all others: it may be too old to get it",
            all(),
            set(|o| {
                o.lease.as_mut().unwrap().record.in_sync.retain(|id| id != "cc");
                o.cluster.others_are_well = false;
            }),
            anew("pod-cc"),
        ),
        (
            "not before all have everything, where the one that has not is new",
            all(),
            set(|o| {
                o.lease.as_mut().unwrap().record.in_sync.retain(|id| id != "cc");
                o.replicas[2].outdated = false;
            }),
            Step::Idle,
        ),
        ("nor while another is away", all(), set(|o| o.replicas[2].volume = None), Step::Idle),
        (
            "nor before the other stores are well",
            all(),
            set(|o| o.cluster.others_are_well = false),
            Step::Idle,
        ),
    ]);
}

#[test]
fn a_person_names_the_node_that_is_to_serve() {
    let to = |node: &str| Some(Request { to: Some(node.to_owned()), drain: false });
    let refused = |node: &str| {
        Step::RefuseRequest(Blocked::UnfitNode(node.into(), "no copy that has everything stands by there"))
    };
    check(vec![
        ("there is a copy", mirrored(), set(move |o| o.request = to("n-bb")), Step::HandOver("bb".into())),
        ("it is served there", mirrored(), set(move |o| o.request = to("n1")), Step::Idle),
        (
            "it is served there since a moment ago",
            mirrored(),
            set(move |o| {
                o.request = to("n-bb");
                o.lease.as_mut().unwrap().record.replica = Some("bb".into());
                o.replicas[1].pod.as_mut().unwrap().state = PodState::Active;
            }),
            Step::Idle,
        ),
        (
            "what it said of its end is older than the lease",
            mirrored(),
            set(move |o| {
                o.request = to("n-bb");
                o.lease.as_mut().unwrap().record.position = Position { epoch: 5, seq: 500 };
            }),
            Step::HandOver("bb".into()),
        ),
        ("there is none", mirrored(), set(move |o| o.request = to("n-dd")), refused("n-dd")),
        (
            "it lacks something",
            mirrored(),
            set(move |o| {
                o.request = to("n-bb");
                o.lease.as_mut().unwrap().record.in_sync.retain(|id| id != "bb");
            }),
            refused("n-bb"),
        ),
        (
            "any other: it gets a name",
            mirrored(),
            set(|o| o.request = Some(Request { to: None, drain: false })),
            Step::NameRequest("n-cc".into()),
        ),
        (
            "a drain evicts the pod",
            mirrored(),
            set(|o| o.request = Some(Request { to: None, drain: true })),
            Step::Idle,
        ),
    ]);
}

fn released(to: &str) -> Observation {
    let mut o = mirrored();
    let record = &mut o.lease.as_mut().unwrap().record;
    (record.holder, record.transfer_to) = (None, Some(to.to_owned()).filter(|to| !to.is_empty()));
    o.replicas[0].pod.as_mut().unwrap().state = PodState::Standby;
    o
}

type Case = (&'static str, Observation, Box<dyn Fn(&mut Observation)>, Step);

fn promote(id: &str, kind: TargetKind) -> Step {
    Step::Promote(id.into(), kind)
}

fn target(replica: &str) -> Option<Target> {
    Some(Target {
        replica: replica.into(),
        lease_version: "100".into(),
        epoch: 5,
        kind: TargetKind::Auto,
        overdue: false,
    })
}

fn set(change: impl Fn(&mut Observation) + 'static) -> Box<dyn Fn(&mut Observation)> {
    Box::new(change)
}

fn check(cases: Vec<Case>) {
    for (what, mut o, change, wanted) in cases {
        change(&mut o);
        assert_eq!(next_step(&o).step, wanted, "{what}");
    }
}

#[test]
fn a_lost_holder_is_followed_by_the_copy_with_the_most() {
    let took = || Step::Await("the copy to take the lease");
    check(vec![
        ("it serves", mirrored(), set(|_| ()), Step::Idle),
        ("lost: no fence, no grace", lost(), set(|_| ()), promote("cc", TargetKind::Auto)),
        ("it is asked once", lost(), set(|o| o.target = target("cc")), took()),
        (
            "A2: written since",
            lost(),
            set(|o| o.target = target("cc").map(|t| Target { lease_version: "99".into(), ..t })),
            Step::ClearTarget,
        ),
        (
            "A4: not taken in time: another is asked",
            lost(),
            set(|o| o.target = target("cc").map(|t| Target { overdue: true, ..t })),
            promote("bb", TargetKind::Auto),
        ),
        ("cc does not answer", lost(), set(|o| o.replicas[2].volume = None), promote("bb", TargetKind::Auto)),
        (
            "I3: cc is not in the in-sync set, whatever it has",
            lost(),
            set(|o| {
                o.lease.as_mut().unwrap().record.in_sync.retain(|id| id != "cc");
            }),
            promote("bb", TargetKind::Auto),
        ),
        (
            "frontends reach the holder",
            lost(),
            set(|o| o.reach.reach = 1),
            Step::Await("the lease to be renewed: frontends reach the store"),
        ),
        (
            "a person decides",
            lost(),
            set(|o| o.store.policy = Policy::Manual),
            Step::Block(Blocked::Gate(Gate::Manual)),
        ),
        (
            "I9: nobody has what was acknowledged",
            lost(),
            set(|o| o.lease.as_mut().unwrap().record.position.seq = 200),
            Step::Block(Blocked::NoCopy(vec![
                ("aa".into(), "it does not answer"),
                ("bb".into(), "its log ends before what was acknowledged"),
                ("cc".into(), "its log ends before what was acknowledged"),
            ])),
        ),
    ]);
}

#[test]
fn what_was_given_back_goes_to_whom_it_was_given() {
    let planned = |id| promote(id, TargetKind::Planned);
    check(vec![
        ("to its heir", released("bb"), set(|_| ()), planned("bb")),
        (
            "the heir does not come",
            released("bb"),
            set(|o| o.target = target("bb").map(|t| Target { overdue: true, ..t })),
            planned("aa"),
        ),
        ("the heir is gone", released("bb"), set(|o| o.replicas[1].volume = None), planned("aa")),
        ("to nobody", released(""), set(|_| ()), planned("aa")),
        (
            "a paused cluster stays as it is",
            released(""),
            set(|o| o.store.paused = true),
            Step::Block(Blocked::Gate(Gate::Paused)),
        ),
    ]);
}

#[test]
fn nothing_stale_is_promoted_and_no_lease_is_made_of_one_copy_alone() {
    let rolled_back = |o: &Observation| match next_step(o).step {
        Step::Block(Blocked::Refused(why)) => why.starts_with("StateRolledBack: copy bb"),
        _ => false,
    };
    // The last epoch of its log, what it has promised, the version of the set: one that stood for an epoch and was not
    // chosen has promised the one above the lease's; another promise is of a later lease.
    for (last_epoch, promise, in_sync_version, is_later) in
        [(6, 6, 1, true), (5, 5, 2, true), (5, 6, 1, false), (5, 7, 1, true), (4, 7, 1, true)]
    {
        let mut o = lost();
        let volume = o.replicas[1].volume.as_mut().unwrap();
        *volume = VolumeAccount { last_epoch, promise, in_sync_version, ..*volume };
        assert_eq!(rolled_back(&o), is_later, "{last_epoch} {promise} {in_sync_version}");
    }
    let without = |change: Box<dyn Fn(&mut Observation)>| {
        set(move |o| {
            o.lease = None;
            change(o);
        })
    };
    check(vec![
        ("every copy was asked", mirrored(), without(set(|_| ())), Step::RestoreLease),
        ("one does not answer", mirrored(), without(set(|o| o.replicas[2].volume = None)), silent(&["cc"])),
        (
            "one that has another's place has nothing to tell",
            mirrored(),
            without(set(|o| {
                o.replicas[2] = copy("dd", PodState::Waiting, (0, 0));
                (o.replicas[2].volume, o.replicas[2].was_open) = (None, false);
            })),
            Step::RestoreLease,
        ),
        (
            "nobody has",
            mirrored(),
            without(set(|o| {
                o.replicas.iter_mut().for_each(|r| (r.volume, r.was_open) = (None, false));
                o.replicas.iter_mut().for_each(|r| r.pod.as_mut().unwrap().state = PodState::Waiting);
            })),
            Step::Block(Blocked::LeaseMissing),
        ),
        (
            "a person asks",
            lost(),
            set(|o| {
                o.replicas[0].volume = o.replicas[1].volume;
                o.restore_asked = true;
            }),
            Step::RestoreLease,
        ),
        ("never seen before", mirrored(), without(set(|o| o.store.known_before = false)), Step::CreateLease),
    ]);
}

fn silent(copies: &[&str]) -> Step {
    Step::Block(Blocked::CopiesSilent(copies.iter().map(|id| (*id).to_owned()).collect()))
}

fn missed(copies: &[&str]) -> Step {
    Step::Block(Blocked::CopiesMissed(copies.iter().map(|id| (*id).to_owned()).collect()))
}

/// By the logs of all, these must have what is acknowledged.
fn named(o: &mut Observation, in_sync: &[&str]) {
    let ids: Vec<String> = in_sync.iter().map(|id| (*id).to_owned()).collect();
    o.replicas.iter_mut().for_each(|copy| copy.in_sync.clone_from(&ids));
}

#[test]
fn a5_a_lease_is_made_anew_by_itself_only_where_no_copy_that_is_not_here_can_have_more() {
    // An hour behind, on a new Kubernetes, beside a copy that was drawn anew.
    let stale = || {
        let mut o = released("");
        let record = &mut o.lease.as_mut().unwrap().record;
        (record.epoch, record.position) = (0, Position::default());
        o.replicas = vec![copy("bb", PodState::Standby, (7, 9)), copy("nn", PodState::Standby, (0, 0))];
        named(&mut o, &["aa", "bb"]);
        o
    };
    let lost_lease = || {
        let mut o = mirrored();
        o.lease = None;
        o
    };
    check(vec![
        ("the one that has all is not there", stale(), set(|_| ()), missed(&["aa"])),
        ("it came back empty", stale(), set(|o| o.replicas[1].id = "aa".into()), missed(&["aa"])),
        (
            "it came back",
            stale(),
            set(|o| o.replicas[1] = copy("aa", PodState::Standby, (7, 99))),
            Step::RestoreLease,
        ),
        ("a person knows that it is gone", stale(), set(|o| o.restore_asked = true), Step::RestoreLease),
        ("it was alone", stale(), set(|o| named(o, &["bb"])), Step::RestoreLease),
        ("nobody says who has all", stale(), set(|o| named(o, &[])), missed(&[])),
        ("the new one does not come up", stale(), set(|o| o.replicas[1].volume = None), silent(&["nn"])),
        (
            "nor is it waited for",
            stale(),
            set(|o| {
                o.replicas[1].volume = None;
                (o.restore_asked, o.left_out) = (true, vec!["nn".into()]);
            }),
            Step::RestoreLease,
        ),
        ("no Lease", lost_lease(), set(|o| named(o, &["aa", "bb"])), Step::RestoreLease),
        ("and one had another's place", lost_lease(), set(|o| named(o, &["aa", "dd"])), missed(&["dd"])),
    ]);
}

#[test]
fn a_person_leaves_out_copies_that_will_never_answer() {
    // etcd is of yesterday, and the disk of `aa` is dead.
    let old = || {
        let mut o = released("");
        o.lease.as_mut().unwrap().record.epoch = 3;
        o.replicas[0].volume = None;
        named(&mut o, &["aa", "bb", "cc"]);
        o
    };
    let asked = |left_out: &'static [&'static str]| {
        set(move |o: &mut Observation| {
            o.restore_asked = true;
            o.left_out = left_out.iter().map(|id| (*id).to_owned()).collect();
        })
    };
    let rolled_back = matches!(next_step(&old()).step, Step::Block(Blocked::Refused(_)));
    assert!(rolled_back, "{:?}", next_step(&old()));
    check(vec![
        ("all are waited for", old(), asked(&[]), silent(&["aa"])),
        ("but for the dead one", old(), asked(&["aa"]), Step::RestoreLease),
        (
            "another does not answer",
            old(),
            set(|o| {
                (o.restore_asked, o.left_out) = (true, vec!["aa".into()]);
                o.replicas[2].volume = None;
            }),
            silent(&["cc"]),
        ),
        (
            "the Lease is gone, too",
            old(),
            set(|o| {
                (o.restore_asked, o.left_out) = (true, vec!["aa".into()]);
                o.lease = None;
            }),
            Step::RestoreLease,
        ),
    ]);
    let mut all = old();
    all.restore_asked = true;
    all.left_out = ["aa", "bb", "cc"].map(str::to_owned).into();
    all.replicas.iter_mut().for_each(|copy| copy.volume = None);
    assert_ne!(next_step(&all).step, Step::RestoreLease, "of nothing, no Lease is made");
}

#[test]
fn a_new_store_begins_when_every_copy_is_there() {
    let new = || {
        let mut o = released("");
        o.lease.as_mut().unwrap().record.epoch = 0;
        o.lease.as_mut().unwrap().record.position = Position::default();
        o.replicas = ["aa", "bb", "cc"].map(|id| copy(id, PodState::Standby, (0, 0))).into();
        o
    };
    check(vec![
        ("all are there", new(), set(|_| ()), promote("aa", TargetKind::Initial)),
        (
            "one is not",
            new(),
            set(|o| o.replicas[1].volume = None),
            Step::Await("every copy to open its volume"),
        ),
        (
            "A5: the volumes have a history",
            new(),
            set(|o| o.replicas[1] = copy("bb", PodState::Standby, (7, 9))),
            Step::RestoreLease,
        ),
    ]);
}

#[test]
fn copies_that_could_all_do_take_turns() {
    // The copies' nodes, and whose turn it is; who begins, and who takes over where all have as much.
    for (turn, first, heir) in
        [(0, "aa", "bb"), (1, "bb", "cc"), (2, "cc", "bb"), (3, "aa", "cc"), (99, "aa", "cc")]
    {
        let mut new = released("");
        (new.store.turn, new.lease.as_mut().unwrap().record.epoch) = (turn, 0);
        new.lease.as_mut().unwrap().record.position = Position::default();
        new.replicas = ["aa", "bb", "cc"].map(|id| copy(id, PodState::Standby, (0, 0))).into();
        assert_eq!(next_step(&new).step, promote(first, TargetKind::Initial), "{turn}");
        let mut o = lost();
        (o.store.turn, o.replicas[1].volume) = (turn, o.replicas[2].volume);
        assert_eq!(next_step(&o).step, promote(heir, TargetKind::Auto), "{turn}");
    }
    let mut o = lost();
    o.store.turn = 4;
    assert_eq!(
        next_step(&o).step,
        promote("cc", TargetKind::Auto),
        "the one with the most comes before any turn"
    );
}

#[test]
fn the_last_copy_under_another_pod_needs_evidence() {
    let alone = || {
        let mut o = lost();
        o.lease.as_mut().unwrap().record.in_sync = vec!["aa".into()];
        let pod = o.replicas[0].pod.as_mut().unwrap();
        (pod.uid, pod.state, pod.lock_held) = ("pod-new".into(), PodState::Waiting, false);
        o.nodes[0].boot_id = "boot-later".into();
        o
    };
    check(vec![
        ("another boot is found", alone(), set(|_| ()), Step::RecordEvidence(EvidenceKind::NewBoot)),
        (
            "and suffices",
            alone(),
            set(|o| o.evidence = vec![world::evidence(EvidenceKind::NewBoot)]),
            promote("aa", TargetKind::Auto),
        ),
        (
            "nothing but the lease's end is known of the old process",
            alone(),
            set(|o| {
                o.nodes[0].boot_id = world::BOOT.into();
                o.evidence = vec![world::evidence(EvidenceKind::LeaseExpired)];
            }),
            Step::Block(Blocked::NoCopy(vec![
                ("aa".into(), "it does not answer"),
                ("bb".into(), "it may lack what was acknowledged"),
                ("cc".into(), "it may lack what was acknowledged"),
            ])),
        ),
    ]);
}

#[test]
fn a_person_gives_a_copys_place_to_a_new_one() {
    let asked = |id: &'static str| move |o: &mut Observation| o.replace = Some(id.into());
    let refused = |what: &str| Step::RefuseReplacement(what.into());
    let away = |o: &mut Observation| o.replicas[2].volume = None;
    check(vec![
        (
            "a copy that does not answer",
            mirrored(),
            set(move |o| {
                asked("cc")(o);
                away(o);
            }),
            Step::Replace("cc".into()),
        ),
        ("one that does", mirrored(), set(asked("bb")), Step::Replace("bb".into())),
        ("there is none", mirrored(), set(asked("dd")), refused("the store has no copy dd")),
        (
            "paused: the request is kept",
            mirrored(),
            set(move |o| {
                asked("bb")(o);
                o.store.paused = true;
            }),
            Step::Block(Blocked::Gate(Gate::Paused)),
        ),
        (
            "it serves",
            mirrored(),
            set(asked("aa")),
            refused("it serves the store: run `kubectl mailcluster failover STORE` first, and ask again"),
        ),
        (
            "writes would stop",
            mirrored(),
            set(move |o| {
                asked("bb")(o);
                let lease = o.lease.as_mut().unwrap();
                lease.record.min_in_sync = 2;
                lease.record.in_sync.retain(|id| id != "cc");
            }),
            refused("it has everything and writes want 2 copies that have: wait until another has caught up"),
        ),
        (
            "they have stopped already",
            mirrored(),
            set(move |o| {
                asked("cc")(o);
                away(o);
                let lease = o.lease.as_mut().unwrap();
                lease.record.min_in_sync = 2;
                lease.record.in_sync.retain(|id| id != "bb");
            }),
            Step::Replace("cc".into()),
        ),
    ]);
}

#[test]
fn a_copy_whose_disk_is_gone_is_replaced_while_the_holder_settles_for_it() {
    let mut o = mirrored();
    o.serving = Some((4, "pod-0".into()));
    (o.replicas[1].volume, o.replicas[2].volume) = (None, None);
    assert_eq!(next_step(&o).step, Step::Await("the holder to publish its route"));
    o.replace = Some("cc".into());
    assert_eq!(next_step(&o).step, Step::Replace("cc".into()));
}

#[test]
fn a_copy_that_stays_away_is_replaced_when_the_spec_says_so() {
    let away = |ms: Millis| {
        let mut o = mirrored();
        o.store.replace_after_ms = Some(3_600_000);
        (o.replicas[2].volume, o.replicas[2].away_ms) = (None, ms);
        o
    };
    let long = || away(3_600_000);
    check(vec![
        ("long enough", long(), set(|_| ()), Step::Replace("cc".into())),
        ("not yet", away(3_599_999), set(|_| ()), Step::Idle),
        ("only when the spec says so", long(), set(|o| o.store.replace_after_ms = None), Step::Idle),
        ("it answers", long(), set(|o| o.replicas[2].volume = o.replicas[1].volume), Step::Idle),
        (
            "another lacks something: one at a time",
            long(),
            set(|o| o.lease.as_mut().unwrap().record.in_sync.retain(|id| id != "bb")),
            Step::Idle,
        ),
        ("another is away", long(), set(|o| o.replicas[1].volume = None), Step::Idle),
        (
            "it is a new one, and has not found a place yet",
            long(),
            set(|o| o.replicas[2].was_open = false),
            Step::Idle,
        ),
        ("paused", long(), set(|o| o.store.paused = true), Step::Idle),
        ("nothing is done by itself", long(), set(|o| o.store.policy = Policy::Manual), Step::Idle),
    ]);
}

#[test]
fn the_pod_of_a_copy_that_was_replaced_goes() {
    let replaced = |n: usize, node: &'static str| {
        let mut o = mirrored();
        o.replicas[n].replaced = true;
        o.replicas[n].pod.as_mut().unwrap().node = Some(node.into());
        o
    };
    let terminating = |o: &mut Observation| o.replicas[2].pod.as_mut().unwrap().terminating = true;
    check(vec![
        ("its node is up", replaced(2, "n2"), set(|_| ()), Step::DeleteGracefully("pod-cc".into())),
        ("it goes already", replaced(2, "n2"), set(terminating), Step::Idle),
        ("its node is away", replaced(2, "n9"), set(|_| ()), Step::DeleteForced("pod-cc".into())),
        ("it cannot go by itself", replaced(2, "n9"), set(terminating), Step::DeleteForced("pod-cc".into())),
        ("there is none", replaced(2, "n2"), set(|o| o.replicas[2].pod = None), Step::Idle),
        ("paused", replaced(2, "n2"), set(|o| o.store.paused = true), Step::Idle),
        (
            "it serves, and hands the store over",
            replaced(0, "n1"),
            set(|_| ()),
            Step::DeleteGracefully("pod-1".into()),
        ),
        (
            "it serves, and nobody could take over",
            replaced(0, "n1"),
            set(|o| o.lease.as_mut().unwrap().record.in_sync = vec!["aa".into()]),
            Step::Idle,
        ),
    ]);
}

#[test]
fn a_mirror_takes_over_at_once_from_a_process_that_its_kubelet_holds_back() {
    let ended = || {
        let mut o = mirrored();
        o.pod.as_mut().unwrap().backs_off = true;
        o.replicas[0].pod.clone_from(&o.pod);
        o.replicas[0].volume = None;
        o
    };
    let took = || promote("cc", TargetKind::Planned);
    check(vec![
        ("the lease is fresh", ended(), set(|_| ()), took()),
        (
            "its node is away: its kubelet's word is old",
            ended(),
            set(|o| o.nodes[0].ready = false),
            Step::Idle,
        ),
        (
            "another pod holds the store",
            ended(),
            set(|o| o.lease.as_mut().unwrap().record.holder = Some(world::holder("pod-9"))),
            Step::Idle,
        ),
        ("paused", ended(), set(|o| o.store.paused = true), Step::Idle),
        (
            "no copy has everything",
            ended(),
            set(|o| o.lease.as_mut().unwrap().record.in_sync = vec!["aa".into()]),
            Step::Idle,
        ),
    ]);
}

#[test]
fn a_promotion_waits_for_no_other_store() {
    check(vec![
        (
            "the directory is lost too",
            lost(),
            set(|o| o.cluster.directory_first = true),
            promote("cc", TargetKind::Auto),
        ),
        (
            "others are moving",
            lost(),
            set(|o| (o.cluster.moving, o.cluster.max_concurrent) = (9, 1)),
            promote("cc", TargetKind::Auto),
        ),
        (
            "most of the nodes that carried stores are away: the mirrors themselves have lost the holder (F1)",
            lost(),
            set(|o| (o.cluster.nodes, o.cluster.lost_nodes) = (4, 3)),
            promote("cc", TargetKind::Auto),
        ),
    ]);
}

#[test]
fn nothing_follows_from_silence_before_everybody_was_asked() {
    let told = |mut o: Observation| {
        o.is_told = false;
        next_step(&o)
    };
    let waits = || Step::Await("the copies to say what they have");
    let away = || {
        let mut o = mirrored();
        o.store.replace_after_ms = Some(1);
        (o.replicas[2].volume, o.replicas[2].away_ms) = (None, 1);
        o
    };
    for (what, o, phase) in [
        ("it serves", mirrored(), Phase::Serving),
        ("a copy seems to be away", away(), Phase::Serving),
        ("the holder is lost: one that knows more may not have answered", lost(), Phase::Suspect),
    ] {
        let decision = told(o);
        assert_eq!((decision.step, decision.phase), (waits(), phase), "{what}");
    }
}
