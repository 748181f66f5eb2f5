//! `rebalance`: hands stores with mirrors over, so that each node serves about as many as the others again.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use k8s_openapi::api::{coordination::v1::Lease, core::v1::Pod};
use kube::{Api, ResourceExt, api::ListParams};
use mailcluster_api::{
    MailStore, labels,
    mailstore::Phase,
    names::{REPLICAS, StoreNames},
};
use serde_json::json;

use super::failover;
use crate::{
    args::{self, Global},
    connect::Cluster,
    copies,
    failure::Failure,
    output::{self, Format},
};

/// Seconds that a hand-over may take.
const WAIT: u32 = 120;
/// One that is refused is asked for again for so long.
const REFUSED: Duration = Duration::from_secs(20);
const AGAIN: Duration = Duration::from_secs(1);

/// A store, the node that serves it, and those whose copies have everything.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Placed {
    store: String,
    host: String,
    copies: BTreeSet<String>,
}

/// A hand-over.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Move {
    store: String,
    from: String,
    to: String,
}

/// `rebalance [--dry-run]`
pub async fn run(dry_run: bool, global: &Global) -> Result<(), Failure> {
    failover::in_cluster(global)?;
    let cluster = Cluster::find(global).await?;
    let moves = plan(placed(&cluster).await?);
    if dry_run || moves.is_empty() {
        tell(&moves, global.output);
        return Ok(());
    }
    for each in &moves {
        if let Format::Text = global.output {
            output::line(&line(each));
        }
        hand_over(&cluster, each).await?;
    }
    if let Format::Json = global.output {
        tell(&moves, global.output);
    }
    Ok(())
}

/// A copy that has just become one that could serve is refused until the operator has heard so.
async fn hand_over(cluster: &Cluster, each: &Move) -> Result<(), Failure> {
    let asked = args::Failover {
        store: each.store.clone(),
        to: Some(each.to.clone()),
        force: false,
        accept_loss: false,
        yes: false,
        wait: WAIT,
    };
    let deadline = Instant::now() + REFUSED;
    let stores: Api<MailStore> = cluster.api();
    loop {
        let outcome = failover::moved(cluster, &asked).await;
        let Err(Failure::Failed(_)) = &outcome else { return outcome.map(drop) };
        let now = stores.get(&each.store).await?;
        if now.status.and_then(|status| status.host).as_deref() == Some(each.to.as_str()) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return outcome.map(drop);
        }
        tokio::time::sleep(AGAIN).await;
    }
}

fn line(each: &Move) -> String {
    format!("{}: {} -> {}", each.store, each.from, each.to)
}

fn tell(moves: &[Move], format: Format) {
    match format {
        Format::Json => {
            let all = moves.iter().map(|m| json!({"store": m.store, "from": m.from, "to": m.to}));
            output::json(&json!({"moves": all.collect::<Vec<_>>()}));
        }
        Format::Text if moves.is_empty() => output::line("nothing to move"),
        Format::Text => moves.iter().for_each(|each| output::line(&line(each))),
    }
}

/// The stores with mirrors that are served, each with where it could be.
async fn placed(cluster: &Cluster) -> Result<Vec<Placed>, Failure> {
    let stores: Api<MailStore> = cluster.api();
    let mut stores = stores.list(&ListParams::default()).await?.items;
    stores.retain(|s| s.spec.cluster == cluster.name() && s.spec.is_mirrored());
    let of_cluster = ListParams::default().labels(&format!("{}={}", labels::CLUSTER, cluster.name()));
    let leases: Api<Lease> = cluster.api();
    let leases = leases.list(&of_cluster).await?.items;
    let pods: Api<Pod> = cluster.api();
    let ours = ListParams::default().labels(&format!("{}={}", labels::INSTANCE, cluster.name()));
    let pods = pods.list(&ours).await?.items;
    Ok(stores.iter().filter_map(|store| seen(store, &leases, &pods)).collect())
}

