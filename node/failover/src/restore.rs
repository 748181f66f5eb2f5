//! A Lease that is gone is made anew from what all copies of the store say of themselves (A5).

use crate::{Durability, FencingMinimum, Holder, InForce, LeaseRecord, Position};

/// What a copy says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witness {
    /// The copy's id.
    pub replica: String,
    /// Its process.
    pub process: Holder,
    /// The epoch that it serves at; 0: it does not.
    pub serves_at: u64,
    /// The last epoch of its log.
    pub last_epoch: u64,
    /// The last epoch of its log that began with a forced takeover; 0: none did.
    pub last_forced: u64,
    /// The highest epoch that it has promised.
    pub promise: u64,
    /// Where its log ends.
    pub end: Position,
    /// The latest version of the in-sync set that it knows of.
    pub in_sync_version: u64,
}

/// The record that the accounts of all copies give; `None`: there are none. Its epoch is the highest that one of them has
/// seen or promised, or that was `shown` elsewhere, and nothing below the end of the latest log is accepted. A process that
/// serves goes on holding it, under the strictest rule: such a Lease must not let another take the store without evidence
/// against it. `ordered`: the copy that a person had take the store last, and the epoch that it was to begin.
#[must_use]
pub fn restored(copies: &[Witness], shown: u64, ordered: Option<(&str, u64)>) -> Option<LeaseRecord> {
    // All were asked, so the last primary was: the one with the longest log of the last epoch. One that serves at an older
    // epoch was deposed, and does not know it yet.
    let line = |w: &Witness| w.last_epoch.max(w.serves_at);
    let last = copies.iter().max_by_key(|w| (line(w), w.serves_at, w.end))?;
    let epoch = copies.iter().map(|w| line(w).max(w.promise)).fold(shown, u64::max);
    let version = copies.iter().map(|w| w.in_sync_version).fold(1, u64::max);
    // An epoch that another copy may have begun, or begin, has no second holder: whoever comes next takes the one above.
    let holds = last.serves_at > 0 && last.serves_at == epoch;
    // It took the lease and ended before its log said so: whoever comes next begins in its place.
    let took = |w: &Witness, of: &str, at: u64| w.replica == of && w.promise >= at && line(w) < at;
    let unbegun = ordered.filter(|(of, at)| copies.iter().any(|w| took(w, of, *at))).map(|(_, at)| at);
    Some(LeaseRecord {
        epoch,
        // Of several, the others are let in when they have been seen to have everything, too.
        in_sync_version: version + u64::from(copies.len() > 1),
        position: last.end,
        holder: holds.then(|| last.process.clone()),
        replica: holds.then(|| last.replica.clone()),
        // Whoever follows it keeps what that takeover has left behind, rather than cut it off.
        forced: [Some(last.last_forced).filter(|epoch| *epoch > 0), unbegun].into_iter().flatten().max(),
        in_force: holds.then_some(InForce { durability: Durability::Single, fencing: FencingMinimum::Proof }),
        ..LeaseRecord::initial(vec![last.replica.clone()], 1)
    })
}
