//! How far the mirrors are behind their primary while clients deliver.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, ensure};
use mailcluster_replication::Progress;
use mailcluster_store::{Claim, Committed, Mirrors, Room};
use mailcluster_types::{Epoch, Seq};
use serde_json::{Value, json};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(2);
/// So many batches are kept: what is missing counts from the oldest of them at most.
const KEPT: usize = 1 << 16;

/// Passes on to `Progress` what it is told, and keeps when each batch was written that a mirror's index may still lack.
pub struct Written {
    progress: Arc<Progress>,
    batches: Mutex<VecDeque<(Seq, Instant)>>,
}

impl Written {
    /// Nothing was written yet.
    pub fn new(progress: Arc<Progress>) -> Self {
        Self { progress, batches: Mutex::default() }
    }

    fn batches(&self) -> MutexGuard<'_, VecDeque<(Seq, Instant)>> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it is now; `None`: no mirror was heard yet.
    fn look(&self) -> Option<Lag> {
        let heard = self.progress.heard();
        let synced = heard.values().map(|heard| heard.synced).min()?;
        let applied = heard.values().map(|heard| heard.applied).min()?;
        let mut batches = self.batches();
        let now = Instant::now();
        let lag = Lag { confirmed: behind(&batches, synced, now), applied: behind(&batches, applied, now) };
        // The newest stays, whatever the mirrors have: it tells how far the log reaches.
        while batches.len() > 1 && batches.front().is_some_and(|(seq, _)| *seq <= applied.min(synced)) {
            batches.pop_front();
        }
        Some(lag)
    }
}

impl Mirrors for Written {
    fn written(&self, end: (Epoch, Seq)) {
        let mut batches = self.batches();
        batches.push_back((end.1, Instant::now()));
        if batches.len() > KEPT {
            batches.pop_front();
        }
        drop(batches);
        self.progress.written(end);
    }

    fn until_committed(&self, end: (Epoch, Seq)) -> Committed<'_> {
        self.progress.until_committed(end)
    }

    fn claim(&self, room: Room) -> Claim {
        self.progress.claim(room)
    }
}

/// What a mirror lacks of the primary's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Behind {
    /// So many records.
    records: u64,
    /// Since when it lacks the oldest of them.
    age: Duration,
}

/// One look; of the mirror that has the least.
#[derive(Debug, Clone, Copy)]
struct Lag {
    confirmed: Behind,
    applied: Behind,
}

/// `batches`: the last record of each batch, ascending, and when it was written.
fn behind(batches: &VecDeque<(Seq, Instant)>, has: Seq, now: Instant) -> Behind {
    let oldest = batches.iter().find(|(seq, _)| *seq > has);
    Behind {
        records: batches.back().map_or(0, |(end, _)| end.saturating_sub(has)),
        age: oldest.map_or(Duration::ZERO, |(_, at)| now.saturating_duration_since(*at)),
    }
}

/// Looks again and again, in a thread of its own, until it is asked for what it saw.
pub struct Watch {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Lag>>,
}

impl Watch {
    /// Begins to look.
    pub fn start(written: Arc<Written>) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let is_over = over.clone();
        let thread = thread::spawn(move || {
            let mut seen = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                seen.extend(written.look());
                thread::sleep(LOOK);
            }
            seen
        });
        Self { over, thread }
    }

    /// Median, 99th percentile and largest of all that was seen.
    pub fn finish(self) -> Result<Value> {
        self.over.store(true, Ordering::Relaxed);
        let seen = self.thread.join().map_err(|_| anyhow!("the look-out panicked"))?;
        ensure!(!seen.is_empty(), "no mirror was heard");
        let millis = |behind: Behind| behind.age.as_secs_f64() * 1e3;
        let records = |behind: Behind| behind.records as f64;
        Ok(json!({
            "confirmed_records": spread(seen.iter().map(|lag| records(lag.confirmed)).collect()),
            "confirmed_ms": spread(seen.iter().map(|lag| millis(lag.confirmed)).collect()),
            "applied_records": spread(seen.iter().map(|lag| records(lag.applied)).collect()),
            "applied_ms": spread(seen.iter().map(|lag| millis(lag.applied)).collect()),
        }))
    }
}

fn spread(mut figures: Vec<f64>) -> Value {
    figures.sort_by(f64::total_cmp);
    let at = |percent: usize| figures.get(figures.len().saturating_sub(1) * percent / 100);
    json!({"median": at(50), "p99": at(99), "max": figures.last()})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_mirror_lacks_is_as_old_as_the_first_batch_that_it_lacks() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let batches = VecDeque::from([(10, at(0)), (20, at(5)), (30, at(9))]);
        for (has, records, age) in
            [(30, 0, 0), (31, 0, 0), (29, 1, 11), (20, 10, 11), (19, 11, 15), (3, 27, 20)]
        {
            let expected = Behind { records, age: Duration::from_millis(age) };
            assert_eq!(behind(&batches, has, at(20)), expected, "{has}");
        }
        assert_eq!(behind(&VecDeque::new(), 3, start), Behind { records: 0, age: Duration::ZERO });
    }

    #[test]
    fn the_spread_of_figures() {
        let spread = spread((0..=100).rev().map(f64::from).collect());
        assert_eq!(spread, json!({"median": 50.0, "p99": 99.0, "max": 100.0}));
    }
}
