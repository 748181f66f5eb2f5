//! Which stores answered lately.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use mailcluster_types::{Epoch, StoreName};

/// What is known of one store's answering.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// The store.
    pub store: StoreName,
    /// The epoch it was asked for.
    pub epoch: Epoch,
    /// Did it answer when last asked?
    pub ok: bool,
    /// Seconds since it was last asked.
    pub age_secs: u64,
    /// Seconds since it last answered; `None`: it never did.
    pub answered_secs: Option<u64>,
}

#[derive(Debug, Default)]
pub(super) struct ReachBook(Mutex<BTreeMap<StoreName, Entry>>);

#[derive(Debug, Clone, Copy)]
struct Entry {
    epoch: Epoch,
    ok: bool,
    at: Instant,
    answered: Option<Instant>,
}

impl ReachBook {
    fn book(&self) -> MutexGuard<'_, BTreeMap<StoreName, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn note(&self, store: &StoreName, epoch: Epoch, ok: bool, now: Instant) {
        let mut book = self.book();
        let answered = if ok { Some(now) } else { book.get(store).and_then(|e| e.answered) };
        book.insert(store.clone(), Entry { epoch, ok, at: now, answered });
    }

    /// Did it fail when last asked? Unknown stores count as well.
    pub fn is_bad(&self, store: &StoreName) -> bool {
        self.book().get(store).is_some_and(|e| !e.ok)
    }

    /// Was it asked within `age`?
    pub fn is_fresh(&self, store: &StoreName, age: Duration, now: Instant) -> bool {
        self.book().get(store).is_some_and(|e| now.saturating_duration_since(e.at) < age)
    }

    /// Forgets stores that are no more.
    pub fn keep_only(&self, keep: impl Fn(&StoreName) -> bool) {
        self.book().retain(|store, _| keep(store));
    }

    pub fn report(&self, now: Instant) -> Vec<Reach> {
        let secs = |at: Instant| now.saturating_duration_since(at).as_secs();
        let book = self.book();
        let reach = |(store, e): (&StoreName, &Entry)| Reach {
            store: store.clone(),
            epoch: e.epoch,
            ok: e.ok,
            age_secs: secs(e.at),
            answered_secs: e.answered.map(secs),
        };
        book.iter().map(reach).collect()
    }
}
