//! Where each store is served, as far as this pod knows.

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;
use mailcluster_types::{Route, StoreName};
use tokio::sync::watch;

/// The routes. Cheap to clone; all clones are one table. Only a higher epoch replaces a route.
#[derive(Clone)]
pub struct RouteTable(Arc<Inner>);

struct Inner {
    routes: ArcSwap<BTreeMap<StoreName, Route>>,
    changes: watch::Sender<u64>,
}

impl Default for RouteTable {
    fn default() -> Self {
        Self(Arc::new(Inner { routes: ArcSwap::default(), changes: watch::Sender::new(0) }))
    }
}

impl RouteTable {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a route if it is of a higher epoch than the one held. Answers whether it was taken.
    pub fn set(&self, route: Route) -> bool {
        let mut taken = false;
        self.0.changes.send_if_modified(|version| {
            // Inside the channel's lock: writers come one after the other.
            let old = self.0.routes.load();
            taken = old.get(&route.store).is_none_or(|held| held.epoch < route.epoch);
            if taken {
                let mut new = (**old).clone();
                new.insert(route.store.clone(), route);
                self.0.routes.store(Arc::new(new));
                *version += 1;
            }
            taken
        });
        taken
    }

    /// Forgets a store that is no more (its MailStore was deleted).
    pub fn remove(&self, store: &StoreName) {
        self.0.changes.send_if_modified(|version| {
            let old = self.0.routes.load();
            let there = old.contains_key(store);
            if there {
                let mut new = (**old).clone();
                new.remove(store);
                self.0.routes.store(Arc::new(new));
                *version += 1;
            }
            there
        });
    }

    /// The route to a store.
    #[must_use]
    pub fn get(&self, store: &StoreName) -> Option<Route> {
        self.0.routes.load().get(store).cloned()
    }

    /// All routes by store name.
    #[must_use]
    pub fn all(&self) -> Vec<Route> {
        self.0.routes.load().values().cloned().collect()
    }

    /// Changes whenever a route does (a counter).
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_higher_epochs_replace() {
        let table = RouteTable::new();
        let route =
            |epoch, last: u8| Route { store: "m-0".into(), epoch, endpoint: ([10, 0, 0, last], 0).into() };
        let mut changes = table.watch();
        assert!(table.set(route(5, 1)));
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        assert!(!table.set(route(5, 2)) && !table.set(route(4, 3)));
        assert!(!changes.has_changed().unwrap());
        assert!(table.set(route(6, 4)));
        assert_eq!(table.get(&"m-0".into()), Some(route(6, 4)));
        table.remove(&"m-0".into());
        assert_eq!(table.all(), []);
    }
}
