//! Tables for stores and claims.

use mailcluster_api::labels;
use serde_json::json;

use super::*;
use crate::build::tests::cluster;

fn store(name: &str, kind: &str, replica: &str, status: serde_json::Value) -> MailStore {
    serde_json::from_value(json!({
        "apiVersion": "mailcluster.io/v1alpha1", "kind": "MailStore", "metadata": {"name": name},
        "spec": {"kind": kind, "cluster": "demo",
                 "replicas": [{"id": replica, "pvc": format!("mail-{name}-{}", &replica[..8])}]},
        "status": status}))
    .unwrap()
}

fn draw() -> impl FnMut() -> Result<String, Invalid> {
    let mut next = 0;
    move || {
        next += 1;
        Ok(format!("{next:032x}"))
    }
}

fn observed(stores: Vec<MailStore>) -> Observed {
    Observed { stores: stores.into_iter().map(|s| (s.name_any(), s)).collect(), ..Observed::default() }
}

#[test]
fn a_new_cluster_draws_ids() {
    let plan = stores(&cluster(), &Observed::default(), draw()).unwrap();
    let names: Vec<_> = plan.iter().map(|p| (p.store.name.as_str(), p.store.claim.as_str())).collect();
    assert_eq!(
        names,
        [
            ("demo-directory", "mail-demo-directory-00000000"),
            ("demo-0", "mail-demo-0-00000000"),
            ("demo-1", "mail-demo-1-00000000")
        ]
    );
    assert!(plan.iter().all(|p| p.claim == ClaimStep::Create { volume: None }));
    assert_eq!(plan[0].store.kind, StoreKind::Directory);
}

#[test]
fn a_mirrored_cluster_draws_an_id_for_each_copy_and_takes_up_those_that_are_there() {
    let mut mirrored = cluster();
    mirrored.spec.stores.replicas = Some(3);
    let plan = stores(&mirrored, &Observed::default(), draw()).unwrap();
    assert_eq!(plan.len(), 9, "the directory, too");
    let of = |name: &str| plan.iter().filter(|p| p.store.name == name).map(|p| &p.store).collect::<Vec<_>>();
    let copies = of("demo-0");
    assert_eq!(copies.iter().map(|s| s.letter).collect::<String>(), "abc");
    assert!(copies.iter().all(|copy| copy.is_mirrored()));
    assert_eq!(copies[2].stateful_set(), "demo-0-c");
    let known = |id: &str| {
        let labels = json!({labels::CLUSTER: "demo", labels::CLUSTER_NAMESPACE: "mail", labels::STORE: "demo-0",
            labels::REPLICA: id.repeat(32)});
        serde_json::from_value(json!({"metadata": {"name": format!("pv-{id}"), "labels": labels}})).unwrap()
    };
    let seen =
        |ids: &[&str]| Observed { volumes: ids.iter().copied().map(known).collect(), ..Observed::default() };
    let plan = stores(&mirrored, &seen(&["d", "e"]), draw()).unwrap();
    let ids: Vec<_> =
        plan.iter().filter(|p| p.store.name == "demo-0").map(|p| &p.store.replica[..1]).collect();
    assert_eq!(ids, ["d", "e", "0"], "the third is new");
    let many: Result<_, Invalid> = stores(&mirrored, &seen(&["b", "c", "d", "e"]), draw());
    assert!(matches!(many, Err(Invalid::TooManyReplicas { .. })));
}

#[test]
fn stores_keep_their_copies_and_never_go() {
    let r = "a".repeat(32);
    let live = observed(vec![store("demo-0", "Mail", &r, json!({})), store("demo-4", "Mail", &r, json!({}))]);
    let plan = stores(&cluster(), &live, draw()).unwrap();
    assert_eq!(plan.len(), 6);
    assert_eq!(plan[1].store.replica, r);
    assert_eq!(plan[5].store.name, "demo-4");
}

#[test]
fn a_volume_that_was_there_is_never_replaced_by_an_empty_one() {
    let r = "a".repeat(32);
    let serving = json!({"serving": {"epoch": 1, "replica": r, "podUID": "u", "endpoint": "10.0.0.1:11443",
        "since": "2026-01-01T00:00:00Z"}});
    let labelled = json!({"metadata": {"name": "pv-1", "labels": {
        labels::CLUSTER: "demo", labels::CLUSTER_NAMESPACE: "mail", labels::STORE: "demo-0", labels::REPLICA: r}}});
    let pv: PersistentVolume = serde_json::from_value(labelled).unwrap();
    let mut going = pv.clone();
    going.metadata.deletion_timestamp = Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
    let claim: PersistentVolumeClaim =
        serde_json::from_value(json!({"metadata": {"name": "mail-demo-0-aaaaaaaa"}})).unwrap();
    for (name, status, claims, volumes, expected) in [
        ("never made", json!({}), vec![], vec![], ClaimStep::Create { volume: None }),
        ("there", json!({}), vec![claim.clone()], vec![], ClaimStep::Keep),
        ("made and gone", json!({"claimed": ["mail-demo-0-aaaaaaaa"]}), vec![], vec![], ClaimStep::Missing),
        ("served and gone", serving.clone(), vec![], vec![], ClaimStep::Missing),
        (
            "the claim is gone, the volume is not",
            serving.clone(),
            vec![],
            vec![pv],
            ClaimStep::Create { volume: Some("pv-1".into()) },
        ),
        ("the claim is gone, the volume goes", serving, vec![], vec![going], ClaimStep::Missing),
    ] {
        let mut seen = observed(vec![store("demo-0", "Mail", &r, status)]);
        seen.claims = claims.into_iter().map(|c| (c.name_any(), c)).collect();
        seen.volumes = volumes;
        let plan = stores(&cluster(), &seen, draw()).unwrap();
        assert_eq!(plan[1].claim, expected, "{name}");
    }
}

