//! The directory of this process, while its store serves.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use mailcluster_directory::{DirectoryFeed, DirectoryService, FeedStream, ScreeningSource, ScreeningStream};
use mailcluster_screen::{Ban, Cidr, Observation};
use mailcluster_types::{
    AccountId, Address, Allowance, AuthOutcome, AuthRequest, Directory, Epoch, Located, Resolution, Seq,
    SigningKeys, StoreName, Unavailable,
};

/// Delegates to the service that is there; without one it answers `Unavailable`.
#[derive(Default)]
pub struct LocalDirectory {
    current: ArcSwapOption<DirectoryService>,
}

impl LocalDirectory {
    /// The directory serves, or has stopped (`None`).
    pub fn set(&self, service: Option<DirectoryService>) {
        self.current.store(service.map(Arc::new));
    }

    /// The service, while it serves.
    pub fn get(&self) -> Result<Arc<DirectoryService>, Unavailable> {
        self.current
            .load_full()
            .ok_or_else(|| Unavailable("the directory does not serve here now".to_owned()))
    }
}

#[async_trait]
impl Directory for LocalDirectory {
    async fn resolve(&self, address: &Address) -> Result<Resolution, Unavailable> {
        self.get()?.resolve(address).await
    }

    async fn locate(&self, account: AccountId) -> Result<Located, Unavailable> {
        self.get()?.locate(account).await
    }

    async fn authenticate(&self, request: &AuthRequest) -> Result<AuthOutcome, Unavailable> {
        self.get()?.authenticate(request).await
    }

    async fn may_send_as(&self, account: AccountId, sender: &Address) -> Result<bool, Unavailable> {
        self.get()?.may_send_as(account, sender).await
    }

    async fn signing_keys(&self, domain: &str) -> Result<Arc<SigningKeys>, Unavailable> {
        self.get()?.signing_keys(domain).await
    }

    async fn count_sent(&self, account: AccountId, recipients: u32) -> Result<Allowance, Unavailable> {
        self.get()?.count_sent(account, recipients).await
    }
}

#[async_trait]
impl DirectoryFeed for LocalDirectory {
    async fn changes(&self, store: &StoreName, after: (Epoch, Seq)) -> Result<FeedStream, Unavailable> {
        self.get()?.changes(store, after).await
    }

    async fn confirm(&self, store: &StoreName, accounts: Vec<(AccountId, u64)>) -> Result<(), Unavailable> {
        self.get()?.confirm(store, accounts).await
    }
}

#[async_trait]
impl ScreeningSource for LocalDirectory {
    async fn report(&self, seen: Vec<Observation>, held: Vec<Ban>) -> Result<(), Unavailable> {
        self.get()?.report(seen, held).await
    }

    async fn news(&self, own: Vec<Cidr>) -> Result<ScreeningStream, Unavailable> {
        self.get()?.news(own).await
    }
}
