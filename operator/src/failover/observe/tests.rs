use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use mailcluster_api::MailCluster;
use mailcluster_failover::{Phase, Reach, Step, next_step};
use serde_json::json;

use super::{
    super::report::{self, Part},
    around::Other,
    *,
};

pub(crate) const NOW: i64 = 1_800_000_000;

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
        clusters: vec![Arc::new(cluster)].into(),
        stores: vec![Arc::new(store())].into(),
        nodes: vec![node("n1"), node("n2"), node("n3")].into(),
        pods: vec![Arc::new(pod("p1", "n1"))].into(),
        leases: vec![Arc::new(lease("p1/s", 5))].into(),
        claims: vec![Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": "mail-demo-0-aaaaaaaa", "namespace": "mail"},
                "spec": {"volumeName": "pv1"}, "status": {"phase": "Bound"},
            }))
            .unwrap(),
        )]
        .into(),
        volumes: vec![Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": "pv1"},
                "spec": {"persistentVolumeReclaimPolicy": "Retain", "local": {"path": "/srv/pv1"},
                    "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                        {"key": "kubernetes.io/hostname", "operator": "In", "values": ["n1", "n2"]}]}]}}},
            }))
            .unwrap(),
        )]
        .into(),
        ..World::default()
    }
}

fn others(world: &World, heard: &Heard) -> Others {
    let sight = Sight::new(world, heard);
    sight.others(&sight.all_alone())
}

fn observe(world: &World, heard: &Heard, store: &MailStore, others: &Others) -> Option<Observation> {
    Sight::new(world, heard).observe(store, others)
}

/// What is observed of the world's first store.
pub(crate) fn seen(world: &World, heard: &Heard) -> Observation {
    observe(world, heard, &world.stores[0], &others(world, heard)).unwrap()
}

/// What is heard when the first store's lease has stood still.
pub(crate) fn heard_still() -> Heard {
    heard(Some(60_000))
}

/// A store whose lease was not renewed and whose pod says nothing, on a node that is Ready.
pub(crate) fn frozen() -> World {
    world()
}

/// What is observed of the world's store when its lease has stood still.
pub(crate) fn observed(world: &World) -> Observation {
    let heard = heard(Some(60_000));
    observe(world, &heard, &world.stores[0], &others(world, &heard)).unwrap()
}

/// The same when it is renewed.
pub(crate) fn renewing(world: &World) -> Observation {
    let heard = heard(Some(100));
    observe(world, &heard, &world.stores[0], &others(world, &heard)).unwrap()
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
    let unchanged = unchanged.map(|ms| (key, ms)).into_iter().collect();
    Heard { unchanged, now: NOW, is_told: true, awaited: Some([].into()), ..Heard::default() }
}

fn decide(world: &World, heard: &Heard) -> mailcluster_failover::Decision {
    next_step(&observe(world, heard, &world.stores[0], &others(world, heard)).unwrap())
}

