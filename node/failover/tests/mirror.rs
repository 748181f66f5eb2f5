//! The decisions of mirrored stores, as tables; schedules by their names in docs/failover.md.

use std::collections::BTreeSet;

use mailcluster_failover::{
    Position,
    mirror::{
        Accept, AskView, Change, EpochEntry, Hello, InSync, Join, JoinView, LendView, Link, LogShape, Member,
        MembersView, Rejected, ReplaceView, accept, askable, change, fork, hello, is_isolated, join,
        may_lend, may_replace,
    },
};
use proptest::prelude::*;

fn at(epoch: u64, seq: u64) -> Position {
    Position { epoch, seq }
}

/// A log by the epochs of its records: `[1, 1, 2]` has EpochStart(1) at 1 and EpochStart(2) at 3.
fn table(records: &[u64]) -> (Vec<EpochEntry>, Position) {
    let mut epochs: Vec<EpochEntry> = Vec::new();
    for (seq, epoch) in (1..).zip(records) {
        if epochs.last().is_none_or(|last| last.epoch != *epoch) {
            epochs.push(EpochEntry { epoch: *epoch, first_seq: seq, forced: false });
        }
    }
    let end = records.last().map_or(Position::default(), |epoch| at(*epoch, records.len() as u64));
    (epochs, end)
}

fn fork_of(a: &[u64], b: &[u64]) -> Position {
    let (a, b) = (table(a), table(b));
    fork(LogShape { epochs: &a.0, end: a.1 }, LogShape { epochs: &b.0, end: b.1 })
}

#[test]
fn c1_logs_part_by_epoch_and_not_by_position() {
    let cases: [(&[u64], &[u64], Position); 8] = [
        (&[], &[], at(0, 0)),
        (&[1, 1], &[], at(0, 0)),
        (&[1, 1], &[1, 1, 1], at(1, 2)),
        // M2 has 101..105 of e5; the new primary had 101..103 and went on at e6.
        (&[5, 5, 5, 6, 6, 6], &[5, 5, 5, 5, 5], at(5, 3)),
        (&[1, 2, 3], &[1, 2, 2, 2], at(2, 2)),
        (&[1, 1, 3], &[1, 2, 2], at(1, 1)),
        (&[1, 1, 3], &[1, 1, 2], at(1, 2)),
        (&[2], &[1], at(0, 0)),
    ];
    for (a, b, expected) in cases {
        assert_eq!(fork_of(a, b), expected, "{a:?} {b:?}");
        assert_eq!(fork_of(b, a), expected, "{b:?} {a:?}");
    }
}

/// Two logs as they can come about: each epoch's process goes on from some log, alone.
fn histories() -> impl Strategy<Value = Vec<Vec<(u64, u64)>>> {
    prop::collection::vec((0_usize..4, 0_usize..4, 0_usize..6, 1_usize..4), 1..8).prop_map(|steps| {
        // A record is (epoch, sequence); what an epoch wrote is one list, of which logs have a beginning.
        let mut logs: Vec<Vec<(u64, u64)>> = vec![Vec::new(); 4];
        for (epoch, (who, mirror, keep, more)) in (1..).zip(steps) {
            let mut log = logs[who].clone();
            let base = log.len();
            log.extend((0..more).map(|i| (epoch, (base + i + 1) as u64)));
            logs[who].clone_from(&log);
            if mirror != who {
                // A mirror is cut at the fork and gets some of what follows.
                let shared = logs[mirror].iter().zip(&log).take_while(|(x, y)| x == y).count();
                let upto = (shared + keep).min(log.len());
                logs[mirror].truncate(shared);
                logs[mirror].extend_from_slice(&log[shared..upto]);
            }
        }
        logs
    })
}

proptest! {
    #[test]
    fn a_fork_is_the_last_record_that_both_have(logs in histories()) {
        for a in &logs {
            for b in &logs {
                let shared = a.iter().zip(b).take_while(|(x, y)| x == y).count();
                let expected = shared.checked_sub(1).map_or(at(0, 0), |i| at(a[i].0, a[i].1));
                let epochs = |log: &[(u64, u64)]| log.iter().map(|r| r.0).collect::<Vec<_>>();
                prop_assert_eq!(fork_of(&epochs(a), &epochs(b)), expected);
            }
        }
    }
}

