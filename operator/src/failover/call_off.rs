//! A fence Job may wait for long before it switches anything off: for a place, for an image, for a management controller
//! that does not answer. When its node has come back meanwhile, it is called off.

use k8s_openapi::api::{batch::v1::Job, core::v1::Node};
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, Preconditions, PropagationPolicy},
    runtime::events::{Event, EventType},
};

use super::{
    CALL_LIMIT, annotations as keys,
    cache::{World, limited},
    fence::has_ended,
    mover::Mover,
    observe,
};

/// The Jobs that would switch off a machine that is well, or another boot than they may end.
#[must_use]
pub fn moot(world: &World) -> Vec<(Job, String)> {
    let node = |job: &Job| world.nodes.get(None, job.annotations().get(keys::FENCE_NODE)?).cloned();
    let is = |job: &Job| node(job).filter(|node| is_moot(job, node)).map(|node| node.name_any());
    world.jobs.iter().filter_map(|job| Some(((**job).clone(), is(job)?))).collect()
}

/// Of a node whose object is gone nothing is known: its machine may run, and its end is what the Job is to prove.
fn is_moot(job: &Job, node: &Node) -> bool {
    let seen = observe::node_view(node, 0);
    let boot = job.annotations().get(keys::FENCE_BOOT);
    let goes = job.metadata.deletion_timestamp.is_some();
    !goes && !has_ended(job) && boot.is_some() && (seen.ready || boot != Some(&seen.boot_id))
}

impl Mover {
    /// Deletes those that are still so when their nodes are read anew.
    pub(super) async fn call_off(&self, jobs: Vec<(Job, String)>) {
        for (job, node) in jobs {
            if let Err(error) = self.call_one_off(&job, &node).await {
                tracing::warn!(%error, job = job.name_any(), "a fence Job could not be called off yet");
            }
        }
    }

    async fn call_one_off(&self, job: &Job, node: &str) -> anyhow::Result<()> {
        let nodes: Api<Node> = Api::all(self.ctx.client.clone());
        let live = limited(nodes.get_opt(node)).await?;
        if !self.ctx.leads() || !live.is_some_and(|node| is_moot(job, &node)) {
            return Ok(());
        }
        let jobs: Api<Job> = Api::namespaced(self.ctx.client.clone(), &job.namespace().unwrap_or_default());
        let params = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Background),
            // The very version that had no verdict.
            preconditions: Some(Preconditions { uid: job.uid(), resource_version: job.resource_version() }),
            ..DeleteParams::default()
        };
        match tokio::time::timeout(CALL_LIMIT, jobs.delete(&job.name_any(), &params)).await? {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let note = format!("node {node} is back: Job {} switches nothing off any more", job.name_any());
        tracing::info!(node, job = job.name_any(), "a fence Job is called off");
        let event = Event {
            type_: EventType::Normal,
            reason: "FencingCalledOff".into(),
            note: Some(note),
            action: "Failover".into(),
            secondary: None,
        };
        // It is done; that it cannot be told is no reason to do it again.
        let told =
            tokio::time::timeout(CALL_LIMIT, self.ctx.recorder.publish(&event, &job.object_ref(&()))).await;
        if let Ok(Err(error)) = told {
            tracing::warn!(%error, "an event could not be published");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::failover::observe::tests::{frozen, unready};

    fn job(annotations: &Value, status: &Value) -> Job {
        serde_json::from_value(json!({
            "metadata": {"name": "fence-n1", "namespace": "mail", "uid": "j", "annotations": annotations},
            "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn a_job_is_called_off_when_its_node_is_back_and_only_then() {
        let about = |node: &str, boot: &str| json!({keys::FENCE_NODE: node, keys::FENCE_BOOT: boot});
        let ended = |kind: &str| json!({"conditions": [{"type": kind, "status": "True"}]});
        let (runs, own) = (json!({"active": 1}), about("n1", "boot-n1"));
        for (why, is_ready, annotations, status, off) in [
            ("it is still gone", false, &own, &runs, false),
            ("it is Ready", true, &own, &runs, true),
            ("it comes up under another boot", false, &about("n1", "boot-0"), &runs, true),
            ("it is Ready under another boot", true, &about("n1", "boot-0"), &runs, true),
            ("nothing is known of it", true, &about("n9", "boot-n9"), &runs, false),
            ("it was read off", true, &own, &ended("Complete"), false),
            ("it failed, which a person looks at", true, &own, &ended("Failed"), false),
            ("it is no fence Job", true, &json!({}), &runs, false),
        ] {
            let mut world = frozen();
            if !is_ready {
                unready(&mut world, "n1");
            }
            world.jobs.put(Arc::new(job(annotations, status)));
            let found: Vec<String> = moot(&world).into_iter().map(|(_, node)| node).collect();
            assert_eq!(found == ["n1"], off, "{why}: {found:?}");
        }
    }
}
