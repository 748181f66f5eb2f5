//! With all rules no invariant breaks, up to the bound; without any one of them the search finds how it does.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use mailcluster_model::{Bounds, Budget, Cluster, Mode, Rule, World};
use stateright::{Checker, Expectation, HasDiscoveries, Model};

const CALM: Budget = Budget { crashes: 0, powers: 0, wipes: 0, rollbacks: 0, forced: 0, swaps: 2 };

const fn bounds(values: u8, epochs: u8, budget: Budget) -> Bounds {
    Bounds { values, epochs, wire: 2, budget }
}

const fn cluster(replicas: usize, mode: Mode, bounds: Bounds) -> Cluster {
    Cluster { replicas, mode, bounds, without: None, serving: true, progress: false }
}

/// `cargo xtask test --long` searches far.
fn is_long() -> bool {
    std::env::var("MAILCLUSTER_LONG").is_ok_and(|long| !long.is_empty())
}

/// One search at a time: each has as many threads as there is use for, and far ones take some GiB.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a search came out.
struct Searched {
    unique: usize,
    /// Every state within the bound was looked at.
    is_exhausted: bool,
}

/// Searches until all states are looked at, or so many steps are made. Nothing may break, and what is to happen must.
fn sound(name: &str, cluster: &Cluster, limit: Option<usize>) -> Searched {
    let _one = alone();
    let began = Instant::now();
    let builder = cluster.clone().checker().threads(2).finish_when(HasDiscoveries::AnyFailures);
    let builder = match limit {
        Some(limit) => builder.target_state_count(limit),
        None => builder,
    };
    let checker = builder.spawn_bfs().join();
    for (property, path) in checker.discoveries() {
        let is_example = cluster
            .properties()
            .iter()
            .any(|p| p.name == property && p.expectation == Expectation::Sometimes);
        assert!(is_example, "{name}: {property}\n{}", cluster.story(property, path));
    }
    // No failure and no limit: it has ended because nothing was left to look at. `is_done` says that of a limit, too.
    let is_exhausted = limit.is_none_or(|limit| checker.state_count() < limit);
    for happens in ["a second epoch serves", "a change is acknowledged"] {
        let comes_to_it = is_exhausted || is_long();
        assert!(!comes_to_it || checker.discovery(happens).is_some(), "{name}: {happens}: never");
    }
    let unique = checker.unique_state_count();
    println!(
        "| {name} | {} | {:?} | {} | {unique} | {} | {} | {} |",
        cluster.replicas,
        cluster.mode,
        cluster.bounds,
        checker.max_depth(),
        if is_exhausted { "yes" } else { "no" },
        began.elapsed().as_secs(),
    );
    Searched { unique, is_exhausted }
}

/// The states that there are, by a list of those still to look at and nothing else: whole states, not their fingerprints.
fn count(cluster: &Cluster) -> usize {
    let mut known: HashSet<World> = cluster.init_states().into_iter().collect();
    let mut open: VecDeque<World> = known.iter().cloned().collect();
    while let Some(world) = open.pop_front() {
        for next in cluster.next_states(&world) {
            if known.insert(next.clone()) {
                open.push_back(next);
            }
        }
    }
    known.len()
}

/// Searches that end, in seconds.
fn small() -> Vec<(&'static str, Cluster)> {
    let calm = Budget { swaps: 0, ..CALM };
    let swap = Budget { swaps: 1, ..CALM };
    let of = |replicas, mode, budget| cluster(replicas, mode, Bounds { wire: 1, ..bounds(1, 2, budget) });
    vec![
        ("crash", of(2, Mode::Preferred, Budget { crashes: 1, ..swap })),
        ("crash", of(2, Mode::Required, Budget { crashes: 1, ..swap })),
        ("power", of(2, Mode::Preferred, Budget { powers: 1, ..swap })),
        ("etcd goes back", of(2, Mode::Preferred, Budget { rollbacks: 1, ..swap })),
        ("etcd goes back", of(2, Mode::Required, Budget { rollbacks: 1, ..swap })),
        ("forced", of(2, Mode::Preferred, Budget { forced: 1, ..swap })),
        ("calm", of(3, Mode::Preferred, calm)),
        ("crash", of(3, Mode::Required, Budget { crashes: 1, ..calm })),
        ("etcd goes back", of(3, Mode::Required, Budget { rollbacks: 1, ..calm })),
        ("set changes", of(3, Mode::Required, swap)),
    ]
}

#[test]
fn small_searches_end() {
    for (name, cluster) in small() {
        let searched = sound(name, &cluster, None);
        assert!(searched.is_exhausted, "{name}");
    }
}

/// That a search has ended is not only the checker's word.
#[test]
fn the_checker_looks_at_all_states() {
    for (replicas, mode) in [(2, Mode::Preferred), (2, Mode::Required), (3, Mode::Required)] {
        let few = Bounds { wire: 1, ..bounds(1, 2, Budget { swaps: 0, ..CALM }) };
        let cluster = cluster(replicas, mode, few);
        let searched = sound("counted", &cluster, None);
        assert_eq!(searched.unique, count(&cluster), "{replicas}, {mode:?}");
    }
}

/// I11.
#[test]
fn from_every_state_the_store_comes_to_serve() {
    let calm = Budget { swaps: 0, ..CALM };
    let crash = Budget { crashes: 1, swaps: 1, ..CALM };
    for (replicas, mode, budget) in
        [(2, Mode::Preferred, crash), (2, Mode::Required, crash), (3, Mode::Required, calm)]
    {
        let few = Bounds { wire: 1, ..bounds(1, 2, budget) };
        let cluster = Cluster { progress: true, ..cluster(replicas, mode, few) };
        assert!(sound("progress", &cluster, None).is_exhausted);
    }
}

