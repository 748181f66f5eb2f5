//! How a process gets the lease, and when it has lost it.

use crate::{Holder, InForce, LeaseRecord, Millis, Poisoned, Position, TargetKind, mirror::LogShape};

/// Starts within this span count together.
const CRASH_LOOP_WINDOW: Millis = 120_000;
/// This many starts within the window, the present one included, are a crash loop (F3).
const CRASH_LOOP_STARTS: usize = 3;

/// What the restart of a process in its own pod depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestartView<'a> {
    /// The lease, read after the volume's lock was taken.
    pub lease: &'a LeaseRecord,
    /// This pod.
    pub pod_uid: &'a str,
    /// `status.target` names another replica, or evidence against this very holder suffices: the operator has moved on.
    pub target_is_anothers: bool,
    /// This boot of the node.
    pub boot_id: &'a str,
    /// CLOCK_BOOTTIME.
    pub now: Millis,
}

/// What a process does that finds its own pod in the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// CAS holder = pod UID/new start id, epoch + 1, at once.
    Take,
    /// The lease is another's, or nobody's: wait for a target.
    Standby,
    /// Three starts in two minutes: wait for a target, so that the operator sees a dead store (F3).
    CrashLoop,
}

/// May a process that started anew in the holder's pod take the lease by itself?
#[must_use]
pub fn restart(view: &RestartView<'_>) -> Restart {
    let mine = view.lease.holder.as_ref().is_some_and(|h| h.pod_uid == view.pod_uid);
    if !mine || view.target_is_anothers {
        return Restart::Standby;
    }
    let starts = view.lease.starts.within(view.boot_id, view.now, CRASH_LOOP_WINDOW);
    if starts + 1 > CRASH_LOOP_STARTS { Restart::CrashLoop } else { Restart::Take }
}

/// What a takeover depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakeoverView<'a> {
    /// The lease that would be replaced.
    pub lease: &'a LeaseRecord,
    /// Its version.
    pub resource_version: &'a str,
    /// This replica.
    pub replica: &'a str,
    /// The target's replica.
    pub target_replica: &'a str,
    /// The target's version of the lease.
    pub target_version: &'a str,
    /// The target's kind.
    pub kind: TargetKind,
    /// The superblock says Ready.
    pub ready: bool,
    /// The log's end.
    pub end: Position,
    /// A frame from the holder came within D (mirrors only).
    pub holder_heard: bool,
    /// Evidence against the holder suffices, or nobody holds the lease (single copies only).
    pub evidence: bool,
}

/// Go, or why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takeover {
    /// Promise epoch + 1, sync it, then CAS.
    Go,
    /// Not now.
    No(Refused),
}

/// Why a target is not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It names another replica.
    NotMe,
    /// The lease was written since: the target is void (A2).
    Void,
    /// Building, or forked.
    NotReady,
    /// Not in the lease's in-sync set.
    NotInSync,
    /// The log ends below the lease's position.
    Stale,
    /// The pre-vote: the holder was heard within D (F2).
    HolderHeard,
    /// A single copy whose holder is not proven dead.
    NoEvidence,
}

/// May this replica follow the target?
#[must_use]
pub fn takeover(view: &TakeoverView<'_>) -> Takeover {
    let forced = view.kind == TargetKind::Forced;
    // Of a single copy, or a mirrored store's last one, the volume may be open in another process. One that is forced has a
    // volume of its own: what the old holder may still acknowledge, a person has weighed.
    let own = forced && view.lease.replica.as_deref().is_some_and(|holders| holders != view.replica);
    let single = view.lease.in_sync.len() == 1 && !own;
    let checks = [
        (view.target_replica == view.replica, Refused::NotMe),
        (view.target_version == view.resource_version, Refused::Void),
        (view.ready, Refused::NotReady),
        (forced || view.lease.in_sync.iter().any(|id| id == view.replica), Refused::NotInSync),
        (forced || view.end >= view.lease.position, Refused::Stale),
        (view.kind != TargetKind::Auto || !view.holder_heard, Refused::HolderHeard),
        (!single || view.lease.holder.is_none() || view.evidence, Refused::NoEvidence),
    ];
    checks.into_iter().find(|(good, _)| !good).map_or(Takeover::Go, |(_, why)| Takeover::No(why))
}

/// Was the store handed to this replica by a holder that holds it no more? Then nobody else need be asked.
#[must_use]
pub fn inherits(lease: &LeaseRecord, replica: &str, end: Position) -> bool {
    lease.holder.is_none()
        && lease.transfer_to.as_deref() == Some(replica)
        && lease.in_sync.iter().any(|id| id == replica)
        && end >= lease.position
}

