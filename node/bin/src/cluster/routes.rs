//! The routes of the cluster, followed in the Kubernetes API: mail stores in one table, the directory in another, so
//! that nothing is ever handed off to the directory.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::StreamExt;
use mailcluster_arbiter::{RouteEvent, watch_routes};
use mailcluster_net::remote::RouteTable;
use mailcluster_queue::QueueHandle;
use mailcluster_types::{StoreName, Unavailable};
use tokio::sync::watch;

use super::pod::Pod;

/// The copies of a store by their ids, and where each can be fed, as far as it has said so.
pub type Copies = BTreeMap<String, Option<SocketAddr>>;

/// Where everything is.
#[derive(Clone)]
pub struct Routes {
    /// Mail stores.
    pub mail: RouteTable,
    /// The directory alone.
    pub directory: RouteTable,
    /// The directory's name.
    pub directory_name: StoreName,
    /// Where the copies of mirrored stores can be fed.
    mirrors: watch::Sender<BTreeMap<StoreName, Copies>>,
    /// Mail stores that exist, served or not.
    existing: Arc<Mutex<(BTreeSet<StoreName>, Heard)>>,
}

/// Has every store been told of?
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Heard {
    #[default]
    Part,
    All,
}

impl Routes {
    /// Follows the MailStores for ever; queues that wait for a store hear of its new route.
    pub fn follow(pod: &Pod, queue: Option<QueueHandle>) -> Self {
        let name = StoreName::from(pod.config.directory.as_str());
        let routes = Self {
            mail: RouteTable::new(),
            directory: RouteTable::new(),
            directory_name: name,
            mirrors: watch::Sender::new(BTreeMap::new()),
            existing: Arc::default(),
        };
        let (followed, events) =
            (routes.clone(), watch_routes(pod.client.clone(), &pod.config.namespace, &pod.config.cluster));
        tokio::spawn(async move {
            let mut events = std::pin::pin!(events);
            while let Some(event) = events.next().await {
                followed.take(event, queue.as_ref());
            }
        });
        routes
    }

    /// Where the copies of mirrored stores can be fed, as it changes.
    pub fn mirrors(&self) -> watch::Receiver<BTreeMap<StoreName, Copies>> {
        self.mirrors.subscribe()
    }

    /// The mail stores that exist, whether they are served or not.
    ///
    /// # Errors
    /// Until the Kubernetes API has told of all of them.
    pub fn mail_stores(&self) -> Result<Vec<StoreName>, Unavailable> {
        match &*self.existing() {
            (stores, Heard::All) => Ok(stores.iter().cloned().collect()),
            _ => Err(Unavailable("the MailStores have not been read yet".into())),
        }
    }

    fn existing(&self) -> MutexGuard<'_, (BTreeSet<StoreName>, Heard)> {
        self.existing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn exists(&self, store: StoreName) {
        if store != self.directory_name {
            self.existing().0.insert(store);
        }
    }

    fn take(&self, event: RouteEvent, queue: Option<&QueueHandle>) {
        match event {
            RouteEvent::Set(route) => {
                let (store, epoch, endpoint) = (route.store.clone(), route.epoch, route.endpoint);
                self.exists(store.clone());
                let table = if store == self.directory_name { &self.directory } else { &self.mail };
                if table.set(route) {
                    tracing::info!(%store, epoch, %endpoint, "route");
                    if let Some(queue) = queue {
                        queue.kick(&store);
                    }
                }
            }
            RouteEvent::Unserved(store) => self.exists(store),
            RouteEvent::Mirrors(store, copies) => {
                self.mirrors
                    .send_if_modified(|all| all.insert(store, copies.clone()).as_ref() != Some(&copies));
            }
            RouteEvent::Synced => self.existing().1 = Heard::All,
            RouteEvent::Gone(store) => {
                self.existing().0.remove(&store);
                self.mirrors.send_if_modified(|all| all.remove(&store).is_some());
                self.mail.remove(&store);
                self.directory.remove(&store);
            }
        }
    }
}
