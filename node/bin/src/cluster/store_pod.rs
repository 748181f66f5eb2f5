//! A pod that holds a store's replica: its life under the Lease, its gRPC port, its health.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context, Result};
use mailcluster_api::{config::BackendConfig, mailcluster, mailstore, ports};
use mailcluster_arbiter::{
    KubeArbiter, KubeArbiterConfig, LeaseGate, ReplicaState, StatusHandle, control,
    lifecycle::{LifecycleConfig, Outcome},
};
use mailcluster_failover::FencingMinimum;
use mailcluster_net::remote::{Admission, Refusal, Serving};
use mailcluster_store::{Identity as StoreIdentity, StoreKind};
use mailcluster_types::{ClusterId, Epoch, StoreName};
use tokio_util::sync::CancellationToken;

use super::{
    grpc::{self, Changing},
    pod::Pod,
    providers::Providers,
    routes::Routes,
};
use crate::{
    holder::{Holder, HolderPlan, Service},
    metrics,
};

/// The store part of a pod's configuration.
pub fn section(pod: &Pod) -> Result<&BackendConfig> {
    pod.config.backend.as_ref().context("the configuration has no section `backend`")
}

/// Starts the replica's life and everything that tells of it.
pub fn start(
    pod: &Pod,
    replica: &str,
    service: Arc<dyn Service>,
    changing: &Changing,
    over: &CancellationToken,
) -> Result<Holder> {
    let section = section(pod)?;
    let kube = KubeArbiterConfig {
        namespace: pod.config.namespace.clone(),
        lease: section.lease.name.clone(),
        store: section.store.clone(),
        lease_seconds: section.lease.lease_seconds,
    };
    let config = LifecycleConfig {
        data_dir: section.data_dir.clone(),
        identity: StoreIdentity {
            cluster: pod.cluster,
            store: section.store.as_str().into(),
            replica: replica.parse().context("--replica")?,
            kind: match section.kind {
                mailstore::StoreKind::Mail => StoreKind::Mail,
                mailstore::StoreKind::Directory => StoreKind::Directory,
            },
        },
        pod_uid: pod.uid.clone(),
        start_id: pod.start_id.clone(),
        node: pod.node.clone(),
        endpoint: SocketAddr::new(pod.ip, ports::BACKEND_GRPC),
        lease_seconds: section.lease.lease_seconds,
        fencing: fencing(section.lease.fencing_minimum),
    };
    let arbiter = KubeArbiter::in_cluster(kube)?;
    let holder = HolderPlan { config, arbiter, service, shutdown: over.clone() }.start();
    let me = control::Me { pod_uid: pod.uid.clone(), start_id: pod.start_id.clone() };
    let providers = Arc::new(Providers::Store(holder.status.clone()));
    let control = control::service(providers, Some(holder.status.clone()), me);
    grpc::serve(pod.listen(ports::BACKEND_GRPC)?, pod.identity.clone(), control, changing);
    let status = holder.status.clone();
    pod.serve_health(Arc::new(move || match status.get().state {
        ReplicaState::Primary => Ok(()),
        other => Err(format!("{other:?}")),
    }))?;
    pod.tell_certificates(None)?;
    let (status, gate) = (holder.status.clone(), holder.gate.clone());
    tokio::spawn(metrics::watch_store(pod.registry.clone(), section.store.clone(), status, gate));
    Ok(holder)
}

fn fencing(minimum: mailcluster::FencingMinimum) -> FencingMinimum {
    match minimum {
        mailcluster::FencingMinimum::Proof => FencingMinimum::Proof,
        mailcluster::FencingMinimum::Statement => FencingMinimum::Statement,
        mailcluster::FencingMinimum::LeaseExpired => FencingMinimum::LeaseExpired,
    }
}

/// Waits for the end: SIGTERM drains the store; a poisoned one ends the process.
pub async fn finish(pod: &Pod, holder: Holder, over: &CancellationToken) -> Result<()> {
    let mut task = holder.task;
    let outcome: Outcome = tokio::select! {
        () = pod.shutdown.cancelled() => {
            over.cancel();
            task.await?
        }
        outcome = &mut task => outcome?,
    };
    crate::holder::check(outcome)
}

/// What this pod serves now, for every connection from a frontend or another backend.
pub struct PodAdmission {
    /// The cluster.
    pub cluster: ClusterId,
    /// The store.
    pub store: StoreName,
    /// The replica's state.
    pub status: StatusHandle,
    /// Its epoch.
    pub gate: Arc<LeaseGate>,
    /// Where it may be instead.
    pub routes: Routes,
}

impl Admission for PodAdmission {
    fn serving(&self) -> Result<Serving, Refusal> {
        let status = self.status.get();
        if let (ReplicaState::Primary, Some(store)) = (&status.state, &status.store) {
            return Ok(Serving { cluster: self.cluster, store: self.store.clone(), epoch: store.epoch() });
        }
        let elsewhere = self.routes.mail.get(&self.store).filter(|route| route.epoch > self.gate.epoch());
        Err(Refusal {
            reason: "the store is not served here".to_owned(),
            epoch: elsewhere.as_ref().map_or(0, |route| route.epoch),
            endpoint: elsewhere.map(|route| route.endpoint),
        })
    }

    fn higher_epoch_seen(&self, epoch: Epoch) {
        self.status.higher_epoch_seen(epoch);
    }
}
