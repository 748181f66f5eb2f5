//! The directory's history of changes, followed from a position: what feeds stores and invalidates caches.

use std::time::Duration;

use futures::{Stream, stream};
use mailcluster_store::{Account, DirectoryRecord, ReadError, Store, View};
use mailcluster_types::{Epoch, Seq, StoreName};

/// Records of one batch at most.
const BATCH: usize = 1000;

/// Records that changed, and the position that this reaches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Batch {
    /// What changed, oldest first; empty: nothing did for a while.
    pub(crate) records: Vec<DirectoryRecord>,
    /// The directory's epoch: another one makes positions void.
    pub(crate) epoch: Epoch,
    /// Everything up to here has been told.
    pub(crate) position: Seq,
}

/// Whose changes are followed.
#[derive(Debug, Clone)]
pub(crate) enum Following {
    /// All of them.
    Everything,
    /// Domains, this store's accounts, and the aliases that name one of them.
    Store(StoreName),
}

/// Follows changes after `after`, for ever; an empty batch at least every `heartbeat`. Ends with an error when the
/// store stops serving.
pub(crate) fn follow(
    store: Store,
    following: Following,
    after: Seq,
    heartbeat: Duration,
) -> impl Stream<Item = Result<Batch, ReadError>> + Send + 'static {
    let changed = store.watch_directory();
    let start = (store, following, after, changed);
    stream::try_unfold(start, move |(store, following, mut after, mut changed)| async move {
        loop {
            changed.mark_unchanged();
            let wanted = following.clone();
            let (records, position) = store.read(move |view| batch(view, &wanted, after)).await?;
            let batch = Batch { records, epoch: store.epoch(), position };
            if !batch.records.is_empty() {
                return Ok(Some((batch, (store, following, position, changed))));
            }
            if position > after {
                after = position;
                continue;
            }
            tokio::select! {
                change = changed.changed() => if change.is_err() { return Err(ReadError::NotServing) },
                () = store.stopped() => return Err(ReadError::NotServing),
                () = tokio::time::sleep(heartbeat) => {
                    return Ok(Some((batch, (store, following, after, changed))));
                }
            }
        }
    })
}

fn batch(view: &View, following: &Following, after: Seq) -> Result<(Vec<DirectoryRecord>, Seq), ReadError> {
    let (changes, position) = view.directory_changes(after, BATCH)?;
    let mut records = Vec::with_capacity(changes.len());
    for (_, record) in changes {
        let wanted = match (following, &record) {
            (Following::Everything, _) | (Following::Store(_), DirectoryRecord::Domain(_)) => true,
            (Following::Store(store), DirectoryRecord::Account(account)) => account.store == *store,
            (Following::Store(store), DirectoryRecord::Alias(alias)) => {
                let holds = |a: Option<Account>| a.is_some_and(|a| a.store == *store);
                let mut any = alias.tombstone;
                for id in &alias.accounts {
                    any = any || holds(view.account(*id)?);
                }
                any
            }
        };
        if wanted {
            records.push(record);
        }
    }
    Ok((records, position))
}
