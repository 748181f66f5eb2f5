//! The writes of an adoption: each a single one, over the very object that was read, and safe to repeat.

use k8s_openapi::api::core::v1::PersistentVolume;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
    runtime::events::EventType,
};
use mailcluster_api::adoption::Request;
use mailcluster_failover::AdoptionStep;
use serde_json::{Value, json};

use super::{PROTECTION, hostname, made_anew, recorded, retains};
use crate::failover::{
    act::{FINAL_LIMIT, Scene},
    annotations as keys,
    mover::Mover,
};

impl Mover {
    /// Does one step about the volume.
    ///
    /// # Errors
    /// When the API refuses or does not answer; the step follows again from what is seen then.
    pub(in crate::failover) async fn adopt(
        &self,
        scene: &Scene<'_>,
        step: AdoptionStep,
    ) -> anyhow::Result<()> {
        let text = scene.store.annotations().get(keys::ADOPT);
        let text = text.ok_or_else(|| anyhow::anyhow!("the adoption is asked for no more"))?;
        let asked: Request = serde_json::from_str(text)?;
        let old = scene.world.volumes.get(None, &asked.pv).filter(|v| v.uid().as_ref() == Some(&asked.uid));
        match (step, old) {
            (AdoptionStep::Create, _) => self.create_volume(scene, &asked).await,
            (_, None) => anyhow::bail!("PersistentVolume {} is gone", asked.pv),
            (AdoptionStep::Record, Some(old)) => self.record_volume(scene, old, &asked).await,
            (AdoptionStep::Delete, Some(old)) => self.delete_volume(scene, old).await,
            (AdoptionStep::Release, Some(old)) => self.release_volume(scene, old).await,
        }
    }

    fn volumes(&self) -> Api<PersistentVolume> {
        Api::all(self.ctx.client.clone())
    }

    async fn record_volume(
        &self,
        scene: &Scene<'_>,
        old: &PersistentVolume,
        asked: &Request,
    ) -> anyhow::Result<()> {
        let node = scene.world.nodes.get(None, &asked.to);
        let node = node.ok_or_else(|| anyhow::anyhow!("node {} is gone", asked.to))?;
        let record = serde_json::to_string(&made_anew(old, &hostname(node)))?;
        self.annotate(scene.store, &json!({ keys::ADOPTING: record })).await?;
        let note = format!(
            "no pod has PersistentVolume {} any more: it is made anew for node {}",
            asked.pv, asked.to
        );
        self.say(scene, EventType::Normal, "AdoptionBegun", &note);
        Ok(())
    }

    /// Deletes this very object. Its disk is left alone: the policy is Retain in the version that is deleted.
    async fn delete_volume(&self, scene: &Scene<'_>, old: &PersistentVolume) -> anyhow::Result<()> {
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid: old.uid(), resource_version: old.resource_version() }),
            ..DeleteParams::default()
        };
        let name = old.name_any();
        match tokio::time::timeout(FINAL_LIMIT, self.volumes().delete(&name, &params)).await? {
            Ok(_) => {
                let note = format!("PersistentVolume {name} (its object, not the disk)");
                self.say(scene, EventType::Normal, "VolumeDeleted", &note);
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Lets the deleted object go: Kubernetes keeps it while its claim is bound, which it is to be again.
    async fn release_volume(&self, scene: &Scene<'_>, old: &PersistentVolume) -> anyhow::Result<()> {
        anyhow::ensure!(retains(old), "the reclaim policy of {} is not Retain", old.name_any());
        let kept: Vec<&String> = old.finalizers().iter().filter(|f| *f != PROTECTION).collect();
        let patch = json!({ "metadata": {
            "uid": old.uid(), "resourceVersion": old.resource_version(), "finalizers": kept,
        } });
        let name = old.name_any();
        let volumes = self.volumes();
        let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
        let patched = volumes.patch(&name, &params, &patch);
        match tokio::time::timeout(FINAL_LIMIT, patched).await? {
            Ok(_) => {
                let note = format!("PersistentVolume {name} is no longer kept for its claim");
                self.say(scene, EventType::Normal, "VolumeReleased", &note);
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn create_volume(&self, scene: &Scene<'_>, asked: &Request) -> anyhow::Result<()> {
        let new = recorded(scene.store, asked);
        let new = new.ok_or_else(|| anyhow::anyhow!("what the volume shall be is not written down"))?;
        let volumes = self.volumes();
        match tokio::time::timeout(FINAL_LIMIT, volumes.create(&PostParams::default(), &new)).await? {
            Ok(_) => {
                let note = format!("PersistentVolume {}, reached from node {}", asked.pv, asked.to);
                self.say(scene, EventType::Normal, "VolumeMadeAnew", &note);
                Ok(())
            }
            // It is looked at before anything else is done.
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// A person's request that cannot be done. Nothing of the volume was changed for it, or nothing that is not there.
    pub(in crate::failover) async fn refuse_adoption(
        &self,
        scene: &Scene<'_>,
        why: &str,
    ) -> anyhow::Result<()> {
        let changes = json!({ keys::ADOPT: Value::Null, keys::ADOPTING: Value::Null, keys::REFUSED: why });
        self.annotate(scene.store, &changes).await?;
        self.say(scene, EventType::Warning, "AdoptionRefused", why);
        Ok(())
    }
}
