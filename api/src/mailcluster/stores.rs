//! The stores' and the directory's part of a MailCluster.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::Toleration, apimachinery::pkg::api::resource::Quantity};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::frontends::{PodResources, quantity_schema};

/// The pods and volumes that hold accounts and mail.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Stores {
    /// How many. Many small stores spread a lost node's accounts over more siblings than few large ones.
    #[schemars(range(min = 1, max = 200))]
    #[x_kube(validation = ("self >= oldSelf", "stores.count cannot shrink: accounts live on the stores that would go; leave it as it is"))]
    pub count: i32,
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
