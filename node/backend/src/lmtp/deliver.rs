//! From a whole message to what each recipient is told.

use std::{
    collections::{HashMap, HashSet},
    time::SystemTime,
};

use bytes::Bytes;
use mailcluster_proto_smtp::Reply;
use mailcluster_store::{
    Delivered, Delivery, DeliveryTarget, Enqueue, QueueRecipient, Receipt, Store, WriteError,
};
use mailcluster_types::{AccountId, Address};

use super::{
    envelope::{Envelope, Recipient, Way},
    junk, refusal, scripts, success,
};
use crate::{SessionContext, metrics};

/// No answer may be given: the connection must be closed.
#[derive(Debug, thiserror::Error)]
#[error("no answer may be given: {0}")]
pub(super) struct Silence(pub(super) &'static str);

/// What the store did, not yet acknowledged.
pub(super) struct Pending {
    local: Vec<Part>,
    queued: Option<Half<()>>,
    /// Reports of success.
    reports: Vec<Receipt<()>>,
    /// Accounts whose scripts have refused the mail, or could not be asked.
    decided: Vec<(AccountId, Reply)>,
}

/// A delivery for some of the accounts.
pub(super) struct Part {
    pub(super) accounts: Vec<AccountId>,
    pub(super) done: Half<Vec<Delivered>>,
}

/// What was done for an account or recipient, in a word.
type Done = Result<&'static str, Reply>;

/// One of the changes: appended, or refused before anything was.
pub(super) enum Half<T> {
    Appended(Receipt<T>),
    Refused(Reply),
}

/// Hands the message to the store: one delivery for the accounts, more where scripts send much, one queue entry for the
/// rest, side by side.
pub(super) async fn commit(
    context: &SessionContext,
    envelope: &Envelope,
    body: Bytes,
) -> Result<Pending, Silence> {
    let at = unix_now();
    let (mut plain, mut scripted) = targets(envelope);
    if envelope.checked.junk {
        let all = plain.iter_mut().chain(scripted.iter_mut().map(|(target, _)| target));
        junk::into(&context.store, all.collect()).await?;
    }
    let waiting = queue_recipients(&envelope.recipients, at);
    let deliver = async {
        let mut done = Parts::default();
        if !plain.is_empty() {
            done.local.push(part(&context.store, envelope, (&body, at), plain).await?);
        }
        if !scripted.is_empty() {
            scripts::deliver(context, envelope, (&body, at), scripted, &mut done).await?;
        }
        Ok::<_, Silence>(done)
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
        half(context.store.queue_put(message).await).map(Some)
    };
    let (done, queued) = tokio::join!(deliver, queue);
    let Parts { local, decided } = done?;
    let mut pending = Pending { local, queued: queued?, reports: Vec::new(), decided };
    report_success(context, envelope, &body, &mut pending).await?;
    Ok(pending)
}

/// Puts the reports that were asked for into the queue. Where there is no room for one, the mail is delivered all the
/// same: to have it come again would help nobody.
async fn report_success(
    context: &SessionContext,
    envelope: &Envelope,
    body: &Bytes,
    pending: &mut Pending,
) -> Result<(), Silence> {
    if !envelope.recipients.iter().any(|recipient| recipient.dsn.wants_success()) {
        return Ok(());
    }
    let refused = pending.refused();
    let at = (&*context.hostname, unix_now());
    for recipient in &envelope.recipients {
        let Way::Deliver(accounts) = &recipient.way else { continue };
        if accounts.iter().any(|account| refused.contains(account)) {
            continue;
        }
        let Some(report) = success::report(envelope, recipient, body, at) else { continue };
        let report = success::signed(context, report).await;
        match half(context.store.queue_put(report).await)? {
            Half::Appended(receipt) => pending.reports.push(receipt),
            Half::Refused(reply) => {
                let (id, rcpt) = (envelope.delivery, &recipient.address);
                tracing::warn!(%id, %rcpt, %reply, "no room for a report of success");
            }
        }
    }
    Ok(())
}

/// Parameters of MAIL that go on with a message.
fn params(envelope: &Envelope) -> String {
    let utf8 = if envelope.utf8 { "SMTPUTF8" } else { "" };
    let (dsn, checked) = (envelope.dsn.to_params(), envelope.checked.params());
    format!("{utf8}{dsn}{checked}").trim_start().to_owned()
}

impl Pending {
    /// Accounts that do not get the mail.
    fn refused(&self) -> HashSet<AccountId> {
        let mut refused: HashSet<AccountId> = self.decided.iter().map(|(account, _)| *account).collect();
        for part in &self.local {
            match &part.done {
                Half::Refused(_) => refused.extend(&part.accounts),
                Half::Appended(receipt) => {
                    let outcomes = part.accounts.iter().zip(receipt.decided());
                    let is_refused =
                        |(_, outcome): &(_, &Delivered)| matches!(outcome, Delivered::Refused(_));
                    refused.extend(outcomes.filter(is_refused).map(|(account, _)| *account));
                }
            }
        }
        refused
    }
}

/// What was done for accounts so far.
#[derive(Default)]
pub(super) struct Parts {
    pub(super) local: Vec<Part>,
    pub(super) decided: Vec<(AccountId, Reply)>,
}

/// Delivers to some of the accounts.
pub(super) async fn part(
    store: &Store,
    envelope: &Envelope,
    (body, at): (&Bytes, i64),
    targets: Vec<DeliveryTarget>,
) -> Result<Part, Silence> {
    let accounts = targets.iter().map(|t| t.account).collect();
    let (id, sender, body) = (envelope.delivery, envelope.sender.clone(), body.clone());
    let met = envelope.checked.met.clone();
    let done = half(store.deliver(Delivery { id, sender, at, body, met, targets }).await)?;
    Ok(Part { accounts, done })
}

/// Asks `may_acknowledge` and answers a reply per recipient. Nothing may be awaited between this and the writing.
pub(super) fn acknowledge(pending: Pending, envelope: &Envelope) -> Result<Vec<Reply>, Silence> {
    let delivery = envelope.delivery;
    let decided = pending.decided.into_iter().map(|(account, reply)| (account, Err(reply)));
    let mut outcomes: HashMap<AccountId, Done> = decided.collect();
    for part in pending.local {
        match part.done {
            Half::Refused(reply) => {
                outcomes.extend(part.accounts.iter().map(|account| (*account, Err(reply.clone()))));
            }
            Half::Appended(receipt) => {
                let delivered = receipt.acknowledge().map_err(|_| Silence("fenced"))?;
                outcomes.extend(part.accounts.iter().copied().zip(delivered.iter().map(told)));
            }
        }
    }
    for report in pending.reports {
        report.acknowledge().map_err(|_| Silence("fenced"))?;
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
                // Whoever sends it need not know that it was sent before, nor what a script does.
                let done = if matches!(done, "duplicate" | "filtered") { "delivered" } else { done };
                Reply::with(250, format!("2.0.0 <{}> {done} id={delivery}", recipient.address))
            }
            Err(refused) => refused,
        }
    };
    Ok(envelope.recipients.iter().map(reply).collect())
}

