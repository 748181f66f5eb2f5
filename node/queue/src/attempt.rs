//! One message's attempt at one store.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures::future::join_all;
use mailcluster_lmtp::{Body, Checked, Client, ClientError, Envelope, Hint, Recipient, Timeouts, WireError};
use mailcluster_outbound::Status;
use mailcluster_proto_smtp::Reply;
use mailcluster_store::{QueueItem, QueueRecipient, QueueUpdate, ReadError, Receipt, Store, WriteError};
use mailcluster_types::{Backends, ClientInfo, DeliveryId, Directory, Protocol, SessionId, StoreName};
use tokio::time::timeout;

use crate::{
    body::StoredMessage,
    config::QueueConfig,
    decision::{self, Destination},
    report::{self, Reason},
    undeliverable,
};

/// Time for a connection with its TLS handshake and greeting.
const CONNECT: Duration = Duration::from_secs(5);
/// Time to wait after the store refused a change of the queue.
const PAUSE: Duration = Duration::from_secs(1);

/// The store does not serve: the runner rests, and ends when it has stopped.
#[derive(Debug, thiserror::Error)]
#[error("the store does not serve any more")]
pub(crate) struct Stop;

/// What all workers share.
pub(crate) struct Context {
    pub(crate) config: QueueConfig,
    pub(crate) store: Store,
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) backends: Arc<dyn Backends>,
    pub(crate) slots: tokio::sync::Semaphore,
}

/// How an attempt at a store ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// The store answered, whatever it said.
    Answered,
    /// The store could not be reached, or was lost on the way.
    Away,
}

/// Connections of one lane, by store.
#[derive(Default)]
pub(crate) struct Lines(HashMap<StoreName, Client>);

impl Lines {
    pub(crate) async fn quit(self) {
        for (_, client) in self.0 {
            client.quit().await;
        }
    }
}

impl Context {
    /// Tries a message's recipients that are due for `store`.
    pub(crate) async fn attempt(
        &self,
        lines: &mut Lines,
        item: &QueueItem,
        store: &StoreName,
    ) -> Result<Attempt, Stop> {
        let now = unix_now();
        let due = item.recipients.iter().filter(|r| decision::is_due(r, store, now));
        let (back, due): (Vec<&QueueRecipient>, Vec<_>) = due.partition(|r| !r.returned.is_empty());
        for recipient in back {
            self.give_back(item, recipient).await?;
        }
        if decision::is_expired(item, now, self.config.max_age) {
            self.expire(item, &due).await?;
            return Ok(Attempt::Answered);
        }
        let mut groups: HashMap<StoreName, Vec<(Recipient, QueueRecipient)>> = HashMap::new();
        for recipient in due {
            let Some(account) = recipient.account else { continue };
            let answer = self.directory.locate(account).await.ok();
            match decision::destination(store, answer) {
                Destination::Gone => {
                    let reason = gone();
                    undeliverable::give_up(self, item, recipient, &reason).await?;
                }
                Destination::Store(to) => {
                    let named = Recipient::Deliver { address: recipient.address.clone(), account };
                    groups.entry(to).or_default().push((named, recipient.clone()));
                }
            }
        }
        let mut result = Attempt::Answered;
        for (to, group) in groups {
            if self.send(lines, item, (&to, group)).await? == Attempt::Away {
                result = Attempt::Away;
            }
        }
        Ok(result)
    }

    /// Bounces what a person sends back.
    pub(crate) async fn give_back(&self, item: &QueueItem, recipient: &QueueRecipient) -> Result<(), Stop> {
        let last = Some(recipient.last_error.clone()).filter(|error| !error.is_empty());
        let text = "It was taken out of the queue by an administrator";
        let reason = Reason { diagnostic: last, ..Reason::new(Status::new(5, 7, 1), text) };
        tracing::info!(id = %item.delivery, rcpt = %recipient.address, why = recipient.returned, "goes back");
        undeliverable::give_up(self, item, recipient, &reason).await
    }

    /// Bounces what has waited too long.
    pub(crate) async fn expire(&self, item: &QueueItem, recipients: &[&QueueRecipient]) -> Result<(), Stop> {
        for recipient in recipients {
            let last = Some(recipient.last_error.clone()).filter(|error| !error.is_empty());
            let text = "It waited in the queue for too long";
            let reason = Reason { diagnostic: last, ..Reason::new(Status::new(4, 4, 7), text) };
            undeliverable::give_up(self, item, recipient, &reason).await?;
        }
        Ok(())
    }

