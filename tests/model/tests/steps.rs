//! Rules left out, one at a time: a few steps that break an invariant without the rule, and nothing with it. Those that a search
//! finds only after more states than a test has time for.

use mailcluster_model::{
    Action::{
        self, Append, Apply, Ask, Backup, Commit, Connect, Crash, Demote, Force, Learn, Power, Promise,
        Restart, Rollback, Send, Start, Sync, Take, TakeAndEnd,
    },
    Bounds, Budget, Cluster, Mode, Rule, World,
};
use stateright::Model;

enum Step {
    Do(Action),
    /// What is on the wire arrives, one after the other.
    Arrive,
    /// The first message does, and what answers it is on the wire.
    Hear,
}

fn cluster(replicas: usize, without: Option<Rule>) -> Cluster {
    let budget = Budget { crashes: 1, powers: 1, wipes: 0, rollbacks: 1, forced: 1, swaps: 2 };
    let bounds = Bounds { values: 2, epochs: 3, wire: 2, budget };
    Cluster { replicas, mode: Mode::Preferred, bounds, without, serving: true, progress: false }
}

/// What these steps break, or which of them is none.
fn broken(cluster: &Cluster, steps: &[Step]) -> Result<Option<&'static str>, String> {
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
            Step::Arrive | Step::Hear => arrives(&world),
        };
        while let Some(action) = next {
            assert!(possible(&world).contains(&action), "{action} is not possible: {world:?}");
            let Some(after) = cluster.next_state(&world, action.clone()) else {
                return Err(format!("{action} changes nothing: {world:?}"));
            };
            world = after;
            next = if matches!(step, Step::Arrive) { arrives(&world) } else { None };
        }
    }
    let fails = |p: &stateright::Property<Cluster>| {
        p.expectation == stateright::Expectation::Always && !(p.condition)(cluster, &world)
    };
    Ok(cluster.properties().into_iter().find(fails).map(|p| p.name))
}

fn steps(actions: impl IntoIterator<Item = Action>) -> Vec<Step> {
    actions.into_iter().map(Step::Do).collect()
}

/// The primary goes on alone, and acknowledges a change.
fn alone() -> Vec<Step> {
    steps([Append(0), Sync(0), Ask(0), Apply(0), Learn(0), Commit(0)])
}

fn then(mut first: Vec<Step>, rest: impl IntoIterator<Item = Action>) -> Vec<Step> {
    first.extend(steps(rest));
    first
}

fn arrives(mut first: Vec<Step>) -> Vec<Step> {
    first.push(Step::Arrive);
    first
}

/// The change that a has made is in b's log, and a has heard so.
fn sent() -> Vec<Step> {
    arrives(steps([Append(0), Send(0, 1)]))
}

struct Case {
    rule: Rule,
    replicas: usize,
    breaks: &'static str,
    steps: Vec<Step>,
    /// With the rule the last so many are not taken.
    refused: usize,
}

fn case(rule: Rule, replicas: usize, breaks: &'static str, steps: Vec<Step>, refused: usize) -> Case {
    Case { rule, replicas, breaks, steps, refused }
}

#[test]
fn each_rule_of_logs_and_epochs_is_needed() {
    // a loses power before its own sync, after b has confirmed what a then has not; the confirmation is still on its way.
    let mut unsynced = steps([Append(0), Send(0, 1)]);
    unsynced.push(Step::Hear);
    // b, at epoch 2, lets a in again, which follows it.
    let follows = arrives(steps([Promise(1), Take(1), Connect(1, 0), Send(1, 0)]));
    let again = then(follows, [Commit(1), Ask(1), Apply(1), Learn(1)]);
    // c is the primary of epoch 2, which b has confirmed.
    let confirmed = arrives(steps([Promise(2), Take(2), Connect(2, 1), Send(2, 1)]));
    all_are_needed([
        case(
            Rule::MatchByEpoch,
            3,
            "uid_once",
            then(sent(), [Promise(2), Take(2), Connect(2, 1), Commit(2), Promise(1), Take(1), Commit(1)]),
            0,
        ),
        case(
            Rule::NewEpoch,
            2,
            "same_name_same_bytes",
            then(unsynced, [Power(0), Start(0), Restart(0), Append(0)]),
            1,
        ),
        case(
            Rule::CommitFirst,
            2,
            "uid_once",
            then(again, [Append(1), Commit(1), Promise(0), Take(0), Commit(0)]),
            4,
        ),
        case(Rule::Settle, 3, "uid_once", then(sent(), [Promise(1), Take(1), Promise(2), Take(2)]), 0),
        case(
            Rule::DurablePromise,
            3,
            "uid_once",
            then(confirmed, [Commit(2), Crash(1), Start(1), Connect(0, 1), Promise(1), Take(1), Commit(1)]),
            4,
        ),
        case(
            Rule::RolledBack,
            2,
            "one_holder_per_epoch",
            steps([Backup, Promise(1), Take(1), Rollback, Promise(0), Take(0)]),
            2,
        ),
    ]);
}

#[test]
fn each_rule_of_forced_takeovers_is_needed() {
    // b has a's change and does not know that it is committed; c, which has it not, is forced, and greets b.
    let kept =
        then(sent(), [Sync(0), Ask(0), Apply(0), Learn(0), Commit(0), Force(2), Take(2), Connect(2, 1)]);
    all_are_needed([
        case(Rule::SkipUids, 2, "uid_once", then(alone(), [Force(1), Take(1), Commit(1)]), 0),
        case(
            Rule::ForcedInLease,
            2,
            "uid_once",
            then(alone(), [Force(1), TakeAndEnd(1), Start(1), Restart(1), Commit(1)]),
            0,
        ),
        // a has a change that b, which took over, knows nothing of; then a is forced.
        case(
            Rule::NewNames,
            2,
            "uid_once",
            steps([Append(0), Promise(1), Take(1), Commit(1), Demote(0), Force(0), Take(0), Commit(0)]),
            0,
        ),
        // With the rule the greeting changes nothing.
        case(Rule::KeepForks, 3, "fork_is_kept", kept, 1),
    ]);
}

fn all_are_needed(cases: impl IntoIterator<Item = Case>) {
    for Case { rule, replicas, breaks, steps, refused } in cases {
        assert_eq!(broken(&cluster(replicas, Some(rule)), &steps), Ok(Some(breaks)), "without {rule:?}");
        let with = cluster(replicas, None);
        let taken = steps.len() - refused;
        assert_eq!(broken(&with, &steps[..taken]), Ok(None), "with {rule:?}");
        if refused > 0 {
            assert!(broken(&with, &steps[..=taken]).is_err(), "with {rule:?} all steps are taken");
        }
    }
}
