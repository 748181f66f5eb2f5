//! What was told to clients and what stands in the Lease, held against the invariants of the protocol as it happens.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
};

use mailcluster_failover::{Holder, LeaseRecord, Position};
use mailcluster_store::{
    Mailbox, Message, ReadError, SystemFlag,
    testing::{Rng, volume::Volume},
};
use mailcluster_types::{DeliveryId, Epoch, ModSeq, Seq, Uid};

use crate::net::Place;

/// What clients know of one message.
#[derive(Debug, Clone, Default)]
struct Mail {
    account: u128,
    /// Its delivery was acknowledged.
    is_there: bool,
    /// `\Seen` was asked for, or `\Seen` was acknowledged.
    seen: (bool, bool),
    /// The same for its end.
    gone: (bool, bool),
}

/// What happened, in figures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub delivered: usize,
    pub flagged: usize,
    pub expunged: usize,
    pub read: usize,
    pub unknown: usize,
    /// Texts that were read, and those that were said to be damaged.
    pub texts: usize,
    pub told: usize,
}

impl Counts {
    pub fn add(&mut self, other: &Self) {
        self.delivered += other.delivered;
        self.flagged += other.flagged;
        self.expunged += other.expunged;
        self.read += other.read;
        self.unknown += other.unknown;
        self.texts += other.texts;
        self.told += other.told;
    }
}

#[derive(Default)]
struct State {
    volumes: BTreeMap<String, Volume>,
    in_sync: BTreeSet<String>,
    position: Position,
    epoch: Epoch,
    version: u64,
    /// The process that held each epoch, and the one that acknowledged at it.
    holders: BTreeMap<Epoch, Holder>,
    acknowledged_by: BTreeMap<Epoch, (Place, u64)>,
    acked: BTreeMap<Seq, Epoch>,
    mail: BTreeMap<DeliveryId, Mail>,
    /// Which message a UID names.
    names: BTreeMap<(u64, Uid), DeliveryId>,
    modseqs: BTreeMap<u64, ModSeq>,
    /// The content of each batch.
    content: BTreeMap<(Epoch, Seq), (Seq, u32)>,
    promises: BTreeMap<String, Epoch>,
    /// Batches of which a bit was flipped, at any replica.
    hurt: BTreeSet<(Epoch, Seq)>,
    counts: Counts,
    sins: Vec<String>,
}

/// What a reader must see.
pub struct Expected {
    mailbox: u64,
    there: Vec<DeliveryId>,
    modseq: ModSeq,
}