    async fn send(
        &self,
        lines: &mut Lines,
        item: &QueueItem,
        (to, group): (&StoreName, Vec<(Recipient, QueueRecipient)>),
    ) -> Result<Attempt, Stop> {
        let id = item.delivery;
        let mut client = match self.line(lines, to).await {
            Ok(client) => client,
            Err(error) => {
                tracing::debug!(%id, store = %to, %error, "store away, mail waits");
                return Ok(Attempt::Away);
            }
        };
        // Looked at only for a store that answers: it may be large, and stores are away for long.
        let Some(body) = self.body(item.body).await? else {
            lines.0.insert(to.clone(), client);
            self.hold_unreadable(id, group.iter().map(|(_, recipient)| recipient)).await?;
            return Ok(Attempt::Answered);
        };
        let (now, limit) = (unix_now(), self.config.retry_limit);
        let marked: Vec<QueueRecipient> = group.iter().map(|(_, r)| decision::mark(r, now, limit)).collect();
        let Some(receipts) = self.mark(id, &marked).await? else { return Ok(Attempt::Away) };
        let (names, _): (Vec<Recipient>, Vec<QueueRecipient>) = group.into_iter().unzip();
        match transact(&mut client, (item, names), body, receipts).await {
            Ok(replies) => {
                lines.0.insert(to.clone(), client);
                for (recipient, reply) in marked.iter().zip(replies) {
                    self.conclude(item, recipient, (to, reply)).await?;
                }
                Ok(Attempt::Answered)
            }
            Err(ClientError::Refused(reply)) => {
                for recipient in &marked {
                    self.conclude(item, recipient, (to, reply.clone())).await?;
                }
                Ok(Attempt::Answered)
            }
            Err(error) => {
                tracing::info!(%id, store = %to, %error, "attempt broke off");
                Ok(Attempt::Away)
            }
        }
    }

    /// What cannot be read waits for a person.
    pub(crate) async fn hold_unreadable(
        &self,
        id: DeliveryId,
        recipients: impl Iterator<Item = &QueueRecipient>,
    ) -> Result<(), Stop> {
        tracing::error!(%id, "queued message cannot be read: held");
        for recipient in recipients {
            let last_error = "message unreadable".into();
            let held = QueueRecipient { held: true, last_error, ..recipient.clone() };
            self.update(id, recipient, QueueUpdate::Retry(held)).await?;
        }
        Ok(())
    }

    /// Commits the attempt marks of all recipients, together; `None` when the store does not take them now.
    pub(crate) async fn mark(
        &self,
        id: DeliveryId,
        marked: &[QueueRecipient],
    ) -> Result<Option<Vec<Receipt<()>>>, Stop> {
        let updates = marked
            .iter()
            .map(|r| self.store.queue_update(id, r.address.clone(), QueueUpdate::Mark(r.clone())));
        let mut receipts = Vec::with_capacity(marked.len());
        for result in join_all(updates).await {
            match result {
                Ok(receipt) => receipts.push(receipt),
                Err(WriteError::Refused(refused)) => {
                    tracing::warn!(%id, %refused, "an attempt cannot be marked now");
                    return Ok(None);
                }
                Err(WriteError::Unknown | WriteError::NotServing) => return Err(Stop),
            }
        }
        Ok(Some(receipts))
    }

    /// Writes down what a store said of one recipient.
    async fn conclude(
        &self,
        item: &QueueItem,
        recipient: &QueueRecipient,
        (store, reply): (&StoreName, Reply),
    ) -> Result<(), Stop> {
        let (id, rcpt) = (item.delivery, &recipient.address);
        if reply.is_positive() {
            tracing::info!(%id, %rcpt, %store, "delivered from the queue");
            self.config.handle.delivered();
            let outcome = format!("delivered to {store}");
            return self.update(id, recipient, QueueUpdate::Done { outcome }).await;
        }
        if decision::is_final(&reply) {
            let status = reply.status().and_then(Status::parse).unwrap_or(Status::new(5, 0, 0));
            let diagnostic = Some(reply.to_string());
            let reason = Reason { diagnostic, ..Reason::new(status, "The mailbox refused it") };
            return undeliverable::give_up(self, item, recipient, &reason).await;
        }
        tracing::info!(%id, %rcpt, %store, %reply, "put off");
        self.config.handle.deferred();
        let later = QueueRecipient { last_error: reply.to_string(), ..recipient.clone() };
        self.update(id, recipient, QueueUpdate::Retry(later)).await
    }