/// Searches that go far: `cargo xtask test --long` up to so many steps each, which takes minutes and some GiB; otherwise they
/// only begin.
fn far() -> Vec<(&'static str, Cluster)> {
    let of = |replicas, mode, budget| cluster(replicas, mode, bounds(2, 3, budget));
    let power = Budget { powers: 1, wipes: 1, ..CALM };
    let crash = Budget { crashes: 1, powers: 1, ..CALM };
    let (back, forced) = (Budget { rollbacks: 1, ..CALM }, Budget { forced: 1, ..CALM });
    let empty = of(2, Mode::Preferred, Budget { crashes: 1, ..CALM });
    vec![
        ("an empty store", Cluster { serving: false, ..empty }),
        ("crash, power, disk", of(2, Mode::Preferred, Budget { crashes: 1, ..power })),
        ("power, disk", of(3, Mode::Preferred, power)),
        ("crash, power", of(2, Mode::Required, crash)),
        ("power, disk", of(3, Mode::Required, power)),
        // All replicas run, and answer the operator: of one that does not answer nobody can know what it has seen.
        ("etcd goes back", of(2, Mode::Preferred, back)),
        ("etcd goes back", of(3, Mode::Preferred, back)),
        ("etcd goes back", of(2, Mode::Required, back)),
        ("etcd goes back", of(3, Mode::Required, back)),
        // A person may say so at any moment, also of a replica that has nothing while all others are well.
        ("forced, crash", of(2, Mode::Preferred, Budget { crashes: 1, ..forced })),
        ("forced", of(3, Mode::Preferred, forced)),
        ("forced twice", of(2, Mode::Preferred, Budget { forced: 2, ..CALM })),
        ("forced", cluster(3, Mode::Required, bounds(1, 2, forced))),
    ]
}

#[test]
fn far_searches_find_nothing() {
    let limit = if is_long() { 4_000_000 } else { 200_000 };
    let searched = far().into_iter().map(|(name, cluster)| sound(name, &cluster, Some(limit)).unique);
    let all: usize = searched.sum();
    println!("{all} states that differ");
    assert!(!is_long() || all >= 10_000_000, "only {all} states");
}

/// The cluster in which leaving this rule out is seen soonest, and what then breaks.
fn without(rule: Rule) -> Option<Cluster> {
    let (replicas, mode, bounds) = match rule {
        Rule::OneObject | Rule::PromiseFirst | Rule::NoClock => (2, Mode::Preferred, bounds(1, 2, CALM)),
        Rule::Union => (2, Mode::Preferred, bounds(2, 2, CALM)),
        Rule::ReplicaIds => (2, Mode::Preferred, bounds(1, 2, Budget { crashes: 1, wipes: 1, ..CALM })),
        Rule::MatchByEpoch => (3, Mode::Preferred, bounds(2, 3, CALM)),
        Rule::NewEpoch => (2, Mode::Preferred, bounds(2, 2, Budget { powers: 1, ..CALM })),
        Rule::CommitFirst => (2, Mode::Preferred, bounds(2, 3, CALM)),
        Rule::Settle => (3, Mode::Preferred, bounds(1, 3, CALM)),
        Rule::DurablePromise => (3, Mode::Preferred, bounds(1, 3, Budget { crashes: 1, ..CALM })),
        Rule::RolledBack => (2, Mode::Preferred, bounds(1, 3, Budget { rollbacks: 1, ..CALM })),
        Rule::AllOfTheLog => (3, Mode::Required, bounds(1, 2, CALM)),
        Rule::GoAbove => (2, Mode::Required, bounds(1, 2, CALM)),
        // Told step by step in tests/steps.rs alone.
        Rule::ForcedInLease | Rule::KeepForks | Rule::SkipUids | Rule::NewNames => return None,
    };
    let progress = rule == Rule::GoAbove;
    Some(Cluster { without: Some(rule), progress, ..cluster(replicas, mode, bounds) })
}

#[test]
fn each_rule_left_out_is_found() {
    // These take more states, and are told step by step in tests/steps.rs each time.
    let late = [Rule::DurablePromise, Rule::RolledBack];
    Rule::ALL.into_iter().filter(|rule| is_long() || !late.contains(rule)).for_each(found);
}

/// Leaves the rule out, and tells what breaks.
fn found(rule: Rule) {
    let Some(cluster) = without(rule) else { return };
    let _one = alone();
    let builder = cluster.clone().checker().finish_when(HasDiscoveries::AnyFailures);
    let checker = builder.target_state_count(10_000_000).spawn_bfs().join();
    // I8 is all of the others.
    let is_failure = |name: &str| {
        name != "no_clock_for_writes"
            && cluster.properties().iter().any(|p| p.name == name && p.expectation == Expectation::Always)
    };
    let found = checker.discoveries().into_iter().filter(|(name, _)| is_failure(name));
    // Some look on for a little when others have found something.
    let soonest = found.min_by_key(|(name, path)| (path.clone().into_actions().len(), *name));
    let Some((property, path)) = soonest else {
        panic!("without {rule:?}: nothing found in {} states", checker.unique_state_count());
    };
    println!(
        "without {rule:?}: {property} after {} states\n{}",
        checker.unique_state_count(),
        cluster.story(property, path)
    );
}
