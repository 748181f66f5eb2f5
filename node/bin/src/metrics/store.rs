//! The metrics of one store. What only a store that serves here knows is told while it does: after a failover another
//! pod tells it, and sums over pods count nothing twice.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Result;
use mailcluster_arbiter::{LeaseGate, ReplicaState, StatusHandle, clock};
use mailcluster_replication::{Compares, Copied};
use mailcluster_store::{Damage, Expunged, QueueStats, Stats, StoreUsage};
use prometheus::Registry;

use super::readings::{Kind, Metric, Readings, Sample};

/// How often the index is asked.
const EVERY: Duration = Duration::from_secs(5);

/// What is known of a store at one moment.
pub struct StoreNow {
    serving: bool,
    poisoned: bool,
    epoch: u64,
    /// The last renewal: how long ago, and how long it is still good, in milliseconds.
    lease: Option<(u64, u64)>,
    /// Of the store that serves here, or served last.
    stats: Option<Arc<Stats>>,
    /// How far a snapshot has come that this copy takes.
    copied: Option<Copied>,
    /// What was compared with the copies' indexes, and how many of them differ.
    compared: Option<(Compares, usize)>,
    /// Of the store that serves here.
    figures: Option<Arc<Figures>>,
}

/// What its index says.
pub struct Figures {
    usage: StoreUsage,
    queue: QueueStats,
}

/// Tells of a store for as long as the process lives. Only the index is looked at by this task, from time to time;
/// spawn it.
pub async fn watch_store(
    registry: Registry,
    store: String,
    status: StatusHandle,
    gate: Arc<LeaseGate>,
) -> Result<()> {
    let figures: Arc<Mutex<Option<Arc<Figures>>>> = Arc::default();
    let stats: Mutex<Option<Arc<Stats>>> = Mutex::default();
    let (told, asked) = (figures.clone(), status.clone());
    let source = move || {
        let now = status.get();
        let mut stats = stats.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = &now.store {
            *stats = Some(store.stats());
        }
        let time = clock::boottime();
        let renewed = Some(gate.renewed_at()).filter(|at| *at > 0);
        StoreNow {
            serving: now.store.is_some() && gate.open(),
            poisoned: now.state == ReplicaState::Poisoned,
            epoch: gate.epoch(),
            lease: renewed.map(|at| (time.saturating_sub(at), gate.lease_until().saturating_sub(time))),
            stats: stats.clone(),
            copied: now.copied,
            compared: now.store.as_ref().map(|_| (now.comparing.counts(), now.comparing.differing().len())),
            figures: now.store.and_then(|_| told.lock().unwrap_or_else(PoisonError::into_inner).clone()),
        }
    };
    registry.register(Box::new(Readings::new(METRICS, &[("store", store.as_str())], source)?))?;
    let mut tick = tokio::time::interval(EVERY);
    loop {
        tick.tick().await;
        let read = match asked.get().store {
            Some(store) => store.read(|view| Ok((view.usage()?, view.queue_stats()?))).await.ok(),
            None => None,
        };
        let read = read.map(|(usage, queue)| Arc::new(Figures { usage, queue }));
        *figures.lock().unwrap_or_else(PoisonError::into_inner) = read;
    }
}

fn damage(now: &StoreNow) -> Vec<Sample> {
    let told = |stats: &Arc<Stats>| {
        let Damage { mended, lent, lost } = stats.damage();
        [(mended, "mended"), (lent, "lent"), (lost, "lost")].map(|(count, of)| Sample::number(count).of(of))
    };
    now.stats.iter().flat_map(told).collect()
}

fn purged(now: &StoreNow) -> Vec<Sample> {
    let told = |stats: &Arc<Stats>| {
        let Expunged { purged, purged_early, .. } = stats.expunged();
        [(purged, "retention"), (purged_early, "room")].map(|(count, why)| Sample::number(count).of(why))
    };
    now.stats.iter().flat_map(told).collect()
}

fn compared(now: &StoreNow, read: impl Fn(&Compares) -> u64) -> Vec<Sample> {
    now.compared.iter().map(|(counts, _)| Sample::number(read(counts))).collect()
}

fn figure(now: &StoreNow, read: impl Fn(&Figures) -> u64) -> Vec<Sample> {
    now.figures.iter().map(|figures| Sample::number(read(figures))).collect()
}

