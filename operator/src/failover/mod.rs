//! Moves stores: detection, evidence, fencing, reattaching. Every decision is `mailcluster_failover::next_step` over
//! what is seen; this module sees and does. An operator that is killed at any point goes on from the objects.
//!
//! Every replica of the operator watches, so that a new leader has its own observations of every lease; only the
//! leader writes.

mod act;
mod adopt;
pub mod annotations;
mod cache;
mod call_off;
mod crashes;
pub mod evictable;
mod fence;
mod forced;
mod kept;
mod lease;
mod leftovers;
mod measures;
mod mover;
mod observe;
mod peers;
mod rebalance;
mod replace;
mod report;
mod shelf;
mod soundness;
mod trim;
mod under_way;
mod unreadable;
mod watching;
mod window;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use kube::ResourceExt;
use mailcluster_api::{MailStore, mailstore::StoreKind};
use mailcluster_failover::{LeaseWatch, Millis, Observation, next_step};
use tokio::task::JoinHandle;

pub use self::cache::Caches;
use self::{
    cache::World,
    measures::Measures,
    mover::{Counts, Errand, Mover, Said, is_move, waits},
    observe::{Heard, Sight},
    peers::{Peers, Round},
    rebalance::Rebalancing,
    under_way::{Outcome, UnderWay, Work},
    unreadable::Unreadable,
};
use crate::{context::Context, leader::boot_time};

/// Between two looks at what the watches show.
const TICK: Duration = Duration::from_millis(500);
/// Between two looks at stores of which nothing is suspected.
const CALM: Duration = Duration::from_secs(2);
/// Counts are written no more often than this.
const COUNTS: Duration = Duration::from_secs(60);
/// But those of a store that has just begun to serve.
const COUNTS_OF_NEW: Duration = Duration::from_secs(5);
/// No call to the API may take longer.
const CALL_LIMIT: Duration = Duration::from_secs(3);

/// The state of one operator replica's failover part.
pub(crate) struct Failover {
    ctx: Context,
    caches: Arc<Caches>,
    unreadable: Unreadable,
    peers: Peers,
    /// What is being asked now: nothing waits for pods that do not answer.
    asking: Option<Round>,
    /// Are frontends asked, too?
    asks_frontends: bool,
    /// The stores' pods that were asked last.
    asked: Vec<Arc<Pod>>,
    watches: BTreeMap<(String, String), LeaseWatch>,
    heard: Arc<Heard>,
    described_at: Option<Instant>,
    counted_at: Option<Instant>,
    counts: Counts,
    said: Said,
    measures: Arc<Measures>,
    under_way: UnderWay,
    /// Fence Jobs that are called off now.
    calling_off: Option<JoinHandle<()>>,
    rebalancing: Rebalancing,
}

/// Runs until the process is to stop.
///
/// # Errors
/// When metrics cannot be registered.
pub async fn run(ctx: Context, caches: Arc<Caches>) -> anyhow::Result<()> {
    let stop = ctx.stop.clone();
    let work = async {
        caches.ready().await;
        let mut failover = Failover::new(ctx, caches)?;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            failover.look().await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => Ok(()),
        ended = work => ended,
    }
}

fn now_ms() -> Millis {
    u64::try_from(boot_time().as_millis()).unwrap_or(u64::MAX)
}

impl Failover {
    fn new(ctx: Context, caches: Arc<Caches>) -> anyhow::Result<Self> {
        let heard = Heard { may_adopt: ctx.config.adopt_volumes, ..Heard::default() };
        Ok(Self {
            measures: Arc::new(Measures::new(ctx.metrics.registry())?),
            ctx,
            caches,
            peers: Peers::default(),
            asking: None,
            asks_frontends: false,
            asked: Vec::new(),
            watches: BTreeMap::new(),
            heard: Arc::new(heard),
            unreadable: Unreadable::default(),
            described_at: None,
            counted_at: None,
            counts: Counts::default(),
            said: Said::default(),
            under_way: UnderWay::default(),
            calling_off: None,
            rebalancing: Rebalancing::default(),
        })
    }

