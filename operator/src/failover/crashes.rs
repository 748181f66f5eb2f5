//! A store's own crashes, as its status remembers them: pure. Each epoch's is counted once, in the same write that
//! shows what is done about it, and is taken back when the node turns out to have been lost.

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use mailcluster_api::mailstore::Crash;
use mailcluster_failover::{Decision, EvidenceKind, Observation, Phase, Step};

/// Crashes are remembered this long; so many moves are allowed in it.
const HOUR: i64 = 3600;
/// More than a few in this span are flapping.
const QUARTER: i64 = 900;

/// How many crashes there were in the last quarter of an hour, the one that is being dealt with included.
#[must_use]
pub fn takeovers(crashes: &[Crash], now: i64) -> u32 {
    count(crashes.iter().filter(|c| within(c, now, QUARTER)))
}

/// How many crashes have moved the store in the last hour, before the one at `epoch`.
#[must_use]
pub fn moves(crashes: &[Crash], epoch: Option<u64>, now: i64) -> u32 {
    let before = |c: &&Crash| u64::try_from(c.epoch).ok() != epoch;
    count(crashes.iter().filter(|c| c.moved && within(c, now, HOUR)).filter(before))
}

/// Notes what this decision says about crashes.
pub fn note(crashes: &mut Vec<Crash>, o: &Observation, decision: &Decision, now: Timestamp) {
    if o.request.as_ref().is_some_and(|r| !r.drain) {
        // A person has looked at it: it counts from here on.
        crashes.clear();
        return;
    }
    let Some(lease) = o.lease.as_ref().filter(|l| l.record.holder.is_some()) else { return };
    let Ok(epoch) = i64::try_from(lease.record.epoch) else { return };
    if machine_lost(o, decision) {
        crashes.retain(|c| c.epoch != epoch);
        return;
    }
    let acted_on = matches!(decision.phase, Phase::Fencing | Phase::Reattaching) && o.placement.is_some();
    if !acted_on {
        return;
    }
    if !crashes.iter().any(|c| c.epoch == epoch) {
        crashes.retain(|c| within(c, now.as_second(), HOUR));
        crashes.push(Crash { epoch, at: Time(now), moved: false });
    }
    // By the pin that is there, never by one that is about to be written: this leader may die before it writes it.
    let leaves = o.placement.as_ref().zip(o.pin.as_ref()).is_some_and(|(p, pin)| p.node != *pin);
    crashes.iter_mut().filter(|c| c.epoch == epoch).for_each(|c| c.moved |= leaves);
}

/// Is the holder's machine gone, rather than its process? By what is seen of the node, or by what is known already.
fn machine_lost(o: &Observation, decision: &Decision) -> bool {
    let ended = |kind| !matches!(kind, EvidenceKind::KubeletConfirmed | EvidenceKind::LeaseExpired);
    let recorded = matches!(decision.step, Step::RecordEvidence(kind) if ended(kind));
    let lease = o.lease.as_ref();
    let known = o.evidence.iter().any(|e| {
        ended(e.kind)
            && lease.is_some_and(|l| {
                e.epoch == l.record.epoch && l.record.holder.as_ref().is_some_and(|h| h.pod_uid == e.pod_uid)
            })
    });
    let unseen = o
        .placement
        .as_ref()
        .is_some_and(|p| o.node(&p.node).is_none_or(|n| !n.ready || n.boot_id != p.boot_id));
    recorded || known || unseen
}

fn within(crash: &Crash, now: i64, span: i64) -> bool {
    let at = crash.at.0.as_second();
    at <= now && now - at < span
}

fn count<'a>(crashes: impl Iterator<Item = &'a Crash>) -> u32 {
    u32::try_from(crashes.count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
