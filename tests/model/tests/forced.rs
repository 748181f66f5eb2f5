//! The rules of forced takeovers, left out one at a time: a few steps that break an invariant without the rule, and nothing
//! with it. A search looks at more states before it comes to them than a test has time for.

use mailcluster_model::{
    Action::{
        self, Append, Apply, Ask, Commit, Connect, Demote, Force, Learn, Promise, Restart, Send, Start, Sync,
        Take, TakeAndEnd,
    },
    Bounds, Budget, Cluster, Mode, Rule, World,
};
use stateright::Model;

enum Step {
    Do(Action),
    /// What is on the wire arrives, one after the other.
    Arrive,
}

fn cluster(replicas: usize, without: Option<Rule>) -> Cluster {
    let budget = Budget { crashes: 1, powers: 0, wipes: 0, rollbacks: 0, forced: 1 };
    let bounds = Bounds { values: 1, epochs: 3, wire: 2, budget };
    Cluster { replicas, mode: Mode::Preferred, bounds, without, serving: true }
}

/// What these steps break.
fn broken(cluster: &Cluster, steps: &[Step]) -> Option<&'static str> {
    let mut world = cluster.init_states().remove(0);
    let possible = |world: &World| {
        let mut possible = Vec::new();
        cluster.actions(world, &mut possible);
        possible
    };
    let arrives = |world: &World| possible(world).into_iter().find(|a| matches!(a, Action::Deliver(_)));
    for step in steps {
        let mut next = match step {
            Step::Do(action) => Some(action.clone()),
            Step::Arrive => arrives(&world),
        };
        while let Some(action) = next {
            assert!(possible(&world).contains(&action), "{action} is not possible: {world:?}");
            let Some(after) = cluster.next_state(&world, action.clone()) else {
                panic!("{action} changes nothing: {world:?}")
            };
            world = after;
            next = if matches!(step, Step::Arrive) { arrives(&world) } else { None };
        }
    }
    let fails = |p: &stateright::Property<Cluster>| {
        p.expectation == stateright::Expectation::Always && !(p.condition)(cluster, &world)
    };
    cluster.properties().into_iter().find(fails).map(|p| p.name)
}

fn steps(actions: impl IntoIterator<Item = Action>) -> Vec<Step> {
    actions.into_iter().map(Step::Do).collect()
}

/// The primary goes on alone, and acknowledges a change.
fn alone() -> Vec<Step> {
    steps([Append(0), Sync(0), Ask(0), Apply(0), Learn(0), Commit(0)])
}

#[test]
fn each_rule_of_forced_takeovers_is_needed() {
    let then = |mut first: Vec<Step>, rest: Vec<Step>| {
        first.extend(rest);
        first
    };
    // b has a's change and does not know that it is committed; c, which has it not, is forced, and greets b.
    let mut kept = vec![Step::Do(Append(0)), Step::Do(Send(0, 1)), Step::Arrive];
    kept.extend(steps([Sync(0), Ask(0), Apply(0), Learn(0), Commit(0), Force(2), Take(2)]));
    kept.push(Step::Do(Connect(2, 1)));
    let cases = [
        (Rule::SkipUids, 2, "uid_once", then(alone(), steps([Force(1), Take(1), Commit(1)])), None),
        (
            Rule::ForcedInLease,
            2,
            "uid_once",
            then(alone(), steps([Force(1), TakeAndEnd(1), Start(1), Restart(1), Commit(1)])),
            None,
        ),
        // a has a change that b, which took over, knows nothing of; then a is forced.
        (
            Rule::NewNames,
            2,
            "uid_once",
            steps([Append(0), Promise(1), Take(1), Commit(1), Demote(0), Force(0), Take(0), Commit(0)]),
            None,
        ),
        // With the rule the greeting changes nothing.
        (Rule::KeepForks, 3, "fork_is_kept", kept, Some(1)),
    ];
    for (rule, replicas, invariant, steps, last_is_refused) in cases {
        assert_eq!(broken(&cluster(replicas, Some(rule)), &steps), Some(invariant), "without {rule:?}");
        let upto = steps.len() - last_is_refused.unwrap_or(0);
        assert_eq!(broken(&cluster(replicas, None), &steps[..upto]), None, "with {rule:?}");
    }
}
