//! Detection by two paths: the lease, by the observer's own clock, and what the frontends can reach.

use std::collections::VecDeque;

use crate::{LeaseRecord, Millis, Observation, PodState, evidence::same_kernel_lock};

/// So many replaced versions are remembered.
const SUPERSEDED: usize = 8;

/// One observer's view of one Lease over time (A2, F9). It trusts quorum reads only.
#[derive(Debug, Clone, Default)]
pub struct LeaseWatch {
    seen: Option<(String, Millis)>,
    /// Versions that others have replaced: a watch that lags behind a quorum read shows them again.
    superseded: VecDeque<String>,
    since: Option<Millis>,
    changed: bool,
}

impl LeaseWatch {
    /// A quorum read that began at `asked` showed `resource_version`. Answers for how long that version has been seen.
    ///
    /// The first sight of a version counts from the end of the read that showed it (`now`); it is known to be
    /// unchanged up to the beginning of the latest one.
    pub fn observe(&mut self, resource_version: &str, asked: Millis, now: Millis) -> Millis {
        match &self.seen {
            Some((version, since))
                if version == resource_version
                    || self.superseded.iter().any(|old| old == resource_version) =>
            {
                asked.saturating_sub(*since)
            }
            _ => {
                self.changed = self.seen.is_some();
                self.superseded.extend(self.seen.take().map(|(version, _)| version));
                while self.superseded.len() > SUPERSEDED {
                    self.superseded.pop_front();
                }
                self.since.get_or_insert(now);
                self.seen = Some((resource_version.to_owned(), now));
                0
            }
        }
    }

    /// Was the record seen to change (and so to be written) since the watch began?
    #[must_use]
    pub fn changed(&self) -> bool {
        self.changed
    }

    /// For how long the watch has gone on.
    #[must_use]
    pub fn watched_for(&self, now: Millis) -> Millis {
        self.since.map_or(0, |since| now.saturating_sub(since))
    }

    /// A read failed: whatever was written meanwhile went unseen, so the wait starts anew (F2).
    pub fn failed(&mut self) {
        *self = Self::default();
    }
}

/// What the frontends on Ready nodes answered when asked for this store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reach {
    /// Frontends on Ready nodes.
    pub frontends: usize,
    /// Those that answered.
    pub answered: usize,
    /// Those that reach the store.
    pub reach: usize,
    /// Those that may still say so: they were not asked yet, or have not answered and are waited for.
    pub pending: usize,
}

/// Why a store whose lease is not renewed does not count as lost (yet).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Undetected {
    /// The lease was written within D, or this observer has not watched for D.
    LeaseFresh,
    /// A frontend reaches it: it is not fenced.
    FrontendReachesIt,
    /// Too few frontends answered to say.
    TooFewReports,
    /// No frontend is there to ask, and the node's condition does not agree.
    NodeDisagrees,
}

/// Is the holder lost?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detection {
    /// Both paths say so.
    Lost,
    /// Not yet, or not.
    Not(Undetected),
}

/// Judges whether the lease's holder is lost.
///
/// Frontends on Ready nodes must agree: two of them where there are two, else the one. With none left, the node's
/// condition must agree with the lease. A process that itself says that it does not hold the store settles it.
#[must_use]
pub fn detect(o: &Observation) -> Detection {
    let Some(lease) = &o.lease else { return Detection::Not(Undetected::LeaseFresh) };
    if lease.fresh(o.store.lease_ms) {
        return Detection::Not(Undetected::LeaseFresh);
    }
    if holder_says_so(o, &lease.record) {
        return Detection::Lost;
    }
    if o.reach.reach > 0 {
        return Detection::Not(Undetected::FrontendReachesIt);
    }
    if o.reach.pending > 0 {
        return Detection::Not(Undetected::TooFewReports);
    }
    if o.reach.frontends == 0 {
        return if holder_node_lost(o) { Detection::Lost } else { Detection::Not(Undetected::NodeDisagrees) };
    }
    if o.reach.answered >= o.reach.frontends.min(2) {
        Detection::Lost
    } else if o.reach.answered == 0 && holder_node_lost(o) {
        // A frontend counted as Ready a moment ago and gone with the same machine: as with none left.
        Detection::Lost
    } else {
        Detection::Not(Undetected::TooFewReports)
    }
}

/// The holder's own pod answers, and not as a holder does: its process ended and another one is there. A pod elsewhere
/// says nothing of the holder (somebody may have deleted the pod object of one that serves on, cut off from the API);
/// unless it has the lock that the holder held for life.
fn holder_says_so(o: &Observation, record: &LeaseRecord) -> bool {
    let (Some(pod), Some(holder)) = (&o.pod, &record.holder) else { return false };
    let stopped = matches!(
        pod.state,
        PodState::Waiting
            | PodState::Standby
            | PodState::CrashLoop
            | PodState::Refused(_)
            | PodState::Poisoned
    );
    stopped && (pod.uid == holder.pod_uid || same_kernel_lock(o, &holder.pod_uid))
}

fn holder_node_lost(o: &Observation) -> bool {
    let Some(placement) = &o.placement else { return false };
    o.node(&placement.node).is_none_or(|n| !n.ready || !placement.is(n) || placement.other_boot(n))
}
