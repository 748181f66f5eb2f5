//! The rounds: which stores have mail waiting, and what has waited too long.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use mailcluster_store::Store;
use mailcluster_types::{Backends, Directory, StoreName};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    attempt::{Context, Stop, readable, unix_now},
    config::QueueConfig,
    out,
    worker::work,
};

/// Messages that have waited too long which are looked at together.
const LOOK: usize = 256;
/// Time between two looks for what has waited too long.
const EXPIRY: Duration = Duration::from_secs(30);
/// Least time between rounds, however often the queue is heard of.
const BREATH: Duration = Duration::from_millis(20);
/// After so long it is seen whether a store that did not serve does again.
const REST: Duration = Duration::from_millis(500);

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
        () = serve(&context) => {}
    }
    tracing::info!(store = %own, "queue runner ended");
}

/// Rounds and attempts, begun anew when they had to stop: a lease that was not good for a while may be good again before
/// anybody else took the store, and then it serves on as if nothing had been.
async fn serve(context: &Arc<Context>) {
    loop {
        tokio::select! {
            Stop = rounds(context.clone()) => {}
            Stop = out::run(context.clone()) => {}
        }
        tokio::time::sleep(REST).await;
    }
}

/// Looks at the queue whenever something entered it, a route changed or a while has passed. The workers end with it.
async fn rounds(context: Arc<Context>) -> Stop {
    let mut entered = context.store.watch_queue();
    let mut flushed = context.store.watch_flushed();
    let mut workers = JoinSet::new();
    let mut known: BTreeSet<StoreName> = BTreeSet::new();
    let mut next_expiry = Instant::now();
    loop {
        match round(&context, &mut known).await {
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
            _ = flushed.changed() => context.config.handle.kick_all(),
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
async fn round(context: &Context, known: &mut BTreeSet<StoreName>) -> Result<Vec<StoreName>, Stop> {
    let now = unix_now();
    let waited_for = readable(context.store.read(move |view| view.queue_stores(now)).await)?;
    let wanted: BTreeSet<StoreName> = waited_for.into_iter().collect();
    let new: Vec<StoreName> = wanted.difference(known).cloned().collect();
    for store in known.intersection(&wanted) {
        context.config.handle.bell(store).work.notify_one();
    }
    known.extend(new.iter().cloned());
    Ok(new)
}

/// Also mail for a store that is away, which its worker does not touch, must not wait for ever.
async fn expire(context: &Context) -> Result<(), Stop> {
    let now = unix_now();
    let before = now.saturating_sub(i64::try_from(context.config.max_age.as_secs()).unwrap_or(i64::MAX));
    let oldest = readable(context.store.read(move |view| view.queue_old(before, now, LOOK)).await)?;
    for item in &oldest {
        let due: Vec<_> = item.recipients.iter().filter(|r| !r.held && r.next_attempt <= now).collect();
        context.expire(item, &due).await?;
    }
    Ok(())
}
