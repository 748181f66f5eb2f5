//! What a store tells the directory and the operator: usage, history, queue, records. Of a store in this process,
//! or of one across the network.

use std::{pin::Pin, time::Duration};

use async_trait::async_trait;
use futures::{Stream, StreamExt, stream};
use mailcluster_rpc::{directory::v1::Record, store::v1 as pb};
use mailcluster_store::{DirectoryRecord, HistoryKey, ReadError, Store};
use mailcluster_types::{AccountId, DeliveryId, StoreName, Unavailable};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, transport::Channel};

use crate::{convert, queue_change, salvage, serve::MAX_MESSAGE, undelete};

/// Longest wait for a store's answer.
const LIMIT: Duration = Duration::from_secs(5);
/// The same, where many messages are read.
const UNDELETE: Duration = Duration::from_secs(60);
/// Records of one page.
const PAGE: usize = 1000;
/// Most events or queue items of one answer.
const MOST: u32 = 1000;

/// Parts of a file that wait to be handed on.
const WAITING: usize = 4;

/// Records, or an error that ends them.
pub type RecordStream = Pin<Box<dyn Stream<Item = Result<DirectoryRecord, Unavailable>> + Send>>;

/// A file as it arrives, or an error that ends it.
pub type Octets = Pin<Box<dyn Stream<Item = Result<Vec<u8>, Status>> + Send>>;

/// A store that can be asked.
#[async_trait]
pub trait StoreQuery: Send + Sync + 'static {
    /// Room, accounts and queue at a glance.
    async fn usage(&self) -> Result<pb::GetUsageResponse, Status>;
    /// What happened to a message, or to a recipient's mail.
    async fn history(&self, request: pb::GetHistoryRequest) -> Result<pb::GetHistoryResponse, Status>;
    /// What waits.
    async fn queue(&self, request: pb::ListQueueRequest) -> Result<pb::ListQueueResponse, Status>;
    /// Changes how a page of it waits.
    async fn change_queue(&self, request: pb::ChangeQueueRequest) -> Result<pb::ChangeQueueResponse, Status>;
    /// Every directory record it carries.
    async fn records(&self) -> Result<RecordStream, Unavailable>;
    /// Takes over what a forced promotion left behind; `octets` are a file's.
    async fn salvage(&self, octets: Octets) -> Result<pb::SalvageResponse, Status>;
    /// Lists an account's expunged mail, or brings it back: one page.
    async fn undelete(&self, asked: pb::UndeleteRequest) -> Result<pb::UndeleteResponse, Status>;
}

/// Finds stores to ask.
#[async_trait]
pub trait StoreDialer: Send + Sync + 'static {
    /// The mail stores there are, whether they serve or not.
    ///
    /// # Errors
    /// When that is not known yet.
    fn stores(&self) -> Result<Vec<StoreName>, Unavailable>;
    /// A way to ask this one.
    async fn dial(&self, store: &StoreName) -> Result<std::sync::Arc<dyn StoreQuery>, Unavailable>;
}

/// A store in this process.
#[derive(Clone)]
pub struct LocalStore(pub Store);

pub(crate) fn unreadable(error: ReadError) -> Status {
    match error {
        ReadError::NotFound => Status::not_found(error.to_string()),
        ReadError::Damaged(_) | ReadError::Io(_) => Status::internal(error.to_string()),
        ReadError::NotServing => Status::unavailable(error.to_string()),
    }
}

#[async_trait]
impl StoreQuery for LocalStore {
    async fn usage(&self) -> Result<pb::GetUsageResponse, Status> {
        let read = self.0.read(|view| Ok((view.usage()?, view.queue_stats()?)));
        let (usage, queue) = read.await.map_err(unreadable)?;
        Ok(pb::GetUsageResponse {
            store: self.0.identity().store.to_string(),
            epoch: self.0.epoch(),
            accounts: usage.accounts,
            octets: usage.octets,
            free_octets: usage.free_octets,
            total_octets: usage.total_octets,
            queued_messages: queue.messages,
            queued_recipients: queue.recipients,
            held_recipients: queue.held,
            oldest_queued: queue.oldest,
        })
    }

    async fn history(&self, request: pb::GetHistoryRequest) -> Result<pb::GetHistoryResponse, Status> {
        use pb::get_history_request::Key;
        let key = match request.key {
            Some(Key::Delivery(id)) => {
                let id: DeliveryId =
                    id.parse().map_err(|_| Status::invalid_argument("a delivery id has 26 digits"))?;
                HistoryKey::Delivery(id)
            }
            Some(Key::Recipient(address)) if address.len() <= 512 => HistoryKey::Recipient(address),
            _ => return Err(Status::invalid_argument("name a delivery id or a recipient")),
        };
        let limit = request.limit.clamp(1, MOST) as usize;
        let events = self.0.read(move |view| view.history(&key, limit)).await.map_err(unreadable)?;
        Ok(pb::GetHistoryResponse { events: events.into_iter().map(convert::history_to_pb).collect() })
    }

    async fn queue(&self, request: pb::ListQueueRequest) -> Result<pb::ListQueueResponse, Status> {
        let after = match request.after.as_str() {
            "" => None,
            id => Some(id.parse().map_err(|_| Status::invalid_argument("a delivery id has 26 digits"))?),
        };
        let limit = request.limit.clamp(1, MOST) as usize;
        let items = match request.delivery.as_str() {
            "" => self.0.read(move |view| view.queue(after, limit)).await,
            id => {
                let id = queue_change::delivery(id)?;
                self.0.read(move |view| Ok(view.queued(id)?.into_iter().collect())).await
            }
        };
        let items = items.map_err(unreadable)?;
        Ok(pb::ListQueueResponse { items: items.into_iter().map(convert::queue_to_pb).collect() })
    }

