//! What goes wrong.

use crate::{
    Rule,
    world::{Cluster, Disk, Id, Process, World},
};

impl Cluster {
    /// The process ends; what it wrote is in the page cache, and read by its successor.
    pub(crate) fn crash(&self, world: &mut World, slot: usize) -> Option<()> {
        world.budget.crashes = world.budget.crashes.checked_sub(1)?;
        self.end(world, slot)
    }

    /// What was not synced is gone.
    pub(crate) fn power(&self, world: &mut World, slot: usize) -> Option<()> {
        world.budget.powers = world.budget.powers.checked_sub(1)?;
        let disk = &mut world.replicas[slot].disk;
        disk.log.truncate(usize::from(disk.synced));
        disk.commit = disk.commit.min(disk.synced);
        self.end(world, slot)
    }

    fn end(&self, world: &mut World, slot: usize) -> Option<()> {
        if world.replicas[slot].process == Process::Down {
            return None;
        }
        world.replicas[slot].process = Process::Down;
        if !self.has(Rule::DurablePromise) {
            world.replicas[slot].disk.promise = 0;
        }
        Some(())
    }

    pub(crate) fn wipe(&self, world: &mut World, slot: usize) -> Option<()> {
        world.budget.wipes = world.budget.wipes.checked_sub(1)?;
        let old = world.replicas[slot].disk.id;
        let id = if self.has(Rule::ReplicaIds) { Id::new(slot, 1) } else { old };
        world.replicas[slot].disk =
            Disk { id, log: Vec::new(), synced: 0, promise: 0, commit: 0, set_version: 0 };
        Some(())
    }

    pub(crate) fn back_up(&self, world: &mut World) -> Option<()> {
        world.backup = Some(world.lease.clone());
        Some(())
    }

    /// etcd is restored, which takes longer than D: who was deposed before has stepped down, as it could acknowledge
    /// nothing. Versions go on: what was read before is void.
    pub(crate) fn roll_back(&self, world: &mut World) -> Option<()> {
        world.budget.rollbacks = world.budget.rollbacks.checked_sub(1)?;
        let version = world.lease.version;
        for slot in 0..self.replicas {
            if world.primary(slot).is_some() && !world.holds(slot) {
                world.replicas[slot].process = Process::Standby(None);
            }
        }
        world.lease = world.backup.take()?;
        world.lease.version = version + 1;
        Some(())
    }
}