#[test]
fn old_volumes_bring_a_lost_cluster_back() {
    let r = "b".repeat(32);
    let pv: PersistentVolume = serde_json::from_value(json!({
        "metadata": {"name": "pv-1", "labels": {labels::CLUSTER: "demo", labels::CLUSTER_NAMESPACE: "mail",
            labels::STORE: "demo-1", labels::REPLICA: r}},
        "spec": {"claimRef": {"namespace": "mail", "name": "mail-demo-1-bbbbbbbb", "uid": "old"}},
        "status": {"phase": "Released"}}))
    .unwrap();
    let seen = Observed { volumes: vec![pv], ..Observed::default() };
    let plan = stores(&cluster(), &seen, draw()).unwrap();
    assert_eq!(plan[2].store.replica, r);
    assert_eq!(plan[2].claim, ClaimStep::Create { volume: Some("pv-1".into()) });
    assert_eq!(to_release(&plan, &cluster(), &seen.volumes).len(), 1);
}

#[test]
fn no_pod_comes_before_a_claim_has_the_volume_it_names() {
    let r = "b".repeat(32);
    let claim = |volume: Option<&str>, phase: &str| -> PersistentVolumeClaim {
        serde_json::from_value(json!({
            "metadata": {"name": "mail-demo-0-bbbbbbbb", "labels": {labels::STORE: "demo-0", labels::REPLICA: r}},
            "spec": {"volumeName": volume}, "status": {"phase": phase}}))
        .unwrap()
    };
    for (claim, waits) in [
        (claim(Some("pv-0"), "Pending"), true),
        (claim(Some("pv-0"), "Bound"), false),
        // A class that waits for the first consumer binds only when there is a pod.
        (claim(None, "Pending"), false),
    ] {
        let mut seen = observed(vec![store("demo-0", "Mail", &r, json!({}))]);
        seen.claims = [(claim.name_any(), claim)].into();
        let plan = stores(&cluster(), &seen, draw()).unwrap();
        assert_eq!(plan[1].waits_for_its_volume(&seen), waits, "{:?}", seen.claims);
    }
}

#[test]
fn a_copy_in_anothers_place_gets_a_claim_and_the_old_one_is_kept_and_marked() {
    let ids = ["a", "b", "c"].map(|letter| letter.repeat(32));
    let claim = |id: &str| format!("mail-demo-0-{}", &id[..8]);
    let object = |named: [&String; 2], opened: &[&String]| -> MailStore {
        let replicas = named.map(|id| json!({"id": id, "pvc": claim(id)}));
        let mirrors: Vec<_> = opened.iter().map(|id| json!({"id": id, "endpoint": "10.0.0.1:1"})).collect();
        serde_json::from_value(json!({
            "apiVersion": "mailcluster.io/v1alpha1", "kind": "MailStore", "metadata": {"name": "demo-0"},
            "spec": {"kind": "Mail", "cluster": "demo", "replicas": replicas},
            "status": {"claimed": [claim(&ids[0]), claim(&ids[1])], "mirrors": mirrors,
                "serving": {"epoch": 2, "replica": ids[0], "podUID": "p", "endpoint": "10.0.0.1:1",
                    "since": "2026-01-01T00:00:00Z"}}}))
        .unwrap()
    };
    let live = |id: &String| -> PersistentVolumeClaim {
        let labels = json!({labels::STORE: "demo-0", labels::REPLICA: id});
        serde_json::from_value(json!({"metadata": {"name": claim(id), "labels": labels}})).unwrap()
    };
    let mut mirrored = cluster();
    mirrored.spec.stores.replicas = Some(2);
    let seen = |named, opened: &[&String]| {
        let mut seen = observed(vec![object(named, opened)]);
        seen.claims = [&ids[0], &ids[1]].map(|id| (claim(id), live(id))).into();
        seen
    };
    let plan = |seen: &Observed| stores(&mirrored, seen, draw()).unwrap();
    let step = |seen: &Observed| plan(seen).into_iter().rfind(|p| p.store.name == "demo-0").unwrap().claim;
    let retired =
        |seen: &Observed| to_retire(&plan(seen), seen).iter().map(|c| c.name_any()).collect::<Vec<_>>();
    let before = seen([&ids[0], &ids[1]], &[&ids[0], &ids[1]]);
    assert_eq!((step(&before), retired(&before)), (ClaimStep::Keep, vec![]));
    let after = seen([&ids[0], &ids[2]], &[&ids[0], &ids[1]]);
    assert_eq!((step(&after), retired(&after)), (ClaimStep::Create { volume: None }, vec![claim(&ids[1])]));
    let opened = seen([&ids[0], &ids[2]], &[&ids[0], &ids[2]]);
    assert_eq!(step(&opened), ClaimStep::Missing, "it was there: nothing is made in its place");
    let mut marked = after;
    let labels = marked.claims.get_mut(&claim(&ids[1])).unwrap().labels_mut();
    labels.insert(labels::RETIRED.into(), "true".into());
    assert_eq!(retired(&marked), Vec::<String>::new());
    marked.stores.clear();
    let again = plan(&marked);
    assert!(again.iter().all(|p| p.store.replica != ids[1]), "it is no copy of a store made anew: {again:?}");
}
