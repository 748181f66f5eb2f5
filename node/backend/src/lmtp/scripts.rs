//! Accounts whose Sieve scripts are asked where the mail goes.

use std::sync::Arc;

use bytes::Bytes;
use mailcluster_message::Message;
use mailcluster_proto_smtp::Reply;
use mailcluster_store::{DeliveryTarget, Filing, ReadError, Refusal, WriteError};

use super::{
    deliver::{Part, Parts, Silence, half, part},
    envelope::Envelope,
};
use crate::{
    SessionContext,
    sieve::{self, About, Asked, Wish},
};

/// Octets that scripts send with one delivery to the store, but for its last account.
const SENT: usize = 1 << 20;
/// How often a script runs when what it knew has changed meanwhile.
const RUNS: u32 = 3;

const NOT_NOW: Reply = Reply::new(451, "4.3.0 the recipient's script cannot be run now");

/// Delivers to accounts with scripts, each with the address that led to it.
pub(super) async fn deliver(
    context: &SessionContext,
    envelope: &Envelope,
    (body, at): (&Bytes, i64),
    scripted: Vec<(DeliveryTarget, String)>,
    done: &mut Parts,
) -> Result<(), Silence> {
    let message = Arc::new(Message::parse(body.clone()));
    let run = Run { context, envelope, message, at };
    let mut ready = Vec::new();
    let mut sent = 0;
    for (target, address) in scripted {
        match run.wish(&target, &address).await? {
            Wish::Plain => ready.push(target),
            Wish::Rejected(reply) => done.decided.push((target.account, reply)),
            Wish::Later => done.decided.push((target.account, NOT_NOW)),
            // What its script remembers may make it run again, which is nobody else's matter.
            Wish::Filed(filing) if !filing.seen.is_empty() => {
                run.alone((target, &address), filing, (body, done)).await?;
            }
            Wish::Filed(filing) => {
                sent += filing.sends.iter().map(|mail| mail.message.body.len()).sum::<usize>();
                ready.push(DeliveryTarget { filing: Some(filing), ..target });
            }
        }
        if sent > SENT {
            sent = 0;
            done.local.push(part(&context.store, envelope, (body, at), std::mem::take(&mut ready)).await?);
        }
    }
    if !ready.is_empty() {
        done.local.push(part(&context.store, envelope, (body, at), ready).await?);
    }
    Ok(())
}

struct Run<'a> {
    context: &'a SessionContext,
    envelope: &'a Envelope,
    message: Arc<Message>,
    at: i64,
}

impl Run<'_> {
    async fn wish(&self, target: &DeliveryTarget, address: &str) -> Result<Wish, Silence> {
        let (context, envelope) = (self.context, self.envelope);
        let asked = Asked {
            delivery: envelope.delivery,
            account: target.account,
            sender: envelope.sender.clone(),
            recipient: address.to_owned(),
            at: self.at,
            hostname: context.hostname.clone(),
            message: self.message.clone(),
        };
        let ran = match sieve::run(&context.store, asked).await {
            Ok(ran) => ran,
            Err(ReadError::NotServing) => return Err(Silence("the store does not serve")),
            Err(error) => {
                tracing::warn!(id = %envelope.delivery, account = %target.account, %error, "a script could not be run");
                return Ok(Wish::Later);
            }
        };
        let about = About {
            delivery: envelope.delivery,
            account: target.account,
            store: &context.store.identity().store,
            sender: &envelope.sender,
            recipient: address,
            kept_in: &target.mailbox,
            utf8: envelope.utf8,
            at: self.at,
            hostname: &context.hostname,
            message: &self.message,
            sending: &context.sending,
        };
        Ok(sieve::wish(&about, ran).await)
    }

    /// One account, whose script runs again when what it knew has changed; when it goes on changing the mail is to come again.
    async fn alone(
        &self,
        (target, address): (DeliveryTarget, &str),
        filing: Box<Filing>,
        (body, done): (&Bytes, &mut Parts),
    ) -> Result<(), Silence> {
        let mut filing = Some(filing);
        for _ in 0..RUNS {
            let delivery = self.delivery(body, DeliveryTarget { filing: filing.take(), ..target.clone() });
            match self.context.store.deliver(delivery).await {
                Err(WriteError::Refused(Refusal::Stale)) => {}
                appended => {
                    let done_with = half(appended)?;
                    done.local.push(Part { accounts: vec![target.account], done: done_with });
                    return Ok(());
                }
            }
            match self.wish(&target, address).await? {
                Wish::Plain => {}
                Wish::Rejected(reply) => {
                    done.decided.push((target.account, reply));
                    return Ok(());
                }
                Wish::Later => break,
                Wish::Filed(anew) => filing = Some(anew),
            }
        }
        done.decided.push((target.account, NOT_NOW));
        Ok(())
    }

    fn delivery(&self, body: &Bytes, target: DeliveryTarget) -> mailcluster_store::Delivery {
        mailcluster_store::Delivery {
            id: self.envelope.delivery,
            sender: self.envelope.sender.clone(),
            at: self.at,
            body: body.clone(),
            met: self.envelope.checked.met.clone(),
            targets: vec![target],
        }
    }
}
