//! The operator against a real API server: children appear, are repaired, and go; volumes are never replaced; rights
//! are as narrow as they are said to be; what is refused is refused with its reason.
//!
//! `MAILCLUSTER_TEST_KUBECONFIG` names the API server; a controller manager must run beside it, nodes need not. Without
//! the variable the test says so and does nothing. Further variables:
//!
//! - `MAILCLUSTER_TEST_INSTALLED=1`: the chart is installed there, and its operator serves; nothing is started here.
//! - `MAILCLUSTER_TEST_STORAGE_CLASS`: a class with two free volumes of at least 100Mi; then the stores really serve,
//!   and what needs that (a deleted Lease, epochs) is tried too.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step is a failed test")]

mod repairs;
mod rights;
mod schema;
mod volumes;
mod world;

use std::{path::PathBuf, time::Duration};

use kube::api::{DeleteParams, ListParams};
use mailcluster_api::MailStore;

use world::{World, until};

/// The one test here.
const TEST: &str = "children_are_made_repaired_and_taken_down";
/// The cluster that most of this is tried on.
const LIVE: &str = "live";

#[tokio::test]
async fn children_are_made_repaired_and_taken_down() {
    let Some(kubeconfig) = std::env::var_os("MAILCLUSTER_TEST_KUBECONFIG").map(PathBuf::from) else {
        println!("left out {TEST}: MAILCLUSTER_TEST_KUBECONFIG names no API server");
        return;
    };
    let world = World::new(kubeconfig).await;
    let _operator = world.operator().await;
    if !world.serves() {
        world.make_volume(LIVE, 0).await;
        world.make_volume(LIVE, 1).await;
    }
    world.create_cluster(LIVE).await;
    let id = until("the cluster has an id", || async {
        world.clusters().get(LIVE).await.unwrap().status.and_then(|s| s.cluster_id)
    })
    .await;
    until("the stores have claims", || async {
        let stores = world.stores().list(&ListParams::default()).await.unwrap().items;
        let claimed = |s: &MailStore| s.status.as_ref().is_some_and(|s| !s.claimed.is_empty());
        (stores.len() == 2 && stores.iter().all(claimed)).then_some(())
    })
    .await;
    world.until_served(LIVE).await;
    repairs::children(&world).await;
    repairs::token_reviews(&world).await;
    repairs::stores(&world).await;
    rights::of_roles(&world).await;
    rights::asked_one_by_one(&world).await;
    schema::refusals(&world).await;
    schema::columns_and_names(&world).await;
    schema::scale(&world).await;
    volumes::missing(&world).await;
    volumes::never_bound(&world).await;
    volumes::comes_back(&world, &id).await;
    at_rest(&world).await;
    world.delete_cluster(LIVE).await;
    world.remove().await;
}

/// At rest nothing is written: two looks, far enough apart for several reconciliations, see the same count. The
/// installed operator's writes are counted in the API server's audit log, elsewhere.
async fn at_rest(world: &World) {
    if world.installed {
        return;
    }
    until("the operator comes to rest", || async {
        let before = world.writes().await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        (world.writes().await == before).then_some(())
    })
    .await;
}

/// Deletes and waits until it is gone.
async fn delete<K>(api: &kube::Api<K>, name: &str)
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    api.delete(name, &DeleteParams::default()).await.unwrap();
    until(&format!("{name} is gone"), || async { api.get_opt(name).await.unwrap().is_none().then_some(()) })
        .await;
}