#[test]
fn a_mirror_follows_no_epoch_below_its_promise() {
    assert_eq!(hello(5, 4), Hello::Refuse { promise: 5 });
    assert_eq!(hello(5, 5), Hello::Promise(5));
    assert_eq!(hello(5, 6), Hello::Promise(6));
}

/// The answer, where the primary's log has so many octets, and a snapshot is worth while from 100.
fn sized(
    log_octets: u64,
    (own, forced, from): (&[u64], &[u64], u64),
    (mirror, commit): (&[u64], u64),
) -> Join {
    let (mut own, mirror) = (table(own), table(mirror));
    for entry in &mut own.0 {
        entry.forced = forced.contains(&entry.epoch);
    }
    join(&JoinView {
        own: LogShape { epochs: &own.0, end: own.1 },
        contiguous_from: from,
        mirror: LogShape { epochs: &mirror.0, end: mirror.1 },
        mirror_commit: at(mirror.1.epoch.min(1), commit),
        log_octets,
        snapshot_from: 100,
    })
}

fn case(own: &[u64], forced: &[u64], from: u64, mirror: &[u64], commit: u64) -> Join {
    sized(99, (own, forced, from), (mirror, commit))
}

#[test]
fn how_a_mirror_joins() {
    assert_eq!(
        case(&[1, 1, 2], &[], 1, &[], 0),
        Join::Stream { after: at(0, 0) },
        "an empty one, from the start"
    );
    assert_eq!(
        case(&[1, 1, 2], &[], 1, &[1, 1, 1, 1], 2),
        Join::Stream { after: at(1, 2) },
        "its tail is cut"
    );
    assert_eq!(
        case(&[1, 1, 2], &[], 3, &[1, 1], 2),
        Join::Stream { after: at(1, 2) },
        "what follows is there"
    );
    assert_eq!(
        case(&[1, 1, 2], &[], 4, &[1, 1], 2),
        Join::Snapshot { after: at(1, 2) },
        "the next one was rewritten"
    );
    let empty = sized(100, (&[1, 1, 2], &[], 1), (&[], 0));
    assert_eq!(empty, Join::Snapshot { after: at(0, 0) }, "files are cheaper");
    let begun = sized(100, (&[1, 1, 2], &[], 1), (&[1], 0));
    assert_eq!(begun, Join::Stream { after: at(1, 1) }, "it has something already");
}

#[test]
fn what_a_mirror_has_beyond_the_fork_may_count() {
    assert_eq!(
        case(&[1, 1, 2], &[], 1, &[1, 1, 1], 3),
        Join::Yield { after: at(1, 2) },
        "committed there, not here"
    );
    assert_eq!(
        case(&[1, 1, 2], &[2], 1, &[1, 1, 1], 3),
        Join::Forked { after: at(1, 2) },
        "a person said so"
    );
    assert_eq!(
        case(&[1, 1, 2], &[2], 1, &[1, 1, 1], 2),
        Join::Forked { after: at(1, 2) },
        "what it had not heard to be committed may have been acknowledged"
    );
    assert_eq!(
        case(&[1, 1, 2], &[2], 1, &[1, 1], 2),
        Join::Stream { after: at(1, 2) },
        "it has nothing that was left behind"
    );
    assert_eq!(
        case(&[1, 1, 2, 3], &[2], 1, &[1, 1, 2, 2], 3),
        Join::Stream { after: at(2, 3) },
        "forced before the fork: its tail is nobody's"
    );
    assert_eq!(
        case(&[1, 1, 2], &[1], 1, &[1, 1, 1], 3),
        Join::Yield { after: at(1, 2) },
        "forced before the fork"
    );
}

/// A mirror's epochs, one for each record, how many it knows to be committed, a snapshot's epochs, the answer, and why.
type Replaced<'a> = (&'a [u64], u64, &'a [u64], bool, &'a str);

