//! The world of one seed: time, machines, what lies between them, what goes wrong, and how it ends.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::AtomicBool, atomic::Ordering},
    time::Duration,
};

use mailcluster_arbiter::ReplicaState;
use mailcluster_failover::{Durability, LeaseRecord};
use mailcluster_store::{
    Store,
    testing::{
        Rng,
        volume::{Crash, Faults, Syncs},
    },
};

use crate::{
    api::Api,
    clients::Clients,
    copies::Copies,
    faults::Fault,
    ledger::{Counts, Ledger},
    net::{Net, Place},
    node::{self, Around, Node},
    operator::{self, Operator},
};

/// The world's time goes on by this (milliseconds).
const TICK: u64 = 10;
/// Within this the store serves again after everything is healed, with every copy.
const HEALED: u64 = 90_000;
/// A process that has ended is started again after this.
const RESTART: u64 = 1_000;

/// What a seed is about.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub seed: u64,
    pub replicas: usize,
    pub durability: Durability,
    /// Things go wrong for so long.
    pub span: u64,
    pub clocks_jump: bool,
    /// Syncs are said to be done, and are not.
    pub syncs_lie: bool,
}

impl Plan {
    /// What the seed says.
    pub fn of(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let (replicas, durability) = *rng.pick(&[
            (2, Durability::Preferred),
            (3, Durability::Preferred),
            (3, Durability::Required),
            (3, Durability::Required),
            (2, Durability::Required),
        ]);
        let clocks_jump = rng.one_in(3);
        Self { seed, replicas, durability, span: 40_000, clocks_jump, syncs_lie: false }
    }
}

/// What a seed came to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Told {
    pub counts: Counts,
    pub epochs: usize,
    pub faults: usize,
    /// How long it took to serve again, at most.
    pub healed_after: u64,
    /// Slices of indexes that were compared, and whole indexes.
    pub compared: (u64, u64),
    /// Files that were given back.
    pub given_back: u64,
    pub copies: Copies,
}

impl Told {
    /// Of all seeds together.
    pub fn add(&mut self, other: &Self) {
        self.counts.add(&other.counts);
        self.copies.add(&other.copies);
        self.epochs += other.epochs;
        self.faults += other.faults;
        self.healed_after = self.healed_after.max(other.healed_after);
        self.compared = (self.compared.0 + other.compared.0, self.compared.1 + other.compared.1);
        self.given_back += other.given_back;
    }
}

pub struct World {
    pub plan: Plan,
    pub now: u64,
    pub rng: Rng,
    pub around: Around,
    pub ledger: Ledger,
    pub nodes: Vec<Node>,
    pub operator: Operator,
    processes: u64,
    /// Machines whose process is not there, and when it comes.
    pub starts: BTreeMap<Place, u64>,
    /// Places whose disk is lost.
    pub lost: BTreeSet<Place>,
    pub copies: Copies,
    lasting: Vec<(u64, Fault)>,
    /// What is still to come.
    later: Vec<(u64, Fault)>,
    /// Nothing goes wrong any more.
    pub is_healed: bool,
    /// What happened, for people.
    story: Vec<String>,
}

impl World {
    fn new(plan: Plan) -> Self {
        let mut rng = Rng::new(plan.seed ^ 0x5eed);
        let ledger = Ledger::default();
        let clients = Clients {
            ledger: ledger.clone(),
            are_quiet: Arc::new(AtomicBool::new(false)),
            read_at_once: !plan.clocks_jump,
        };
        let min = if plan.durability == Durability::Required { 2 } else { 1 };
        let ids = node::first_ids(plan.replicas);
        let api = Api::new(LeaseRecord::initial(ids, min), Rng::new(rng.next()), ledger.clone());
        let net = Net::new(Rng::new(rng.next()));
        let around = Around::new((net, api, clients), plan.replicas, plan.durability);
        let nodes: Vec<Node> =
            (0..plan.replicas).map(|place| Node::new(place, around.clone(), Rng::new(rng.next()))).collect();
        for node in &nodes {
            node.volume.set_faults(Faults { lies: plan.syncs_lie, ..Faults::default() });
        }
        let starts = (0..plan.replicas).map(|place| (place, 0)).collect();
        Self {
            plan,
            now: 0,
            rng,
            around,
            ledger,
            nodes,
            operator: Operator::default(),
            processes: 0,
            starts,
            lost: BTreeSet::new(),
            copies: Copies::default(),
            lasting: Vec::new(),
            later: Vec::new(),
            is_healed: false,
            story: Vec::new(),
        }
    }

    /// Plays a seed. An error says what is wrong, and what happened before.
    pub fn play(plan: Plan) -> Result<Told, String> {
        let mut world = Self::new(plan);
        let told = world.live();
        told.map_err(|why| {
            let story = world.story.join("\n  ");
            format!("seed {} ({:?}): {why}\n  {story}", plan.seed, plan)
        })
    }

