//! Tables for conditions.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::{
    build::tests::cluster,
    controller::{
        observe::Observed,
        plan::{ClaimStep, Planned},
    },
};

fn store(n: usize, status: Value) -> MailStore {
    let (name, kind) =
        if n == 0 { ("demo-directory".to_owned(), "Directory") } else { (format!("demo-{}", n - 1), "Mail") };
    serde_json::from_value(json!({
        "apiVersion": "mailcluster.io/v1alpha1", "kind": "MailStore", "metadata": {"name": name},
        "spec": {"kind": kind, "cluster": "demo", "replicas": [{"id": "0".repeat(32), "pvc": "c"}]},
        "status": status}))
    .unwrap()
}

fn status_of(stores: &[MailStore], ready: i32, address: Option<&str>) -> MailClusterStatus {
    status_with(stores, ready, address, 1)
}

/// `updated`: how many of the one pod of demo-0 are as they should be.
fn status_with(stores: &[MailStore], ready: i32, address: Option<&str>, updated: i32) -> MailClusterStatus {
    let cluster = cluster();
    let deployment: Deployment = serde_json::from_value(
        json!({"metadata": {}, "status": {"replicas": 2, "readyReplicas": ready, "updatedReplicas": 2}}),
    )
    .unwrap();
    let ingress: Vec<Value> = address.iter().map(|ip| json!({"ip": ip})).collect();
    let service: Service =
        serde_json::from_value(json!({"metadata": {}, "status": {"loadBalancer": {"ingress": ingress}}}))
            .unwrap();
    let set: StatefulSet = serde_json::from_value(json!({
        "metadata": {"name": "demo-0-a", "generation": 2, "labels": {labels::STORE: "demo-0"}},
        "status": {"observedGeneration": 2, "replicas": 1, "updatedReplicas": updated}}))
    .unwrap();
    let claim = serde_json::from_value(json!({"metadata": {"name": "c"},
        "spec": {"storageClassName": "typo", "resources": {"requests": {"storage": "1Gi"}}}}))
    .unwrap();
    let tls = Merged { data: BTreeMap::new(), broken: vec![], self_signed: true, expires: i64::MAX };
    let object = MailCluster::new("demo", cluster.spec.clone());
    let summary = Summary {
        cluster: &cluster,
        stores: stores.iter().collect(),
        claims: &BTreeMap::from([("c".to_owned(), claim)]),
        sets: &[set],
        deployment: Some(&deployment),
        service: Some(&service),
        tls: &tls,
        now: Timestamp::UNIX_EPOCH,
    };
    of_cluster(&summary, &object)
}

fn told(status: &MailClusterStatus, type_: &str) -> (String, String, String) {
    let c = status.conditions.iter().find(|c| c.type_ == type_).unwrap();
    (c.status.clone(), c.reason.clone(), c.message.clone())
}

#[test]
#[allow(clippy::too_many_lines, reason = "one table")]
fn conditions_say_what_is_the_matter() {
    let serving = json!({"phase": "Serving", "failover": "reattach"});
    let whole = [store(0, serving.clone()), store(1, serving.clone()), store(2, serving.clone())];
    let with = |n: usize, status: Value| {
        let mut stores = whole.clone();
        stores[n] = store(n, status);
        stores
    };
    let at = Some("192.0.2.1");
    for (name, stores, frontends, address, type_, expected) in [
        ("all well", whole.to_vec(), 2, at, condition::READY, ("True", "Serving")),
        ("not degraded", whole.to_vec(), 2, at, condition::DEGRADED, ("False", "Whole")),
        (
            "new stores",
            with(1, json!({})).to_vec(),
            2,
            at,
            condition::PROGRESSING,
            ("True", "StoresStarting"),
        ),
        (
            "new stores are not ready",
            with(1, json!({})).to_vec(),
            2,
            at,
            condition::READY,
            ("False", "StoresNotServing"),
        ),
        (
            "new stores are no damage",
            with(1, json!({})).to_vec(),
            2,
            at,
            condition::DEGRADED,
            ("False", "Whole"),
        ),
        (
            "one lost",
            with(1, json!({"phase": "Fencing"})).to_vec(),
            2,
            at,
            condition::DEGRADED,
            ("True", "StoresNotServing"),
        ),
        (
            "one moving",
            with(1, json!({"phase": "Reattaching"})).to_vec(),
            2,
            at,
            condition::FAILING_OVER,
            ("True", "StoresMoving"),
        ),
        (
            "blocked",
            with(1, json!({"phase": "Blocked"})).to_vec(),
            2,
            at,
            condition::FAILOVER_BLOCKED,
            ("True", "StoresBlocked"),
        ),
        ("one frontend", whole.to_vec(), 1, at, condition::DEGRADED, ("True", "FrontendsMissing")),
        ("no frontend", whole.to_vec(), 0, at, condition::READY, ("False", "NoFrontend")),
        ("no address", whole.to_vec(), 2, None, condition::ADDRESS_PENDING, ("True", "NoLoadBalancer")),
        ("hand-off", whole.to_vec(), 2, at, condition::NO_HAND_OFF_TARGET, ("False", "Enough")),
        (
            "no hand-off",
            with(1, json!({"phase": "Down"})).to_vec(),
            2,
            at,
            condition::NO_HAND_OFF_TARGET,
            ("True", "OthersNotServing"),
        ),
        (
            "own disk",
            with(2, json!({"phase": "Serving", "failover": "none"})).to_vec(),
            2,
            at,
            condition::SINGLE_NODE_VOLUME,
            ("True", "OneNode"),
        ),
        ("self-signed", whole.to_vec(), 2, at, condition::TLS_READY, ("False", "SelfSigned")),
    ] {
        let (status, reason, message) = told(&status_of(&stores, frontends, address), type_);
        assert_eq!((status.as_str(), reason.as_str()), expected, "{name}: {message}");
    }
}

