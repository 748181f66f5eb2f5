//! From an opening volume to a serving store and back: Opening -> Standby -> Candidate -> Settling -> Primary ->
//! (Draining | fenced) -> Standby, and Poisoned, from where only the process' end leads. A single copy is a store whose
//! in-sync set is itself: it goes the same way.
//!
//! A cut-off or deposed holder steps down in the process, at once and without a graceful shutdown; nothing rests on the
//! process' exit. Only a poisoned replica ends it.

mod borrower;
mod feeds;
mod hold;
mod members;
mod open;
mod settle;
mod stand;
mod term;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use mailcluster_failover::{Durability, FencingMinimum, Holder, InForce, Millis, Role};
use mailcluster_replication::{Comparing, Standby};
use mailcluster_store::{Identity, Options, Store, machine};
use tokio_util::sync::CancellationToken;

use crate::{
    arbiter::Arbiter,
    clock,
    gate::LeaseGate,
    status::{ReplicaState, StatusHandle},
};
pub use feeds::{Alone, Peers};

/// How often lease and target are looked at by a process that does not hold the store.
const POLL: Duration = Duration::from_millis(500);
/// Retries of what failed wait this long at most, with jitter (F2).
const RETRY: Duration = Duration::from_millis(800);

/// What a replica's process needs to know.
#[derive(Clone)]
pub struct LifecycleConfig {
    /// The root of the volume.
    pub data_dir: PathBuf,
    /// What the volume lies on.
    pub disk: Options,
    /// Whose volume it must be.
    pub identity: Identity,
    /// The pod's UID; `standalone` in a standalone node.
    pub pod_uid: String,
    /// Drawn at the process' start.
    pub start_id: String,
    /// The node's name (downward API).
    pub node: String,
    /// The gRPC address to publish.
    pub endpoint: SocketAddr,
    /// D, in seconds.
    pub lease_seconds: u32,
    /// What a takeover of this holder shall want, written into the lease.
    pub fencing: FencingMinimum,
    /// How many copies an acknowledgement wants, written into the lease.
    pub durability: Durability,
    /// How long a client waits for a mirror before the mirror is left out.
    pub mirror_timeout: Duration,
    /// The other replicas of the store.
    pub peers: Arc<dyn Peers>,
    /// How often their indexes are compared with the one that serves.
    pub comparing: Arc<Comparing>,
}

impl LifecycleConfig {
    pub(crate) fn lease_ms(&self) -> Millis {
        u64::from(self.lease_seconds) * 1000
    }

    pub(crate) fn lease(&self) -> Duration {
        Duration::from_secs(u64::from(self.lease_seconds))
    }

    pub(crate) fn me(&self) -> Holder {
        Holder { pod_uid: self.pod_uid.clone(), start_id: self.start_id.clone() }
    }

    pub(crate) fn rules(&self) -> InForce {
        InForce { durability: self.durability, fencing: self.fencing }
    }
}

/// What the node does when its replica begins and ends to serve.
#[async_trait]
pub trait Lifecycle: Send + Sync + 'static {
    /// The store serves: open listeners' doors, and return at once (the lease is renewed after that). `over` is
    /// cancelled when it ends: sessions finish the command they are at, if it may still be acknowledged, and close
    /// without a farewell that could be taken for a success.
    async fn serving(&self, store: Store, over: CancellationToken);

    /// Resolves when every session has ended, after `over` was cancelled. Waited for only before a stop that was
    /// asked for, and only as long as the lease is good for.
    async fn drained(&self);

    /// The store has stopped; the volume is about to be given back.
    async fn stopped(&self);
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// As asked: the store was stopped and its lease released.
    Stopped,
    /// A sync failed: the process must end, with an exit code other than 0.
    Poisoned,
    /// The disk does not answer, and a mirror has the store: the process must end, without waiting for anything.
    DiskHangs,
}

pub(crate) struct Life {
    pub config: LifecycleConfig,
    pub arbiter: Arc<dyn Arbiter>,
    pub gate: Arc<LeaseGate>,
    pub status: StatusHandle,
    pub shutdown: CancellationToken,
    pub boot_id: String,
    /// Where the replica is while it does not serve.
    pub standby: Arc<Standby>,
}

/// A replica's place among the others.
pub struct Replica {
    /// Who decides.
    pub arbiter: Arc<dyn Arbiter>,
    /// Where it is fed; what serves [`mailcluster_replication::service`] has it too.
    pub standby: Arc<Standby>,
}

/// Runs a replica until `shutdown` is cancelled or a sync fails. `gate` is what the store will ask; `status` is what
/// Describe says.
pub async fn run(
    config: LifecycleConfig,
    replica: Replica,
    events: Arc<dyn Lifecycle>,
    gate: Arc<LeaseGate>,
    status: StatusHandle,
    shutdown: CancellationToken,
) -> Outcome {
    let Replica { arbiter, standby } = replica;
    let comparing = config.comparing.clone();
    status.update(|status| status.comparing = comparing.clone());
    let life = Life { config, arbiter, gate, status, shutdown, boot_id: clock::boot_id(), standby };
    let ended = tokio::select! {
        ended = life.live(events.as_ref()) => ended,
        () = life.hear_of_others() => Outcome::Stopped,
    };
    // Closes the volume of one that stood by.
    let standby = life.standby;
    let _ = machine::blocking(move || drop(standby.take())).await;
    ended
}

impl Life {
    async fn live(&self, events: &dyn Lifecycle) -> Outcome {
        loop {
            if !self.standby.has_replica() {
                self.gate.set_role(Role::Opening);
                let Some(follower) = self.open().await else { return Outcome::Stopped };
                self.standby.give(follower);
            }
            let taken = match self.stand().await {
                stand::Stood::Taken(taken) => taken,
                stand::Stood::Closed => continue,
                stand::Stood::Poisoned => return self.poisoned_standby(),
                stand::Stood::Ended => return Outcome::Stopped,
            };
            match self.hold(*taken, events).await {
                hold::Ended::Poisoned => {
                    self.status.set(ReplicaState::Poisoned);
                    return Outcome::Poisoned;
                }
                hold::Ended::DiskHangs => return Outcome::DiskHangs,
                hold::Ended::Shutdown => return Outcome::Stopped,
                hold::Ended::Over => {}
            }
        }
    }

    fn poisoned_standby(&self) -> Outcome {
        tracing::error!("a sync failed: this mirror is poisoned");
        mailcluster_store::Gate::poisoned(&*self.gate);
        self.status.set(ReplicaState::Poisoned);
        Outcome::Poisoned
    }

    /// Another primary that wants to feed this replica, while it serves, shows its epoch.
    async fn hear_of_others(&self) {
        let mut wanted = self.standby.wanted();
        while wanted.changed().await.is_ok() {
            let epoch = *wanted.borrow_and_update();
            self.status.higher_epoch_seen(epoch);
        }
    }

    /// Has the store other replicas?
    pub(crate) fn is_mirrored(&self) -> bool {
        self.config.durability != Durability::Single
    }

    /// Sleeps; `false` when the process is to end.
    pub(crate) async fn pause(&self, span: Duration) -> bool {
        tokio::select! {
            () = tokio::time::sleep(span) => true,
            () = self.shutdown.cancelled() => false,
        }
    }

    /// Waits a random part of the retry time, so that many holders do not ask in step.
    pub(crate) async fn retry_pause(&self) -> bool {
        self.pause(RETRY / 4 + RETRY * machine::jitter() / 512).await
    }
}
