//! What begins when a standalone node's stores serve.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context, Result};
use async_trait::async_trait;
use mailcluster_directory::{
    DirectoryConfig, DirectoryService, LocalStore as DirectoryLocalStore, SendLimits, StoreDialer, StoreLoad,
    StoreQuery,
    key_care::{self, TxtLookup},
    sync,
};
use mailcluster_queue::QueueConfig;
use mailcluster_store::{Store, keep_retention};
use mailcluster_types::{Address, StoreName, Unavailable};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{STORE, admin_socket};
use crate::{
    args::StandaloneArgs,
    holder::Service,
    key_records,
    local_backends::{LocalBackends, LocalStore},
    local_directory::LocalDirectory,
    screening,
};

/// The mail store: sessions, its accounts' records, its queue.
pub struct MailRole {
    backends: Arc<LocalBackends>,
    directory: Arc<LocalDirectory>,
    queue: QueueConfig,
}

impl MailRole {
    /// Over these backends and this directory, with this queue.
    pub fn new(backends: Arc<LocalBackends>, directory: Arc<LocalDirectory>, queue: QueueConfig) -> Self {
        Self { backends, directory, queue }
    }
}

#[async_trait]
impl Service for MailRole {
    async fn start(&self, store: Store, over: CancellationToken) {
        self.backends.set(Some(LocalStore { store: store.clone(), stopped: over.clone() }));
        tokio::spawn(sync::run(store.clone(), self.directory.clone(), over.clone()));
        tokio::spawn(over.clone().run_until_cancelled_owned(keep_retention(store.clone())));
        let config = self.queue.clone();
        let (directory, backends) = (self.directory.clone(), self.backends.clone());
        tokio::spawn(async move {
            mailcluster_queue::run(config, store, directory, backends, over).await;
        });
    }

    async fn stop(&self) {
        self.backends.set(None);
    }
}

/// The directory: look-up for this process, administration on a unix socket.
pub struct DirectoryRole {
    config: DirectoryConfig,
    socket: PathBuf,
    directory: Arc<LocalDirectory>,
    dialer: Arc<Dialer>,
    texts: Option<Arc<dyn TxtLookup>>,
    /// Kept open: the only store never changes.
    _stores: watch::Sender<Vec<StoreLoad>>,
}

impl DirectoryRole {
    /// As the command line says.
    pub fn new(
        options: &StandaloneArgs,
        directory: Arc<LocalDirectory>,
        backends: Arc<LocalBackends>,
    ) -> Result<Self> {
        let (sender, stores) = watch::channel(vec![StoreLoad::named(STORE.into())]);
        let mut config = DirectoryConfig::new(options.hostname.as_str(), stores);
        let postmaster = options.postmaster.as_deref().map(str::parse::<Address>).transpose();
        config.postmaster = postmaster.context("--postmaster")?;
        config.send_limits = SendLimits {
            messages_per_hour: options.way_out.messages_per_hour,
            recipients_per_hour: options.way_out.recipients_per_hour,
            recipients_per_day: options.way_out.recipients_per_day,
        };
        screening::judge(&options.screening.asked(), &mut config)?;
        let socket = options.data.join("admin.sock");
        let texts = key_records::look_up(&options.name_servers);
        Ok(Self { config, socket, directory, dialer: Arc::new(Dialer(backends)), texts, _stores: sender })
    }
}

#[async_trait]
impl Service for DirectoryRole {
    async fn start(&self, store: Store, over: CancellationToken) {
        match DirectoryService::new(store, self.config.clone()) {
            Ok(service) => {
                tokio::spawn(key_care::run(service.clone(), self.texts.clone(), over.clone()));
                let served = admin_socket::serve(&self.socket, service.clone(), self.dialer.clone(), over);
                if let Err(error) = served {
                    tracing::error!(error = format!("{error:#}"), "no administration");
                }
                self.directory.set(Some(service));
            }
            Err(error) => tracing::error!(%error, "the directory cannot serve"),
        }
    }

    async fn stop(&self) {
        self.directory.set(None);
    }
}

/// The stores that administration can ask: the one of this process.
struct Dialer(Arc<LocalBackends>);

#[async_trait]
impl StoreDialer for Dialer {
    fn stores(&self) -> Result<Vec<StoreName>, Unavailable> {
        Ok(vec![STORE.into()])
    }

    async fn dial(&self, store: &StoreName) -> Result<Arc<dyn StoreQuery>, Unavailable> {
        let local = self.0.store().filter(|_| store.as_str() == STORE);
        let local = local.ok_or_else(|| Unavailable(format!("{store} does not serve here")))?;
        Ok(Arc::new(DirectoryLocalStore(local)))
    }
}
