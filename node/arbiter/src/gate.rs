//! The gate of a store: `may_acknowledge` over the process' own state. It reads a clock, a few atomics and what mirrors
//! have confirmed, and never waits.

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use mailcluster_failover::{
    AckState, Durability, FencingMinimum, InForce, LeaseRecord, Millis, Position, Role, may_acknowledge,
    may_read, may_write,
};
use mailcluster_replication::{Progress, Standing};
use mailcluster_store::Gate;
use tokio::sync::Notify;

use crate::clock::boottime;

/// Implements [`Gate`]. Shared by the lifecycle, which moves it, and the store, which asks it.
pub struct LeaseGate {
    role: AtomicU8,
    epoch: AtomicU64,
    lease_until: AtomicU64,
    renewed_at: AtomicU64,
    lease_ms: AtomicU64,
    rules: AtomicU8,
    min_in_sync: AtomicUsize,
    /// Of the present term, or the last one.
    progress: RwLock<Option<Arc<Progress>>>,
    poisoned: Notify,
    clock: fn() -> Millis,
}

impl LeaseGate {
    /// A closed gate.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Self::with_clock(boottime)
    }

    /// A closed gate with another clock, for tests.
    #[must_use]
    pub fn with_clock(clock: fn() -> Millis) -> Arc<Self> {
        Arc::new(Self {
            role: AtomicU8::new(Role::Opening as u8),
            epoch: AtomicU64::new(0),
            lease_until: AtomicU64::new(0),
            renewed_at: AtomicU64::new(0),
            lease_ms: AtomicU64::new(0),
            rules: AtomicU8::new(0),
            min_in_sync: AtomicUsize::new(1),
            progress: RwLock::new(None),
            poisoned: Notify::new(),
            clock,
        })
    }

    /// What the process is now.
    #[must_use]
    pub fn role(&self) -> Role {
        match self.role.load(Ordering::Acquire) {
            0 => Role::Opening,
            1 => Role::Standby,
            2 => Role::Candidate,
            3 => Role::Settling,
            4 => Role::Primary,
            5 => Role::Draining,
            6 => Role::Poisoned,
            _ => Role::Refused,
        }
    }

    /// The epoch it holds, or held last.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Until when the last renewal is good (milliseconds of CLOCK_BOOTTIME); 0 before the first.
    #[must_use]
    pub fn lease_until(&self) -> Millis {
        self.lease_until.load(Ordering::Acquire)
    }

    /// When the last renewal was asked for (milliseconds of CLOCK_BOOTTIME); 0 before the first.
    #[must_use]
    pub fn renewed_at(&self) -> Millis {
        self.renewed_at.load(Ordering::Acquire)
    }

    /// Changes the role. A poisoned gate stays poisoned.
    pub(crate) fn set_role(&self, role: Role) {
        let _ = self.role.fetch_update(Ordering::AcqRel, Ordering::Acquire, |old| {
            (old != Role::Poisoned as u8).then_some(role as u8)
        });
    }

    /// A term begins: what is committed, and who must have it, is known from here on.
    pub(crate) fn follow(&self, progress: Arc<Progress>) {
        *self.progress.write().unwrap_or_else(PoisonError::into_inner) = Some(progress);
    }

    /// The lease was taken or renewed, as this record, by a request that began at `asked`.
    pub(crate) fn renewed(&self, record: &LeaseRecord, asked: Millis, lease_ms: Millis) {
        self.epoch.store(record.epoch, Ordering::Release);
        self.rules.store(record.in_force.map_or(0, encode), Ordering::Release);
        self.min_in_sync.store(record.min_in_sync, Ordering::Release);
        self.lease_ms.store(lease_ms, Ordering::Release);
        self.renewed_at.store(asked, Ordering::Release);
        self.lease_until.store(asked + lease_ms * 3 / 4, Ordering::Release);
    }

    /// The holder goes on at this epoch.
    pub(crate) fn raise(&self, epoch: u64) {
        self.epoch.store(epoch, Ordering::Release);
    }

    /// Resolves once a sync has failed.
    pub(crate) async fn wait_poisoned(&self) {
        loop {
            let notified = self.poisoned.notified();
            if self.role() == Role::Poisoned {
                return;
            }
            notified.await;
        }
    }

    fn state(&self) -> AckState {
        let span = Duration::from_millis(self.lease_ms.load(Ordering::Acquire) * 3 / 4);
        let progress = self.progress.read().unwrap_or_else(PoisonError::into_inner);
        let nothing = Standing { commit: 0, effective: 0, others_heard: false };
        let standing = progress.as_ref().map_or(nothing, |progress| progress.standing(span));
        AckState {
            role: self.role(),
            epoch: self.epoch(),
            commit: standing.commit,
            effective: standing.effective,
            others_heard: standing.others_heard,
            min_in_sync: self.min_in_sync.load(Ordering::Acquire),
            in_force: decode(self.rules.load(Ordering::Acquire)),
            lease_until: self.lease_until(),
            now: (self.clock)(),
        }
    }

    /// Could a change of the present epoch be acknowledged now?
    #[must_use]
    pub fn open(&self) -> bool {
        may_acknowledge(&self.state(), Position { epoch: self.epoch(), seq: 0 })
    }
}

