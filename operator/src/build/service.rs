//! The Service that clients connect to.

use k8s_openapi::{
    api::core::v1::{Service, ServicePort, ServiceSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};
use mailcluster_api::{labels, mailcluster::Exposure, ports, roles::Role};

use super::meta;
use crate::cluster::Cluster;

/// The client-facing Service. With host ports it is there for clients inside the Kubernetes cluster.
#[must_use]
pub fn build(cluster: &Cluster) -> Service {
    let frontends = &cluster.spec.frontends;
    let (kind, policy) = match frontends.exposure {
        Exposure::LoadBalancer => ("LoadBalancer", Some("Local")),
        Exposure::NodePort => ("NodePort", Some("Local")),
        Exposure::HostPort | Exposure::ClusterIp => ("ClusterIP", None),
    };
    let mut metadata = meta(cluster, cluster.names().service());
    metadata.annotations = Some(frontends.service_annotations.clone()).filter(|map| !map.is_empty());
    Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some(kind.into()),
            external_traffic_policy: policy.map(Into::into),
            ip_family_policy: Some("PreferDualStack".into()),
            selector: Some(labels::selector(&cluster.name, Role::Frontend)),
            ports: Some(
                ports::CLIENT_PORTS
                    .iter()
                    .map(|p| ServicePort {
                        name: Some(p.name.into()),
                        port: i32::from(p.service),
                        target_port: Some(IntOrString::Int(i32::from(p.pod))),
                        protocol: Some("TCP".into()),
                        ..ServicePort::default()
                    })
                    .collect(),
            ),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}
