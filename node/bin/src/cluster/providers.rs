//! What the control service asks of the rest of the pod.

use std::{
    net::SocketAddr,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use mailcluster_api::ports;
use mailcluster_arbiter::{StatusHandle, control};
use mailcluster_net::{
    mtls::{Expect, Identity, Role},
    remote::RemoteBackends,
};

use super::routes::Routes;

/// Longest wait for the directory to let a frontend in.
const REACH: Duration = Duration::from_secs(2);

/// Of a store's pod or of a frontend.
pub enum Providers {
    /// A store's pod: counts.
    Store(StatusHandle),
    /// A frontend: what it can reach.
    Frontend {
        /// Mail stores.
        backends: RemoteBackends,
        /// The directory.
        routes: Routes,
        /// Who asks.
        identity: Identity,
    },
}

#[async_trait]
impl control::Providers for Providers {
    async fn counts(&self) -> Option<control::Counts> {
        let Self::Store(status) = self else { return None };
        let store = status.get().store?;
        let (usage, queue) = store.read(|view| Ok((view.usage()?, view.queue_stats()?))).await.ok()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let oldest = u64::try_from(queue.oldest).ok().filter(|at| *at > 0);
        Some(control::Counts {
            accounts: usage.accounts,
            octets: usage.octets,
            queued: queue.recipients,
            oldest_queued_seconds: oldest.map_or(0, |at| now.saturating_sub(at)),
            disk_free: usage.free_octets,
            disk_size: usage.total_octets,
        })
    }

    async fn reachability(&self) -> Vec<(String, u64, bool, u64)> {
        let Self::Frontend { backends, routes, identity } = self else { return Vec::new() };
        let mut all: Vec<_> = backends
            .reachability()
            .into_iter()
            .map(|reach| {
                (reach.store.to_string(), reach.epoch, reach.ok, reach.age_secs.saturating_mul(1000))
            })
            .collect();
        if let Some(route) = routes.directory.get(&routes.directory_name) {
            let begun = Instant::now();
            let expect = Expect { role: Role::Directory, store: Some(route.store.clone()) };
            let addr = SocketAddr::new(route.endpoint.ip(), ports::DIRECTORY_GRPC);
            let ok = identity.connect(addr, &expect, REACH).await.is_ok();
            let age = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            all.push((route.store.to_string(), route.epoch, ok, age));
        }
        all
    }
}
