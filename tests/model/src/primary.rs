//! What a primary does: append, commit, change the set, renew, step down.

use std::collections::BTreeSet;

use mailcluster_failover::{
    AckState, Beginning, Position, Role, beginning, demote, may_acknowledge,
    mirror::{LogShape, Member, MembersView, change},
};

use crate::{
    Rule,
    world::{Cluster, Id, Lease, Process, Record, What, World, bits, holder, names},
};

/// Any span: clocks are not trusted.
pub const LONG: u64 = 10_000;

/// I8: what a holder's clock says of its lease at `now` 0: it has run out, it is good. Either may be so at any moment.
const UNTIL: [u64; 2] = [0, 1];

impl Cluster {
    pub(crate) fn append(&self, world: &mut World, slot: usize) -> Option<()> {
        let primary = world.primary(slot)?;
        if !primary.settled || world.next >= self.bounds.values {
            return None;
        }
        let record = Record { epoch: primary.epoch, what: What::Value(world.next) };
        if primary.epoch < world.lease.forced {
            // The old holder does not know yet that it is left behind.
            world.left_behind |= 1 << world.next;
        }
        world.next += 1;
        world.replicas[slot].disk.log.push(record);
        Some(())
    }

    pub(crate) fn sync(&self, world: &mut World, slot: usize) -> Option<()> {
        world.primary(slot)?;
        let disk = &mut world.replicas[slot].disk;
        disk.synced = disk.len();
        Some(())
    }

    /// What is committed under this primary's set, by the code's own rule.
    fn committed(&self, world: &World, slot: usize) -> u8 {
        let (Some(primary), disk) = (world.primary(slot), &world.replicas[slot].disk) else { return 0 };
        if !self.has(Rule::NoClock) {
            return disk.synced;
        }
        let confirmed = (0..6)
            .map(Id)
            .filter_map(|id| primary.confirmed[usize::from(id.0)].map(|upto| (id.name(), u64::from(upto))));
        let commit =
            primary.in_sync(self).commit(&disk.id.name(), u64::from(disk.synced), &confirmed.collect());
        u8::try_from(commit).unwrap_or(0)
    }

    /// Makes visible what is committed, and acknowledges what may be.
    pub(crate) fn commit(&self, world: &mut World, slot: usize) -> Option<()> {
        let commit = self.committed(world, slot);
        let disk = &mut world.replicas[slot].disk;
        disk.commit = disk.commit.max(commit);
        let (commit, synced) = (disk.commit, disk.len());
        let primary = world.primary_mut(slot)?;
        primary.settled |= commit >= primary.start;
        let primary = world.primary(slot)?;
        let set = primary.in_sync(self);
        let state = AckState {
            role: if primary.settled { Role::Primary } else { Role::Settling },
            epoch: u64::from(primary.epoch),
            commit: u64::from(commit),
            effective: if set.is_enough() { set.effective().len() } else { 0 },
            others_heard: true,
            min_in_sync: self.min(),
            in_force: Some(self.rules()),
            lease_until: 0,
            now: 0,
        };
        let settled = primary.settled;
        let log = world.replicas[slot].disk.log.clone();
        for (seq, record) in (1..).zip(&log) {
            let at = Position { epoch: u64::from(record.epoch), seq };
            if let What::Value(value) = record.what
                && UNTIL
                    .into_iter()
                    .any(|lease_until| may_acknowledge(&AckState { lease_until, ..state }, at))
            {
                world.acked |= 1 << value;
            }
        }
        if settled {
            let upto = if self.has(Rule::CommitFirst) { commit } else { synced };
            self.show(world, &log[..usize::from(upto).min(log.len())]);
        }
        Some(())
    }

    /// The in-sync set that the code would ask for when the first change that is not committed has waited for so long. One
    /// that settles waits for its epoch's first record.
    pub(crate) fn ask(&self, world: &mut World, slot: usize, waited: u64) -> Option<()> {
        let (primary, disk) = (world.primary(slot)?, &world.replicas[slot].disk);
        if primary.next.is_some() {
            return None;
        }
        let first = if primary.settled { disk.commit + 1 } else { primary.start };
        let waiting = (disk.commit < disk.len()).then_some((u64::from(first), waited));
        // Up to where the last holder may have acknowledged, of which this index may not know yet.
        let needed = if self.has(Rule::AllOfTheLog) { disk.commit.max(primary.start) } else { disk.commit };
        let (members, none) = (names(primary.now), BTreeSet::new());
        let mirrors: Vec<Member> = (0..6)
            .map(Id)
            .filter(|id| id.slot() < self.replicas && *id != disk.id)
            .map(|id| Member {
                id: id.name(),
                confirmed: primary.confirmed[usize::from(id.0)].map(u64::from),
                apply_lag: 0,
            })
            .collect();
        let named = world.replicas.iter().take(self.replicas).map(|replica| replica.disk.id.name()).collect();
        let next = change(&MembersView {
            me: &disk.id.name(),
            members: &members,
            named: &named,
            min: self.min(),
            needed: u64::from(needed),
            mirrors: &mirrors,
            waiting,
            timeout: LONG,
            kept_out: &none,
            is_heard: true,
        })?;
        let next = bits(&next.applied(&members));
        // The log of one that is alone must name a mirror first, which it cannot before it serves.
        if members.len() == 1 && next != primary.now && !primary.settled {
            return None;
        }
        world.primary_mut(slot)?.next = Some(next);
        Some(())
    }