#[test]
fn a_snapshot_takes_the_place_of_no_record_that_may_count() {
    let case = |own: &[u64], commit: u64, snapshot: &[u64]| {
        let (own, snapshot) = (table(own), table(snapshot));
        may_replace(&ReplaceView {
            own: LogShape { epochs: &own.0, end: own.1 },
            own_commit: at(0, commit),
            snapshot: LogShape { epochs: &snapshot.0, end: snapshot.1 },
        })
    };
    let cases: [Replaced<'_>; 8] = [
        (&[], 0, &[1, 1, 2], true, "there is nothing"),
        (&[1, 1], 2, &[1, 1, 2], true, "it goes on from there"),
        (&[1, 1, 1], 2, &[1, 1, 2, 2], true, "what is cut is not committed, and not the primary's"),
        (&[1, 1, 1], 3, &[1, 1, 2, 2], false, "i4: committed here, and not there"),
        (&[1, 2], 2, &[3, 3, 3], false, "i4: another history"),
        (&[1, 1, 1], 1, &[1, 1], false, "the primary may have the third, and have heard it confirmed"),
        (&[1, 1, 2], 2, &[1, 1], false, "that may be the primary's own epoch"),
        (&[1, 1], 2, &[1, 1], true, "the same"),
    ];
    for (own, commit, snapshot, expected, why) in cases {
        assert_eq!(case(own, commit, snapshot), expected, "{why}");
    }
}

#[test]
fn a_snapshot_takes_the_place_of_nothing_that_a_forced_promotion_left_behind() {
    let mut forced = table(&[1, 1, 2, 2]);
    forced.0.iter_mut().filter(|entry| entry.epoch == 2).for_each(|entry| entry.forced = true);
    let case = |own: &[u64], commit: u64| {
        let own = table(own);
        may_replace(&ReplaceView {
            own: LogShape { epochs: &own.0, end: own.1 },
            own_commit: at(0, commit),
            snapshot: LogShape { epochs: &forced.0, end: forced.1 },
        })
    };
    assert!(!case(&[1, 1, 1], 1), "the third may have been acknowledged, whether it has heard so or not");
    assert!(case(&[1, 1], 1) && case(&[1, 1, 2], 1), "it has nothing that was left behind");
}

#[test]
fn a_batch_is_taken_only_behind_its_predecessor() {
    let link = |epoch, seq, crc| Link { at: at(epoch, seq), crc };
    let good = Accept { promise: 5, stream: 5, end: link(5, 9, 1), prev: link(5, 9, 1) };
    assert_eq!(accept(&good), Ok(()));
    assert_eq!(accept(&Accept { promise: 6, ..good }), Err(Rejected::Promised(6)), "I7");
    assert_eq!(accept(&Accept { prev: link(5, 8, 1), ..good }), Err(Rejected::Gap));
    assert_eq!(accept(&Accept { prev: link(4, 9, 1), ..good }), Err(Rejected::Gap), "C1: by epoch, too");
    assert_eq!(accept(&Accept { prev: link(5, 9, 2), ..good }), Err(Rejected::Gap), "I5: and by content");
}

fn set(ids: &[&str]) -> BTreeSet<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

#[test]
fn what_is_committed() {
    let confirmed = [("b".to_owned(), 7), ("c".to_owned(), 5), ("x".to_owned(), 1)].into();
    let mut in_sync = InSync::new(set(&["a", "b"]), 1);
    assert_eq!(in_sync.commit("a", 9, &confirmed), 7, "the slowest member's");
    assert_eq!(in_sync.commit("a", 6, &confirmed), 6, "this one is a member, too");
    in_sync.begin(set(&["a", "b", "c"]));
    assert_eq!(in_sync.commit("a", 9, &confirmed), 5, "b2: the union, while its outcome is unknown");
    in_sync.settled(set(&["a", "b"]));
    assert_eq!(in_sync.commit("a", 9, &confirmed), 7, "it did not take place");
    in_sync.begin(set(&["a"]));
    assert_eq!(in_sync.commit("a", 9, &confirmed), 7, "b2: nobody is left out before it is known");
    in_sync.settled(set(&["a"]));
    assert_eq!(in_sync.commit("a", 9, &confirmed), 9);
    assert!(in_sync.is_enough());
    assert!(!InSync::new(set(&["a"]), 2).is_enough(), "b4");
    assert_eq!(
        InSync::new(set(&["a", "d"]), 1).commit("a", 9, &confirmed),
        0,
        "one never heard at this epoch"
    );
}

