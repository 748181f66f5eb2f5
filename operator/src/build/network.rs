//! NetworkPolicies: ingress only, each flow that exists and no other.

use std::{collections::BTreeMap, slice::from_ref as one};

use k8s_openapi::{
    api::networking::v1::{
        NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use mailcluster_api::{labels, ports, roles::Role};

use super::{meta, select};
use crate::{cluster::Cluster, context::OperatorConfig};

/// The label every namespace carries.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// The policies of frontends, of mail stores' pods and of the directory's.
#[must_use]
pub fn build(cluster: &Cluster, config: &OperatorConfig) -> Vec<NetworkPolicy> {
    let peer = |role| pods(labels::selector(&cluster.name, role));
    let (frontends, backends) = (peer(Role::Frontend), peer(Role::Backend));
    let operator = operator(config);
    let prometheus: Vec<_> = config.prometheus_namespace.iter().map(|name| namespace(name)).collect();
    let metrics = (!prometheus.is_empty()).then(|| rule(&prometheus, &[ports::HEALTH]));
    let clients: Vec<u16> = ports::CLIENT_PORTS.iter().map(|p| p.pod).collect();
    let policy = |name: String, role: Role, rules: Vec<NetworkPolicyIngressRule>| NetworkPolicy {
        metadata: meta(cluster, name),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(select(labels::selector(&cluster.name, role))),
            policy_types: Some(vec!["Ingress".into()]),
            ingress: Some(rules),
            egress: None,
        }),
    };
    let names = cluster.names();
    let sessions = [ports::BACKEND_LMTP, ports::BACKEND_IMAP, ports::BACKEND_POP3, ports::BACKEND_SIEVE];
    // The operator asks frontends for their health too: it takes those out that do not answer.
    let health: Vec<_> = std::iter::once(operator.clone()).chain(prometheus).collect();
    let of_frontends = vec![
        rule(&[], &clients),
        rule(one(&operator), &[ports::FRONTEND_GRPC]),
        rule(&health, &[ports::HEALTH]),
    ];
    let mut of_backends = vec![
        rule(one(&frontends), &sessions),
        rule(one(&backends), &[ports::BACKEND_LMTP]),
        // The copies of a store feed each other; their certificates keep the stores apart.
        rule(one(&backends), &[ports::BACKEND_GRPC]),
        // The directory reads and writes the accounts' records that each store carries.
        rule(&[peer(Role::Directory), operator.clone()], &[ports::BACKEND_GRPC]),
    ];
    let asking = [frontends, backends, peer(Role::Directory), operator];
    let mut of_directory = vec![rule(&asking, &[ports::DIRECTORY_GRPC])];
    of_backends.extend(metrics.clone());
    of_directory.extend(metrics);
    vec![
        policy(names.frontend(), Role::Frontend, of_frontends),
        policy(names.backend_policy(), Role::Backend, of_backends),
        policy(names.directory(), Role::Directory, of_directory),
    ]
}

/// Lets these peers (everybody when there are none) reach these ports.
fn rule(from: &[NetworkPolicyPeer], to: &[u16]) -> NetworkPolicyIngressRule {
    let ports = to.iter().map(|port| NetworkPolicyPort {
        port: Some(IntOrString::Int(i32::from(*port))),
        protocol: Some("TCP".into()),
        end_port: None,
    });
    NetworkPolicyIngressRule {
        from: Some(from.to_vec()).filter(|f| !f.is_empty()),
        ports: Some(ports.collect()),
    }
}

fn pods(labels: BTreeMap<String, String>) -> NetworkPolicyPeer {
    NetworkPolicyPeer { pod_selector: Some(select(labels)), ..NetworkPolicyPeer::default() }
}

fn namespace(name: &str) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        namespace_selector: Some(select([(NAMESPACE_NAME.to_owned(), name.to_owned())].into())),
        ..NetworkPolicyPeer::default()
    }
}

fn operator(config: &OperatorConfig) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        pod_selector: Some(LabelSelector {
            match_labels: Some(
                [(labels::NAME.to_owned(), mailcluster_api::OPERATOR_FIELD_MANAGER.to_owned())].into(),
            ),
            ..LabelSelector::default()
        }),
        ..namespace(&config.namespace)
    }
}
