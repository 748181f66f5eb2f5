//! What may happen next.

use std::fmt;

use mailcluster_failover::TargetKind;
use stateright::{Expectation, Model, Path, Property};

use crate::{
    invariants,
    primary::LONG,
    world::{Cluster, Id, Message, Process, World},
};

/// One step. Replicas are named by where they lie.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// A client's change is appended.
    Append(usize),
    /// The primary's log is synced.
    Sync(usize),
    /// The primary greets a replica; the logs are compared, the replica's tail is cut.
    Connect(usize, usize),
    /// The primary sends a replica the record that follows what it has.
    Send(usize, usize),
    /// A message arrives.
    Deliver(Message),
    /// A message is lost.
    Lose(Message),
    /// The primary makes visible and acknowledges what is committed.
    Commit(usize),
    /// The primary asks for another in-sync set, as a change has waited for long.
    Ask(usize),
    /// The same, and nothing has waited for long yet.
    AskSoon(usize),
    /// The API applies it.
    Apply(usize),
    /// The primary reads the outcome back.
    Learn(usize),
    /// The primary renews, and says what is committed.
    Renew(usize),
    /// Refused because of a higher promise, the primary goes above it.
    Reepoch(usize, usize),
    /// A primary learns that it is none any more.
    Demote(usize),
    /// A replica follows a target: closes its stream, and promises the next epoch.
    Promise(usize),
    /// A person orders this replica to take the store, whatever it has: it promises the next epoch.
    Force(usize),
    /// It replaces the lease that it read.
    Take(usize),
    /// The same by a person's order, and its process ends before it has begun its epoch.
    TakeAndEnd(usize),
    /// A process starts, and opens its volume.
    Start(usize),
    /// A process in the holder's pod takes the lease as its next incarnation.
    Restart(usize),
    /// A process ends.
    Crash(usize),
    /// A machine loses power.
    Power(usize),
    /// A disk is replaced by an empty one.
    Wipe(usize),
    /// etcd is backed up.
    Backup,
    /// etcd goes back to it.
    Rollback,
}

impl Cluster {
    fn of_replica(&self, world: &World, slot: usize, out: &mut Vec<Action>) {
        let replica = &world.replicas[slot];
        match &replica.process {
            Process::Down => {
                out.push(Action::Start(slot));
                if world.budget.wipes > 0 && replica.disk.id.is_first() && !replica.disk.log.is_empty() {
                    out.push(Action::Wipe(slot));
                }
                return;
            }
            Process::Standby(_) => {
                out.extend([Action::Promise(slot), Action::Restart(slot)]);
                if world.budget.forced > 0 {
                    out.push(Action::Force(slot));
                }
            }
            Process::Candidate(_, forced) => {
                out.push(Action::Take(slot));
                if *forced && world.budget.crashes > 0 {
                    out.push(Action::TakeAndEnd(slot));
                }
            }
            Process::Primary(_) => {
                out.extend([
                    Action::Append(slot),
                    Action::Sync(slot),
                    Action::Commit(slot),
                    Action::Demote(slot),
                ]);
                out.extend([
                    Action::Ask(slot),
                    Action::AskSoon(slot),
                    Action::Apply(slot),
                    Action::Learn(slot),
                    Action::Renew(slot),
                ]);
                for other in (0..self.replicas).filter(|other| *other != slot) {
                    let three = [
                        Action::Connect(slot, other),
                        Action::Send(slot, other),
                        Action::Reepoch(slot, other),
                    ];
                    out.extend(three);
                }
            }
        }
        if world.budget.crashes > 0 {
            out.push(Action::Crash(slot));
        }
        if world.budget.powers > 0 {
            out.push(Action::Power(slot));
        }
    }
}

impl Model for Cluster {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![if self.serving { self.serve() } else { self.start() }]
    }

    fn actions(&self, world: &World, out: &mut Vec<Action>) {
        if world.broken.is_some() {
            return;
        }
        for slot in 0..self.replicas {
            self.of_replica(world, slot, out);
        }
        for message in &world.wire {
            out.extend([Action::Deliver(*message), Action::Lose(*message)]);
        }
        if world.budget.rollbacks > 0 {
            out.push(if world.backup.is_some() { Action::Rollback } else { Action::Backup });
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        let happened = match action {
            Action::Append(slot) => self.append(&mut world, slot),
            Action::Sync(slot) => self.sync(&mut world, slot),
            Action::Connect(from, to) => self.connect(&mut world, from, to),
            Action::Send(from, to) => self.send(&mut world, from, to),
            Action::Deliver(message) => self.deliver(&mut world, message),
            Action::Lose(message) => self.lose(&mut world, message),
            Action::Commit(slot) => self.commit(&mut world, slot),
            Action::Ask(slot) => self.ask(&mut world, slot, LONG),
            Action::AskSoon(slot) => self.ask(&mut world, slot, 0),
            Action::Apply(slot) => self.apply(&mut world, slot),
            Action::Learn(slot) => self.learn(&mut world, slot),
            Action::Renew(slot) => self.renew(&mut world, slot),
            Action::Reepoch(slot, mirror) => self.reepoch(&mut world, slot, mirror),
            Action::Demote(slot) => self.demote(&mut world, slot),
            Action::Promise(slot) => self.promise(&mut world, slot, TargetKind::Auto),
            Action::Force(slot) => self.promise(&mut world, slot, TargetKind::Forced),
            Action::Take(slot) => self.take(&mut world, slot),
            Action::TakeAndEnd(slot) => self.take_and_end(&mut world, slot),
            Action::Start(slot) => self.open(&mut world, slot),
            Action::Restart(slot) => self.restart(&mut world, slot),
            Action::Crash(slot) => self.crash(&mut world, slot),
            Action::Power(slot) => self.power(&mut world, slot),
            Action::Wipe(slot) => self.wipe(&mut world, slot),
            Action::Backup => self.back_up(&mut world),
            Action::Rollback => self.roll_back(&mut world),
        };
        if happened.is_none() || world == *last {
            return None;
        }
        self.forget(&mut world);
        invariants::check(self, last, &mut world);
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        invariants::properties()
    }
}

