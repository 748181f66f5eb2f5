//! The seam behind which the arbiter of a store is the Kubernetes API or a locked file.

use std::net::SocketAddr;

use async_trait::async_trait;
use k8s_openapi::api::coordination::v1::Lease;
use mailcluster_failover::{Evidence, LeaseRecord, TargetKind};

/// The record as it was read or written last, and what a swap needs of it.
#[derive(Debug, Clone)]
pub struct Current {
    /// What it says; `None`: there is no record.
    pub record: Option<LeaseRecord>,
    /// Its version; a swap succeeds only against the version that is there.
    pub version: String,
    /// The whole object, where the arbiter keeps one.
    pub(crate) object: Option<Box<Lease>>,
}

impl Current {
    /// A record, as an arbiter keeps it that has no object of its own.
    #[must_use]
    pub fn new(record: LeaseRecord, version: String) -> Self {
        Self { record: Some(record), version, object: None }
    }

    /// There is no record.
    #[must_use]
    pub fn none() -> Self {
        Self { record: None, version: String::new(), object: None }
    }
}

/// What the operator asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetAdvice {
    /// The replica that is asked to take the store.
    pub replica: String,
    /// The version of the record that it is to replace.
    pub version: String,
    /// Why.
    pub kind: TargetKind,
}

/// What the operator has written beside the lease. Advice: nothing but `may I try` is decided from it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Advice {
    /// The target, if there is one.
    pub target: Option<TargetAdvice>,
    /// Evidence against holders.
    pub evidence: Vec<Evidence>,
    /// The pod of `status.serving`.
    pub serving_pod: Option<String>,
    /// The copies of a mirrored store that have not said yet where they can be fed: no process has opened their volumes.
    pub unopened: Vec<String>,
}

/// The arbiter could not be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArbiterError {
    /// No answer, or one that says nothing of the record.
    #[error("the arbiter does not answer: {0}")]
    Away(String),
    /// It answers, and does not do what was asked: rights, or a rule of the schema.
    #[error("the arbiter refuses: {0}")]
    Refused(String),
    /// The record is not understood; nothing is decided from it.
    #[error(transparent)]
    Malformed(#[from] mailcluster_failover::RecordError),
}

/// A swap did not certainly take place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SwapError {
    /// Another version is there: read again.
    #[error("the record has changed since it was read")]
    Conflict,
    /// It may or may not have taken place: read until that is known (A6).
    #[error("the outcome of the swap is unknown: {0}")]
    Unknown(String),
    /// It did not take place and would not: rights, or an invalid object.
    #[error("the swap was refused: {0}")]
    Refused(String),
}

/// A store's route, as its holder publishes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The holder's epoch.
    pub epoch: u64,
    /// The replica that serves.
    pub replica: String,
    /// The pod that serves.
    pub pod_uid: String,
    /// Its gRPC address; other ports are those of the table of ports.
    pub endpoint: SocketAddr,
}

/// The one who says who holds a store.
#[async_trait]
pub trait Arbiter: Send + Sync + 'static {
    /// Reads the record (by quorum).
    ///
    /// # Errors
    /// [`ArbiterError`].
    async fn current(&self) -> Result<Current, ArbiterError>;

    /// Puts `next` in the place of the record that was read; compare-and-swap.
    ///
    /// # Errors
    /// [`SwapError`], of which only `Conflict` and `Refused` say that nothing was written.
    async fn swap(&self, read: &Current, next: &LeaseRecord) -> Result<Current, SwapError>;

    /// What the operator asks for.
    ///
    /// # Errors
    /// [`ArbiterError`].
    async fn advice(&self) -> Result<Advice, ArbiterError>;

    /// Publishes the route of a holder that is ready to serve.
    ///
    /// # Errors
    /// [`ArbiterError`].
    async fn publish(&self, route: &Route) -> Result<(), ArbiterError>;

    /// Is there an operator, and a lease to renew? Without one a process takes the store whenever it starts.
    fn supervised(&self) -> bool;
}
