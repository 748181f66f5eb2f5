//! `may_acknowledge` and `may_read` as a table, and the lease's text forms.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use mailcluster_failover::*;

fn primary() -> AckState {
    AckState {
        role: Role::Primary,
        epoch: 5,
        commit: 100,
        effective: 1,
        others_heard: false,
        min_in_sync: 1,
        in_force: Some(InForce { durability: Durability::Single, fencing: FencingMinimum::Proof }),
        lease_until: 1_000,
        now: 999,
    }
}

fn rules(durability: Durability, fencing: FencingMinimum) -> Option<InForce> {
    Some(InForce { durability, fencing })
}

#[test]
fn cases_a_b_c() {
    use Durability::{Preferred, Required, Single};
    use FencingMinimum::{LeaseExpired, Proof, Statement};
    let late = AckState { now: 1_000, ..primary() };
    let cases = [
        ("a: lease good", AckState { in_force: rules(Single, LeaseExpired), ..primary() }, true),
        ("a: run out, LeaseExpired", AckState { in_force: rules(Single, LeaseExpired), ..late }, false),
        ("a: run out, Statement", AckState { in_force: rules(Single, Statement), ..late }, false),
        ("c: single copy under Proof", late, true),
        ("c: nothing in force yet", AckState { in_force: None, ..late }, false),
        ("c: Preferred alone", AckState { in_force: rules(Preferred, Statement), ..late }, true),
        ("Required alone", AckState { in_force: rules(Required, Proof), min_in_sync: 2, ..late }, false),
        ("Required alone, good lease", AckState { min_in_sync: 2, ..primary() }, false),
        (
            "b: another confirms",
            AckState { effective: 2, in_force: rules(Required, Proof), min_in_sync: 2, ..late },
            true,
        ),
        ("B1: an empty set is nobody", AckState { effective: 0, ..primary() }, false),
        ("standby", AckState { role: Role::Standby, ..primary() }, false),
        ("settling", AckState { role: Role::Settling, ..primary() }, false),
        ("poisoned", AckState { role: Role::Poisoned, ..primary() }, false),
    ];
    for (name, state, wanted) in cases {
        assert_eq!(may_acknowledge(&state, Position { epoch: 5, seq: 100 }), wanted, "{name}");
    }
    let state = primary();
    assert!(!may_acknowledge(&state, Position { epoch: 4, seq: 1 }), "C3: a record of an earlier epoch");
    assert!(!may_acknowledge(&state, Position { epoch: 5, seq: 101 }), "not committed");
}

#[test]
fn writes_end_with_the_lease_unless_only_proof_replaces() {
    use Durability::{Preferred, Required, Single};
    use FencingMinimum::{LeaseExpired, Proof, Statement};
    let late = AckState { now: 1_000, ..primary() };
    for (name, state, wanted) in [
        ("a good lease", AckState { in_force: rules(Single, LeaseExpired), ..primary() }, true),
        ("before the first record", AckState { role: Role::Settling, ..primary() }, true),
        ("what is in flight while it drains", AckState { role: Role::Draining, ..primary() }, true),
        ("run out, LeaseExpired", AckState { in_force: rules(Single, LeaseExpired), ..late }, false),
        ("run out, Statement", AckState { in_force: rules(Single, Statement), ..late }, false),
        ("run out, Proof", late, true),
        ("run out, mirrored", AckState { in_force: rules(Preferred, Statement), ..late }, true),
        ("run out, Required alone", AckState { in_force: rules(Required, Proof), ..late }, false),
        (
            "stepped down, closing",
            AckState { role: Role::Standby, in_force: rules(Single, LeaseExpired), ..late },
            false,
        ),
        ("poisoned", AckState { role: Role::Poisoned, ..primary() }, false),
        ("refused", AckState { role: Role::Refused, ..primary() }, false),
    ] {
        assert_eq!(may_write(&state), wanted, "{name}");
    }
}

#[test]
fn h6_reads_want_a_word_from_the_others() {
    let late = AckState { now: 5_000, effective: 2, in_force: None, ..primary() };
    assert!(!may_read(&late));
    assert!(may_read(&AckState { others_heard: true, ..late }));
    assert!(may_read(&primary()));
    assert!(!may_read(&AckState { role: Role::Draining, ..primary() }));
}

#[test]
fn the_lease_survives_its_text() {
    let mut record = LeaseRecord::initial(vec!["aa".into(), "bb".into()], 2);
    record.holder = Some(Holder { pod_uid: "p".into(), start_id: "s".into() });
    record.epoch = 7;
    record.replica = Some("aa".into());
    record.in_sync_version = 3;
    record.position = Position { epoch: 6, seq: 42 };
    record.in_force = rules(Durability::Required, FencingMinimum::Statement);
    record.transfer_to = Some("bb".into());
    record.poisoned = Some(Poisoned { replica: "bb".into(), boot_id: "b-1".into() });
    record.starts = Starts::default().and("b-1", 5).and("b-1", 9);
    record.forced = Some(6);
    let text = record.annotations();
    let read = LeaseRecord::parse(record.holder_identity().as_deref(), Some(record.transitions()), &text);
    assert_eq!(read, Ok(record));
}

