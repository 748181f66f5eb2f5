//! When the primary of a store takes a mirror out of the in-sync set, lets one in, or exchanges two.

use std::collections::BTreeSet;

use crate::Millis;

/// A replica as its primary sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: String,
    /// Up to where it has confirmed, synced, at the primary's epoch; `None` before the first confirmation.
    pub confirmed: Option<u64>,
    /// By how much its index is behind its log.
    pub apply_lag: Millis,
}

/// What the decision depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MembersView<'a> {
    /// This replica.
    pub me: &'a str,
    /// By the lease.
    pub members: &'a BTreeSet<String>,
    /// The replicas that the store has. A member that is none of them has had its place taken by another.
    pub named: &'a BTreeSet<String>,
    /// Members wanted for writes (1 Preferred, 2 Required).
    pub min: usize,
    /// Whoever has everything up to this record has everything that was ever acknowledged.
    pub needed: u64,
    /// Every mirror that is connected or was.
    pub mirrors: &'a [Member],
    /// The oldest write of a client that is not committed: its sequence, and for how long it has waited.
    pub waiting: Option<(u64, Millis)>,
    /// mirrorTimeout.
    pub timeout: Millis,
    /// Those that have made clients wait lately ([`super::Probation`]): let in only where nobody else could be.
    pub kept_out: &'a BTreeSet<String>,
    /// Was a frontend, or another replica of this store, heard within D? One that hears nobody may be the one that is cut
    /// off, and must not expel the others (B5).
    pub is_heard: bool,
}

/// What to write into the lease, by one swap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// These have made a client wait for mirrorTimeout, or others have their places.
    Shrink(BTreeSet<String>),
    /// This one has everything.
    Grow(String),
    /// The first is to be left out and cannot be alone; the second has everything.
    Swap(String, String),
}

impl Change {
    /// The set after it.
    #[must_use]
    pub fn applied(&self, members: &BTreeSet<String>) -> BTreeSet<String> {
        let mut next = members.clone();
        match self {
            Self::Shrink(out) => next.retain(|id| !out.contains(id)),
            Self::Grow(id) => {
                next.insert(id.clone());
            }
            Self::Swap(out, id) => {
                next.remove(out);
                next.insert(id.clone());
            }
        }
        next
    }
}

/// Apply lag above which a mirror is not let in: its promotion would be slow (H7).
const MAX_LAG: Millis = 1000;

/// The change to make now, if any. Called only while no other is under way.
#[must_use]
pub fn change(view: &MembersView<'_>) -> Option<Change> {
    let caught_up = |m: &&Member| {
        !view.members.contains(&m.id)
            && view.named.contains(&m.id)
            && m.id != view.me
            && m.confirmed.is_some_and(|confirmed| confirmed >= view.needed)
            && m.apply_lag < MAX_LAG
    };
    let ready = view.mirrors.iter().find(caught_up).map(|m| m.id.clone());
    let out: BTreeSet<String> = behind(view).union(&replaced(view)).cloned().collect();
    if !out.is_empty() {
        if view.members.len() - out.len() >= view.min {
            return Some(Change::Shrink(out));
        }
        if let (Some(ready), 1, Some(out)) = (ready, out.len(), out.first()) {
            return Some(Change::Swap(out.clone(), ready));
        }
    }
    let welcome = |m: &&Member| caught_up(m) && !view.kept_out.contains(&m.id);
    view.mirrors.iter().find(welcome).map(|m| Change::Grow(m.id.clone()))
}

/// Does a holder that can renew its lease give the store back, because neither frontends nor mirrors were heard for twice D
/// (B5)? Not one that is alone in the set, which nobody could follow, nor one that has heard nobody in its whole term: it
/// would be let in again and again. `unheard_for` begins when nobody had been heard for D.
#[must_use]
pub fn is_isolated(members: usize, unheard_for: Option<Millis>, lease_ms: Millis) -> bool {
    members > 1 && unheard_for.is_some_and(|span| span >= lease_ms)
}

/// Members whose places others have.
fn replaced(view: &MembersView<'_>) -> BTreeSet<String> {
    // Who does not find itself among them has not been told which there are.
    if !view.is_heard || !view.named.contains(view.me) {
        return BTreeSet::new();
    }
    view.members.difference(view.named).cloned().collect()
}

/// Members that a client's write has waited for long enough.
fn behind(view: &MembersView<'_>) -> BTreeSet<String> {
    let Some((seq, _)) = view.waiting.filter(|(_, span)| *span >= view.timeout && view.is_heard) else {
        return BTreeSet::new();
    };
    let has = |id: &str| view.mirrors.iter().any(|m| m.id == id && m.confirmed.is_some_and(|c| c >= seq));
    view.members.iter().filter(|id| *id != view.me && !has(id)).cloned().collect()
}
