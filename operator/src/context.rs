//! What every part of the operator gets.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use kube::{Client, runtime::events::Recorder};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    leader::{Leadership, boot_time},
    metrics::Metrics,
    pki::schedule::Lifetimes,
};

/// What every part of the operator gets. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// The Kubernetes API.
    pub client: Client,
    /// Publishes events; one for all, as it folds repeats together.
    pub recorder: Recorder,
    /// Does this replica lead? Whatever writes must ask, and stop at once when the answer changes.
    pub leadership: watch::Receiver<Leadership>,
    /// The command line.
    pub config: Arc<OperatorConfig>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Cancelled when the process is to end.
    pub stop: CancellationToken,
}

/// The command line, checked.
#[derive(Debug, Clone)]
pub struct OperatorConfig {
    /// Namespaces to serve; all when empty.
    pub watch_namespaces: Vec<String>,
    /// Take part in leader election?
    pub leader_election: bool,
    /// Where /healthz, /readyz and /metrics are served.
    pub metrics_addr: SocketAddr,
    /// The image of mail nodes where a MailCluster names none.
    pub node_image: String,
    /// The image of fence Jobs where a MailCluster names none; may be empty.
    pub fence_image: String,
    /// Secrets with which images are pulled.
    pub image_pull_secrets: Vec<String>,
    /// The namespace the operator runs in.
    pub namespace: String,
    /// Who this replica is.
    pub identity: Identity,
    /// The namespace whose pods may read metrics; none may without one.
    pub prometheus_namespace: Option<String>,
    /// The PriorityClass of mail pods.
    pub priority_class: Option<String>,
    /// May PersistentVolumes be read and labelled, and Nodes be read?
    pub manage_volumes: bool,
    /// May PersistentVolumes be made anew, for disks that were moved?
    pub adopt_volumes: bool,
    /// The ClusterRole that allows token reviews.
    pub token_review_cluster_role: Option<String>,
    /// How long certificates are good for.
    pub lifetimes: Lifetimes,
}

/// Who this replica of the operator is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The pod's name.
    pub pod: String,
    /// The pod's UID: a pod that replaces this one under the same name is another one.
    pub uid: String,
}

impl Identity {
    /// As it stands in the leader's Lease.
    #[must_use]
    pub fn holder(&self) -> String {
        format!("{}_{}", self.pod, self.uid)
    }
}

impl Context {
    /// Does this replica lead right now?
    #[must_use]
    pub fn leads(&self) -> bool {
        self.leads_for(Duration::ZERO)
    }

    /// Does this replica lead for at least `span` more? Asked before what cannot be taken back.
    #[must_use]
    pub fn leads_for(&self, span: Duration) -> bool {
        self.leadership.borrow().holds_for(span, boot_time())
    }

    /// Waits until this replica leads.
    ///
    /// # Errors
    /// When leader election has ended.
    pub async fn until_leading(&mut self) -> anyhow::Result<()> {
        self.leadership.wait_for(|l| l.leading).await?;
        Ok(())
    }

    /// Waits until this replica no longer leads (or election has ended, which is the same).
    pub async fn until_deposed(&mut self) {
        // An error means that the elector is gone: nobody renews the lease any more.
        drop(self.leadership.wait_for(|l| !l.leading).await);
    }
}