#[test]
fn a_new_store_says_what_volume_it_waits_for() {
    let status = status_of(&[store(0, json!({})), store(1, json!({}))], 2, None);
    let (_, reason, message) = told(&status, condition::PROGRESSING);
    assert_eq!(reason, "StoresStarting");
    assert!(message.contains("class typo, 1Gi"), "{message}");
    // With a single mail store there is nobody to hand mail to, whoever serves.
    assert_eq!(told(&status, condition::NO_HAND_OFF_TARGET).1, "TooFewStores");
}

#[test]
fn stores_of_an_older_configuration_are_told() {
    let serving = json!({"phase": "Serving"});
    let stores = [store(0, serving.clone()), store(1, serving.clone()), store(2, serving)];
    for (updated, expected) in [(1, ("False", "Done")), (0, ("True", "StoresOutdated"))] {
        let status = status_with(&stores, 2, Some("192.0.2.1"), updated);
        let (status, reason, message) = told(&status, condition::PROGRESSING);
        assert_eq!((status.as_str(), reason.as_str()), expected, "{message}");
        assert_eq!(message.contains("demo-0"), updated == 0, "{message}");
    }
}

#[test]
fn counts_and_addresses_are_told() {
    let serving = json!({"phase": "Serving"});
    let status =
        status_of(&[store(0, serving.clone()), store(1, serving), store(2, json!({}))], 2, Some("192.0.2.1"));
    assert_eq!(status.stores, Some(StoreCounts { desired: 2, serving: 1 }));
    assert_eq!(status.directory, Some(StoreCounts { desired: 1, serving: 1 }));
    assert_eq!(status.addresses, ["192.0.2.1"]);
    let selector = status.frontends.unwrap().selector;
    assert_eq!(
        selector,
        "app.kubernetes.io/component=frontend,app.kubernetes.io/instance=demo,app.kubernetes.io/name=mailcluster"
    );
}

#[test]
fn a_volume_that_is_gone_or_going_is_told() {
    use crate::cluster::Store;
    let planned = |claim: ClaimStep| Planned {
        store: Store::new("demo-0", StoreKind::Mail, vec![("r".into(), "c".into())]).remove(0),
        claim,
    };
    let claim = |deleted: Option<&str>, phase: &str| {
        json!({"metadata": {"name": "c", "deletionTimestamp": deleted}, "spec": {"volumeName": "pv"},
            "status": {"phase": phase}})
    };
    let volume = |deleted: Option<&str>| json!({"metadata": {"name": "pv", "deletionTimestamp": deleted}});
    let (now, bound) = (Some("2026-01-01T00:00:00Z"), "Bound");
    for (name, step, claim, volume, known, expected) in [
        ("there", ClaimStep::Keep, claim(None, bound), Some(volume(None)), true, ("False", "ClaimThere")),
        ("no claim", ClaimStep::Missing, json!(null), None, true, ("True", "ClaimGone")),
        (
            "the claim goes",
            ClaimStep::Keep,
            claim(now, bound),
            Some(volume(None)),
            true,
            ("True", "ClaimTerminating"),
        ),
        (
            "the volume goes",
            ClaimStep::Keep,
            claim(None, bound),
            Some(volume(now)),
            true,
            ("True", "VolumeTerminating"),
        ),
        ("the volume is gone", ClaimStep::Keep, claim(None, bound), None, true, ("True", "VolumeGone")),
        (
            "volumes may not be read",
            ClaimStep::Keep,
            claim(None, bound),
            None,
            false,
            ("False", "ClaimThere"),
        ),
        ("a lost claim", ClaimStep::Keep, claim(None, "Lost"), None, false, ("True", "VolumeGone")),
    ] {
        let mut seen = Observed { volumes_known: known, ..Observed::default() };
        if !claim.is_null() {
            seen.claims.insert("c".into(), serde_json::from_value(claim).unwrap());
        }
        seen.volumes.extend(volume.map(|v| serde_json::from_value(v).unwrap()));
        let store = store(1, json!({}));
        let status = of_store(&[planned(step)], &store, &seen, Timestamp::UNIX_EPOCH);
        let found = &status["conditions"][0];
        let told = (found["status"].as_str().unwrap(), found["reason"].as_str().unwrap());
        assert_eq!(told, expected, "{name}");
        // It is news once.
        assert_eq!(volume_news(&store, &status).is_some(), expected.0 == "True", "{name}");
        let again = self::store(1, status.clone());
        assert_eq!(volume_news(&again, &status), None, "{name}");
    }
}
