//! Mail for other sites. Whose turn it is, and how many attempts a destination gets at once, is decided by
//! `mailcluster_outbound::schedule`; here it is fed from the store's queue.
//!
//! - In the line stands what is due: a message's recipients of one domain are one entry. What an attempt does not end
//!   leaves the line, and comes again when the queue says that it is due.
//! - Before an attempt its recipients are marked, in the log, as tried: when nothing more is heard of it, they are
//!   tried again after a pause, and a store that was taken over sends nothing.

mod attempt;
mod inward;

use std::{sync::Arc, time::Duration};

use mailcluster_outbound::schedule::{Line, Outcome, Priority};
use mailcluster_store::OutDue;
use mailcluster_types::DeliveryId;
use tokio::{task::JoinSet, time::Instant};

use crate::{
    attempt::{Context, Stop, readable, unix_now},
    config::Out,
};

/// Recipients looked at together.
const PAGE: usize = 256;
/// No more is taken into the line while so many entries are in it.
const LINE: usize = 200_000;
/// Ids are not drawn in the order in which messages come in, nor do these come in at once: what became due in the last so
/// many seconds is looked at again,
const LATE: i64 = 10;
/// so often.
const BACK: Duration = Duration::from_secs(1);
/// After so long, the queue is looked at from its beginning again: clocks may step back, and a change that the store
/// refused leaves things as they were.
const AFRESH: Duration = Duration::from_secs(60);
/// Least time between looks at the queue, however often it is heard of.
const BREATH: Duration = Duration::from_millis(5);

/// A message, for its recipients of one domain.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    delivery: DeliveryId,
    domain: String,
}

/// How an attempt ended for its destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// It is up, or was not asked.
    Reached,
    /// It could not be reached.
    Away,
}

/// Sends what is due, until the store stops; for ever nothing where there is no way out.
pub(crate) async fn run(context: Arc<Context>) -> Stop {
    let Some(out) = context.config.out.clone() else { return std::future::pending().await };
    let mut entered = context.store.watch_queue();
    let mut flushed = context.store.watch_flushed();
    let mut feeder = Feeder::new();
    let mut line: Line<Key> = Line::new(out.limits);
    let mut attempts = JoinSet::new();
    loop {
        if let Err(stop) = feeder.feed(&context, &out, &mut line).await {
            return stop;
        }
        while let Some(job) = line.next(unix_now()) {
            let (context, out) = (context.clone(), out.clone());
            attempts.spawn(async move {
                let ended = attempt::attempt(&context, &out, &job.key).await;
                (job.key, ended)
            });
        }
        tokio::select! {
            Some(ended) = attempts.join_next() => match ended {
                Ok((key, Ok(ended))) => leave(&mut line, &key, ended),
                Ok((_, Err(stop))) => return stop,
                Err(error) => {
                    tracing::error!(%error, "an attempt broke");
                    return Stop;
                }
            },
            _ = entered.changed() => feeder.hear(),
            // Whoever wants something tried now knows more than what failed before.
            _ = flushed.changed() => {
                line.wake(unix_now());
                feeder.hear();
            }
            () = tokio::time::sleep_until(feeder.next) => {}
        }
    }
}

/// An entry leaves the line in any case: what is not done comes again when it is due.
fn leave(line: &mut Line<Key>, key: &Key, ended: Ended) {
    let draw = getrandom::u32().unwrap_or_default();
    let outcome = if ended == Ended::Reached { Outcome::Done } else { Outcome::NotReached { draw } };
    line.ended(key, outcome, unix_now());
    line.remove(key);
}

/// Knows what of the queue was seen.
struct Feeder {
    seen: OutDue,
    looked: Instant,
    /// The next look.
    next: Instant,
    back: Instant,
    afresh: Instant,
}

impl Feeder {
    fn new() -> Self {
        let now = Instant::now();
        Self { seen: OutDue::start(), looked: now, next: now, back: now + BACK, afresh: now + AFRESH }
    }

    /// Something entered the queue.
    fn hear(&mut self) {
        self.next = self.next.min(self.looked + BREATH);
    }

    /// Takes what is due, and was not seen, into the line.
    async fn feed(&mut self, context: &Context, out: &Out, line: &mut Line<Key>) -> Result<(), Stop> {
        let now = Instant::now();
        if now < self.next {
            return Ok(());
        }
        if now >= self.afresh {
            *self = Self::new();
        } else if now >= self.back {
            self.back = now + BACK;
            let since = unix_now().saturating_sub(LATE);
            take(OutDue { since, ..OutDue::start() }, (context, out), line).await?;
        }
        (self.looked, self.next) = (now, now + context.config.poll);
        self.seen = take(self.seen.clone(), (context, out), line).await?;
        Ok(())
    }
}

/// Takes what is due behind `seen` into the line; what is there already stays as it is. Answers what was seen.
async fn take(
    mut seen: OutDue,
    (context, out): (&Context, &Out),
    line: &mut Line<Key>,
) -> Result<OutDue, Stop> {
    while line.len() < LINE {
        let (now, after) = (unix_now(), seen.clone());
        let page = readable(context.store.read(move |view| view.queue_out(&after, now, PAGE)).await)?;
        let Some(last) = page.last() else { break };
        seen = last.clone();
        for due in page {
            let domain = attempt::domain(&due.address);
            let destination = out.relay.destination(domain);
            let key = Key { delivery: due.delivery, domain: domain.to_ascii_lowercase() };
            line.add(key, &destination, Priority::Normal, due.since);
        }
    }
    Ok(seen)
}
