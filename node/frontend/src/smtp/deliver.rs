//! One message to all its stores at once, and what then may be said to its sender.
//!
//! 1. A transaction is opened at every recipient's store, all at the same time.
//! 2. What a store does not take now, or will never take, needs another place: a store is chosen for it and asked for
//!    room before the first message body is sent. When none has room, nobody has got anything, and 451 is honest.
//! 3. With more than one store, one copy may become durable while another store dies: for each, a second place is
//!    asked for room, too.
//! 4. The message goes out, to all at once.
//! 5. What failed only now is handed off under the same delivery id, so that a copy that did arrive is known again.
//!    What then still has no durable place leaves no honest answer: the connection is closed.

mod plan;
mod transaction;

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use mailcluster_lmtp::{Body, Envelope};
use mailcluster_proto_smtp::Reply;
use mailcluster_types::{AccountId, StoreName};

pub(super) use self::plan::is_final;
use self::{
    plan::{Fate, Ledger},
    transaction::{Transaction, direct, elsewhere},
};
use super::{
    metrics,
    stores::{Reach, Stores},
};

/// Between two looks for a place for what a store that is away owes an answer for.
const AGAIN: Duration = Duration::from_secs(1);
/// Places tried for what cannot go to its own store.
const MAX_PLACES: usize = 4;

/// One copy to be made durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    /// For an account.
    Account {
        /// The envelope recipient that led to it first.
        address: String,
        account: AccountId,
        store: StoreName,
    },
    /// For another site, by the queue of the sender's store.
    Out { address: String, store: StoreName },
    /// For the queue, held.
    Held { address: String },
}

impl Item {
    pub(super) fn account(&self) -> Option<AccountId> {
        match self {
            Self::Account { account, .. } => Some(*account),
            Self::Out { .. } | Self::Held { .. } => None,
        }
    }

    /// The envelope recipient.
    pub(super) fn address(&self) -> &str {
        match self {
            Self::Account { address, .. } | Self::Out { address, .. } | Self::Held { address } => address,
        }
    }

    /// The store that it goes to; for what is held any will do.
    pub(super) fn store(&self) -> Option<&StoreName> {
        match self {
            Self::Account { store, .. } | Self::Out { store, .. } => Some(store),
            Self::Held { .. } => None,
        }
    }
}

/// A message with all that must get it.
pub(super) struct Job {
    pub(super) envelope: Envelope,
    pub(super) items: Vec<Item>,
    pub(super) body: Arc<dyn Body>,
}

/// What may be said to the sender.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// 250: every copy is durable; so many of them in another store's queue.
    Accepted { handed_off: usize },
    /// Nothing is durable, nothing was appended anywhere: come again.
    Later,
    /// Every store refuses for good, before anything was appended.
    Never(Reply),
    /// Nothing may be said.
    Silence,
}

/// Delivers one message.
pub(super) async fn deliver(stores: &mut Stores, job: &Job) -> Verdict {
    let mut ledger = Ledger::new(job.items.len());
    let mut open = open_all(stores, job, &mut ledger).await;
    if let Some(reply) = ledger.refused_by_all() {
        abort(stores, open).await;
        return Verdict::Never(reply);
    }
    let reach = stores.reach();
    if !find_places(&reach, job, &mut ledger, &mut open).await {
        abort(stores, open).await;
        return Verdict::Later;
    }
    if !reserve_places(&reach, job, &mut ledger, &open).await {
        abort(stores, open).await;
        return Verdict::Later;
    }
    let done = join_all(open.into_iter().map(|transaction| transaction.send(&reach, job))).await;
    let mut alive = Vec::new();
    for (entries, outcome, kept) in done {
        ledger.record(&entries, outcome);
        if let Some((store, client)) = kept {
            alive.push(store.clone());
            stores.keep(store, client);
        }
    }
    // Nobody has got it, and nobody will: what scripts say, for example.
    if let Some(reply) = ledger.refused_by_all() {
        return Verdict::Never(reply);
    }
    hand_off_rest(&reach, job, (&mut ledger, &alive)).await;
    for reason in ledger.reasons() {
        metrics::handed_off(reason);
    }
    ledger.verdict()
}

/// Step 1. Items whose store takes them now stand in the transactions; the ledger knows why the others do not.
async fn open_all(stores: &mut Stores, job: &Job, ledger: &mut Ledger) -> Vec<Transaction> {
    let opening: Vec<_> = plan::by_store(&job.items)
        .into_iter()
        .map(|(store, items)| {
            let (kept, reach) = (stores.take(&store), stores.reach());
            async move {
                let result =
                    Transaction::open(&reach, kept, job, (store.clone(), items.clone(), direct)).await;
                (store, items, result)
            }
        })
        .collect();
    let mut open = Vec::new();
    for (store, items, result) in join_all(opening).await {
        match result {
            Ok((transaction, refusals)) => {
                for (item, reply) in refusals {
                    ledger.set(item, Fate::from_reply(&reply));
                }
                open.push(transaction);
            }
            Err(error) => {
                tracing::info!(id = %job.envelope.delivery, %store, %error, "store does not take mail now");
                let fate = plan::fate_of_error(&error);
                items.iter().for_each(|item| ledger.set(*item, fate.clone()));
                ledger.away(store);
            }
        }
    }
    ledger.expect(open.iter().flat_map(|t| t.items()));
    open
}

