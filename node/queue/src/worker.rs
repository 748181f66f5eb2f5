//! One target store's worker.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use futures::future::join_all;
use mailcluster_store::QueueItem;
use mailcluster_types::StoreName;

use crate::{
    attempt::{Attempt, Context, Lines, Stop, readable, unix_now},
    decision,
};

/// Messages taken from the queue at once.
const BATCH: usize = 64;
/// A connection is given back to the pool after so many messages, to be fair to other stores.
const TURN: usize = 16;

/// Delivers what waits for `store`, until the store whose queue it is stops.
pub(crate) async fn work(context: Arc<Context>, store: StoreName) -> Stop {
    let bell = context.config.handle.bell(&store);
    let mut failures = 0;
    loop {
        let batch = match due(&context, &store).await {
            Ok(batch) => batch,
            Err(stop) => return stop,
        };
        if batch.is_empty() {
            bell.work.notified().await;
            continue;
        }
        match deliver(&context, &store, batch, failures > 0).await {
            Err(stop) => return stop,
            Ok(Attempt::Answered) => failures = 0,
            Ok(Attempt::Away) => {
                failures += 1;
                let wait = decision::back_off(failures, context.config.away_limit);
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = bell.route.notified() => failures = 1,
                }
            }
        }
    }
}

async fn due(context: &Context, store: &StoreName) -> Result<Vec<QueueItem>, Stop> {
    let (now, store) = (unix_now(), store.clone());
    readable(context.store.read(move |view| view.queue_due(now, &store, BATCH)).await)
}

/// Works off a batch over several connections; over one while the store has been away.
async fn deliver(
    context: &Context,
    store: &StoreName,
    batch: Vec<QueueItem>,
    probing: bool,
) -> Result<Attempt, Stop> {
    let lanes = if probing { 1 } else { context.config.connections_per_store.clamp(1, batch.len()) };
    let jobs = Mutex::new(VecDeque::from(batch));
    let lanes = (0..lanes).map(|_| lane(context, store, &jobs));
    let mut result = Attempt::Answered;
    for outcome in join_all(lanes).await {
        if outcome? == Attempt::Away {
            result = Attempt::Away;
        }
    }
    Ok(result)
}

async fn lane(
    context: &Context,
    store: &StoreName,
    jobs: &Mutex<VecDeque<QueueItem>>,
) -> Result<Attempt, Stop> {
    let take = || jobs.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let mut next = take();
    while next.is_some() {
        let Ok(_slot) = context.slots.acquire().await else { return Err(Stop) };
        let mut lines = Lines::default();
        for _ in 0..TURN {
            let Some(item) = next.take() else { break };
            if context.attempt(&mut lines, &item, store).await? == Attempt::Away {
                jobs.lock().unwrap_or_else(PoisonError::into_inner).clear();
                return Ok(Attempt::Away);
            }
            next = take();
        }
        lines.quit().await;
    }
    Ok(Attempt::Answered)
}
