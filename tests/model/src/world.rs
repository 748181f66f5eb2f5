//! What there is: replicas with disks and processes, the lease, messages, and what clients were told.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use mailcluster_failover::{
    Durability, FencingMinimum, Holder, InForce, LeaseRecord, Position,
    mirror::{EpochEntry, InSync, Link},
};

use crate::{Rule, canonical::NOW};

/// A replica id: where it lies, and how often that disk was replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub u8);

impl Id {
    pub fn new(slot: usize, disk: u8) -> Self {
        Self(u8::try_from(slot).unwrap_or(0) * 2 + disk.min(1))
    }

    pub fn slot(self) -> usize {
        usize::from(self.0 / 2)
    }

    /// The id that the slot's disk had at first.
    pub fn is_first(self) -> bool {
        self.0.is_multiple_of(2)
    }

    pub fn name(self) -> String {
        let letter = char::from(b'a' + self.0 / 2);
        if self.is_first() { letter.to_string() } else { format!("{letter}'") }
    }

    pub fn named(name: &str) -> Self {
        let letter = name.bytes().next().unwrap_or(b'a');
        Self((letter - b'a') * 2 + u8::from(name.ends_with('\'')))
    }
}

/// A set of replica ids, a bit each.
pub type Ids = u8;

pub fn ids(set: Ids) -> impl Iterator<Item = Id> {
    (0..8).filter(move |i| set & (1 << i) != 0).map(Id)
}

pub fn names(set: Ids) -> BTreeSet<String> {
    ids(set).map(Id::name).collect()
}

pub fn bits<'a>(names: impl IntoIterator<Item = &'a String>) -> Ids {
    names.into_iter().fold(0, |set, name| set | 1 << Id::named(name).0)
}

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum What {
    /// EpochStart.
    Start,
    /// EpochStart of a replica that need not have had everything.
    Forced,
    /// The same, and all that is in the log has another name from then on.
    ForcedAnew,
    /// A client's change.
    Value(u8),
}

/// A record of a log; its sequence is its place, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Record {
    pub epoch: u8,
    pub what: What,
}

/// What outlives a process.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Disk {
    pub id: Id,
    pub log: Vec<Record>,
    /// So many records survive a loss of power.
    pub synced: u8,
    pub promise: u8,
    /// So many are known to be committed, and in the index.
    pub commit: u8,
    /// Version of the last in-sync set that is in its log.
    pub set_version: u8,
}

/// What a process does.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Process {
    Down,
    /// Follows the primary of this epoch, if any.
    Standby(Option<u8>),
    /// Has promised, and will try to replace this very lease; a person may have ordered it.
    Candidate(Lease, bool),
    Primary(Primary),
}

/// What a primary keeps in memory.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Primary {
    pub epoch: u8,
    /// The sequence of its EpochStart.
    pub start: u8,
    pub settled: bool,
    pub now: Ids,
    pub next: Option<Ids>,
    /// By id: up to where it has confirmed at this epoch.
    pub confirmed: [Option<u8>; 6],
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Replica {
    pub disk: Disk,
    pub process: Process,
    /// The process' start id.
    pub started: u8,
}

/// The Lease.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lease {
    /// Tells the one that was read from the one there is; see `canonical.rs`.
    pub version: u8,
    /// Where, and which start.
    pub holder: Option<(u8, u8)>,
    pub epoch: u8,
    pub replica: Option<Id>,
    pub in_sync: Ids,
    pub set_version: u8,
    pub position: (u8, u8),
    /// The epoch of the last forced takeover; 0: none.
    pub forced: u8,
}

/// On its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Message {
    /// One record, from a primary to a replica.
    Batch { to: Id, epoch: u8, prev: (u8, u8, u32), record: Record, commit: u8 },
    /// Synced up to here, from a replica to a primary's process.
    Confirm { from: Id, to: u8, epoch: u8, upto: u8 },
}

/// What may still happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Processes that end.
    pub crashes: u8,
    /// Machines that lose power.
    pub powers: u8,
    /// Disks that are replaced by empty ones.
    pub wipes: u8,
    /// Times that etcd goes back to a state it had.
    pub rollbacks: u8,
    /// Times that a person orders a replica to take the store, whatever it has.
    pub forced: u8,
    /// Changes of the in-sync set; no fault, but without a bound there is no end to them.
    pub swaps: u8,
}