/// Step 2. True when every item stands in a transaction.
async fn find_places(reach: &Reach, job: &Job, ledger: &mut Ledger, open: &mut Vec<Transaction>) -> bool {
    let mut tried = Vec::new();
    loop {
        let part: Vec<StoreName> = open.iter().map(|t| t.store().clone()).collect();
        let Some(store) = next_place(reach, job, ledger, (&part, &tried)) else { break };
        tried.push(store.clone());
        let need = ledger.without_place();
        match open.iter_mut().position(|t| t.store() == &store) {
            Some(at) => match open[at].add(job, &need).await {
                Ok(accepted) => ledger.expect(accepted.into_iter()),
                Err(error) => {
                    tracing::info!(id = %job.envelope.delivery, %store, %error, "store lost before the message");
                    let lost = open.swap_remove(at);
                    lost.items().for_each(|item| ledger.set(item, Fate::Away));
                    ledger.away(store);
                }
            },
            None => match Transaction::open(reach, None, job, (store.clone(), need, elsewhere)).await {
                Ok((transaction, _)) => {
                    ledger.expect(transaction.items());
                    open.push(transaction);
                }
                Err(error) => {
                    tracing::info!(id = %job.envelope.delivery, %store, %error, "no place for hand-off there");
                }
            },
        }
    }
    ledger.without_place().is_empty()
}

/// The store to ask next for what has no place: those that take part already first.
fn next_place(
    reach: &Reach,
    job: &Job,
    ledger: &Ledger,
    (part, tried): (&[StoreName], &[StoreName]),
) -> Option<StoreName> {
    let first = *ledger.without_place().first()?;
    let own = job.items[first].store().cloned().unwrap_or(StoreName::new(""));
    let offered = reach.hand_off_candidates(&own, MAX_PLACES + tried.len());
    plan::places(part, &offered, ledger.stores_away())
        .into_iter()
        .find(|store| !tried.contains(store))
        .filter(|_| tried.len() < MAX_PLACES)
}

/// Step 3. False when what one store takes could go nowhere if that store died. A message for one store alone needs
/// no second place: without its copy nothing is durable, and 451 is honest.
async fn reserve_places(reach: &Reach, job: &Job, ledger: &mut Ledger, open: &[Transaction]) -> bool {
    let taking: Vec<&Transaction> = open.iter().filter(|t| !t.is_empty()).collect();
    if taking.len() < 2 {
        return true;
    }
    let part: Vec<StoreName> = taking.iter().map(|t| t.store().clone()).collect();
    let items: Vec<Vec<usize>> = taking.iter().map(|t| t.items().collect()).collect();
    let asked = taking.iter().zip(&items).map(|(transaction, items)| {
        second_place(reach, job, (transaction.store(), items), (&part, ledger.stores_away()))
    });
    let found = join_all(asked).await;
    for (transaction, place) in taking.iter().zip(found) {
        let Some(place) = place else { return false };
        ledger.reserve(transaction.items(), &place);
    }
    true
}

/// Resolves when a store that owes an answer is known to be away and another has room for what it was sent. With no other
/// place there is nothing better than to wait: what was cut off may be taken all the same, and would come twice.
async fn given_up(reach: &Reach, job: &Job, own: &StoreName, items: &[usize]) {
    loop {
        reach.lost(own).await;
        if second_place(reach, job, (own, items), (&[], &[])).await.is_some() {
            return;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// A store other than their own that has room for all of these items, asked on a connection of its own and left again.
async fn second_place(
    reach: &Reach,
    job: &Job,
    (own, items): (&StoreName, &[usize]),
    (part, away): (&[StoreName], &[StoreName]),
) -> Option<StoreName> {
    let recipients: Vec<_> = items.iter().map(|item| elsewhere(&job.items[*item])).collect();
    let offered = reach.hand_off_candidates(own, MAX_PLACES);
    let places = plan::places(part, &offered, away).into_iter().filter(|store| store != own);
    for store in places.take(MAX_PLACES) {
        match reach.begin(None, &store, &job.envelope, &recipients).await {
            Ok((client, replies)) => {
                client.quit().await;
                if replies.iter().all(Reply::is_positive) {
                    return Some(store);
                }
            }
            Err(error) => {
                tracing::info!(id = %job.envelope.delivery, %store, %error, "no second place there");
            }
        }
    }
    None
}

/// Step 5. The reserved place is asked first, then stores that have just answered.
async fn hand_off_rest(reach: &Reach, job: &Job, (ledger, alive): (&mut Ledger, &[StoreName])) {
    let mut tried: Vec<StoreName> = Vec::new();
    loop {
        ledger.release_failed();
        let first = ledger.without_place().first().copied();
        let reserved = first.and_then(|item| ledger.reserved(item)).cloned();
        let part: Vec<StoreName> = reserved.into_iter().chain(alive.iter().cloned()).collect();
        let Some(store) = next_place(reach, job, ledger, (&part, &tried)) else { return };
        tried.push(store.clone());
        let need = ledger.without_place();
        let opened = Transaction::open(reach, None, job, (store.clone(), need, elsewhere)).await;
        let Ok((transaction, _)) = opened else { continue };
        if transaction.is_empty() {
            continue;
        }
        let (entries, outcome, kept) = transaction.send(reach, job).await;
        ledger.record(&entries, outcome);
        if let Some((_, client)) = kept {
            client.quit().await;
        }
    }
}

/// Gives up the open transactions; nothing was sent in them.
async fn abort(stores: &mut Stores, open: Vec<Transaction>) {
    for transaction in open {
        if let Some((store, client)) = transaction.abort().await {
            stores.keep(store, client);
        }
    }
}
