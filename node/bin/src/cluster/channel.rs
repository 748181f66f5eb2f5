//! The way to the directory's holder of the moment, and to stores that can be asked.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use mailcluster_api::ports;
use mailcluster_directory::{ChannelSource, RemoteStore, StoreDialer, StoreQuery};
use mailcluster_net::{
    grpc,
    mtls::{Expect, Identity, Role},
};
use mailcluster_types::{StoreName, Unavailable};
use tonic::transport::Channel;

use super::routes::Routes;

/// A channel by route, kept while the route stays.
pub struct DirectoryChannel {
    routes: Routes,
    identity: Identity,
    kept: Mutex<Option<(SocketAddr, Channel)>>,
}

impl DirectoryChannel {
    /// By these routes, as this identity.
    pub fn new(routes: Routes, identity: Identity) -> Self {
        Self { routes, identity, kept: Mutex::new(None) }
    }
}

#[async_trait]
impl ChannelSource for DirectoryChannel {
    async fn channel(&self) -> Result<Channel, Unavailable> {
        let name = &self.routes.directory_name;
        let route = self.routes.directory.get(name);
        let route = route.ok_or_else(|| Unavailable(format!("the directory {name} has no route")))?;
        let addr = SocketAddr::new(route.endpoint.ip(), ports::DIRECTORY_GRPC);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((to, channel)) = &*kept
            && *to == addr
        {
            return Ok(channel.clone());
        }
        let expect = Expect { role: Role::Directory, store: Some(name.clone()) };
        let channel = grpc::channel(addr, self.identity.clone(), expect);
        *kept = Some((addr, channel.clone()));
        Ok(channel)
    }

    fn failed(&self) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Stores by their routes.
pub struct RouteDialer {
    /// Where they are.
    pub routes: Routes,
    /// Who asks.
    pub identity: Identity,
}

#[async_trait]
impl StoreDialer for RouteDialer {
    fn stores(&self) -> Result<Vec<StoreName>, Unavailable> {
        self.routes.mail_stores()
    }

    async fn dial(&self, store: &StoreName) -> Result<Arc<dyn StoreQuery>, Unavailable> {
        let route =
            self.routes.mail.get(store).ok_or_else(|| Unavailable(format!("{store} has no route")))?;
        let addr = SocketAddr::new(route.endpoint.ip(), ports::BACKEND_GRPC);
        let expect = Expect { role: Role::Backend, store: Some(store.clone()) };
        Ok(Arc::new(RemoteStore::new(grpc::channel(addr, self.identity.clone(), expect))))
    }
}
