//! A copy of a store: it describes itself, takes the store when it is asked to, and then renews its Lease as a mail node
//! does, with the node's own code for Lease and route. It has no volume: nobody writes mail.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use mailcluster_api::{MailStore, mailstore::Target};
use mailcluster_arbiter::{
    Arbiter, Current, KubeArbiter, KubeArbiterConfig, Route, SwapError, clock::boottime, publish_mirror,
};
use mailcluster_failover::{Durability, FencingMinimum, Holder, InForce, LeaseRecord, Position, Taker, take};
use mailcluster_rpc::control::v1::{
    DescribeRequest, DescribeResponse, DrainRequest, DrainResponse, ReachabilityRequest,
    ReachabilityResponse, State, StatusRequest, StatusResponse, control_server::Control,
};
use tonic::{Request, Response, Status};

use crate::{nodes::boot_id, plan::node_name, site::Site};

/// As the spec has it above 50 stores.
pub const LEASE_SECONDS: u32 = 15;
/// How long a mirror that is silent is waited for.
const MIRROR_TIMEOUT: Duration = Duration::from_secs(3);
/// Between two looks at what the operator asks for.
const LOOK: Duration = Duration::from_millis(250);
/// Before something that failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Who it is.
#[derive(Debug, Clone)]
pub struct Me {
    /// The store's name.
    pub store: String,
    /// The copy's id.
    pub id: String,
    /// The cluster's id.
    pub cluster: String,
    /// The pod's UID.
    pub pod: String,
    /// The node's number.
    pub node: usize,
    /// Where it answers.
    pub at: SocketAddr,
}

/// One copy.
#[derive(Clone)]
pub struct Replica {
    me: Me,
    site: Site,
}

impl Replica {
    /// It does not live yet.
    pub fn new(me: Me, site: Site) -> Self {
        Self { me, site }
    }

    /// Lives until the node dies.
    pub async fn live(self) {
        tokio::select! {
            () = self.site.until_dead(self.me.node) => {}
            () = self.serve() => {}
        }
    }

