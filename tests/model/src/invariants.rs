//! What must be true in every state, by the names of the protocol.

use stateright::Property;

use crate::{
    progress::progress,
    world::{Cluster, What, World, ids},
};

/// What transitions note when they break it.
const NOTED: [&str; 8] = [
    "one_holder_per_epoch",
    "promoted_from_insync",
    "index_le_commit",
    "uid_once",
    "promise_first",
    "no_empty_no_stale",
    "acked_is_served",
    "fork_is_kept",
];

pub fn properties() -> Vec<Property<Cluster>> {
    fn not<const I: usize>(_: &Cluster, world: &World) -> bool {
        world.broken != Some(NOTED[I])
    }
    vec![
        Property::always(NOTED[0], not::<0>),
        Property::always(NOTED[1], not::<1>),
        Property::always(NOTED[2], not::<2>),
        Property::always(NOTED[3], not::<3>),
        Property::always(NOTED[4], not::<4>),
        Property::always(NOTED[5], not::<5>),
        Property::always(NOTED[6], not::<6>),
        Property::always(NOTED[7], not::<7>),
        Property::always("acked_in_every_insync", acked_in_every_insync),
        Property::always("same_name_same_bytes", same_name_same_bytes),
        Property::always("progress", progress),
        Property::always("no_clock_for_writes", no_clock_for_writes),
        Property::sometimes("a change is acknowledged", |_: &Cluster, w: &World| w.acked != 0),
        Property::sometimes("a second epoch serves", |_: &Cluster, w: &World| {
            w.replicas
                .iter()
                .enumerate()
                .any(|(slot, _)| w.primary(slot).is_some_and(|p| p.settled && p.epoch > 1))
        }),
    ]
}

/// I2: whoever may be promoted has what clients were told, synced.
fn acked_in_every_insync(cluster: &Cluster, world: &World) -> bool {
    // A lease that went back in time says what was true then: nobody may be promoted by it, which `acked_is_served` sees.
    if world.budget.rollbacks < cluster.bounds.budget.rollbacks {
        return true;
    }
    let of = |id| world.replicas.iter().find(move |r| r.disk.id == id);
    ids(world.lease.in_sync).filter_map(of).all(|replica| {
        let synced = &replica.disk.log[..usize::from(replica.disk.synced)];
        let has = |v: u8| synced.iter().any(|r| r.what == What::Value(v));
        (0..8).filter(|v| world.counts(*v)).all(has)
    })
}

/// I8: the others, all of them. What makes it more than that is that no step asks a clock: a lease is good and has run out, a
/// change has just come and has waited for long, a holder is silent, in every state.
fn no_clock_for_writes(cluster: &Cluster, world: &World) -> bool {
    world.broken.is_none() && acked_in_every_insync(cluster, world) && same_name_same_bytes(cluster, world)
}

impl World {
    /// Was this change acknowledged, and left behind by no forced takeover?
    fn counts(&self, value: u8) -> bool {
        (self.acked & !self.left_behind) & (1 << value) != 0
    }
}

/// I5, and the second half of I1: records of one epoch at one place are one record.
fn same_name_same_bytes(_: &Cluster, world: &World) -> bool {
    let logs = || world.replicas.iter().map(|r| &r.disk.log);
    logs().all(|a| logs().all(|b| a.iter().zip(b).all(|(x, y)| x.epoch != y.epoch || x.what == y.what)))
}

/// What depends on the step as well as on the state.
pub fn check(cluster: &Cluster, last: &World, world: &mut World) {
    for slot in 0..cluster.replicas {
        let (before, after) = (&last.replicas[slot], &world.replicas[slot]);
        let same_disk = before.disk.id == after.disk.id && !after.disk.log.is_empty();
        let known = usize::from(before.disk.commit.min(before.disk.len()));
        let kept = after.disk.log.len() >= known && after.disk.log[..known] == before.disk.log[..known];
        if same_disk && (after.disk.commit < before.disk.commit || !kept) {
            // I4: nobody cuts at or below what it knows to be committed.
            world.breaks("index_le_commit");
            return;
        }
        let serves = world.primary(slot).is_some_and(|p| p.settled) && world.holds(slot);
        // I2: what was acknowledged is cut from no log, whoever lets whom take the store.
        let synced = &before.disk.log[..usize::from(before.disk.synced)];
        let had = |v: u8| synced.iter().any(|r| r.what == What::Value(v));
        let cut = |v: u8| world.acked & (1 << v) != 0 && had(v) && !after.disk.has(v);
        if same_disk && cluster.bounds.budget.forced > 0 && (0..8).any(cut) {
            world.breaks("fork_is_kept");
            return;
        }
        let lost = (0..8).any(|v| world.counts(v) && !world.replicas[slot].disk.has(v));
        if serves && lost {
            world.breaks("acked_is_served");
            return;
        }
    }
}
