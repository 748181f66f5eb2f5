//! Routes as the MailStores of a namespace show them, for frontends and backends. Readers ignore a lower epoch than
//! they have seen (schedule A3); whoever keeps the table sees to that.

use std::{collections::BTreeMap, net::SocketAddr};

use futures::{Stream, StreamExt, stream};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    runtime::{WatchStreamExt, watcher},
};
use mailcluster_api::{MailStore, retry::Retry};
use mailcluster_types::{Route, StoreName};
use serde_json::json;

/// What has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteEvent {
    /// The store is served here, at this epoch.
    Set(Route),
    /// The store exists, and is served nowhere yet.
    Unserved(StoreName),
    /// The copies of a mirrored store by their ids, and where each can be fed.
    Mirrors(StoreName, BTreeMap<String, Option<SocketAddr>>),
    /// Every store that exists has been told of.
    Synced,
    /// The MailStore is no more.
    Gone(StoreName),
}

/// Watches the MailStores of one cluster for ever. Errors are retried with a back-off inside: the table keeps what it
/// knew. Half-open connections are noticed within 35 s.
pub fn watch_routes(
    client: Client,
    namespace: &str,
    cluster: &str,
) -> impl Stream<Item = RouteEvent> + use<> {
    let stores: Api<MailStore> = Api::namespaced(client, namespace);
    let config = watcher::Config::default().timeout(30).fields(&format!("spec.cluster={cluster}"));
    watcher(stores, config).backoff(Retry::default()).flat_map(|event| {
        stream::iter(match event {
            Ok(watcher::Event::Apply(store) | watcher::Event::InitApply(store)) => told(&store),
            Ok(watcher::Event::Delete(store)) => {
                store.metadata.name.map(|name| RouteEvent::Gone(StoreName::new(name))).into_iter().collect()
            }
            Ok(watcher::Event::Init) => Vec::new(),
            Ok(watcher::Event::InitDone) => vec![RouteEvent::Synced],
            Err(error) => {
                tracing::warn!(%error, "routes cannot be watched; going on with those known");
                Vec::new()
            }
        })
    })
}

/// What a MailStore tells.
fn told(store: &MailStore) -> Vec<RouteEvent> {
    let Some(name) = store.metadata.name.as_deref().map(StoreName::from) else { return Vec::new() };
    let mut events = vec![route(store).map_or_else(|| RouteEvent::Unserved(name.clone()), RouteEvent::Set)];
    if store.spec.is_mirrored() {
        // Those that the spec names: another may have taken the place of one whose address still stands in the status.
        let mirrors = || store.status.iter().flat_map(|status| &status.mirrors);
        let at = |id: &str| mirrors().find(|mirror| mirror.id == id)?.endpoint.parse().ok();
        let copies = store.spec.replicas.iter().map(|replica| (replica.id.clone(), at(&replica.id)));
        events.push(RouteEvent::Mirrors(name, copies.collect()));
    }
    events
}

/// Says in the MailStore where this copy can be fed. Each copy's entry has a field manager of its own.
///
/// # Errors
/// When the API server refuses or does not answer.
pub async fn publish_mirror(
    client: Client,
    namespace: &str,
    store: &str,
    (id, at): (&str, SocketAddr),
) -> kube::Result<()> {
    let stores: Api<MailStore> = Api::namespaced(client, namespace);
    let patch = json!({
        "apiVersion": format!("{}/{}", mailcluster_api::GROUP, mailcluster_api::VERSION),
        "kind": "MailStore",
        "status": { "mirrors": [{ "id": id, "endpoint": at.to_string() }] },
    });
    let manager = format!("{}-{id}", mailcluster_api::NODE_FIELD_MANAGER);
    let params = PatchParams::apply(&manager).force();
    stores.patch_status(store, &params, &Patch::Apply(&patch)).await.map(drop)
}

fn route(store: &MailStore) -> Option<Route> {
    let serving = store.status.as_ref()?.serving.as_ref()?;
    let name = store.metadata.name.as_deref()?;
    let endpoint: SocketAddr = serving.endpoint.parse().ok()?;
    Some(Route { store: StoreName::from(name), epoch: u64::try_from(serving.epoch).ok()?, endpoint })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_read_from_the_status_and_nonsense_is_none() {
        let store = |endpoint: &str| -> MailStore {
            serde_json::from_value(serde_json::json!({
                "apiVersion": "mailcluster.io/v1alpha1", "kind": "MailStore",
                "metadata": {"name": "demo-0"},
                "spec": {"kind": "Mail", "cluster": "demo", "replicas": []},
                "status": {"serving": {"epoch": 7, "replica": "aa", "podUID": "p", "endpoint": endpoint,
                    "since": "2026-01-01T00:00:00Z"}},
            }))
            .unwrap()
        };
        let found = route(&store("10.0.0.7:11443")).unwrap();
        assert_eq!((found.epoch, found.store.as_str(), found.endpoint.port()), (7, "demo-0", 11443));
        assert_eq!(route(&store("demo-0:11443")), None);
    }

    #[test]
    fn only_copies_that_the_spec_names_are_told_of() {
        let store: MailStore = serde_json::from_value(serde_json::json!({
            "apiVersion": "mailcluster.io/v1alpha1", "kind": "MailStore",
            "metadata": {"name": "demo-0"},
            "spec": {"kind": "Mail", "cluster": "demo",
                "replicas": [{"id": "aa", "pvc": "a"}, {"id": "cc", "pvc": "c"}]},
            "status": {"mirrors": [{"id": "aa", "endpoint": "10.0.0.7:11443"},
                {"id": "bb", "endpoint": "10.0.0.8:11443"}]},
        }))
        .unwrap();
        let copies = [("aa".to_owned(), "10.0.0.7:11443".parse().ok()), ("cc".to_owned(), None)].into();
        assert_eq!(told(&store)[1], RouteEvent::Mirrors("demo-0".into(), copies));
    }
}
