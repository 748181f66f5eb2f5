//! Conditions: their types, and how they are merged into what is there.

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};

/// Everything wanted is there and every store serves.
pub const READY: &str = "Ready";
/// Something is being brought about.
pub const PROGRESSING: &str = "Progressing";
/// It works, but not as well as it should.
pub const DEGRADED: &str = "Degraded";
/// A store is moving.
pub const FAILING_OVER: &str = "FailingOver";
/// A store should move and cannot; the message says why and what to do.
pub const FAILOVER_BLOCKED: &str = "FailoverBlocked";
/// A person had a copy take the store that lacked something, and not every copy follows it yet; the message says what is
/// known to be missing, and which copies keep it.
pub const FORCED: &str = "Forced";
/// Something of a store could not be read on the disk of the copy that serves; the message says what became of it.
pub const DISK_DAMAGED: &str = "DiskDamaged";
/// A copy's index differs from that of the copy that serves: one of the two is wrong, and nobody knows which.
pub const COPIES_DIFFER: &str = "CopiesDiffer";
/// The client-facing Service has no address yet.
pub const ADDRESS_PENDING: &str = "AddressPending";
/// Mail for a store that is away could not be taken by any other.
pub const NO_HAND_OFF_TARGET: &str = "NoHandOffTarget";
/// What clients are shown is self-signed, broken or about to expire.
pub const TLS_READY: &str = "TLSReady";
/// A volume that was there is gone; nothing is made in its place.
pub const VOLUME_MISSING: &str = "VolumeMissing";
/// Only one node reaches a store's disk: nothing can reattach it when that node dies.
pub const SINGLE_NODE_VOLUME: &str = "SingleNodeVolume";
/// The operator has been told to change nothing.
pub const PAUSED: &str = "Paused";

/// A condition to be, before it is known since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    type_: &'static str,
    status: &'static str,
    reason: &'static str,
    message: String,
}

impl Draft {
    /// The condition holds.
    pub fn yes(type_: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { type_, status: "True", reason, message: message.into() }
    }

    /// The condition does not hold.
    pub fn no(type_: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { type_, status: "False", reason, message: message.into() }
    }

    /// It cannot be told.
    pub fn unknown(type_: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { type_, status: "Unknown", reason, message: message.into() }
    }

    /// Does it hold?
    #[must_use]
    pub fn is_true(&self) -> bool {
        self.status == "True"
    }

    /// [`Self::yes`] or [`Self::no`].
    #[must_use]
    pub fn of(type_: &'static str, holds: bool, reason: &'static str, message: impl Into<String>) -> Self {
        if holds { Self::yes(type_, reason, message) } else { Self::no(type_, reason, message) }
    }

    /// Its type.
    #[must_use]
    pub fn type_(&self) -> &'static str {
        self.type_
    }

    /// The condition, with the time of its last transition taken from `old` where the status is the same.
    #[must_use]
    pub fn finish(self, old: &[Condition], generation: Option<i64>, now: Timestamp) -> Condition {
        let since = old
            .iter()
            .find(|c| c.type_ == self.type_ && c.status == self.status)
            .map_or(Time(now), |c| c.last_transition_time.clone());
        Condition {
            type_: self.type_.into(),
            status: self.status.into(),
            reason: self.reason.into(),
            message: self.message,
            observed_generation: generation,
            last_transition_time: since,
        }
    }
}

/// Finishes all drafts against what was there.
#[must_use]
pub fn merge(
    drafts: Vec<Draft>,
    old: &[Condition],
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    drafts.into_iter().map(|draft| draft.finish(old, generation, now)).collect()
}

/// Is the condition of this type true?
#[must_use]
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    conditions.iter().any(|c| c.type_ == type_ && c.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transition_is_dated_only_when_the_status_changes() {
        let (t1, t2) = (Timestamp::from_second(1).unwrap(), Timestamp::from_second(2).unwrap());
        let first = Draft::yes(READY, "AllServing", "ok").finish(&[], Some(1), t1);
        let same = Draft::yes(READY, "AllServing", "still").finish(std::slice::from_ref(&first), Some(2), t2);
        assert_eq!((same.last_transition_time.0, same.observed_generation), (t1, Some(2)));
        let other = Draft::no(READY, "StoreDown", "demo-0").finish(&[first], Some(2), t2);
        assert_eq!(other.last_transition_time.0, t2);
    }
}
