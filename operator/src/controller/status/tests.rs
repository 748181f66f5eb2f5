//! Tables for conditions.

use std::collections::BTreeMap;

use super::*;
use crate::build::tests::cluster;

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
    let cluster = cluster();
    let deployment: Deployment = serde_json::from_value(
        json!({"metadata": {}, "status": {"replicas": 2, "readyReplicas": ready, "updatedReplicas": 2}}),
    )
    .unwrap();
    let ingress: Vec<Value> = address.iter().map(|ip| json!({"ip": ip})).collect();
    let service: Service =
        serde_json::from_value(json!({"metadata": {}, "status": {"loadBalancer": {"ingress": ingress}}}))
            .unwrap();
    let tls = Merged { data: BTreeMap::new(), broken: vec![], self_signed: true, expires: i64::MAX };
    let object = MailCluster::new("demo", cluster.spec.clone());
    let summary = Summary {
        cluster: &cluster,
        stores: stores.iter().collect(),
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
            ("True", "TooFewStores"),
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