    /// One look at everything; acts where this replica leads.
    async fn look(&mut self) {
        // In this order: what has ended by now is in what the watches show then, or soon.
        self.under_way.take_in();
        let world = self.caches.world();
        self.unreadable.tell(&self.ctx, &world.unreadable);
        Arc::make_mut(&mut self.heard).now = Timestamp::now().as_second();
        let suspects = self.watch_leases(&world).await;
        self.ask_pods(&world, suspects).await;
        if self.ctx.leads() {
            self.call_off(&world);
            let world = Arc::new(world);
            self.decide(&world);
            // Last: what moves because it must goes first.
            self.rebalance(&world);
        }
    }

    /// Decides for one store after another, each counting those that move already, and has it done beside what is still
    /// being done: nobody is waited for.
    fn decide(&mut self, world: &Arc<World>) {
        self.under_way.keep_only(|namespace, name| world.stores.get(Some(namespace), name).is_some());
        let mover = self.mover();
        let sight = Sight::new(world, &mover.heard);
        let mut stores = sight.all_alone();
        let mut others = Arc::new(sight.others(&stores));
        self.under_way.moving().for_each(|store| Arc::make_mut(&mut others).began_to_move(store));
        // The directory first, then by name.
        stores.sort_by_cached_key(|(store, _)| {
            (self.under_way.is_unlucky(store), store.spec.kind != StoreKind::Directory, store.name_any())
        });
        for (store, alone) in stores {
            if self.under_way.is_busy(&store) {
                continue;
            }
            if store.metadata.deletion_timestamp.is_some() {
                self.let_go(&mover, world, &store);
                continue;
            }
            let Some(o) = alone.map(|alone| sight.amid(&store, alone, &others)) else { continue };
            let decision = next_step(&o);
            // What only waits is read anew only when there is something to write.
            let waits = waits(&decision.step);
            if waits && !mover.differs(world, &store, &o, &decision) {
                continue;
            }
            let moves = is_move(decision.phase);
            let work = match (waits, moves) {
                (true, _) => Work::Note,
                (false, true) => Work::Move,
                (false, false) => Work::Step,
            };
            if !self.under_way.has_room(work) {
                continue;
            }
            let errand = Errand {
                store: store.clone(),
                cached: world.clone(),
                others: others.clone(),
                wanted: decision.step,
                moves,
            };
            self.begin(&mover, work, errand);
            if moves {
                Arc::make_mut(&mut others).began_to_move(&store);
            }
        }
    }

    /// Calls off what would switch off nodes that are back.
    fn call_off(&mut self, world: &World) {
        if self.calling_off.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let (moot, mover) = (call_off::moot(world), self.mover());
        self.calling_off =
            (!moot.is_empty()).then(|| tokio::spawn(async move { mover.call_off(moot).await }));
    }

    fn begin(&mut self, mover: &Mover, work: Work, errand: Errand) {
        let (mover, store) = (mover.clone(), errand.store.clone());
        self.under_way.begin(&store.clone(), work, async move {
            mover.run(errand).await.unwrap_or_else(|error| {
                tracing::warn!(%error, store = store.name_any(), "a step of failover failed; it is tried again");
                Outcome::Failed
            })
        });
    }

    /// A store that is being deleted: its Lease goes when its pod has gone.
    fn let_go(&mut self, mover: &Mover, world: &World, store: &Arc<MailStore>) {
        let (Some(lease), None) = (world.lease(store), world.pod(store)) else { return };
        if lease.metadata.deletion_timestamp.is_none() || !self.under_way.has_room(Work::Note) {
            return;
        }
        let (mover, lease, of) = (mover.clone(), lease.clone(), store.clone());
        self.under_way.begin(store, Work::Note, async move { mover.let_lease_go(&lease, &of).await });
    }

    fn mover(&self) -> Mover {
        Mover {
            ctx: self.ctx.clone(),
            heard: self.heard.clone(),
            counts: self.counts.clone(),
            lines: self.peers.lines(),
            said: self.said.clone(),
            measures: self.measures.clone(),
        }
    }
}

/// Is this pod the lease's holder?
fn holds(o: &Observation, pod_uid: &str) -> bool {
    o.lease.as_ref().and_then(|l| l.record.holder.as_ref()).is_some_and(|h| h.pod_uid == pod_uid)
}

fn serves(store: &MailStore) -> bool {
    store.status.as_ref().is_some_and(|s| s.phase == Some(mailcluster_api::mailstore::Phase::Serving))
}

#[cfg(test)]
mod tests;
