//! Queues are changed: held, released, tried now, emptied.

use futures::future;
use mailcluster_rpc::{admin::v1 as pb, store::v1 as store_pb};
use mailcluster_types::StoreName;

use super::fan_out::named;
use crate::{AdminError, DirectoryService, StoreDialer, queue_change};

/// Most pages of one store that one command changes: a million messages.
const PAGES: usize = 1000;

impl DirectoryService {
    /// Changes how mail waits, in all queues or one's. A store that cannot be asked, or fails, is told of; what it had
    /// done by then stands.
    pub(crate) async fn change_queues(
        &self,
        who: &str,
        dialer: &dyn StoreDialer,
        request: pb::ChangeQueueRequest,
    ) -> Result<pb::ChangeQueueResponse, AdminError> {
        let stores = named(dialer, &request.store)?;
        let question = store_pb::ChangeQueueRequest {
            filter: request.filter,
            action: request.action,
            who: who.to_owned(),
            dry_run: request.dry_run,
            after: String::new(),
        };
        let what =
            queue_change::describe(&question).map_err(|s| AdminError::Invalid(s.message().to_owned()))?;
        if !question.dry_run {
            self.note(who, &what).await?;
        }
        let stores = future::join_all(stores.iter().map(|store| pages(dialer, store, &question))).await;
        if !question.dry_run {
            for done in stores.iter().filter(|done| done.recipients > 0 || !done.error.is_empty()) {
                let error = if done.error.is_empty() { "" } else { ", then failed: " };
                let (store, recipients, messages) = (&done.store, done.recipients, done.messages);
                let came = format!("{what}: {recipients} recipients of {messages} messages in {store}");
                self.note(who, &format!("{came}{error}{}", done.error)).await?;
            }
        }
        Ok(pb::ChangeQueueResponse { stores })
    }
}

/// Page after page of one store's queue.
async fn pages(
    dialer: &dyn StoreDialer,
    store: &StoreName,
    question: &store_pb::ChangeQueueRequest,
) -> pb::QueueChanged {
    let mut done = pb::QueueChanged { store: store.to_string(), ..Default::default() };
    let query = match dialer.dial(store).await {
        Ok(query) => query,
        Err(error) => {
            done.error = error.to_string();
            return done;
        }
    };
    let mut question = question.clone();
    for _ in 0..PAGES {
        match query.change_queue(question.clone()).await {
            Ok(page) => {
                done.messages += page.messages;
                done.recipients += page.recipients;
                if page.next.is_empty() {
                    return done;
                }
                question.after = page.next;
            }
            Err(status) => {
                done.error = status.message().to_owned();
                return done;
            }
        }
    }
    done.error = "more waits than one command changes: give it once more".into();
    done
}
