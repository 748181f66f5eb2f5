//! A role's store: its life under an arbiter, and what is told of it.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::{Result, bail};
use async_trait::async_trait;
use mailcluster_arbiter::{
    LeaseGate, StatusHandle,
    lifecycle::{self, Alone, Lifecycle, LifecycleConfig, Outcome, Replica},
};
use mailcluster_failover::{Durability, FencingMinimum};
use mailcluster_store::{Identity, Options, Store};
use mailcluster_types::SessionId;
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// What begins when a store serves, and ends when it no longer does.
#[async_trait]
pub trait Service: Send + Sync + 'static {
    /// The store serves until `over` is cancelled.
    async fn start(&self, store: Store, over: CancellationToken);
    /// Resolves when what was in flight as `over` was cancelled has ended. At once, where nothing outlives a call.
    async fn drained(&self) {}
    /// It has stopped.
    async fn stop(&self);
}

/// A store's process: gate, status and the task that lives it.
pub struct Holder {
    /// Asked before every acknowledgement.
    pub gate: Arc<LeaseGate>,
    /// What the process says of itself.
    pub status: StatusHandle,
    /// True while the service runs: it is the last to start.
    pub started: watch::Receiver<bool>,
    /// Ends when the store has stopped for good.
    pub task: JoinHandle<Outcome>,
}

struct Events(Arc<dyn Service>, watch::Sender<bool>);

#[async_trait]
impl Lifecycle for Events {
    async fn serving(&self, store: Store, over: CancellationToken) {
        self.0.start(store, over).await;
        self.1.send_replace(true);
    }

    async fn drained(&self) {
        self.0.drained().await;
    }

    async fn stopped(&self) {
        self.1.send_replace(false);
        self.0.stop().await;
    }
}

/// How a store is held.
pub struct HolderPlan {
    /// What the lifecycle needs.
    pub config: LifecycleConfig,
    /// Who decides, and where the replica is fed.
    pub replica: Replica,
    /// What begins and ends with it.
    pub service: Arc<dyn Service>,
    /// Ends it.
    pub shutdown: CancellationToken,
}

impl HolderPlan {
    /// Starts the store's life.
    pub fn start(self) -> Holder {
        let (gate, status) = (LeaseGate::new(), StatusHandle::new());
        let (sender, started) = watch::channel(false);
        let events = Arc::new(Events(self.service, sender));
        let life =
            lifecycle::run(self.config, self.replica, events, gate.clone(), status.clone(), self.shutdown);
        Holder { gate, status, started, task: tokio::spawn(life) }
    }
}

/// So many days.
pub fn days(days: u32) -> Duration {
    Duration::from_secs(u64::from(days) * 86_400)
}

/// The lifecycle of a standalone node's store: no lease, no pod. What is expunged can be brought back for so long.
pub fn standalone_config(data_dir: &Path, identity: Identity, undelete: Duration) -> Result<LifecycleConfig> {
    Ok(LifecycleConfig {
        data_dir: data_dir.to_owned(),
        disk: Options::default().with_undelete(undelete),
        identity,
        pod_uid: "standalone".to_owned(),
        start_id: SessionId::random()?.to_string(),
        node: "standalone".to_owned(),
        endpoint: SocketAddr::from(([127, 0, 0, 1], 0)),
        lease_seconds: 8,
        fencing: FencingMinimum::Proof,
        durability: Durability::Single,
        mirror_timeout: Duration::ZERO,
        peers: Arc::new(Alone),
        comparing: Arc::default(),
    })
}

/// A poisoned store, or one whose disk hangs, ends the process with an exit code other than 0.
pub fn check(outcome: Outcome) -> Result<()> {
    match outcome {
        Outcome::Stopped => Ok(()),
        Outcome::Poisoned => bail!("a sync failed: nothing is acknowledged any more; look at the disk"),
        Outcome::DiskHangs => {
            tracing::error!("the disk does not answer, and a mirror has the store: look at the disk");
            // The runtime's own end would wait for threads that wait for the disk.
            std::process::exit(1)
        }
    }
}
