//! The frontends' part of a MailCluster.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{ResourceRequirements, Toleration},
    apimachinery::pkg::api::resource::Quantity,
};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// The stateless pods that clients and other mail servers talk to.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Frontends {
    /// How many. Leave it out of what you apply where a HorizontalPodAutoscaler (of the MailCluster) owns the number.
    #[serde(default = "Frontends::default_replicas", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 500))]
    pub replicas: Option<i32>,
    /// How clients reach them.
    #[serde(default)]
    pub exposure: Exposure,
    /// Annotations of the client-facing Service, as some load balancers want them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub service_annotations: BTreeMap<String, String>,
    /// Whom to believe about the client's address.
    #[serde(default)]
    pub proxy_protocol: ProxyProtocol,
    /// CPU and memory of each pod.
    #[serde(default)]
    pub resources: PodResources,
    /// Labels of the nodes they may run on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints they tolerate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,
}

impl Frontends {
    #[allow(clippy::unnecessary_wraps, reason = "serde wants the field's own type")]
    fn default_replicas() -> Option<i32> {
        Some(2)
    }
}

impl Default for Frontends {
    fn default() -> Self {
        Self {
            replicas: Self::default_replicas(),
            exposure: Exposure::default(),
            service_annotations: BTreeMap::new(),
            proxy_protocol: ProxyProtocol::default(),
            resources: PodResources::default(),
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
        }
    }
}

/// How clients reach the frontends.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, schemars::JsonSchema)]
pub enum Exposure {
    /// A Service of type LoadBalancer that keeps the client's address.
    #[default]
    LoadBalancer,
    /// The ports 25, 465, 587, 143, 993, 110, 995 and 4190 of the nodes themselves; the namespace must then admit pods with
    /// host ports (Pod Security level baseline does not).
    HostPort,
    /// A Service of type NodePort.
    NodePort,
    /// A Service for clients inside the Kubernetes cluster only.
    #[serde(rename = "ClusterIP")]
    ClusterIp,
}

/// PROXY protocol (v1 and v2).
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProxyProtocol {
    /// Networks in CIDR notation whose connections begin with a PROXY header; from all others it is refused. None: no
    /// PROXY protocol.
    #[serde(default, rename = "trustedCIDRs", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 49)))]
    #[x_kube(validation = ("self.all(c, isCIDR(c))", "trustedCIDRs must be networks in CIDR notation, like 10.0.0.0/8 or 2001:db8::/32"))]
    pub trusted_cidrs: Vec<String>,
}

/// CPU and memory of a pod, as in a container's `resources`.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodResources {
    /// What is reserved.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "quantities")]
    pub requests: BTreeMap<String, Quantity>,
    /// What is the most it gets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "quantities")]
    pub limits: BTreeMap<String, Quantity>,
}

impl PodResources {
    /// In the form a container wants it; `None` when nothing is set.
    #[must_use]
    pub fn to_requirements(&self) -> Option<ResourceRequirements> {
        let some = |map: &BTreeMap<String, Quantity>| (!map.is_empty()).then(|| map.clone());
        (!self.requests.is_empty() || !self.limits.is_empty()).then(|| ResourceRequirements {
            requests: some(&self.requests),
            limits: some(&self.limits),
            claims: None,
        })
    }
}

/// The schema of a map of quantities, without the 2.5 kB of text that each would bring along.
fn quantities(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "additionalProperties": quantity_schema(),
    })
}

/// The schema of one quantity.
pub(super) fn quantity_schema() -> schemars::Schema {
    schemars::json_schema!({
        "x-kubernetes-int-or-string": true,
        "pattern": r"^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$",
    })
}
