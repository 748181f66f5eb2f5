//! The store's Lease in the Kubernetes API, and the MailStore beside it.
//!
//! One client of its own, one attempt inside each call, each attempt limited to D/4, a fresh connection after a
//! time-out: a dead connection to one API server must not eat the lease (schedule F5).

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use k8s_openapi::{
    api::coordination::v1::Lease, apimachinery::pkg::apis::meta::v1::MicroTime, jiff::Timestamp,
};
use kube::{
    Api, Client, Config,
    api::{Patch, PatchParams, PostParams},
    core::Status,
};
use mailcluster_api::{MailStore, NODE_FIELD_MANAGER, mailstore};
use mailcluster_failover::{Evidence, EvidenceKind, LeaseRecord, TargetKind};
use serde_json::json;

use crate::arbiter::{Advice, Arbiter, ArbiterError, Current, Route, SwapError, TargetAdvice};

/// What a [`KubeArbiter`] needs to know.
#[derive(Debug, Clone)]
pub struct KubeArbiterConfig {
    /// The namespace of Lease and MailStore.
    pub namespace: String,
    /// The Lease's name.
    pub lease: String,
    /// The MailStore's name.
    pub store: String,
    /// D, in seconds; an attempt may take a quarter of it.
    pub lease_seconds: u32,
}

type Connect = dyn Fn() -> Result<Client, kube::Error> + Send + Sync;

/// The arbiter of a store in a cluster.
pub struct KubeArbiter {
    config: KubeArbiterConfig,
    connect: Box<Connect>,
    client: Mutex<Option<Client>>,
    attempt: Duration,
}

impl KubeArbiter {
    /// An arbiter with clients of its own, made from the pod's service account.
    ///
    /// # Errors
    /// When this is no pod.
    pub fn in_cluster(config: KubeArbiterConfig) -> Result<Arc<Self>, ArbiterError> {
        let kube = Config::incluster().map_err(|error| ArbiterError::Away(error.to_string()))?;
        Ok(Self::new(config, kube))
    }

    /// An arbiter with clients of its own, made from this configuration.
    #[must_use]
    pub fn new(config: KubeArbiterConfig, mut kube: Config) -> Arc<Self> {
        let attempt = attempt(config.lease_seconds);
        kube.default_retry = false;
        kube.connect_timeout = Some(attempt);
        // Each attempt is bounded as a whole. A limit on reading would end the connection that is quiet between two
        // renewals, a quarter of the lease apart, just when the next one is sent.
        kube.read_timeout = None;
        kube.write_timeout = Some(attempt);
        Self::connecting(config, Box::new(move || Client::try_from(kube.clone())))
    }

    /// An arbiter over any client, for tests.
    #[must_use]
    pub fn with_client(config: KubeArbiterConfig, client: Client) -> Arc<Self> {
        Self::connecting(config, Box::new(move || Ok(client.clone())))
    }

    fn connecting(config: KubeArbiterConfig, connect: Box<Connect>) -> Arc<Self> {
        let attempt = attempt(config.lease_seconds);
        Arc::new(Self { config, connect, client: Mutex::new(None), attempt })
    }

    fn client(&self) -> Result<Client, kube::Error> {
        let mut held = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = &*held {
            return Ok(client.clone());
        }
        let client = (self.connect)()?;
        *held = Some(client.clone());
        Ok(client)
    }

    fn leases(&self) -> Result<Api<Lease>, kube::Error> {
        Ok(Api::namespaced(self.client()?, &self.config.namespace))
    }

    fn stores(&self) -> Result<Api<MailStore>, kube::Error> {
        Ok(Api::namespaced(self.client()?, &self.config.namespace))
    }

    /// One attempt. What times out, or breaks below HTTP, takes its connection with it.
    async fn attempt<T>(&self, call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Failure> {
        let outcome = match tokio::time::timeout(self.attempt, call).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => Failure::of(error),
            Err(_) => Failure::Unanswered(format!("no answer within {:?}", self.attempt)),
        };
        if matches!(outcome, Failure::Unanswered(_)) {
            *self.client.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        Err(outcome)
    }
}

/// A quarter of the lease.
fn attempt(lease_seconds: u32) -> Duration {
    Duration::from_millis(u64::from(lease_seconds.max(1)) * 250)
}

/// A call that failed, by what is known of its effect.
enum Failure {
    /// The API server answered with this status: nothing was written.
    Answered(Box<Status>),
    /// Nobody knows.
    Unanswered(String),
}

impl Failure {
    fn of(error: kube::Error) -> Self {
        match error {
            // A server error may come from a proxy or after the write: it says nothing of the effect.
            kube::Error::Api(status) if status.code < 500 => Self::Answered(status),
            other => Self::Unanswered(other.to_string()),
        }
    }
}

impl From<Failure> for ArbiterError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Answered(status) => Self::Refused(format!("{} ({})", status.message, status.code)),
            Failure::Unanswered(what) => Self::Away(what),
        }
    }
}

fn away(error: kube::Error) -> ArbiterError {
    ArbiterError::Away(error.to_string())
}

fn read(lease: Lease) -> Result<Current, ArbiterError> {
    let spec = lease.spec.as_ref();
    let none = std::collections::BTreeMap::new();
    let record = LeaseRecord::parse(
        spec.and_then(|s| s.holder_identity.as_deref()),
        spec.and_then(|s| s.lease_transitions),
        lease.metadata.annotations.as_ref().unwrap_or(&none),
    )?;
    let version = lease.metadata.resource_version.clone().unwrap_or_default();
    Ok(Current { record: Some(record), version, object: Some(Box::new(lease)) })
}

