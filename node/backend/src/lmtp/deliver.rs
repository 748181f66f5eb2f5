//! From a whole message to what each recipient is told.

use std::{collections::HashMap, time::SystemTime};

use bytes::Bytes;
use mailcluster_proto_smtp::Reply;
use mailcluster_store::{
    Delivered, Delivery, DeliveryTarget, Enqueue, QueueRecipient, Receipt, Store, WriteError,
};
use mailcluster_types::{AccountId, Address};

use super::{
    envelope::{Envelope, Recipient, Way},
    junk, refusal,
};
use crate::metrics;

/// No answer may be given: the connection must be closed.
#[derive(Debug, thiserror::Error)]
#[error("no answer may be given: {0}")]
pub(super) struct Silence(pub(super) &'static str);

/// What the store did, not yet acknowledged.
pub(super) struct Pending {
    local: Option<Half<Vec<Delivered>>>,
    queued: Option<Half<()>>,
    accounts: Vec<AccountId>,
}

/// What was done for an account or recipient, in a word.
type Done = Result<&'static str, Reply>;

/// One of the two changes: appended, or refused before anything was.
enum Half<T> {
    Appended(Receipt<T>),
    Refused(Reply),
}

/// Hands the message to the store: one delivery for the accounts, one queue entry for the rest, side by side.
pub(super) async fn commit(store: &Store, envelope: &Envelope, body: Bytes) -> Result<Pending, Silence> {
    let at = unix_now();
    let mut targets = targets(envelope);
    if envelope.checked.junk {
        junk::into(store, &mut targets).await?;
    }
    let accounts: Vec<AccountId> = targets.iter().map(|t| t.account).collect();
    let waiting = queue_recipients(&envelope.recipients, at);
    let deliver = async {
        if targets.is_empty() {
            return Ok(None);
        }
        let (sender, body) = (envelope.sender.clone(), body.clone());
        let met = envelope.checked.met.clone();
        let delivery = Delivery { id: envelope.delivery, sender, at, body, met, targets };
        half(store.deliver(delivery).await).map(Some)
    };
    let queue = async {
        if waiting.is_empty() {
            return Ok(None);
        }
        let message = Enqueue {
            delivery: envelope.delivery,
            sender: envelope.sender.clone(),
            at,
            params: params(envelope),
            recipients: waiting,
            body: body.clone(),
        };
        half(store.queue_put(message).await).map(Some)
    };
    let (local, queued) = tokio::join!(deliver, queue);
    Ok(Pending { local: local?, queued: queued?, accounts })
}

/// Asks `may_acknowledge` and answers a reply per recipient. Nothing may be awaited between this and the writing.
pub(super) fn acknowledge(pending: Pending, envelope: &Envelope) -> Result<Vec<Reply>, Silence> {
    let delivery = envelope.delivery;
    let mut outcomes: HashMap<AccountId, Done> = HashMap::new();
    match pending.local {
        None => {}
        Some(Half::Refused(reply)) => {
            outcomes.extend(pending.accounts.iter().map(|account| (*account, Err(reply.clone()))));
        }
        Some(Half::Appended(receipt)) => {
            let delivered = receipt.acknowledge().map_err(|_| Silence("fenced"))?;
            let told = delivered.iter().map(|outcome| match outcome {
                Delivered::Stored { .. } => Ok("delivered"),
                Delivered::Duplicate => Ok("duplicate"),
                Delivered::Refused(refused) => Err(refusal::reply(refused)),
            });
            outcomes.extend(pending.accounts.iter().copied().zip(told));
        }
    }
    let queued = match pending.queued {
        None => Ok(()),
        Some(Half::Refused(reply)) => Err(reply),
        Some(Half::Appended(receipt)) => Ok(receipt.acknowledge().map_err(|_| Silence("fenced"))?),
    };
    let reply = |recipient: &Recipient| {
        let outcome = match &recipient.way {
            Way::Deliver(accounts) => all(accounts, &outcomes),
            Way::HandOff(..) | Way::Out => queued.clone().map(|()| "queued"),
            Way::Hold => queued.clone().map(|()| "held"),
        };
        tell(envelope, recipient, &outcome);
        match outcome {
            Ok(done) => {
                // Whoever sends it again need not know.
                let done = if done == "duplicate" { "delivered" } else { done };
                Reply::with(250, format!("2.0.0 <{}> {done} id={delivery}", recipient.address))
            }
            Err(refused) => refused,
        }
    };
    Ok(envelope.recipients.iter().map(reply).collect())
}

/// A recipient with several accounts has got its mail when all of them have.
fn all(accounts: &[AccountId], outcomes: &HashMap<AccountId, Done>) -> Done {
    const LOST: Reply = Reply::new(451, "4.3.0 not delivered");
    let all = accounts.iter().map(|account| outcomes.get(account).cloned().unwrap_or(Err(LOST)));
    // A duplicate only when all of them had it.
    let both =
        |one: Done, other: Done| Ok(if one? == "duplicate" { other? } else { other.map(|_| "delivered")? });
    all.reduce(both).unwrap_or(Err(LOST))
}

/// To the log and the metrics.
fn tell(envelope: &Envelope, recipient: &Recipient, outcome: &Done) {
    let (id, rcpt) = (envelope.delivery, &recipient.address);
    match outcome {
        Ok(done) => {
            metrics::taken(done);
            tracing::info!(%id, %rcpt, outcome = done, "lmtp");
        }
        Err(reply) => {
            metrics::refused(reply);
            tracing::info!(%id, %rcpt, outcome = "refused", %reply, "lmtp");
        }
    }
}

fn half<T>(result: Result<Receipt<T>, WriteError>) -> Result<Half<T>, Silence> {
    match result {
        Ok(receipt) => Ok(Half::Appended(receipt)),
        Err(WriteError::Refused(refused)) => Ok(Half::Refused(refusal::reply(&refused))),
        Err(WriteError::Unknown) => Err(Silence("the outcome is unknown")),
        Err(WriteError::NotServing) => Err(Silence("the store does not serve")),
    }
}

/// One target per account, whatever number of recipients lead to it.
fn targets(envelope: &Envelope) -> Vec<DeliveryTarget> {
    let mut targets: Vec<DeliveryTarget> = Vec::with_capacity(envelope.recipients.len());
    let mut seen = std::collections::HashSet::new();
    for recipient in &envelope.recipients {
        let Way::Deliver(accounts) = &recipient.way else { continue };
        for account in accounts.iter().filter(|account| seen.insert(**account)) {
            targets.push(DeliveryTarget {
                account: *account,
                recipient: key(&recipient.address),
                mailbox: "INBOX".to_owned(),
                prefix: prefix(&envelope.sender, &recipient.address),
            });
        }
    }
    targets
}

/// RFC 5321 section 4.4: the final delivery adds Return-Path. Neither address can have a CR or LF: both came in a
/// command line without control characters.
fn prefix(sender: &str, recipient: &str) -> Bytes {
    format!("Return-Path: <{sender}>\r\nDelivered-To: {recipient}\r\n").into()
}

/// What goes on with a message that waits.
fn params(envelope: &Envelope) -> String {
    let utf8 = if envelope.utf8 { "SMTPUTF8" } else { "" };
    format!("{utf8}{}", envelope.checked.params()).trim_start().to_owned()
}

fn key(address: &str) -> String {
    address.parse::<Address>().map_or_else(|_| address.to_lowercase(), |a| a.key())
}

fn queue_recipients(recipients: &[Recipient], at: i64) -> Vec<QueueRecipient> {
    let queued = |recipient: &Recipient| {
        let (account, store) = match &recipient.way {
            Way::Deliver(_) => return None,
            Way::HandOff(account, store) => (Some(*account), Some(store.clone())),
            Way::Hold | Way::Out => (None, None),
        };
        let held = recipient.way == Way::Hold;
        Some(QueueRecipient { account, store, held, ..QueueRecipient::new(recipient.address.clone(), at) })
    };
    recipients.iter().filter_map(queued).collect()
}

/// Seconds since 1970.
pub(super) fn unix_now() -> i64 {
    i64::try_from(unix_ms() / 1000).unwrap_or(i64::MAX)
}

/// Milliseconds since 1970.
pub(super) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
