//! How records get from a primary to its mirrors.

use mailcluster_failover::{
    Position,
    mirror::{Accept, Hello, Join, JoinView, LogShape, accept, hello, join},
};

use crate::{
    Rule,
    world::{Cluster, Message, Process, World, link},
};

impl Cluster {
    /// Hello, promise, table, cut: taken as one step, as anything that comes between ends the stream.
    pub(crate) fn connect(&self, world: &mut World, from: usize, to: usize) -> Option<()> {
        let epoch = world.primary(from)?.epoch;
        match &world.replicas[to].process {
            Process::Down => return None,
            // A new handshake at the same epoch is one after a stream that broke, and lost something.
            Process::Standby(stream) if *stream == Some(epoch) && Self::is_level(world, from, to) => {
                return None;
            }
            Process::Primary(other) if other.epoch >= epoch => return None,
            _ => {}
        }
        let promise = world.replicas[to].disk.promise;
        if self.has(Rule::PromiseFirst)
            && let Hello::Refuse { .. } = hello(u64::from(promise), u64::from(epoch))
        {
            return None;
        }
        let (own, mirror) = (world.replicas[from].disk.clone(), world.replicas[to].disk.clone());
        let (own_epochs, mirror_epochs) = (own.epochs(), mirror.epochs());
        let commit = usize::from(mirror.commit);
        let committed = Position {
            epoch: commit.checked_sub(1).map_or(0, |at| u64::from(mirror.log[at].epoch)),
            seq: commit as u64,
        };
        let joined = join(&JoinView {
            own: LogShape { epochs: &own_epochs, end: own.end() },
            contiguous_from: 1,
            mirror: LogShape { epochs: &mirror_epochs, end: mirror.end() },
            mirror_commit: committed,
            log_octets: 0,
            snapshot_from: u64::MAX,
        });
        let joined = match joined {
            // Without the rule its tail is cut, as after any other takeover.
            Join::Forked { after } if !self.has(Rule::KeepForks) && after.seq >= committed.seq => {
                Join::Stream { after }
            }
            joined => joined,
        };
        let disk = &mut world.replicas[to].disk;
        disk.promise = disk.promise.max(epoch);
        let after = match joined {
            Join::Stream { after } => u8::try_from(after.seq).unwrap_or(0),
            Join::Yield { .. } => {
                world.replicas[from].process = Process::Standby(None);
                return Some(());
            }
            Join::Snapshot { .. } | Join::Forked { .. } => return None,
        };
        // Without the rule only the length counts: what is there is taken for what was sent.
        let after = if self.has(Rule::MatchByEpoch) { after } else { disk.len().min(own.len()) };
        disk.log.truncate(usize::from(after));
        disk.synced = disk.len();
        let id = usize::from(disk.id.0);
        world.replicas[to].process = Process::Standby(Some(epoch));
        world.primary_mut(from)?.confirmed[id] = Some(after);
        Some(())
    }

    /// Does this primary know all that this mirror has?
    fn is_level(world: &World, from: usize, to: usize) -> bool {
        let mirror = &world.replicas[to].disk;
        world.primary(from).is_some_and(|p| p.confirmed[usize::from(mirror.id.0)] == Some(mirror.len()))
    }

    /// The record behind what this mirror is known to have, or the one behind the last one sent.
    pub(crate) fn send(&self, world: &mut World, from: usize, to: usize) -> Option<()> {
        let primary = world.primary(from)?;
        let (own, id) = (&world.replicas[from].disk, world.replicas[to].disk.id);
        let sent = primary.confirmed[usize::from(id.0)]?;
        if world.wire.len() >= self.bounds.wire || sent >= own.len() {
            return None;
        }
        let message = Message::Batch {
            to: id,
            epoch: primary.epoch,
            prev: own.link(sent),
            record: own.log[usize::from(sent)],
            commit: own.commit,
        };
        world.send(message);
        Some(())
    }

    pub(crate) fn lose(&self, world: &mut World, message: Message) -> Option<()> {
        let at = world.wire.binary_search(&message).ok()?;
        world.wire.remove(at);
        Some(())
    }

    pub(crate) fn deliver(&self, world: &mut World, message: Message) -> Option<()> {
        self.lose(world, message)?;
        match message {
            Message::Confirm { from, to, epoch, upto } => {
                let primary = world.primary_mut(usize::from(to)).filter(|p| p.epoch == epoch)?;
                let known = &mut primary.confirmed[usize::from(from.0)];
                *known = Some(known.unwrap_or(0).max(upto));
            }
            Message::Batch { to, epoch, prev, record, commit } => {
                let slot = to.slot();
                let replica = &world.replicas[slot];
                // A stream ends with the process that reads it, and with the next Hello.
                if replica.disk.id != to || replica.process != Process::Standby(Some(epoch)) {
                    return Some(());
                }
                let disk = &replica.disk;
                let accepted = accept(&Accept {
                    promise: u64::from(if self.has(Rule::PromiseFirst) { disk.promise } else { 0 }),
                    stream: u64::from(epoch),
                    end: link(disk.link(disk.len())),
                    prev: link(prev),
                });
                let follows =
                    if self.has(Rule::MatchByEpoch) { accepted.is_ok() } else { prev.1 == disk.len() };
                if !follows {
                    return Some(());
                }
                if epoch < disk.promise {
                    world.breaks("promise_first");
                    return Some(());
                }
                self.receive(world, slot, record, commit, epoch);
            }
        }
        Some(())
    }

    fn receive(&self, world: &mut World, slot: usize, record: crate::world::Record, commit: u8, epoch: u8) {
        let disk = &mut world.replicas[slot].disk;
        disk.log.push(record);
        disk.synced = disk.len();
        disk.commit = disk.commit.max(commit.min(disk.len()));
        let (from, upto) = (disk.id, disk.len());
        let to = (0..self.replicas).find(|other| world.primary(*other).is_some_and(|p| p.epoch == epoch));
        if let Some(to) = to {
            world.send(Message::Confirm { from, to: u8::try_from(to).unwrap_or(0), epoch, upto });
        }
    }
}
