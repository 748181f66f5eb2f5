//! Moves stores: detection, evidence, fencing, reattaching. Every decision is `mailcluster_failover::next_step` over
//! what is seen; this module sees and does. An operator that is killed at any point goes on from the objects.
//!
//! Every replica of the operator watches, so that a new leader has its own observations of every lease; only the
//! leader writes.

mod act;
mod adopt;
pub mod annotations;
mod cache;
mod crashes;
pub mod evictable;
mod fence;
mod forced;
mod lease;
mod leftovers;
mod measures;
mod observe;
mod peers;
mod replace;
mod report;
mod soundness;
mod unreadable;
mod watching;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::{coordination::v1::Lease, core::v1::Pod},
    jiff::Timestamp,
};
use kube::{Api, ResourceExt, runtime::events::EventType};
use mailcluster_api::{MailStore, names::REPLICAS};
use mailcluster_failover::{Decision, LeaseWatch, Millis, Observation, Phase, Step, next_step};

pub use self::cache::Caches;
use self::{
    act::Scene,
    cache::World,
    measures::Measures,
    observe::{Heard, Other},
    peers::{Peers, Round},
    report::Part,
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
/// Steps of one store in one look; each begins with what is read anew.
const STEPS: usize = 6;
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
    heard: Heard,
    described_at: Option<Instant>,
    counted_at: Option<Instant>,
    counts: BTreeMap<String, (i64, i64)>,
    said: BTreeMap<(String, String), &'static str>,
    measures: Measures,
}

