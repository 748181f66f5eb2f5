//! How a store hears of its accounts: a call in a standalone node, gRPC in a cluster.

use std::{pin::Pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::{Stream, StreamExt};
use mailcluster_rpc::directory::v1 as pb;
use mailcluster_store::{Account, DirectoryRecord};
use mailcluster_types::{AccountId, Epoch, Seq, StoreName, Unavailable};

use crate::{
    ChannelSource, DirectoryService,
    changes::{Following, follow},
    convert,
};

/// An empty batch comes at least this often.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(15);
/// Longest answer to a confirmation.
const CONFIRM_LIMIT: Duration = Duration::from_secs(10);

/// Records for a store, and the position they reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedBatch {
    /// Newest states, oldest first; may be empty.
    pub records: Vec<DirectoryRecord>,
    /// The directory's epoch.
    pub epoch: Epoch,
    /// Ask for what follows this.
    pub position: Seq,
}

/// Batches for ever, or an error.
pub type FeedStream = Pin<Box<dyn Stream<Item = Result<FeedBatch, Unavailable>> + Send>>;

/// The directory, as a store sees it.
#[async_trait]
pub trait DirectoryFeed: Send + Sync + 'static {
    /// All domains, this store's accounts and their aliases that changed after the position, then every change.
    /// A position of another epoch than the directory's starts over.
    async fn changes(&self, store: &StoreName, after: (Epoch, Seq)) -> Result<FeedStream, Unavailable>;

    /// The store holds these accounts, at these generations, durably.
    async fn confirm(&self, store: &StoreName, accounts: Vec<(AccountId, u64)>) -> Result<(), Unavailable>;
}

#[async_trait]
impl DirectoryFeed for DirectoryService {
    async fn changes(&self, store: &StoreName, after: (Epoch, Seq)) -> Result<FeedStream, Unavailable> {
        let (epoch, position) = after;
        let after = if epoch == self.store().epoch() { position } else { 0 };
        let batches = follow(self.store().clone(), Following::Store(store.clone()), after, HEARTBEAT);
        Ok(Box::pin(batches.map(|batch| match batch {
            Ok(b) => Ok(FeedBatch { records: b.records, epoch: b.epoch, position: b.position }),
            Err(error) => Err(Unavailable(error.to_string())),
        })))
    }

    async fn confirm(&self, store: &StoreName, accounts: Vec<(AccountId, u64)>) -> Result<(), Unavailable> {
        let _writing = self.writing().await;
        let store = store.clone();
        let active = self
            .look(move |view, _| {
                let mut active = Vec::new();
                for (id, generation) in accounts {
                    let held = view.account(id)?;
                    let confirmed =
                        held.filter(|a| a.pending && a.store == store && a.generation == generation);
                    active.extend(confirmed.map(|a| Account {
                        pending: false,
                        // One more, not the time: what the store holds differs in nothing but this mark.
                        generation: a.generation.saturating_add(1),
                        ..a
                    }));
                }
                Ok(active)
            })
            .await?;
        if active.is_empty() {
            return Ok(());
        }
        let put = self.store().put_accounts(active).await.map_err(|e| Unavailable(e.to_string()))?;
        put.acknowledge().map(|_| ()).map_err(|e| Unavailable(e.to_string()))
    }
}

/// The directory over gRPC.
pub struct RemoteFeed {
    source: Arc<dyn ChannelSource>,
}

impl RemoteFeed {
    /// A feed from the directory that `source` leads to.
    #[must_use]
    pub fn new(source: Arc<dyn ChannelSource>) -> Self {
        Self { source }
    }

    fn failed(&self, status: &tonic::Status) -> Unavailable {
        self.source.failed();
        Unavailable(status.message().to_owned())
    }
}

#[async_trait]
impl DirectoryFeed for RemoteFeed {
    async fn changes(&self, store: &StoreName, after: (Epoch, Seq)) -> Result<FeedStream, Unavailable> {
        let mut client = pb::feed_client::FeedClient::new(self.source.channel().await?)
            .max_decoding_message_size(crate::serve::MAX_MESSAGE);
        let request = pb::ChangesRequest { store: store.to_string(), epoch: after.0, after: after.1 };
        let stream = client.changes(request).await.map_err(|s| self.failed(&s))?.into_inner();
        Ok(Box::pin(stream.map(|batch| {
            let batch = batch.map_err(|s| Unavailable(s.message().to_owned()))?;
            let records = batch.records.into_iter().map(convert::record_from_pb).collect::<Result<_, _>>();
            let records = records.map_err(|s| Unavailable(s.message().to_owned()))?;
            Ok(FeedBatch { records, epoch: batch.epoch, position: batch.position })
        })))
    }

    async fn confirm(&self, store: &StoreName, accounts: Vec<(AccountId, u64)>) -> Result<(), Unavailable> {
        let mut client = pb::feed_client::FeedClient::new(self.source.channel().await?);
        let accounts = accounts
            .into_iter()
            .map(|(id, generation)| pb::ConfirmedAccount { id: id.to_bytes().to_vec(), generation });
        let request = pb::ConfirmRequest { store: store.to_string(), accounts: accounts.collect() };
        match tokio::time::timeout(CONFIRM_LIMIT, client.confirm(request)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(status)) => Err(self.failed(&status)),
            Err(_) => {
                self.source.failed();
                Err(Unavailable("no answer to a confirmation".into()))
            }
        }
    }
}
