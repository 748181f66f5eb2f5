//! The StatefulSet of a store's copy. It has no volumeClaimTemplates, so that nothing ever makes an empty volume under
//! an old name, and it never replaces a running pod by itself: failover does, one store after another.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetUpdateStrategy},
        core::v1::{
            Affinity, ContainerPort, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm,
            PersistentVolumeClaimVolumeSource, PodAffinityTerm, PodAntiAffinity, PodSpec, PodTemplateSpec,
            Toleration, Volume, VolumeMount,
        },
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use mailcluster_api::{
    config::{DATA_DIR, SMARTHOST_DIR},
    labels,
    mailcluster::PodResources,
    mailstore::StoreKind,
    ports,
};

use super::{NODE_AWAY, pod, select, store_meta};
use crate::{
    apply::fingerprint,
    cluster::{Cluster, Store},
    context::OperatorConfig,
};

/// Seconds a backend has to end its sessions and close its log.
const GRACE_SECONDS: i64 = 45;

/// Where a store's pod may run and what it gets.
struct Placement<'a> {
    resources: &'a PodResources,
    node_selector: &'a BTreeMap<String, String>,
    tolerations: &'a [Toleration],
}

impl<'a> Placement<'a> {
    fn of(cluster: &'a Cluster, kind: StoreKind) -> Self {
        let (stores, directory) = (&cluster.spec.stores, &cluster.spec.directory);
        match kind {
            StoreKind::Mail => Self {
                resources: &stores.resources,
                node_selector: &stores.node_selector,
                tolerations: &stores.tolerations,
            },
            StoreKind::Directory => Self {
                resources: &directory.resources,
                node_selector: &directory.node_selector,
                tolerations: &directory.tolerations,
            },
        }
    }
}

/// The template of the pods of `store`, wherever they run. Its annotation names its hash: a pod that was made from
/// another one is told by it.
#[must_use]
pub fn template(
    cluster: &Cluster,
    config: &OperatorConfig,
    store: &Store,
    config_hash: &str,
) -> PodTemplateSpec {
    let mut template_labels = labels::common(&cluster.name);
    template_labels.extend(labels::store_selector(&cluster.name, store.role(), &store.name));
    template_labels.insert(labels::REPLICA.into(), store.replica.clone());
    template_labels.extend(copy_label(store));
    let annotations: BTreeMap<String, String> = [(labels::CONFIG_HASH.into(), config_hash.into())].into();
    let mut template = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(template_labels),
            annotations: Some(annotations.clone()),
            ..ObjectMeta::default()
        }),
        spec: Some(pod_spec(cluster, config, store)),
    };
    let hash = fingerprint(&serde_json::to_value(&template).unwrap_or_default());
    if let Some(metadata) = &mut template.metadata {
        metadata.annotations.get_or_insert(annotations).insert(labels::TEMPLATE_HASH.into(), hash);
    }
    template
}

/// The StatefulSet of `store`, whose MailStore is `owner`, with its pod pinned to a node if one is given.
#[must_use]
pub fn build(
    cluster: &Cluster,
    store: &Store,
    owner: &OwnerReference,
    mut template: PodTemplateSpec,
    pinned_node: Option<&str>,
) -> StatefulSet {
    if let Some(spec) = &mut template.spec {
        spec.affinity = pinned_node.map(pinned).or_else(|| apart(cluster, store));
    }
    StatefulSet {
        metadata: store_meta(cluster, store, owner, store.stateful_set()),
        spec: Some(StatefulSetSpec {
            replicas: Some(1),
            service_name: Some(store.name.clone()),
            selector: select(own_labels(cluster, store)),
            pod_management_policy: Some("Parallel".into()),
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("OnDelete".into()),
                rolling_update: None,
            }),
            revision_history_limit: Some(2),
            template,
            ..StatefulSetSpec::default()
        }),
        status: None,
    }
}

/// The labels that no other StatefulSet's pods have.
fn own_labels(cluster: &Cluster, store: &Store) -> BTreeMap<String, String> {
    let mut own = labels::store_selector(&cluster.name, store.role(), &store.name);
    own.extend(copy_label(store));
    own
}

/// A copy keeps its letter when another id takes its place, so that the selector, which cannot be changed, stays.
fn copy_label(store: &Store) -> Option<(String, String)> {
    store.is_mirrored().then(|| (labels::COPY.to_owned(), store.letter.to_string()))
}

