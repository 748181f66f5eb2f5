//! The routes of the cluster, followed in the Kubernetes API: mail stores in one table, the directory in another, so
//! that nothing is ever handed off to the directory.

use futures::StreamExt;
use mailcluster_arbiter::{RouteEvent, watch_routes};
use mailcluster_net::remote::RouteTable;
use mailcluster_queue::QueueHandle;
use mailcluster_types::StoreName;

use super::pod::Pod;

/// Where everything is.
#[derive(Clone)]
pub struct Routes {
    /// Mail stores.
    pub mail: RouteTable,
    /// The directory alone.
    pub directory: RouteTable,
    /// The directory's name.
    pub directory_name: StoreName,
}

impl Routes {
    /// Follows the MailStores for ever; queues that wait for a store hear of its new route.
    pub fn follow(pod: &Pod, queue: Option<QueueHandle>) -> Self {
        let name = StoreName::from(pod.config.directory.as_str());
        let routes = Self { mail: RouteTable::new(), directory: RouteTable::new(), directory_name: name };
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

    fn take(&self, event: RouteEvent, queue: Option<&QueueHandle>) {
        match event {
            RouteEvent::Set(route) => {
                let (store, epoch, endpoint) = (route.store.clone(), route.epoch, route.endpoint);
                let table = if store == self.directory_name { &self.directory } else { &self.mail };
                if table.set(route) {
                    tracing::info!(%store, epoch, %endpoint, "route");
                    if let Some(queue) = queue {
                        queue.kick(&store);
                    }
                }
            }
            RouteEvent::Gone(store) => {
                self.mail.remove(&store);
                self.directory.remove(&store);
            }
        }
    }
}
