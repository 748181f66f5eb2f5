//! In a window that the MailCluster names, the operator asks for what `kubectl mailcluster rebalance` would ask for: by the
//! same annotation, so that all that follows is a hand-over like any other. One at a time.

mod asked;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Instant};

use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
    runtime::events::EventType,
};
use mailcluster_api::{MailCluster, MailStore};
use mailcluster_failover::{
    Observation,
    rebalance::{self, Move, Standing, Waits},
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

pub use self::asked::{is_over, is_void, note};
use super::{
    CALM, Failover,
    act::Scene,
    annotations as keys,
    cache::{self, World, limited},
    mover::Mover,
    observe::{Heard, Sight},
    window::{self, NotUnderstood, Open},
};

/// What is kept between two looks.
#[derive(Default)]
pub(super) struct Rebalancing {
    looked_at: Option<Instant>,
    /// Stores are asked now.
    asking: Option<JoinHandle<()>>,
    /// Why nothing is handed over in a cluster, as it was said last.
    said: BTreeMap<(String, String), String>,
}

impl Rebalancing {
    fn is_due(&self) -> bool {
        let rests = self.asking.as_ref().is_none_or(JoinHandle::is_finished);
        rests && self.looked_at.is_none_or(|at| at.elapsed() >= CALM)
    }
}

/// A hand-over that is due.
#[derive(Debug)]
struct Due {
    store: Arc<MailStore>,
    seen: Observation,
    hand_over: Move,
    open: Open,
}

/// Why none begins, although a window is open, or should be.
#[derive(Debug, PartialEq, Eq)]
enum Held {
    By(Waits),
    NotUnderstood(NotUnderstood),
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::By(waits) => waits.fmt(f),
            Self::NotUnderstood(why) => why.fmt(f),
        }
    }
}

impl Failover {
    /// Asks for the next hand-over of each cluster whose window is open, if there is one.
    pub(super) fn rebalance(&mut self, world: &Arc<World>) {
        if !self.rebalancing.is_due() {
            return;
        }
        let mover = self.mover();
        self.rebalancing.looked_at = Some(Instant::now());
        let moving: Vec<&MailStore> = self.under_way.moving().collect();
        let mut asks = Vec::new();
        for cluster in &world.clusters {
            let key = (cluster.namespace().unwrap_or_default(), cluster.name_any());
            let held = match due(world, &mover.heard, cluster, &moving) {
                Ok(due) => {
                    asks.extend(due.map(|_| cluster.clone()));
                    self.rebalancing.said.remove(&key);
                    continue;
                }
                Err(held) => held,
            };
            let why = held.to_string();
            if self.rebalancing.said.insert(key, why.clone()).as_ref() != Some(&why) {
                mover.held(cluster, &held);
            }
        }
        self.rebalancing
            .said
            .retain(|(namespace, name), _| world.clusters.get(Some(namespace), name).is_some());
        if asks.is_empty() {
            return;
        }
        let world = world.clone();
        self.rebalancing.asking = Some(tokio::spawn(async move {
            for cluster in asks {
                if let Err(error) = mover.spread(&world, &cluster).await {
                    tracing::debug!(%error, cluster = cluster.name_any(), "no hand-over could be asked for yet");
                }
            }
        }));
    }
}

impl Mover {
    /// Reads what the hand-over depends on anew, and asks for the one that follows from that. What comes of it is decided
    /// as if a person had asked.
    async fn spread(&self, cached: &World, cluster: &MailCluster) -> anyhow::Result<()> {
        let world = cache::live_cluster(&self.ctx, cached, cluster).await?;
        let live = world.clusters.get(cluster.metadata.namespace.as_deref(), &cluster.name_any());
        let Some(live) = live.filter(|live| live.uid() == cluster.uid()) else { return Ok(()) };
        let Ok(Some(due)) = due(&world, &self.heard, live, &[]) else { return Ok(()) };
        if !self.ctx.leads() {
            return Ok(());
        }
        let stores: Api<MailStore> =
            Api::namespaced(self.ctx.client.clone(), &due.store.namespace().unwrap_or_default());
        let patch = Patch::Merge(request(&due));
        limited(stores.patch(&due.store.name_any(), &PatchParams::default(), &patch)).await?;
        let Move { from, to, .. } = &due.hand_over;
        let note = format!("it goes from node {from} to node {to}, which serves fewer stores");
        let scene = Scene { world: &world, store: &due.store, o: &due.seen };
        self.say(&scene, EventType::Normal, "RebalanceStarted", &note);
        Ok(())
    }

    /// What waits passes; what is not understood wants somebody.
    fn held(&self, cluster: &MailCluster, held: &Held) {
        match held {
            Held::By(waits) => {
                tracing::info!(cluster = cluster.name_any(), %waits, "no store is handed over to spread them yet");
            }
            Held::NotUnderstood(why) => {
                let about = cluster.object_ref(&());
                self.announce(about, EventType::Warning, "WindowNotUnderstood", &why.to_string());
            }
        }
    }
}

/// The annotations that ask for it; nothing is asked of a store that was written since it was read.
fn request(due: &Due) -> Value {
    let to = &due.hand_over.to;
    json!({ "metadata": {
        "resourceVersion": due.store.metadata.resource_version,
        "annotations": {
            keys::FAILOVER: to,
            keys::REFUSED: Value::Null,
            keys::REBALANCED: asked::word(to, due.open),
        },
    } })
}

/// The next hand-over in a cluster whose window is open: pure. `moving`: stores for which more is under way than the world
/// shows.
fn due(
    world: &World,
    heard: &Heard,
    cluster: &MailCluster,
    moving: &[&MailStore],
) -> Result<Option<Due>, Held> {
    let rebalance = cluster.spec.failover.rebalance.as_ref();
    let Some(rebalance) = rebalance.filter(|_| cluster.metadata.deletion_timestamp.is_none()) else {
        return Ok(None);
    };
    let now = Timestamp::from_second(heard.now).unwrap_or_default();
    let Some(open) = window::open(&rebalance.window, now).map_err(Held::NotUnderstood)? else {
        return Ok(None);
    };
    let stores = stores(world, heard, cluster, moving);
    let standing: Vec<_> = stores
        .iter()
        .map(|(name, store, seen)| Standing { name, seen, stays: asked::stays(store, open, heard.now) })
        .collect();
    let Some(hand_over) = rebalance::next(&standing).map_err(Held::By)? else { return Ok(None) };
    let named = stores.into_iter().find(|(name, ..)| *name == hand_over.store);
    Ok(named.map(|(_, store, seen)| Due { store, seen, hand_over, open }))
}

/// The stores of a cluster, each with its name and with what is seen of it.
fn stores(
    world: &World,
    heard: &Heard,
    cluster: &MailCluster,
    moving: &[&MailStore],
) -> Vec<(String, Arc<MailStore>, Observation)> {
    let sight = Sight::new(world, heard);
    let is_ours = |store: &&Arc<MailStore>| {
        store.metadata.namespace == cluster.metadata.namespace
            && store.spec.cluster == cluster.name_any()
            && store.metadata.deletion_timestamp.is_none()
    };
    let ours = world.stores.iter().filter(is_ours);
    let alone: Vec<_> = ours.map(|store| (store.clone(), sight.alone(store))).collect();
    let mut others = sight.others(&alone);
    moving.iter().for_each(|store| others.began_to_move(store));
    let seen = alone.into_iter().filter_map(|(store, alone)| {
        let seen = sight.amid(&store, alone?, &others);
        Some((store.name_any(), store, seen))
    });
    seen.collect()
}

#[cfg(test)]
mod tests;