#[test]
fn who_is_left_out_and_let_in() {
    let member = |id: &str, confirmed: Option<u64>| Member { id: id.into(), confirmed, apply_lag: 0 };
    let members = set(&["a", "b", "c"]);
    let mirrors = [member("b", Some(10)), member("c", Some(7))];
    let (named, none) = (set(&["a", "b", "c", "d"]), set(&[]));
    let calm = MembersView {
        me: "a",
        members: &members,
        named: &named,
        min: 2,
        needed: 10,
        mirrors: &mirrors,
        waiting: Some((8, 2_999)),
        timeout: 3_000,
        kept_out: &none,
        is_heard: true,
    };
    assert_eq!(change(&calm), None, "not yet");
    let waited = MembersView { waiting: Some((8, 3_000)), ..calm.clone() };
    assert_eq!(change(&waited), Some(Change::Shrink(set(&["c"]))));
    assert_eq!(
        change(&MembersView { is_heard: false, ..waited.clone() }),
        None,
        "b5: it may be the one cut off"
    );
    assert_eq!(change(&MembersView { min: 3, ..waited.clone() }), None, "b4: never below the least");
    let both = [member("b", Some(7)), member("c", None)];
    assert_eq!(change(&MembersView { mirrors: &both, ..waited.clone() }), None, "b4");
    let preferred = MembersView { mirrors: &both, min: 1, ..waited.clone() };
    assert_eq!(change(&preferred), Some(Change::Shrink(set(&["b", "c"]))));

    let two = set(&["a", "b"]);
    let replaced = [member("b", Some(7)), member("d", Some(10))];
    let swap = MembersView { members: &two, mirrors: &replaced, ..waited.clone() };
    assert_eq!(
        change(&swap),
        Some(Change::Swap("b".into(), "d".into())),
        "b4: a dead one for its replacement, at once"
    );
    assert_eq!(change(&swap).unwrap().applied(&two), set(&["a", "d"]));
    let grow = MembersView { waiting: None, ..swap.clone() };
    assert_eq!(change(&grow), Some(Change::Grow("d".into())));
    assert_eq!(change(&MembersView { needed: 11, ..grow.clone() }), None, "it lacks one");
    let ahead = MembersView { needed: 9, ..grow.clone() };
    assert_eq!(
        change(&ahead),
        Some(Change::Grow("d".into())),
        "it has what nobody waits for any more, and more"
    );
    let others = set(&["a", "b", "c"]);
    assert_eq!(
        change(&MembersView { named: &others, ..grow.clone() }),
        None,
        "the store has no such replica"
    );
    let tried = set(&["d"]);
    let kept_out = MembersView { kept_out: &tried, ..grow.clone() };
    assert_eq!(change(&kept_out), None, "it has made clients wait again and again");
    let needed = MembersView { waiting: waited.waiting, ..kept_out };
    assert_eq!(change(&needed), Some(Change::Swap("b".into(), "d".into())), "but is better than none");
    let slow = [member("b", Some(7)), Member { apply_lag: 1_000, ..member("d", Some(10)) }];
    assert_eq!(change(&MembersView { mirrors: &slow, ..grow }), None, "h7");
}

