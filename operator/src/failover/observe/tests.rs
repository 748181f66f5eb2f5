use std::sync::Arc;

use mailcluster_api::MailCluster;
use mailcluster_failover::{Phase, Step, next_step};
use serde_json::json;

use super::*;

const NOW: i64 = 1_800_000_000;

fn world() -> World {
    let cluster: MailCluster = serde_json::from_value(json!({
        "apiVersion": "mailcluster.io/v1alpha1", "kind": "MailCluster",
        "metadata": {"name": "demo", "namespace": "mail", "uid": "c"},
        "spec": {"hostname": "mail.example.org",
            "stores": {"count": 1, "storage": {"size": "1Gi"}},
            "failover": {"fencing": {"job": {"secretName": "bmc"}}}},
    }))
    .unwrap();
    let node = |name: &str| {
        Arc::new(serde_json::from_value(json!({
            "metadata": {"name": name, "uid": format!("uid-{name}"), "labels": {"kubernetes.io/hostname": name}},
            "status": {"conditions": [{"type": "Ready", "status": "True"}],
                "nodeInfo": node_info(name)},
        }))
        .unwrap())
    };
    World {
        clusters: vec![Arc::new(cluster)],
        stores: vec![Arc::new(store())],
        nodes: vec![node("n1"), node("n2"), node("n3")],
        pods: vec![Arc::new(pod("p1", "n1"))],
        leases: vec![Arc::new(lease("p1/s", 5))],
        claims: vec![Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": "mail-demo-0-aaaaaaaa", "namespace": "mail"},
                "spec": {"volumeName": "pv1"}, "status": {"phase": "Bound"},
            }))
            .unwrap(),
        )],
        volumes: vec![Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": "pv1"},
                "spec": {"persistentVolumeReclaimPolicy": "Retain", "local": {"path": "/srv/pv1"},
                    "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                        {"key": "kubernetes.io/hostname", "operator": "In", "values": ["n1", "n2"]}]}]}}},
            }))
            .unwrap(),
        )],
        ..World::default()
    }
}

fn node_info(name: &str) -> serde_json::Value {
    let mut info = json!({"bootID": format!("boot-{name}"), "systemUUID": format!("machine-{name}")});
    for field in [
        "architecture",
        "containerRuntimeVersion",
        "kernelVersion",
        "kubeProxyVersion",
        "kubeletVersion",
        "machineID",
        "operatingSystem",
        "osImage",
    ] {
        info[field] = json!("");
    }
    info
}

fn store() -> MailStore {
    serde_json::from_value(json!({
        "apiVersion": "mailcluster.io/v1alpha1", "kind": "MailStore",
        "metadata": {"name": "demo-0", "namespace": "mail", "uid": "s",
            "annotations": {"mailcluster.io/held-by": "p1"}},
        "spec": {"kind": "Mail", "cluster": "demo", "replicas": [{"id": "a".repeat(32), "pvc": "mail-demo-0-aaaaaaaa"}]},
        "status": {"epoch": 5, "host": "n1", "phase": "Serving",
            "nodeIdentity": {"node": "n1", "bootID": "boot-n1", "systemUUID": "machine-n1"},
            "serving": {"epoch": 5, "replica": "a".repeat(32), "podUID": "p1", "endpoint": "10.0.0.1:11443",
                "since": "2026-01-01T00:00:00Z"}},
    }))
    .unwrap()
}

fn pod(uid: &str, node: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "demo-0-a-0", "namespace": "mail", "uid": uid},
        "spec": {"nodeName": node, "containers": []}, "status": {"podIP": "10.0.0.1"},
    }))
    .unwrap()
}

fn lease(holder: &str, epoch: i32) -> k8s_openapi::api::coordination::v1::Lease {
    let record = mailcluster_failover::LeaseRecord::initial(vec!["a".repeat(32)], 1);
    serde_json::from_value(json!({
        "metadata": {"name": "demo-0", "namespace": "mail", "resourceVersion": "9", "annotations": record.annotations()},
        "spec": {"holderIdentity": holder, "leaseTransitions": epoch},
    }))
    .unwrap()
}

fn heard(unchanged: Option<u64>) -> Heard {
    let key = ("mail".to_owned(), "demo-0".to_owned());
    Heard { unchanged: unchanged.map(|ms| (key, ms)).into_iter().collect(), now: NOW, ..Heard::default() }
}

fn decide(world: &World, heard: &Heard) -> mailcluster_failover::Decision {
    next_step(&observe(world, heard, &world.stores[0], &others(world, heard)).unwrap())
}

fn unready(world: &mut World, name: &str) {
    for node in &mut world.nodes {
        if node.name_any() == name {
            let status = Arc::make_mut(node).status.as_mut().unwrap();
            status.conditions.as_mut().unwrap()[0].status = "Unknown".into();
        }
    }
}

#[test]
fn a_renewing_store_is_serving() {
    assert_eq!(decide(&world(), &heard(Some(100))).step, Step::Idle);
    assert_eq!(decide(&world(), &heard(None)).phase, Phase::Serving, "what was not watched is not judged");
}

