//! The stores' and the directory's part of a MailCluster.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::Toleration, apimachinery::pkg::api::resource::Quantity};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::frontends::{PodResources, quantity_schema};

/// The pods and volumes that hold accounts and mail.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("(has(self.replicas) ? self.replicas : 1) == (has(oldSelf.replicas) ? oldSelf.replicas : 1)", "stores.replicas is fixed when the stores are created"),
    validation = ("!has(self.durability) || (has(self.replicas) && self.replicas > 1)", "stores.durability is for stores with mirrors: set stores.replicas to 2 or 3, or leave durability out"),
    validation = ("!has(self.mirrorTimeoutMilliseconds) || (has(self.replicas) && self.replicas > 1)", "stores.mirrorTimeoutMilliseconds is for stores with mirrors: set stores.replicas to 2 or 3, or leave it out"),
    validation = ("!has(self.replaceAfterSeconds) || (has(self.replicas) && self.replicas > 1)", "stores.replaceAfterSeconds is for stores with mirrors: set stores.replicas to 2 or 3, or leave it out"),
    validation = ("!has(self.replicas) || self.replicas != 2 || !has(self.durability) || self.durability == 'Preferred' || self.acceptWriteStops", "Required with two replicas stops every write while one of them is away: set stores.replicas to 3, or stores.acceptWriteStops to true"),
)]
pub struct Stores {
    /// How many. Many small stores spread a lost node's accounts over more siblings than few large ones.
    #[schemars(range(min = 1, max = 200))]
    #[x_kube(validation = ("self >= oldSelf", "stores.count cannot shrink: accounts live on the stores that would go; leave it as it is"))]
    pub count: i32,
    /// Copies of each store, each with a volume and a node of its own, and in different zones
    /// (`topology.kubernetes.io/zone`) as far as that goes. With 1 the volume itself moves when a node dies; with 2 or 3,
    /// a mirror takes over. Left out: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3))]
    pub replicas: Option<i32>,
    /// How many copies have a change before anybody is told that it is done; only with mirrors. Left out: Preferred with
    /// 2 replicas, Required with 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durability: Option<Durability>,
    /// Milliseconds for which a client waits for a mirror before the mirror is left out, until it has caught up. Left out:
    /// 3000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 100, max = 60000))]
    pub mirror_timeout_milliseconds: Option<u32>,
    /// Seconds after which a copy that does not answer is replaced by a new one on another volume, while all others have
    /// everything. Left out: never, a person orders it (`kubectl mailcluster store replace-replica`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 60, max = 2_592_000))]
    pub replace_after_seconds: Option<u32>,
    /// Days for which mail that users expunge can be brought back (`kubectl mailcluster undelete`): by EXPUNGE, POP3's DELE and
    /// DELETE of a mailbox. It takes room meanwhile, counts for no quota, and goes sooner where a volume is short of room. 0:
    /// it is gone at once, and so is what is kept when this is set. Left out: 7.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 3650))]
    pub undelete_days: Option<u32>,
    /// True: durability Required is wanted with two replicas, although every write then stops while one is away.
    #[serde(default)]
    pub accept_write_stops: bool,
    /// The volume of each.
    pub storage: Storage,
    /// CPU and memory of each pod.
    #[serde(default)]
    pub resources: PodResources,
    /// Labels of the nodes they may run on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints they tolerate, besides not-ready and unreachable, which they tolerate always: only the operator moves them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,
}

/// The store that knows domains and accounts.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.storage) == has(oldSelf.storage)", "directory.storage is fixed when the volume is created: neither add nor remove it"))]
pub struct Directory {
    /// Its volume; like the stores' when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,
    /// CPU and memory of its pod.
    #[serde(default)]
    pub resources: PodResources,
    /// Labels of the nodes it may run on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints it tolerates, besides not-ready and unreachable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,
}

/// How many copies have a change before anybody is told that it is done.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, schemars::JsonSchema)]
pub enum Durability {
    /// All that are there: a mirror that is away is left out, down to the primary alone.
    Preferred,
    /// Two at least: when there is one alone, writes wait.
    Required,
}

impl Stores {
    /// Copies of each store.
    #[must_use]
    pub fn replicas(&self) -> usize {
        self.replicas.and_then(|n| usize::try_from(n).ok()).unwrap_or(1)
    }

    /// As written, else by the number of copies; `None` for a single copy.
    #[must_use]
    pub fn durability(&self) -> Option<Durability> {
        let by_count = if self.replicas() > 2 { Durability::Required } else { Durability::Preferred };
        (self.replicas() > 1).then(|| self.durability.unwrap_or(by_count))
    }

    /// For how many days expunged mail is kept.
    #[must_use]
    pub fn undelete_days(&self) -> u32 {
        self.undelete_days.unwrap_or(7)
    }

    /// How long a client waits for a mirror, in milliseconds.
    #[must_use]
    pub fn mirror_timeout(&self) -> u32 {
        self.mirror_timeout_milliseconds.unwrap_or(3000)
    }
}

/// A volume to ask for.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)", "storageClassName is fixed when the volumes are created"),
    validation = ("self.accessMode == oldSelf.accessMode", "accessMode is fixed when the volumes are created"),
    validation = ("self.size == oldSelf.size", "size is fixed when the volumes are created"),
)]
pub struct Storage {
    /// The StorageClass; the default class when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
    /// How much, for example 100Gi.
    #[schemars(schema_with = "size")]
    pub size: Quantity,
    /// Who may mount it.
    #[serde(default)]
    pub access_mode: AccessMode,
}

/// Who may mount a store's volume.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, schemars::JsonSchema)]
pub enum AccessMode {
    /// One pod at a time: the scheduler itself refuses a second one.
    #[default]
    ReadWriteOncePod,
    /// One node at a time, for drivers that know nothing narrower.
    ReadWriteOnce,
}

impl AccessMode {
    /// As Kubernetes spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReadWriteOncePod => "ReadWriteOncePod",
            Self::ReadWriteOnce => "ReadWriteOnce",
        }
    }
}

/// The schema of a size.
fn size(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    quantity_schema()
}
