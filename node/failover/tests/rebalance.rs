//! Which hand-over the operator begins by itself, and what it waits for: a table.

#![allow(clippy::unwrap_used, reason = "tests")]

mod world;

use mailcluster_failover::{
    rebalance::{Standing, next},
    *,
};
use world::healthy;

/// A store with a copy on each node, called like it, which `host` serves.
fn store(host: &str) -> Observation {
    let mut o = healthy();
    (o.cluster.lost_nodes, o.cluster.others_are_well) = (0, true);
    o.placement.as_mut().unwrap().node = host.into();
    let nodes = ["n1", "n2", "n3"];
    let record = &mut o.lease.as_mut().unwrap().record;
    record.in_sync = nodes.map(str::to_owned).into();
    record.replica = Some(host.into());
    let holder = PodView { node: Some(host.into()), ..o.pod.clone().unwrap() };
    let mirror = |node: &str| PodView {
        uid: format!("pod-{node}"),
        node: Some(node.into()),
        state: PodState::Standby,
        ..holder.clone()
    };
    let copy = |node: &str| ReplicaView {
        id: node.into(),
        pod: Some(if node == host { holder.clone() } else { mirror(node) }),
        volume: Some(VolumeAccount { end: Position { epoch: 5, seq: 120 }, ..VolumeAccount::default() }),
        in_sync: nodes.map(str::to_owned).into(),
        outdated: false,
        replaced: false,
        was_open: true,
        away_ms: 0,
    };
    o.replicas = nodes.map(copy).into();
    o.pod = Some(holder);
    o
}

/// Stores a, b, ... and whether each stays; what follows in words.
fn follows(stores: &[(Observation, bool)]) -> String {
    let names = ["a", "b", "c"];
    let standing: Vec<_> = stores
        .iter()
        .zip(names)
        .map(|((seen, stays), name)| Standing { name, seen, stays: *stays })
        .collect();
    match next(&standing) {
        Ok(None) => "nothing".into(),
        Ok(Some(hand_over)) => hand_over.to_string(),
        Err(waits) => format!("waits for {waits}"),
    }
}

#[test]
fn the_first_that_would_be_planned_goes_where_it_may() {
    let on = |hosts: [&str; 2], stay: [bool; 2]| [(store(hosts[0]), stay[0]), (store(hosts[1]), stay[1])];
    let both = || on(["n1", "n1"], [false; 2]);
    let with = |change: &dyn Fn(&mut Observation)| {
        both().map(|(mut o, stays)| {
            change(&mut o);
            (o, stays)
        })
    };
    let drain = Request { to: None, drain: true };
    for (what, stores, expected) in [
        ("both on one node", both(), "a: n1 -> n2"),
        ("spread already", on(["n1", "n2"], [false; 2]), "nothing"),
        ("the first was moved in this window", on(["n1", "n1"], [true, false]), "b: n1 -> n2"),
        ("both were", on(["n1", "n1"], [true; 2]), "nothing"),
        ("a node is cordoned", with(&|o| o.nodes[1].unschedulable = true), "a: n1 -> n3"),
        ("a node is not Ready", with(&|o| o.nodes[1].ready = false), "a: n1 -> n3"),
        ("a node is out of service", with(&|o| o.nodes[1].out_of_service = true), "a: n1 -> n3"),
        (
            "all others are cordoned",
            with(&|o| o.nodes[1..].iter_mut().for_each(|node| node.unschedulable = true)),
            "nothing",
        ),
        ("nothing is known of nodes", with(&|o| o.nodes.clear()), "nothing"),
        ("their own node is to be emptied", with(&|o| o.request = Some(drain.clone())), "a: n1 -> n2"),
        (
            "a copy there does not stand by",
            with(&|o| o.replicas[1].pod.as_mut().unwrap().state = PodState::Silent),
            "a: n1 -> n3",
        ),
        ("single copies stay", with(&|o| o.replicas.clear()), "nothing"),
    ] {
        assert_eq!(follows(&stores), expected, "{what}");
    }
}

#[test]
fn it_waits_until_every_store_of_the_cluster_rests() {
    type Change = fn(&mut Observation);
    let cases: [(&str, Change); 14] = [
        ("the MailCluster is paused", |o| o.store.paused = true),
        ("moves are suspended", |o| o.store.suspended = true),
        ("a person moves stores", |o| o.store.policy = Policy::Manual),
        ("others move", |o| o.cluster.moving = 2),
        ("one is away", |o| o.cluster.others_are_well = false),
        ("it is not heard", |o| o.lease.as_mut().unwrap().unchanged_for = Some(8_000)),
        ("it was not watched long enough", |o| o.lease.as_mut().unwrap().unchanged_for = None),
        ("its route is not published", |o| o.serving = Some((4, "pod-0".into()))),
        ("a copy lacks something", |o| o.lease.as_mut().unwrap().record.in_sync.retain(|id| id != "n3")),
        ("a copy does not answer", |o| o.replicas[2].volume = None),
        ("a person has asked for a move", |o| {
            o.request = Some(Request { to: Some("n1".into()), drain: false });
        }),
        ("a person wants a copy replaced", |o| o.replace = Some("n3".into())),
        ("its pods are to be made anew", |o| o.replicas[2].outdated = true),
        ("nobody has told yet", |o| o.is_told = false),
    ];
    for (what, change) in cases {
        let mut stores = [(store("n1"), false), (store("n1"), false)];
        change(&mut stores[1].0);
        let waits = follows(&stores);
        assert!(waits.starts_with("waits for b: "), "{what}: {waits}");
        // There is nothing to wait for when there is nothing to do.
        stores[0] = (store("n2"), false);
        assert_eq!(follows(&stores), "nothing", "{what}");
    }
}
