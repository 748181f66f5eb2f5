//! Every state that a crash may leave of a store: as ALICE and CrashMonkey do, from a record of what was asked of the
//! disk and what was told to somebody meanwhile.
//!
//! Whatever of the unsynced was lost, torn or done in another order, and however old or torn the index is: the store
//! opens; what was acknowledged is there, once; what was not is there as a whole, or not at all; counters are exact; no
//! UID, UIDVALIDITY, mailbox id or MODSEQ comes again; opening it twice changes nothing; an index made anew, and a
//! mirror's, is the same. Recoveries are recorded and crashed as well, also of programs that were killed, whose unsynced
//! octets are still to be read.
//!
//! `MAILCLUSTER_LONG=1` tries more lives and more of each; `MAILCLUSTER_SEED` another seed.

mod check;
mod explore;
mod life;
mod mail;
mod mirror;
mod rewriting;
mod snapshot;
mod tape;

use std::path::Path;

use super::support::identity;
use crate::testing::{disk, index, rng};
use check::{Told, directory};
use disk::{Broken, Disk, Op};
use explore::{Effort, Explorer, Run, Seen};
use life::{History, live, mirrored};
use mirror::Primary;
use rng::Rng;
use tape::{Event, Faults, Tape};

fn is_long() -> bool {
    std::env::var("MAILCLUSTER_LONG").is_ok_and(|value| !value.is_empty())
}

