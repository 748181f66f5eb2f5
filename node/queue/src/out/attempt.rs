//! One message's attempt at the recipients of one domain.

use mailcluster_lmtp::Body;
use mailcluster_outbound::{
    Status,
    dsn::Action,
    schedule::{Fate, Wait},
};
use mailcluster_proto_smtp::Recipient;
use mailcluster_relay::{self as relay, Job, Told};
use mailcluster_store::{QueueItem, QueueRecipient, QueueUpdate};

use super::{Ended, Key, inward};
use crate::{
    attempt::{Context, Stop, readable, unix_now},
    config::Out,
    report::{self, Reason},
    undeliverable,
};

/// Tries what is due of a message.
pub(super) async fn attempt(context: &Context, out: &Out, key: &Key) -> Result<Ended, Stop> {
    let delivery = key.delivery;
    let item = readable(context.store.read(move |view| view.queued(delivery)).await)?;
    let Some(item) = item else { return Ok(Ended::Reached) };
    let now = unix_now();
    let mut due = Vec::new();
    for recipient in item.recipients.iter().filter(|recipient| is_of(recipient, key)) {
        if is_returned(recipient, now) {
            context.give_back(&item, recipient).await?;
            continue;
        }
        match wait(recipient).fate(out.lifetime, item.queued_at, item.sender.is_empty(), now) {
            Fate::Held | Fate::Later(_) => {}
            Fate::Expired => context.expire(&item, &[recipient]).await?,
            Fate::Due if item.sender.is_empty() => {
                if inward::leads_out(context, &item, recipient).await? {
                    due.push(recipient.clone());
                }
            }
            Fate::Due => due.push(recipient.clone()),
            Fate::Notice => {
                let mut told = recipient.clone();
                tell_of_delay(context, out, &item, &mut told).await?;
                if told.next_attempt <= now {
                    due.push(told);
                }
            }
        }
    }
    if due.is_empty() { Ok(Ended::Reached) } else { send(context, out, (&item, key), due).await }
}

/// The domain of an address; what has none will be refused by whoever is asked for it.
pub(super) fn domain(address: &str) -> &str {
    address.rsplit_once('@').map_or("", |(_, domain)| domain)
}

fn is_of(recipient: &QueueRecipient, key: &Key) -> bool {
    recipient.store.is_none() && domain(&recipient.address).eq_ignore_ascii_case(&key.domain)
}

/// Does it go back, as a person said?
fn is_returned(recipient: &QueueRecipient, now: i64) -> bool {
    !recipient.returned.is_empty() && !recipient.held && recipient.next_attempt <= now
}

fn wait(recipient: &QueueRecipient) -> Wait {
    Wait {
        attempts: recipient.attempts,
        next_attempt: recipient.next_attempt,
        held: recipient.held,
        noticed: recipient.noticed,
    }
}

async fn tell_of_delay(
    context: &Context,
    out: &Out,
    item: &QueueItem,
    recipient: &mut QueueRecipient,
) -> Result<(), Stop> {
    let reason = Reason {
        diagnostic: Some(recipient.last_error.clone()).filter(|error| !error.is_empty()),
        retry_until: Some(out.lifetime.ends(item.queued_at, item.sender.is_empty())),
        ..Reason::new(Status::new(4, 4, 7), "No server of the domain has taken it so far")
    };
    undeliverable::tell_of_delay(context, item, recipient, &reason).await
}

async fn send(
    context: &Context,
    out: &Out,
    (item, key): (&QueueItem, &Key),
    due: Vec<QueueRecipient>,
) -> Result<Ended, Stop> {
    let id = item.delivery;
    let Some(body) = context.body(item.body).await? else {
        context.hold_unreadable(id, due.iter()).await?;
        return Ok(Ended::Reached);
    };
    let now = unix_now();
    let marked: Vec<QueueRecipient> = due.iter().map(|recipient| mark(out, recipient, now)).collect();
    let Some(receipts) = context.mark(id, &marked).await? else { return Ok(Ended::Reached) };
    let recipients: Vec<Recipient> = marked.iter().map(named).collect();
    let job = Job {
        domain: &key.domain,
        sender: &item.sender,
        utf8: report::is_utf8(item),
        dsn: &report::of_mail(item),
        recipients: &recipients,
        body: &body as &dyn Body,
    };
    // A store that was taken over in the meantime must not end a message.
    let leave = || receipts.iter().all(|receipt| receipt.stands());
    let tried = out.relay.attempt(&job, &leave).await;
    for (recipient, told) in marked.iter().zip(&tried.told) {
        conclude(context, item, recipient, told).await?;
    }
    Ok(if tried.reached { Ended::Reached } else { Ended::Away })
}

fn named(recipient: &QueueRecipient) -> Recipient {
    let asked = report::of_recipient(recipient);
    Recipient { address: recipient.address.clone(), notify: asked.notify, original: asked.original }
}

fn mark(out: &Out, recipient: &QueueRecipient, now: i64) -> QueueRecipient {
    let draw = getrandom::u32().unwrap_or_default();
    let marked = wait(recipient).attempted(out.backoff, now, draw);
    QueueRecipient { attempts: marked.attempts, next_attempt: marked.next_attempt, ..recipient.clone() }
}

/// Who asked to hear of success hears from whoever has the mail now; or from us, when that one sends no reports. The
/// mail is gone: a report that cannot be made now is not waited for.
async fn report_relayed(
    context: &Context,
    item: &QueueItem,
    recipient: &QueueRecipient,
    told: &Told,
) -> Result<(), Stop> {
    if told.takes_dsn || !report::is_wanted(item, recipient, Action::Relayed) {
        return Ok(());
    }
    let reason = Reason {
        remote: told.remote.clone(),
        diagnostic: told.said.clone(),
        ..Reason::new(told.status, "It was taken")
    };
    if !undeliverable::tell_of_relay(context, item, recipient, &reason).await? {
        tracing::warn!(id = %item.delivery, rcpt = %recipient.address, "no report of success can be made now");
    }
    Ok(())
}

/// Writes down what became of a recipient.
async fn conclude(
    context: &Context,
    item: &QueueItem,
    recipient: &QueueRecipient,
    told: &Told,
) -> Result<(), Stop> {
    let (id, rcpt, handle) = (item.delivery, &recipient.address, &context.config.handle);
    match told.fate {
        relay::Fate::Delivered => {
            tracing::info!(%id, %rcpt, %told, "sent");
            handle.sent();
            report_relayed(context, item, recipient, told).await?;
            context.update(id, recipient, QueueUpdate::Done { outcome: format!("sent: {told}") }).await
        }
        relay::Fate::Never => {
            let reason = Reason {
                remote: told.remote.clone(),
                diagnostic: told.said.clone(),
                ..Reason::new(told.status, &told.text)
            };
            undeliverable::give_up(context, item, recipient, &reason).await
        }
        relay::Fate::Later | relay::Fate::Unknown => {
            tracing::info!(%id, %rcpt, status = %told.status, %told, "put off");
            handle.put_off();
            if told.fate == relay::Fate::Unknown {
                handle.perhaps_twice();
            }
            let later = QueueRecipient { last_error: told.to_string(), ..recipient.clone() };
            context.update(id, recipient, QueueUpdate::Retry(later)).await
        }
    }
}
