//! A new copy takes the place of one that is lost: under an id and on a claim of its own. The controller makes the claim
//! and the StatefulSet that the MailStore then names; what the old copy had stays where it is.

use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
    runtime::events::EventType,
};
use mailcluster_api::{
    FAILOVER_FIELD_MANAGER, MailStore,
    mailstore::{REPLACE_REFUSED, Replica},
    names::StoreNames,
};
use serde_json::{Value, json};

use super::{act::Scene, annotations as keys, cache::limited, mover::Mover};
use crate::pki::random_hex;

impl Mover {
    /// Writes the new copy into the MailStore, over the very version that was read.
    pub(super) async fn replace(&self, scene: &Scene<'_>, old: &str) -> anyhow::Result<()> {
        let store = scene.store;
        let id = random_hex()?;
        let stores: Api<MailStore> =
            Api::namespaced(self.ctx.client.clone(), &store.namespace().unwrap_or_default());
        let params =
            PatchParams { field_manager: Some(FAILOVER_FIELD_MANAGER.into()), ..PatchParams::default() };
        let patch = Patch::Merge(change(store, old, &id));
        let changed = limited(stores.patch(&store.name_any(), &params, &patch)).await?;
        let forgotten = Patch::Merge(forgotten(&changed));
        limited(stores.patch_status(&store.name_any(), &params, &forgotten)).await?;
        let note = format!("copy {id} takes the place of {old}, whose volume is kept");
        self.say(scene, EventType::Normal, "ReplicaReplaced", &note);
        Ok(())
    }

    /// As with other requests: one that cannot be done is not kept.
    pub(super) async fn refuse_replacement(&self, scene: &Scene<'_>, why: &str) -> anyhow::Result<()> {
        self.annotate(scene.store, &json!({ keys::REPLACE: Value::Null, REPLACE_REFUSED: why })).await?;
        self.say(scene, EventType::Warning, "ReplacementRefused", why);
        Ok(())
    }
}

/// The MailStore with `new` in the place of `old`; nothing is changed when it was written since it was read.
fn change(store: &MailStore, old: &str, new: &str) -> Value {
    let replicas: Vec<Replica> = store
        .spec
        .replicas
        .iter()
        .map(|replica| match replica.id == old {
            true => Replica { id: new.to_owned(), pvc: StoreNames::new(store.name_any()).claim(new) },
            false => replica.clone(),
        })
        .collect();
    json!({
        "metadata": {
            "resourceVersion": store.metadata.resource_version,
            "annotations": { keys::REPLACE: Value::Null },
        },
        "spec": { "replicas": replicas },
    })
}

/// Its status without the addresses of copies that it has no more: there is room for few.
fn forgotten(store: &MailStore) -> Value {
    let is_named = |id: &String| store.spec.replicas.iter().any(|replica| replica.id == *id);
    let all = store.status.iter().flat_map(|status| &status.mirrors);
    json!({
        "metadata": { "resourceVersion": store.metadata.resource_version },
        "status": { "mirrors": all.filter(|mirror| is_named(&mirror.id)).collect::<Vec<_>>() },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_copies_that_are_no_more_are_forgotten() {
        let mirror = |id: &str| json!({"id": id, "endpoint": "10.0.0.1:11443"});
        let store: MailStore = serde_json::from_value(json!({
            "apiVersion": "mailcluster.io/v1alpha1", "kind": "MailStore",
            "metadata": {"name": "demo-0", "resourceVersion": "7"},
            "spec": {"kind": "Mail", "cluster": "demo", "replicas": [
                {"id": "a", "pvc": "pa"}, {"id": "c", "pvc": "pc"}]},
            "status": {"mirrors": [mirror("a"), mirror("b")]},
        }))
        .unwrap();
        assert_eq!(forgotten(&store)["status"]["mirrors"], json!([mirror("a")]));
    }

    #[test]
    fn the_new_copy_has_the_old_ones_place_and_a_claim_of_its_own() {
        let store: MailStore = serde_json::from_value(json!({
            "apiVersion": "mailcluster.io/v1alpha1", "kind": "MailStore",
            "metadata": {"name": "demo-0", "resourceVersion": "7"},
            "spec": {"kind": "Mail", "cluster": "demo", "replicas": [
                {"id": "a".repeat(32), "pvc": "pa"}, {"id": "b".repeat(32), "pvc": "pb"}]},
        }))
        .unwrap();
        let (old, new) = ("b".repeat(32), "c".repeat(32));
        let patch = change(&store, &old, &new);
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
        let claim = StoreNames::new("demo-0").claim(&new);
        assert_eq!(
            patch["spec"]["replicas"],
            json!([{"id": "a".repeat(32), "pvc": "pa"}, {"id": new, "pvc": claim}])
        );
    }
}