#[test]
fn a_lease_edited_by_hand_decides_nothing() {
    for (key, value) in [
        (keys::IN_SYNC, "aa,bb"),
        (keys::IN_SYNC, "vx:aa"),
        (keys::MIN_IN_SYNC, "-1"),
        (keys::POSITION, "7"),
        (keys::IN_FORCE, "durability=Single"),
        (keys::IN_FORCE, "durability=Single,fencing=None"),
        (keys::POISONED, "aa"),
        (keys::STARTS, "5,x"),
        (keys::FORCED, "yes"),
    ] {
        let annotations = [(key.to_owned(), value.to_owned())].into();
        assert!(LeaseRecord::parse(Some("p/s"), Some(1), &annotations).is_err(), "{key} {value}");
    }
    assert!(LeaseRecord::parse(Some("pod-name"), Some(1), &[].into()).is_err());
    assert!(LeaseRecord::parse(None, Some(-1), &[].into()).is_err());
    assert_eq!(
        LeaseRecord::parse(Some(""), None, &[].into()),
        Ok(LeaseRecord { in_sync_version: 0, ..LeaseRecord::initial(vec![], 1) })
    );
}

#[test]
fn b4_the_old_holder_stays_under_required_when_it_must() {
    let me = Holder { pod_uid: "p2".into(), start_id: "s".into() };
    let mut lease = LeaseRecord::initial(vec!["aa".into(), "bb".into()], 1);
    (lease.epoch, lease.replica) = (4, Some("aa".into()));
    let next = |durability| {
        let rules = InForce { durability, fencing: FencingMinimum::Proof };
        take(
            &lease,
            &Taker { me: &me, replica: "bb", rules, node: "n1", boot_id: "boot", now: 1, forced: None },
        )
    };
    assert_eq!(next(Durability::Preferred).in_sync, ["bb"]);
    assert_eq!(next(Durability::Preferred).in_sync_version, 2);
    assert_eq!(next(Durability::Required).in_sync, ["aa", "bb"]);
    assert_eq!(next(Durability::Required).in_sync_version, 1);
    assert_eq!(next(Durability::Required).epoch, 5);
    assert!(next(Durability::Required).held_by(&me, 5));
}

#[test]
fn whoever_is_forced_is_alone_and_says_so_until_its_log_does() {
    use mirror::{EpochEntry, LogShape};
    let me = Holder { pod_uid: "p2".into(), start_id: "s".into() };
    let mut lease = LeaseRecord::initial(vec!["aa".into(), "bb".into()], 2);
    (lease.epoch, lease.replica, lease.position) = (4, Some("aa".into()), Position { epoch: 4, seq: 90 });
    let rules = InForce { durability: Durability::Required, fencing: FencingMinimum::Proof };
    let taker = |forced| Taker { me: &me, replica: "cc", rules, node: "n", boot_id: "boot", now: 1, forced };
    let end = Position { epoch: 4, seq: 70 };
    let next = take(&lease, &taker(Some(end)));
    assert_eq!((next.in_sync.clone(), next.in_sync_version, next.min_in_sync), (vec!["cc".into()], 2, 2));
    assert_eq!((next.epoch, next.position, next.forced), (5, end, Some(5)), "its own log is what counts");
    assert_eq!(complete(&next, end), Ok(()), "it may start again");
    let entry = |epoch, forced| EpochEntry { epoch, first_seq: epoch * 10, forced };
    let begins = |lease: &LeaseRecord, epochs: &[EpochEntry], committed| {
        let end = Position { epoch: epochs.last().unwrap().epoch, seq: 70 };
        beginning(lease, LogShape { epochs, end }, Position { epoch: 1, seq: committed })
    };
    assert_eq!(begins(&next, &[entry(4, false)], 60), Beginning::Forced);
    assert_eq!(begins(&next, &[entry(4, false), entry(5, true)], 60), Beginning::Plain, "once");
    assert_eq!(
        begins(&next, &[entry(2, true), entry(4, false)], 60),
        Beginning::Forced,
        "not an earlier one"
    );
    assert_eq!(begins(&lease, &[entry(4, false)], 60), Beginning::Plain);
    assert_eq!(begins(&next, &[entry(3, false)], 60), Beginning::ForcedAnew, "what did epoch 4 put there?");
    assert_eq!(
        begins(&next, &[entry(3, false)], 70),
        Beginning::Forced,
        "all of it is known to be committed"
    );
    // Its process ended before it could begin: the next one says it, at its own epoch.
    let again = take(&next, &taker(None));
    assert_eq!((again.epoch, again.forced), (6, Some(5)));
    assert_eq!(begins(&again, &[entry(4, false)], 60), Beginning::Forced, "epoch 5 has written nothing");
}

