//! A pod that holds a store's replica: its life under the Lease, its gRPC port, its health.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context, Result};
use mailcluster_api::{config::BackendConfig, mailcluster, mailstore, ports};
use mailcluster_arbiter::{
    KubeArbiter, KubeArbiterConfig, LeaseGate, ReplicaState, StatusHandle, control,
    lifecycle::{Alone, LifecycleConfig, Outcome, Peers, Replica},
};
use mailcluster_failover::{Durability, FencingMinimum};
use mailcluster_net::{
    mtls::{Expect, Role},
    remote::{Admission, Refusal, Serving},
};
use mailcluster_replication::Standby;
use mailcluster_store::{Identity as StoreIdentity, Options, StoreKind};
use mailcluster_types::{ClusterId, Epoch, StoreName};
use tokio_util::sync::CancellationToken;
use tonic::service::interceptor::InterceptedService;

use super::{
    grpc::{self, Changing, Mirrored},
    mirrors::{Own, PodPeers, keep_published, only_copies},
    pod::Pod,
    providers::Providers,
    routes::Routes,
};
use crate::{
    holder::{Holder, HolderPlan, Service, days},
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
    (routes, changing): (&Routes, &Changing),
    over: &CancellationToken,
) -> Result<Holder> {
    let section = section(pod)?;
    let name = StoreName::from(section.store.as_str());
    let kube = KubeArbiterConfig {
        namespace: pod.config.namespace.clone(),
        lease: section.lease.name.clone(),
        store: section.store.clone(),
        lease_seconds: section.lease.lease_seconds,
    };
    let config = LifecycleConfig {
        data_dir: section.data_dir.clone(),
        disk: Options::default().with_undelete(days(section.undelete_days.unwrap_or(0))),
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
        durability: section.mirrors.as_ref().map_or(Durability::Single, |m| durability(m.durability)),
        mirror_timeout: Duration::from_millis(
            section.mirrors.as_ref().map_or(0, |m| m.timeout_milliseconds.into()),
        ),
        peers: peers(pod, section, routes),
        comparing: Arc::default(),
    };
    let standby = Arc::new(Standby::default());
    let mirrors = section.mirrors.as_ref().map(|_| {
        let service = mailcluster_replication::service(standby.clone(), config.identity.clone());
        tonic::service::Routes::new(InterceptedService::new(service, only_copies(copies(section))))
    });
    let own = Own::new(pod, name, replica, config.endpoint, routes.mirrors());
    let replica = Replica { arbiter: KubeArbiter::in_cluster(kube)?, standby };
    let holder = HolderPlan { config, replica, service, shutdown: over.clone() }.start();
    if mirrors.is_some() {
        tokio::spawn(keep_published(own, holder.status.clone()));
    }
    let me = control::Me { pod_uid: pod.uid.clone(), start_id: pod.start_id.clone() };
    let providers = Arc::new(Providers::Store(holder.status.clone()));
    let control = control::service(providers, Some(holder.status.clone()), me);
    let mirrored = mirrors.map(|routes| Mirrored { routes, status: holder.status.clone() });
    grpc::serve(pod.listen(ports::BACKEND_GRPC)?, pod.identity.clone(), control, mirrored, changing);
    let (status, is_mirrored) = (holder.status.clone(), section.mirrors.is_some());
    pod.serve_health(Arc::new(move || match status.get().state {
        ReplicaState::Primary => Ok(()),
        // A mirror is as it should be, too: a budget counts it.
        ReplicaState::Standby if is_mirrored => Ok(()),
        other => Err(format!("{other:?}")),
    }))?;
    pod.tell_certificates(None)?;
    let (status, gate) = (holder.status.clone(), holder.gate.clone());
    tokio::spawn(metrics::watch_store(pod.registry.clone(), section.store.clone(), status, gate));
    Ok(holder)
}

/// The other copies of the pod's store.
fn peers(pod: &Pod, section: &BackendConfig, routes: &Routes) -> Arc<dyn Peers> {
    if section.mirrors.is_none() {
        return Arc::new(Alone);
    }
    Arc::new(PodPeers {
        store: section.store.as_str().into(),
        mirrors: routes.mirrors(),
        identity: pod.identity.clone(),
        expect: copies(section),
        kept: Mutex::default(),
    })
}

/// What the certificates of all copies of this store name.
fn copies(section: &BackendConfig) -> Expect {
    let role = match section.kind {
        mailstore::StoreKind::Mail => Role::Backend,
        mailstore::StoreKind::Directory => Role::Directory,
    };
    Expect { role, store: Some(section.store.as_str().into()) }
}

fn durability(durability: mailcluster::Durability) -> Durability {
    match durability {
        mailcluster::Durability::Preferred => Durability::Preferred,
        mailcluster::Durability::Required => Durability::Required,
    }
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
