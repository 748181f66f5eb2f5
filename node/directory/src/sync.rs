//! A store's own task: it follows the directory, carries its accounts' records on its volume, and confirms them.
//! What it holds already is not written again, so starting over costs reads alone.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, future};
use mailcluster_store::{Account, DirectoryRecord, ReadError, Receipt, Refusal, Store, View, WriteError};
use mailcluster_types::{AccountId, Epoch, Seq, Unavailable};
use tokio_util::sync::CancellationToken;

use crate::DirectoryFeed;

/// A feed that says nothing for this long is dead: heartbeats come three times as often.
const SILENCE: Duration = Duration::from_secs(45);
/// The first and the longest pause before asking again.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// Follows the directory until the store stops or `shutdown` is cancelled.
pub async fn run(store: Store, feed: Arc<dyn DirectoryFeed>, shutdown: CancellationToken) {
    let mut cursor = (0, 0);
    let mut pause = PAUSE.0;
    loop {
        let before = cursor;
        let error = tokio::select! {
            error = session(&store, feed.as_ref(), &mut cursor) => error,
            () = shutdown.cancelled() => return,
            () = store.stopped() => return,
        };
        tracing::info!(store = %store.identity().store, %error, "directory feed ended; trying again");
        pause = if cursor == before { (pause * 2).min(PAUSE.1) } else { PAUSE.0 };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.cancelled() => return,
            () = store.stopped() => return,
        }
    }
}

/// Why a session with the directory ended.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error(transparent)]
    Directory(#[from] Unavailable),
    #[error("the directory is silent")]
    Silent,
    #[error("the directory ended the feed")]
    Ended,
    #[error("failed to read the store: {0}")]
    Read(#[from] ReadError),
    #[error("failed to write the store: {0}")]
    Write(#[from] WriteError),
}

async fn session(store: &Store, feed: &dyn DirectoryFeed, cursor: &mut (Epoch, Seq)) -> SessionError {
    let name = store.identity().store;
    let mut batches = match feed.changes(&name, *cursor).await {
        Ok(batches) => batches,
        Err(error) => return error.into(),
    };
    loop {
        let batch = match tokio::time::timeout(SILENCE, batches.next()).await {
            Ok(Some(Ok(batch))) => batch,
            Ok(Some(Err(error))) => return error.into(),
            Ok(None) => return SessionError::Ended,
            Err(_) => return SessionError::Silent,
        };
        let confirmed = match take(store, batch.records).await {
            Ok(confirmed) => confirmed,
            Err(error) => return error,
        };
        if !confirmed.is_empty()
            && let Err(error) = feed.confirm(&name, confirmed).await
        {
            return error.into();
        }
        *cursor = (batch.epoch, batch.position);
    }
}

/// Writes what is new and answers the pending accounts that are now held.
async fn take(store: &Store, records: Vec<DirectoryRecord>) -> Result<Vec<(AccountId, u64)>, SessionError> {
    if records.is_empty() {
        return Ok(Vec::new());
    }
    let pending = records.iter().filter_map(|record| match record {
        DirectoryRecord::Account(a) if a.pending && !a.tombstone => Some((a.id, a.generation)),
        _ => None,
    });
    let pending: Vec<_> = pending.collect();
    let news = store.read(move |view| new_here(view, records)).await?;
    let domains = news.domains.into_iter().map(|d| store.put_domain(d));
    let aliases = news.aliases.into_iter().map(|a| store.put_alias(a));
    for put in future::join_all(domains).await.into_iter().chain(future::join_all(aliases).await) {
        unless_stale(put)?;
    }
    if !news.accounts.is_empty() {
        let put = store.put_accounts(news.accounts).await?;
        put.acknowledge().map_err(|_| WriteError::NotServing)?;
    }
    Ok(pending)
}

fn unless_stale(put: Result<Receipt<()>, WriteError>) -> Result<(), WriteError> {
    match put {
        Ok(receipt) => receipt.acknowledge().map_err(|_| WriteError::NotServing),
        Err(WriteError::Refused(Refusal::Stale)) => Ok(()),
        Err(error) => Err(error),
    }
}

#[derive(Default)]
struct News {
    accounts: Vec<Account>,
    domains: Vec<mailcluster_store::Domain>,
    aliases: Vec<mailcluster_store::Alias>,
}

fn new_here(view: &View, records: Vec<DirectoryRecord>) -> Result<News, ReadError> {
    let mut news = News::default();
    for record in records {
        match record {
            DirectoryRecord::Account(account) => {
                let held = view.account(account.id)?;
                news.accounts.extend(to_put(held.as_ref(), account));
            }
            DirectoryRecord::Domain(domain) => {
                if view.domain(&domain.name)?.is_none_or(|held| held.generation < domain.generation) {
                    news.domains.push(domain);
                }
            }
            DirectoryRecord::Alias(alias) => {
                if view.alias(&alias.address)?.is_none_or(|held| held.generation < alias.generation) {
                    news.aliases.push(alias);
                }
            }
        }
    }
    Ok(news)
}

/// What a store writes of an account's record: nothing when it holds the same or a newer one, or one that differs
/// in the directory's own marks alone.
fn to_put(held: Option<&Account>, told: Account) -> Option<Account> {
    let mine = Account { pending: false, used_octets: held.map_or(0, |h| h.used_octets), ..told };
    match held {
        Some(held) if held.generation >= mine.generation => None,
        Some(held) if Account { generation: held.generation, ..mine.clone() } == *held => None,
        _ => Some(mine),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(generation: u64, quota_octets: u64, pending: bool) -> Account {
        Account {
            id: AccountId(1),
            address: "a@b.c".into(),
            store: "s-0".into(),
            generation,
            password_hash: String::new(),
            quota_octets,
            used_octets: 0,
            suspended: false,
            pending,
            tombstone: false,
        }
    }

    #[test]
    fn only_what_says_something_new_is_written() {
        let held = Account { used_octets: 77, ..account(5, 10, false) };
        for (held, told, expected) in [
            (None, account(5, 10, true), Some((5, 0))),
            (Some(&held), account(5, 10, true), None),
            (Some(&held), account(6, 10, false), None),
            (Some(&held), account(4, 99, false), None),
            (Some(&held), account(7, 99, false), Some((7, 77))),
        ] {
            let put = to_put(held, told);
            assert!(put.as_ref().is_none_or(|a| !a.pending));
            assert_eq!(put.map(|a| (a.generation, a.used_octets)), expected);
        }
    }
}