fn told(outcome: &Delivered) -> Done {
    match outcome {
        Delivered::Stored { .. } => Ok("delivered"),
        Delivered::Filtered => Ok("filtered"),
        Delivered::Duplicate => Ok("duplicate"),
        Delivered::Refused(refused) => Err(refusal::reply(refused)),
    }
}

/// A recipient with several accounts has got its mail when all of them have.
fn all(accounts: &[AccountId], outcomes: &HashMap<AccountId, Done>) -> Done {
    const LOST: Reply = Reply::new(451, "4.3.0 not delivered");
    let all = accounts.iter().map(|account| outcomes.get(account).cloned().unwrap_or(Err(LOST)));
    // A duplicate only when all of them had it.
    let both = |one: Done, other: Done| {
        Ok(match (one?, other?) {
            ("duplicate", other) | (other, "duplicate") => other,
            (one, other) if one == other => one,
            _ => "delivered",
        })
    };
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

pub(super) fn half<T>(result: Result<Receipt<T>, WriteError>) -> Result<Half<T>, Silence> {
    match result {
        Ok(receipt) => Ok(Half::Appended(receipt)),
        Err(WriteError::Refused(refused)) => Ok(Half::Refused(refusal::reply(&refused))),
        Err(WriteError::Unknown) => Err(Silence("the outcome is unknown")),
        Err(WriteError::NotServing) => Err(Silence("the store does not serve")),
    }
}

/// One target per account, whatever number of recipients lead to it: without a script, and with one.
fn targets(envelope: &Envelope) -> (Vec<DeliveryTarget>, Vec<(DeliveryTarget, String)>) {
    let (mut plain, mut scripted) = (Vec::with_capacity(envelope.recipients.len()), Vec::new());
    let mut seen = HashSet::new();
    for recipient in &envelope.recipients {
        let Way::Deliver(accounts) = &recipient.way else { continue };
        for account in accounts.iter().filter(|account| seen.insert(**account)) {
            let target = DeliveryTarget {
                account: *account,
                recipient: key(&recipient.address),
                mailbox: "INBOX".to_owned(),
                prefix: prefix(&envelope.sender, &recipient.address),
                filing: None,
            };
            if recipient.scripted.contains(account) {
                scripted.push((target, recipient.address.clone()));
            } else {
                plain.push(target);
            }
        }
    }
    (plain, scripted)
}

/// RFC 5321 section 4.4: the final delivery adds Return-Path. Neither address can have a CR or LF: both came in a
/// command line without control characters.
fn prefix(sender: &str, recipient: &str) -> Bytes {
    format!("Return-Path: <{sender}>\r\nDelivered-To: {recipient}\r\n").into()
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
        let params = recipient.dsn.to_params().trim_start().to_owned();
        let new = QueueRecipient::new(recipient.address.clone(), at);
        Some(QueueRecipient { account, store, held, params, ..new })
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