    async fn change_queue(&self, request: pb::ChangeQueueRequest) -> Result<pb::ChangeQueueResponse, Status> {
        queue_change::change(&self.0, &request).await
    }

    async fn records(&self) -> Result<RecordStream, Unavailable> {
        Ok(Box::pin(every_record(self.0.clone())))
    }

    async fn salvage(&self, octets: Octets) -> Result<pb::SalvageResponse, Status> {
        salvage::salvage(&self.0, octets).await
    }

    async fn undelete(&self, asked: pb::UndeleteRequest) -> Result<pb::UndeleteResponse, Status> {
        undelete::undelete(&self.0, asked).await
    }
}

#[derive(Clone)]
enum At {
    Accounts(Option<AccountId>),
    Aliases(String),
    Domains,
    End,
}

/// Every account, alias and domain record of a store, tombstones too, in this order.
pub(crate) fn every_record(
    store: Store,
) -> impl Stream<Item = Result<DirectoryRecord, Unavailable>> + Send + 'static {
    let pages = stream::try_unfold((store, At::Accounts(None)), |(store, at)| async move {
        let asked = at.clone();
        let page = match at {
            At::End => return Ok::<_, Unavailable>(None),
            _ => store.read(move |view| page(view, asked)).await,
        };
        let (records, next) = page.map_err(|e| Unavailable(e.to_string()))?;
        Ok(Some((stream::iter(records.into_iter().map(Ok)), (store, next))))
    });
    futures::TryStreamExt::try_flatten(pages)
}

fn page(view: &mailcluster_store::View, at: At) -> Result<(Vec<DirectoryRecord>, At), ReadError> {
    Ok(match at {
        At::Accounts(after) => {
            let page = view.accounts(after, PAGE)?;
            let next = page.last().map_or_else(|| At::Aliases(String::new()), |a| At::Accounts(Some(a.id)));
            (page.into_iter().map(DirectoryRecord::Account).collect(), next)
        }
        At::Aliases(after) => {
            let page = view.aliases(&after, PAGE)?;
            let next = page.last().map_or(At::Domains, |a| At::Aliases(a.address.clone()));
            (page.into_iter().map(DirectoryRecord::Alias).collect(), next)
        }
        At::Domains => (view.domains()?.into_iter().map(DirectoryRecord::Domain).collect(), At::End),
        At::End => (Vec::new(), At::End),
    })
}

/// A store across the network.
#[derive(Clone)]
pub struct RemoteStore {
    client: pb::store_admin_client::StoreAdminClient<Channel>,
}

impl RemoteStore {
    /// Asks over this channel.
    #[must_use]
    pub fn new(channel: Channel) -> Self {
        let client = pb::store_admin_client::StoreAdminClient::new(channel);
        Self { client: client.max_decoding_message_size(MAX_MESSAGE) }
    }
}

/// A stream that breaks is a file that is cut short, to the store.
async fn hand_on(mut octets: Octets, to: mpsc::Sender<pb::SalvageRequest>) {
    while let Some(Ok(octets)) = octets.next().await {
        if to.send(pb::SalvageRequest { octets }).await.is_err() {
            return;
        }
    }
}

async fn within<T>(
    call: impl Future<Output = Result<tonic::Response<T>, Status>> + Send,
) -> Result<T, Status> {
    match tokio::time::timeout(LIMIT, call).await {
        Ok(answer) => answer.map(tonic::Response::into_inner),
        Err(_) => Err(Status::unavailable("no answer in time")),
    }
}

#[async_trait]
impl StoreQuery for RemoteStore {
    async fn usage(&self) -> Result<pb::GetUsageResponse, Status> {
        within(self.client.clone().get_usage(pb::GetUsageRequest {})).await
    }

    async fn history(&self, request: pb::GetHistoryRequest) -> Result<pb::GetHistoryResponse, Status> {
        within(self.client.clone().get_history(request)).await
    }

    async fn queue(&self, request: pb::ListQueueRequest) -> Result<pb::ListQueueResponse, Status> {
        within(self.client.clone().list_queue(request)).await
    }

    async fn change_queue(&self, request: pb::ChangeQueueRequest) -> Result<pb::ChangeQueueResponse, Status> {
        within(self.client.clone().change_queue(request)).await
    }

    async fn records(&self) -> Result<RecordStream, Unavailable> {
        let unavailable = |s: Status| Unavailable(s.message().to_owned());
        let mut client = self.client.clone();
        let stream = within(client.list_records(pb::ListRecordsRequest {})).await.map_err(unavailable)?;
        Ok(Box::pin(stream.map(move |record: Result<Record, Status>| {
            record.and_then(convert::record_from_pb).map_err(unavailable)
        })))
    }

    /// However long that takes: the file's sender is the one who gives up.
    async fn salvage(&self, octets: Octets) -> Result<pb::SalvageResponse, Status> {
        let (sender, pieces) = mpsc::channel(WAITING);
        tokio::spawn(hand_on(octets, sender));
        let mut client = self.client.clone();
        client.salvage(ReceiverStream::new(pieces)).await.map(tonic::Response::into_inner)
    }

    async fn undelete(&self, asked: pb::UndeleteRequest) -> Result<pb::UndeleteResponse, Status> {
        let mut client = self.client.clone();
        let answer = tokio::time::timeout(UNDELETE, client.undelete(asked)).await;
        let late = || Status::unavailable("no answer in time: ask again, nothing comes back twice");
        answer.map_err(|_| late())?.map(tonic::Response::into_inner)
    }
}