#[test]
fn a_member_whose_place_another_has_is_left_out() {
    let member = |id: &str, confirmed| Member { id: id.into(), confirmed: Some(confirmed), apply_lag: 0 };
    let (members, named, none) = (set(&["a", "b", "c"]), set(&["a", "b", "d"]), set(&[]));
    let view = MembersView {
        me: "a",
        members: &members,
        named: &named,
        min: 2,
        needed: 10,
        mirrors: &[member("b", 10), member("c", 10), member("d", 4)],
        waiting: None,
        timeout: 3_000,
        kept_out: &none,
        is_heard: true,
    };
    let out = Some(Change::Shrink(set(&["c"])));
    assert_eq!(change(&view), out, "although it has everything");
    assert_eq!(
        change(&MembersView { is_heard: false, ..view.clone() }),
        None,
        "b5: it may be the one cut off"
    );
    let unknown = set(&[]);
    assert_eq!(
        change(&MembersView { named: &unknown, ..view.clone() }),
        None,
        "nobody has told it which there are"
    );
    let two = set(&["a", "c"]);
    let swapped = Some(Change::Swap("c".into(), "b".into()));
    assert_eq!(
        change(&MembersView { members: &two, ..view.clone() }),
        swapped,
        "b4: with another that has everything"
    );
    let (members, named) = (set(&["a", "c"]), set(&["a", "d"]));
    let last = MembersView { members: &members, named: &named, ..view.clone() };
    assert_eq!(change(&last), None, "b4: it stays until the new one has everything");
    let mirrors = [member("c", 10), member("d", 10)];
    let swapped = change(&MembersView { mirrors: &mirrors, ..last.clone() });
    assert_eq!(swapped, Some(Change::Swap("c".into(), "d".into())));
    assert_eq!(change(&MembersView { min: 1, ..last }), Some(Change::Shrink(set(&["c"]))));
}

#[test]
fn a_record_is_lent_to_the_own_line_and_never_before_it_is_committed() {
    // EpochStart(1) at 1, EpochStart(3) at 4.
    let (epochs, end) = table(&[1, 1, 1, 3, 3, 3]);
    for (promise, asker, commit, wanted, expected) in [
        (3, 3, 5, at(3, 5), true),
        (3, 4, 5, at(1, 3), true),
        // Another was promised since.
        (4, 3, 5, at(3, 5), false),
        // It may have to be cut off again.
        (3, 3, 5, at(3, 6), false),
        // Another line has it at another epoch.
        (3, 3, 5, at(2, 5), false),
        (3, 3, 5, at(3, 3), false),
        (3, 3, 9, at(3, 7), false),
        (3, 3, 5, at(1, 0), false),
    ] {
        let view = LendView { promise, asker, own: LogShape { epochs: &epochs, end }, commit, wanted };
        assert_eq!(may_lend(&view), expected, "{view:?}");
    }
}

#[test]
fn only_who_counts_and_has_it_is_asked_for_a_record() {
    let (epochs, end) = table(&[1, 1, 1, 3, 3, 3]);
    let own = LogShape { epochs: &epochs, end };
    let asked = |effective: &[&str], applied: &[(&str, u64)], wanted| {
        askable(&AskView { me: "a", own, effective, applied, wanted })
    };
    let all = ["a", "b", "c"];
    assert_eq!(asked(&all, &[("b", 5), ("c", 6)], at(3, 5)), ["b", "c"]);
    assert_eq!(asked(&all, &[("b", 4), ("c", 6)], at(3, 5)), ["c"], "b is behind");
    assert_eq!(asked(&all, &[("c", 6)], at(3, 5)), ["c"], "b has not joined at this epoch");
    assert_eq!(asked(&["a", "b"], &[("b", 5), ("c", 6)], at(3, 5)), ["b"], "c does not count");
    assert_eq!(asked(&all, &[("a", 6)], at(3, 5)), [""; 0], "not itself");
    assert_eq!(asked(&all, &[("b", 6), ("c", 6)], at(2, 5)), [""; 0], "it is of another line");
    assert_eq!(asked(&all, &[("b", 9), ("c", 9)], at(3, 7)), [""; 0], "it is not in this log");
}

#[test]
fn b5_one_that_hears_nobody_gives_the_store_back() {
    for (why, members, unheard_for, gives_back) in [
        ("a mirror could serve", 2, Some(8_000), true),
        ("not for long enough", 3, Some(7_999), false),
        ("nobody could follow it", 1, Some(60_000), false),
        ("nobody was ever heard in its term", 3, None, false),
    ] {
        assert_eq!(is_isolated(members, unheard_for, 8_000), gives_back, "{why}");
    }
}