/// Runs until the process is to stop.
///
/// # Errors
/// When metrics cannot be registered.
pub async fn run(ctx: Context, caches: Arc<Caches>) -> anyhow::Result<()> {
    let stop = ctx.stop.clone();
    let work = async {
        caches.ready().await;
        let heard = Heard { may_adopt: ctx.config.adopt_volumes, ..Heard::default() };
        let mut failover = Failover {
            measures: Measures::new(ctx.metrics.registry())?,
            ctx,
            caches,
            peers: Peers::default(),
            asking: None,
            asks_frontends: false,
            asked: Vec::new(),
            watches: BTreeMap::new(),
            heard,
            unreadable: Unreadable::default(),
            described_at: None,
            counted_at: None,
            counts: BTreeMap::new(),
            said: BTreeMap::new(),
        };
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
    /// One look at everything; acts where this replica leads.
    async fn look(&mut self) {
        let world = self.caches.world();
        self.unreadable.tell(&self.ctx, &world.unreadable);
        self.heard.now = Timestamp::now().as_second();
        let suspects = self.watch_leases(&world).await;
        self.ask_pods(&world, suspects).await;
        if !self.ctx.leads() {
            return;
        }
        let mut others = observe::others(&world, &self.heard);
        let mut stores = world.stores.clone();
        // The directory first, then by name.
        stores
            .sort_by_key(|s| (s.spec.kind != mailcluster_api::mailstore::StoreKind::Directory, s.name_any()));
        for store in stores {
            if store.metadata.deletion_timestamp.is_some() {
                self.let_lease_go(&world, &store).await;
                continue;
            }
            match self.step(&world, &store, &others).await {
                Ok(Some(Phase::Fencing | Phase::Reattaching | Phase::Promoting | Phase::Draining)) => {
                    others.iter_mut().for_each(|other| other.began_to_move(&store));
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, store = store.name_any(), "a step of failover failed; it is tried again");
                }
            }
            if !self.ctx.leads() {
                return;
            }
        }
    }

    /// Decides for one store, and does it: what cannot be taken back only after the same decision followed from
    /// objects that were just read. Answers the phase of what was done.
    async fn step(
        &mut self,
        cached: &World,
        store: &MailStore,
        others: &[Other],
    ) -> anyhow::Result<Option<Phase>> {
        let Some(o) = observe::observe(cached, &self.heard, store, others) else { return Ok(None) };
        let decision = next_step(&o);
        // What only waits is read anew only when there is something to write.
        let waits = matches!(decision.step, Step::Idle | Step::Await(_) | Step::Block(_));
        if waits && !self.differs(cached, store, &o, &decision) {
            return Ok(None);
        }
        let mut wanted = Some(decision.step);
        let mut phase = None;
        for _ in 0..STEPS {
            let Some(done) = self.live_step(cached, store, others, wanted.take()).await? else { break };
            phase = Some(done.phase);
            if matches!(done.step, Step::Idle | Step::Await(_) | Step::Block(_)) || !self.ctx.leads() {
                break;
            }
        }
        Ok(phase)
    }

    /// Reads everything the step depends on anew, decides, and does it. `wanted`: what the watches made of it; where
    /// the live look does not agree, nothing is done.
    async fn live_step(
        &mut self,
        cached: &World,
        store: &MailStore,
        others: &[Other],
        wanted: Option<Step>,
    ) -> anyhow::Result<Option<Decision>> {
        let mut world = cache::live(&self.ctx, cached, store).await?;
        let there = world.stores.iter().find(|s| s.uid() == store.uid());
        // One that is being deleted gets nothing new: a Lease made now would stay behind.
        let Some(live) = there.filter(|s| s.metadata.deletion_timestamp.is_none()).cloned() else {
            return Ok(None);
        };
        let Some(mut o) = observe::observe(&world, &self.heard, &live, others) else { return Ok(None) };
        let version =
            |world: &World, store: &MailStore| world.lease(store).and_then(|l| l.resource_version());
        if let Some(lease) = o.lease.as_mut().filter(|_| version(&world, &live) != version(cached, store)) {
            // Written since the watch showed it: what was seen of it before says nothing of it now.
            lease.unchanged_for = Some(0);
        }
        let decision = next_step(&o);
        if wanted.as_ref().is_some_and(|wanted| *wanted != decision.step) {
            tracing::debug!(store = live.name_any(), ?wanted, ?decision, "decided otherwise on a live look");
            return Ok(None);
        }
        if matches!(decision.step, Step::DeleteGracefully(_) | Step::AllowEviction(_))
            && !self.others_agree(&mut world, &live, &decision).await?
        {
            return Ok(None);
        }
        if matches!(decision.step, Step::CreateFenceJob { .. }) && self.neighbour_lives(&world, &o).await? {
            tracing::info!(
                store = live.name_any(),
                "another store on the node was just seen alive: no fence"
            );
            return Ok(None);
        }
        self.carry_out(&world, &live, &o, &decision).await?;
        Ok(Some(decision))
    }

    /// Does the same follow when the cluster's other stores are read anew, too?
    async fn others_agree(
        &self,
        world: &mut World,
        store: &Arc<MailStore>,
        decision: &Decision,
    ) -> anyhow::Result<bool> {
        cache::live_stores(&self.ctx, world, store).await?;
        let others = observe::others(world, &self.heard);
        let again = observe::observe(world, &self.heard, store, &others).map(|o| next_step(&o));
        let agrees = again.as_ref().is_some_and(|again| again.step == decision.step);
        if !agrees {
            tracing::info!(
                store = store.name_any(),
                ?decision,
                ?again,
                "another store is on its way: it waits"
            );
        }
        Ok(agrees)
    }

    async fn carry_out(
        &mut self,
        world: &World,
        store: &Arc<MailStore>,
        o: &Observation,
        decision: &Decision,
    ) -> anyhow::Result<()> {
        let old = Part::of(&store.status.clone().unwrap_or_default());
        let (mut part, finished) = self.part(world, store, o, decision, &old);
        let scene = Scene { world, store, o };
        // The status is written first, over the very version that was read, and shows what is done before it is done;
        // a step that dies half way is taken again. Whatever the step itself writes to the MailStore comes after it.
        Self::intend(&scene, decision, &mut part);
        self.write_status(store, &old, &part).await?;
        if let Some(phase) = part.phase.filter(|phase| old.phase != Some(*phase)) {
            let note = report::doing(&decision.step);
            self.say(&scene, EventType::Normal, &format!("Phase{}", phase.as_str()), &note);
        }
        self.tell(&scene, decision);
        if let Some(finished) = &finished {
            self.finished(&scene, finished);
        }
        self.act(&scene, decision).await?;
        self.remember_seat(world, store, o, decision).await
    }

    fn part(
        &self,
        world: &World,
        store: &MailStore,
        o: &Observation,
        decision: &Decision,
        old: &Part,
    ) -> (Part, Option<report::Finished>) {
        let seat = world
            .pod(store)
            .and_then(|p| observe::seat_of(p, &o.nodes))
            .filter(|seat| holds(o, &seat.pod_uid));
        let (mut part, finished) =
            report::next((&store.name_any(), old), o, decision, seat.as_ref(), Timestamp::now());
        if let Some((accounts, bytes)) =
            world.pod(store).and_then(|p| p.uid()).and_then(|uid| self.counts.get(&uid))
        {
            (part.accounts, part.bytes) = (Some(*accounts), Some(*bytes));
        }
        let named = store.spec.replicas.iter().filter(|_| store.spec.is_mirrored()).zip(REPLICAS);
        let pods = named.filter_map(|(_, letter)| world.pod_of(store, letter)?.uid());
        let said: Vec<_> = pods.filter_map(|uid| self.heard.described.get(&uid)).collect();
        part.snapshots = report::snapshots(said.iter().copied());
        soundness::note(&mut part, store, &said, Timestamp::now());
        (part, finished)
    }

    /// Would a look at an idle store write anything?
    fn differs(&self, world: &World, store: &MailStore, o: &Observation, decision: &Decision) -> bool {
        let old = Part::of(&store.status.clone().unwrap_or_default());
        let (part, _) = self.part(world, store, o, decision, &old);
        part != old || leftovers::changes(world, store, o, decision, self.heard.now).is_some()
    }

    /// After the status names the holder's machine, the annotation says whose machine that is: in this order, so that
    /// a machine is never taken for another pod's.
    async fn remember_seat(
        &self,
        world: &World,
        store: &MailStore,
        o: &Observation,
        decision: &Decision,
    ) -> anyhow::Result<()> {
        match leftovers::changes(world, store, o, decision, self.heard.now) {
            Some(changes) => self.annotate(store, &changes).await,
            None => Ok(()),
        }
    }

    /// Says once, by event and metric, why nothing happens.
    fn tell(&mut self, scene: &Scene<'_>, decision: &Decision) {
        let key = (scene.store.namespace().unwrap_or_default(), scene.store.name_any());
        let Step::Block(why) = &decision.step else {
            self.said.remove(&key);
            return;
        };
        if self.said.insert(key, why.reason()) != Some(why.reason()) {
            self.measures.deferred(why.reason());
            self.say(scene, EventType::Warning, "FailoverBlocked", &report::message(why));
        }
    }

    fn finished(&self, scene: &Scene<'_>, finished: &report::Finished) {
        self.measures.finished(&finished.record.reason, finished.seconds);
        let (from, to) = (finished.record.from.as_deref(), finished.record.to.as_deref());
        let note = format!(
            "{}: served by node {} (before: {}), {:.1} s after the first sign",
            finished.record.reason,
            to.unwrap_or("?"),
            from.unwrap_or("none"),
            finished.seconds
        );
        self.say(scene, EventType::Normal, "FailoverFinished", &note);
    }

    /// A store that is being deleted: its Lease goes when its pod has gone.
    async fn let_lease_go(&self, world: &World, store: &MailStore) {
        let (Some(lease), None) = (world.lease(store), world.pod(store)) else { return };
        if lease.metadata.deletion_timestamp.is_none() {
            return;
        }
        let api: Api<Lease> =
            Api::namespaced(self.ctx.client.clone(), &store.namespace().unwrap_or_default());
        if let Err(error) = act::drop_finalizer(&api, lease).await {
            tracing::debug!(%error, store = store.name_any(), "a lease could not be let go yet");
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
