//! How a frontend reaches the judge: a call in a standalone node, gRPC in a cluster.

use std::{pin::Pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::{Stream, StreamExt};
use mailcluster_rpc::directory::v1 as pb;
use mailcluster_screen::{Ban, Cidr, News, Observation};
use mailcluster_types::Unavailable;
use pb::screening_client::ScreeningClient;

use super::wire;
use crate::{ChannelSource, DirectoryService};

/// Longest answer to a report, and to the wish for news.
const LIMIT: Duration = Duration::from_secs(3);
/// The directory tells something every 4 s; silence for longer than this is a lost connection.
const SILENCE: Duration = Duration::from_secs(10);

/// What the judge tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Of which judge: another one has forgotten everything.
    pub instance: u64,
    /// All there is; what was told before holds no longer.
    pub is_everything: bool,
    /// What was decided.
    pub news: Vec<News>,
}

/// News for ever, or an error.
pub type ScreeningStream = Pin<Box<dyn Stream<Item = Result<Told, Unavailable>> + Send>>;

/// The judge, as a frontend sees it.
#[async_trait]
pub trait ScreeningSource: Send + Sync + 'static {
    /// Reports what was seen, and bans of the time before this judge.
    async fn report(&self, seen: Vec<Observation>, held: Vec<Ban>) -> Result<(), Unavailable>;

    /// What is decided, for a frontend with these addresses.
    async fn news(&self, own: Vec<Cidr>) -> Result<ScreeningStream, Unavailable>;
}

#[async_trait]
impl ScreeningSource for DirectoryService {
    async fn report(&self, seen: Vec<Observation>, held: Vec<Ban>) -> Result<(), Unavailable> {
        if let Some(screening) = self.screening() {
            screening.adopt(&held);
            screening.observe(&seen);
        }
        Ok(())
    }

    async fn news(&self, own: Vec<Cidr>) -> Result<ScreeningStream, Unavailable> {
        let screening = self.screening().ok_or_else(|| Unavailable("screening is off".into()))?;
        screening.own(own);
        let store = self.store().clone();
        // Whoever listens to a directory that has stopped must look for the next one.
        let stopped = async move { store.stopped().await };
        Ok(Box::pin(screening.follow().map(Ok).take_until(Box::pin(stopped))))
    }
}

/// The judge over gRPC.
pub struct RemoteScreening {
    source: Arc<dyn ChannelSource>,
}

impl RemoteScreening {
    /// The one that `source` leads to.
    #[must_use]
    pub fn new(source: Arc<dyn ChannelSource>) -> Self {
        Self { source }
    }

    async fn client(&self) -> Result<ScreeningClient<tonic::transport::Channel>, Unavailable> {
        let client = ScreeningClient::new(self.source.channel().await?);
        Ok(client.max_decoding_message_size(crate::serve::MAX_MESSAGE))
    }

    async fn within<T>(
        &self,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, Unavailable> {
        match tokio::time::timeout(LIMIT, call).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(Unavailable(status.message().to_owned())),
            Err(_) => Err(Unavailable("no answer in time".into())),
        }
    }
}

#[async_trait]
impl ScreeningSource for RemoteScreening {
    async fn report(&self, seen: Vec<Observation>, held: Vec<Ban>) -> Result<(), Unavailable> {
        let mut client = self.client().await?;
        let report = pb::ScreeningReport {
            seen: seen.into_iter().map(wire::observation_to_pb).collect(),
            held: held.into_iter().map(wire::ban_to_pb).collect(),
        };
        self.within(client.report(report)).await.map(|_| ())
    }

    async fn news(&self, own: Vec<Cidr>) -> Result<ScreeningStream, Unavailable> {
        let mut client = self.client().await?;
        let asked = pb::ScreeningNewsRequest { own: own.iter().map(Cidr::to_string).collect() };
        let stream = self.within(client.news(asked)).await?;
        let told = futures::stream::try_unfold(stream, |mut stream| async move {
            match tokio::time::timeout(SILENCE, stream.message()).await {
                Ok(Ok(message)) => Ok(message.map(|message| (wire::told_from_pb(message), stream))),
                Ok(Err(status)) => Err(Unavailable(status.message().to_owned())),
                Err(_) => Err(Unavailable("silence".into())),
            }
        });
        Ok(Box::pin(told))
    }
}