/// The ledger; cheap to clone.
#[derive(Clone, Default)]
pub struct Ledger(Arc<Mutex<State>>);

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// What was found to be wrong.
    pub fn sins(&self) -> Vec<String> {
        self.lock().sins.clone()
    }

    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    pub fn epochs(&self) -> usize {
        self.lock().acknowledged_by.len()
    }

    /// A replica has another volume under it.
    pub fn has_volume(&self, replica: String, volume: Volume) {
        self.lock().volumes.insert(replica, volume);
    }

    /// A bit of a batch has flipped somewhere.
    pub fn hurt(&self, batch: (Epoch, Seq)) {
        self.lock().hurt.insert(batch);
    }

    /// A text was read: it is the one that was sent, or is said to be damaged where a bit has flipped.
    pub fn text(&self, id: DeliveryId, text: Result<&[u8], &ReadError>) {
        let mut state = self.lock();
        state.counts.texts += 1;
        match text {
            Ok(text) if is_text_of(id, text) => {}
            Ok(_) => state.sins.push(format!("{id:?} is served with another text")),
            Err(_) if !state.hurt.is_empty() => state.counts.told += 1,
            Err(why) => state.sins.push(format!("{id:?} cannot be read, and no bit has flipped: {why}")),
        }
    }

    /// A replica says what it has promised: that never falls.
    pub fn promised(&self, replica: &str, promise: Epoch) {
        let mut state = self.lock();
        let before = state.promises.insert(replica.to_owned(), promise);
        if before.is_some_and(|before| before > promise) {
            state.sins.push(format!("I7 promise_first: {replica} promised {before:?} and says {promise}"));
        }
    }

    pub fn lease_restored(&self, record: &LeaseRecord) {
        let mut state = self.lock();
        // That of a Lease that is gone was noted in no log before it counted: nobody knows it any more.
        (state.position, state.version) = (record.position, record.in_sync_version);
        state.note_lease(record);
    }

    /// A process has replaced the Lease.
    pub fn lease_written(&self, old: &LeaseRecord, next: &LeaseRecord) {
        let mut state = self.lock();
        if next.position < state.position {
            let sin =
                format!("I4 index_le_commit: the commit falls from {} to {}", state.position, next.position);
            state.sins.push(sin);
        }
        let is_taken = next.holder.is_some() && next.epoch > old.epoch && next.replica != old.replica;
        let replica = next.replica.clone().unwrap_or_default();
        if is_taken && !old.in_sync.contains(&replica) {
            state.sins.push(format!("I3 promoted_from_insync: {replica} was not in {:?}", old.in_sync));
        }
        let end = state.volumes.get(&replica).map(Volume::end).unwrap_or_default();
        if is_taken && (Position { epoch: end.0, seq: end.1 }) < old.position {
            state
                .sins
                .push(format!("I9 no_empty_no_stale: {replica} ends at {end:?}, before {}", old.position));
        }
        state.position = next.position;
        state.note_lease(next);
    }

    /// A client was told that this record is there for ever.
    pub fn acknowledged(&self, (place, process): (Place, u64), (epoch, seq): (Epoch, Seq)) {
        let mut state = self.lock();
        let before = *state.acknowledged_by.entry(epoch).or_insert((place, process));
        if before != (place, process) {
            let sin = format!(
                "I1 one_holder_per_epoch: {before:?} and {:?} acknowledge at {epoch}",
                (place, process)
            );
            state.sins.push(sin);
        }
        if let Some(other) = state.acked.insert(seq, epoch).filter(|other| *other != epoch) {
            state.sins.push(format!("I1 one_holder_per_epoch: record {seq} of epochs {other} and {epoch}"));
        }
        state.check((epoch, seq));
    }

    /// Everything that was acknowledged is in every log of the set, and no two logs differ where they have the same.
    pub fn check_all(&self) {
        let mut state = self.lock();
        let acked: Vec<(Epoch, Seq)> = state.acked.iter().map(|(seq, epoch)| (*epoch, *seq)).collect();
        acked.into_iter().for_each(|at| state.check(at));
        let batches: Vec<_> = state.volumes.values().flat_map(Volume::synced).collect();
        for batch in batches {
            let now = (batch.last, batch.crc);
            let before = *state.content.entry((batch.epoch, batch.first)).or_insert(now);
            if before != now {
                let sin = format!(
                    "I5 same_name_same_bytes: {:?} is {before:?} and {now:?}",
                    (batch.epoch, batch.first)
                );
                state.sins.push(sin);
            }
        }
    }

    /// A change was asked for; what it does to the messages that it names.
    pub fn asked(&self, what: &Change) {
        let mut state = self.lock();
        match what {
            Change::Deliver(id, account) => {
                state.mail.entry(*id).or_default().account = *account;
            }
            Change::Seen(id) => state.mail.entry(*id).or_default().seen.0 = true,
            Change::Expunge(id) => state.mail.entry(*id).or_default().gone.0 = true,
        }
    }

    /// It was acknowledged.
    pub fn done(&self, what: &Change) {
        let mut state = self.lock();
        match what {
            Change::Deliver(id, _) => {
                state.counts.delivered += 1;
                state.mail.entry(*id).or_default().is_there = true;
            }
            Change::Seen(id) => {
                state.counts.flagged += 1;
                state.mail.entry(*id).or_default().seen.1 = true;
            }
            Change::Expunge(id) => {
                state.counts.expunged += 1;
                state.mail.entry(*id).or_default().gone.1 = true;
            }
        }
    }

    /// Nobody knows what became of a change.
    pub fn unknown(&self) {
        self.lock().counts.unknown += 1;
    }

    /// A UID was told to a client.
    pub fn named(&self, mailbox: u64, uid: Uid, id: DeliveryId) {
        self.lock().named(mailbox, uid, id);
    }

    /// A message that clients know, and that nobody wants to be gone.
    pub fn some_message(&self, rng: &mut Rng) -> Option<(u64, Uid, DeliveryId)> {
        let state = self.lock();
        let is_wanted = |id: &DeliveryId| state.mail.get(id).is_some_and(|mail| !mail.gone.0);
        let wanted = state.names.iter().filter(|(_, id)| is_wanted(id));
        let all: Vec<_> = wanted.map(|((mailbox, uid), id)| (*mailbox, *uid, *id)).collect();
        (!all.is_empty()).then(|| *rng.pick(&all))
    }

    /// A delivery that was not answered, and its account.
    pub fn some_open(&self, rng: &mut Rng) -> Option<(u128, DeliveryId)> {
        let state = self.lock();
        let open = state.mail.iter().filter(|(_, mail)| !mail.is_there);
        let all: Vec<_> = open.map(|(id, mail)| (mail.account, *id)).collect();
        (!all.is_empty()).then(|| *rng.pick(&all))
    }

    /// Somebody begins to read.
    pub fn expect(&self, account: u128, mailbox: u64) -> Expected {
        let state = self.lock();
        let must = |mail: &Mail| mail.account == account && mail.is_there && !mail.gone.0;
        let there = state.mail.iter().filter(|(_, mail)| must(mail)).map(|(id, _)| *id).collect();
        Expected { mailbox, there, modseq: state.modseqs.get(&mailbox).copied().unwrap_or(0) }
    }

    /// What was read.
    pub fn read(&self, expected: &Expected, mailbox: &Mailbox, messages: &[Message], is_at_once: bool) {
        let mut state = self.lock();
        state.counts.read += 1;
        let mut found = BTreeMap::new();
        for message in messages {
            let Some(id) = message.delivery else { continue };
            state.named(expected.mailbox, message.uid, id);
            if found.insert(id, message.uid).is_some() {
                state.sins.push(format!("{id:?} is there twice"));
            }
        }
        // Until when old state may be read, a lease and clocks say: not where clocks jump.
        if !is_at_once {
            return;
        }
        if let Some(missed) = expected.there.iter().find(|id| !found.contains_key(id)) {
            state.sins.push(format!("a reader missed {missed:?}, which was acknowledged before"));
        }
        if mailbox.highest_modseq < expected.modseq {
            let sin =
                format!("I6 uid_once: MODSEQ was {}, and is {}", expected.modseq, mailbox.highest_modseq);
            state.sins.push(sin);
        }
        let highest = state.modseqs.entry(expected.mailbox).or_default();
        *highest = (*highest).max(mailbox.highest_modseq);
    }

    /// In the end: everything that was acknowledged is there once, nothing that was refused or never asked for.
    pub fn settle(&self, accounts: &BTreeMap<u128, Vec<Message>>) {
        let mut state = self.lock();
        let mut there: BTreeMap<DeliveryId, (u128, bool, usize)> = BTreeMap::new();
        for (account, messages) in accounts {
            for message in messages {
                let Some(id) = message.delivery else { continue };
                there.entry(id).or_insert((*account, message.flags.has(SystemFlag::Seen), 0)).2 += 1;
            }
        }
        let mut sins = Vec::new();
        for (id, mail) in &state.mail {
            let found = there.remove(id);
            let (is_there, is_seen) = (found.is_some(), found.is_some_and(|(_, seen, _)| seen));
            let wrong = [
                (mail.is_there && !mail.gone.0 && !is_there, "was acknowledged and is lost"),
                (found.is_some_and(|(.., count)| count > 1), "is there twice"),
                (found.is_some_and(|(account, ..)| account != mail.account), "is somebody else's"),
                (mail.gone.1 && is_there, "was expunged, which was acknowledged, and is there"),
                (mail.seen.1 && is_there && !is_seen, "has lost a flag that was acknowledged"),
                (!mail.seen.0 && is_seen, "has a flag that nobody asked for"),
            ];
            sins.extend(wrong.iter().filter(|(wrong, _)| *wrong).map(|(_, why)| format!("{id:?} {why}")));
        }
        sins.extend(there.keys().map(|id| format!("{id:?} was never sent")));
        state.sins.extend(sins);
    }
}

