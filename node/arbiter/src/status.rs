//! What the process says of itself, for Describe, for metrics and for the log.

use std::{
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::FutureExt;
use mailcluster_failover::Position;
use mailcluster_replication::{Comparing, Copied};
use mailcluster_store::{ReplicaDescription, Store};
use tokio::sync::{Notify, watch};

use crate::clock::boottime;

/// Where the replica's process stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ReplicaState {
    /// It has not looked at its lease or volume yet.
    #[default]
    Starting,
    /// It waits until it may open its volume; why, for people.
    Waiting(String),
    /// Open, not serving.
    Standby,
    /// It keeps what lies behind this record, which a forced promotion has left behind.
    Forked(Position),
    /// Three starts in two minutes: a standby until it is asked.
    CrashLoop,
    /// It tries to take the lease.
    Candidate,
    /// It has the lease and has not published its route yet.
    Settling,
    /// It serves.
    Primary,
    /// It stops, to hand the store over.
    Draining,
    /// A sync failed.
    Poisoned,
    /// It refuses its volume or its lease; why, for people.
    Refused(String),
}

/// A snapshot of [`StatusHandle`].
#[derive(Clone, Default)]
pub struct ReplicaStatus {
    /// Where it stands.
    pub state: ReplicaState,
    /// The volume's own account of itself, while the process has it open.
    pub description: Option<ReplicaDescription>,
    /// The store, while it serves.
    pub store: Option<Store>,
    /// How far a snapshot has come that the replica takes.
    pub copied: Option<Copied>,
    /// What is known of the mirrors' indexes; of a replica that serves.
    pub comparing: Arc<Comparing>,
}

struct Inner {
    status: RwLock<ReplicaStatus>,
    drain: Notify,
    heir: Mutex<Option<String>>,
    /// The highest epoch of this store that a peer or frontend has asked for.
    higher: watch::Sender<u64>,
    /// When a frontend or another store's pod was heard last (milliseconds of CLOCK_BOOTTIME); 0: never.
    heard: AtomicU64,
}

/// Shared by the lifecycle, which writes, and whoever asks. Cheap to clone.
#[derive(Clone)]
pub struct StatusHandle(Arc<Inner>);

impl Default for StatusHandle {
    fn default() -> Self {
        Self(Arc::new(Inner {
            status: RwLock::default(),
            drain: Notify::new(),
            heir: Mutex::new(None),
            higher: watch::Sender::new(0),
            heard: AtomicU64::new(0),
        }))
    }
}

impl StatusHandle {
    /// A handle that says `Starting`.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What is said now.
    #[must_use]
    pub fn get(&self) -> ReplicaStatus {
        self.0.status.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks the holder to hand the store over, to this replica if that can take it; it goes on as a standby. Nothing
    /// happens when it does not serve.
    pub fn request_drain(&self, to: Option<String>) {
        *self.0.heir.lock().unwrap_or_else(PoisonError::into_inner) = to;
        if matches!(self.get().state, ReplicaState::Primary) {
            self.0.drain.notify_one();
        }
    }

    /// A peer or frontend with a certificate of the cluster asked for this epoch of the store, which is higher than ours.
    pub fn higher_epoch_seen(&self, epoch: u64) {
        self.0.higher.send_if_modified(|highest| {
            let higher = epoch > *highest;
            *highest = epoch.max(*highest);
            higher
        });
    }

    /// A frontend, or another store's pod, with a certificate of the cluster has sent something.
    pub fn heard(&self) {
        self.0.heard.store(boottime(), Ordering::Relaxed);
    }

    /// Was one of them heard within this span?
    pub(crate) fn heard_within(&self, span: Duration) -> bool {
        let at = self.0.heard.load(Ordering::Relaxed);
        at != 0 && u128::from(boottime().saturating_sub(at)) < span.as_millis()
    }

    /// Waits until somebody has asked for a higher epoch than `known`; answers which.
    pub(crate) async fn higher_epoch(&self, known: u64) -> u64 {
        let mut heard = self.0.higher.subscribe();
        let seen = heard.wait_for(|highest| *highest > known).await.map(|highest| *highest);
        match seen {
            Ok(highest) => highest,
            // The sender lives as long as this handle.
            Err(_) => std::future::pending().await,
        }
    }

    /// The replica that the store was asked to be handed to last; it is asked for once.
    pub(crate) fn take_heir(&self) -> Option<String> {
        self.0.heir.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// What was asked of the term before ended with it.
    pub(crate) fn forget_drain(&self) {
        self.take_heir();
        self.0.drain.notified().now_or_never();
    }

    pub(crate) async fn drain_requested(&self) {
        self.0.drain.notified().await;
    }

    pub(crate) fn set(&self, state: ReplicaState) {
        let mut status = self.0.status.write().unwrap_or_else(PoisonError::into_inner);
        if status.state != state {
            tracing::info!(from = ?status.state, to = ?state, "replica changes its state");
            status.state = state;
        }
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut ReplicaStatus)) {
        change(&mut self.0.status.write().unwrap_or_else(PoisonError::into_inner));
    }
}