/// How many copies an acknowledgement wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// One, where there are no more.
    Preferred,
    /// Two.
    Required,
}

/// How far the search goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bounds {
    /// Changes that clients make.
    pub values: u8,
    /// The highest epoch.
    pub epochs: u8,
    /// Messages on their way at a time.
    pub wire: usize,
    /// Faults, and what else must have an end.
    pub budget: Budget,
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { values, epochs, wire, budget } = self;
        write!(f, "{values} / {epochs} / {wire} / {}", budget.swaps)?;
        let faults = [
            (budget.crashes, "crash"),
            (budget.powers, "power"),
            (budget.wipes, "disk"),
            (budget.rollbacks, "etcd"),
            (budget.forced, "forced"),
        ];
        faults.iter().filter(|(n, _)| *n > 0).try_for_each(|(n, fault)| write!(f, ", {n} {fault}"))
    }
}

/// The whole state.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    pub(crate) replicas: Vec<Replica>,
    pub(crate) lease: Lease,
    /// What etcd may go back to.
    pub(crate) backup: Option<Lease>,
    pub(crate) wire: Vec<Message>,
    /// Changes that clients were told are done, a bit each.
    pub(crate) acked: u8,
    /// Changes that a forced takeover has left behind: of the acknowledged ones, and of those that a replica of the old line
    /// acknowledges later.
    pub(crate) left_behind: u8,
    /// What clients have seen, by its name: the epoch that was forced last before it, and its place, which is a UID.
    pub(crate) shown: BTreeMap<(u8, u8), Record>,
    pub(crate) next: u8,
    pub(crate) budget: Budget,
    /// Who has held which epoch.
    pub(crate) holders: Vec<(u8, (u8, u8))>,
    /// The first invariant that a transition broke.
    pub(crate) broken: Option<&'static str>,
}

/// A cluster of `replicas`, and the rule that is left out.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// Copies.
    pub replicas: usize,
    /// What an acknowledgement wants.
    pub mode: Mode,
    /// Where the search ends.
    pub bounds: Bounds,
    /// Left out.
    pub without: Option<Rule>,
    /// Begin with a primary that serves, its mirrors connected; otherwise with an empty store.
    pub serving: bool,
    /// Look at I11 as well, which costs some dozens of steps in each state.
    pub progress: bool,
}

impl Cluster {
    pub(crate) fn has(&self, rule: Rule) -> bool {
        self.without != Some(rule)
    }

    pub(crate) fn min(&self) -> usize {
        match self.mode {
            Mode::Preferred => 1,
            Mode::Required => 2,
        }
    }

    pub(crate) fn rules(&self) -> InForce {
        let durability = match self.mode {
            Mode::Preferred => Durability::Preferred,
            Mode::Required => Durability::Required,
        };
        InForce { durability, fencing: FencingMinimum::Proof }
    }

    /// All replicas initialised, empty, and nobody has held the store.
    pub(crate) fn start(&self) -> World {
        let replica = |slot| Replica {
            disk: Disk {
                id: Id::new(slot, 0),
                log: Vec::new(),
                synced: 0,
                promise: 0,
                commit: 0,
                set_version: 0,
            },
            process: Process::Standby(None),
            started: 0,
        };
        let replicas: Vec<Replica> = (0..self.replicas).map(replica).collect();
        let in_sync = replicas.iter().fold(0, |set, r| set | 1 << r.disk.id.0);
        World {
            replicas,
            lease: Lease {
                version: NOW,
                holder: None,
                epoch: 0,
                replica: None,
                in_sync,
                set_version: 1,
                position: (0, 0),
                forced: 0,
            },
            backup: None,
            wire: Vec::new(),
            acked: 0,
            left_behind: 0,
            shown: BTreeMap::new(),
            next: 0,
            budget: self.bounds.budget,
            holders: Vec::new(),
            broken: None,
        }
    }

    /// The first replica serves at epoch 1, and all have its first record.
    pub(crate) fn serve(&self) -> World {
        let mut world = self.start();
        let first = Record { epoch: 1, what: What::Start };
        let mut confirmed = [None; 6];
        for replica in &mut world.replicas {
            replica.disk = Disk { log: vec![first], synced: 1, promise: 1, ..replica.disk.clone() };
            replica.process = Process::Standby(Some(1));
            confirmed[usize::from(replica.disk.id.0)] = Some(1);
        }
        let now = world.lease.in_sync;
        confirmed[0] = None;
        world.replicas[0].disk.commit = 1;
        world.replicas[0].process =
            Process::Primary(Primary { epoch: 1, start: 1, settled: true, now, next: None, confirmed });
        world.lease = Lease { holder: Some((0, 0)), epoch: 1, replica: Some(Id(0)), ..world.lease.clone() };
        world.shown = BTreeMap::from([((0, 0), first)]);
        world.holders = vec![(1, (0, 0))];
        world
    }
}

