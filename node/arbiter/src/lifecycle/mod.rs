//! From an opening volume to a serving store and back: Opening -> Standby -> Candidate -> Settling -> Primary ->
//! (Draining | fenced) -> Standby, and Poisoned, from where only the process' end leads.
//!
//! A cut-off or deposed holder steps down in the process, at once and without a graceful shutdown; nothing rests on the
//! process' exit. Only a poisoned replica ends it.

mod hold;
mod open;
mod stand;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use mailcluster_failover::{FencingMinimum, Holder, InForce, Millis, Role};
use mailcluster_store::{Identity, Store};
use tokio_util::sync::CancellationToken;

use crate::{
    arbiter::Arbiter,
    clock,
    gate::LeaseGate,
    status::{ReplicaState, StatusHandle},
};

/// How often lease and target are looked at by a process that does not hold the store.
const POLL: Duration = Duration::from_millis(500);
/// Retries of what failed wait this long at most, with jitter (F2).
const RETRY: Duration = Duration::from_millis(800);

/// What a replica's process needs to know.
#[derive(Clone)]
pub struct LifecycleConfig {
    /// The root of the volume.
    pub data_dir: PathBuf,
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
}

impl LifecycleConfig {
    pub(crate) fn lease_ms(&self) -> Millis {
        u64::from(self.lease_seconds) * 1000
    }

    pub(crate) fn me(&self) -> Holder {
        Holder { pod_uid: self.pod_uid.clone(), start_id: self.start_id.clone() }
    }

    pub(crate) fn rules(&self) -> InForce {
        InForce { durability: mailcluster_failover::Durability::Single, fencing: self.fencing }
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
}

pub(crate) struct Life {
    pub config: LifecycleConfig,
    pub arbiter: Arc<dyn Arbiter>,
    pub gate: Arc<LeaseGate>,
    pub status: StatusHandle,
    pub shutdown: CancellationToken,
    pub boot_id: String,
}

/// Runs a replica until `shutdown` is cancelled or a sync fails. `gate` is what the store will ask; `status` is what
/// Describe says.
pub async fn run(
    config: LifecycleConfig,
    arbiter: Arc<dyn Arbiter>,
    events: Arc<dyn Lifecycle>,
    gate: Arc<LeaseGate>,
    status: StatusHandle,
    shutdown: CancellationToken,
) -> Outcome {
    let life = Life { config, arbiter, gate, status, shutdown, boot_id: clock::boot_id() };
    loop {
        life.gate.set_role(Role::Opening);
        let Some(replica) = life.open().await else { return Outcome::Stopped };
        let taken = match life.stand(replica).await {
            stand::Stood::Taken(taken) => taken,
            stand::Stood::Closed => continue,
            stand::Stood::Ended => return Outcome::Stopped,
        };
        match life.hold(*taken, events.as_ref()).await {
            hold::Ended::Poisoned => {
                life.status.set(ReplicaState::Poisoned);
                return Outcome::Poisoned;
            }
            hold::Ended::Shutdown => return Outcome::Stopped,
            hold::Ended::Closed => {}
        }
    }
}

impl Life {
    /// Sleeps; `false` when the process is to end.
    pub(crate) async fn pause(&self, span: Duration) -> bool {
        tokio::select! {
            () = tokio::time::sleep(span) => true,
            () = self.shutdown.cancelled() => false,
        }
    }

    /// Waits a random part of the retry time, so that many holders do not ask in step.
    pub(crate) async fn retry_pause(&self) -> bool {
        // Jitter needs no good randomness; the clock's low bits do.
        let nanos = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic).tv_nsec;
        let part = u32::try_from((nanos / 1000) & 255).unwrap_or(128);
        self.pause(RETRY / 4 + RETRY * part / 512).await
    }
}