fn seen(store: &MailStore, leases: &[Lease], pods: &[Pod]) -> Option<Placed> {
    let status = store.status.as_ref().filter(|s| s.phase == Some(Phase::Serving))?;
    let name = store.name_any();
    let lease = leases.iter().find(|lease| lease.name_any() == name);
    let names = StoreNames::new(name.clone());
    let copies = store.spec.replicas.iter().zip(REPLICAS).filter_map(|(replica, letter)| {
        let pod = pods.iter().find(|pod| pod.name_any() == names.pod(letter))?;
        let is_ready = pod
            .status
            .as_ref()?
            .conditions
            .iter()
            .flatten()
            .any(|c| c.type_ == "Ready" && c.status == "True");
        (is_ready && copies::has_everything(lease, &replica.id))
            .then(|| pod.spec.as_ref()?.node_name.clone())?
    });
    Some(Placed { store: name, host: status.host.clone()?, copies: copies.collect() })
}

/// The fewest hand-overs after which no store could go to a node that serves at least two fewer.
fn plan(mut stores: Vec<Placed>) -> Vec<Move> {
    stores.sort_by(|a, b| a.store.cmp(&b.store));
    let mut moves = Vec::new();
    loop {
        let mut load: BTreeMap<&str, usize> = BTreeMap::new();
        for store in &stores {
            store.copies.iter().for_each(|node| *load.entry(node).or_default() += 0);
            *load.entry(&store.host).or_default() += 1;
        }
        let of = |node: &String| load.get(node.as_str()).copied().unwrap_or(0);
        let choices = stores.iter().enumerate().flat_map(|(at, store)| {
            let gain = move |to: &String| (of(&store.host).saturating_sub(of(to)), Reverse((at, to.clone())));
            store.copies.iter().map(gain)
        });
        // The first of the best: the same stores give the same plan.
        let Some((_, Reverse((at, to)))) = choices.max().filter(|(gain, _)| *gain >= 2) else { return moves };
        let from = std::mem::replace(&mut stores[at].host, to.clone());
        moves.push(Move { store: stores[at].store.clone(), from, to });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stores(all: &[(&str, &str, &str)]) -> Vec<Placed> {
        let placed = |(store, host, copies): &(&str, &str, &str)| Placed {
            store: (*store).into(),
            host: (*host).into(),
            copies: copies.split_whitespace().map(str::to_owned).collect(),
        };
        all.iter().map(placed).collect()
    }

    fn planned(all: &[(&str, &str, &str)]) -> Vec<String> {
        plan(stores(all)).iter().map(line).collect()
    }

    #[test]
    fn stores_go_to_nodes_that_serve_fewer() {
        let all = "n1 n2 n3";
        for (what, stores, expected) in [
            ("nothing", vec![], vec![]),
            ("even", vec![("a", "n1", all), ("b", "n2", all), ("c", "n3", all)], vec![]),
            (
                "one more is even, too",
                vec![("a", "n1", all), ("b", "n1", all), ("c", "n2", all)],
                vec!["a: n1 -> n3"],
            ),
            (
                "a node that came back serves nothing",
                vec![("a", "n1", all), ("b", "n1", all), ("c", "n2", all), ("d", "n2", all)],
                vec!["a: n1 -> n3"],
            ),
            (
                "all on one",
                vec![("a", "n1", all), ("b", "n1", all), ("c", "n1", all)],
                vec!["a: n1 -> n2", "b: n1 -> n3"],
            ),
            (
                "only where a copy has everything",
                vec![("a", "n1", "n1"), ("b", "n1", "n1 n2")],
                vec!["b: n1 -> n2"],
            ),
            ("nowhere to go", vec![("a", "n1", "n1"), ("b", "n1", "n1")], vec![]),
        ] {
            assert_eq!(planned(&stores), expected, "{what}");
        }
    }

    #[test]
    fn it_comes_to_an_end_and_leaves_no_two_apart() {
        let nodes = ["n1", "n2", "n3", "n4", "n5"];
        let mut dice: u64 = 7;
        let mut below = |limit: usize| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(dice >> 33).unwrap() % limit
        };
        for _ in 0..200 {
            let names: Vec<String> = (0..below(30)).map(|n| format!("s{n:02}")).collect();
            let mut all = Vec::new();
            for name in &names {
                let first = below(5);
                let copies: BTreeSet<String> = (0..3).map(|n| nodes[(first + n) % 5].to_owned()).collect();
                all.push(Placed { store: name.clone(), host: nodes[first].into(), copies });
            }
            let mut after = all.clone();
            for each in plan(all) {
                let store = after.iter_mut().find(|s| s.store == each.store).unwrap();
                assert_eq!(store.host, each.from);
                assert!(store.copies.contains(&each.to), "{each:?}");
                store.host = each.to;
            }
            assert_eq!(plan(after), []);
        }
    }
}