    /// The swap reaches the API. Precondition: this process is the holder at this epoch.
    pub(crate) fn apply(&self, world: &mut World, slot: usize) -> Option<()> {
        let next = world.primary(slot)?.next?;
        if !world.holds(slot) || world.lease.in_sync == next {
            return None;
        }
        world.budget.swaps = world.budget.swaps.checked_sub(1)?;
        world.lease.in_sync = next;
        world.lease.set_version += 1;
        world.lease.version += 1;
        Some(())
    }

    /// The lease is read back: the swap has taken place.
    pub(crate) fn learn(&self, world: &mut World, slot: usize) -> Option<()> {
        let next = world.primary(slot)?.next?;
        if !world.holds(slot) || world.lease.in_sync != next {
            return None;
        }
        let primary = world.primary_mut(slot)?;
        primary.now = next;
        primary.next = None;
        // The record InSync.
        world.replicas[slot].disk.set_version = world.lease.set_version;
        Some(())
    }

    /// A renewal says what is committed. Only one that says something new is a step.
    pub(crate) fn renew(&self, world: &mut World, slot: usize) -> Option<()> {
        let primary = world.primary(slot)?;
        let position = (primary.epoch, world.replicas[slot].disk.commit);
        if !primary.settled || !world.holds(slot) || position <= world.lease.position {
            return None;
        }
        world.lease.position = position;
        world.lease.version += 1;
        Some(())
    }

    /// A mirror has promised more than this epoch, and the lease is still this process': C6.
    pub(crate) fn reepoch(&self, world: &mut World, slot: usize, mirror: usize) -> Option<()> {
        let epoch = world.primary(slot)?.epoch;
        let promise = world.replicas[mirror].disk.promise;
        let stands = !matches!(world.replicas[mirror].process, Process::Down);
        if !self.has(Rule::GoAbove)
            || !stands
            || promise <= epoch
            || !world.holds(slot)
            || promise >= self.bounds.epochs
        {
            return None;
        }
        if world.primary(slot)?.next.is_some() {
            return None;
        }
        world.lease.epoch = promise + 1;
        world.lease.version += 1;
        let me = world.me(slot);
        world.holders.push((promise + 1, me));
        self.begin(world, slot);
        Some(())
    }

    /// The first record of the lease's epoch.
    pub(crate) fn begin(&self, world: &mut World, slot: usize) {
        let Lease { epoch, in_sync, set_version, forced, .. } = world.lease;
        let disk = &world.replicas[slot].disk;
        let (epochs, committed) = (disk.epochs(), u64::from(disk.commit));
        let log = LogShape { epochs: &epochs, end: disk.end() };
        let committed = Position { epoch: 0, seq: committed };
        let is_known = self.has(Rule::ForcedInLease) || forced == epoch;
        let what = match beginning(&world.lease.record(self.min()), log, committed) {
            Beginning::ForcedAnew if is_known && self.has(Rule::NewNames) => What::ForcedAnew,
            Beginning::Forced | Beginning::ForcedAnew if is_known => What::Forced,
            _ => What::Start,
        };
        let served = world.primary(slot).is_some_and(|p| p.settled);
        let disk = &mut world.replicas[slot].disk;
        disk.promise = disk.promise.max(epoch);
        disk.log.push(Record { epoch, what });
        disk.set_version = set_version;
        disk.synced = disk.len();
        let start = disk.len();
        world.replicas[slot].process = Process::Primary(crate::world::Primary {
            epoch,
            start,
            // A primary that goes above a promise keeps its sessions.
            settled: served || !self.has(Rule::Settle),
            now: in_sync,
            next: None,
            confirmed: [None; 6],
        });
        if !self.has(Rule::Settle) {
            let log = world.replicas[slot].disk.log.clone();
            self.show(world, &log);
        }
    }

    pub(crate) fn demote(&self, world: &mut World, slot: usize) -> Option<()> {
        let epoch = u64::from(world.primary(slot)?.epoch);
        let me = holder(world.me(slot));
        let lease = world.lease.record(self.min());
        let others = world.replicas.iter().filter(|r| !matches!(r.process, Process::Down));
        let higher = others.map(|r| u64::from(r.disk.promise)).max().unwrap_or(0);
        let by_lease = demote(&me, epoch, Some(&lease), 0, 0, LONG);
        // Without the lease it believes a peer, but not one's mere promise.
        let by_peer = demote(&me, epoch, None, higher.min(u64::from(world.lease.epoch)), 0, LONG);
        by_lease.or(by_peer)?;
        world.replicas[slot].process = Process::Standby(None);
        Some(())
    }
}

impl Cluster {
    /// Clients see these records; a place is a UID. What comes behind the record that forced a line has UIDs of its own, or all
    /// of the line has.
    fn show(&self, world: &mut World, log: &[Record]) {
        let anew = log.iter().rfind(|r| r.what == What::ForcedAnew);
        let mut line = anew.map_or(0, |r| r.epoch);
        for (place, record) in (0..).zip(log) {
            let skips = record.what == What::Forced && record.epoch > line;
            if skips && self.has(Rule::SkipUids) {
                line = record.epoch;
            }
            if world.shown.entry((line, place)).or_insert(*record) != record {
                world.breaks("uid_once");
                return;
            }
        }
    }
}
