//! How a process gets the lease.

use mailcluster_failover::{
    Position, Restart, RestartView, Takeover, TakeoverView, Taker, TargetKind, VolumeHistory, complete,
    known, restart, take, takeover,
};

use crate::{
    Rule,
    world::{Cluster, Disk, Lease, Process, What, World, bits, holder},
};

fn small(at: Position) -> (u8, u8) {
    let of = |n| u8::try_from(n).unwrap_or(u8::MAX);
    (of(at.epoch), of(at.seq))
}

impl Cluster {
    /// Opens the volume: syncs what is there, and compares it with the lease.
    pub(crate) fn open(&self, world: &mut World, slot: usize) -> Option<()> {
        if world.replicas[slot].process != Process::Down {
            return None;
        }
        let disk = &mut world.replicas[slot].disk;
        disk.synced = disk.len();
        self.agrees(world, slot)?;
        world.replicas[slot].process = Process::Standby(None);
        world.replicas[slot].started += 1;
        Some(())
    }

    /// Do disk and lease agree? An empty disk of a new id has nothing to agree about.
    fn agrees(&self, world: &World, slot: usize) -> Option<()> {
        let disk = &world.replicas[slot].disk;
        let lease = world.lease.record(self.min());
        let member = world.lease.in_sync & (1 << disk.id.0) != 0;
        let (last_epoch, promise, in_sync_version) = match self.has(Rule::RolledBack) {
            true => (disk.end().epoch, u64::from(disk.promise), u64::from(disk.set_version)),
            false => (0, 0, 0),
        };
        let end = if member { disk.end() } else { lease.position };
        let seen = VolumeHistory { last_epoch, promise, in_sync_version };
        known(&lease, &seen).and_then(|()| complete(&lease, end)).ok()
    }

    /// The operator names this replica at any moment: no clock is trusted, so no wait is a rule.
    pub(crate) fn promise(&self, world: &mut World, slot: usize, kind: TargetKind) -> Option<()> {
        let epoch = world.lease.epoch + 1;
        let forced = kind == TargetKind::Forced;
        let kind = match world.lease.epoch {
            0 if forced => return None,
            0 => TargetKind::Initial,
            _ => kind,
        };
        if epoch > self.bounds.epochs || self.someone_knows_better(world) {
            return None;
        }
        self.agrees(world, slot)?;
        let lease = world.lease.record(self.min());
        let disk = &world.replicas[slot].disk;
        let (version, name) = (world.lease.version.to_string(), disk.id.name());
        let view = TakeoverView {
            lease: &lease,
            resource_version: &version,
            replica: &name,
            target_replica: &name,
            target_version: &version,
            kind,
            ready: true,
            end: disk.end(),
            holder_heard: false,
            // A set of one is a mirrored store's last copy: nothing but its own return, or a person, takes it over.
            evidence: false,
        };
        if takeover(&view) != Takeover::Go {
            return None;
        }
        if forced {
            world.budget.forced = world.budget.forced.checked_sub(1)?;
        }
        let read = world.lease.clone();
        let disk = &mut world.replicas[slot].disk;
        disk.promise = disk.promise.max(epoch);
        world.replicas[slot].process = Process::Candidate(read, forced);
        Some(())
    }

    /// The operator names nobody while a replica that answers has seen more than the lease says (A5).
    fn someone_knows_better(&self, world: &World) -> bool {
        let lease = &world.lease;
        let knows = |disk: &Disk| {
            disk.end().epoch > u64::from(lease.epoch)
                || disk.promise > lease.epoch + 1
                || disk.set_version > lease.set_version
        };
        self.has(Rule::RolledBack)
            && world.replicas.iter().any(|r| r.process != Process::Down && knows(&r.disk))
    }

