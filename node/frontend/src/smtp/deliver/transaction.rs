//! One open LMTP transaction at one store.

use std::sync::atomic::{AtomicBool, Ordering};

use mailcluster_lmtp::{Client, ClientError, Recipient, WireError};
use mailcluster_proto_smtp::Reply;
use mailcluster_types::StoreName;

use super::{
    Item, Job, given_up,
    plan::{Entry, Outcome},
};
use crate::smtp::stores::Reach;

/// How an item is named to a store.
pub(super) type Naming = fn(&Item) -> Recipient;

/// An item on its own store.
pub(super) fn direct(item: &Item) -> Recipient {
    match item {
        Item::Account { address, account, .. } => {
            Recipient::Deliver { address: address.clone(), account: *account }
        }
        Item::Out { .. } | Item::Held { .. } => elsewhere(item),
    }
}

/// An item in another store's queue.
pub(super) fn elsewhere(item: &Item) -> Recipient {
    match item {
        Item::Account { address, account, store } => {
            Recipient::HandOff { address: address.clone(), account: *account, store: store.clone() }
        }
        // Whichever store has it sends it.
        Item::Out { address, .. } => Recipient::Out { address: address.clone() },
        Item::Held { address } => Recipient::Hold { address: address.clone() },
    }
}

/// MAIL and RCPT were said; the message was not sent.
pub(super) struct Transaction {
    store: StoreName,
    client: Client,
    /// In the order of the replies that will come.
    entries: Vec<Entry>,
}

impl Transaction {
    /// Opens one for these items; answers what the store said no to.
    pub(super) async fn open(
        reach: &Reach,
        kept: Option<Client>,
        job: &Job,
        (store, items, naming): (StoreName, Vec<usize>, Naming),
    ) -> Result<(Self, Vec<(usize, Reply)>), ClientError> {
        let recipients: Vec<Recipient> = items.iter().map(|item| naming(&job.items[*item])).collect();
        let (client, replies) = reach.begin(kept, &store, &job.envelope, &recipients).await?;
        let mut transaction = Self { store, client, entries: Vec::new() };
        let refused = transaction.enter(&items, &recipients, replies);
        Ok((transaction, refused))
    }

    /// Adds items for this store's queue; answers those it took.
    pub(super) async fn add(&mut self, job: &Job, items: &[usize]) -> Result<Vec<usize>, ClientError> {
        let recipients: Vec<Recipient> = items.iter().map(|item| elsewhere(&job.items[*item])).collect();
        let replies = self.client.recipients(&recipients).await?;
        let before = self.entries.len();
        self.enter(items, &recipients, replies);
        Ok(self.entries[before..].iter().map(|entry| entry.item).collect())
    }

    fn enter(
        &mut self,
        items: &[usize],
        recipients: &[Recipient],
        replies: Vec<Reply>,
    ) -> Vec<(usize, Reply)> {
        let mut refused = Vec::new();
        for ((item, recipient), reply) in items.iter().zip(recipients).zip(replies) {
            if reply.is_positive() {
                let queued = !matches!(recipient, Recipient::Deliver { .. });
                self.entries.push(Entry { item: *item, queued });
            } else {
                refused.push((*item, reply));
            }
        }
        refused
    }

    pub(super) fn store(&self) -> &StoreName {
        &self.store
    }

    pub(super) fn items(&self) -> impl Iterator<Item = usize> {
        self.entries.iter().map(|entry| entry.item)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Sends the message. The connection comes back when it can be used again. A store that goes away meanwhile is not
    /// waited for when another has room: what became of its copies is unknown then.
    pub(super) async fn send(
        mut self,
        reach: &Reach,
        job: &Job,
    ) -> (Vec<Entry>, Outcome, Option<(StoreName, Client)>) {
        if self.entries.is_empty() {
            return (Vec::new(), Ok(Vec::new()), self.abort().await);
        }
        let items: Vec<usize> = self.items().collect();
        let is_whole = AtomicBool::new(false);
        let leave = || {
            is_whole.store(true, Ordering::Relaxed);
            true
        };
        let outcome = tokio::select! {
            biased;
            outcome = self.client.data(&*job.body, leave) => outcome,
            () = given_up(reach, job, &self.store, &items) => Err(WireError::Timeout).map_err(
                // Without its end nothing was taken.
                if is_whole.load(Ordering::Relaxed) { ClientError::After } else { ClientError::Before },
            ),
        };
        if let Err(error) = &outcome {
            tracing::warn!(id = %job.envelope.delivery, store = %self.store, %error, "delivery broke off");
        }
        let kept = outcome.is_ok().then_some((self.store, self.client));
        (self.entries, outcome, kept)
    }

    /// Gives it up; nothing was sent in it.
    pub(super) async fn abort(mut self) -> Option<(StoreName, Client)> {
        self.client.reset().await.is_ok().then_some((self.store, self.client))
    }
}