fn name(slot: usize) -> String {
    Id::new(slot, 0).name()
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = |slot: &usize| name(*slot);
        match self {
            Self::Append(i) => write!(f, "{} appends a change", n(i)),
            Self::Sync(i) => write!(f, "{} syncs", n(i)),
            Self::Connect(i, j) => write!(f, "{} greets {}", n(i), n(j)),
            Self::Send(i, j) => write!(f, "{} sends {} its next record", n(i), n(j)),
            Self::Deliver(Message::Batch { to, epoch, .. }) => {
                write!(f, "{} gets, syncs and confirms a record of e{epoch}'s primary", to.name())
            }
            Self::Deliver(Message::Confirm { from, to, upto, .. }) => {
                write!(f, "{} hears that {} has {upto}", name(usize::from(*to)), from.name())
            }
            Self::Lose(Message::Batch { to, .. }) => write!(f, "a record for {} is lost", to.name()),
            Self::Lose(Message::Confirm { from, .. }) => {
                write!(f, "a confirmation of {} is lost", from.name())
            }
            Self::Commit(i) => write!(f, "{} shows and acknowledges what is committed", n(i)),
            Self::Ask(i) => write!(f, "{} asks for another in-sync set", n(i)),
            Self::AskSoon(i) => write!(f, "{} asks for another in-sync set before it has waited", n(i)),
            Self::Apply(i) => write!(f, "the API applies {}'s in-sync set", n(i)),
            Self::Learn(i) => write!(f, "{} reads the outcome", n(i)),
            Self::Renew(i) => write!(f, "{} renews", n(i)),
            Self::Reepoch(i, j) => write!(f, "{} goes above the promise of {}", n(i), n(j)),
            Self::Demote(i) => write!(f, "{} steps down", n(i)),
            Self::Promise(i) => write!(f, "{} is a candidate and promises the next epoch", n(i)),
            Self::Force(i) => {
                write!(f, "a person orders {} to take the store: it promises the next epoch", n(i))
            }
            Self::TakeAndEnd(i) => write!(f, "{} takes the lease by that order, and its process ends", n(i)),
            Self::Take(i) => write!(f, "{} takes the lease", n(i)),
            Self::Start(i) => write!(f, "{} starts", n(i)),
            Self::Restart(i) => write!(f, "{} takes its own lease again", n(i)),
            Self::Crash(i) => write!(f, "{}'s process ends", n(i)),
            Self::Power(i) => write!(f, "{} loses power", n(i)),
            Self::Wipe(i) => write!(f, "{}'s disk is replaced by an empty one", n(i)),
            Self::Backup => write!(f, "etcd is backed up"),
            Self::Rollback => write!(f, "etcd goes back to the backup"),
        }
    }
}

impl Cluster {
    /// The invariants that these steps break; `None` when they are not possible in this order.
    fn broken_by(&self, actions: &[Action]) -> Option<Vec<&'static str>> {
        let mut world = self.init_states().pop()?;
        for action in actions {
            let mut possible = Vec::new();
            self.actions(&world, &mut possible);
            world = possible.contains(action).then(|| self.next_state(&world, action.clone()))??;
        }
        let always = self.properties().into_iter().filter(|p| p.expectation == Expectation::Always);
        Some(always.filter(|p| !(p.condition)(self, &world)).map(|p| p.name).collect())
    }

    /// The steps that lead to a broken invariant, one a line, without those that it does not take.
    #[must_use]
    pub fn story(&self, property: &str, path: Path<World, Action>) -> String {
        let mut actions = path.into_actions();
        let mut at = actions.len();
        while let Some(before) = at.checked_sub(1) {
            let mut fewer = actions.clone();
            fewer.remove(before);
            if self.broken_by(&fewer).is_some_and(|broken| broken.contains(&property)) {
                // What came after it may have been needed for it alone.
                actions = fewer;
                at = actions.len();
            } else {
                at = before;
            }
        }
        (1..).zip(&actions).map(|(number, action)| format!("{number:>3} {action}\n")).collect()
    }
}
