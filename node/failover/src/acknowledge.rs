//! `may_acknowledge` and `may_read`: asked after sync and confirmations, with nothing awaited between the answer and
//! the reply to the client.

use crate::{Durability, FencingMinimum, InForce, Millis, Position};

/// What a replica process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Role {
    /// It opens its volume, or waits until it may.
    Opening = 0,
    /// Open, and not serving.
    Standby = 1,
    /// It tries to take the lease.
    Candidate = 2,
    /// It has the lease and has not published its route yet.
    Settling = 3,
    /// It serves.
    Primary = 4,
    /// It hands the store over.
    Draining = 5,
    /// A sync failed: it never serves again on this boot.
    Poisoned = 6,
    /// It refuses its volume or its lease and says why.
    Refused = 7,
}

/// What the answer depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AckState {
    /// What this process is.
    pub role: Role,
    /// The epoch it serves at.
    pub epoch: u64,
    /// Synced by every member of the effective in-sync set, up to here.
    pub commit: u64,
    /// Members of the effective in-sync set (the union, while its change is under way), this replica among them.
    pub effective: usize,
    /// Have all others of that set confirmed a frame within 3D/4?
    pub others_heard: bool,
    /// Members wanted for writes.
    pub min_in_sync: usize,
    /// The rules as written to the lease, never as wished by the spec.
    pub in_force: Option<InForce>,
    /// Start of the last successful renewal + 3D/4.
    pub lease_until: Millis,
    /// Now.
    pub now: Millis,
}

impl AckState {
    /// Case a: the lease is good by this boot's own clock.
    fn lease_good(&self) -> bool {
        self.now < self.lease_until
    }

    /// Case b: others must confirm at this epoch; whoever could take over has promised not to, or has the record.
    fn others_confirm(&self) -> bool {
        self.effective > 1
    }

    /// Case c: alone, and nothing short of a proof of death or a person could let another process take over.
    fn only_proof_could_replace(&self) -> bool {
        self.effective == 1
            && match self.in_force {
                Some(InForce { durability: Durability::Single, fencing }) => fencing == FencingMinimum::Proof,
                Some(InForce { durability: Durability::Preferred, .. }) => true,
                Some(InForce { durability: Durability::Required, .. }) | None => false,
            }
    }
}

/// May a change at `record` be acknowledged to a client now?
#[must_use]
pub fn may_acknowledge(state: &AckState, record: Position) -> bool {
    state.role == Role::Primary
        && record.epoch == state.epoch
        && record.seq <= state.commit
        && state.effective >= state.min_in_sync.max(1)
        && (state.lease_good() || state.others_confirm() || state.only_proof_could_replace())
}

/// May this replica write to its volume now? Asked before each append, and before it is marked as closed in order:
/// where a lease alone keeps others off the volume, another process may have it once that has run out.
#[must_use]
pub fn may_write(state: &AckState) -> bool {
    !matches!(state.role, Role::Opening | Role::Poisoned | Role::Refused)
        && (state.lease_good() || state.others_confirm() || state.only_proof_could_replace())
}

/// May reads be served now?
#[must_use]
pub fn may_read(state: &AckState) -> bool {
    state.role == Role::Primary
        && (state.lease_good()
            || (state.others_confirm() && state.others_heard)
            || state.only_proof_could_replace())
}