pub(crate) fn unready(world: &mut World, name: &str) {
    for node in world.nodes.iter_mut() {
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
    world.stores = vec![Arc::new(store)].into();
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
    world.jobs = vec![Arc::new(job.clone())].into();
    assert_eq!(decide(&world, &heard).step, Step::Await("the fence Job's verdict"));
    job.status =
        serde_json::from_value(json!({"conditions": [{"type": "Complete", "status": "True"}]})).unwrap();
    world.jobs = vec![Arc::new(job)].into();
    assert_eq!(decide(&world, &heard).step, Step::RecordEvidence(EvidenceKind::FenceJob));
}

#[test]
fn a_store_without_rights_on_nodes_is_never_moved() {
    let mut world = world();
    world.nodes = Vec::new().into();
    world.volumes = Vec::new().into();
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
    world.stores = vec![Arc::new(store)].into();
    let unfit = mailcluster_failover::Blocked::UnfitNode("n3".into(), "it does not reach the volume");
    assert_eq!(decide(&world, &heard(Some(100))).step, Step::RefuseRequest(unfit));
}

#[test]
fn a_step_that_was_written_down_and_never_carried_out_is_decided_again() {
    let mut world = world();
    Arc::make_mut(&mut world.nodes[0]).spec = serde_json::from_value(json!({"unschedulable": true})).unwrap();
    let heard = heard(Some(100));
    let o = observe(&world, &heard, &world.stores[0], &others(&world, &heard)).unwrap();
    let decision = next_step(&o);
    assert_eq!(decision.step, Step::Pin("n2".into()));
    let old = Part::of(world.stores[0].status.as_ref().unwrap());
    let (part, _) = report::next(("demo-0", &old), &o, &decision, None, Timestamp::from_second(NOW).unwrap());
    assert!(part.last_failover.is_some());
    Arc::make_mut(&mut world.stores[0]).status.as_mut().unwrap().last_failover = part.last_failover;
    assert_eq!(decide(&world, &heard).step, Step::Pin("n2".into()), "by the next leader");
}

#[test]
fn the_holders_own_word_says_where_it_runs() {
    let mut world = world();
    let lease = Arc::make_mut(&mut world.leases[0]);
    lease.annotations_mut().insert("mailcluster.io/seat".into(), "n1@boot-0".into());
    // The status was written before the node showed its new boot.
    let placement = observed(&world).placement.unwrap();
    assert_eq!((placement.boot_id.as_str(), placement.system_uuid.as_str()), ("boot-0", "machine-n1"));
    // Never recorded, and its pod object gone: the lease still says it.
    let mut store = store();
    store.annotations_mut().clear();
    (world.stores, world.pods) = (vec![Arc::new(store)].into(), Vec::new().into());
    let placement = observed(&world).placement.unwrap();
    assert_eq!((placement.node.as_str(), placement.boot_id.as_str()), ("n1", "boot-0"));
    assert_eq!(placement.system_uuid, "", "another boot's node is not believed");
    for seat in ["n1@", "@boot", "n1"] {
        let lease = Arc::make_mut(&mut world.leases[0]);
        lease.annotations_mut().insert("mailcluster.io/seat".into(), seat.into());
        assert_eq!(observed(&world).placement, None, "{seat}");
    }
}

#[test]
fn the_lease_counts_by_the_length_that_its_holder_knows() {
    let mut world = world();
    for (holder, seconds, wanted) in [("p1/s", 4, 8_000), ("p1/s", 30, 30_000), ("", 30, 8_000)] {
        let spec = Arc::make_mut(&mut world.leases[0]).spec.as_mut().unwrap();
        (spec.holder_identity, spec.lease_duration_seconds) = (Some(holder.into()), Some(seconds));
        assert_eq!(observed(&world).store.lease_ms, wanted, "{seconds}");
    }
}

#[test]
fn a_node_admits_what_its_labels_and_taints_let_in() {
    let admits = |template: serde_json::Value, taint: Option<(&str, &str)>| {
        let mut world = world();
        let mut spec = template;
        spec["containers"] = json!([]);
        world.sets = vec![Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": "demo-0-a", "namespace": "mail"},
                "spec": {"selector": {}, "template": {"spec": spec}},
            }))
            .unwrap(),
        )]
        .into();
        if let Some((key, effect)) = taint {
            let taints = json!({"taints": [{"key": key, "effect": effect, "value": "v"}]});
            Arc::make_mut(&mut world.nodes[1]).spec = serde_json::from_value(taints).unwrap();
        }
        observed(&world).nodes[1].admits
    };
    let tolerates = |t: serde_json::Value| json!({"tolerations": [t]});
    assert!(admits(json!({}), None));
    assert!(admits(json!({"nodeSelector": {"kubernetes.io/hostname": "n2"}}), None));
    assert!(!admits(json!({"nodeSelector": {"disk": "fast"}}), None));
    assert!(!admits(json!({}), Some(("dedicated", "NoSchedule"))));
    assert!(!admits(json!({}), Some(("dedicated", "NoExecute"))));
    assert!(admits(json!({}), Some(("dedicated", "PreferNoSchedule"))));
    assert!(
        admits(json!({}), Some(("node.kubernetes.io/unreachable", "NoExecute"))),
        "its conditions say so"
    );
    assert!(admits(tolerates(json!({"operator": "Exists"})), Some(("dedicated", "NoSchedule"))));
    assert!(admits(tolerates(json!({"key": "dedicated", "value": "v"})), Some(("dedicated", "NoSchedule"))));
    assert!(!admits(tolerates(json!({"key": "dedicated", "value": "w"})), Some(("dedicated", "NoSchedule"))));
    let other_effect = json!({"key": "dedicated", "operator": "Exists", "effect": "NoExecute"});
    assert!(!admits(tolerates(other_effect), Some(("dedicated", "NoSchedule"))));
}