    fn live(&mut self) -> Result<Told, String> {
        let mut told = Told::default();
        self.until(60_000, Self::is_well)?.ok_or_else(|| format!("it never served: {}", self.picture()))?;
        let end = self.now + self.plan.span;
        while self.now < end {
            let pause = u64::try_from(100 + self.rng.below(2_500)).unwrap();
            self.go_on(pause)?;
            self.reclaim();
            let (fault, span) = Fault::draw(&mut self.rng, self.plan.replicas, self.plan.clocks_jump);
            self.tell(format!("{fault} for {span}"));
            fault.strike(self);
            self.lasting.push((self.now + span, fault));
            self.renew();
            told.faults += 1;
        }
        self.heal();
        let healed = self.now;
        let is_well = self.until(HEALED, Self::is_well)?.is_some();
        if !is_well && !self.is_beyond_help() {
            return Err(format!(
                "I11 progress: not served {HEALED} ms after all was healed: {}",
                self.picture()
            ));
        }
        if is_well {
            told.healed_after = self.now - healed;
            if let Err(why) = self.finish() {
                // What was said to be wrong stays wrong; that nobody has a record any more may only show now.
                if !why.starts_with("I11") || !self.is_beyond_help() {
                    return Err(why);
                }
                self.copies.given_up += 1;
            }
        } else {
            self.copies.given_up += 1;
        }
        told.compared = self.compared()?;
        told.copies = self.count_copies();
        told.given_back = self.nodes.iter().map(|node| node.given_back.load(Ordering::Relaxed)).sum();
        (told.counts, told.epochs) = (self.ledger.counts(), self.ledger.epochs());
        Ok(told)
    }

    pub fn tell(&mut self, what: String) {
        self.story.push(format!("{:>6}: {what}", self.now));
    }

    /// Changes what is wrong with a disk.
    pub fn fail(&mut self, place: Place, change: impl FnOnce(&mut Faults)) {
        let volume = &self.nodes[place].volume;
        let mut faults = volume.faults();
        change(&mut faults);
        volume.set_faults(faults);
    }

    /// A process, or its machine, ends.
    pub fn crash(&mut self, place: Place, how: Crash, after: u64) {
        if self.nodes[place].process.is_some() {
            self.nodes[place].crash(how);
            self.starts.insert(place, self.now + after);
        }
    }

    /// Somewhere room is given back.
    fn reclaim(&mut self) {
        let place = self.rng.below(self.nodes.len());
        let node = &self.nodes[place];
        if let Some(process) = node.process.as_ref().filter(|_| node.frozen.is_none()) {
            process.reclaim();
        }
    }

    /// Who holds the Lease.
    pub fn holder(&self) -> Option<Place> {
        let (record, _) = self.around.api.objects().lease?;
        (0..self.nodes.len()).find(|place| record.replica == Some(self.nodes[*place].id()))
    }

    /// The holder is cut off for longer than its lease; it comes back when another that has its place ends, or keeps one
    /// of its mirrors.
    pub fn depose(&mut self) {
        let Some(place) = self.holder() else { return };
        let cut = self.now + 6_000 + u64::try_from(self.rng.below(4_000)).unwrap();
        let until = cut + 2_000 + u64::try_from(self.rng.below(6_000)).unwrap();
        let other = (place + 1 + self.rng.below(self.nodes.len() - 1)) % self.nodes.len();
        if self.rng.one_in(2) {
            self.lasting.extend([(cut, Fault::CutOff(place)), (until, Fault::NoApi(place))]);
            self.later.push((cut, Fault::HolderEnds(Crash::Power, 100)));
        } else {
            // A third is fed by both.
            let both = [Fault::Between(place, other), Fault::NoApi(place), Fault::NoFrontends(place)];
            self.lasting.extend(both.map(|fault| (until, fault)));
        }
    }

    /// What lasts is made anew from what has not passed.
    fn renew(&mut self) {
        let now = self.now;
        self.lasting.retain(|(until, _)| *until > now);
        self.around.net.mend();
        self.around.api.mend();
        self.operator.is_away = false;
        for node in &mut self.nodes {
            node.is_cut.store(false, Ordering::Relaxed);
            let faults = node.volume.faults();
            node.volume.set_faults(Faults {
                is_full: false,
                is_short: false,
                slow: Duration::ZERO,
                ..faults
            });
        }
        for (until, fault) in self.lasting.clone() {
            fault.last(self, until);
        }
    }

    /// So much time passes.
    pub fn go_on(&mut self, span: u64) -> Result<(), String> {
        let end = self.now + span;
        while self.now < end {
            self.tick()?;
        }
        Ok(())
    }

    /// Time passes until that is so; `None`: it was not within `span`.
    pub fn until(&mut self, span: u64, is_so: impl Fn(&Self) -> bool) -> Result<Option<()>, String> {
        let end = self.now + span;
        while !is_so(self) {
            if self.now >= end {
                return Ok(None);
            }
            self.tick()?;
        }
        Ok(Some(()))
    }

