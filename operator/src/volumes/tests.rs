//! Tables for what claims and volumes say.

use serde_json::json;

use super::*;

fn claim(name: &str, id: &str, store: &str, replica: &str) -> PersistentVolumeClaim {
    serde_json::from_value(json!({"metadata": {"name": name, "labels": {
        labels::CLUSTER: "demo", labels::CLUSTER_ID: id, labels::STORE: store, labels::REPLICA: replica}}}))
    .unwrap()
}

fn volume(name: &str, namespace: &str, id: &str, replica: &str) -> PersistentVolume {
    serde_json::from_value(json!({"metadata": {"name": name, "labels": {
        labels::CLUSTER: "demo", labels::CLUSTER_NAMESPACE: namespace, labels::CLUSTER_ID: id,
        labels::STORE: "demo-0", labels::REPLICA: replica}}}))
    .unwrap()
}

#[test]
fn the_cluster_id_is_found_on_what_is_left() {
    let none = cluster_id("mail", "demo", &[], &[]);
    assert_eq!(none, Ok(None));
    let found = cluster_id("mail", "demo", &[], &[volume("pv", "mail", "aa", "r1")]);
    assert_eq!(found, Ok(Some("aa".into())));
    let foreign = cluster_id("mail", "demo", &[], &[volume("pv", "other", "aa", "r1")]);
    assert_eq!(foreign, Ok(None));
    let two =
        cluster_id("mail", "demo", &[claim("c", "bb", "demo-0", "r1")], &[volume("pv", "mail", "aa", "r1")]);
    assert_eq!(two, Err(Invalid::TwoClusters(vec!["aa".into(), "bb".into()])));
}

#[test]
fn the_replica_is_found_on_what_is_left() {
    let (r1, r2) = ("1".repeat(32), "2".repeat(32));
    let claims = [claim("mail-demo-0-11111111", "aa", "demo-0", &r1)];
    let of = |claims: &[_], volumes: &[_]| replicas_of("demo-0", "mail", claims, volumes);
    let known = of(&claims, &[]).remove(0);
    assert_eq!((known.replica.as_str(), known.claim.as_str()), (r1.as_str(), "mail-demo-0-11111111"));
    assert_eq!(replicas_of("demo-1", "mail", &claims, &[]), []);
    let volumes = [volume("pv", "mail", "aa", &r1)];
    let known = of(&[], &volumes).remove(0);
    assert_eq!((known.claim.as_str(), known.volume.as_deref()), ("mail-demo-0-11111111", Some("pv")));
    let two = [volume("pv", "mail", "aa", &r2)];
    assert_eq!(of(&claims, &two).len(), 2);
}

#[test]
fn failover_depends_on_who_reaches_the_volume() {
    let nodes: Vec<Node> = ["n1", "n2", "n3"]
        .iter()
        .map(|n| {
            serde_json::from_value(
                json!({"metadata": {"name": n, "labels": {"kubernetes.io/hostname": n, "z": "1"}}}),
            )
            .unwrap()
        })
        .collect();
    for (name, affinity, expected) in [
        ("no affinity: a network volume", json!(null), FailoverMode::Reattach),
        (
            "one host",
            json!([{"key": "kubernetes.io/hostname", "operator": "In", "values": ["n1"]}]),
            FailoverMode::None,
        ),
        (
            "two hosts",
            json!([{"key": "kubernetes.io/hostname", "operator": "In", "values": ["n1", "n3"]}]),
            FailoverMode::Reattach,
        ),
        (
            "two hosts, one of them gone",
            json!([{"key": "kubernetes.io/hostname", "operator": "In", "values": ["n1", "n9"]}]),
            FailoverMode::None,
        ),
        ("a zone", json!([{"key": "z", "operator": "Exists"}]), FailoverMode::Reattach),
        ("an unknown operator", json!([{"key": "z", "operator": "Like"}]), FailoverMode::None),
    ] {
        let mut pv: PersistentVolume =
            serde_json::from_value(json!({"metadata": {"name": "pv"}, "spec": {}})).unwrap();
        if !affinity.is_null() {
            pv.spec.as_mut().unwrap().node_affinity = serde_json::from_value(
                json!({"required": {"nodeSelectorTerms": [{"matchExpressions": affinity}]}}),
            )
            .unwrap();
        }
        assert_eq!(failover_mode(&pv, &nodes), expected, "{name}");
    }
}

#[test]
fn only_a_released_volume_of_the_same_claim_is_let_in_again() {
    let pv = |phase: &str, name: &str, uid: Option<&str>| -> PersistentVolume {
        serde_json::from_value(json!({"metadata": {"name": "pv"}, "status": {"phase": phase},
            "spec": {"claimRef": {"namespace": "mail", "name": name, "uid": uid}}}))
        .unwrap()
    };
    assert!(waits_for_claim(&pv("Released", "c", Some("u")), "mail", "c"));
    assert!(!waits_for_claim(&pv("Released", "other", Some("u")), "mail", "c"));
    assert!(!waits_for_claim(&pv("Bound", "c", Some("u")), "mail", "c"));
    assert!(!waits_for_claim(&pv("Released", "c", None), "mail", "c"));
}

#[test]
fn a_volume_in_use_is_retained_and_goes_as_it_was() {
    let mut bound = volume("pv", "mail", "aa", "r1");
    let own = bound.labels().clone();
    let policy = |v: &mut PersistentVolume, policy: &str| {
        v.spec.get_or_insert_default().persistent_volume_reclaim_policy = Some(policy.into());
    };
    policy(&mut bound, "Retain");
    assert_eq!(keep_patch(&bound, &own), None);
    assert_eq!(give_up_patch(&bound).get("spec"), None);
    let more = BTreeMap::from([(labels::STORE.to_owned(), "demo-1".to_owned())]);
    assert_eq!(keep_patch(&bound, &more), Some(json!({"metadata": {"labels": more}})));
    policy(&mut bound, "Delete");
    let patch = keep_patch(&bound, &own).unwrap();
    assert_eq!(patch["spec"]["persistentVolumeReclaimPolicy"], "Retain");
    assert_eq!(patch["metadata"], json!({"annotations": {labels::RECLAIM_POLICY: "Delete"}}));
    bound.metadata.annotations = Some([(labels::RECLAIM_POLICY.to_owned(), "Delete".to_owned())].into());
    let patch = give_up_patch(&bound);
    assert_eq!(patch["spec"]["persistentVolumeReclaimPolicy"], "Delete");
    assert_eq!(patch["metadata"]["labels"][labels::STORE], Value::Null);
}
