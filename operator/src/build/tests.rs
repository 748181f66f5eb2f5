//! Golden files of all children. `UPDATE_GOLDEN=1 cargo test -p mailcluster-operator` writes them anew.

use std::time::Duration;

use k8s_openapi::{api::apps::v1::StatefulSet, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::ResourceExt;
use mailcluster_api::{MailCluster, mailstore::StoreKind};
use serde::Serialize;
use serde_json::json;

use super::*;
use crate::{
    context::{Identity, OperatorConfig},
    pki::schedule::Lifetimes,
};

/// A cluster of two stores as the examples have it.
pub fn cluster() -> Cluster {
    let object: MailCluster = serde_json::from_value(json!({
        "apiVersion": "mailcluster.io/v1alpha1", "kind": "MailCluster",
        "metadata": {"name": "demo", "namespace": "mail", "uid": "11111111-2222-3333-4444-555555555555"},
        "spec": {
            "hostname": "mail.example.org",
            "stores": {"count": 2, "storage": {"storageClassName": "local", "size": "1Gi"},
                       "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}}},
            "outbound": {"smarthost": {"host": "relay.example.net", "port": 587, "credentialsSecret": "relay"},
                         "limits": {"messagesPerHour": 500, "recipientsPerDay": 5000}},
            "inbound": {"dmarc": "Enforce", "dnsbls": [{"zone": "bl.example.net", "action": "Reject", "answers": [2, 3]}]},
            "screening": {"allowCIDRs": ["192.0.2.0/24"]},
            "frontends": {"proxyProtocol": {"trustedCIDRs": ["10.0.0.0/8"]}}}}))
    .unwrap();
    Cluster::new(&object, &"c".repeat(32), "registry.example/node:1").unwrap()
}

fn config() -> OperatorConfig {
    OperatorConfig {
        watch_namespaces: vec![],
        leader_election: true,
        metrics_addr: ([0, 0, 0, 0], 9090).into(),
        node_image: "registry.example/node:1".into(),
        fence_image: String::new(),
        image_pull_secrets: vec!["pull".into()],
        namespace: "mailcluster-system".into(),
        identity: Identity { pod: "op-0".into(), uid: "u".into() },
        prometheus_namespace: Some("monitoring".into()),
        priority_class: None,
        manage_volumes: true,
        adopt_volumes: true,
        token_review_cluster_role: None,
        lifetimes: Lifetimes {
            leaf: Duration::from_secs(90),
            ca: Duration::from_secs(900),
            overlap: Duration::from_secs(9),
        },
    }
}

fn store(kind: StoreKind) -> Store {
    let (name, digit) = match kind {
        StoreKind::Mail => ("demo-0", "1"),
        StoreKind::Directory => ("demo-directory", "d"),
    };
    let replica = digit.repeat(32);
    let claim = format!("mail-{name}-{}", &replica[..8]);
    Store::new(name, kind, vec![(replica, claim)]).remove(0)
}

fn owner(store: &Store) -> OwnerReference {
    OwnerReference {
        api_version: "mailcluster.io/v1alpha1".into(),
        kind: "MailStore".into(),
        name: store.name.clone(),
        uid: "store-uid".into(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Compares with, or writes, `tests/golden/<name>.yaml`.
fn golden<T: Serialize>(name: &str, objects: &[T]) {
    let texts: Vec<String> = objects
        .iter()
        // Through JSON values, so that what is not set is not written.
        .map(|o| serde_saphyr::to_string(&serde_json::to_value(o).unwrap()).unwrap())
        .collect();
    let text = texts.join("---\n");
    let path = format!("{}/tests/golden/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == text, "{path} differs; run with UPDATE_GOLDEN=1 and look at the difference");
}

#[test]
fn stateful_sets() {
    let sets = [StoreKind::Mail, StoreKind::Directory].map(store).map(|s| {
        let pin = (s.kind == StoreKind::Mail).then_some("node-2");
        let template = statefulset::template(&cluster(), &config(), &s, "hash");
        statefulset::build(&cluster(), &s, &owner(&s), template, pin)
    });
    golden("statefulsets", &sets);
    for set in sets {
        let spec = set.spec.unwrap();
        assert!(spec.volume_claim_templates.is_none(), "nothing may make an empty volume under an old name");
        assert_eq!(spec.update_strategy.unwrap().type_.unwrap(), "OnDelete");
    }
}

#[test]
fn deployment_of_frontends() {
    let template = |cluster: &Cluster| deployment::template(cluster, &config(), "hash");
    golden("deployment", &[deployment::build(&cluster(), template(&cluster()))]);
    let mut host = cluster();
    host.spec.frontends.exposure = mailcluster_api::mailcluster::Exposure::HostPort;
    let pod = template(&host).spec.unwrap();
    let host_ports: Vec<i32> = pod.containers[0].ports.iter().flatten().filter_map(|p| p.host_port).collect();
    assert_eq!(host_ports, [25, 465, 587, 143, 993, 110, 995, 4190]);
}

#[test]
fn services() {
    use mailcluster_api::mailcluster::Exposure;
    let all = [Exposure::LoadBalancer, Exposure::NodePort, Exposure::HostPort, Exposure::ClusterIp].map(
        |exposure| {
            let mut cluster = cluster();
            cluster.spec.frontends.exposure = exposure;
            service::build(&cluster)
        },
    );
    golden("services", &all);
}

#[test]
fn network_policies() {
    golden("networkpolicies", &network::build(&cluster(), &config()));
    let closed = network::build(&cluster(), &OperatorConfig { prometheus_namespace: None, ..config() });
    let text = serde_json::to_string(&closed).unwrap();
    assert!(!text.contains("monitoring"), "no Prometheus, no way in");
    // A rule without peers lets everybody in: that is for clients alone.
    let rules = closed.iter().flat_map(|p| p.spec.iter().flat_map(|s| s.ingress.iter().flatten()));
    assert_eq!(rules.filter(|rule| rule.from.is_none()).count(), 1);
}

#[test]
fn budgets() {
    let s = store(StoreKind::Mail);
    golden("budgets", &[disruption::frontends(&cluster()), disruption::store(&cluster(), &s, &owner(&s), 0)]);
}

#[test]
fn configuration() {
    let (mail, directory) = (store(StoreKind::Mail), store(StoreKind::Directory));
    let maps = [
        config::frontends(&cluster()).unwrap(),
        config::store(&cluster(), &mail, &owner(&mail)).unwrap(),
        config::store(&cluster(), &directory, &owner(&directory)).unwrap(),
        config::authority(&cluster(), "bundle"),
    ];
    for map in &maps[..3] {
        mailcluster_api::config::NodeConfig::from_yaml(&map.data.as_ref().unwrap()["node.yaml"]).unwrap();
    }
    golden("configmaps", &maps);
}

#[test]
fn claims() {
    let s = store(StoreKind::Mail);
    let built = claim::build(&cluster(), &s, None);
    assert!(built.metadata.owner_references.is_none(), "a claim outlives its cluster");
    golden("claims", &[built, claim::build(&cluster(), &s, Some("pv-1".into()))]);
}

#[test]
fn copies_of_a_store_are_told_apart_and_kept_apart() {
    let mut cluster = cluster();
    cluster.spec.stores.replicas = Some(2);
    let ids = ["1", "2"].map(|digit| (digit.repeat(32), format!("mail-demo-0-{digit}")));
    let copies = Store::new("demo-0", StoreKind::Mail, ids.into());
    let set = |copy: &Store, pinned| {
        let template = statefulset::template(&cluster, &config(), copy, "hash");
        statefulset::build(&cluster, copy, &owner(copy), template, pinned)
    };
    let [first, second] = [&copies[0], &copies[1]].map(|copy| set(copy, None));
    assert_eq!((first.name_any(), second.name_any()), ("demo-0-a".into(), "demo-0-b".into()));
    let selector = |set: &StatefulSet| set.spec.clone().unwrap().selector.match_labels.unwrap();
    assert_ne!(selector(&first), selector(&second));
    // Another id in its place: the selector, which cannot be changed, stays.
    let another = Store { replica: "3".repeat(32), ..copies[1].clone() };
    assert_eq!(selector(&set(&another, None)), selector(&second));
    let apart = first.spec.unwrap().template.spec.unwrap().affinity.unwrap().pod_anti_affinity.unwrap();
    let nodes = apart.required_during_scheduling_ignored_during_execution.unwrap().remove(0);
    let zones = apart.preferred_during_scheduling_ignored_during_execution.unwrap().remove(0);
    for (term, key) in [(nodes, pod::HOSTNAME), (zones.pod_affinity_term, pod::ZONE)] {
        assert_eq!(term.topology_key, key);
        let of_all = term.label_selector.unwrap().match_labels.unwrap();
        assert!(of_all.iter().all(|(key, value)| selector(&second).get(key) == Some(value)), "{of_all:?}");
    }
    let object = mailstore::build(&cluster, &copies.iter().collect::<Vec<_>>()).unwrap();
    assert_eq!(Store::copies(&object), copies);
    let config = |copy: &Store| config::store(&cluster, copy, &owner(copy)).unwrap().data.unwrap();
    assert_eq!(config(&another), config(&copies[1]), "nor do the other copies' pods change");
    let read = mailcluster_api::config::NodeConfig::from_yaml(&config(&another)["node.yaml"]).unwrap();
    assert!(read.backend.unwrap().mirrors.is_some());
}

#[test]
fn mail_stores() {
    golden(
        "mailstores",
        &[StoreKind::Mail, StoreKind::Directory].map(|k| mailstore::build(&cluster(), &[&store(k)])),
    );
}

#[test]
fn roles() {
    let mut objects = Vec::new();
    let parts = [
        rbac::frontends(&cluster()),
        rbac::admin(&cluster()),
        rbac::store(&cluster(), &store(StoreKind::Mail), &owner(&store(StoreKind::Mail))),
        rbac::store(&cluster(), &store(StoreKind::Directory), &owner(&store(StoreKind::Directory))),
    ];
    for part in parts {
        objects.push(serde_json::to_value(&part.account).unwrap());
        if let Some((role, binding)) = part.role {
            let rules = role.rules.clone().unwrap_or_default();
            let touches = |r: &str| {
                rules.iter().any(|rule| rule.resources.iter().flatten().any(|x| x == r || x == "*"))
            };
            assert!(!touches("secrets"), "no mail role reads Secrets");
            objects.push(serde_json::to_value(&role).unwrap());
            objects.push(serde_json::to_value(&binding).unwrap());
        }
    }
    objects.push(serde_json::to_value(rbac::token_review(&cluster(), "mailcluster-token-review")).unwrap());
    golden("rbac", &objects);
}

#[test]
fn frontends_leave_a_dead_node_soon_unless_told_otherwise() {
    let mut cluster = cluster();
    let seconds = |cluster: &Cluster| {
        let spec = deployment::template(cluster, &config(), "hash").spec.unwrap();
        let all = spec.tolerations.unwrap();
        all.iter().map(|t| (t.key.clone().unwrap(), t.toleration_seconds)).collect::<Vec<_>>()
    };
    let [not_ready, unreachable] = NODE_AWAY.map(str::to_owned);
    assert_eq!(seconds(&cluster), [(not_ready, Some(30)), (unreachable.clone(), Some(30))]);
    cluster.spec.frontends.tolerations =
        vec![serde_json::from_value(json!({"key": NODE_AWAY[0], "operator": "Exists"})).unwrap()];
    assert_eq!(seconds(&cluster), [(unreachable, Some(30)), (NODE_AWAY[0].to_owned(), None)]);
}
