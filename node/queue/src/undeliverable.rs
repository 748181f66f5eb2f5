//! What becomes of mail that will never be delivered.

use bytes::Bytes;
use mailcluster_lmtp::Body;
use mailcluster_store::{QueueItem, QueueRecipient, QueueUpdate};
use mailcluster_types::{Address, DeliveryId, Resolution};

use crate::{
    attempt::{Context, Stop, unix_now},
    bounce::{self, Failure, Reason},
};

/// Where a notification goes.
enum Sender {
    /// Nowhere: a notification about a notification is never made (RFC 5321 section 6.1).
    Null,
    /// To these recipients of our own, by the queue.
    Local(Vec<QueueRecipient>),
    /// Out, once there is a way: held until then.
    Foreign(QueueRecipient),
}

/// Ends a recipient's waiting with a notification to the sender. When the directory cannot be asked, or there is no
/// room for the notification, it goes on waiting. The notification is durable before the recipient leaves the queue.
pub(crate) async fn give_up(
    context: &Context,
    item: &QueueItem,
    recipient: &QueueRecipient,
    reason: &Reason,
) -> Result<(), Stop> {
    let (id, rcpt) = (item.delivery, &recipient.address);
    let Some(sender) = sender(context, &item.sender).await else {
        tracing::warn!(%id, %rcpt, "sender cannot be resolved now; the bounce waits");
        return put_off(context, item, recipient).await;
    };
    let handle = &context.config.handle;
    let outcome = match sender {
        Sender::Null => {
            handle.dropped();
            format!("dropped, as its sender is null: {}", reason.text)
        }
        Sender::Local(recipients) => {
            let put = notify(context, item, recipient, (reason, recipients)).await?;
            let Some(bounce) = put else { return put_off(context, item, recipient).await };
            handle.bounced();
            format!("bounced as {bounce}: {}", reason.text)
        }
        Sender::Foreign(held) => {
            let put = notify(context, item, recipient, (reason, vec![held])).await?;
            let Some(bounce) = put else { return put_off(context, item, recipient).await };
            handle.held();
            format!("bounced as {bounce}, held: {}", reason.text)
        }
    };
    tracing::warn!(%id, %rcpt, %outcome, "undeliverable");
    context.update(item.delivery, recipient, QueueUpdate::Done { outcome }).await?;
    Ok(())
}

/// Not due again at once: what cannot be ended now would be looked at for ever.
async fn put_off(context: &Context, item: &QueueItem, recipient: &QueueRecipient) -> Result<(), Stop> {
    let wait = i64::try_from(context.config.retry_limit.as_secs()).unwrap_or(i64::MAX);
    let later = QueueRecipient { next_attempt: unix_now().saturating_add(wait.max(1)), ..recipient.clone() };
    context.update(item.delivery, recipient, QueueUpdate::Retry(later)).await
}

async fn sender(context: &Context, sender: &str) -> Option<Sender> {
    if sender.is_empty() {
        return Some(Sender::Null);
    }
    let waiting = |address: &str| QueueRecipient {
        address: address.to_owned(),
        account: None,
        store: None,
        attempts: 0,
        next_attempt: unix_now(),
        last_error: String::new(),
        held: true,
    };
    let Ok(address) = sender.parse::<Address>() else { return Some(Sender::Foreign(waiting(sender))) };
    match context.directory.resolve(&address).await.ok()? {
        Resolution::Accounts(accounts) if !accounts.is_empty() => {
            // One address may stand for several accounts; in the queue each needs an address of its own.
            let several = accounts.len() > 1;
            let local = accounts.into_iter().map(|a| {
                let own = if several { a.address.to_string() } else { sender.to_owned() };
                QueueRecipient { account: Some(a.id), store: Some(a.store), held: false, ..waiting(&own) }
            });
            Some(Sender::Local(local.collect()))
        }
        _ => Some(Sender::Foreign(waiting(sender))),
    }
}

/// Puts a notification into this store's queue; `None` when there is no room for it now.
async fn notify(
    context: &Context,
    item: &QueueItem,
    recipient: &QueueRecipient,
    (reason, to): (&Reason, Vec<QueueRecipient>),
) -> Result<Option<DeliveryId>, Stop> {
    // Its first piece holds as much of the header as comes back.
    let message = match context.body(item.body).await? {
        Some(body) => body.piece(0).await.unwrap_or_default(),
        None => Bytes::new(),
    };
    let failure = Failure {
        delivery: item.delivery,
        sender: &item.sender,
        recipient: &recipient.address,
        queued_at: item.queued_at,
        reason,
        message: &message,
    };
    let now = unix_now();
    let body = bounce::write(&failure, &context.config.hostname, now);
    let id = bounce::id_for(item.delivery, &recipient.address);
    let put = context.store.queue_put(id, String::new(), now, to, body).await;
    Ok(context.committed(put).await?.then_some(id))
}