/// The text of a message: by its id, and as long as one of [`LENGTHS`].
pub fn text_of(id: DeliveryId, length: usize) -> String {
    format!("Subject: {:x}\r\n\r\n{}\r\n", id.0, "x".repeat(length))
}

/// One that is sent again may be of another length.
pub const LENGTHS: [usize; 3] = [40, 400, 3000];

/// Is this the text of that message?
pub fn is_text_of(id: DeliveryId, text: &[u8]) -> bool {
    LENGTHS.iter().any(|length| text == text_of(id, *length).as_bytes())
}

/// A change of one message.
#[derive(Debug, Clone, Copy)]
pub enum Change {
    Deliver(DeliveryId, u128),
    Seen(DeliveryId),
    Expunge(DeliveryId),
}

impl State {
    fn note_lease(&mut self, record: &LeaseRecord) {
        if record.epoch < self.epoch || record.in_sync_version < self.version {
            let was = (self.epoch, self.version);
            self.sins.push(format!("the Lease falls from {was:?} to {record:?}"));
        }
        (self.epoch, self.version) = (record.epoch, record.in_sync_version);
        if let Some(holder) = &record.holder {
            let before = self.holders.entry(record.epoch).or_insert_with(|| holder.clone());
            if before != holder {
                let sin = format!("I1 one_holder_per_epoch: {before} and {holder} at {}", record.epoch);
                self.sins.push(sin);
            }
        }
        let set: BTreeSet<String> = record.in_sync.iter().cloned().collect();
        if set != self.in_sync {
            self.in_sync = set;
            let acked: Vec<(Epoch, Seq)> = self.acked.iter().map(|(seq, epoch)| (*epoch, *seq)).collect();
            acked.into_iter().for_each(|at| self.check(at));
        }
    }

    fn check(&mut self, at: (Epoch, Seq)) {
        let lacks = |id: &&String| !self.volumes.get(*id).is_some_and(|volume| volume.has_synced(at));
        if let Some(id) = self.in_sync.iter().find(lacks) {
            self.sins.push(format!("I2 acked_in_every_insync: {id} lacks {at:?} of {:?}", self.in_sync));
        }
    }

    fn named(&mut self, mailbox: u64, uid: Uid, id: DeliveryId) {
        let before = *self.names.entry((mailbox, uid)).or_insert(id);
        if before != id {
            self.sins.push(format!("I6 uid_once: {uid} of mailbox {mailbox} names {before:?} and {id:?}"));
        }
    }
}
