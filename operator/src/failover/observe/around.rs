//! What goes on in the cluster beyond one store: pure.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt;
use mailcluster_api::{MailStore, mailstore};
use mailcluster_failover::{Cluster, Detection, Observation, detect};

use super::nodes::since;
use crate::failover::cache::World;

/// As much of a store as matters to the others.
#[derive(Debug, Clone)]
pub struct Other {
    pub(super) namespace: Option<String>,
    pub(super) cluster: String,
    pub(super) name: String,
    pub(super) node: Option<String>,
    pub(super) directory: bool,
    pub(super) blocked: bool,
    pub(super) moving: bool,
    pub(super) arriving: bool,
    pub(super) lost: bool,
    pub(super) renewing: bool,
    pub(super) settled: bool,
    pub(super) reached: bool,
    pub(super) outdated: bool,
}

impl Other {
    /// It does not serve where it is, or will not for long.
    fn away(&self) -> bool {
        !self.renewing || !self.settled || self.moving || self.blocked
    }

    /// It serves: also while its node is cut off from the API, if frontends reach it.
    fn alive(&self) -> bool {
        self.renewing || self.reached
    }
}

/// The stores of one cluster.
#[derive(Debug, Clone, Default)]
struct Neighbours {
    stores: Vec<Other>,
    /// How many nodes carry them, and on how many they are lost.
    carrying: usize,
    lost: usize,
}

/// All stores, as they matter to each other.
#[derive(Debug, Clone, Default)]
pub struct Others {
    /// By namespace and name of the cluster.
    clusters: BTreeMap<(Option<String>, String), Neighbours>,
    /// The nodes that a store serves from, of any cluster.
    alive: BTreeSet<String>,
}

impl From<Vec<Other>> for Others {
    fn from(all: Vec<Other>) -> Self {
        let mut others = Self::default();
        for other in all {
            if let Some(node) = other.node.as_ref().filter(|_| other.alive()) {
                others.alive.insert(node.clone());
            }
            let of = (other.namespace.clone(), other.cluster.clone());
            others.clusters.entry(of).or_default().stores.push(other);
        }
        for neighbours in others.clusters.values_mut() {
            let nodes = |all: &mut dyn Iterator<Item = &Other>| {
                all.filter_map(|x| x.node.as_deref()).collect::<BTreeSet<_>>().len()
            };
            neighbours.carrying = nodes(&mut neighbours.stores.iter());
            neighbours.lost = nodes(&mut neighbours.stores.iter().filter(|x| x.lost));
        }
        others
    }
}

impl Others {
    /// This store moves now: what is decided for the next one counts it.
    pub fn began_to_move(&mut self, store: &MailStore) {
        let neighbours = self.clusters.get_mut(&(store.namespace(), store.spec.cluster.clone()));
        let stores = neighbours.into_iter().flat_map(|n| &mut n.stores);
        stores
            .filter(|other| Some(&other.name) == store.metadata.name.as_ref())
            .for_each(|x| x.moving = true);
    }
}

/// A failover that has gone on for this long does not hold up others.
const STUCK: u64 = 180_000;

/// A store by itself, as it matters to the others.
pub(super) fn other(store: &MailStore, o: &Observation, now: i64) -> Other {
    use mailstore::Phase;
    let status = store.status.as_ref();
    let phase = status.and_then(|s| s.phase);
    let targeted = status.is_some_and(|s| s.target.is_some());
    let holder = o.lease.as_ref().and_then(|l| l.record.holder.as_ref());
    let begun = status.and_then(|s| s.last_failover.as_ref()).filter(|l| l.serving_at.is_none());
    let stuck = begun.is_some_and(|l| since(l.detected_at.as_ref(), now) >= STUCK);
    let arriving = o.pod.as_ref().is_some_and(|pod| {
        let new = holder.is_none_or(|h| h.pod_uid != pod.uid);
        new && !pod.terminating && pod.node.is_some() && pod.node == o.pin
    });
    let fresh = o.lease.as_ref().is_some_and(|l| l.fresh(o.store.lease_ms));
    Other {
        namespace: store.namespace(),
        cluster: store.spec.cluster.clone(),
        name: store.name_any(),
        directory: o.store.directory,
        blocked: stuck || phase == Some(Phase::Blocked),
        moving: !stuck
            && (phase == Some(Phase::Draining)
                || targeted && matches!(phase, Some(Phase::Fencing | Phase::Reattaching | Phase::Promoting))),
        arriving,
        lost: holder.is_some() && detect(o) == Detection::Lost,
        renewing: holder.is_some() && fresh,
        // Until it is published frontends look for it where it was; and whoever watches the stores sees one away at most.
        settled: phase == Some(Phase::Serving)
            && o.lease.as_ref().zip(o.serving.as_ref()).is_some_and(|(l, s)| l.record.epoch == s.0),
        reached: holder.is_some() && o.reach.reach > 0,
        outdated: o.outdated,
        node: o.placement.as_ref().map(|p| p.node.clone()),
    }
}

/// What goes on around this store.
pub(super) fn around(world: &World, store: &MailStore, own: &Observation, others: &Others) -> Cluster {
    let max_concurrent = world.cluster(store).map_or(1, |c| c.spec.failover.max_concurrent);
    let node = own.placement.as_ref().map(|p| p.node.as_str());
    let nobody = Neighbours::default();
    let neighbours = others.clusters.get(&(store.namespace(), store.spec.cluster.clone())).unwrap_or(&nobody);
    let name = store.metadata.name.as_deref().unwrap_or_default();
    let rest = || neighbours.stores.iter().filter(|x| x.name != name);
    Cluster {
        nodes: neighbours.carrying,
        lost_nodes: neighbours.lost,
        moving: rest().filter(|x| x.moving && !x.directory).count(),
        max_concurrent: usize::try_from(max_concurrent).unwrap_or(1),
        // Once its new pod is on its way, nothing is gained by letting the others wait.
        directory_first: rest().any(|x| x.directory && (x.lost || x.moving) && !x.blocked && !x.arriving),
        // Of any cluster: a machine is switched off for nobody whose neighbour lives.
        node_has_renewing_store: node.is_some_and(|node| others.alive.contains(node)),
        others_are_well: !rest().any(|x| x.away() || (own.store.directory && x.outdated)),
    }
}
