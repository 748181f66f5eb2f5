//! What a store counts of its commits, for metrics: atomics that the committer adds to and anybody may read.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::left_behind;

/// Upper bounds of [`Stats::commit_seconds`].
const SECONDS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Upper bounds of [`Stats::commit_changes`].
const CHANGES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// Counts since the replica was opened.
#[derive(Debug)]
pub struct Stats {
    commit_seconds: Counts,
    commit_changes: Counts,
    failures: AtomicU64,
    at_disk: Mutex<Option<Instant>>,
    live: AtomicU64,
    dead: AtomicU64,
    packed: AtomicU64,
    removed_files: AtomicU64,
    removed: AtomicU64,
    mended: AtomicU64,
    lent: AtomicU64,
    lost: AtomicU64,
    salvage: Mutex<Option<SalvageEnd>>,
    purged: AtomicU64,
    purged_early: AtomicU64,
    undeleted: AtomicU64,
}

/// What came of files of what was left behind, one after another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SalvageEnd {
    /// When the last one ended, in seconds since 1970.
    pub at: i64,
    /// What was done in all: nothing is done twice, however often a file is sent.
    pub counts: left_behind::Counts,
    /// How many things of the last one that was read to its end were not taken over.
    pub kept: u64,
}

/// Expunged messages that are not kept any more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Expunged {
    /// Purged when their time was over.
    pub purged: u64,
    /// Purged before, as the volume was short of room.
    pub purged_early: u64,
    /// Brought back.
    pub undeleted: u64,
}

/// What became of places of the log that were found damaged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Damage {
    /// Mended with what another replica has.
    pub mended: u64,
    /// Read from another replica, and not written here. The same place counts each time.
    pub lent: u64,
    /// No other replica had it, or answered. The same place counts each time.
    pub lost: u64,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            commit_seconds: Counts::new(SECONDS),
            commit_changes: Counts::new(CHANGES),
            failures: AtomicU64::new(0),
            at_disk: Mutex::default(),
            live: AtomicU64::new(0),
            dead: AtomicU64::new(0),
            packed: AtomicU64::new(0),
            removed_files: AtomicU64::new(0),
            removed: AtomicU64::new(0),
            mended: AtomicU64::new(0),
            lent: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            salvage: Mutex::default(),
            purged: AtomicU64::new(0),
            purged_early: AtomicU64::new(0),
            undeleted: AtomicU64::new(0),
        }
    }
}

impl Stats {
    /// How long batches took to be written and synced, in seconds.
    #[must_use]
    pub fn commit_seconds(&self) -> Histogram {
        self.commit_seconds.read()
    }

    /// How many changes the batches held.
    #[must_use]
    pub fn commit_changes(&self) -> Histogram {
        self.commit_changes.read()
    }

    /// Failures that left it unknown what is on disk, a failed sync above all. The store stops at the first.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// For how long a batch has been with the disk by now, to be written and synced; `None` when none is.
    #[must_use]
    pub fn at_disk_for(&self) -> Option<Duration> {
        let since = *self.at_disk.lock().unwrap_or_else(PoisonError::into_inner);
        since.map(|since| since.elapsed())
    }

    /// Octets of the log that are still needed, and those that are not, as of the last look; zeros before the first.
    #[must_use]
    pub fn live_and_dead(&self) -> (u64, u64) {
        (self.live.load(Ordering::Relaxed), self.dead.load(Ordering::Relaxed))
    }

    /// Octets written to packs, to give the room of other files back.
    #[must_use]
    pub fn packed_octets(&self) -> u64 {
        self.packed.load(Ordering::Relaxed)
    }

    /// Segments and packs that were removed, and their octets.
    #[must_use]
    pub fn removed_files(&self) -> (u64, u64) {
        (self.removed_files.load(Ordering::Relaxed), self.removed.load(Ordering::Relaxed))
    }

