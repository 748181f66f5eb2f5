//! Carrying out a step: each a single write to the API, safe to repeat, made only after everything it depends on was
//! read anew.

use std::time::Duration;

use k8s_openapi::{
    api::{
        batch::v1::Job,
        coordination::v1::Lease,
        core::v1::{ObjectReference, Pod},
    },
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
    runtime::events::{Event, EventType},
};
use mailcluster_api::{
    FAILOVER_FIELD_MANAGER, FINALIZER, MailStore,
    names::{self, REPLICAS},
};
use mailcluster_failover::{Blocked, Decision, EvidenceKind, Observation, Step, TargetKind};
use serde_json::{Value, json};

use super::{
    annotations as keys,
    cache::{self, World, limited},
    evictable, fence, forced, lease,
    mover::Mover,
    report::{self, Part},
};
use crate::apply;

/// A call that cannot be taken back ends within this, while this replica is sure to lead.
pub(super) const FINAL_LIMIT: Duration = Duration::from_secs(2);
/// A target is void after this.
const TARGET_SECONDS: i64 = 120;
/// A mirror that was asked takes the lease within a second or two: another is asked after this.
const PROMOTION_SECONDS: i64 = 10;

/// One store, all that is known of it, read live.
pub struct Scene<'a> {
    /// The world around it.
    pub world: &'a World,
    /// The store.
    pub store: &'a MailStore,
    /// What was observed.
    pub o: &'a Observation,
}

impl Mover {
    /// What a step changes in the status, before that is written: pure.
    pub(super) fn intend(scene: &Scene<'_>, decision: &Decision, part: &mut Part) {
        let now = Timestamp::now();
        match &decision.step {
            Step::SetTarget(kind) => {
                let asked = (scene.o.store.replica.as_str(), *kind);
                part.target = report::target(scene.o, asked, now, TARGET_SECONDS);
            }
            Step::Promote(copy, kind) => {
                part.target = report::target(scene.o, (copy, *kind), now, PROMOTION_SECONDS);
                if let (TargetKind::Forced, Some(last)) = (kind, &mut part.last_failover) {
                    last.forced = Some(forced::record(scene.o, copy));
                }
            }
            Step::ClearTarget => part.target = None,
            Step::RecordEvidence(kind) => {
                part.evidence.extend(report::evidence(scene.o, *kind, now));
                if let Some(last) = &mut part.last_failover {
                    last.evidence = part.evidence.iter().map(|e| e.kind).collect();
                    if *kind != EvidenceKind::LeaseExpired {
                        last.fenced_at = Some(Time(now));
                    }
                }
            }
            _ => {}
        }
    }

    /// Carries out one step, whose part of the status has been written.
    ///
    /// # Errors
    /// When the API refuses or does not answer; the step is tried again from what is seen then.
    pub(super) async fn act(&self, scene: &Scene<'_>, decision: &Decision) -> anyhow::Result<()> {
        let irrevocable = matches!(
            decision.step,
            Step::CreateFenceJob { .. }
                | Step::Pin(_)
                | Step::Adopt(_)
                | Step::Replace(_)
                | Step::DeleteGracefully(_)
                | Step::DeleteForced(_)
        );
        if irrevocable && !self.ctx.leads_for(FINAL_LIMIT) {
            anyhow::bail!("this replica may not lead for long enough to end the step");
        }
        match &decision.step {
            Step::Idle | Step::Await(_) | Step::Block(_) | Step::ClearTarget => Ok(()),
            Step::CreateLease => self.create_lease(scene).await,
            Step::RestoreLease => self.restore_lease(scene).await,
            Step::ReleaseLease => self.release_lease(scene).await,
            Step::SetTarget(TargetKind::Auto) | Step::Promote(_, TargetKind::Auto) => {
                let note = "the lease was not renewed, and nobody reaches the store";
                self.say(scene, EventType::Warning, "FailoverStarted", note);
                Ok(())
            }
            Step::Promote(copy, TargetKind::Forced) => {
                let note = forced::told(&forced::record(scene.o, copy));
                self.say(scene, EventType::Warning, "FailoverForced", &note);
                Ok(())
            }
            Step::SetTarget(_) | Step::Promote(..) => Ok(()),
            Step::RecordEvidence(kind) => {
                let note = format!("{kind:?} against the holder's process");
                self.say(scene, EventType::Normal, "EvidenceRecorded", &note);
                Ok(())
            }
            Step::CreateFenceJob { node, boot_id } => self.create_fence_job(scene, node, boot_id).await,
            Step::NameRequest(node) => self.annotate(scene.store, &json!({ keys::FAILOVER: node })).await,
            Step::RefuseRequest(why) => self.refuse_request(scene, why).await,
            Step::HandOver(copy) => self.hand_over(scene, copy).await,
            Step::RefuseForce(why) => self.refuse_force(scene, why).await,
            Step::Replace(id) => self.replace(scene, id).await,
            Step::RefuseReplacement(why) => self.refuse_replacement(scene, why).await,
            Step::Pin(node) => self.pin(scene, node).await,
            Step::Adopt(step) => self.adopt(scene, *step).await,
            Step::RefuseAdoption(why) => self.refuse_adoption(scene, why).await,
            Step::AllowEviction(uid) => {
                self.set_eviction(scene, Some(&evictable::open(uid, Timestamp::now().as_second()))).await?;
                let note = format!("pod {uid} may be evicted: its store goes to another node");
                self.say(scene, EventType::Normal, "EvictionAllowed", &note);
                Ok(())
            }
            Step::EndEviction => {
                let in_vain = scene.o.eviction.as_ref().filter(|eviction| eviction.was_in_vain());
                let word = in_vain.map(|eviction| evictable::shut(&eviction.pod_uid));
                self.set_eviction(scene, word.as_deref()).await
            }
            Step::DeleteGracefully(uid) => self.delete_pod(scene, uid, None).await,
            Step::DeleteForced(uid) => self.delete_pod(scene, uid, Some(0)).await,
        }
    }

