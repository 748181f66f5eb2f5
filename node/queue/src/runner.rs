//! The rounds: which stores have mail waiting, and what has waited too long.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use mailcluster_store::Store;
use mailcluster_types::{Backends, Directory, StoreName};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    attempt::{Context, Stop, readable, unix_now},
    config::QueueConfig,
    decision,
    worker::work,
};

/// Messages looked at in a round to learn which stores are waited for.
const LOOK: usize = 256;
/// Most stores of a cluster (design section 3).
const STORES: usize = 200;
/// Time between two looks for what has waited too long.
const EXPIRY: Duration = Duration::from_secs(30);
/// Least time between rounds, however often the queue is heard of.
const BREATH: Duration = Duration::from_millis(20);

/// Runs a store's queue until the store stops serving or `shutdown` is cancelled. Whatever it leaves undone is done by
/// the next run.
pub async fn run(
    config: QueueConfig,
    store: Store,
    directory: Arc<dyn Directory>,
    backends: Arc<dyn Backends>,
    shutdown: CancellationToken,
) {
    let slots = tokio::sync::Semaphore::new(config.connections.max(1));
    let own = store.identity().store;
    let context = Arc::new(Context { config, store, directory, backends, slots });
    let stopped = context.store.clone();
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = stopped.stopped() => {}
        Stop = rounds(context, &own) => {}
    }
    tracing::info!(store = %own, "queue runner ended");
}

/// Looks at the queue whenever something entered it, a route changed or a while has passed. The workers end with it.
async fn rounds(context: Arc<Context>, own: &StoreName) -> Stop {
    let mut entered = context.store.watch_queue();
    let mut workers = JoinSet::new();
    let mut known: BTreeSet<StoreName> = BTreeSet::new();
    let mut next_expiry = Instant::now();
    loop {
        match round(&context, own, &mut known).await {
            Err(stop) => return stop,
            Ok(new) => {
                for store in new {
                    workers.spawn(work(context.clone(), store));
                }
            }
        }
        if Instant::now() >= next_expiry {
            next_expiry = Instant::now() + EXPIRY;
            if let Err(stop) = expire(&context).await {
                return stop;
            }
        }
        tokio::time::sleep(BREATH).await;
        tokio::select! {
            _ = entered.changed() => {}
            () = context.config.handle.look() => {}
            () = tokio::time::sleep(context.config.poll) => {}
            Some(ended) = workers.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a queue worker broke");
                }
                return Stop;
            }
        }
    }
}

/// Rings the workers when something waits; answers stores that need a worker and have none.
async fn round(
    context: &Context,
    own: &StoreName,
    known: &mut BTreeSet<StoreName>,
) -> Result<Vec<StoreName>, Stop> {
    let now = unix_now();
    let look = context.store.read(move |view| {
        let stats = view.queue_stats()?;
        let waits = stats.recipients > stats.held;
        Ok(if waits { view.queue_due(now, &[], LOOK)? } else { Vec::new() })
    });
    let due = readable(look.await)?;
    if due.is_empty() {
        return Ok(Vec::new());
    }
    // The oldest may all be for one store that is away: those that could take mail are asked for, too.
    let named = due.iter().flat_map(|item| &item.recipients).filter_map(|r| r.store.clone());
    let able = context.backends.hand_off_candidates(own, STORES);
    let wanted: BTreeSet<StoreName> = named.chain(able).chain([own.clone()]).collect();
    let new: Vec<StoreName> = wanted.difference(known).cloned().collect();
    for store in known.iter() {
        context.config.handle.bell(store).work.notify_one();
    }
    known.extend(new.iter().cloned());
    Ok(new)
}

/// Also mail for a store that is away, which its worker does not touch, must not wait for ever.
async fn expire(context: &Context) -> Result<(), Stop> {
    let now = unix_now();
    let oldest = readable(context.store.read(move |view| view.queue_due(now, &[], LOOK)).await)?;
    for item in oldest.iter().filter(|item| decision::is_expired(item, now, context.config.max_age)) {
        let due: Vec<_> = item.recipients.iter().filter(|r| !r.held && r.next_attempt <= now).collect();
        context.expire(item, &due).await?;
    }
    Ok(())
}