impl LeaseGate {
    /// Could a change of the present epoch be acknowledged, if this process were the primary already, and enough copies had
    /// joined? One that was forced waits for them as long as it takes.
    pub(crate) fn would_open(&self) -> bool {
        let state = AckState { role: Role::Primary, min_in_sync: 1, ..self.state() };
        may_acknowledge(&state, Position { epoch: self.epoch(), seq: 0 })
    }
}

impl Gate for LeaseGate {
    fn may_acknowledge(&self, epoch: u64, seq: u64) -> bool {
        may_acknowledge(&self.state(), Position { epoch, seq })
    }

    fn may_read(&self) -> bool {
        may_read(&self.state())
    }

    fn has_enough_copies(&self) -> bool {
        let state = self.state();
        state.effective >= state.min_in_sync
    }

    fn may_write(&self) -> bool {
        may_write(&self.state())
    }

    fn poisoned(&self) {
        self.role.store(Role::Poisoned as u8, Ordering::Release);
        self.poisoned.notify_waiters();
    }
}

fn encode(rules: InForce) -> u8 {
    let durability = match rules.durability {
        Durability::Single => 1,
        Durability::Preferred => 2,
        Durability::Required => 3,
    };
    let fencing = match rules.fencing {
        FencingMinimum::LeaseExpired => 0,
        FencingMinimum::Statement => 1,
        FencingMinimum::Proof => 2,
    };
    durability << 4 | fencing
}

fn decode(rules: u8) -> Option<InForce> {
    let durability = match rules >> 4 {
        1 => Durability::Single,
        2 => Durability::Preferred,
        3 => Durability::Required,
        _ => return None,
    };
    let fencing = match rules & 15 {
        0 => FencingMinimum::LeaseExpired,
        1 => FencingMinimum::Statement,
        _ => FencingMinimum::Proof,
    };
    Some(InForce { durability, fencing })
}

#[cfg(test)]
mod tests {
    use mailcluster_failover::mirror::InSync;
    use mailcluster_replication::{Begun, Confirmed};
    use mailcluster_store::EpochMark;

    use super::*;

    /// A term at epoch 3 of a replica whose in-sync set has these, its log synced up to record 9.
    fn term(in_sync: &[&str]) -> Arc<Progress> {
        let set = InSync::new(in_sync.iter().map(|id| (*id).to_owned()), 1);
        let epochs = vec![EpochMark { epoch: 3, first_seq: 9, forced: false }];
        Arc::new(Progress::new("a".into(), set, Begun { epochs, end: 9, commit: 8 }))
    }

    fn record(fencing: FencingMinimum) -> LeaseRecord {
        let in_force = Some(InForce { durability: Durability::Single, fencing });
        LeaseRecord { epoch: 3, in_force, ..LeaseRecord::initial(vec!["a".into()], 1) }
    }

    #[test]
    fn f13_case_a_alone_ends_at_three_quarters_by_the_clock() {
        static NOW: AtomicU64 = AtomicU64::new(1_000);
        let gate = LeaseGate::with_clock(|| NOW.load(Ordering::SeqCst));
        gate.follow(term(&["a"]));
        gate.renewed(&record(FencingMinimum::LeaseExpired), 1_000, 8_000);
        assert!(!gate.may_acknowledge(3, 1), "not primary yet");
        gate.set_role(Role::Primary);
        NOW.store(6_999, Ordering::SeqCst);
        assert!(gate.may_acknowledge(3, 1) && gate.may_read() && !gate.may_acknowledge(2, 1));
        NOW.store(7_000, Ordering::SeqCst);
        assert!(!gate.may_acknowledge(3, 1) && !gate.may_read());
        gate.renewed(&record(FencingMinimum::Proof), 1_000, 8_000);
        assert!(gate.may_acknowledge(3, 1), "case c");
    }

    #[test]
    fn what_a_mirror_must_have_and_has_not_is_not_acknowledged() {
        static NOW: AtomicU64 = AtomicU64::new(1_000);
        let gate = LeaseGate::with_clock(|| NOW.load(Ordering::SeqCst));
        let progress = term(&["a", "b"]);
        gate.follow(progress.clone());
        gate.renewed(&record(FencingMinimum::LeaseExpired), 1_000, 8_000);
        gate.set_role(Role::Primary);
        assert!(gate.may_acknowledge(3, 8) && !gate.may_acknowledge(3, 9));
        let said_at = mailcluster_store::machine::boottime();
        progress.confirm(3, "b", Confirmed { synced: 9, applied: 8, said_at });
        assert!(gate.may_acknowledge(3, 9));
        NOW.store(60_000, Ordering::SeqCst);
        assert!(gate.may_acknowledge(3, 9), "case b: whoever could take over has it, or promised not to");
        assert!(gate.may_read(), "it was heard");
    }

    #[test]
    fn poison_is_for_ever() {
        let gate = LeaseGate::new();
        gate.poisoned();
        gate.set_role(Role::Primary);
        assert_eq!(gate.role(), Role::Poisoned);
        assert!(!gate.may_read());
    }
}
