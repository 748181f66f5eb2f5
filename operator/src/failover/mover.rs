//! What was decided for one store is carried out here, beside whatever is done for others.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use k8s_openapi::{api::coordination::v1::Lease, jiff::Timestamp};
use kube::{Api, ResourceExt, runtime::events::EventType};
use mailcluster_api::{MailStore, names::REPLICAS};
use mailcluster_failover::{Decision, Observation, Phase, Step, next_step};

use super::{
    act::{self, Scene},
    cache::{self, World},
    holds, leftovers,
    measures::Measures,
    observe::{self, Heard, Others, Sight},
    peers::Lines,
    rebalance,
    report::{self, Part},
    soundness,
    under_way::Outcome,
};
use crate::context::Context;

/// Steps of one store in one go; each begins with what is read anew.
const STEPS: usize = 6;

/// Why nothing was done for a store, as it was said last, by namespace and name.
pub type Said = Arc<Mutex<BTreeMap<(String, String), &'static str>>>;
/// Accounts and octets, by the UID of the pod that serves them.
pub type Counts = Arc<BTreeMap<String, (i64, i64)>>;

/// All that is needed to carry something out. Cheap to clone.
#[derive(Clone)]
pub struct Mover {
    pub(super) ctx: Context,
    /// As it was when the steps were decided.
    pub(super) heard: Arc<Heard>,
    pub(super) counts: Counts,
    pub(super) lines: Lines,
    pub(super) said: Said,
    pub(super) measures: Arc<Measures>,
}

/// What is to be done for a store.
pub struct Errand {
    /// Which one.
    pub store: Arc<MailStore>,
    /// What the watches showed when it was decided.
    pub cached: Arc<World>,
    /// The other stores then.
    pub others: Arc<Others>,
    /// The first step.
    pub wanted: Step,
    /// Others were told that it moves.
    pub moves: bool,
}

/// Is a store in this phase on its way, so that others may have to wait?
#[must_use]
pub fn is_move(phase: Phase) -> bool {
    matches!(phase, Phase::Fencing | Phase::Reattaching | Phase::Promoting | Phase::Draining)
}

/// Does nothing follow this step before something else happens?
#[must_use]
pub fn waits(step: &Step) -> bool {
    matches!(step, Step::Idle | Step::Await(_) | Step::Block(_))
}

impl Mover {
    /// Does one step after another: what cannot be taken back only after the same decision followed from objects that were
    /// just read.
    ///
    /// # Errors
    /// When the API refuses or does not answer; what follows is decided anew then.
    pub async fn run(&self, errand: Errand) -> anyhow::Result<Outcome> {
        let mut wanted = Some(errand.wanted.clone());
        for done in 0..STEPS {
            let Some(decision) = self.live_step(&errand, wanted.take()).await? else {
                return Ok(if done > 0 { Outcome::Done } else { Outcome::Nothing });
            };
            if waits(&decision.step) || !self.ctx.leads() {
                break;
            }
        }
        Ok(Outcome::Done)
    }

    /// Reads everything the step depends on anew, decides, and does it. `wanted`: what the watches made of it; where
    /// the live look does not agree, nothing is done.
    async fn live_step(&self, errand: &Errand, wanted: Option<Step>) -> anyhow::Result<Option<Decision>> {
        let Errand { store, cached, others, .. } = errand;
        let mut world = cache::live(&self.ctx, cached, store).await?;
        let namespace = store.metadata.namespace.as_deref();
        let there = world.stores.get(namespace, &store.name_any()).filter(|s| s.uid() == store.uid());
        // One that is being deleted gets nothing new: a Lease made now would stay behind.
        let Some(live) = there.filter(|s| s.metadata.deletion_timestamp.is_none()).cloned() else {
            return Ok(None);
        };
        let Some(mut o) = Sight::new(&world, &self.heard).observe(&live, others) else { return Ok(None) };
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
        // The others were decided for as if it stayed where it is: it begins to move when they are told so first.
        if is_move(decision.phase) && !waits(&decision.step) && !errand.moves {
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
        let sight = Sight::new(world, &self.heard);
        let others = sight.others(&sight.all_alone());
        let again = sight.observe(store, &others).map(|o| next_step(&o));
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
        &self,
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
        rebalance::note(&mut part, store);
        (part, finished)
    }

    /// Would a look at an idle store write anything?
    pub(super) fn differs(
        &self,
        world: &World,
        store: &MailStore,
        o: &Observation,
        decision: &Decision,
    ) -> bool {
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
    fn tell(&self, scene: &Scene<'_>, decision: &Decision) {
        let key = (scene.store.namespace().unwrap_or_default(), scene.store.name_any());
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let Step::Block(why) = &decision.step else {
            said.remove(&key);
            return;
        };
        if said.insert(key, why.reason()) != Some(why.reason()) {
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
    pub(super) async fn let_lease_go(&self, lease: &Lease, store: &MailStore) -> Outcome {
        let api: Api<Lease> =
            Api::namespaced(self.ctx.client.clone(), &store.namespace().unwrap_or_default());
        let gone = act::drop_finalizer(&api, lease).await.inspect_err(|error| {
            tracing::debug!(%error, store = store.name_any(), "a lease could not be let go yet");
        });
        gone.map_or(Outcome::Failed, |()| Outcome::Done)
    }
}
