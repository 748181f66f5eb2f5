//! Keeping the retention of expunged mail: what was kept long enough is purged; where the volume is short of room, the
//! oldest goes before its time.

use std::time::{Duration, Instant};

use crate::{machine, ops::Purge, space, store::Store};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(60);
/// So long may it take until what was purged early is given back; then as much more may go.
const GIVEN_BACK: Duration = Duration::from_secs(600);

/// Up to when expunged mail is not kept any more; with no retention, none is.
fn until(now: i64, retention: Duration) -> i64 {
    if retention.is_zero() {
        return i64::MAX;
    }
    i64::try_from(retention.as_secs()).map_or(i64::MIN, |seconds| now.saturating_sub(seconds))
}

/// Octets of the oldest that go before their time: what is lacking for enough room, but for what went already and is to be
/// given back yet.
fn early((free, total): (u64, u64), owed: u64) -> u64 {
    if total == 0 {
        // The volume did not say.
        return 0;
    }
    // As much as giving room back calls short: deliveries are refused at half of it.
    let wanted = space::reserve(total).saturating_mul(2);
    wanted.saturating_sub(free).saturating_sub(owed)
}

/// What went early, and is not known to have been given back.
#[derive(Default)]
struct Owed {
    octets: u64,
    since: Option<Instant>,
    /// Octets that the store had given back by then.
    given_back: u64,
}

impl Owed {
    fn now(&mut self, given_back: u64) -> u64 {
        let is_over = self.since.is_none_or(|since| since.elapsed() >= GIVEN_BACK);
        if is_over || given_back != self.given_back {
            *self = Self { given_back, ..Self::default() };
        }
        self.octets
    }

    fn add(&mut self, octets: u64) {
        self.octets = self.octets.saturating_add(octets);
        self.since.get_or_insert_with(Instant::now);
    }
}

/// Purges now, and again and again; until it is dropped, or the store stops.
pub async fn keep_retention(store: Store) {
    let mut owed = Owed::default();
    loop {
        purge(&store, &mut owed).await;
        tokio::select! {
            () = store.stopped() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

async fn purge(store: &Store, owed: &mut Owed) {
    let retention = store.undelete_retention();
    loop {
        let given_back = store.stats().removed_files().1;
        let early_octets = early(store.room(), owed.now(given_back));
        let asked = Purge { until: until(machine::unix_time(), retention), early_octets };
        // A store that does not take it now is asked again later.
        let Ok(receipt) = store.purge(asked).await else { return };
        let Ok(done) = receipt.acknowledge() else { return };
        owed.add(done.early_octets);
        if done.early > 0 {
            let (messages, octets) = (done.early, done.early_octets);
            tracing::warn!(messages, octets, "expunged mail was purged early: the volume is short of room");
        }
        if !done.has_more {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn what_was_kept_long_enough_goes() {
        let day = Duration::from_secs(86_400);
        for (now, retention, last) in [
            (1_000_000, day, 913_600),
            (1_000_000, Duration::ZERO, i64::MAX),
            (1_000_000, Duration::from_millis(1), 1_000_000),
            (1_000_000, Duration::MAX, i64::MIN),
            (i64::MIN, day, i64::MIN),
        ] {
            assert_eq!(until(now, retention), last, "{now} {retention:?}");
        }
    }

    #[test]
    fn only_what_is_lacking_goes_early() {
        // 4 GiB are kept free of 100, and twice that is enough.
        for (free, owed, octets) in [
            (8 * GIB, 0, 0),
            (9 * GIB, 0, 0),
            (8 * GIB - 1, 0, 1),
            (5 * GIB, 0, 3 * GIB),
            (5 * GIB, GIB, 2 * GIB),
            (5 * GIB, 4 * GIB, 0),
            (0, 0, 8 * GIB),
        ] {
            assert_eq!(early((free, 100 * GIB), owed), octets, "{free} {owed}");
        }
        assert_eq!(early((0, 0), 0), 0, "a volume that says nothing");
    }

    #[test]
    fn what_went_early_counts_until_it_is_given_back() {
        let mut owed = Owed::default();
        assert_eq!(owed.now(7), 0);
        owed.add(5);
        owed.add(2);
        assert_eq!(owed.now(7), 7);
        assert_eq!(owed.now(8), 0, "something was given back: the volume says what is lacking now");
        owed.add(3);
        assert_eq!(owed.now(8), 3);
        owed.since = owed.since.and_then(|since| since.checked_sub(GIVEN_BACK));
        assert_eq!(owed.now(8), 0, "long ago");
    }
}