/// The same world with a directory beside the store, both held, on n1.
fn with_directory() -> World {
    let mut world = frozen();
    let mut directory = store();
    directory.metadata.name = Some("demo-directory".into());
    directory.metadata.uid = Some("d".into());
    directory.spec.kind = StoreKind::Directory;
    directory.annotations_mut().insert(keys::HELD_BY.into(), "d1".into());
    let mut held = lease("d1/s", 5);
    held.metadata.name = Some("demo-directory".into());
    world.stores.put(Arc::new(directory));
    world.leases.put(Arc::new(held));
    world
}

#[test]
fn others_matter_by_what_is_known_of_them() {
    let key = |name: &str| ("mail".to_owned(), name.to_owned());
    let around = |world: &World, heard: &Heard| {
        observe(world, heard, &world.stores[0], &others(world, heard)).unwrap().cluster
    };
    let mut world = with_directory();
    unready(&mut world, "n1");
    let mut both = heard(Some(60_000));
    both.unchanged.insert(key("demo-directory"), 60_000);
    let cluster = around(&world, &both);
    assert_eq!((cluster.nodes, cluster.lost_nodes), (1, 1), "nodes that carry stores, not all there are");
    assert!(cluster.directory_first && !cluster.node_has_renewing_store);
    // A failover that does not end does not hold up others.
    let mut directory = world.stores[1].status.clone().unwrap();
    for (begun, first) in [(NOW - 179, true), (NOW - 180, false)] {
        directory.last_failover = Some(mailstore::LastFailover {
            detected_at: Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
                k8s_openapi::jiff::Timestamp::from_second(begun).unwrap(),
            )),
            ..mailstore::LastFailover::default()
        });
        let world = world_of(&world, directory.clone());
        assert_eq!(around(&world, &both).directory_first, first, "{begun}");
    }
    // A neighbour whose lease has run out, but that frontends reach, is alive.
    let mut world = with_directory();
    world.pods.put(Arc::new(frontend("f1", "n2")));
    let reached = mailcluster_rpc::control::v1::StoreReach {
        store: "demo-directory".into(),
        epoch: 5,
        reachable: true,
        age_ms: 100,
    };
    both.reports = [("f1".to_owned(), vec![reached])].into();
    assert!(around(&world, &both).node_has_renewing_store);
}

fn world_of(world: &World, directory: mailstore::MailStoreStatus) -> World {
    let mut world = world.clone();
    Arc::make_mut(&mut world.stores[1]).status = Some(directory);
    world
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
            settled: true,
            reached: false,
            arriving: false,
            outdated: true,
        };
        change(&mut other);
        other
    };
    let world = world();
    let well = |directory: bool, others: &[Other]| {
        let mut own = Sight::new(&world, &Heard::default()).alone(&world.stores[0]).unwrap();
        own.store.directory = directory;
        around::around(&world, &world.stores[0], &own, &others.to_vec().into()).others_are_well
    };
    let (same, silent) = (other("demo-1", false, &|_| {}), other("demo-1", false, &|x| x.renewing = false));
    let (moving, new) =
        (other("demo-1", false, &|x| x.moving = true), other("demo-1", false, &|x| x.outdated = false));
    let directory = other("demo-directory", true, &|_| {});
    assert!(well(false, &[same.clone(), directory.clone()]), "mail stores do not wait for each other's turn");
    assert!(!well(false, &[silent, directory.clone()]), "one is away");
    let settling = other("demo-1", false, &|x| x.settled = false);
    assert!(!well(false, &[settling, directory.clone()]), "one has its lease and is not found yet");
    assert!(!well(false, &[moving, directory]), "one moves");
    assert!(!well(true, &[same]), "the directory goes last");
    assert!(well(true, &[new]));
}

