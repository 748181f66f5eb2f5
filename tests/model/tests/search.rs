//! With all rules no invariant breaks, up to the bound; without any one of them the search finds how it does.

use mailcluster_model::{Bounds, Budget, Cluster, Mode, Rule};
use stateright::{Checker, Model};

const CALM: Budget = Budget { crashes: 0, powers: 0, wipes: 0, rollbacks: 0, forced: 0 };

fn bounds(values: u8, epochs: u8, budget: Budget) -> Bounds {
    Bounds { values, epochs, wire: 2, budget }
}

/// `cargo xtask test --long` searches far.
fn is_long() -> bool {
    std::env::var("MAILCLUSTER_LONG").is_ok_and(|long| !long.is_empty())
}

/// Steps to look at.
fn limit() -> usize {
    if is_long() { 30_000_000 } else { 400_000 }
}

fn sound(name: &str, cluster: Cluster) {
    let checker = cluster.clone().checker().threads(2).target_state_count(limit()).spawn_bfs().join();
    println!("{name}: {} states, depth {}", checker.unique_state_count(), checker.max_depth());
    for (property, path) in checker.discoveries() {
        let is_example = ["a change is acknowledged", "a second epoch serves"].contains(&property);
        assert!(is_example, "{name}: {property}\n{}", cluster.story(property, path));
    }
    assert!(checker.discovery("a second epoch serves").is_some(), "{name}: nothing was taken over");
    assert!(checker.discovery("a change is acknowledged").is_some(), "{name}: nothing was acknowledged");
}

fn cluster(replicas: usize, mode: Mode, budget: Budget, serving: bool) -> Cluster {
    Cluster { replicas, mode, bounds: bounds(2, 3, budget), without: None, serving }
}

#[test]
fn an_empty_store_with_two_replicas() {
    sound("empty, preferred, 2", cluster(2, Mode::Preferred, Budget { crashes: 1, ..CALM }, false));
}

#[test]
fn preferred_with_two_replicas() {
    let budget = Budget { crashes: 1, powers: 1, wipes: 1, ..CALM };
    sound("preferred, 2", cluster(2, Mode::Preferred, budget, true));
}

#[test]
fn preferred_with_three_replicas() {
    sound("preferred, 3", cluster(3, Mode::Preferred, Budget { powers: 1, wipes: 1, ..CALM }, true));
}

#[test]
fn required_with_two_replicas() {
    let budget = Budget { crashes: 1, powers: 1, ..CALM };
    sound("required, 2", cluster(2, Mode::Required, budget, true));
}

#[test]
fn required_with_three_replicas() {
    sound("required, 3", cluster(3, Mode::Required, Budget { powers: 1, wipes: 1, ..CALM }, true));
}

/// All replicas run, and answer the operator: of one that does not answer nobody can know what it has seen.
#[test]
fn an_etcd_that_goes_back() {
    sound("rollback, preferred, 2", cluster(2, Mode::Preferred, Budget { rollbacks: 1, ..CALM }, true));
}

/// A person may say so at any moment, also of a replica that has nothing while all others are well.
#[test]
fn a_person_who_orders_takeovers() {
    let budget = Budget { forced: 1, ..CALM };
    sound("forced, preferred, 2", cluster(2, Mode::Preferred, Budget { crashes: 1, ..budget }, true));
    sound("forced, preferred, 3", cluster(3, Mode::Preferred, budget, true));
    let twice = Budget { forced: 2, ..CALM };
    sound("forced twice, preferred, 2", cluster(2, Mode::Preferred, twice, true));
    let few = Cluster { bounds: bounds(1, 2, budget), ..cluster(3, Mode::Required, budget, true) };
    sound("forced, required, 3", few);
}

/// The cluster in which leaving this rule out is seen soonest, and what then breaks.
fn without(rule: Rule) -> Option<Cluster> {
    let (replicas, mode, bounds) = match rule {
        Rule::OneObject => (2, Mode::Preferred, bounds(1, 2, CALM)),
        Rule::Union => (2, Mode::Preferred, bounds(2, 2, CALM)),
        Rule::ReplicaIds => (2, Mode::Preferred, bounds(1, 2, Budget { crashes: 1, wipes: 1, ..CALM })),
        Rule::MatchByEpoch => (3, Mode::Preferred, bounds(2, 3, CALM)),
        Rule::NewEpoch => (2, Mode::Preferred, bounds(2, 2, Budget { powers: 1, ..CALM })),
        Rule::CommitFirst => (2, Mode::Preferred, bounds(2, 3, CALM)),
        Rule::Settle => (3, Mode::Preferred, bounds(1, 3, CALM)),
        Rule::DurablePromise => (3, Mode::Preferred, bounds(1, 3, Budget { crashes: 1, ..CALM })),
        Rule::PromiseFirst => (2, Mode::Preferred, bounds(1, 2, CALM)),
        Rule::RolledBack => (2, Mode::Preferred, bounds(1, 3, Budget { rollbacks: 1, ..CALM })),
        // Told step by step in tests/forced.rs.
        Rule::ForcedInLease | Rule::KeepForks | Rule::SkipUids | Rule::NewNames => return None,
    };
    Some(Cluster { replicas, mode, bounds, without: Some(rule), serving: true })
}

#[test]
fn each_rule_left_out_is_found() {
    // What leaving the others out does is found after some millions of steps.
    let soon = [Rule::OneObject, Rule::Union, Rule::ReplicaIds, Rule::PromiseFirst];
    Rule::ALL.into_iter().filter(|rule| is_long() || soon.contains(rule)).for_each(found);
}

/// Leaves the rule out, and tells what breaks.
fn found(rule: Rule) {
    let Some(cluster) = without(rule) else { return };
    let checker = cluster.clone().checker().target_state_count(10_000_000).spawn_bfs().join();
    let found = checker.discoveries().into_iter().find(|(name, _)| name.contains('_'));
    let Some((property, path)) = found else {
        panic!("without {rule:?}: nothing found in {} states", checker.unique_state_count());
    };
    println!(
        "without {rule:?}: {property} after {} states\n{}",
        checker.unique_state_count(),
        cluster.story(property, path)
    );
}
