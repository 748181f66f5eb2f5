//! The MailCluster: what a user writes to get a mail cluster.

// The derive's print columns repeat keys like `type_`.
#![allow(clippy::duplicated_attributes)]

mod failover;
mod frontends;
mod inbound;
mod outbound;
mod rebalance;
mod screening;
mod stores;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

pub use failover::{ACCEPT_UNSAFE, Failover, FailoverPolicy, FenceEnv, FenceJob, Fencing, FencingMinimum};
pub use frontends::{Exposure, Frontends, PodResources, ProxyProtocol};
pub use inbound::{Dnsbl, DnsblAction, Inbound, InboundCheck, InboundSignatures};
pub use outbound::{Outbound, SendLimits, Smarthost, SmarthostTls};
pub use rebalance::{Day, Rebalance, RebalanceWindow};
pub use screening::Screening;
pub use stores::{AccessMode, Directory, Durability, Storage, Stores};

/// Matches a fully qualified domain name of at least two labels, without a final dot.
const FQDN: &str =
    "self.matches('^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\\\\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)+$')";

/// A static mail cluster: frontends, stores and a directory.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[kube(
    group = "mailcluster.io",
    version = "v1alpha1",
    kind = "MailCluster",
    plural = "mailclusters",
    shortname = "mc",
    category = "mail",
    namespaced,
    status = "MailClusterStatus",
    derive = "PartialEq",
    doc = "A static mail cluster: stateless frontends, stores on plain volumes, and a directory that says where each account is.",
    scale(
        spec_replicas_path = ".spec.frontends.replicas",
        status_replicas_path = ".status.frontends.replicas",
        label_selector_path = ".status.frontends.selector"
    ),
    printcolumn(name = "Hostname", type_ = "string", json_path = ".spec.hostname"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Frontends", type_ = "integer", json_path = ".status.frontends.ready"),
    printcolumn(name = "Stores", type_ = "integer", json_path = ".status.stores.serving"),
    printcolumn(name = "Address", type_ = "string", json_path = ".status.addresses[0]"),
    printcolumn(name = "Reason", type_ = "string", priority = "1", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Message", type_ = "string", priority = "1", json_path = r#".status.conditions[?(@.type=="Ready")].message"#),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = ("self.metadata.name.size() <= 40", "metadata.name is too long for the names of its children: use at most 40 characters"),
    validation = ("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')", "metadata.name must be a DNS label that starts with a letter (no dots): Services are named after it"),
    validation = ("!self.metadata.name.matches('-([0-9]+|directory)$')", "metadata.name must not end in -<number> or -directory: stores are named so, use another name"),
    cel
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("!has(self.failover.leaseSeconds) || self.failover.leaseSeconds >= 15 || self.stores.count <= 50", "more than 50 stores: set failover.leaseSeconds to at least 15 (each renewal is a write to the Kubernetes API), or leave it out"),
    validation = ("!has(self.failover.rebalance) || (has(self.stores.replicas) && self.stores.replicas > 1)", "failover.rebalance is for stores with mirrors: set stores.replicas to 2 or 3, or leave it out"),
)]
pub struct MailClusterSpec {
    /// The cluster's fully qualified host name: in greetings, EHLO, Received and Message-ID. Its MX and client
    /// configuration point to the address of the cluster's Service.
    #[schemars(length(min = 3, max = 253))]
    #[x_kube(validation = (FQDN, "hostname must be a fully qualified domain name in lower case, like mail.example.org"))]
    pub hostname: String,
    /// The image of the mail nodes. Left out: the operator's own default at the time the cluster is created, which is
    /// then kept in status.image, so that upgrading the operator restarts no mail pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
    /// The stateless pods that clients and other mail servers talk to.
    #[serde(default)]
    pub frontends: Frontends,
    /// The pods and volumes that hold accounts and mail.
    pub stores: Stores,
    /// The store that knows domains and accounts.
    #[serde(default)]
    pub directory: Directory,
    /// When and how a store moves to another node.
    #[serde(default)]
    pub failover: Failover,
    /// Certificates shown to clients.
    #[serde(default)]
    pub tls: Tls,
    /// How users' mail gets to other sites. Left out: mail to other sites is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outbound: Option<Outbound>,
    /// What is checked of mail from other sites.
    #[serde(default)]
    pub inbound: Inbound,
    /// Who is refused by the frontends, and for how long.
    #[serde(default)]
    pub screening: Screening,
    /// The account that receives mail for postmaster at every domain that has no own one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 254))]
    #[x_kube(validation = ("self.matches('^[^@ ]+@[^@ ]+$')", "postmaster must be an address, like admin@example.org"))]
    pub postmaster: Option<String>,
    /// What becomes of the volumes when the MailCluster is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// True: the operator changes nothing and moves no store until it is false again; service goes on.
    #[serde(default)]
    pub paused: bool,
}

/// Certificates shown to clients.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// Names of Secrets of type kubernetes.io/tls in the cluster's namespace; the certificate is chosen by the name the
    /// client asks for, the first one is the default. None: a self-signed certificate for hostname.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub secret_names: Vec<String>,
}

/// What becomes of the volumes when a MailCluster is deleted.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, schemars::JsonSchema)]
pub enum DeletionPolicy {
    /// They stay; a MailCluster of the same name and namespace takes them up again.
    #[default]
    Retain,
    /// The PersistentVolumeClaims are deleted, and with them whatever their storage class then deletes.
    Delete,
}

/// What the operator last saw of a mail cluster.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MailClusterStatus {
    /// The generation of the spec that the rest of the status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// 32 hexadecimal digits that name this cluster for ever; its volumes carry them as a label.
    #[serde(default, rename = "clusterID", skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = ("self == oldSelf", "clusterID never changes"))]
    pub cluster_id: Option<String>,
    /// The image the mail nodes run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Addresses at which clients reach the frontends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// The frontends, counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frontends: Option<FrontendCounts>,
    /// The stores, counted (without the directory).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stores: Option<StoreCounts>,
    /// The directory: 1 of 1 when it serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<StoreCounts>,
    /// Ready, Progressing, Degraded, FailingOver, FailoverBlocked, AddressPending, NoHandOffTarget and others, each with
    /// a reason and a message that says what to do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// The frontends, counted.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct FrontendCounts {
    /// Pods there are.
    pub replicas: i32,
    /// Pods that are ready.
    pub ready: i32,
    /// The label selector of the pods, for the scale subresource.
    pub selector: String,
}

/// Stores, counted.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoreCounts {
    /// Stores there shall be.
    pub desired: i32,
    /// Stores that are being served.
    pub serving: i32,
}

impl MailClusterSpec {
    /// Seconds after which an unrenewed lease counts as lost: as written, else 8, or 15 above 50 stores.
    #[must_use]
    pub fn lease_seconds(&self) -> u32 {
        self.failover.lease_seconds.unwrap_or(if self.stores.count > 50 { 15 } else { 8 })
    }

    /// The directory's volume: its own, else like the stores'.
    #[must_use]
    pub fn directory_storage(&self) -> &Storage {
        self.directory.storage.as_ref().unwrap_or(&self.stores.storage)
    }
}
