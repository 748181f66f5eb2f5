//! The frontends' Deployment.

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment},
        core::v1::{
            Affinity, ContainerPort, PodAntiAffinity, PodReadinessGate, PodSpec, PodTemplateSpec, Toleration,
        },
    },
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use mailcluster_api::{FRONTEND_GATE, config::TLS_DIR, labels, mailcluster::Exposure, ports, roles::Role};

use super::{NODE_AWAY, meta, pod, select};
use crate::{cluster::Cluster, context::OperatorConfig};

/// Seconds a frontend has to end its sessions.
const GRACE_SECONDS: i64 = 45;
/// Seconds after which a frontend on a node that is away is replaced.
const AWAY_SECONDS: i64 = 30;

/// The template of the frontends' pods; a change of `config_hash` rolls them.
#[must_use]
pub fn template(cluster: &Cluster, config: &OperatorConfig, config_hash: &str) -> PodTemplateSpec {
    let mut template_labels = labels::common(&cluster.name);
    template_labels.extend(labels::selector(&cluster.name, Role::Frontend));
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(template_labels),
            annotations: Some([(labels::CONFIG_HASH.to_owned(), config_hash.to_owned())].into()),
            ..ObjectMeta::default()
        }),
        spec: Some(pod_spec(cluster, config)),
    }
}

/// The Deployment.
#[must_use]
pub fn build(cluster: &Cluster, template: PodTemplateSpec) -> Deployment {
    let (surge, unavailable) = if has_host_ports(cluster) { (0, 1) } else { (1, 0) };
    Deployment {
        metadata: meta(cluster, cluster.names().frontend()),
        spec: Some(DeploymentSpec {
            replicas: cluster.spec.frontends.replicas,
            selector: select(labels::selector(&cluster.name, Role::Frontend)),
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".into()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::Int(surge)),
                    max_unavailable: Some(IntOrString::Int(unavailable)),
                }),
            }),
            revision_history_limit: Some(3),
            template,
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

fn has_host_ports(cluster: &Cluster) -> bool {
    cluster.spec.frontends.exposure == Exposure::HostPort
}

fn pod_spec(cluster: &Cluster, config: &OperatorConfig) -> PodSpec {
    let (names, host_ports) = (cluster.names(), has_host_ports(cluster));
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
    spec.tolerations = Some(tolerations(&frontends.tolerations));
    spec.topology_spread_constraints = Some(pod::spread(cluster, Role::Frontend));
    let own = select(labels::selector(&cluster.name, Role::Frontend));
    spec.affinity = Some(Affinity {
        pod_anti_affinity: Some(PodAntiAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![pod::in_other_zones(own)]),
            ..PodAntiAffinity::default()
        }),
        ..Affinity::default()
    });
    if let Some(container) = spec.containers.first_mut() {
        container.resources = frontends.resources.to_requirements();
    }
    spec
}

/// A frontend on a dead node is replaced soon, unless the user says how long it stays.
fn tolerations(wanted: &[Toleration]) -> Vec<Toleration> {
    let own = NODE_AWAY.into_iter().filter(|key| !wanted.iter().any(|t| t.key.as_deref() == Some(*key)));
    let soon = own.map(|key| Toleration {
        key: Some(key.into()),
        operator: Some("Exists".into()),
        effect: Some("NoExecute".into()),
        toleration_seconds: Some(AWAY_SECONDS),
        ..Toleration::default()
    });
    soon.chain(wanted.iter().cloned()).collect()
}