    /// Batches that were committed.
    pub(crate) fn commits(&self) -> u64 {
        self.commit_seconds.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    pub(crate) fn surveyed(&self, live: u64, dead: u64) {
        self.live.store(live, Ordering::Relaxed);
        self.dead.store(dead, Ordering::Relaxed);
    }

    pub(crate) fn packed(&self, octets: u64) {
        self.packed.fetch_add(octets, Ordering::Relaxed);
    }

    pub(crate) fn gave_back(&self, octets: u64) {
        self.removed_files.fetch_add(1, Ordering::Relaxed);
        self.removed.fetch_add(octets, Ordering::Relaxed);
    }

    /// A file of what was left behind was taken over, to its end (and so many things were not) or not.
    pub fn salvaged(&self, at: i64, counts: left_behind::Counts, kept: Option<u64>) {
        if kept.is_none() && counts == left_behind::Counts::default() {
            return;
        }
        let mut salvage = self.salvage.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = salvage.get_or_insert_default();
        sum.at = at;
        sum.counts += counts;
        sum.kept = kept.unwrap_or(sum.kept);
    }

    /// What came of such files.
    #[must_use]
    pub fn last_salvage(&self) -> Option<SalvageEnd> {
        *self.salvage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What became of damage.
    #[must_use]
    pub fn damage(&self) -> Damage {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Damage { mended: read(&self.mended), lent: read(&self.lent), lost: read(&self.lost) }
    }

    /// Damage was found, and another replica had what was there (and is it written here again?), or not.
    pub(crate) fn restored(&self, is_mended: Option<bool>) {
        let count = match is_mended {
            Some(true) => &self.mended,
            Some(false) => &self.lent,
            None => &self.lost,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// What became of expunged messages that were kept.
    #[must_use]
    pub fn expunged(&self) -> Expunged {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Expunged {
            purged: read(&self.purged),
            purged_early: read(&self.purged_early),
            undeleted: read(&self.undeleted),
        }
    }

    pub(crate) fn purged(&self, messages: u64, early: u64) {
        self.purged.fetch_add(messages.saturating_sub(early), Ordering::Relaxed);
        self.purged_early.fetch_add(early, Ordering::Relaxed);
    }

    pub(crate) fn undeleted(&self, messages: u64) {
        self.undeleted.fetch_add(messages, Ordering::Relaxed);
    }

    pub(crate) fn note_at_disk(&self, since: Option<Instant>) {
        *self.at_disk.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    pub(crate) fn committed(&self, changes: usize, took: Duration) {
        self.commit_seconds.add(took.as_secs_f64());
        self.commit_changes.add(f64::from(u32::try_from(changes).unwrap_or(u32::MAX)));
    }

    pub(crate) fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }
}

/// How often values lay within bounds.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    /// Upper bounds with how many values were not above them; those above the last are in `count` alone.
    pub buckets: Vec<(f64, u64)>,
    /// All values together.
    pub sum: f64,
    /// How many there were.
    pub count: u64,
}

#[derive(Debug)]
struct Counts {
    bounds: &'static [f64],
    /// One for each bound, and one for what is above.
    counts: Box<[AtomicU64]>,
    /// In millionths.
    sum: AtomicU64,
}

/// Values are not negative; a sum of them may be rounded, never wrong by more than a millionth each.
fn millionths(value: f64) -> u64 {
    Duration::try_from_secs_f64(value).map_or(0, |d| u64::try_from(d.as_micros()).unwrap_or(u64::MAX))
}

impl Counts {
    fn new(bounds: &'static [f64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum: AtomicU64::new(0) }
    }

    fn add(&self, value: f64) {
        let place = self.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get(place) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(millionths(value), Ordering::Relaxed);
    }

    fn read(&self) -> Histogram {
        let mut count = 0;
        let mut upto = |number: &AtomicU64| {
            count += number.load(Ordering::Relaxed);
            count
        };
        let cumulative: Vec<u64> = self.counts.iter().map(&mut upto).collect();
        let buckets = self.bounds.iter().copied().zip(cumulative).collect();
        let sum = Duration::from_micros(self.sum.load(Ordering::Relaxed)).as_secs_f64();
        Histogram { buckets, sum, count }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_where_they_belong() {
        let counts = Counts::new(&[1.0, 2.0, 4.0]);
        for value in [0.5, 1.0, 1.5, 4.0, 9.0] {
            counts.add(value);
        }
        let read = counts.read();
        assert_eq!(read.buckets, [(1.0, 2), (2.0, 3), (4.0, 4)]);
        assert_eq!((read.count, read.sum), (5, 16.0));
    }
}
