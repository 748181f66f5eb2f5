//! The frontends' Deployment.

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment},
        core::v1::{ContainerPort, PodReadinessGate, PodTemplateSpec},
    },
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use mailcluster_api::{FRONTEND_GATE, config::TLS_DIR, labels, mailcluster::Exposure, ports, roles::Role};

use super::{meta, pod, select};
use crate::{cluster::Cluster, context::OperatorConfig};

/// Seconds a frontend has to end its sessions.
const GRACE_SECONDS: i64 = 45;

/// The Deployment; a change of `config_hash` rolls its pods.
#[must_use]
pub fn build(cluster: &Cluster, config: &OperatorConfig, config_hash: &str) -> Deployment {
    let names = cluster.names();
    let selector = labels::selector(&cluster.name, Role::Frontend);
    let mut template_labels = labels::common(&cluster.name);
    template_labels.extend(selector.clone());
    let host_ports = cluster.spec.frontends.exposure == Exposure::HostPort;
    let (surge, unavailable) = if host_ports { (0, 1) } else { (1, 0) };
    Deployment {
        metadata: meta(cluster, names.frontend()),
        spec: Some(DeploymentSpec {
            replicas: cluster.spec.frontends.replicas,
            selector: select(selector),
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".into()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::Int(surge)),
                    max_unavailable: Some(IntOrString::Int(unavailable)),
                }),
            }),
            revision_history_limit: Some(3),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(template_labels),
                    annotations: Some([(labels::CONFIG_HASH.to_owned(), config_hash.to_owned())].into()),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod_spec(cluster, config, host_ports)),
            },
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

fn pod_spec(
    cluster: &Cluster,
    config: &OperatorConfig,
    host_ports: bool,
) -> k8s_openapi::api::core::v1::PodSpec {
    let names = cluster.names();
    let frontends = &cluster.spec.frontends;
    let client = ports::CLIENT_PORTS.iter().map(|p| ContainerPort {
        host_port: host_ports.then(|| i32::from(p.service)),
        ..pod::port(p.name, p.pod)
    });
    let parts = pod::Parts {
        role: Role::Frontend,
        args: vec![],
        ports: client.chain([pod::port("grpc", ports::FRONTEND_GRPC)]).collect(),
        service_account: names.frontend(),
        config: names.frontend(),
        identity: names.frontend_identity(),
        volumes: vec![pod::secret("tls", &names.tls(), TLS_DIR)],
        grace: GRACE_SECONDS,
    };
    let mut spec = pod::spec(cluster, config, parts);
    spec.readiness_gates = Some(vec![PodReadinessGate { condition_type: FRONTEND_GATE.into() }]);
    spec.node_selector = Some(frontends.node_selector.clone()).filter(|map| !map.is_empty());
    spec.tolerations = Some(frontends.tolerations.clone()).filter(|list| !list.is_empty());
    spec.topology_spread_constraints = Some(pod::spread(cluster, Role::Frontend));
    if let Some(container) = spec.containers.first_mut() {
        container.resources = frontends.resources.to_requirements();
    }
    spec
}
