//! Serving, and every way in which that ends.

use std::{sync::Arc, time::Duration};

use mailcluster_failover::{Poisoned, Role};
use mailcluster_store::{Follower, Replica, Store, WriteError, machine};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{
    Life, Lifecycle,
    feeds::{Feeds, Trouble},
    members::heir,
    settle::{Left, ids, told},
    stand::Taken,
    term::{Term, Why},
};
use crate::{clock::boottime, status::ReplicaState};

/// How long sessions may take to finish what they are at.
const DRAIN: Duration = Duration::from_secs(3);
/// How long what is in flight then may wait for mirrors.
const STOP: Duration = Duration::from_secs(2);

/// How holding the store ended.
pub(super) enum Ended {
    /// The volume is closed, or the replica stands by.
    Over,
    /// A sync failed.
    Poisoned,
    /// The disk does not answer: the process must end.
    DiskHangs,
    /// The process ends; the lease is released where that was possible.
    Shutdown,
}

impl Life {
    /// Settles, serves and renews until that ends.
    pub(super) async fn hold(&self, taken: Taken, events: &dyn Lifecycle) -> Ended {
        let Taken { follower, current, record, asked } = taken;
        let lease_ms = self.config.lease_ms();
        self.status.forget_drain();
        self.gate.renewed(&record, asked, lease_ms);
        self.gate.set_role(Role::Settling);
        self.status.set(ReplicaState::Settling);
        self.status.update(|status| status.copied = None);
        let (follower, progress) = match self.begin(follower, &record).await {
            Some((follower, progress)) => (follower, Arc::new(progress)),
            None if self.gate.role() == Role::Poisoned => return self.note_poisoned(&current, record).await,
            None => return Ended::Over,
        };
        self.gate.follow(progress.clone());
        self.remember(Some(follower.describe()));
        let follower = told(follower, &progress);
        self.config.comparing.keep(&[]);
        let log = (progress, follower.repairs());
        let mut term = Term::new((current, record), log, lease_ms);
        let mut feeds = self.feed(&term);
        let doors = Doors { over: CancellationToken::new(), events };
        let (why, left) = match self.settle(&mut term, &mut feeds, follower).await {
            Ok(store) => {
                let why = self.serve(&mut term, &mut feeds, &store, &doors).await;
                (why, Left::Store(store))
            }
            Err((why, left)) => (why, left),
        };
        self.end(why, (term, feeds), left, &doors).await
    }

    async fn serve(&self, term: &mut Term, feeds: &mut Feeds, store: &Store, doors: &Doors<'_>) -> Why {
        self.status.update(|status| status.store = Some(store.clone()));
        term.store = Some(store.clone());
        if let Err(why) = self.publish(term).await {
            return why;
        }
        self.gate.set_role(Role::Primary);
        self.status.set(ReplicaState::Primary);
        tracing::info!(epoch = term.record.epoch, store = %self.config.identity.store, "serving");
        doors.events.serving(store.clone(), doors.over.clone()).await;
        let mut beginning: Option<JoinHandle<Result<(), WriteError>>> = None;
        loop {
            let work = async {
                tokio::select! {
                    () = store.stopped() => Event::Stopped,
                    () = self.status.drain_requested() => Event::Drain,
                    trouble = feeds.trouble() => Event::Trouble(trouble),
                    begun = done(&mut beginning) => Event::Begun(begun),
                }
            };
            match self.during(term, work).await {
                Err(why) => return why,
                Ok(Event::Stopped) if self.gate.role() == Role::Poisoned => return Why::Poisoned,
                Ok(Event::Stopped) => return Why::StoreStopped,
                Ok(Event::Drain) => return Why::Drained,
                Ok(Event::Trouble(Trouble::Yield(to))) if !term.record.in_sync.contains(&to) => {}
                Ok(Event::Trouble(Trouble::Yield(to))) => return Why::Yielded(to),
                Ok(Event::Trouble(Trouble::Promised(promise))) => match self.go_above(term, promise).await {
                    Ok(false) => {}
                    Ok(true) => {
                        *feeds = self.feed(term);
                        beginning = Some(begin_epoch(term, store));
                    }
                    Err(why) => return why,
                },
                // Nothing could be acknowledged at the epoch that the lease has.
                Ok(Event::Begun(false)) => return Why::StoreStopped,
                Ok(Event::Begun(true)) => {
                    beginning = None;
                    if let Err(why) = self.publish(term).await {
                        return why;
                    }
                }
            }
        }
    }

    /// As asked for: new work is refused, what is in flight is finished and acknowledged, and only then the gate
    /// closes.
    async fn drain(&self, store: &Store, doors: &Doors<'_>) {
        self.status.set(ReplicaState::Draining);
        doors.over.cancel();
        let limit = if self.arbiter.supervised() {
            DRAIN.min(Duration::from_millis(self.gate.lease_until().saturating_sub(boottime())))
        } else {
            DRAIN
        };
        tokio::select! {
            () = doors.events.drained() => {}
            () = store.stopped() => {}
            () = self.gate.wait_poisoned() => {}
            () = tokio::time::sleep(limit) => tracing::warn!("some sessions did not end in time"),
        }
        self.gate.set_role(Role::Draining);
    }

