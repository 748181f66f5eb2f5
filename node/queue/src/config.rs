//! What a runner is given, and how it is spoken to.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use mailcluster_outbound::schedule::{Backoff, Lifetime, LineLimits};
use mailcluster_relay::Relay;
use mailcluster_types::StoreName;
use tokio::sync::Notify;

/// Bounds and names.
#[derive(Clone)]
pub struct QueueConfig {
    /// The cluster's FQDN, for LHLO and bounces.
    pub hostname: Arc<str>,
    /// What waits longer is bounced. Default 5 days; stores remember delivery ids for a day more.
    pub max_age: Duration,
    /// Connections to one store. Default 4.
    pub connections_per_store: usize,
    /// Connections in all. Default 32.
    pub connections: usize,
    /// Longest wait between attempts at a store that cannot be reached. Default 15 s.
    pub away_limit: Duration,
    /// Longest wait between attempts of a recipient that was refused for now. Default 60 s.
    pub retry_limit: Duration,
    /// How often the queue is looked at when nothing is heard of it. Default 1 s.
    pub poll: Duration,
    /// The way to other sites; without it, mail for them is held.
    pub out: Option<Out>,
    /// To speak to the runner while it runs.
    pub handle: QueueHandle,
}

/// The way to other sites.
#[derive(Clone)]
pub struct Out {
    /// Takes mail there.
    pub relay: Arc<Relay>,
    /// Pauses between attempts.
    pub backoff: Backoff,
    /// How long mail may wait.
    pub lifetime: Lifetime,
    /// How many attempts there are at once.
    pub limits: LineLimits,
}

impl Out {
    /// The defaults.
    #[must_use]
    pub fn new(relay: Arc<Relay>) -> Self {
        Self {
            relay,
            backoff: Backoff::default(),
            lifetime: Lifetime::default(),
            limits: LineLimits::default(),
        }
    }
}

impl QueueConfig {
    /// The defaults.
    #[must_use]
    pub fn new(hostname: Arc<str>) -> Self {
        Self {
            hostname,
            max_age: Duration::from_secs(5 * 24 * 3600),
            connections_per_store: 4,
            connections: 32,
            away_limit: Duration::from_secs(15),
            retry_limit: Duration::from_secs(60),
            poll: Duration::from_secs(1),
            out: None,
            handle: QueueHandle::default(),
        }
    }
}

/// Speaks to a runner. Cheap to clone.
#[derive(Clone, Default)]
pub struct QueueHandle {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    bells: Mutex<HashMap<StoreName, Arc<Bell>>>,
    look: Notify,
    counters: Counters,
}

/// Rings a store's worker.
#[derive(Default)]
pub(crate) struct Bell {
    /// Something may wait for the store.
    pub(crate) work: Notify,
    /// Its route has changed: an end to waiting for it.
    pub(crate) route: Notify,
}

#[derive(Default)]
struct Counters {
    delivered: AtomicU64,
    deferred: AtomicU64,
    bounced: AtomicU64,
    held: AtomicU64,
    dropped: AtomicU64,
    sent: AtomicU64,
    put_off: AtomicU64,
    perhaps_twice: AtomicU64,
}

/// What a runner has done since it started, in recipients.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueCounters {
    /// Delivered to their stores.
    pub delivered: u64,
    /// Attempts that were refused for now.
    pub deferred: u64,
    /// Given up with a bounce.
    pub bounced: u64,
    /// Given up with a bounce that is held, as there is no way to its sender.
    pub held: u64,
    /// Given up without a bounce, as their sender was null.
    pub dropped: u64,
    /// Taken by servers of other sites.
    pub sent: u64,
    /// Attempts at other sites that are to be made again.
    pub put_off: u64,
    /// Of those, the ones whose connection was lost after the end of the message: they may arrive twice.
    pub perhaps_twice: u64,
}

impl QueueHandle {
    /// A store's route has changed: what waits for it is tried at once.
    pub fn kick(&self, store: &StoreName) {
        if let Some(bell) = self.bells().get(store) {
            bell.route.notify_one();
        }
        self.shared.look.notify_one();
    }

    /// What waits for any store is tried at once.
    pub(crate) fn kick_all(&self) {
        self.bells().values().for_each(|bell| bell.route.notify_one());
    }

    /// What was done so far.
    #[must_use]
    pub fn counters(&self) -> QueueCounters {
        let counters = &self.shared.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        QueueCounters {
            delivered: read(&counters.delivered),
            deferred: read(&counters.deferred),
            bounced: read(&counters.bounced),
            held: read(&counters.held),
            dropped: read(&counters.dropped),
            sent: read(&counters.sent),
            put_off: read(&counters.put_off),
            perhaps_twice: read(&counters.perhaps_twice),
        }
    }

    pub(crate) async fn look(&self) {
        self.shared.look.notified().await;
    }

    /// The bell of a store's worker; the same one at each call.
    pub(crate) fn bell(&self, store: &StoreName) -> Arc<Bell> {
        self.bells().entry(store.clone()).or_default().clone()
    }

    fn bells(&self) -> std::sync::MutexGuard<'_, HashMap<StoreName, Arc<Bell>>> {
        self.shared.bells.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn delivered(&self) {
        self.shared.counters.delivered.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn deferred(&self) {
        self.shared.counters.deferred.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn bounced(&self) {
        self.shared.counters.bounced.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn held(&self) {
        self.shared.counters.held.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn sent(&self) {
        self.shared.counters.sent.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn put_off(&self) {
        self.shared.counters.put_off.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn perhaps_twice(&self) {
        self.shared.counters.perhaps_twice.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn dropped(&self) {
        self.shared.counters.dropped.fetch_add(1, Ordering::Relaxed);
    }
}
