//! Which stores answered lately.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use mailcluster_types::{Epoch, StoreName};

/// One that has not answered for so long is away, when it did not more than once: a connection that failed may have been
/// bad luck.
const SILENT: Duration = Duration::from_secs(3);
const FAILURES: u32 = 2;
/// An answer that did not come says nothing any more after this: whoever wants to know asks again.
const STALE: Duration = Duration::from_secs(10);

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
    /// How often it has not answered since, at this epoch.
    failures: u32,
}

impl ReachBook {
    fn book(&self) -> MutexGuard<'_, BTreeMap<StoreName, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn note(&self, store: &StoreName, epoch: Epoch, ok: bool, now: Instant) {
        let mut book = self.book();
        let before = book.get(store);
        let answered = if ok { Some(now) } else { before.and_then(|e| e.answered) };
        // Another epoch is another process: what it does not answer is counted anew.
        let failed = before.filter(|e| e.epoch == epoch).map_or(0, |e| e.failures);
        let failures = if ok { 0 } else { failed.saturating_add(1) };
        book.insert(store.clone(), Entry { epoch, ok, at: now, answered, failures });
    }

    /// Did it fail when last asked? Unknown stores count as well.
    pub fn is_bad(&self, store: &StoreName) -> bool {
        self.book().get(store).is_some_and(|e| !e.ok)
    }

    /// Did it fail again and again when it was asked of late for this epoch, and has it not answered for a while?
    pub fn is_away(&self, store: &StoreName, epoch: Epoch, now: Instant) -> bool {
        let since = |at: Instant| now.saturating_duration_since(at);
        self.book().get(store).is_some_and(|e| {
            e.failures >= FAILURES
                && e.epoch == epoch
                && since(e.at) < STALE
                && e.answered.is_none_or(|answered| since(answered) >= SILENT)
        })
    }

    /// Has it answered within `age`? One that did not is asked again.
    pub fn is_fresh(&self, store: &StoreName, age: Duration, now: Instant) -> bool {
        self.book().get(store).is_some_and(|e| e.ok && now.saturating_duration_since(e.at) < age)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_away_when_it_has_been_silent_for_a_while_at_this_epoch() {
        let t0 = Instant::now();
        let after = |seconds| t0 + Duration::from_secs(seconds);
        let store = StoreName::from("m-0");
        // When it was asked, whether it answered, and whether it is away so many seconds after the beginning.
        for (notes, at, expected) in [
            (&[][..], 1, false),
            (&[(0, true)], 1, false),
            // Once is bad luck, and twice within a moment, too.
            (&[(0, true), (4, false)], 4, false),
            (&[(0, true), (1, false), (1, false)], 2, false),
            (&[(0, true), (1, false), (1, false)], 3, true),
            (&[(0, true), (4, false), (6, false)], 6, true),
            (&[(0, true), (4, false), (6, false), (7, true)], 7, false),
            (&[(0, false)], 1, false),
            (&[(0, false), (1, false)], 1, true),
            // It is long ago.
            (&[(0, false), (1, false)], 11, false),
        ] {
            let book = ReachBook::default();
            for (second, ok) in notes {
                book.note(&store, 3, *ok, after(*second));
            }
            assert_eq!(book.is_away(&store, 3, after(at)), expected, "{notes:?} at {at}");
            assert!(!book.is_away(&store, 4, after(at)), "nobody knows of another epoch: {notes:?}");
            book.note(&store, 4, false, after(at));
            assert!(
                !book.is_away(&store, 4, after(at)),
                "what failed before does not count there: {notes:?}"
            );
        }
    }
}
