//! Which stores with mirrors are handed over so that each node serves about as many: asked for by a person
//! (`kubectl mailcluster rebalance`), or by the operator itself in a window.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use crate::{
    Decision, NodeView, Observation, Phase, ReplicaView, Step, gate,
    mirrored::{has_everything, stands_by},
    next_step,
    place::asked,
};

/// A store, the node that serves it, and those whose copies could: they have everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The store's name.
    pub store: String,
    /// The node that serves it.
    pub host: String,
    /// The nodes that could.
    pub copies: BTreeSet<String>,
}

/// A hand-over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// The store's name.
    pub store: String,
    /// The node that serves it.
    pub from: String,
    /// The node that is to serve it.
    pub to: String,
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} -> {}", self.store, self.from, self.to)
    }
}

/// The fewest hand-overs after which no store could go to a node that serves at least two fewer.
#[must_use]
pub fn plan(mut stores: Vec<Placed>) -> Vec<Move> {
    stores.sort_by(|a, b| a.store.cmp(&b.store));
    let mut moves = Vec::new();
    loop {
        let mut load: BTreeMap<&str, usize> = BTreeMap::new();
        stores.iter().for_each(|store| *load.entry(&store.host).or_default() += 1);
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

/// A store of a cluster whose window is open.
#[derive(Debug, Clone, Copy)]
pub struct Standing<'a> {
    /// Its name.
    pub name: &'a str,
    /// What is seen of it.
    pub seen: &'a Observation,
    /// It was moved in this window, by itself or by a person: it stays where it is until the next one, so that nothing is
    /// undone, or goes to and fro.
    pub stays: bool,
}

/// A store that is not as it must be before another is handed over, or that itself is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waits {
    /// Its name.
    pub store: String,
    /// What keeps it.
    pub why: &'static str,
}

impl fmt::Display for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.store, self.why)
    }
}

/// The hand-over that the operator begins next by itself, if there is one: the first of what a person would be told now,
/// and only while all stores of the cluster rest.
///
/// # Errors
/// What it waits for.
pub fn next(stores: &[Standing<'_>]) -> Result<Option<Move>, Waits> {
    let Some(first) = plan(stores.iter().filter_map(placed).collect()).into_iter().next() else {
        return Ok(None);
    };
    let restless =
        |store: &Standing<'_>| Some(Waits { store: store.name.to_owned(), why: unrest(store.seen)? });
    stores.iter().find_map(restless).map_or(Ok(Some(first)), Err)
}

/// Where a mirrored store is and could be; not to a node that is to be emptied, or may be lost in a moment.
fn placed(store: &Standing<'_>) -> Option<Placed> {
    let o = store.seen;
    let lease = o.lease.as_ref().filter(|_| !o.replicas.is_empty())?;
    let takes = |node: &&NodeView| node.ready && !node.unschedulable && !node.out_of_service;
    let node = |copy: &ReplicaView| o.node(copy.pod.as_ref()?.node.as_ref()?).filter(takes);
    let fit = o.replicas.iter().filter(|copy| !store.stays && stands_by(copy) && has_everything(copy, lease));
    let copies = fit.filter_map(node).map(|node| node.name.clone()).collect();
    Some(Placed { store: store.name.to_owned(), host: o.placement.as_ref()?.node.clone(), copies })
}

fn is_to_be_made_anew(o: &Observation) -> bool {
    o.outdated || o.unauthorised || o.replicas.iter().any(|copy| copy.outdated || copy.replaced)
}

/// What keeps this store from being left alone, or from being handed over; `None` when nothing does.
fn unrest(o: &Observation) -> Option<&'static str> {
    if let Some(gate) = gate(o, false) {
        return Some(gate.message());
    }
    let Some(lease) = &o.lease else { return Some("it has no Lease") };
    // What was not watched for long enough passes for renewed elsewhere: here it is no hurry.
    let is_renewed = lease.unchanged_for.is_some_and(|age| age < o.store.lease_ms);
    let rests = next_step(o) == Decision { phase: Phase::Serving, step: Step::Idle };
    let is_wanted = asked(o) || o.force.is_some() || o.replace.is_some() || o.restore_asked;
    let checks = [
        (is_renewed && rests, "it does not serve, or something is being done for it"),
        (!is_wanted && o.adoption.is_none() && o.target.is_none(), "somebody has asked something of it"),
        (o.cluster.others_are_well, "another store does not serve, or is on its way"),
        (!is_to_be_made_anew(o), "its pods are to be made anew"),
        (o.replicas.iter().all(|copy| has_everything(copy, lease)), "not every copy of it has everything"),
    ];
    checks.into_iter().find(|(good, _)| !good).map(|(_, why)| why)
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
        plan(stores(all)).iter().map(Move::to_string).collect()
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
