//! Questions that every store has to answer. A store that does not is named, and the others' answers stand.

use std::sync::Arc;

use futures::future;
use mailcluster_rpc::{admin::v1 as pb, store::v1 as store_pb};
use mailcluster_types::StoreName;
use tonic::Status;

use crate::{AdminError, DirectoryService, StoreDialer, StoreQuery, queue_change};

/// Each store's answer, or `None` when there was none.
async fn ask<T, F, A>(dialer: &dyn StoreDialer, stores: Vec<StoreName>, ask: F) -> Vec<(StoreName, Option<T>)>
where
    F: Fn(Arc<dyn StoreQuery>) -> A,
    A: Future<Output = Result<T, Status>>,
{
    let ask = &ask;
    let each = stores.into_iter().map(|store| async move {
        let answer = match dialer.dial(&store).await {
            Ok(query) => ask(query).await.map_err(|s| s.message().to_owned()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = &answer {
            tracing::info!(%store, error, "store did not answer");
        }
        (store, answer.ok())
    });
    future::join_all(each).await
}

fn split<T>(answers: Vec<(StoreName, Option<T>)>) -> (Vec<(String, T)>, Vec<String>) {
    let (mut given, mut missing) = (Vec::new(), Vec::new());
    for (store, answer) in answers {
        match answer {
            Some(answer) => given.push((store.to_string(), answer)),
            None => missing.push(store.to_string()),
        }
    }
    (given, missing)
}

/// This store, or all of them.
pub(super) fn named(dialer: &dyn StoreDialer, store: &str) -> Result<Vec<StoreName>, AdminError> {
    let stores = dialer.stores()?;
    match store {
        "" => Ok(stores),
        name if stores.iter().any(|s| s.as_str() == name) => Ok(vec![StoreName::from(name)]),
        name => Err(AdminError::NotFound(format!("there is no store {name}"))),
    }
}

impl DirectoryService {
    /// What happened to a message or to a recipient's mail, over all stores, oldest first.
    pub(crate) async fn trace(
        &self,
        dialer: &dyn StoreDialer,
        request: pb::TraceRequest,
    ) -> Result<pb::TraceResponse, AdminError> {
        use pb::trace_request::Key;
        use store_pb::get_history_request::Key as StoreKey;
        let key = match request.key {
            Some(Key::Delivery(id)) => {
                let id: mailcluster_types::DeliveryId =
                    id.parse().map_err(|_| AdminError::Invalid("a delivery id has 26 digits".into()))?;
                StoreKey::Delivery(id.to_string())
            }
            Some(Key::Recipient(text)) => StoreKey::Recipient(crate::names::address(&text)?.key()),
            None => return Err(AdminError::Invalid("name a delivery id or a recipient".into())),
        };
        let limit = if request.limit == 0 { 100 } else { request.limit };
        let question = store_pb::GetHistoryRequest { key: Some(key), limit };
        let answers = ask(dialer, dialer.stores()?, |store| {
            let question = question.clone();
            async move { store.history(question).await }
        });
        let (given, unreachable_stores) = split(answers.await);
        let mut events: Vec<_> = given
            .into_iter()
            .flat_map(|(store, answer)| {
                // Newest first from the store; the reverse keeps its order within one second.
                let events = answer.events.into_iter().rev();
                events.map(move |e| pb::TraceEvent { store: store.clone(), event: Some(e) })
            })
            .collect();
        events.sort_by_key(|e| e.event.as_ref().map_or(0, |e| e.at));
        Ok(pb::TraceResponse { events, unreachable_stores })
    }

    /// What waits in the queues of all stores, or of one.
    pub(crate) async fn queues(
        &self,
        dialer: &dyn StoreDialer,
        request: pb::ListQueueRequest,
    ) -> Result<pb::ListQueueResponse, AdminError> {
        if !request.delivery.is_empty() {
            queue_change::delivery(&request.delivery)
                .map_err(|s| AdminError::Invalid(s.message().to_owned()))?;
        }
        let stores = named(dialer, &request.store)?;
        let limit = if request.limit == 0 { 100 } else { request.limit };
        let question = store_pb::ListQueueRequest { after: String::new(), limit, delivery: request.delivery };
        let answers = ask(dialer, stores, |store| {
            let question = question.clone();
            async move { store.queue(question).await }
        });
        let (given, unreachable_stores) = split(answers.await);
        let entries = given.into_iter().flat_map(|(store, answer)| {
            answer
                .items
                .into_iter()
                .map(move |item| pb::QueueEntry { store: store.clone(), item: Some(item) })
        });
        Ok(pb::ListQueueResponse { entries: entries.collect(), unreachable_stores })
    }

    /// The directory at a glance, and every store.
    pub(crate) async fn status(&self, dialer: &dyn StoreDialer) -> Result<pb::Status, AdminError> {
        let (counts, domains) = self
            .look(|view, _| {
                let domains = view.domains()?.iter().filter(|d| !d.tombstone).count();
                Ok((view.accounts_per_store()?, domains as u64))
            })
            .await?;
        let mut names = dialer.stores()?;
        names.extend(counts.iter().map(|(store, _)| store.clone()));
        names.sort();
        names.dedup();
        let answers = ask(dialer, names, |store| async move { store.usage().await }).await;
        let of = |store: &StoreName| counts.iter().find(|(s, _)| s == store).map_or(0, |(_, n)| *n);
        let stores = answers.into_iter().map(|(store, usage)| pb::StoreStatus {
            accounts: of(&store),
            store: store.to_string(),
            reachable: usage.is_some(),
            usage,
        });
        let (epoch, sequence) = self.store().committed();
        Ok(pb::Status {
            hostname: self.config().hostname.clone(),
            store: self.store().identity().store.to_string(),
            epoch: epoch.max(self.store().epoch()),
            sequence,
            domains,
            accounts: counts.iter().map(|(_, n)| n).sum(),
            stores: stores.collect(),
        })
    }
}