fn frontend(uid: &str, node: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": uid, "namespace": "mail", "uid": uid, "labels": {
            "app.kubernetes.io/name": "mailcluster", "mailcluster.io/cluster": "demo",
            mailcluster_api::labels::COMPONENT: "frontend", mailcluster_api::labels::CLUSTER: "demo"}},
        "spec": {"nodeName": node, "containers": []},
        "status": {"phase": "Running", "containerStatuses": [
            {"name": "frontend", "ready": true, "image": "", "imageID": "", "restartCount": 0}]},
    }))
    .unwrap()
}

#[test]
fn frontends_that_cannot_answer_are_not_waited_for() {
    type Change = fn(&mut Pod);
    let gate = |status: &str| json!([{"type": mailcluster_api::FRONTEND_GATE, "status": status}]);
    let cases: [(&str, &str, Change, Reach); 7] = [
        ("in service", "n3", |_| (), Reach { frontends: 2, answered: 1, ..Reach::default() }),
        ("on the holder's node", "n1", |_| (), Reach { frontends: 1, answered: 1, ..Reach::default() }),
        (
            "pending",
            "n3",
            |p| p.status.as_mut().unwrap().phase = Some("Pending".into()),
            Reach { frontends: 1, answered: 1, ..Reach::default() },
        ),
        (
            "not ready",
            "n3",
            |p| p.status.as_mut().unwrap().container_statuses.as_mut().unwrap()[0].ready = false,
            Reach { frontends: 1, answered: 1, ..Reach::default() },
        ),
        (
            "no status of containers",
            "n3",
            |p| p.status.as_mut().unwrap().container_statuses = None,
            Reach { frontends: 1, answered: 1, ..Reach::default() },
        ),
        (
            "being deleted",
            "n3",
            |p| {
                p.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap()
            },
            Reach { frontends: 1, answered: 1, ..Reach::default() },
        ),
        ("on no node", "", |_| (), Reach { frontends: 1, answered: 1, ..Reach::default() }),
    ];
    let mut heard = heard(Some(9_000));
    heard.reports = [("f1".to_owned(), Vec::new())].into();
    for (name, node, change, wanted) in cases {
        let mut world = world();
        let mut silent = frontend("f2", node);
        change(&mut silent);
        world.pods.put(Arc::new(frontend("f1", "n2")));
        world.pods.put(Arc::new(silent));
        let o = observe(&world, &heard, &world.stores[0], &others(&world, &heard)).unwrap();
        assert_eq!(o.reach, wanted, "{name}");
    }
    for (status, frontends) in [("True", 2), ("False", 1)] {
        let mut world = world();
        let mut gated = frontend("f2", "n3");
        gated.status.as_mut().unwrap().conditions = serde_json::from_value(gate(status)).unwrap();
        world.pods.put(Arc::new(frontend("f1", "n2")));
        world.pods.put(Arc::new(gated));
        let o = observe(&world, &heard, &world.stores[0], &others(&world, &heard)).unwrap();
        assert_eq!(o.reach.frontends, frontends, "gate {status}");
    }
}

#[test]
fn a_cluster_that_is_being_deleted_gets_no_pod_again() {
    let mut world = world();
    world.pods = Vec::new().into();
    let heard = heard(Some(60_000));
    assert!(observe(&world, &heard, &world.stores[0], &Others::default()).is_some());
    let mut cluster = MailCluster::clone(&world.clusters[0]);
    cluster.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
    world.clusters = vec![Arc::new(cluster)].into();
    assert!(observe(&world, &heard, &world.stores[0], &Others::default()).is_none());
}

#[test]
fn a_frontend_that_may_still_answer_is_waited_for() {
    for (what, awaited, node, pending) in [
        ("nobody was asked yet", None, "n3", 1),
        ("it was asked", Some("f2"), "n3", 1),
        ("it was asked and did not answer in time", Some("f9"), "n3", 0),
        ("it may have gone with the holder's node", Some("f2"), "n1", 0),
    ] {
        let mut heard = heard(Some(9_000));
        heard.awaited = awaited.map(|uid| [uid.to_owned()].into());
        heard.reports = [("f1".to_owned(), Vec::new())].into();
        let mut world = world();
        world.pods.put(Arc::new(frontend("f1", "n2")));
        world.pods.put(Arc::new(frontend("f2", node)));
        let o = observe(&world, &heard, &world.stores[0], &others(&world, &heard)).unwrap();
        assert_eq!((o.reach.pending, o.reach.answered), (pending, 1), "{what}");
    }
}
