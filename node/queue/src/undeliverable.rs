//! What becomes of mail that will never be delivered, and what is told of mail that is late.

use bytes::{Bytes, BytesMut};
use mailcluster_lmtp::Body;
use mailcluster_outbound::dsn::{Action, MAX_WHOLE};
use mailcluster_proto_smtp::Ret;
use mailcluster_store::{Enqueue, QueueItem, QueueRecipient, QueueUpdate};
use mailcluster_types::{Address, DeliveryId, Resolution};

use crate::{
    attempt::{Context, Stop, unix_now},
    body::StoredMessage,
    report::{self, Reason},
};

/// Where a notification goes.
enum Sender {
    /// Nowhere: a notification about a notification is never made (RFC 5321 section 6.1).
    Null,
    /// To these recipients of our own, by the queue.
    Local(Vec<QueueRecipient>),
    /// Out; held where there is no way out.
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
        _ if !report::is_wanted(item, recipient, Action::Failed) => {
            handle.dropped();
            format!("dropped, as its sender asked for no report: {}", reason.text)
        }
        Sender::Local(recipients) => {
            let put = notify(context, (item, recipient), (Action::Failed, reason), recipients).await?;
            let Some(bounce) = put else { return put_off(context, item, recipient).await };
            handle.bounced();
            format!("bounced as {bounce}: {}", reason.text)
        }
        Sender::Foreign(to) => {
            let held = to.held;
            let put = notify(context, (item, recipient), (Action::Failed, reason), vec![to]).await?;
            let Some(bounce) = put else { return put_off(context, item, recipient).await };
            if held {
                handle.held();
                format!("bounced as {bounce}, held: {}", reason.text)
            } else {
                handle.bounced();
                format!("bounced as {bounce}: {}", reason.text)
            }
        }
    };
    tracing::warn!(%id, %rcpt, %outcome, "undeliverable");
    context.update(item.delivery, recipient, QueueUpdate::Done { outcome }).await?;
    Ok(())
}

/// Tells the sender that its mail is late, once. What cannot be told now is told at the next attempt.
pub(crate) async fn tell_of_delay(
    context: &Context,
    item: &QueueItem,
    recipient: &mut QueueRecipient,
    reason: &Reason,
) -> Result<(), Stop> {
    let to = match sender(context, &item.sender).await {
        None => return Ok(()),
        Some(Sender::Null) => Vec::new(),
        Some(Sender::Local(recipients)) => recipients,
        Some(Sender::Foreign(to)) => vec![to],
    };
    // A notice of delay that would wait for a person is of no use to anybody.
    let useful = to.iter().any(|to| !to.held);
    if useful && notify(context, (item, recipient), (Action::Delayed, reason), to).await?.is_none() {
        return Ok(());
    }
    recipient.noticed = true;
    context.update(item.delivery, recipient, QueueUpdate::Retry(recipient.clone())).await
}

/// Tells a sender who asked for it that its mail was given to a server that sends no reports. False when that cannot be
/// done now.
pub(crate) async fn tell_of_relay(
    context: &Context,
    item: &QueueItem,
    recipient: &QueueRecipient,
    reason: &Reason,
) -> Result<bool, Stop> {
    let to = match sender(context, &item.sender).await {
        None => return Ok(false),
        Some(Sender::Null) => return Ok(true),
        Some(Sender::Local(recipients)) => recipients,
        Some(Sender::Foreign(to)) => vec![to],
    };
    Ok(notify(context, (item, recipient), (Action::Relayed, reason), to).await?.is_some())
}

/// Not due again at once: what cannot be ended now would be looked at for ever.
pub(crate) async fn put_off(
    context: &Context,
    item: &QueueItem,
    recipient: &QueueRecipient,
) -> Result<(), Stop> {
    let wait = i64::try_from(context.config.retry_limit.as_secs()).unwrap_or(i64::MAX);
    let later = QueueRecipient { next_attempt: unix_now().saturating_add(wait.max(1)), ..recipient.clone() };
    context.update(item.delivery, recipient, QueueUpdate::Retry(later)).await
}