#[test]
fn a_lost_node_is_fenced_under_the_boot_id_that_the_holder_ran_on() {
    let mut world = world();
    unready(&mut world, "n1");
    let heard = heard(Some(9_000));
    assert_eq!(decide(&world, &heard).step, Step::SetTarget(TargetKind::Auto));
    let mut store = (*world.stores[0]).clone();
    let status = store.status.as_mut().unwrap();
    status.target =
        serde_json::from_value(json!({"replica": "a".repeat(32), "leaseVersion": "9", "epoch": 5,
        "kind": "auto", "deadline": "2030-01-01T00:00:00Z"}))
        .unwrap();
    status.evidence = serde_json::from_value(json!([{"kind": "LeaseExpired", "podUID": "p1", "node": "n1",
        "bootID": "boot-n1", "epoch": 5, "at": "2026-01-01T00:00:00Z"}]))
    .unwrap();
    world.stores = vec![Arc::new(store)];
    let fence = Step::CreateFenceJob { node: "n1".into(), boot_id: "boot-n1".into() };
    assert_eq!(decide(&world, &heard).step, fence);
    let o = observe(&world, &heard, &world.stores[0], &others(&world, &heard)).unwrap();
    let cluster = &world.clusters[0];
    let spec = cluster.spec.failover.fencing.job.clone().unwrap();
    let mut job = super::super::fence::build(cluster, &spec, &config(), o.node("n1").unwrap(), "boot-n1");
    job.metadata.namespace = Some("mail".into());
    let env = job.spec.as_ref().unwrap().template.spec.as_ref().unwrap().containers[0].env.clone().unwrap();
    let env: Vec<(String, String)> = env.into_iter().map(|e| (e.name, e.value.unwrap_or_default())).collect();
    for (name, value) in [("NODE", "n1"), ("NODE_UID", "uid-n1"), ("BOOT_ID", "boot-n1")] {
        assert!(env.contains(&(name.to_owned(), value.to_owned())), "{env:?}");
    }
    world.jobs = vec![Arc::new(job.clone())];
    assert_eq!(decide(&world, &heard).step, Step::Await("the fence Job's verdict"));
    job.status =
        serde_json::from_value(json!({"conditions": [{"type": "Complete", "status": "True"}]})).unwrap();
    world.jobs = vec![Arc::new(job)];
    assert_eq!(decide(&world, &heard).step, Step::RecordEvidence(EvidenceKind::FenceJob));
}

#[test]
fn a_store_without_rights_on_nodes_is_never_moved() {
    let mut world = world();
    world.nodes.clear();
    world.volumes.clear();
    let step = decide(&world, &heard(Some(60_000))).step;
    assert!(matches!(step, Step::Await(_) | Step::Block(_)), "{step:?}");
}

#[test]
fn a_cordon_and_a_request_ask_for_a_move() {
    let mut world = world();
    Arc::make_mut(&mut world.nodes[0]).spec = serde_json::from_value(json!({"unschedulable": true})).unwrap();
    assert_eq!(decide(&world, &heard(Some(100))).step, Step::Pin("n2".into()));
    let mut store = store();
    store.annotations_mut().insert(keys::FAILOVER.into(), "n3".into());
    world.stores = vec![Arc::new(store)];
    let blocked = Step::Block(mailcluster_failover::Blocked::NoCandidate);
    assert_eq!(decide(&world, &heard(Some(100))).step, blocked, "the volume does not reach n3");
}

fn config() -> crate::context::OperatorConfig {
    use clap::Parser;
    crate::args::Args::parse_from(["mailcluster-operator", "--node-image", "node"]).into_config().unwrap()
}

#[test]
fn a_pod_is_outdated_when_its_statefulset_has_another_template() {
    use mailcluster_api::labels::TEMPLATE_HASH;
    let set = |hash: &str| {
        serde_json::from_value(
            json!({"metadata": {}, "spec": {"selector": {}, "serviceName": "s", "template":
            {"metadata": {"annotations": {TEMPLATE_HASH: hash}}, "spec": {"containers": []}}}}),
        )
        .unwrap()
    };
    let mut pod = pod("p1", "n1");
    assert!(outdated(&set("a"), &pod), "made before templates had a hash");
    pod.metadata.annotations = Some([(TEMPLATE_HASH.to_owned(), "a".to_owned())].into());
    assert!(!outdated(&set("a"), &pod));
    assert!(outdated(&set("b"), &pod));
}

#[test]
fn the_directory_is_restarted_after_all_stores_and_nobody_while_another_is_away() {
    let other = |name: &str, directory: bool, change: &dyn Fn(&mut Other)| {
        let mut other = Other {
            namespace: Some("mail".into()),
            cluster: "demo".into(),
            name: name.into(),
            node: None,
            directory,
            blocked: false,
            moving: false,
            lost: false,
            renewing: true,
            outdated: true,
        };
        change(&mut other);
        other
    };
    let world = world();
    let well = |directory: bool, others: &[Other]| {
        let mut own = alone(&world, &Heard::default(), &world.stores[0]).unwrap();
        own.store.directory = directory;
        around(&world, &world.stores[0], &own, others).others_are_well
    };
    let (same, silent) = (other("demo-1", false, &|_| {}), other("demo-1", false, &|x| x.renewing = false));
    let (moving, new) =
        (other("demo-1", false, &|x| x.moving = true), other("demo-1", false, &|x| x.outdated = false));
    let directory = other("demo-directory", true, &|_| {});
    assert!(well(false, &[same.clone(), directory.clone()]), "mail stores do not wait for each other's turn");
    assert!(!well(false, &[silent, directory.clone()]), "one is away");
    assert!(!well(false, &[moving, directory]), "one moves");
    assert!(!well(true, &[same]), "the directory goes last");
    assert!(well(true, &[new]));
}
