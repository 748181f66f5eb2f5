use k8s_openapi::api::core::v1::Pod;
use mailcluster_api::names::{REPLICAS, StoreNames};
use mailcluster_failover::{Holder, LeaseRecord};
use mailcluster_rpc::control::v1::{DescribeResponse, State};

use super::*;
use crate::failover::{
    lease,
    observe::tests::{NOW, frozen},
    tests::{StandIn, failover, until},
};

const STORES: [&str; 2] = ["demo-0", "demo-1"];

fn id(store: &str, letter: char) -> String {
    let number = store.chars().last().unwrap();
    format!("{letter}{number}").repeat(16)
}

fn cluster(window: Value) -> MailCluster {
    serde_json::from_value(json!({
        "apiVersion": "mailcluster.io/v1alpha1", "kind": "MailCluster",
        "metadata": {"name": "demo", "namespace": "mail", "uid": "c"},
        "spec": {"hostname": "mail.example.org",
            "stores": {"count": 2, "replicas": 3, "storage": {"size": "1Gi"}},
            "failover": {"rebalance": {"window": window}}},
    }))
    .unwrap()
}

/// Two stores with copies a, b and c on n1, n2 and n3, both served from n1, in a window that is always open.
fn world() -> World {
    let mut world = frozen();
    world.clusters = vec![Arc::new(cluster(json!({"start": "00:00", "durationMinutes": 1440})))].into();
    (world.stores, world.leases, world.pods) = Default::default();
    for name in STORES {
        let copies: Vec<_> = REPLICAS.iter().map(|letter| id(name, *letter)).collect();
        let replicas: Vec<_> =
            copies.iter().map(|id| json!({"id": id, "pvc": format!("mail-{id}")})).collect();
        let holder = format!("{name}-a");
        let store: MailStore = serde_json::from_value(json!({
            "apiVersion": "mailcluster.io/v1alpha1", "kind": "MailStore",
            "metadata": {"name": name, "namespace": "mail", "uid": name, "resourceVersion": "7",
                "annotations": {keys::HELD_BY: holder}},
            "spec": {"kind": "Mail", "cluster": "demo", "replicas": replicas},
            "status": {"epoch": 5, "host": "n1", "phase": "Serving",
                "nodeIdentity": {"node": "n1", "bootID": "boot-n1", "systemUUID": "machine-n1"},
                "serving": {"epoch": 5, "replica": copies[0], "podUID": holder, "endpoint": "10.0.0.1:11443",
                    "since": "2026-01-01T00:00:00Z"}},
        }))
        .unwrap();
        let record = LeaseRecord {
            holder: Some(Holder { pod_uid: holder, start_id: "s".into() }),
            epoch: 5,
            replica: Some(copies[0].clone()),
            ..LeaseRecord::initial(copies, 2)
        };
        world.leases.put(Arc::new(lease::build(&store, &record, 8)));
        for (letter, node) in REPLICAS.into_iter().zip(["n1", "n2", "n3"]) {
            let pod: Pod = serde_json::from_value(json!({
                "metadata": {"name": StoreNames::new(name).pod(letter), "namespace": "mail",
                    "uid": format!("{name}-{letter}")},
                "spec": {"nodeName": node, "containers": []}, "status": {"podIP": "10.0.0.1"},
            }))
            .unwrap();
            world.pods.put(Arc::new(pod));
        }
        world.stores.put(Arc::new(store));
    }
    world
}

fn heard() -> Heard {
    let described =
        STORES.iter().flat_map(|store| REPLICAS.map(|letter| (*store, letter))).map(|(store, letter)| {
            let state = if letter == 'a' { State::Primary } else { State::Standby };
            let said = DescribeResponse {
                open: true,
                store: store.into(),
                replica: id(store, letter),
                state: state.into(),
                last_epoch: 5,
                end_epoch: 5,
                end_seq: 9,
                ..DescribeResponse::default()
            };
            (format!("{store}-{letter}"), said)
        });
    let unchanged = STORES.map(|store| (("mail".to_owned(), store.to_owned()), 100));
    Heard {
        unchanged: unchanged.into(),
        described: described.collect(),
        is_told: true,
        now: NOW,
        ..Heard::default()
    }
}

/// The store is made another.
fn change(world: &mut World, name: &str, change: impl FnOnce(&mut MailStore)) {
    let mut store = MailStore::clone(world.stores.get(Some("mail"), name).unwrap());
    change(&mut store);
    world.stores.put(Arc::new(store));
}

fn ask(world: &mut World, name: &str, node: &str) {
    change(world, name, |store| {
        store.annotations_mut().insert(keys::FAILOVER.into(), node.into());
    });
}

