//! Volumes are never replaced, and bring everything back.

use kube::{
    Api,
    api::{DeleteParams, ListParams},
};
use mailcluster_api::condition;

use crate::world::{World, until};

/// A volume that is gone with its claim is reported and nothing is made in its place.
pub async fn missing(world: &World) {
    let volumes = [world.make_volume("lost", 0).await, world.make_volume("lost", 1).await];
    world.create_cluster("lost").await;
    let claims: Api<k8s_openapi::api::core::v1::PersistentVolumeClaim> =
        Api::namespaced(world.client.clone(), &world.namespace);
    let (claim, volume) = until("the store's claim is bound", || async {
        let store = world.stores().get_opt("lost-0").await.unwrap()?;
        let name = store.spec.replicas[0].pvc.clone();
        let claim = claims.get_opt(&name).await.unwrap()?;
        let bound = claim.status?.phase.as_deref() == Some("Bound");
        // Before the operator has seen that, nothing can be missed.
        let noted = store.status?.claimed.contains(&name);
        Some((name, claim.spec?.volume_name?)).filter(|_| bound && noted)
    })
    .await;
    assert!(volumes.contains(&volume));
    world.volumes().delete(&volume, &DeleteParams::default()).await.unwrap();
    claims.delete(&claim, &DeleteParams::default()).await.unwrap();
    let pods = world.dynamic("", "Pod");
    let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    until("the claim and its volume are gone", || async {
        // The claim is held for as long as a pod uses it.
        drop(pods.delete("lost-0-a-0", &at_once).await);
        let gone = claims.get_opt(&claim).await.unwrap().is_none();
        (gone && world.volumes().get_opt(&volume).await.unwrap().is_none()).then_some(())
    })
    .await;
    until("VolumeMissing is told", || async {
        let status = world.stores().get("lost-0").await.unwrap().status?;
        condition::is_true(&status.conditions, condition::VOLUME_MISSING).then_some(())
    })
    .await;
    assert!(claims.get_opt(&claim).await.unwrap().is_none(), "nothing is made in its place");
    world.delete_cluster("lost").await;
}

/// Deletion keeps the claims, and the same cluster comes back with the same ids.
pub async fn comes_back(world: &World, id: &str) {
    let claims = world.dynamic("", "PersistentVolumeClaim");
    let before = world.stores().get("live-directory").await.unwrap();
    let directory = before.spec.replicas[0].clone();
    world.delete_cluster("live").await;
    until("its stores are gone", || async {
        world.stores().list(&ListParams::default()).await.unwrap().items.is_empty().then_some(())
    })
    .await;
    assert!(claims.get_opt(&directory.pvc).await.unwrap().is_some(), "volumes are kept");
    world.create_cluster("live").await;
    let back =
        until("the directory is back", || async { world.stores().get_opt("live-directory").await.unwrap() })
            .await;
    assert_eq!(back.spec.replicas[0], directory);
    let status = world.clusters().get("live").await.unwrap().status.unwrap();
    assert_eq!(status.cluster_id.as_deref(), Some(id));
    world.until_served("live").await;
    if world.serves() {
        let epoch = |s: &mailcluster_api::MailStore| s.status.as_ref().and_then(|s| s.epoch);
        let now = world.stores().get("live-directory").await.unwrap();
        assert!(epoch(&now) >= epoch(&before), "the epoch never falls");
    }
}

/// Claims that were never bound, as of a storage class that does not exist, go with their cluster.
pub async fn never_bound(world: &World) {
    world.create_cluster("typo").await;
    let claims: Api<k8s_openapi::api::core::v1::PersistentVolumeClaim> =
        Api::namespaced(world.client.clone(), &world.namespace);
    let ours = ListParams::default().labels("mailcluster.io/cluster=typo");
    let count = || async { claims.list(&ours).await.unwrap().items.len() };
    until("two claims wait for volumes", || async { (count().await == 2).then_some(()) }).await;
    until("it is told what the stores wait for", || async {
        let status = world.clusters().get("typo").await.unwrap().status?;
        let told = status.conditions.iter().find(|c| c.type_ == condition::PROGRESSING)?;
        told.message.contains("waits for a volume").then_some(())
    })
    .await;
    world.delete_cluster("typo").await;
    until("its claims are gone", || async { (count().await == 0).then_some(()) }).await;
}