/// As much of a message as comes back: all of one that failed where its sender asked for that, if it is no larger than
/// may come back; else its first piece, which holds the header.
async fn beginning(body: &StoredMessage, item: &QueueItem, action: Action) -> Bytes {
    let whole = action == Action::Failed && report::of_mail(item).ret == Some(Ret::Full);
    let first = body.piece(0).await.unwrap_or_default();
    if !whole || body.size() > MAX_WHOLE {
        return first;
    }
    let mut message = BytesMut::from(first);
    while (message.len() as u64) < body.size() {
        match body.piece(message.len() as u64).await {
            Ok(piece) if !piece.is_empty() => message.extend_from_slice(&piece),
            _ => break,
        }
    }
    message.freeze()
}

async fn sender(context: &Context, sender: &str) -> Option<Sender> {
    if sender.is_empty() {
        return Some(Sender::Null);
    }
    let now = unix_now();
    let held = context.config.out.is_none();
    let foreign = || Sender::Foreign(QueueRecipient { held, ..QueueRecipient::new(sender.to_owned(), now) });
    let Ok(address) = sender.parse::<Address>() else { return Some(foreign()) };
    match context.directory.resolve(&address).await.ok()? {
        Resolution::Accounts(accounts) if !accounts.is_empty() => {
            // One address may stand for several accounts; in the queue each needs an address of its own.
            let several = accounts.len() > 1;
            let local = accounts.into_iter().map(|a| {
                let own = if several { a.address.to_string() } else { sender.to_owned() };
                QueueRecipient { account: Some(a.id), store: Some(a.store), ..QueueRecipient::new(own, now) }
            });
            Some(Sender::Local(local.collect()))
        }
        // An address of ours that leads to nobody would only come back.
        Resolution::NoSuchMailbox | Resolution::Accounts(_) => Some(Sender::Foreign(QueueRecipient {
            held: true,
            ..QueueRecipient::new(sender.to_owned(), now)
        })),
        Resolution::NotLocal => Some(foreign()),
    }
}

/// Puts a notification into this store's queue; `None` when there is no room for it now.
async fn notify(
    context: &Context,
    (item, recipient): (&QueueItem, &QueueRecipient),
    (action, reason): (Action, &Reason),
    to: Vec<QueueRecipient>,
) -> Result<Option<DeliveryId>, Stop> {
    let message = match context.body(item.body).await? {
        Some(body) => beginning(&body, item, action).await,
        None => Bytes::new(),
    };
    let now = unix_now();
    let at = (&*context.config.hostname, now);
    let Some(written) = report::write((item, recipient), (action, reason), &message, at) else {
        return Ok(Some(item.delivery));
    };
    let Some(body) = signed(context, written.body, now).await else { return Ok(None) };
    let notification = Enqueue {
        delivery: written.id,
        sender: String::new(),
        at: now,
        params: written.params,
        recipients: to,
        body,
    };
    let put = context.store.queue_put(notification).await;
    Ok(context.committed(put).await?.then_some(written.id))
}

/// A notification is signed like any mail of the domain that it comes from, where that has keys; `None`: it is not known
/// whether it has any.
async fn signed(context: &Context, message: Bytes, now: i64) -> Option<Bytes> {
    let keys = context.directory.signing_keys(&context.config.hostname).await;
    let keys =
        keys.inspect_err(|error| tracing::warn!(%error, "keys for a bounce cannot be had; it waits")).ok()?;
    match mailcluster_dkim::sign_whole(&keys, &message, now) {
        Ok(signed) => Some(signed.into()),
        Err(error) => {
            // A bounce that others may not believe is better than none.
            tracing::error!(%error, "a bounce goes unsigned");
            Some(message)
        }
    }
}
