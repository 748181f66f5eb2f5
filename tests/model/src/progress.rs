//! I11: once nothing fails any more the store serves, whatever was promised, ordered or lost before.
//!
//! From the state that is looked at one schedule is played in which all that still runs does what it should: processes start,
//! messages arrive, the operator names the best copy where nobody holds the lease. That other schedules come to the same
//! end, and how soon, is what the simulation looks at (`tests/sim`).

use crate::{
    Rule,
    actions::Action,
    world::{Bounds, Budget, Cluster, Disk, Process, World},
};
use stateright::Model;

/// So many rounds are enough, or it is never.
const ROUNDS: u8 = 8;

/// Does the store come to serve from here?
pub fn progress(cluster: &Cluster, world: &World) -> bool {
    let able = able(cluster, world);
    if !cluster.progress || world.broken.is_some() || able == 0 {
        return true;
    }
    let highest = world.replicas.iter().map(|r| r.disk.promise).max().unwrap_or(0).max(world.lease.epoch);
    let budget = Budget { crashes: 0, powers: 0, wipes: 0, rollbacks: 0, forced: 0, swaps: 3 * ROUNDS };
    let probe = world.next;
    let bounds = Bounds { values: 8, epochs: highest + 3 * ROUNDS, wire: 8, budget };
    let quiet = Cluster { bounds, progress: false, ..cluster.clone() };
    let mut world = World { budget, ..world.clone() };
    (0..ROUNDS).any(|_| {
        quiet.round(&mut world);
        let serves = quiet.holder(&world).and_then(|slot| world.primary(slot)).is_some_and(|p| p.settled);
        let is_acked = world.acked >> probe != 0;
        world.broken.is_none() && serves && (is_acked || able < quiet.min())
    })
}

/// So many members of the in-sync set are able to run; none where a person has to say what is true: after a restore of etcd to
/// before what a copy has seen.
fn able(cluster: &Cluster, world: &World) -> usize {
    let lease = &world.lease;
    let knows = |d: &Disk| d.end().epoch > u64::from(lease.epoch) || d.set_version > lease.set_version;
    if cluster.has(Rule::RolledBack) && world.replicas.iter().any(|r| knows(&r.disk)) {
        return 0;
    }
    let position = lease.record(cluster.min()).position;
    let is_able = |d: &Disk| lease.in_sync & (1 << d.id.0) != 0 && d.end() >= position;
    world.replicas.iter().filter(|r| is_able(&r.disk)).count()
}

impl Cluster {
    fn holder(&self, world: &World) -> Option<usize> {
        (0..self.replicas).find(|slot| world.holds(*slot))
    }

    /// Takes the step if it is one.
    fn does(&self, world: &mut World, action: Action) -> bool {
        let next = self.next_state(world, action);
        let happened = next.is_some();
        *world = next.unwrap_or_else(|| world.clone());
        happened
    }

    fn round(&self, world: &mut World) {
        self.arrives(world);
        for slot in 0..self.replicas {
            self.does(world, Action::Start(slot));
            self.does(world, Action::Demote(slot));
            self.does(world, Action::Take(slot));
        }
        match self.holder(world) {
            Some(slot) => self.lead(world, slot),
            None => self.succeed(world),
        }
    }

    /// All that is on its way arrives.
    fn arrives(&self, world: &mut World) -> bool {
        while let Some(message) = world.wire.first().copied() {
            if !self.does(world, Action::Deliver(message)) {
                self.does(world, Action::Lose(message));
            }
        }
        true
    }

    /// Somebody takes the lease: the holder's next process, or the one with the most.
    fn succeed(&self, world: &mut World) {
        if let Some((slot, _)) = world.lease.holder {
            self.does(world, Action::Restart(usize::from(slot)));
        }
        if self.holder(world).is_some() {
            return;
        }
        let is_fit = |slot: &usize| {
            let replica = &world.replicas[*slot];
            matches!(replica.process, Process::Standby(_))
                && world.lease.in_sync & (1 << replica.disk.id.0) != 0
        };
        let best = (0..self.replicas).filter(is_fit).max_by_key(|slot| world.replicas[*slot].disk.end());
        if let Some(slot) = best {
            self.does(world, Action::Promise(slot));
            self.does(world, Action::Take(slot));
        }
    }

    /// The holder feeds its mirrors, minds its set, and takes one more change.
    fn lead(&self, world: &mut World, slot: usize) {
        self.does(world, Action::Apply(slot));
        self.does(world, Action::Learn(slot));
        let others = || (0..self.replicas).filter(move |other| *other != slot);
        for other in others() {
            self.does(world, Action::Reepoch(slot, other));
        }
        self.does(world, Action::Append(slot));
        self.does(world, Action::Sync(slot));
        for other in others() {
            self.does(world, Action::Connect(slot, other));
            let most = self.bounds.values + self.bounds.epochs;
            let all =
                (0..most).take_while(|_| self.does(world, Action::Send(slot, other)) && self.arrives(world));
            all.for_each(drop);
        }
        for action in
            [Action::Commit, Action::Renew, Action::Ask, Action::Apply, Action::Learn, Action::Commit]
        {
            self.does(world, action(slot));
        }
    }
}