fn follows(world: &World, moving: &[&MailStore]) -> String {
    match due(world, &heard(), &world.clusters[0], moving) {
        Ok(None) => "nothing".into(),
        Ok(Some(due)) => due.hand_over.to_string(),
        Err(held) => format!("{held}"),
    }
}

#[test]
#[allow(clippy::too_many_lines, reason = "one table")]
fn it_is_asked_of_a_store_only_in_a_window_and_while_all_rest() {
    type Change = fn(&mut World);
    let first = "demo-0: n1 -> n2";
    let cases: [(&str, Change, &str); 9] = [
        ("all rest", |_| (), first),
        // NOW is a Friday, at 8.
        (
            "the window has closed",
            |w| w.clusters.put(Arc::new(cluster(json!({"start": "07:00", "durationMinutes": 60})))),
            "nothing",
        ),
        (
            "it is open on another day",
            |w| {
                w.clusters
                    .put(Arc::new(cluster(json!({"days": ["Sat"], "start": "08:00", "durationMinutes": 60}))))
            },
            "nothing",
        ),
        (
            "there is no such time zone",
            |w| {
                let window = json!({"start": "08:00", "durationMinutes": 60, "timeZone": "Europe/Nowhere"});
                w.clusters.put(Arc::new(cluster(window)));
            },
            "there is no time zone Europe/Nowhere in this operator's tz database: set failover.rebalance.window.timeZone",
        ),
        (
            "a person has asked for something",
            |w| ask(w, "demo-1", "n3"),
            "demo-1: it does not serve, or something is being done for it",
        ),
        (
            "another does not serve by its status",
            |w| {
                change(w, "demo-1", |s| {
                    s.status.as_mut().unwrap().phase = Some(mailcluster_api::mailstore::Phase::Down)
                })
            },
            "demo-0: another store does not serve, or is on its way",
        ),
        (
            "the first was moved in this window",
            |w| {
                let open =
                    Open { since: Timestamp::UNIX_EPOCH, until: Timestamp::from_second(NOW + 60).unwrap() };
                change(w, "demo-0", |s| {
                    s.annotations_mut().insert(keys::REBALANCED.into(), asked::word("n2", open));
                });
            },
            "demo-1: n1 -> n2",
        ),
        ("it is of another cluster", |w| change(w, "demo-1", |s| s.spec.cluster = "other".into()), "nothing"),
        (
            "the cluster is being deleted",
            |w| {
                let mut going = MailCluster::clone(&w.clusters[0]);
                going.metadata.deletion_timestamp =
                    serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
                w.clusters.put(Arc::new(going));
            },
            "nothing",
        ),
    ];
    for (what, change, expected) in cases {
        let mut world = world();
        change(&mut world);
        assert_eq!(follows(&world, &[]), expected, "{what}");
    }
    let world = world();
    let waits = "demo-0: another store does not serve, or is on its way";
    assert_eq!(follows(&world, &[&world.stores[1]]), waits, "more is under way than is shown");
}

#[test]
fn it_is_asked_for_as_a_person_asks_and_over_what_was_read() {
    let world = world();
    let due = due(&world, &heard(), &world.clusters[0], &[]).unwrap().unwrap();
    let until = "2027-01-16T00:00:00Z";
    let annotations =
        json!({keys::FAILOVER: "n2", keys::REFUSED: null, keys::REBALANCED: format!("n2 {until}")});
    let metadata = json!({"resourceVersion": "7", "annotations": annotations});
    assert_eq!(request(&due), json!({ "metadata": metadata }));
}

/// The hand-over of a store is asked for.
fn asks(store: &str) -> String {
    format!("PATCH /apis/mailcluster.io/v1alpha1/namespaces/mail/mailstores/{store} to spread the stores")
}

const READ: &str = "GET /apis/mailcluster.io/v1alpha1/namespaces/mail/mailstores";

#[tokio::test(start_paused = true)]
async fn one_at_a_time_is_asked_for_after_a_live_look() {
    let cached = Arc::new(world());
    let mut asked_meanwhile = world();
    ask(&mut asked_meanwhile, "demo-1", "n3");
    for (what, live, expected) in
        [("as the watches show", world(), 1), ("a person has asked for something since", asked_meanwhile, 0)]
    {
        let api = StandIn::new(&live, "nothing hangs");
        let mut failover = failover(&api);
        failover.heard = Arc::new(heard());
        failover.rebalance(&cached);
        // A look that comes before the next is due.
        failover.rebalance(&cached);
        until(what, || failover.rebalancing.asking.as_ref().is_some_and(JoinHandle::is_finished)).await;
        assert_eq!(api.asked(READ), 1, "{what}");
        assert_eq!((api.asked(&asks("demo-0")), api.asked(&asks("demo-1"))), (expected, 0), "{what}");
    }
}