#[test]
fn a_forced_copy_need_not_be_a_member_nor_have_everything() {
    let mut lease = LeaseRecord::initial(vec!["aa".into()], 1);
    (lease.epoch, lease.replica) = (4, Some("aa".into()));
    lease.holder = Some(Holder { pod_uid: "p1".into(), start_id: "s".into() });
    lease.position = Position { epoch: 4, seq: 90 };
    let view = |kind, replica| TakeoverView {
        lease: &lease,
        resource_version: "7",
        replica,
        target_replica: replica,
        target_version: "7",
        kind,
        ready: true,
        end: Position { epoch: 4, seq: 70 },
        holder_heard: true,
        evidence: false,
    };
    let forced = view(TargetKind::Forced, "bb");
    assert_eq!(takeover(&forced), Takeover::Go);
    for (what, view, why) in [
        ("not by itself", view(TargetKind::Auto, "bb"), Refused::NotInSync),
        ("A2", TakeoverView { target_version: "6", ..forced.clone() }, Refused::Void),
        ("another was named", TakeoverView { target_replica: "cc", ..forced.clone() }, Refused::NotMe),
        ("it keeps a fork", TakeoverView { ready: false, ..forced.clone() }, Refused::NotReady),
        ("the old holder's own volume", view(TargetKind::Forced, "aa"), Refused::NoEvidence),
    ] {
        assert_eq!(takeover(&view), Takeover::No(why), "{what}");
    }
}

fn view(lease: Option<&LeaseRecord>, volume: Volume) -> OpeningView<'_> {
    OpeningView {
        lease,
        pod_uid: "p1",
        replica: "aa",
        volume,
        mirrored: false,
        is_new: false,
        same_kernel: false,
        served_last: false,
        allowed_by_target: false,
        holder_is_dead: false,
    }
}

#[test]
fn e6_a_volume_is_opened_only_where_nobody_else_can_have_it_open() {
    let mut lease = LeaseRecord::initial(vec!["aa".into()], 1);
    assert_eq!(opening(&view(Some(&lease), Volume::Empty)), Opening::Initialise);
    assert_eq!(opening(&view(Some(&lease), Volume::Store)), Opening::Open);
    lease.epoch = 3;
    assert_eq!(opening(&view(Some(&lease), Volume::Store)), Opening::Open, "released");
    assert!(
        matches!(opening(&view(Some(&lease), Volume::Empty)), Opening::Refuse(_)),
        "I9: never an empty one"
    );
    lease.holder = Some(Holder { pod_uid: "p0".into(), start_id: "s".into() });
    assert!(matches!(opening(&view(Some(&lease), Volume::Store)), Opening::Wait(_)));
    let with = |change: fn(&mut OpeningView<'_>)| {
        let mut v = view(Some(&lease), Volume::Store);
        change(&mut v);
        opening(&v)
    };
    assert_eq!(with(|v| v.pod_uid = "p0"), Opening::Open);
    let back =
        |v: &mut OpeningView<'_>| (v.pod_uid, v.allowed_by_target, v.holder_is_dead) = ("p0", true, true);
    assert!(matches!(with(back), Opening::Wait(_)), "its machine came back: a sibling may be let in");
    assert_eq!(with(|v| v.same_kernel = true), Opening::Open);
    assert_eq!(with(|v| v.allowed_by_target = true), Opening::Open);
    assert!(matches!(with(|v| v.replica = "bb"), Opening::Refuse(OpeningRefused::NotInSync(_))));
    assert!(matches!(opening(&view(None, Volume::Store)), Opening::Wait(_)));
    assert!(matches!(opening(&view(None, Volume::Empty)), Opening::Wait(_)));
    // A mirror is opened beside the holder, to be fed, in sync or not; its own pod's predecessor is another matter.
    lease.replica = Some("cc".into());
    let mirror = |replica, volume| OpeningView { replica, mirrored: true, ..view(Some(&lease), volume) };
    assert_eq!(opening(&mirror("aa", Volume::Store)), Opening::Open);
    assert_eq!(opening(&mirror("bb", Volume::Store)), Opening::Open);
    assert!(matches!(opening(&mirror("bb", Volume::Empty)), Opening::Refuse(_)), "I9");
    let new = |replica, volume| OpeningView { is_new: true, ..mirror(replica, volume) };
    assert_eq!(opening(&new("bb", Volume::Empty)), Opening::Initialise, "it takes another's place");
    assert!(matches!(opening(&new("aa", Volume::Empty)), Opening::Refuse(_)), "I9: it had everything");
    let first = LeaseRecord::initial(vec!["aa".into()], 1);
    let early = OpeningView { lease: Some(&first), ..new("bb", Volume::Empty) };
    assert!(
        matches!(opening(&early), Opening::Refuse(_)),
        "a new store begins with those that its lease names"
    );
    assert!(matches!(opening(&mirror("cc", Volume::Store)), Opening::Wait(_)));
}