    fn tick(&mut self) -> Result<(), String> {
        self.now += TICK;
        let now = self.now;
        if self.lasting.iter().any(|(until, _)| *until <= now) {
            self.renew();
        }
        let due = self.later.extract_if(.., |(at, _)| *at <= now);
        for (_, fault) in due.collect::<Vec<_>>() {
            self.tell(fault.to_string());
            fault.strike(self);
        }
        self.start_due();
        self.around.net.tick(now);
        self.around.api.tick(now);
        let first = self.rng.below(self.nodes.len());
        for n in 0..self.nodes.len() {
            let place = (first + n) % self.nodes.len();
            self.nodes[place].step(now);
        }
        self.reap();
        if now.is_multiple_of(operator::TICK)
            && let Some(place) = self.operator.tick(now, &self.around.api, &self.nodes)
        {
            self.replace(place);
        }
        if now.is_multiple_of(1_000) {
            self.look();
            self.mind_copies();
            if self.is_healed {
                self.mend();
            }
        }
        match self.ledger.sins().first() {
            Some(sin) => Err(format!("at {now}: {sin}")),
            None => Ok(()),
        }
    }

    fn start_due(&mut self) {
        let now = self.now;
        let due: Vec<Place> =
            self.starts.iter().filter(|(_, at)| **at <= now).map(|(place, _)| *place).collect();
        for place in due {
            self.starts.remove(&place);
            self.processes += 1;
            self.around.net.is_back(place);
            self.nodes[place].start(now, self.processes);
        }
    }

    /// Processes that have ended by themselves are started again.
    fn reap(&mut self) {
        for place in 0..self.nodes.len() {
            let outcome = self.nodes[place].process.as_ref().and_then(|process| process.outcome());
            if let Some(outcome) = outcome {
                self.tell(format!("the process at {place} has ended: {outcome:?}"));
                self.crash(place, Crash::Process, RESTART);
            }
        }
    }

    fn look(&mut self) {
        self.ledger.check_all();
        for node in &self.nodes {
            let said = node.process.as_ref().and_then(|process| process.status.get().description);
            if let Some(said) = said {
                self.ledger.promised(&node.id(), said.promise);
            }
        }
    }

    /// The store that is served by the route, if it is.
    pub fn serving(&self) -> Option<(Place, Store)> {
        let objects = self.around.api.objects();
        let ((record, _), (epoch, _, place)) = (objects.lease?, objects.serving?);
        let process = self.nodes[place].process.as_ref()?;
        let status = process.status.get();
        let is_his = record.replica == Some(self.nodes[place].id()) && record.epoch == epoch;
        let store = status.store.filter(|_| status.state == ReplicaState::Primary && is_his)?;
        Some((place, store))
    }

    /// It serves, with every copy.
    pub fn is_well(&self) -> bool {
        let is_in_sync =
            |record: &LeaseRecord| self.nodes.iter().all(|node| record.in_sync.contains(&node.id()));
        let all = self.around.api.objects().lease.is_some_and(|(record, _)| is_in_sync(&record));
        // By the clock of its machine.
        let reads = |(place, store): (Place, Store)| {
            let process = self.nodes[place].process.as_ref();
            process.is_some_and(|process| process.block_on(async { store.may_read() }))
        };
        all && self.serving().is_some_and(reads)
    }

    /// Nothing goes wrong any more: machines whose disks failed are switched on again.
    fn heal(&mut self) {
        self.tell("healed".to_owned());
        self.lasting.clear();
        self.later.clear();
        self.renew();
        self.operator.wanted = None;
        self.is_healed = true;
        for place in 0..self.nodes.len() {
            let failed = self.nodes[place].volume.faults().syncs != Syncs::Work;
            self.nodes[place].heal();
            if failed {
                self.switch_on(place);
            }
        }
        let now = self.now;
        self.starts.values_mut().for_each(|at| *at = (*at).min(now + RESTART));
    }

    fn switch_on(&mut self, place: Place) {
        let state = self.nodes[place].process.as_ref().map(|process| process.status.get().state);
        self.tell(format!("{place} is switched on again: {state:?}"));
        self.crash(place, Crash::Power, RESTART);
    }

    /// Somebody restarts the machines whose replicas ask for it.
    fn mend(&mut self) {
        for place in 0..self.nodes.len() {
            let state = self.nodes[place].process.as_ref().map(|process| process.status.get().state);
            let is_to_go = self.is_to_go(place);
            if !is_to_go && matches!(state, Some(ReplicaState::Poisoned | ReplicaState::Refused(_))) {
                self.switch_on(place);
            }
        }
    }

    /// For people: where everybody stands.
    pub fn picture(&self) -> String {
        let objects = self.around.api.objects();
        let nodes: Vec<String> = self
            .nodes
            .iter()
            .map(|node| match &node.process {
                Some(process) => {
                    let status = process.status.get();
                    let said = status.description.map(|d| (d.end, d.promise, d.in_sync_version));
                    let damaged = node.volume.damaged().0;
                    format!("{} {:?} {said:?} {damaged:?}", node.id(), status.state)
                }
                None => "no process".to_owned(),
            })
            .collect();
        format!("{nodes:#?}\n{objects:#?}")
    }
}