    /// Asks the holder's process; the mirror takes the lease when the holder has given it back.
    async fn hand_over(&self, scene: &Scene<'_>, copy: &str) -> anyhow::Result<()> {
        let pod = scene.world.pod(scene.store).ok_or_else(|| anyhow::anyhow!("the holder's pod is gone"))?;
        let epoch = scene.o.lease.as_ref().map_or(0, |lease| lease.record.epoch);
        self.lines.drain(pod, epoch, copy).await
    }

    fn leases(&self, store: &MailStore) -> Api<Lease> {
        Api::namespaced(self.ctx.client.clone(), &store.namespace().unwrap_or_default())
    }

    fn lease_seconds(scene: &Scene<'_>) -> u32 {
        u32::try_from(scene.o.store.lease_ms / 1000).unwrap_or(8)
    }

    async fn create_lease(&self, scene: &Scene<'_>) -> anyhow::Result<()> {
        let new = lease::build(scene.store, &lease::first(scene.store), Self::lease_seconds(scene));
        self.create(scene.store, &new).await
    }

    async fn create(&self, store: &MailStore, new: &Lease) -> anyhow::Result<()> {
        let api = self.leases(store);
        let params = PostParams { dry_run: false, field_manager: Some(FAILOVER_FIELD_MANAGER.into()) };
        match tokio::time::timeout(super::CALL_LIMIT, api.create(&params, new)).await? {
            Ok(_) => tracing::info!(store = store.name_any(), "the store's lease is made"),
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Makes the lease anew, or replaces one at an epoch below the volume's, from the replica's own account (A5).
    async fn restore_lease(&self, scene: &Scene<'_>) -> anyhow::Result<()> {
        let pods = REPLICAS.iter().filter_map(|letter| scene.world.pod_of(scene.store, *letter)?.uid());
        let described: Vec<_> = pods.filter_map(|uid| self.heard.described.get(&uid)).collect();
        // One that cannot be read says nothing of what it has seen.
        let old = scene.world.lease(scene.store).and_then(|lease| lease::record(lease).ok());
        let record = lease::restored(scene.store, old.as_ref(), &described, &scene.o.left_out)
            .ok_or_else(|| anyhow::anyhow!("not every replica of this store answers"))?;
        let new = lease::build(scene.store, &record, Self::lease_seconds(scene));
        match scene.world.lease(scene.store) {
            None => self.create(scene.store, &new).await?,
            Some(old) => {
                let mut next = (**old).clone();
                next.metadata.annotations = new.metadata.annotations;
                next.metadata.managed_fields = None;
                next.spec = new.spec;
                let params =
                    PostParams { dry_run: false, field_manager: Some(FAILOVER_FIELD_MANAGER.into()) };
                limited(self.leases(scene.store).replace(&scene.store.name_any(), &params, &next)).await?;
            }
        }
        self.annotate(scene.store, &json!({ keys::RESTORE_LEASE: Value::Null })).await?;
        let lost = old.map(|old| old.position).filter(|seen| *seen > record.position);
        let lost =
            lost.map(|seen| format!("; what was acknowledged up to {seen} is lost")).unwrap_or_default();
        let left_out = &scene.o.left_out;
        let without =
            if left_out.is_empty() { String::new() } else { format!("; without {}", left_out.join(", ")) };
        let note = format!("from the volume: epoch {}, end {}{lost}{without}", record.epoch, record.position);
        self.say(scene, EventType::Warning, "LeaseRestored", &note);
        Ok(())
    }

    /// Lets a Lease go that somebody deleted: it is made anew from its holder's account.
    async fn release_lease(&self, scene: &Scene<'_>) -> anyhow::Result<()> {
        let Some(old) = scene.world.lease(scene.store) else { return Ok(()) };
        drop_finalizer(&self.leases(scene.store), old).await
    }

    async fn create_fence_job(&self, scene: &Scene<'_>, node: &str, boot_id: &str) -> anyhow::Result<()> {
        let cluster =
            scene.world.cluster(scene.store).ok_or_else(|| anyhow::anyhow!("the MailCluster is gone"))?;
        let spec = cluster.spec.failover.fencing.job.as_ref();
        let spec = spec.ok_or_else(|| anyhow::anyhow!("no fence Job is configured any more"))?;
        // The node is gone, or has another boot by now: there is nothing to end (E5).
        let view = scene.o.node(node).filter(|n| n.boot_id == boot_id);
        let view = view.ok_or_else(|| anyhow::anyhow!("node {node} has no boot {boot_id} any more"))?;
        let job = fence::build(cluster, spec, &self.ctx.config, view, boot_id);
        let api: Api<Job> =
            Api::namespaced(self.ctx.client.clone(), &scene.store.namespace().unwrap_or_default());
        match tokio::time::timeout(FINAL_LIMIT, api.create(&PostParams::default(), &job)).await? {
            Ok(_) => {
                let note = format!(
                    "Job {} switches off node {node}, boot {boot_id}",
                    names::fence_job(node, boot_id)
                );
                self.say(scene, EventType::Warning, "FencingStarted", &note);
            }
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Pins the store, then applies its StatefulSet as pinned (K16).
    async fn pin(&self, scene: &Scene<'_>, node: &str) -> anyhow::Result<()> {
        let stores: Api<MailStore> = self.stores(scene.store);
        let patch = json!({
            "apiVersion": format!("{}/{}", mailcluster_api::GROUP, mailcluster_api::VERSION),
            "kind": "MailStore",
            "spec": { "pinnedNode": node },
        });
        let params = PatchParams::apply(FAILOVER_FIELD_MANAGER).force();
        let pinned = limited(stores.patch(&scene.store.name_any(), &params, &Patch::Apply(&patch))).await?;
        let cluster =
            scene.world.cluster(scene.store).ok_or_else(|| anyhow::anyhow!("the MailCluster is gone"))?;
        tokio::time::timeout(super::CALL_LIMIT, apply::stateful_set(&self.ctx, cluster, &pinned)).await??;
        self.say(scene, EventType::Normal, "Pinned", &format!("the store goes to node {node}"));
        Ok(())
    }

    /// Says whether the pod may be evicted, then makes its budget so; from then on the controller keeps it.
    async fn set_eviction(&self, scene: &Scene<'_>, word: Option<&str>) -> anyhow::Result<()> {
        let patch = json!({ "metadata": { "annotations": { keys::EVICTION: word } } });
        let stores = self.stores(scene.store);
        let params = PatchParams::default();
        let store = limited(stores.patch(&scene.store.name_any(), &params, &Patch::Merge(&patch))).await?;
        let cluster =
            scene.world.cluster(scene.store).ok_or_else(|| anyhow::anyhow!("the MailCluster is gone"))?;
        tokio::time::timeout(super::CALL_LIMIT, apply::budget(&self.ctx, cluster, &store)).await??;
        Ok(())
    }

    /// A person's request that cannot be done is not kept for a day when it can.
    async fn refuse_request(&self, scene: &Scene<'_>, why: &Blocked) -> anyhow::Result<()> {
        let note = report::message(why);
        self.annotate(scene.store, &json!({ keys::FAILOVER: Value::Null, keys::REFUSED: note })).await?;
        self.say(scene, EventType::Warning, "FailoverRequestRefused", &note);
        Ok(())
    }

    /// Deletes this very pod. What is asked of a Ready node's kubelet is remembered: its completion is evidence.
    async fn delete_pod(&self, scene: &Scene<'_>, uid: &str, grace: Option<u32>) -> anyhow::Result<()> {
        if grace.is_none() {
            self.annotate(scene.store, &json!({ keys::DELETING: uid })).await?;
        }
        let is_meant = |letter: &char| {
            scene.world.pod_of(scene.store, *letter).is_some_and(|pod| pod.uid().as_deref() == Some(uid))
        };
        let letter = REPLICAS.into_iter().find(is_meant).unwrap_or(names::FIRST_REPLICA);
        let name = names::StoreNames::new(scene.store.name_any()).pod(letter);
        let api: Api<Pod> =
            Api::namespaced(self.ctx.client.clone(), &scene.store.namespace().unwrap_or_default());
        let params = DeleteParams {
            grace_period_seconds: grace,
            preconditions: Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None }),
            ..DeleteParams::default()
        };
        match tokio::time::timeout(FINAL_LIMIT, api.delete(&name, &params)).await? {
            Ok(_) => {
                let how = if grace.is_some() { "with grace 0" } else { "gracefully" };
                self.say(scene, EventType::Normal, "PodDeleted", &format!("pod {name} ({uid}) {how}"));
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn stores(&self, store: &MailStore) -> Api<MailStore> {
        Api::namespaced(self.ctx.client.clone(), &store.namespace().unwrap_or_default())
    }

    /// Changes annotations of a MailStore.
    pub(super) async fn annotate(&self, store: &MailStore, annotations: &Value) -> anyhow::Result<()> {
        let patch = json!({ "metadata": { "annotations": annotations } });
        limited(self.stores(store).patch(&store.name_any(), &PatchParams::default(), &Patch::Merge(&patch)))
            .await?;
        Ok(())
    }

    /// Writes failover's part of the status, if it differs; only over the version that it was computed from.
    pub(super) async fn write_status(&self, store: &MailStore, old: &Part, new: &Part) -> anyhow::Result<()> {
        if old == new {
            return Ok(());
        }
        let patch = new.patch(store.metadata.resource_version.as_deref());
        let params = PatchParams::apply(FAILOVER_FIELD_MANAGER).force();
        limited(self.stores(store).patch_status(&store.name_any(), &params, &Patch::Apply(&patch))).await?;
        if old.phase != new.phase {
            tracing::info!(store = store.name_any(), from = ?old.phase, to = ?new.phase, "phase");
        }
        Ok(())
    }

    /// An event on the MailStore.
    pub(super) fn say(&self, scene: &Scene<'_>, kind: EventType, reason: &str, note: &str) {
        self.announce(scene.store.object_ref(&()), kind, reason, note);
    }

    /// An event. It is published beside the work, which does not wait for it.
    pub(super) fn announce(&self, about: ObjectReference, kind: EventType, reason: &str, note: &str) {
        tracing::info!(about = about.name, reason, note, "failover");
        let event = Event {
            type_: kind,
            reason: reason.into(),
            note: Some(note.into()).filter(|note: &String| !note.is_empty()),
            action: "Failover".into(),
            secondary: None,
        };
        let recorder = self.ctx.recorder.clone();
        tokio::spawn(async move {
            let published = recorder.publish(&event, &about);
            if let Ok(Err(error)) = tokio::time::timeout(super::CALL_LIMIT, published).await {
                tracing::warn!(%error, "an event could not be published");
            }
        });
    }
}

/// Removes our finalizer from a Lease that is being deleted.
pub(super) async fn drop_finalizer(api: &Api<Lease>, lease: &Lease) -> anyhow::Result<()> {
    let kept: Vec<&String> = lease.finalizers().iter().filter(|f| *f != FINALIZER).collect();
    let patch =
        json!({ "metadata": { "resourceVersion": lease.metadata.resource_version, "finalizers": kept } });
    cache::limited(api.patch(&lease.name_any(), &PatchParams::default(), &Patch::Merge(&patch))).await?;
    Ok(())
}
