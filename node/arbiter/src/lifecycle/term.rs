//! The lease as its holder knows it: renewed while something else goes on, and lost in time.

use std::{collections::BTreeSet, pin::pin, sync::Arc, time::Duration};

use mailcluster_failover::{Demotion, LeaseRecord, Millis, Position, demote, mirror::Probation};
use mailcluster_replication::Progress;
use mailcluster_store::{Repairs, Store};
use mailcluster_types::Seq;
use tokio::{task::JoinHandle, time::Instant};

use super::{Life, members::millis};
use crate::{
    arbiter::{Current, SwapError},
    clock::boottime,
    gate::LeaseGate,
};

/// How often a primary looks whether its in-sync set is to change.
const MEMBERS: Millis = 100;

/// Why a term ended.
#[derive(Debug)]
pub(super) enum Why {
    Demoted(Demotion),
    Drained,
    Shutdown,
    Poisoned,
    /// The store stopped by itself.
    StoreStopped,
    /// This mirror has committed what this replica does not have: it must serve.
    Yielded(String),
    /// The disk has neither answered nor failed for D, and a mirror can serve.
    DiskHangs,
    /// Nobody was heard for long: it is this replica that is cut off, and a mirror can serve (B5).
    Isolated,
}

/// An in-sync set with its version.
pub(super) type Noted = (u64, BTreeSet<String>);

/// One holding of the lease, from its taking to its end.
pub(super) struct Term {
    pub current: Current,
    pub record: LeaseRecord,
    pub progress: Arc<Progress>,
    /// What is done about damage in the log.
    pub repairs: Arc<Repairs>,
    /// The store, once it could serve.
    pub store: Option<Store>,
    /// What the replica waits for while it settles, and since when.
    pub settling: Option<(Seq, Instant)>,
    /// The in-sync set that this term has put into the log, and that it is about to put there.
    pub noted: Option<Noted>,
    pub noting: Option<JoinHandle<Option<Noted>>>,
    /// The mirrors that were left out in it.
    pub probation: Probation,
    /// When somebody was still heard: a frontend, or a mirror.
    pub heard_at: Option<Millis>,
    next_renewal: Millis,
    next_look: Millis,
    /// When something could be acknowledged last.
    open_at: Millis,
    /// The highest epoch of the store that was heard of and found to be no other's.
    believed: u64,
    /// Was it said that nothing is acknowledged?
    shut: bool,
}

impl Term {
    pub fn new(
        taken: (Current, LeaseRecord),
        (progress, repairs): (Arc<Progress>, Arc<Repairs>),
        lease_ms: Millis,
    ) -> Self {
        let ((current, record), now) = (taken, boottime());
        Self {
            believed: record.epoch,
            current,
            record,
            progress,
            repairs,
            store: None,
            settling: None,
            noted: None,
            noting: None,
            probation: Probation::default(),
            heard_at: None,
            next_renewal: now + lease_ms / 4,
            next_look: now,
            open_at: now,
            shut: false,
        }
    }

    /// The record was written, or read. What a swap of the in-sync set came to is known as soon as another version is
    /// there than the one it would have replaced: before that, the request may still be on its way (A6).
    pub fn adopt(&mut self, current: Current, record: LeaseRecord) {
        if current.version != self.current.version {
            self.progress.settled(record.in_sync.clone());
        }
        (self.current, self.record) = (current, record);
    }

    /// Everything up to here is in the log of each replica of the in-sync set.
    pub fn committed(&self) -> Position {
        self.progress.committed().max(self.record.position)
    }
}

impl Life {
    /// Does `work`, renewing the lease and minding the in-sync set meanwhile, until it is done or the term over.
    pub(super) async fn during<T>(&self, term: &mut Term, work: impl Future<Output = T>) -> Result<T, Why> {
        let mut work = pin!(work);
        loop {
            let next =
                if self.is_mirrored() { term.next_look.min(term.next_renewal) } else { term.next_renewal };
            let wait = Duration::from_millis(next.saturating_sub(boottime()));
            tokio::select! {
                done = &mut work => return Ok(done),
                () = self.shutdown.cancelled() => return Err(Why::Shutdown),
                () = self.gate.wait_poisoned() => return Err(Why::Poisoned),
                seen = self.status.higher_epoch(term.believed) => {
                    if let Some(why) = self.told_of(seen, term).await {
                        return Err(Why::Demoted(why));
                    }
                    term.believed = seen;
                }
                () = tokio::time::sleep(wait) => self.mind(term).await?,
            }
        }
    }

    /// What is due by now.
    async fn mind(&self, term: &mut Term) -> Result<(), Why> {
        if self.is_mirrored() && boottime() >= term.next_look {
            term.next_look = boottime() + MEMBERS;
            self.mind_members(term).await.map_err(Why::Demoted)?;
            self.listen(term);
            if self.is_isolated(term) {
                return Err(Why::Isolated);
            }
            if self.hangs(term) {
                return Err(Why::DiskHangs);
            }
        }
        if boottime() < term.next_renewal {
            return Ok(());
        }
        let lease_ms = self.config.lease_ms();
        if !self.arbiter.supervised() {
            term.next_renewal = boottime() + lease_ms;
            return Ok(());
        }
        let asked = boottime();
        let renewed = self.renew(term).await.map_err(Why::Demoted)?;
        term.tell_of_silence(&self.gate);
        if self.gate.would_open() {
            term.open_at = boottime();
        }
        let silent = boottime().saturating_sub(term.open_at).max(term.held_up(&self.gate));
        if let Some(why) = demote(&self.config.me(), term.record.epoch, None, 0, silent, lease_ms) {
            return Err(Why::Demoted(why));
        }
        // On time after a success; with a random pause of less than a second after a failure (F2).
        term.next_renewal = if renewed { asked + lease_ms / 4 } else { boottime() + 200 + asked % 600 };
        Ok(())
    }