/// The table.
pub const METRICS: &[Metric<StoreNow>] = &[
    Metric {
        name: "mailcluster_store_serving",
        kind: Kind::Gauge,
        labels: &[],
        help: "1 while this process serves the store.",
        read: |now| vec![Sample::number(now.serving.into())],
    },
    Metric {
        name: "mailcluster_store_poisoned",
        kind: Kind::Gauge,
        labels: &[],
        help: "1 when a write or sync of the store has failed: it does not serve here any more.",
        read: |now| vec![Sample::number(now.poisoned.into())],
    },
    Metric {
        name: "mailcluster_store_epoch",
        kind: Kind::Gauge,
        labels: &[],
        help: "Epoch this process holds, or held last.",
        read: |now| vec![Sample::number(now.epoch)],
    },
    Metric {
        name: "mailcluster_store_snapshot_octets",
        kind: Kind::Gauge,
        labels: &[],
        help: "Octets that are here of a snapshot that this copy takes from another; absent when it takes none.",
        read: |now| now.copied.iter().map(|copied| Sample::number(copied.octets)).collect(),
    },
    Metric {
        name: "mailcluster_store_snapshot_size_octets",
        kind: Kind::Gauge,
        labels: &[],
        help: "Octets that the snapshot has that this copy takes from another; absent when it takes none.",
        read: |now| now.copied.iter().map(|copied| Sample::number(copied.of)).collect(),
    },
    Metric {
        name: "mailcluster_store_lease_age_milliseconds",
        kind: Kind::Gauge,
        labels: &[],
        help: "How long ago the last renewal of the lease was asked for; absent before the first.",
        read: |now| now.lease.iter().map(|(age, _)| Sample::number(*age)).collect(),
    },
    Metric {
        name: "mailcluster_store_lease_left_milliseconds",
        kind: Kind::Gauge,
        labels: &[],
        help: "How long the last renewal is still good; 0 when it is not.",
        read: |now| vec![Sample::number(now.lease.map_or(0, |(_, left)| left))],
    },
    Metric {
        name: "mailcluster_store_commit_seconds",
        kind: Kind::Histogram,
        labels: &[],
        help: "Time to write and sync a batch of changes.",
        read: |now| now.stats.iter().map(|stats| Sample::histogram(stats.commit_seconds())).collect(),
    },
    Metric {
        name: "mailcluster_store_commit_changes",
        kind: Kind::Histogram,
        labels: &[],
        help: "Changes made durable together in one batch.",
        read: |now| now.stats.iter().map(|stats| Sample::histogram(stats.commit_changes())).collect(),
    },
    Metric {
        name: "mailcluster_store_sync_errors_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Writes and syncs of the log or the index that failed. The store stops at the first.",
        read: |now| now.stats.iter().map(|stats| Sample::number(stats.failures())).collect(),
    },
    Metric {
        name: "mailcluster_store_log_live_octets",
        kind: Kind::Gauge,
        labels: &[],
        help: "Octets of the log that are still needed, as of the last look; 0 before the first.",
        read: |now| now.stats.iter().map(|stats| Sample::number(stats.live_and_dead().0)).collect(),
    },
    Metric {
        name: "mailcluster_store_log_dead_octets",
        kind: Kind::Gauge,
        labels: &[],
        help: "Octets of the log that are not needed any more, as of the last look; 0 before the first.",
        read: |now| now.stats.iter().map(|stats| Sample::number(stats.live_and_dead().1)).collect(),
    },
    Metric {
        name: "mailcluster_store_packed_octets_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Octets written to packs, so that the files they come from could be removed.",
        read: |now| now.stats.iter().map(|stats| Sample::number(stats.packed_octets())).collect(),
    },
    Metric {
        name: "mailcluster_store_removed_files_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Segments and packs that were removed because little or nothing of them was needed.",
        read: |now| now.stats.iter().map(|stats| Sample::number(stats.removed_files().0)).collect(),
    },
    Metric {
        name: "mailcluster_store_removed_octets_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Octets of the segments and packs that were removed.",
        read: |now| now.stats.iter().map(|stats| Sample::number(stats.removed_files().1)).collect(),
    },
    Metric {
        name: "mailcluster_store_damage_total",
        kind: Kind::Counter,
        labels: &["outcome"],
        help: "Damaged places of the log that were read: mended with what another copy has; lent by it, and not written here; or lost.",
        read: damage,
    },
    Metric {
        name: "mailcluster_store_copies_differing",
        kind: Kind::Gauge,
        labels: &[],
        help: "Copies whose indexes differ from that of the copy that serves: one of the two is wrong.",
        read: |now| now.compared.iter().map(|(_, differing)| Sample::count(*differing)).collect(),
    },
    Metric {
        name: "mailcluster_store_compared_slices_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Slices of the index that were compared with the copies'.",
        read: |now| compared(now, |counts| counts.slices),
    },
    Metric {
        name: "mailcluster_store_compared_indexes_total",
        kind: Kind::Counter,
        labels: &[],
        help: "How often all of a copy's index was compared.",
        read: |now| compared(now, |counts| counts.passes),
    },
    Metric {
        name: "mailcluster_store_accounts",
        kind: Kind::Gauge,
        labels: &[],
        help: "Accounts on the store.",
        read: |now| figure(now, |figures| figures.usage.accounts),
    },
    Metric {
        name: "mailcluster_store_octets",
        kind: Kind::Gauge,
        labels: &[],
        help: "Octets of live mail.",
        read: |now| figure(now, |figures| figures.usage.octets),
    },
    Metric {
        name: "mailcluster_store_expunged_messages",
        kind: Kind::Gauge,
        labels: &[],
        help: "Messages that were expunged and can be brought back.",
        read: |now| figure(now, |figures| figures.usage.recoverable),
    },
    Metric {
        name: "mailcluster_store_expunged_octets",
        kind: Kind::Gauge,
        labels: &[],
        help: "Octets of the messages that were expunged and can be brought back.",
        read: |now| figure(now, |figures| figures.usage.recoverable_octets),
    },
    Metric {
        name: "mailcluster_store_expunged_purged_total",
        kind: Kind::Counter,
        labels: &["reason"],
        help: "Expunged messages that went for good: their retention was over, or the volume was short of room.",
        read: purged,
    },
    Metric {
        name: "mailcluster_store_expunged_restored_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Expunged messages that were brought back.",
        read: |now| now.stats.iter().map(|stats| Sample::number(stats.expunged().undeleted)).collect(),
    },
    Metric {
        name: "mailcluster_store_disk_free_octets",
        kind: Kind::Gauge,
        labels: &[],
        help: "Octets free on the store's volume.",
        read: |now| figure(now, |figures| figures.usage.free_octets),
    },
    Metric {
        name: "mailcluster_store_queue_recipients",
        kind: Kind::Gauge,
        labels: &[],
        help: "Recipients waiting in the queue, without those held.",
        read: |now| figure(now, |figures| figures.queue.recipients.saturating_sub(figures.queue.held)),
    },
    Metric {
        name: "mailcluster_store_queue_held_recipients",
        kind: Kind::Gauge,
        labels: &[],
        help: "Recipients held in the queue, for a person.",
        read: |now| figure(now, |figures| figures.queue.held),
    },
    Metric {
        name: "mailcluster_store_queue_oldest_timestamp_seconds",
        kind: Kind::Gauge,
        labels: &[],
        help: "When the oldest queued message came, Unix time; 0: none.",
        read: |now| figure(now, |figures| u64::try_from(figures.queue.oldest).unwrap_or(0)),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_serves_elsewhere_has_no_figures_here() {
        let figures = Figures { usage: StoreUsage::default(), queue: QueueStats::default() };
        let here = StoreNow {
            serving: true,
            poisoned: false,
            epoch: 3,
            lease: Some((10, 20)),
            stats: Some(Arc::default()),
            copied: Some(Copied { octets: 1, of: 2 }),
            compared: Some((Compares::default(), 0)),
            figures: Some(Arc::new(figures)),
        };
        let samples = |now: &StoreNow| METRICS.iter().map(|m| (m.read)(now).len()).collect::<Vec<_>>();
        let one = |(n, metric): (&usize, &Metric<StoreNow>)| metric.labels.is_empty() == (*n == 1) && *n > 0;
        assert!(samples(&here).iter().zip(METRICS).all(one), "{:?}", samples(&here));
        let elsewhere = StoreNow {
            serving: false,
            stats: None,
            copied: None,
            compared: None,
            figures: None,
            lease: None,
            ..here
        };
        let told: Vec<&str> =
            METRICS.iter().filter(|m| !(m.read)(&elsewhere).is_empty()).map(|m| m.name).collect();
        assert_eq!(
            told,
            ["serving", "poisoned", "epoch", "lease_left_milliseconds"]
                .map(|name| format!("mailcluster_store_{name}"))
        );
    }
}
