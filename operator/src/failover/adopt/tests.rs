use std::sync::Arc;

use mailcluster_failover::{Step, next_step};
use serde_json::{Value, json};

use super::*;
use crate::failover::observe::tests::{frozen, observed};

const CLAIM: &str = "mail-demo-0-aaaaaaaa";

fn volume(uid: &str) -> Value {
    json!({
        "metadata": {"name": "pv1", "uid": uid, "resourceVersion": "7", "finalizers": [PROTECTION],
            "creationTimestamp": "2026-01-01T00:01:00Z",
            "labels": {"mailcluster.io/store": "demo-0"},
            "annotations": {BOUND_BY_CONTROLLER: "yes", "mine": "stays"}},
        "spec": {"persistentVolumeReclaimPolicy": "Retain", "local": {"path": "/srv/pv1"},
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOncePod"], "storageClassName": "local",
            "claimRef": {"namespace": "mail", "name": CLAIM, "uid": "c1", "resourceVersion": "5"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": HOSTNAME, "operator": "In", "values": ["n1"]}]}]}}},
        "status": {"phase": "Bound"},
    })
}

/// The store's disk was in n1, whose name is n1's no more, and a person asks to adopt it on n3.
fn world(volume: Option<Value>) -> World {
    let mut world = frozen();
    let node = world.nodes.iter_mut().find(|n| n.name_any() == "n3").unwrap();
    Arc::make_mut(node).labels_mut().insert(HOSTNAME.into(), "host-3".into());
    world.volumes = volume.into_iter().map(|v| Arc::new(serde_json::from_value(v).unwrap())).collect();
    Arc::make_mut(&mut world.claims[0]).metadata.uid = Some("c1".into());
    annotate(&mut world, keys::ADOPT, json!({"pv": "pv1", "uid": "v1", "to": "n3"}).to_string());
    world
}

fn annotate(world: &mut World, key: &str, value: String) {
    Arc::make_mut(&mut world.stores[0]).annotations_mut().insert(key.into(), value);
}

/// The same after the volume was written down.
fn written_down(volume: Option<Value>) -> World {
    let mut world = world(volume);
    let record = serde_json::to_string(&anew()).unwrap();
    annotate(&mut world, keys::ADOPTING, record);
    world
}

fn anew() -> PersistentVolume {
    made_anew(&serde_json::from_value(volume("v1")).unwrap(), "host-3")
}

fn seen(world: &World) -> AdoptionState {
    view(world, &world.stores[0], true).unwrap().state
}

fn going(mut volume: Value) -> Value {
    volume["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:02:00Z");
    volume
}

/// As the API server shows what was made.
fn made_volume() -> Value {
    let mut volume = serde_json::to_value(anew()).unwrap();
    volume["metadata"]["uid"] = json!("v2");
    volume["metadata"]["creationTimestamp"] = json!("2026-01-01T00:03:00Z");
    volume
}

#[test]
fn the_new_volume_is_the_old_one_but_for_its_node_and_what_others_wrote() {
    let new = serde_json::to_value(anew()).unwrap();
    let mut wanted = volume("v1");
    wanted.as_object_mut().unwrap().remove("status");
    wanted["metadata"] = json!({"name": "pv1", "labels": {"mailcluster.io/store": "demo-0"},
        "annotations": {"mine": "stays", keys::ADOPTED_FROM: "v1"}});
    wanted["spec"]["claimRef"].as_object_mut().unwrap().remove("resourceVersion");
    wanted["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"][0]["matchExpressions"][0]["values"] =
        json!(["host-3"]);
    for part in ["metadata", "spec"] {
        assert_eq!(new[part], wanted[part], "{part}");
    }
}

#[test]
fn each_step_follows_from_what_is_there() {
    let due = AdoptionState::Due;
    assert_eq!(seen(&world(Some(volume("v1")))), due(AdoptionStep::Record));
    assert_eq!(seen(&written_down(Some(volume("v1")))), due(AdoptionStep::Delete));
    assert_eq!(seen(&written_down(Some(going(volume("v1"))))), due(AdoptionStep::Release));
    let mut released = going(volume("v1"));
    released["metadata"]["finalizers"] = json!([]);
    assert!(matches!(seen(&written_down(Some(released))), AdoptionState::Await(_)));
    let mut taken = going(volume("v1"));
    taken["spec"]["persistentVolumeReclaimPolicy"] = json!("Delete");
    assert!(matches!(seen(&written_down(Some(taken))), AdoptionState::Await(_)), "not let go with its disk");
    assert_eq!(seen(&written_down(None)), due(AdoptionStep::Create));
    let mut world = written_down(Some(made_volume()));
    let claim = Arc::make_mut(&mut world.claims[0]);
    claim.status.as_mut().unwrap().phase = Some("Lost".into());
    assert!(matches!(seen(&world), AdoptionState::Await(_)));
    let claim = Arc::make_mut(&mut world.claims[0]);
    claim.status.as_mut().unwrap().phase = Some("Bound".into());
    assert_eq!(seen(&world), AdoptionState::Done { refused_pod: None }, "its pod runs somewhere");
}

#[test]
fn a_pod_that_the_scheduler_refused_before_is_made_anew() {
    for (node, created, refused) in [
        (None, "2026-01-01T00:02:00Z", true),
        (None, "2026-01-01T00:04:00Z", false),
        (Some("n3"), "2026-01-01T00:02:00Z", false),
    ] {
        let mut world = written_down(Some(made_volume()));
        let pod = Arc::make_mut(&mut world.pods[0]);
        pod.spec.as_mut().unwrap().node_name = node.map(str::to_owned);
        pod.metadata.creation_timestamp = serde_json::from_value(json!(created)).unwrap();
        let wanted = AdoptionState::Done { refused_pod: refused.then(|| "p1".to_owned()) };
        assert_eq!(seen(&world), wanted, "{node:?} {created}");
    }
}

#[test]
fn what_would_lose_a_disk_or_is_not_asked_for_is_refused() {
    let changed = |pointer: &str, value: Value| {
        let mut volume = volume("v1");
        *volume.pointer_mut(pointer).unwrap() = value;
        world(Some(volume))
    };
    let values = "/spec/nodeAffinity/required/nodeSelectorTerms/0/matchExpressions/0/values";
    let mut other_claim = world(Some(volume("v1")));
    Arc::make_mut(&mut other_claim.claims[0]).spec.as_mut().unwrap().volume_name = Some("pv2".into());
    let mut claim_goes = world(Some(volume("v1")));
    Arc::make_mut(&mut claim_goes.claims[0]).metadata.deletion_timestamp =
        serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
    let mut no_node = world(Some(volume("v1")));
    no_node.nodes.remove(None, "n3");
    let mut odd = world(Some(volume("v1")));
    annotate(&mut odd, keys::ADOPT, "n3".into());
    for (world, word) in [
        (changed("/spec/persistentVolumeReclaimPolicy", json!("Delete")), "not Retain"),
        (changed("/spec/local", Value::Null), "not a local volume"),
        (changed("/spec/claimRef/uid", json!("c2")), "bound to another claim"),
        (changed("/metadata/finalizers", json!(["example.org/keep"])), "example.org/keep"),
        (changed(values, json!(["n1", "host-3"])), "reaches PersistentVolume pv1 already"),
        (world(Some(going(volume("v1")))), "deleted by somebody else"),
        (world(Some(volume("v3"))), "made anew by somebody else"),
        (world(None), "there is no PersistentVolume pv1"),
        (other_claim, "not the one"),
        (claim_goes, "being deleted"),
        (no_node, "there is no node n3"),
        (odd, "cannot be read"),
    ] {
        let AdoptionState::Refused(why) = seen(&world) else { panic!("{word}: {:?}", seen(&world)) };
        assert!(why.contains(word), "{why}");
    }
    let world = world(Some(volume("v1")));
    let AdoptionState::Refused(why) = view(&world, &world.stores[0], false).unwrap().state else { panic!() };
    assert!(why.contains("clusterAccess.adoptVolumes"), "{why}");
    // What was written down for another request says nothing of this one.
    let mut world = written_down(None);
    annotate(&mut world, keys::ADOPT, json!({"pv": "pv1", "uid": "v9", "to": "n3"}).to_string());
    assert!(matches!(seen(&world), AdoptionState::Refused(_)));
}

#[test]
fn the_volume_counts_as_it_will_be_while_it_is_not_there() {
    let mut world = written_down(None);
    let claim = Arc::make_mut(&mut world.claims[0]);
    claim.status.as_mut().unwrap().phase = Some("Lost".into());
    let mut o = observed(&world);
    assert_eq!(o.volume.nodes, ["n3"]);
    assert!(o.volume.bound && o.volume.retain);
    assert_eq!(o.request.as_ref().and_then(|r| r.to.as_deref()), Some("n3"));
    // Nothing is done about it before the holder's end is proven.
    assert!(!matches!(next_step(&o).step, Step::Adopt(_)));
    o.lease.as_mut().unwrap().record.holder = None;
    o.pod = None;
    (o.pin, o.template_pin) = (Some("n3".into()), Some("n3".into()));
    assert_eq!(next_step(&o).step, Step::Adopt(AdoptionStep::Create));
}
