//! `directory`: the store of accounts, look-ups for the cluster, administration for people.

use std::sync::Arc;

use anyhow::{Context, Result};
use async_trait::async_trait;
use mailcluster_api::{config::NodeConfig, ports};
use mailcluster_directory::{
    DirectoryConfig, DirectoryService, SendLimits, StoreDialer, StoreLoad,
    key_care::{self, TxtLookup},
    serve::{AdminAccess, AdminServer, DirectoryServer},
};
use mailcluster_net::{
    remote::RouteTable,
    tls::{CertStore, TlsAcceptor},
};
use mailcluster_rpc::audience;
use mailcluster_store::Store;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    admin_port::{self, AdminPort},
    channel::RouteDialer,
    grpc::{Changing, peer_check},
    pod::{CERTIFICATES, Pod},
    routes::Routes,
    store_pod,
    token_review::ReviewedTokens,
};
use crate::{args::StorePodArgs, holder::Service, key_records, screening};

/// Runs until SIGTERM.
pub async fn run(options: StorePodArgs) -> Result<()> {
    let pod = Pod::start(&options.config).await?;
    let section = store_pod::section(&pod)?;
    let routes = Routes::follow(&pod, None);
    let mut config = DirectoryConfig::new(pod.config.hostname.as_str(), known_stores(routes.mail.clone()));
    config.postmaster = pod.config.postmaster.as_deref().map(str::parse).transpose().context("postmaster")?;
    config.send_limits = limits(&pod.config);
    screening::judge(&pod.config.screening.clone().unwrap_or_default(), &mut config)?;
    let namespace = &pod.config.namespace;
    let allowed = section
        .admin_service_accounts
        .iter()
        .map(|account| format!("system:serviceaccount:{namespace}:{account}"))
        .collect();
    let audience = audience::admin(namespace, &pod.config.cluster);
    let access = AdminAccess::tokens(Arc::new(ReviewedTokens::new(pod.client.clone(), audience)), allowed);
    let certs = CertStore::load(&pod.config.identity_dir).context("no certificate for administration")?;
    tokio::spawn(certs.clone().watch(CERTIFICATES));
    let admin = admin_port::listen(pod.listen(ports::DIRECTORY_ADMIN)?, TlsAcceptor::new(certs)?);
    let changing = Changing::new();
    let dialer = Arc::new(RouteDialer { routes: routes.clone(), identity: pod.identity.clone() });
    let role = DirectoryRole {
        config,
        access,
        dialer,
        admin,
        changing: changing.clone(),
        texts: key_records::look_up(&[]),
    };
    let over = CancellationToken::new();
    let holder = store_pod::start(&pod, &options.replica, Arc::new(role), (&routes, &changing), &over)?;
    store_pod::finish(&pod, holder, &over).await
}

/// What accounts may send, as the configuration says; frontends go by the same when the directory is away.
pub(super) fn limits(config: &NodeConfig) -> SendLimits {
    let limits = config.outbound.as_ref().and_then(|outbound| outbound.limits).unwrap_or_default();
    SendLimits {
        messages_per_hour: limits.messages_per_hour,
        recipients_per_hour: limits.recipients_per_hour,
        recipients_per_day: limits.recipients_per_day,
    }
}

/// The mail stores there are, as their routes tell.
fn known_stores(table: RouteTable) -> watch::Receiver<Vec<StoreLoad>> {
    let (sender, receiver) = watch::channel(Vec::new());
    tokio::spawn(async move {
        let mut changes = table.watch();
        loop {
            sender.send_replace(table.all().into_iter().map(|route| StoreLoad::named(route.store)).collect());
            if changes.changed().await.is_err() {
                return;
            }
        }
    });
    receiver
}

struct DirectoryRole {
    config: DirectoryConfig,
    access: AdminAccess,
    dialer: Arc<dyn StoreDialer>,
    admin: AdminPort,
    changing: Changing,
    texts: Option<Arc<dyn TxtLookup>>,
}

#[async_trait]
impl Service for DirectoryRole {
    async fn start(&self, store: Store, over: CancellationToken) {
        match DirectoryService::new(store, self.config.clone()) {
            Ok(service) => {
                tokio::spawn(key_care::run(service.clone(), self.texts.clone(), over));
                self.changing.set(Some(DirectoryServer::routes(service.clone(), peer_check())));
                let admin = AdminServer::routes(service, self.access.clone(), self.dialer.clone());
                self.admin.set(Some(admin));
            }
            Err(error) => tracing::error!(%error, "the directory cannot serve"),
        }
    }

    async fn stop(&self) {
        self.changing.set(None);
        self.admin.set(None);
    }
}