    /// A peer or frontend of the cluster asked for a higher epoch of this store. The lease decides; where it cannot be
    /// read, whoever was told of that epoch is believed.
    async fn told_of(&self, seen: u64, term: &Term) -> Option<Demotion> {
        let epoch = term.record.epoch;
        tracing::warn!(seen, epoch, "somebody asked for a higher epoch of this store");
        let record = self.arbiter.current().await.ok().and_then(|current| current.record);
        let highest = if record.is_some() { 0 } else { seen };
        demote(&self.config.me(), epoch, record.as_ref(), highest, 0, self.config.lease_ms())
    }

    /// One renewal, without reading first; `true` when it succeeded.
    async fn renew(&self, term: &mut Term) -> Result<bool, Demotion> {
        let mut next = term.record.clone();
        next.position = term.committed();
        let rules = self.config.rules();
        (next.in_force, next.min_in_sync) = (Some(rules), rules.min_in_sync());
        self.write(term, next).await
    }

    /// Writes the holder's record. A conflict is read, and what has no known outcome too; another holder or epoch there
    /// ends the term. `true` when it was written.
    pub(super) async fn write(&self, term: &mut Term, next: LeaseRecord) -> Result<bool, Demotion> {
        let asked = boottime();
        match self.arbiter.swap(&term.current, &next).await {
            Ok(current) => {
                self.gate.renewed(&next, asked, self.config.lease_ms());
                term.adopt(current, next);
                Ok(true)
            }
            Err(SwapError::Conflict | SwapError::Unknown(_)) => {
                self.reread(term, next.epoch).await?;
                Ok(false)
            }
            Err(SwapError::Refused(why)) => {
                tracing::error!(%why, "the lease cannot be written");
                Ok(false)
            }
        }
    }

    /// What is there now? Mine, at my epoch or at the one that was just written: the next swap goes on from that
    /// version (somebody touched a label, or an answer was lost). A record of an earlier in-sync set is from a backup: who
    /// has everything is what this term has written since, and the next swap says it again (A5).
    async fn reread(&self, term: &mut Term, written: u64) -> Result<(), Demotion> {
        let current = match self.arbiter.current().await {
            Ok(current) => current,
            Err(error) => {
                tracing::warn!(%error, "the lease could be neither written nor read");
                return Ok(());
            }
        };
        let Some(mut record) = current.record.clone() else {
            tracing::warn!(
                "the lease is missing; serving goes on by the rules in force until it is made anew"
            );
            return Ok(());
        };
        let me = self.config.me();
        let epoch = if record.epoch == written { written } else { term.record.epoch };
        if let Some(why) = demote(&me, epoch, Some(&record), 0, 0, self.config.lease_ms()) {
            return Err(why);
        }
        if record.in_sync_version < term.record.in_sync_version {
            let (read, kept) = (record.in_sync_version, term.record.in_sync_version);
            tracing::warn!(read, kept, "the lease is from a backup: the in-sync set of this term is kept");
            record.in_sync.clone_from(&term.record.in_sync);
            record.in_sync_version = kept;
            record.forced = record.forced.max(term.record.forced);
        }
        term.adopt(current, record);
        Ok(())
    }

    /// Gives the lease back: nobody writes to this volume any more, so the next may come without waiting. Of a store
    /// with mirrors, `heir` takes it at once.
    pub(super) async fn release(&self, term: &mut Term, heir: Option<String>) {
        for _ in 0..3 {
            let mut next = term.record.clone();
            next.position = term.committed();
            next.holder = None;
            next.transfer_to = heir.clone();
            match self.arbiter.swap(&term.current, &next).await {
                Ok(_) => {
                    tracing::info!(epoch = term.record.epoch, heir, "the lease is released");
                    return;
                }
                Err(SwapError::Refused(why)) => {
                    tracing::warn!(%why, "the lease is not released");
                    return;
                }
                // After an unknown outcome too: it is released, or still mine and tried again.
                Err(SwapError::Conflict | SwapError::Unknown(_)) => {
                    let epoch = term.record.epoch;
                    if self.reread(term, epoch).await.is_err() {
                        return;
                    }
                }
            }
        }
        tracing::warn!("the lease could not be released; the operator waits for it to run out");
    }
}

impl Term {
    /// For how long a change has waited for mirrors, when the lease is not good: they may follow another by now.
    fn held_up(&self, gate: &LeaseGate) -> Millis {
        let waited = self.progress.waiting().filter(|_| boottime() >= gate.lease_until());
        waited.map_or(0, |(_, span)| millis(span))
    }

    /// Says once that nothing is acknowledged any more, and since when; and once that it is again.
    fn tell_of_silence(&mut self, gate: &LeaseGate) {
        let (open, epoch) = (gate.would_open(), self.record.epoch);
        if open == self.shut {
            match open {
                true => tracing::info!(epoch, "acknowledging again"),
                false => tracing::warn!(
                    epoch,
                    since_ms = boottime().saturating_sub(gate.lease_until()),
                    "the lease is not renewed: nothing is acknowledged, since so many milliseconds"
                ),
            }
        }
        self.shut = !open;
    }
}