    /// Replaces the very lease that was read.
    pub(crate) fn take(&self, world: &mut World, slot: usize) -> Option<()> {
        let Process::Candidate(read, forced) = world.replicas[slot].process.clone() else { return None };
        let unchanged = match self.has(Rule::OneObject) {
            true => read.version == world.lease.version,
            false => read.epoch == world.lease.epoch && read.holder == world.lease.holder,
        };
        if !unchanged {
            world.replicas[slot].process = Process::Standby(None);
            return Some(());
        }
        let id = world.replicas[slot].disk.id;
        if self.has(Rule::OneObject) && !forced && world.lease.in_sync & (1 << id.0) == 0 {
            world.breaks("promoted_from_insync");
        }
        self.swap(world, slot, &read, forced);
        self.begin(world, slot);
        Some(())
    }

    /// The same, and the process ends before it has begun its epoch.
    pub(crate) fn take_and_end(&self, world: &mut World, slot: usize) -> Option<()> {
        let Process::Candidate(read, true) = world.replicas[slot].process.clone() else { return None };
        if read.version != world.lease.version {
            return None;
        }
        self.swap(world, slot, &read, true);
        self.crash(world, slot)
    }

    /// The holder's process in its next incarnation takes the lease at once.
    pub(crate) fn restart(&self, world: &mut World, slot: usize) -> Option<()> {
        let lease = world.lease.record(self.min());
        let replica = &world.replicas[slot];
        let me = holder(world.me(slot));
        let is_own = world.lease.holder == Some(world.me(slot));
        let view = RestartView {
            lease: &lease,
            pod_uid: &me.pod_uid,
            target_is_anothers: false,
            boot_id: "",
            now: 0,
        };
        // The pod's volume is its own: an empty one that came in its place has another id.
        if is_own || restart(&view) != Restart::Take || world.lease.replica != Some(replica.disk.id) {
            return None;
        }
        self.agrees(world, slot)?;
        if !self.has(Rule::NewEpoch) {
            let (epoch, in_sync) = (world.lease.epoch, world.lease.in_sync);
            world.lease.holder = Some(world.me(slot));
            world.lease.version += 1;
            world.replicas[slot].process = Process::Primary(crate::world::Primary {
                epoch,
                start: 0,
                settled: true,
                now: in_sync,
                next: None,
                confirmed: [None; 6],
            });
            return Some(());
        }
        if world.lease.epoch >= self.bounds.epochs || u64::from(replica.disk.promise) > lease.epoch + 1 {
            return None;
        }
        let read = world.lease.clone();
        self.swap(world, slot, &read, false);
        self.begin(world, slot);
        Some(())
    }

    /// The lease becomes this process', at the next epoch.
    fn swap(&self, world: &mut World, slot: usize, read: &Lease, forced: bool) {
        let (me, id) = (world.me(slot), world.replicas[slot].disk.id);
        let (process, name, rules) = (holder(me), id.name(), self.rules());
        let forced = forced.then(|| world.replicas[slot].disk.end());
        let taker = Taker { me: &process, replica: &name, rules, node: "", boot_id: "", now: 0, forced };
        let next = take(&read.record(self.min()), &taker);
        let epoch = u8::try_from(next.epoch).unwrap_or(u8::MAX);
        let stale = !self.reaches(world, slot, next.position);
        world.lease = Lease {
            version: world.lease.version + 1,
            holder: Some(me),
            epoch,
            replica: Some(id),
            in_sync: bits(&next.in_sync),
            set_version: u8::try_from(next.in_sync_version).unwrap_or(u8::MAX),
            position: if forced.is_some() { small(next.position) } else { world.lease.position },
            forced: u8::try_from(next.forced.unwrap_or(0)).unwrap_or(u8::MAX),
        };
        if forced.is_some() {
            // Also what the old line acknowledges later: it does not reach this one.
            let log = &world.replicas[slot].disk.log;
            let old = (0..8).filter(|v| !log.iter().any(|r| r.what == What::Value(*v)) && *v < world.next);
            world.left_behind |= old.fold(0, |set, v| set | 1 << v);
        }
        if world.holders.iter().any(|(e, who)| *e == epoch && *who != me) {
            world.breaks("one_holder_per_epoch");
        }
        if stale {
            world.breaks("no_empty_no_stale");
        }
        world.holders.push((epoch, me));
    }

    fn reaches(&self, world: &World, slot: usize, position: Position) -> bool {
        world.replicas[slot].disk.end() >= position
    }
}
