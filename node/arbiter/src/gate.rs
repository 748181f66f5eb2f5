//! The gate of a store: `may_acknowledge` over the process' own state. It reads a clock and a few atomics, and never
//! waits.

use std::sync::{
    Arc,
    atomic::{AtomicU8, AtomicU64, Ordering},
};

use mailcluster_failover::{
    AckState, Durability, FencingMinimum, InForce, Millis, Position, Role, may_acknowledge, may_read,
    may_write,
};
use mailcluster_store::Gate;
use tokio::sync::Notify;

use crate::clock::boottime;

/// Implements [`Gate`] for a single copy. Shared by the lifecycle, which moves it, and the store, which asks it.
#[derive(Debug)]
pub struct LeaseGate {
    role: AtomicU8,
    epoch: AtomicU64,
    lease_until: AtomicU64,
    renewed_at: AtomicU64,
    rules: AtomicU8,
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
            rules: AtomicU8::new(0),
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

    /// The lease was taken or renewed by a request that began at `asked`, under these rules.
    pub(crate) fn renewed(&self, epoch: u64, asked: Millis, lease_ms: Millis, rules: InForce) {
        self.epoch.store(epoch, Ordering::Release);
        self.rules.store(encode(rules), Ordering::Release);
        self.renewed_at.store(asked, Ordering::Release);
        self.lease_until.store(asked + lease_ms * 3 / 4, Ordering::Release);
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
        AckState {
            role: self.role(),
            epoch: self.epoch(),
            // The store asks only for what it has committed.
            commit: u64::MAX,
            effective: 1,
            others_heard: false,
            min_in_sync: 1,
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
    /// Could a change of the present epoch be acknowledged, if this process were the primary already?
    pub(crate) fn would_open(&self) -> bool {
        let state = AckState { role: Role::Primary, ..self.state() };
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
    use super::*;

    const SINGLE_LEASE: InForce =
        InForce { durability: Durability::Single, fencing: FencingMinimum::LeaseExpired };

    #[test]
    fn f13_case_a_alone_ends_at_three_quarters_by_the_clock() {
        static NOW: AtomicU64 = AtomicU64::new(1_000);
        let gate = LeaseGate::with_clock(|| NOW.load(Ordering::SeqCst));
        gate.renewed(3, 1_000, 8_000, SINGLE_LEASE);
        assert!(!gate.may_acknowledge(3, 1), "not primary yet");
        gate.set_role(Role::Primary);
        NOW.store(6_999, Ordering::SeqCst);
        assert!(gate.may_acknowledge(3, 1) && gate.may_read() && !gate.may_acknowledge(2, 1));
        NOW.store(7_000, Ordering::SeqCst);
        assert!(!gate.may_acknowledge(3, 1) && !gate.may_read());
        gate.renewed(3, 1_000, 8_000, InForce { fencing: FencingMinimum::Proof, ..SINGLE_LEASE });
        assert!(gate.may_acknowledge(3, 1), "case c");
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
