//! Routes as the MailStores of a namespace show them, for frontends and backends. Readers ignore a lower epoch than
//! they have seen (schedule A3); whoever keeps the table sees to that.

use std::net::SocketAddr;

use futures::{Stream, StreamExt, future};
use kube::{
    Api, Client,
    runtime::{WatchStreamExt, watcher},
};
use mailcluster_api::MailStore;
use mailcluster_types::{Route, StoreName};

/// What has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteEvent {
    /// The store is served here, at this epoch.
    Set(Route),
    /// The store exists, and is served nowhere yet.
    Unserved(StoreName),
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
    watcher(stores, config).default_backoff().filter_map(|event| {
        future::ready(match event {
            Ok(watcher::Event::Apply(store) | watcher::Event::InitApply(store)) => {
                let unserved = || store.metadata.name.as_deref().map(|n| RouteEvent::Unserved(n.into()));
                route(&store).map(RouteEvent::Set).or_else(unserved)
            }
            Ok(watcher::Event::Delete(store)) => {
                store.metadata.name.map(|name| RouteEvent::Gone(StoreName::new(name)))
            }
            Ok(watcher::Event::Init) => None,
            Ok(watcher::Event::InitDone) => Some(RouteEvent::Synced),
            Err(error) => {
                tracing::warn!(%error, "routes cannot be watched; going on with those known");
                None
            }
        })
    })
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
}
