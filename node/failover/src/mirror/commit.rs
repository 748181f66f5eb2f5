//! The in-sync set as its primary keeps it, and what is committed under it.

use std::collections::{BTreeMap, BTreeSet};

/// Up to where each mirror has confirmed at the primary's own epoch. What was confirmed at another epoch does not count.
pub type Confirmations = BTreeMap<String, u64>;

/// The replicas that must have a record before anybody is told of it.
///
/// While a change is under way, from before its swap is sent until its outcome has been read, it may hold or not: the
/// union of both sets counts (B2, A6).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct InSync {
    /// As the lease says.
    now: BTreeSet<String>,
    /// As it says if the swap took place.
    next: Option<BTreeSet<String>>,
    /// Members wanted for writes.
    min: usize,
}

impl InSync {
    /// The set of the lease that was taken or read.
    #[must_use]
    pub fn new(members: impl IntoIterator<Item = String>, min: usize) -> Self {
        Self { now: members.into_iter().collect(), next: None, min: min.max(1) }
    }

    /// The members by the lease, as last read.
    #[must_use]
    pub fn members(&self) -> &BTreeSet<String> {
        &self.now
    }

    /// Is a change under way? Another may not begin before its outcome is known.
    #[must_use]
    pub fn is_changing(&self) -> bool {
        self.next.is_some()
    }

    /// Before the swap is sent.
    pub fn begin(&mut self, next: BTreeSet<String>) {
        self.next = Some(next);
    }

    /// The lease as it was read back after the swap.
    pub fn settled(&mut self, read: impl IntoIterator<Item = String>) {
        self.now = read.into_iter().collect();
        self.next = None;
    }

    /// Everyone who must confirm.
    #[must_use]
    pub fn effective(&self) -> BTreeSet<&str> {
        self.now.iter().chain(self.next.iter().flatten()).map(String::as_str).collect()
    }

    /// Enough of them for a write to be acknowledged (B4).
    #[must_use]
    pub fn is_enough(&self) -> bool {
        self.effective().len() >= self.min
    }

    /// The last sequence that every member of the effective set has synced. `own` is this replica's.
    #[must_use]
    pub fn commit(&self, me: &str, own: u64, confirmed: &Confirmations) -> u64 {
        let of = |id: &str| if id == me { own } else { confirmed.get(id).copied().unwrap_or(0) };
        self.effective().into_iter().map(of).min().unwrap_or(0).min(own)
    }
}
