//! The control service of a mail pod: what the operator asks. The listener admits the certificate role operator only.

use std::sync::Arc;

use async_trait::async_trait;
use mailcluster_replication::Difference;
use mailcluster_rpc::control::v1::{
    DescribeRequest, DescribeResponse, Differing, DrainRequest, DrainResponse, ReachabilityRequest,
    ReachabilityResponse, Salvaged, State, StatusRequest, StatusResponse, StoreReach,
    control_server::{Control, ControlServer},
};
use mailcluster_store::{Damage, SalvageEnd, left_behind};
use tonic::{Request, Response, Status};

use crate::status::{ReplicaState, ReplicaStatus, StatusHandle};

/// Counts of a store, gathered by whoever knows them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Accounts.
    pub accounts: u64,
    /// Octets of mail.
    pub octets: u64,
    /// Recipients in the queue.
    pub queued: u64,
    /// Age in seconds of the oldest of them.
    pub oldest_queued_seconds: u64,
    /// Octets free on the volume.
    pub disk_free: u64,
    /// Octets of the volume.
    pub disk_size: u64,
}

/// What the service asks of the rest of the node.
#[async_trait]
pub trait Providers: Send + Sync + 'static {
    /// Counts of the store, if one serves here.
    async fn counts(&self) -> Option<Counts>;

    /// Which stores this pod can reach; a frontend tries them now. `(store, epoch tried, reachable, age in ms)`.
    async fn reachability(&self) -> Vec<(String, u64, bool, u64)>;
}

/// Who this process is, for Describe.
#[derive(Debug, Clone, Default)]
pub struct Me {
    /// The pod's UID.
    pub pod_uid: String,
    /// Drawn at the process' start.
    pub start_id: String,
}

/// The service, to be added to the pod's gRPC server. `status` is `None` on a frontend, which has no replica.
#[must_use]
pub fn service<P: Providers>(
    providers: Arc<P>,
    status: Option<StatusHandle>,
    me: Me,
) -> ControlServer<ControlService<P>> {
    ControlServer::new(ControlService { providers, status, me })
}

/// Implements the service.
pub struct ControlService<P> {
    providers: Arc<P>,
    status: Option<StatusHandle>,
    me: Me,
}

impl<P> ControlService<P> {
    fn replica(&self) -> Result<ReplicaStatus, Status> {
        self.status
            .as_ref()
            .map(StatusHandle::get)
            .ok_or_else(|| Status::unimplemented("a frontend holds no replica"))
    }
}

#[tonic::async_trait]
impl<P: Providers> Control for ControlService<P> {
    async fn describe(&self, _: Request<DescribeRequest>) -> Result<Response<DescribeResponse>, Status> {
        let status = self.replica()?;
        let (state, reason) = state(&status.state);
        let mut answer = DescribeResponse {
            state: state.into(),
            reason,
            pod_uid: self.me.pod_uid.clone(),
            start_id: self.me.start_id.clone(),
            ..DescribeResponse::default()
        };
        if let Some(d) = &status.description {
            answer.cluster_id = d.identity.cluster.to_string();
            answer.store = d.identity.store.to_string();
            answer.replica = d.identity.replica.to_string();
            answer.open = true;
            answer.last_epoch = d.last_epoch;
            answer.last_forced = d.last_forced;
            (answer.end_epoch, answer.end_seq) = d.end;
            answer.promise = d.promise;
            answer.in_sync_version = d.in_sync_version;
            answer.in_sync = d.in_sync.iter().map(ToString::to_string).collect();
            answer.format = d.format;
            answer.newest = d.newest;
        }
        if let Some(copied) = status.copied {
            (answer.snapshot_octets, answer.snapshot_of) = (copied.octets, copied.of);
        }
        if let Some(store) = &status.store {
            let Damage { mended, lent, lost } = store.stats().damage();
            (answer.damage_mended, answer.damage_lent, answer.damage_lost) = (mended, lent, lost);
            answer.salvage = store.stats().last_salvage().map(salvage);
            answer.differing = status.comparing.differing().into_iter().map(differing).collect();
            answer.epoch = store.epoch();
            answer.last_epoch = answer.last_epoch.max(store.epoch());
            (answer.end_epoch, answer.end_seq) = store.committed();
        }
        Ok(Response::new(answer))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let status = self.replica()?;
        let counts = self.providers.counts().await.unwrap_or_default();
        let (epoch, (commit_epoch, commit_seq)) =
            status.store.as_ref().map_or((0, (0, 0)), |store| (store.epoch(), store.committed()));
        Ok(Response::new(StatusResponse {
            state: state(&status.state).0.into(),
            epoch,
            commit_epoch,
            commit_seq,
            accounts: counts.accounts,
            octets: counts.octets,
            queued: counts.queued,
            oldest_queued_seconds: counts.oldest_queued_seconds,
            disk_free: counts.disk_free,
            disk_size: counts.disk_size,
        }))
    }

    async fn drain(&self, request: Request<DrainRequest>) -> Result<Response<DrainResponse>, Status> {
        let serving = self.replica()?.store.map(|store| store.epoch());
        if serving != Some(request.get_ref().epoch) {
            return Err(Status::failed_precondition("this process does not serve at that epoch"));
        }
        if let Some(status) = &self.status {
            status.request_drain(Some(request.into_inner().to).filter(|to| !to.is_empty()));
        }
        Ok(Response::new(DrainResponse {}))
    }

    async fn reachability(
        &self,
        _: Request<ReachabilityRequest>,
    ) -> Result<Response<ReachabilityResponse>, Status> {
        let stores = self
            .providers
            .reachability()
            .await
            .into_iter()
            .map(|(store, epoch, reachable, age_ms)| StoreReach { store, epoch, reachable, age_ms })
            .collect();
        Ok(Response::new(ReachabilityResponse { stores }))
    }
}

fn salvage(done: SalvageEnd) -> Salvaged {
    let left_behind::Counts { messages, moved, flags, expunged, mailboxes, records, queued, already } =
        done.counts;
    let (at, kept) = (done.at, done.kept);
    Salvaged { at, messages, moved, flags, expunged, already, mailboxes, records, queued, kept }
}

fn differing(found: Difference) -> Differing {
    Differing { replica: found.mirror, table: found.table.to_owned(), seq: found.at }
}

fn state(state: &ReplicaState) -> (State, String) {
    match state {
        ReplicaState::Starting => (State::Waiting, "starting".into()),
        ReplicaState::Waiting(why) => (State::Waiting, why.clone()),
        ReplicaState::Standby => (State::Standby, String::new()),
        ReplicaState::Forked(after) => (State::Forked, after.to_string()),
        ReplicaState::CrashLoop => (State::CrashLoop, "three starts in two minutes".into()),
        ReplicaState::Candidate => (State::Candidate, String::new()),
        ReplicaState::Settling => (State::Settling, String::new()),
        ReplicaState::Primary => (State::Primary, String::new()),
        ReplicaState::Draining => (State::Draining, String::new()),
        ReplicaState::Poisoned => (State::Poisoned, "a sync failed".into()),
        ReplicaState::Refused(why) => (State::Refused, why.clone()),
    }
}