    /// Closes the gate first, unless the end was asked for, then sessions, then the log; then says so in the lease.
    async fn end(&self, why: Why, (mut term, feeds): (Term, Feeds), left: Left, doors: &Doors<'_>) -> Ended {
        let epoch = term.record.epoch;
        match (&why, &left) {
            (Why::Drained | Why::Shutdown, Left::Store(store)) => self.drain(store, doors).await,
            (Why::Poisoned, _) => tracing::error!(epoch, "a sync failed: this replica is poisoned"),
            (why, _) => self.step_down(why, epoch),
        }
        doors.over.cancel();
        self.status.update(|status| status.store = None);
        if matches!(why, Why::DiskHangs) {
            return self.leave(term, feeds).await;
        }
        let is_planned = matches!(why, Why::Drained | Why::Shutdown);
        let replica = self.stop(&term, left, is_planned, doors).await;
        let heir = match &why {
            Why::Yielded(to) if term.record.in_sync.contains(to) => Some(to.clone()),
            _ => heir(&term, &self.config, self.status.take_heir()),
        };
        drop(feeds);
        term.repairs.ask(None);
        if matches!(why, Why::Poisoned) || self.gate.role() == Role::Poisoned {
            return self.poisoned(&mut term, heir).await;
        }
        let is_given_back = self.keep_or_close(replica, &why).await;
        if matches!(why, Why::Drained | Why::Shutdown | Why::Yielded(_) | Why::Isolated) && is_given_back {
            self.release(&mut term, heir).await;
        }
        if matches!(why, Why::Shutdown) { Ended::Shutdown } else { Ended::Over }
    }

    /// Nothing is waited for that waits for the disk. What is on its way there was acknowledged to nobody, and is not any
    /// more, should it come to pass: the mirror may have the store at once.
    async fn leave(&self, mut term: Term, feeds: Feeds) -> Ended {
        term.progress.end();
        let heir = heir(&term, &self.config, self.status.take_heir());
        drop(feeds);
        self.release(&mut term, heir).await;
        Ended::DiskHangs
    }

    fn step_down(&self, why: &Why, epoch: u64) {
        self.gate.set_role(Role::Standby);
        match why {
            Why::Demoted(why) => tracing::warn!(?why, epoch, "stepping down"),
            Why::StoreStopped => tracing::error!(epoch, "the store stopped by itself"),
            why => tracing::warn!(?why, epoch, "stepping down"),
        }
    }

    /// Stops the committer. What is in flight waits for mirrors only after a planned end, and not for ever.
    async fn stop(&self, term: &Term, left: Left, is_planned: bool, doors: &Doors<'_>) -> Option<Replica> {
        let progress = term.progress.clone();
        if !is_planned {
            progress.end();
        }
        let store = match left {
            Left::Store(store) => store,
            Left::Follower(follower) => return Some(follower.into_replica()),
            Left::Nothing => return None,
        };
        let limit = tokio::spawn(async move {
            tokio::time::sleep(STOP).await;
            progress.end();
        });
        let replica = store.stop().await;
        limit.abort();
        term.progress.end();
        drop(store);
        doors.events.stopped().await;
        replica
    }

    /// A mirrored replica stands by as it is. A single copy's volume is closed: another process may have it next, and
    /// nobody may find the lease free before the log is marked as closed. `false` when it was not closed in order.
    async fn keep_or_close(&self, replica: Option<Replica>, why: &Why) -> bool {
        self.remember(replica.as_ref().map(Replica::describe));
        let Some(replica) = replica else { return false };
        let stands_by = self.is_mirrored() && !matches!(why, Why::Shutdown);
        let kept = machine::blocking(move || stands_by.then(|| Follower::new(replica)).transpose());
        match kept.await {
            Ok(Ok(Some(follower))) => {
                self.standby.give(follower);
                true
            }
            Ok(kept) => {
                self.remember(None);
                kept.inspect_err(|error| tracing::error!(%error, "the volume is closed")).is_ok()
            }
            Err(error) => {
                tracing::error!(%error, "the volume was not closed; the lease is kept");
                self.remember(None);
                false
            }
        }
    }

    /// Says in the lease, if it can, that this disk failed a sync (D2); an heir need not wait for the lease to run out.
    async fn poisoned(&self, term: &mut Term, heir: Option<String>) -> Ended {
        let mut next = term.record.clone();
        if heir.is_some() {
            next.holder = None;
            next.transfer_to = heir;
        }
        self.note_poisoned(&term.current.clone(), next).await
    }

    async fn note_poisoned(
        &self,
        current: &crate::arbiter::Current,
        mut next: mailcluster_failover::LeaseRecord,
    ) -> Ended {
        self.status.set(ReplicaState::Poisoned);
        let replica = self.config.identity.replica.to_string();
        next.poisoned = Some(Poisoned { replica, boot_id: self.boot_id.clone() });
        if let Err(error) = self.arbiter.swap(current, &next).await {
            tracing::warn!(%error, "the poisoned replica could not be noted in the lease");
        }
        Ended::Poisoned
    }
}

/// What lets clients in while the store serves.
struct Doors<'a> {
    /// Cancelled when it ends.
    over: CancellationToken,
    events: &'a dyn Lifecycle,
}

/// What a primary reacts to.
enum Event {
    Stopped,
    Drain,
    Trouble(Trouble),
    /// The record of a higher epoch is committed, or is not.
    Begun(bool),
}

fn begin_epoch(term: &Term, store: &Store) -> JoinHandle<Result<(), WriteError>> {
    let (store, epoch, in_sync) = (store.clone(), term.record.epoch, ids(&term.record.in_sync));
    tokio::spawn(async move { store.begin_epoch(epoch, &in_sync).await })
}

/// Resolves when the task has ended; never without one.
async fn done(task: &mut Option<JoinHandle<Result<(), WriteError>>>) -> bool {
    match task {
        Some(task) => matches!(task.await, Ok(Ok(()))),
        None => std::future::pending().await,
    }
}
