//! What all parts share: the API, where the stores stand, and who is dead.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kube::{
    Client, ResourceExt,
    runtime::reflector::{ObjectRef, Store},
};
use mailcluster_api::MailStore;
use mailcluster_failover::Position;
use tokio::sync::watch;

use crate::plan::{self, Size};

/// The MailCluster.
pub const CLUSTER: &str = "big";

/// What the copies of a store have in common: a log that all have, as nobody writes mail.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Line {
    /// The end of the log.
    pub end: Position,
    /// The version of the in-sync set that the log names.
    pub in_sync_version: u64,
    /// That set.
    pub in_sync: Vec<String>,
    /// The pod that holds the store.
    pub holder: Option<String>,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Site {
    /// The API, as its administrator.
    pub client: Client,
    /// Where the MailCluster is.
    pub namespace: String,
    /// How large it is.
    pub size: Size,
    /// The MailStores, kept up by a watch.
    pub stores: Store<MailStore>,
    lines: Arc<Mutex<BTreeMap<String, Line>>>,
    dead: watch::Sender<bool>,
}

impl Site {
    /// Nobody is dead, nothing was written.
    pub fn new(client: Client, namespace: String, size: Size, stores: Store<MailStore>) -> Self {
        Self { client, namespace, size, stores, lines: Arc::default(), dead: watch::Sender::new(false) }
    }

    fn lines(&self) -> MutexGuard<'_, BTreeMap<String, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a store stands.
    pub fn line(&self, store: &str) -> Line {
        self.lines().get(store).cloned().unwrap_or_default()
    }

    /// Changes that, and answers how it is then.
    pub fn change(&self, store: &str, change: impl FnOnce(&mut Line)) -> Line {
        let mut lines = self.lines();
        let line = lines.entry(store.to_owned()).or_default();
        change(line);
        line.clone()
    }

    /// The store, as the watch shows it.
    pub fn store(&self, name: &str) -> Option<Arc<MailStore>> {
        self.stores.get(&ObjectRef::new(name).within(&self.namespace))
    }

    /// From now on the nodes that are to die are dead.
    pub fn die(&self) {
        self.dead.send_replace(true);
    }

    /// Is this node dead now?
    pub fn is_dead(&self, node: usize) -> bool {
        *self.dead.borrow() && self.size.dies(node)
    }

    /// Resolves when this node is dead.
    pub async fn until_dead(&self, node: usize) {
        let mut dead = self.dead.subscribe();
        if !self.size.dies(node) || dead.wait_for(|dead| *dead).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Is whoever has this address alive?
    pub fn answers(&self, address: IpAddr) -> bool {
        plan::node_at(address).is_some_and(|node| !self.is_dead(node))
    }

    /// The ids of the copies of a store that are on dead nodes.
    pub fn dead_copies(&self, store: &MailStore) -> BTreeSet<String> {
        let number = |copy| plan::copy_of(CLUSTER, &format!("{}-{copy}-0", store.name_any()));
        let ids = store.spec.replicas.iter().map(|replica| replica.id.clone());
        let on = ['a', 'b', 'c'].into_iter().filter_map(|letter| {
            let (store, copy) = number(letter)?;
            Some(self.size.node_of_copy(store, copy))
        });
        ids.zip(on).filter(|(_, node)| self.is_dead(*node)).map(|(id, _)| id).collect()
    }
}