/// Each copy of a store on a node of its own, and in a zone of its own as far as that goes.
fn apart(cluster: &Cluster, store: &Store) -> Option<Affinity> {
    let copies = select(labels::store_selector(&cluster.name, store.role(), &store.name));
    let term = PodAffinityTerm {
        label_selector: Some(copies.clone()),
        topology_key: pod::HOSTNAME.into(),
        ..PodAffinityTerm::default()
    };
    store.is_mirrored().then(|| Affinity {
        pod_anti_affinity: Some(PodAntiAffinity {
            required_during_scheduling_ignored_during_execution: Some(vec![term]),
            preferred_during_scheduling_ignored_during_execution: Some(vec![pod::in_other_zones(copies)]),
        }),
        ..Affinity::default()
    })
}

fn pod_spec(cluster: &Cluster, config: &OperatorConfig, store: &Store) -> PodSpec {
    let placement = Placement::of(cluster, store.kind);
    let data = Volume {
        name: "data".into(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: store.claim.clone(),
            read_only: None,
        }),
        ..Volume::default()
    };
    let parts = pod::Parts {
        role: store.role(),
        args: vec!["--replica".into(), store.replica.clone()],
        ports: store_ports(store.kind),
        service_account: store.name.clone(),
        config: store.name.clone(),
        identity: store.names().identity(),
        volumes: std::iter::once((data, pod::mount("data", DATA_DIR, false)))
            .chain(smarthost_credentials(cluster, store.kind))
            .collect(),
        grace: GRACE_SECONDS,
    };
    let mut spec = pod::spec(cluster, config, parts);
    spec.node_selector = Some(placement.node_selector.clone()).filter(|map| !map.is_empty());
    spec.tolerations = Some(tolerations(placement.tolerations));
    spec.topology_spread_constraints = Some(pod::spread(cluster, store.role()));
    if let Some(container) = spec.containers.first_mut() {
        container.resources = placement.resources.to_requirements();
    }
    spec
}

/// The login at the smarthost. No store waits for it: while the Secret is missing, only mail to other sites does.
fn smarthost_credentials(cluster: &Cluster, kind: StoreKind) -> Option<(Volume, VolumeMount)> {
    let smarthost = cluster.spec.outbound.as_ref()?.smarthost.as_ref()?;
    let name = smarthost.credentials_secret.as_ref().filter(|_| kind == StoreKind::Mail)?;
    let (mut volume, mount) = pod::secret("smarthost", name, SMARTHOST_DIR);
    if let Some(secret) = &mut volume.secret {
        secret.optional = Some(true);
    }
    Some((volume, mount))
}

fn store_ports(kind: StoreKind) -> Vec<ContainerPort> {
    match kind {
        StoreKind::Mail => vec![
            pod::port("lmtp", ports::BACKEND_LMTP),
            pod::port("imap", ports::BACKEND_IMAP),
            pod::port("pop3", ports::BACKEND_POP3),
            pod::port("sieve", ports::BACKEND_SIEVE),
            pod::port("grpc", ports::BACKEND_GRPC),
        ],
        StoreKind::Directory => {
            vec![pod::port("grpc", ports::DIRECTORY_GRPC), pod::port("admin", ports::DIRECTORY_ADMIN)]
        }
    }
}

/// Only the operator moves a store: its pod stays where it is, however long its node is away.
fn tolerations(further: &[Toleration]) -> Vec<Toleration> {
    let always = NODE_AWAY.map(|key| Toleration {
        key: Some(key.into()),
        operator: Some("Exists".into()),
        effect: Some("NoExecute".into()),
        ..Toleration::default()
    });
    always.into_iter().chain(further.iter().cloned()).collect()
}

/// Only on this node, by its name: the label kubernetes.io/hostname may say something else.
fn pinned(node: &str) -> Affinity {
    let term = NodeSelectorTerm {
        match_fields: Some(vec![NodeSelectorRequirement {
            key: "metadata.name".into(),
            operator: "In".into(),
            values: Some(vec![node.into()]),
        }]),
        match_expressions: None,
    };
    Affinity {
        node_affinity: Some(NodeAffinity {
            required_during_scheduling_ignored_during_execution: Some(NodeSelector {
                node_selector_terms: vec![term],
            }),
            ..NodeAffinity::default()
        }),
        ..Affinity::default()
    }
}