/// The object with the record's fields in it; everything else stays as it was read, the resourceVersion too.
fn write(mut lease: Lease, record: &LeaseRecord, lease_seconds: u32) -> Lease {
    let spec = lease.spec.get_or_insert_default();
    spec.holder_identity = Some(record.holder_identity().unwrap_or_default());
    spec.lease_transitions = Some(record.transitions());
    spec.lease_duration_seconds = i32::try_from(lease_seconds).ok();
    spec.renew_time = Some(MicroTime(Timestamp::now()));
    lease.metadata.annotations.get_or_insert_default().extend(record.annotations());
    lease.metadata.managed_fields = None;
    lease
}

#[async_trait]
impl Arbiter for KubeArbiter {
    async fn current(&self) -> Result<Current, ArbiterError> {
        let leases = self.leases().map_err(away)?;
        match self.attempt(leases.get(&self.config.lease)).await {
            Ok(lease) => read(lease),
            Err(Failure::Answered(status)) if status.code == 404 => Ok(Current::none()),
            Err(failure) => Err(failure.into()),
        }
    }

    async fn swap(&self, before: &Current, next: &LeaseRecord) -> Result<Current, SwapError> {
        let object = before
            .object
            .as_deref()
            .filter(|o| o.metadata.resource_version.is_some())
            .ok_or_else(|| SwapError::Refused("the record was never read from the API".into()))?;
        let lease = write(object.clone(), next, self.config.lease_seconds);
        let leases = self.leases().map_err(|error| SwapError::Refused(error.to_string()))?;
        let params = PostParams { dry_run: false, field_manager: Some(NODE_FIELD_MANAGER.into()) };
        match self.attempt(leases.replace(&self.config.lease, &params, &lease)).await {
            Ok(written) => read(written).map_err(|error| SwapError::Unknown(error.to_string())),
            Err(Failure::Answered(status)) if matches!(status.code, 404 | 409) => Err(SwapError::Conflict),
            Err(Failure::Answered(status)) => {
                Err(SwapError::Refused(format!("{} ({})", status.message, status.code)))
            }
            Err(Failure::Unanswered(what)) => Err(SwapError::Unknown(what)),
        }
    }

    async fn advice(&self) -> Result<Advice, ArbiterError> {
        let stores = self.stores().map_err(away)?;
        let store = self.attempt(stores.get(&self.config.store)).await?;
        Ok(advice_of(&store))
    }

    async fn publish(&self, route: &Route) -> Result<(), ArbiterError> {
        let stores = self.stores().map_err(away)?;
        let patch = json!({
            "apiVersion": format!("{}/{}", mailcluster_api::GROUP, mailcluster_api::VERSION),
            "kind": "MailStore",
            "status": { "serving": {
                "epoch": route.epoch,
                "replica": route.replica,
                "podUID": route.pod_uid,
                "endpoint": route.endpoint.to_string(),
                "since": Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            }},
        });
        // `force` takes the field over from the holder before; that the epoch never falls is the schema's rule.
        let params = PatchParams::apply(NODE_FIELD_MANAGER).force();
        self.attempt(stores.patch_status(&self.config.store, &params, &Patch::Apply(&patch))).await?;
        Ok(())
    }

    fn supervised(&self) -> bool {
        true
    }
}

fn advice_of(store: &MailStore) -> Advice {
    let status = store.status.clone().unwrap_or_default();
    let target = status.target.as_ref().map(|t| TargetAdvice {
        replica: t.replica.clone(),
        version: t.lease_version.clone(),
        kind: match t.kind {
            mailstore::TargetKind::Initial => TargetKind::Initial,
            mailstore::TargetKind::Auto => TargetKind::Auto,
            mailstore::TargetKind::Planned => TargetKind::Planned,
            mailstore::TargetKind::Forced => TargetKind::Forced,
        },
    });
    let evidence = status
        .evidence
        .iter()
        .map(|e| Evidence {
            kind: kind_of(e.kind),
            pod_uid: e.pod_uid.clone(),
            boot_id: e.boot_id.clone(),
            epoch: u64::try_from(e.epoch).unwrap_or(0),
            at: e.at.0.to_string(),
        })
        .collect();
    let ids = store.spec.replicas.iter().map(|replica| &replica.id);
    let unopened = ids.filter(|id| !status.was_opened(id));
    Advice {
        target,
        evidence,
        serving_pod: status.serving.as_ref().map(|s| s.pod_uid.clone()),
        unopened: unopened.cloned().collect(),
    }
}

fn kind_of(kind: mailstore::EvidenceKind) -> EvidenceKind {
    match kind {
        mailstore::EvidenceKind::KubeletConfirmed => EvidenceKind::KubeletConfirmed,
        mailstore::EvidenceKind::NewBoot => EvidenceKind::NewBoot,
        mailstore::EvidenceKind::FenceJob => EvidenceKind::FenceJob,
        mailstore::EvidenceKind::HumanConfirmed => EvidenceKind::HumanConfirmed,
        mailstore::EvidenceKind::NodeDeleted => EvidenceKind::NodeDeleted,
        mailstore::EvidenceKind::OutOfServiceTaint => EvidenceKind::OutOfServiceTaint,
        mailstore::EvidenceKind::LeaseExpired => EvidenceKind::LeaseExpired,
    }
}
