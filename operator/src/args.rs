//! The command line.

use std::{net::SocketAddr, time::Duration};

use clap::{ArgAction, Parser};

use crate::{
    context::{Identity, OperatorConfig},
    logging::LogFormat,
    pki::schedule::Lifetimes,
};

/// Turns MailClusters into running mail clusters, and moves stores away from dead nodes.
#[derive(Debug, Clone, Parser)]
#[command(name = "mailcluster-operator", version)]
pub struct Args {
    /// Namespaces to serve, separated by commas; all when empty.
    #[arg(long, env = "WATCH_NAMESPACES", value_delimiter = ',')]
    pub watch_namespaces: Vec<String>,
    /// Take part in leader election; turn it off only where a single operator runs.
    #[arg(long, default_value_t = true, action = ArgAction::Set)]
    pub leader_election: bool,
    /// Where /healthz, /readyz and /metrics are served.
    #[arg(long, default_value = "0.0.0.0:9090")]
    pub metrics_addr: SocketAddr,
    /// The image of mail nodes where a MailCluster names none.
    #[arg(long, env = "NODE_IMAGE")]
    pub node_image: String,
    /// The image of fence Jobs where a MailCluster names none.
    #[arg(long, env = "FENCE_IMAGE", default_value = "")]
    pub fence_image: String,
    /// Secrets with which images are pulled, separated by commas; they must be in each MailCluster's namespace.
    #[arg(long, env = "IMAGE_PULL_SECRETS", value_delimiter = ',')]
    pub image_pull_secrets: Vec<String>,
    /// The namespace the operator runs in.
    #[arg(long, env = "POD_NAMESPACE", default_value = "default")]
    pub namespace: String,
    /// The operator's own pod.
    #[arg(long, env = "POD_NAME", default_value = "mailcluster-operator")]
    pub pod_name: String,
    /// The UID of the operator's own pod; drawn at random when empty.
    #[arg(long, env = "POD_UID", default_value = "")]
    pub pod_uid: String,
    /// The namespace whose pods may read metrics; none may when empty.
    #[arg(long, env = "PROMETHEUS_NAMESPACE", default_value = "monitoring")]
    pub prometheus_namespace: String,
    /// The PriorityClass of mail pods; none when empty.
    #[arg(long, env = "PRIORITY_CLASS", default_value = "")]
    pub priority_class: String,
    /// May the operator read and label PersistentVolumes and read Nodes? Without it no volume is recognised after the
    /// loss of its claim.
    #[arg(long, env = "MANAGE_VOLUMES", default_value_t = true, action = ArgAction::Set)]
    pub manage_volumes: bool,
    /// May the operator make PersistentVolumes anew, for disks that were moved (`kubectl mailcluster store adopt`)?
    #[arg(long, env = "ADOPT_VOLUMES", default_value_t = false, action = ArgAction::Set)]
    pub adopt_volumes: bool,
    /// The ClusterRole that allows token reviews, bound to each directory; none when empty, and then the directory's
    /// admin port admits nobody.
    #[arg(long, env = "TOKEN_REVIEW_CLUSTER_ROLE", default_value = "mailcluster-token-review")]
    pub token_review_cluster_role: String,
    /// Seconds an internal certificate is good for; it is renewed after a third of them.
    #[arg(long, env = "CERTIFICATE_SECONDS", default_value_t = 90 * 86_400)]
    pub certificate_seconds: u64,
    /// Seconds an internal CA is good for; its successor is made after two thirds of them.
    #[arg(long, env = "CA_SECONDS", default_value_t = 3650 * 86_400)]
    pub ca_seconds: u64,
    /// Seconds a new CA is only trusted, before it signs.
    #[arg(long, env = "CA_OVERLAP_SECONDS", default_value_t = 3_600)]
    pub ca_overlap_seconds: u64,
    /// How log lines are written.
    #[arg(long, env = "LOG_FORMAT", default_value = "json")]
    pub log_format: LogFormat,
}

impl Args {
    /// Checks the values and puts them into the form the rest works with.
    ///
    /// # Errors
    /// When lifetimes contradict each other or no randomness is to be had.
    pub fn into_config(self) -> anyhow::Result<OperatorConfig> {
        let lifetimes = Lifetimes {
            leaf: Duration::from_secs(self.certificate_seconds),
            ca: Duration::from_secs(self.ca_seconds),
            overlap: Duration::from_secs(self.ca_overlap_seconds),
        };
        anyhow::ensure!(
            lifetimes.are_consistent(),
            "--ca-seconds must be at least 3 times --certificate-seconds plus --ca-overlap-seconds, and all at least 30"
        );
        let uid = if self.pod_uid.is_empty() { crate::pki::random_hex()? } else { self.pod_uid };
        Ok(OperatorConfig {
            watch_namespaces: non_empty(self.watch_namespaces),
            leader_election: self.leader_election,
            metrics_addr: self.metrics_addr,
            node_image: self.node_image,
            fence_image: self.fence_image,
            image_pull_secrets: non_empty(self.image_pull_secrets),
            namespace: self.namespace,
            identity: Identity { pod: self.pod_name, uid },
            prometheus_namespace: Some(self.prometheus_namespace).filter(|name| !name.is_empty()),
            priority_class: Some(self.priority_class).filter(|name| !name.is_empty()),
            manage_volumes: self.manage_volumes,
            adopt_volumes: self.manage_volumes && self.adopt_volumes,
            token_review_cluster_role: Some(self.token_review_cluster_role).filter(|name| !name.is_empty()),
            lifetimes,
        })
    }
}

fn non_empty(list: Vec<String>) -> Vec<String> {
    list.into_iter().filter(|item| !item.is_empty()).collect()
}