impl Disk {
    pub fn len(&self) -> u8 {
        u8::try_from(self.log.len()).unwrap_or(u8::MAX)
    }

    pub fn end(&self) -> Position {
        Position { epoch: self.log.last().map_or(0, |r| u64::from(r.epoch)), seq: self.log.len() as u64 }
    }

    pub fn epochs(&self) -> Vec<EpochEntry> {
        let starts = (1..).zip(&self.log).filter(|(_, record)| !matches!(record.what, What::Value(_)));
        let entry = |(seq, r): (u64, &Record)| {
            let forced = matches!(r.what, What::Forced | What::ForcedAnew);
            EpochEntry { epoch: u64::from(r.epoch), first_seq: seq, forced }
        };
        starts.map(entry).collect()
    }

    /// The link behind the first `upto` records.
    pub fn link(&self, upto: u8) -> (u8, u8, u32) {
        let log = &self.log[..usize::from(upto).min(self.log.len())];
        let crc = log.iter().fold(17_u32, |crc, r| {
            let what = match r.what {
                What::Start => 99,
                What::Forced => 98,
                What::ForcedAnew => 97,
                What::Value(v) => u32::from(v),
            };
            crc.wrapping_mul(31).wrapping_add(u32::from(r.epoch) * 128 + what)
        });
        (log.last().map_or(0, |r| r.epoch), upto, crc)
    }

    pub(crate) fn has(&self, value: u8) -> bool {
        self.log.iter().any(|record| record.what == What::Value(value))
    }
}

pub fn link((epoch, seq, crc): (u8, u8, u32)) -> Link {
    Link { at: Position { epoch: u64::from(epoch), seq: u64::from(seq) }, crc }
}

pub fn holder((slot, started): (u8, u8)) -> Holder {
    Holder { pod_uid: format!("pod{slot}"), start_id: started.to_string() }
}

impl Lease {
    /// As the decisions read it.
    pub fn record(&self, min: usize) -> LeaseRecord {
        LeaseRecord {
            holder: self.holder.map(holder),
            epoch: u64::from(self.epoch),
            replica: self.replica.map(Id::name),
            in_sync_version: u64::from(self.set_version),
            position: Position { epoch: u64::from(self.position.0), seq: u64::from(self.position.1) },
            forced: Some(u64::from(self.forced)).filter(|epoch| *epoch > 0),
            ..LeaseRecord::initial(ids(self.in_sync).map(Id::name).collect(), min)
        }
    }
}

impl Primary {
    /// The set as the decisions keep it.
    pub fn in_sync(&self, cluster: &Cluster) -> InSync {
        let mut set = InSync::new(names(self.now), cluster.min());
        if let Some(next) = self.next
            && cluster.has(Rule::Union)
        {
            set.begin(names(next));
        }
        set
    }
}

impl World {
    pub(crate) fn primary(&self, slot: usize) -> Option<&Primary> {
        match &self.replicas[slot].process {
            Process::Primary(primary) => Some(primary),
            _ => None,
        }
    }

    pub(crate) fn primary_mut(&mut self, slot: usize) -> Option<&mut Primary> {
        match &mut self.replicas[slot].process {
            Process::Primary(primary) => Some(primary),
            _ => None,
        }
    }

    /// Who this process is, to the lease.
    pub(crate) fn me(&self, slot: usize) -> (u8, u8) {
        (u8::try_from(slot).unwrap_or(0), self.replicas[slot].started)
    }

    pub(crate) fn holds(&self, slot: usize) -> bool {
        self.primary(slot)
            .is_some_and(|p| self.lease.holder == Some(self.me(slot)) && self.lease.epoch == p.epoch)
    }

    pub(crate) fn breaks(&mut self, invariant: &'static str) {
        self.broken.get_or_insert(invariant);
    }

    pub(crate) fn send(&mut self, message: Message) {
        if let Err(at) = self.wire.binary_search(&message) {
            self.wire.insert(at, message);
        }
    }
}