    async fn serve(&self) {
        let Me { store, id, at, .. } = &self.me;
        let (client, namespace) = (&self.site.client, &self.site.namespace);
        while let Err(error) = publish_mirror(client.clone(), namespace, store, (id, *at)).await {
            eprintln!("{store}: the mirror's address was not published: {error}");
            tokio::time::sleep(AGAIN).await;
        }
        let arbiter = KubeArbiter::with_client(
            KubeArbiterConfig {
                namespace: namespace.clone(),
                lease: store.clone(),
                store: store.clone(),
                lease_seconds: LEASE_SECONDS,
            },
            client.clone(),
        );
        loop {
            let target = self.until_asked().await;
            if let Err(error) = self.hold(&arbiter, &target).await {
                eprintln!("{store}, copy {id}: {error:#}");
            }
            self.site.change(store, |line| {
                line.holder.take_if(|holder| *holder == self.me.pod);
            });
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn until_asked(&self) -> Target {
        loop {
            let store = self.site.store(&self.me.store);
            let target = store.as_ref().and_then(|store| store.status.as_ref()?.target.clone());
            if let Some(target) = target.filter(|target| target.replica == self.me.id) {
                return target;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Takes the store and renews its Lease for as long as it has it.
    async fn hold(&self, arbiter: &Arc<KubeArbiter>, target: &Target) -> Result<()> {
        let found = arbiter.current().await?;
        ensure!(found.version == target.lease_version, "the target is void");
        let record = found.record.as_ref().context("there is no Lease")?;
        let next = self.taken(record);
        let mut current = arbiter.swap(&found, &next).await?;
        let end = Position { epoch: next.epoch, seq: record.position.seq + 1 };
        self.site.change(&self.me.store, |line| {
            (line.end, line.in_sync_version) = (end, next.in_sync_version);
            line.in_sync.clone_from(&next.in_sync);
            line.holder = Some(self.me.pod.clone());
        });
        let route = Route {
            epoch: next.epoch,
            replica: self.me.id.clone(),
            pod_uid: self.me.pod.clone(),
            endpoint: self.me.at,
        };
        while let Err(error) = arbiter.publish(&route).await {
            eprintln!("{}: the route was not published: {error}", self.me.store);
            tokio::time::sleep(AGAIN).await;
        }
        loop {
            tokio::time::sleep(self.pause(&current)).await;
            current = self.renew(arbiter, current, end).await?;
        }
    }

    fn taken(&self, record: &LeaseRecord) -> LeaseRecord {
        let holder = Holder { pod_uid: self.me.pod.clone(), start_id: start_id(&self.me.pod) };
        take(
            record,
            &Taker {
                me: &holder,
                replica: &self.me.id,
                rules: InForce { durability: Durability::Required, fencing: FencingMinimum::Proof },
                node: &node_name(self.me.node),
                boot_id: &boot_id(self.me.node),
                now: boottime(),
                forced: None,
            },
        )
    }

    /// Until the next renewal; sooner when a mirror of the in-sync set is dead.
    fn pause(&self, current: &Current) -> Duration {
        let quarter = Duration::from_millis(u64::from(LEASE_SECONDS) * 250);
        let in_sync = current.record.as_ref().map_or(&[][..], |record| &record.in_sync);
        if self.without_dead(in_sync) == in_sync { quarter } else { quarter.min(MIRROR_TIMEOUT) }
    }

    /// The set without those that are dead; at least two stay in it.
    fn without_dead(&self, in_sync: &[String]) -> Vec<String> {
        let dead = self.site.store(&self.me.store).map(|store| self.site.dead_copies(&store));
        let dead = dead.unwrap_or_default();
        let left: Vec<String> = in_sync.iter().filter(|id| !dead.contains(*id)).cloned().collect();
        if left.len() >= 2 { left } else { in_sync.to_vec() }
    }

    async fn renew(&self, arbiter: &KubeArbiter, current: Current, end: Position) -> Result<Current> {
        let mut next = current.record.clone().context("there is no Lease")?;
        next.position = end;
        let in_sync = self.without_dead(&next.in_sync);
        if in_sync != next.in_sync {
            next.in_sync = in_sync;
            next.in_sync_version += 1;
        }
        match arbiter.swap(&current, &next).await {
            Ok(written) => {
                self.site.change(&self.me.store, |line| {
                    line.in_sync_version = next.in_sync_version;
                    line.in_sync.clone_from(&next.in_sync);
                });
                Ok(written)
            }
            Err(SwapError::Conflict | SwapError::Unknown(_)) => {
                let found = arbiter.current().await?;
                let holder = found.record.as_ref().and_then(|record| record.holder.as_ref());
                ensure!(holder == next.holder.as_ref(), "another holds the store");
                Ok(found)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Every pod has one process.
fn start_id(pod: &str) -> String {
    pod.chars().filter(|c| *c != '-').collect()
}

/// The id of a copy, by the letter of its pod.
pub fn replica_id(store: &MailStore, copy: usize) -> Option<String> {
    store.spec.replicas.get(copy).map(|replica| replica.id.clone())
}

#[tonic::async_trait]
impl Control for Replica {
    async fn describe(&self, _: Request<DescribeRequest>) -> Result<Response<DescribeResponse>, Status> {
        let (me, line) = (&self.me, self.site.line(&self.me.store));
        let holds = line.holder.as_ref() == Some(&me.pod);
        Ok(Response::new(DescribeResponse {
            state: if holds { State::Primary } else { State::Standby }.into(),
            cluster_id: me.cluster.clone(),
            store: me.store.clone(),
            replica: me.id.clone(),
            pod_uid: me.pod.clone(),
            start_id: start_id(&me.pod),
            open: true,
            last_epoch: line.end.epoch,
            end_epoch: line.end.epoch,
            end_seq: line.end.seq,
            promise: line.end.epoch,
            in_sync_version: line.in_sync_version,
            in_sync: line.in_sync.clone(),
            format: 1,
            epoch: if holds { line.end.epoch } else { 0 },
            ..DescribeResponse::default()
        }))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let line = self.site.line(&self.me.store);
        let holds = line.holder.as_ref() == Some(&self.me.pod);
        let state = if holds { State::Primary } else { State::Standby };
        let epoch = if holds { line.end.epoch } else { 0 };
        Ok(Response::new(StatusResponse {
            state: state.into(),
            epoch,
            commit_epoch: epoch,
            commit_seq: line.end.seq,
            accounts: 5_000,
            octets: 50 << 30,
            disk_free: 50 << 30,
            disk_size: 100 << 30,
            ..StatusResponse::default()
        }))
    }

    async fn drain(&self, _: Request<DrainRequest>) -> Result<Response<DrainResponse>, Status> {
        Err(Status::unimplemented("nothing is handed over here"))
    }

    async fn reachability(
        &self,
        _: Request<ReachabilityRequest>,
    ) -> Result<Response<ReachabilityResponse>, Status> {
        Err(Status::unimplemented(format!("{} is no frontend", self.me.store)))
    }
}

/// The store of this name, once the watch shows it.
pub async fn until_there(site: &Site, store: &str) -> Arc<MailStore> {
    loop {
        match site.store(store) {
            Some(found) if found.name_any() == store => return found,
            _ => tokio::time::sleep(LOOK).await,
        }
    }
}
