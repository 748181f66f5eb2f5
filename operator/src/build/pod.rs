//! What all mail pods have in common.

use k8s_openapi::{
    api::core::v1::{
        Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource, EnvVar,
        EnvVarSource, HTTPGetAction, LocalObjectReference, ObjectFieldSelector, PodAffinityTerm,
        PodSecurityContext, PodSpec, Probe, SeccompProfile, SecretVolumeSource, SecurityContext,
        TopologySpreadConstraint, Volume, VolumeMount, WeightedPodAffinityTerm,
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use mailcluster_api::{
    config::{CONFIG_DIR, CONFIG_FILE, IDENTITY_DIR},
    labels, ports,
    roles::Role,
};

use crate::{cluster::Cluster, context::OperatorConfig};

/// The user and group that mail pods run as.
const USER: i64 = 65_532;
/// The container's name.
pub const CONTAINER: &str = "node";
/// The label that tells machines apart.
pub const HOSTNAME: &str = "kubernetes.io/hostname";
/// The label that says which zone a machine is in.
pub const ZONE: &str = "topology.kubernetes.io/zone";

/// What differs between mail pods.
pub struct Parts {
    /// The pod's role.
    pub role: Role,
    /// Command line after the role.
    pub args: Vec<String>,
    /// Ports, beside the one for health and metrics.
    pub ports: Vec<ContainerPort>,
    /// The ServiceAccount.
    pub service_account: String,
    /// The ConfigMap.
    pub config: String,
    /// The Secret with the pod's identity.
    pub identity: String,
    /// Further volumes with the places where they are mounted.
    pub volumes: Vec<(Volume, VolumeMount)>,
    /// Seconds to finish work in.
    pub grace: i64,
}

/// A pod under the restricted Pod Security standard.
#[must_use]
pub fn spec(cluster: &Cluster, config: &OperatorConfig, parts: Parts) -> PodSpec {
    let (volumes, mounts) = volumes(&parts.config, &parts.identity, parts.volumes);
    let mut args =
        vec![parts.role.as_str().to_owned(), "--config".to_owned(), format!("{CONFIG_DIR}/{CONFIG_FILE}")];
    args.extend(parts.args);
    let mut ports = parts.ports;
    ports.push(port("health", ports::HEALTH));
    let secrets = config.image_pull_secrets.iter().map(|name| LocalObjectReference { name: name.clone() });
    PodSpec {
        service_account_name: Some(parts.service_account),
        enable_service_links: Some(false),
        image_pull_secrets: Some(secrets.collect::<Vec<_>>()).filter(|list| !list.is_empty()),
        priority_class_name: config.priority_class.clone(),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            fs_group: Some(USER),
            fs_group_change_policy: Some("OnRootMismatch".into()),
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".into(), localhost_profile: None }),
            ..PodSecurityContext::default()
        }),
        termination_grace_period_seconds: Some(parts.grace),
        containers: vec![Container {
            name: CONTAINER.into(),
            image: Some(cluster.image.clone()),
            image_pull_policy: Some("IfNotPresent".into()),
            args: Some(args),
            env: Some(environment()),
            ports: Some(ports),
            volume_mounts: Some(mounts),
            liveness_probe: Some(probe("/healthz", 10, 6)),
            readiness_probe: Some(probe("/readyz", 2, 2)),
            security_context: Some(SecurityContext {
                allow_privilege_escalation: Some(false),
                read_only_root_filesystem: Some(true),
                capabilities: Some(Capabilities { drop: Some(vec!["ALL".into()]), add: None }),
                ..SecurityContext::default()
            }),
            ..Container::default()
        }],
        volumes: Some(volumes),
        ..PodSpec::default()
    }
}

/// A named TCP port.
#[must_use]
pub fn port(name: &str, number: u16) -> ContainerPort {
    ContainerPort {
        name: Some(name.into()),
        container_port: i32::from(number),
        protocol: Some("TCP".into()),
        ..ContainerPort::default()
    }
}

fn environment() -> Vec<EnvVar> {
    let fields = [
        ("POD_NAME", "metadata.name"),
        ("POD_UID", "metadata.uid"),
        ("POD_IP", "status.podIP"),
        ("NODE_NAME", "spec.nodeName"),
        ("NAMESPACE", "metadata.namespace"),
    ];
    let of_pod = fields.into_iter().map(|(name, path)| EnvVar {
        name: name.into(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector { api_version: Some("v1".into()), field_path: path.into() }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    });
    let format =
        EnvVar { name: "MAILCLUSTER_LOG_FORMAT".into(), value: Some("json".into()), ..EnvVar::default() };
    of_pod.chain([format]).collect()
}

fn probe(path: &str, period: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.into()),
            port: IntOrString::Int(i32::from(ports::HEALTH)),
            scheme: Some("HTTP".into()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(2),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

fn volumes(
    config: &str,
    identity: &str,
    further: Vec<(Volume, VolumeMount)>,
) -> (Vec<Volume>, Vec<VolumeMount>) {
    let own = vec![
        (
            Volume {
                name: "config".into(),
                config_map: Some(ConfigMapVolumeSource {
                    name: config.into(),
                    ..ConfigMapVolumeSource::default()
                }),
                ..Volume::default()
            },
            mount("config", CONFIG_DIR, true),
        ),
        secret("identity", identity, IDENTITY_DIR),
        (
            Volume {
                name: "tmp".into(),
                empty_dir: Some(EmptyDirVolumeSource::default()),
                ..Volume::default()
            },
            mount("tmp", "/tmp", false),
        ),
    ];
    own.into_iter().chain(further).unzip()
}

/// A Secret and where it is mounted.
#[must_use]
pub fn secret(name: &str, secret: &str, path: &str) -> (Volume, VolumeMount) {
    let source = SecretVolumeSource {
        secret_name: Some(secret.into()),
        default_mode: Some(0o440),
        ..SecretVolumeSource::default()
    };
    (Volume { name: name.into(), secret: Some(source), ..Volume::default() }, mount(name, path, true))
}

/// Where a volume is mounted.
#[must_use]
pub fn mount(name: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: name.into(),
        mount_path: path.into(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

/// Keeps out of the zones of these pods, as far as that goes. Not by a constraint of topology spread: nodes without the
/// label would no longer be told apart by their names either.
#[must_use]
pub fn in_other_zones(pods: LabelSelector) -> WeightedPodAffinityTerm {
    WeightedPodAffinityTerm {
        weight: 100,
        pod_affinity_term: PodAffinityTerm {
            label_selector: Some(pods),
            topology_key: ZONE.into(),
            ..PodAffinityTerm::default()
        },
    }
}

/// Spreads the pods of one role over machines, as far as that goes.
#[must_use]
pub fn spread(cluster: &Cluster, role: Role) -> Vec<TopologySpreadConstraint> {
    vec![TopologySpreadConstraint {
        max_skew: 1,
        topology_key: HOSTNAME.into(),
        when_unsatisfiable: "ScheduleAnyway".into(),
        label_selector: Some(super::select(labels::selector(&cluster.name, role))),
        ..TopologySpreadConstraint::default()
    }]
}