/// Who takes the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taker<'a> {
    /// This process.
    pub me: &'a Holder,
    /// Its replica.
    pub replica: &'a str,
    /// The rules it will rely on.
    pub rules: InForce,
    /// The node it runs on.
    pub node: &'a str,
    /// The boot it runs on.
    pub boot_id: &'a str,
    /// CLOCK_BOOTTIME.
    pub now: Millis,
    /// The end of its log, when a person lets it take a store of which it need not have everything.
    pub forced: Option<Position>,
}

/// The record that a restart or a takeover puts in the lease's place: this holder, the next epoch, and an in-sync set
/// without the old holder where enough are left without it. One that was forced is alone in the set, and what the others had
/// committed counts no more.
#[must_use]
pub fn take(lease: &LeaseRecord, taker: &Taker<'_>) -> LeaseRecord {
    let Taker { me, replica, rules, node, boot_id, now, forced } = *taker;
    let mut next = lease.clone();
    let old = lease.replica.as_deref().filter(|old| *old != replica);
    let mut without: Vec<String> =
        lease.in_sync.iter().filter(|id| Some(id.as_str()) != old).cloned().collect();
    if !without.iter().any(|id| id == replica) {
        without.push(replica.to_owned());
    }
    // Under Required the recorded set never has fewer than two members: the old holder stays in it if it must (B4).
    next.min_in_sync = rules.min_in_sync();
    if without.len() >= next.min_in_sync {
        next.in_sync = without;
    }
    if let Some(end) = forced {
        next.in_sync = vec![replica.to_owned()];
        next.position = end;
        next.forced = Some(lease.epoch + 1);
    }
    if next.in_sync != lease.in_sync {
        next.in_sync_version += 1;
    }
    let same_pod = lease.holder.as_ref().is_some_and(|h| h.pod_uid == me.pod_uid);
    next.starts = if same_pod { lease.starts.clone() } else { crate::Starts::default() }.and(boot_id, now);
    next.holder = Some(me.clone());
    next.replica = Some(replica.to_owned());
    next.epoch = lease.epoch + 1;
    next.in_force = Some(rules);
    next.transfer_to = None;
    next.seat = Some(format!("{node}@{boot_id}"));
    if lease.poisoned.as_ref().is_some_and(|p: &Poisoned| p.replica == replica) {
        next.poisoned = None;
    }
    next
}

/// What the EpochStart says that a holder begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    /// Its epoch.
    Plain,
    /// That it was forced: by it others find that their logs are another line, and clients get UIDs that nobody has seen.
    Forced,
    /// The same, and that messages which are here have other names than before: later epochs, of which this log has nothing,
    /// may have given the UIDs of its last records to other messages.
    ForcedAnew,
}

/// What must the EpochStart say? That it was forced, once: in the first one behind the forced takeover that reaches a log.
/// `committed`: up to there the log is known to be committed.
#[must_use]
pub fn beginning(lease: &LeaseRecord, log: LogShape<'_>, committed: Position) -> Beginning {
    let is_said = |forced: u64| log.epochs.iter().any(|entry| entry.forced && entry.epoch >= forced);
    let Some(forced) = lease.forced.filter(|forced| !is_said(*forced)) else { return Beginning::Plain };
    // Whoever has something of the epoch that was replaced was joined by its primary: its log is a part of that one's.
    let is_doubtful = log.end.epoch + 1 < forced && log.end.seq > committed.seq;
    if is_doubtful { Beginning::ForcedAnew } else { Beginning::Forced }
}

/// Why a holder steps down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demotion {
    /// The lease names another holder or epoch, or is gone.
    LeaseLost,
    /// A peer or frontend of this store showed a higher epoch.
    HigherEpochSeen,
    /// Nothing could be acknowledged for D.
    CannotAcknowledge,
}

/// Must this holder step down, in the process and at once?
///
/// `lease` is the record as last read, if it could be read; `silent_for` is for how long `may_acknowledge` was false.
#[must_use]
pub fn demote(
    me: &Holder,
    epoch: u64,
    lease: Option<&LeaseRecord>,
    highest_seen: u64,
    silent_for: Millis,
    lease_ms: Millis,
) -> Option<Demotion> {
    if lease.is_some_and(|record| !record.held_by(me, epoch)) {
        Some(Demotion::LeaseLost)
    } else if highest_seen > epoch {
        Some(Demotion::HigherEpochSeen)
    } else if silent_for >= lease_ms {
        Some(Demotion::CannotAcknowledge)
    } else {
        None
    }
}