fn seed() -> u64 {
    std::env::var("MAILCLUSTER_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(4)
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// Lives under the recorder; a mirror fed with its log says what each record's index is.
fn recorded(seed: u64, rounds: usize, faults: Faults) -> (Run, History) {
    let dir = directory();
    let tape = Tape::new(dir.path(), Default::default(), faults);
    let mut history = block_on(live(dir.path(), &tape, &mut Rng::new(seed), rounds));
    let (events, indexes) = tape.finish();
    let mirror = directory();
    let end = *history.references.last_key_value().unwrap().0;
    for (seq, reference) in mirrored(dir.path(), mirror.path(), end).unwrap() {
        if let Some(grown) = history.references.insert(seq, reference.clone()) {
            assert!(grown.rows == reference.rows, "a mirror's index is another at {seq}");
        }
    }
    (Run { base: Disk::default(), told: Told::default(), floor: 0, events, indexes }, history)
}

/// Tries every crash of a life, on two threads.
fn explore(
    run: &Run,
    history: &History,
    seed: u64,
    (effort, broken, most_sins): (Effort, Option<Broken>, usize),
) -> Seen {
    let work = |part: usize| {
        let mut seen = Seen::default();
        let rng = Rng::new(seed ^ u64::try_from(part).unwrap() << 32);
        let mut explorer =
            Explorer { effort, broken, rng, seen: &mut seen, most_sins, share: (part, 2), again: 1 };
        block_on(explorer.run(run, history, 0));
        seen
    };
    std::thread::scope(|threads| {
        let other = threads.spawn(|| work(1));
        let mut seen = work(0);
        let other = other.join().unwrap();
        seen.opened += other.opened;
        seen.second += other.second;
        seen.recoveries += other.recoveries;
        seen.served += other.served;
        seen.sins.extend(other.sins);
        seen
    })
}

const SHORT: Effort = Effort { random: 2, indexes: 2, goes_on: 16, again: 96, second: 4, gives_back: false };
const LONG: Effort = Effort { random: 8, indexes: 4, goes_on: 8, again: 32, second: 1, gives_back: false };

/// A round has many steps.
const GIVING_BACK: Effort =
    Effort { random: 1, indexes: 1, goes_on: 24, again: 200, second: 8, gives_back: true };

/// Explores a life of so many rounds (and four times that), says what was tried, and fails with what is wrong.
fn nothing_is_wrong(name: &str, seed: u64, rounds: usize, faults: Faults) {
    let (rounds, effort) = if is_long() { (4 * rounds, LONG) } else { (rounds, SHORT) };
    let (run, history) = recorded(seed, rounds, faults);
    nothing_is_wrong_with(name, seed, (&run, &history), effort);
}

fn nothing_is_wrong_with(name: &str, seed: u64, (run, history): (&Run, &History), effort: Effort) {
    let began = std::time::Instant::now();
    let seen = explore(run, history, seed, (effort, None, 4));
    println!(
        "{name}, seed {seed}: {} events, {} records; {} states opened ({} of them crashes of {} recoveries), {} served \
         from; {:.1} s",
        run.events.len(),
        history.references.last_key_value().unwrap().0,
        seen.opened,
        seen.second,
        seen.recoveries,
        seen.served,
        began.elapsed().as_secs_f64()
    );
    assert!(seen.sins.is_empty(), "seed {seed}: {:#?}", seen.sins);
    let enough = seen.opened > 200 && seen.second > 50 && seen.served > 10;
    assert!(enough, "hardly anything was tried: {seen:?}");
}

/// A promise that is not kept, or a rule that is not followed, is noticed.
fn something_is_wrong(faults: Faults, broken: Option<Broken>, sin: &str) {
    let (run, history) = recorded(seed(), 8, faults);
    let effort = Effort { again: 1000, ..SHORT };
    let seen = explore(&run, &history, seed(), (effort, broken, 100));
    let found = seen.sins.iter().find(|found| found.contains(sin));
    println!("{faults:?} {broken:?}: {} faults, like {found:?}", seen.sins.len());
    assert!(found.is_some(), "not noticed in {:#?}", seen.sins);
}

#[test]
fn acknowledging_before_the_sync_is_noticed() {
    let faults = Faults { skip_sync: true, ..Faults::default() };
    something_is_wrong(faults, None, "was acknowledged");
    something_is_wrong(faults, None, "the index has batches that the log has lost");
}

#[test]
fn syncs_that_do_nothing_are_noticed() {
    something_is_wrong(Faults::default(), Some(Broken::Syncs), "damaged");
    something_is_wrong(Faults::default(), Some(Broken::DirSyncs), "was acknowledged");
}

#[test]
fn without_room_ahead_lengths_may_be_lost_too() {
    let faults = Faults { no_room_ahead: true, ..Faults::default() };
    nothing_is_wrong("a life without room reserved", seed(), 8, faults);
}

#[test]
fn segments_that_are_made_ahead_keep_what_is_put_into_them() {
    let faults = Faults { spares: true, ..Faults::default() };
    let (run, _) = recorded(seed(), 16, faults);
    let spare = |name: &Path| name.ends_with("spare.new");
    let taken =
        run.events.iter().filter(|e| matches!(e, Event::Disk(Op::Rename(from, _)) if spare(from))).count();
    let made =
        run.events.iter().filter(|e| matches!(e, Event::Disk(Op::Create(name, _)) if spare(name))).count();
    println!("{made} spares made, {taken} taken");
    assert!(taken > 0, "{made} spares were made, and none was taken");
    nothing_is_wrong("a life with segments made ahead", seed(), 16, faults);
}

#[test]
fn after_a_sync_that_failed_nothing_is_believed_that_only_memory_has() {
    for n in 0..if is_long() { 10 } else { 1 } {
        let faults = Faults { failing_sync: Some(9 + usize::try_from(n).unwrap() * 5), ..Faults::default() };
        nothing_is_wrong("a life with a failed sync", seed() + n, 8, faults);
    }
}

#[test]
fn nothing_is_written_behind_a_mark_that_only_memory_has() {
    let faults = Faults { failing_marks: true, ..Faults::default() };
    nothing_is_wrong("a life whose marks are not synced", seed(), 10, faults);
}

#[test]
fn whatever_a_crash_leaves_has_what_was_acknowledged() {
    for n in 0..if is_long() { 20 } else { 1 } {
        nothing_is_wrong("a life", seed() + n, 18, Faults::default());
    }
}

#[test]
fn whatever_a_crash_leaves_of_a_mirror_has_what_it_confirmed() {
    for n in 0..if is_long() { 20 } else { 1 } {
        let (seed, rounds) = (seed() + n, if is_long() { 40 } else { 8 });
        let dir = directory();
        let tape = Tape::new(dir.path(), Default::default(), Faults::default());
        let mut history = block_on(live(dir.path(), &tape, &mut Rng::new(seed), rounds));
        let end = *history.references.last_key_value().unwrap().0;
        let (copy, mut rng) = (directory(), Rng::new(seed));
        history.references = mirrored(dir.path(), copy.path(), end).unwrap();
        let batches = mirror::batches(dir.path(), identity(), end).unwrap();
        let primary = Primary { batches, history, gives_back: false };
        let run = mirror::recorded(&primary, &mut rng);
        let opened = run.explore(&mut rng, 0);
        println!(
            "a mirror's life, seed {seed}: {} events, {end} records; {opened:?} states",
            run.events.len()
        );
        let opened = opened.unwrap_or_else(|sin| panic!("seed {seed}: {sin}"));
        assert!(opened > 300, "hardly anything was tried: {opened}");
    }
}

#[test]
fn whatever_a_crash_leaves_of_a_mirror_that_gives_room_back_has_what_it_confirmed() {
    for n in 0..if is_long() { 10 } else { 1 } {
        let (seed, times) = (seed() + n, if is_long() { 8 } else { 2 });
        let (dir, copy, mut rng) = (directory(), directory(), Rng::new(seed));
        let mut history = History::default();
        let end = block_on(rewriting::gone(dir.path(), &mut history, &mut rng, times));
        history.references = mirrored(dir.path(), copy.path(), end).unwrap();
        let batches = mirror::batches(dir.path(), identity(), end).unwrap();
        let primary = Primary { batches, history, gives_back: true };
        let run = mirror::recorded(&primary, &mut rng);
        let opened = run.explore(&mut rng, 0);
        println!(
            "a mirror that gives room back, seed {seed}: {} events, {end} records; {opened:?} states",
            run.events.len()
        );
        let opened = opened.unwrap_or_else(|sin| panic!("seed {seed}: {sin}"));
        assert!(opened > 300, "hardly anything was tried: {opened}");
    }
}

fn taking_a_snapshot(seed: u64, broken: Option<Broken>) -> Result<usize, String> {
    let world = snapshot::World::new(seed);
    snapshot::Explorer { world: &world, rng: Rng::new(seed), broken }.run()
}

#[test]
fn whatever_a_crash_leaves_of_a_snapshot_is_all_of_it_or_what_was_there() {
    for n in 0..if is_long() { 20 } else { 1 } {
        let opened = taking_a_snapshot(seed() + n, None);
        println!("a snapshot, seed {}: {opened:?} states", seed() + n);
        let opened = opened.unwrap_or_else(|sin| panic!("seed {}: {sin}", seed() + n));
        assert!(opened > 300, "hardly anything was tried: {opened}");
    }
}

#[test]
fn syncs_of_a_snapshot_that_do_nothing_are_noticed() {
    for broken in [Broken::Syncs, Broken::DirSyncs] {
        let noticed = taking_a_snapshot(seed(), Some(broken));
        println!("{broken:?}: {noticed:?}");
        assert!(noticed.is_err(), "{broken:?}");
    }
}

#[test]
fn whatever_a_crash_leaves_of_giving_room_back_has_what_was_acknowledged() {
    for n in 0..if is_long() { 10 } else { 1 } {
        let (seed, rounds) = (seed() + n, if is_long() { 12 } else { 2 });
        let (run, history) = rewriting::recorded(seed, rounds, Faults::default());
        let effort = Effort { gives_back: true, ..if is_long() { LONG } else { GIVING_BACK } };
        nothing_is_wrong_with("a life whose room is given back", seed, (&run, &history), effort);
    }
}

#[test]
fn giving_back_what_an_index_on_the_disk_still_needs_is_noticed() {
    let faults = Faults { no_index_syncs: true, ..Faults::default() };
    let (run, history) = rewriting::recorded(seed(), 2, faults);
    let effort = Effort { again: usize::MAX, indexes: 2, goes_on: usize::MAX, ..GIVING_BACK };
    let seen = explore(&run, &history, seed(), (effort, None, 4));
    println!("{} faults, like {:?}", seen.sins.len(), seen.sins.first());
    assert!(!seen.sins.is_empty(), "not noticed");
}