    /// A greeted connection: the lane's own, or a new one.
    async fn line(&self, lines: &mut Lines, store: &StoreName) -> Result<Client, ClientError> {
        if let Some(mut client) = lines.0.remove(store)
            && client.reset().await.is_ok()
        {
            return Ok(client);
        }
        let client = self.client_info()?;
        let opening = async {
            let stream = self.backends.open(store, Protocol::Lmtp, None, &client).await;
            let stream = stream.map_err(|e| WireError::Io(std::io::Error::other(e)))?;
            Client::greet(stream, &self.config.hostname, Timeouts::default()).await
        };
        let result = timeout(CONNECT, opening).await.map_err(|_| WireError::Timeout)?;
        if let Err(ClientError::Refused(reply)) = &result
            && let Some(hint) = Hint::parse(&reply.text)
        {
            self.backends.route_hint(store, hint.epoch, hint.endpoint);
        }
        result
    }

    fn client_info(&self) -> Result<ClientInfo, ClientError> {
        let session = SessionId::random().map_err(WireError::Io)?;
        let nobody = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        Ok(ClientInfo { remote: nobody, local: nobody, tls: None, session })
    }

    /// A queued message's text; `None` when it is damaged or gone.
    pub(crate) async fn body(&self, body: u64) -> Result<Option<StoredMessage>, Stop> {
        match self.store.read(move |view| view.stored_body(body)).await {
            Ok(body) => Ok(Some(StoredMessage { store: self.store.clone(), body })),
            Err(ReadError::NotServing) => Err(Stop),
            Err(error) => {
                tracing::error!(%error, "queued message cannot be read");
                Ok(None)
            }
        }
    }

    /// Changes one recipient's entry.
    pub(crate) async fn update(
        &self,
        id: DeliveryId,
        recipient: &QueueRecipient,
        update: QueueUpdate,
    ) -> Result<(), Stop> {
        let result = self.store.queue_update(id, recipient.address.clone(), update).await;
        self.committed(result).await?;
        Ok(())
    }

    /// A change of ours counts when it may be acknowledged. False when the store refused it (a full volume): things
    /// are then as they were, and are tried again after a pause.
    pub(crate) async fn committed(&self, result: Result<Receipt<()>, WriteError>) -> Result<bool, Stop> {
        match result {
            Ok(receipt) => receipt.acknowledge().map(|()| true).map_err(|_| Stop),
            Err(WriteError::Refused(refused)) => {
                tracing::warn!(%refused, "the queue cannot be changed now");
                tokio::time::sleep(PAUSE).await;
                Ok(false)
            }
            Err(WriteError::Unknown | WriteError::NotServing) => Err(Stop),
        }
    }
}

/// What was read; nothing when it cannot be read just now.
pub(crate) fn readable<T: Default>(result: Result<T, ReadError>) -> Result<T, Stop> {
    match result {
        Ok(value) => Ok(value),
        Err(ReadError::NotServing) => Err(Stop),
        Err(error) => {
            tracing::error!(%error, "the queue cannot be read");
            Ok(T::default())
        }
    }
}

/// MAIL, RCPT, DATA under the id the mail was accepted with; a reply per recipient.
async fn transact(
    client: &mut Client,
    (item, recipients): (&QueueItem, Vec<Recipient>),
    body: StoredMessage,
    receipts: Vec<Receipt<()>>,
) -> Result<Vec<Reply>, ClientError> {
    let envelope = Envelope {
        delivery: item.delivery,
        sender: item.sender.clone(),
        size: body.size(),
        utf8: report::is_utf8(item) || recipients.iter().any(|r| !r.address().is_ascii()),
        wishes: report::wishes(item),
        checked: Checked::from_params(&item.params),
    };
    let mut replies = client.begin(&envelope, &recipients).await?;
    if client.accepted() == 0 {
        return Ok(replies);
    }
    // A store that was taken over in the meantime must not finish the message.
    let leave = || receipts.into_iter().all(|receipt| receipt.acknowledge().is_ok());
    let mut after = client.data(&body, leave).await?.into_iter();
    for reply in replies.iter_mut().filter(|reply| reply.is_positive()) {
        if let Some(said) = after.next() {
            *reply = said;
        }
    }
    Ok(replies)
}

fn gone() -> Reason {
    Reason::new(Status::new(5, 1, 1), "There is no such mailbox any more")
}

/// Seconds since 1970.
pub(crate) fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
