//! Settling, serving, renewing, and every way in which that ends.

use std::time::Duration;

use mailcluster_failover::{Demotion, LeaseRecord, Millis, Poisoned, Position, Role, demote};
use mailcluster_store::{Replica, Store};
use mailcluster_types::ReplicaId;
use tokio_util::sync::CancellationToken;

use super::{Life, Lifecycle, stand::Taken};
use crate::{
    arbiter::{ArbiterError, Current, Route, SwapError},
    clock::boottime,
    status::ReplicaState,
};

/// How long sessions may take to finish what they are at.
const DRAIN: Duration = Duration::from_secs(3);

/// How holding the store ended.
pub(super) enum Ended {
    /// The volume is closed; it asks anew whether it may open it.
    Closed,
    /// A sync failed.
    Poisoned,
    /// The process ends; the lease is released where that was possible.
    Shutdown,
}

/// Why serving ended.
enum Why {
    Demoted(Demotion),
    Drained,
    Shutdown,
    Poisoned,
    /// The store stopped by itself.
    StoreStopped,
}

/// The lease as this holder knows it.
struct Held {
    current: Current,
    record: LeaseRecord,
}

impl Life {
    /// Settles, serves and renews until that ends.
    pub(super) async fn hold(&self, taken: Taken, events: &dyn Lifecycle) -> Ended {
        let Taken { replica, current, record, asked } = taken;
        self.gate.renewed(record.epoch, asked, self.config.lease_ms(), self.config.rules());
        self.gate.set_role(Role::Settling);
        self.status.set(ReplicaState::Settling);
        let epoch = record.epoch;
        let mut held = Held { current, record };
        let store = match self.begin(replica, &held.record).await {
            Some(store) => store,
            None if self.gate.role() == Role::Poisoned => return self.poisoned(&mut held).await,
            None => return Ended::Closed,
        };
        self.status.update(|status| status.store = Some(store.clone()));
        let over = CancellationToken::new();
        let why = match self.publish(&mut held).await {
            Some(why) => why,
            None => {
                self.gate.set_role(Role::Primary);
                self.status.set(ReplicaState::Primary);
                tracing::info!(epoch, store = %self.config.identity.store, "serving");
                events.serving(store.clone(), over.clone()).await;
                self.renew(&mut held, &store).await
            }
        };
        self.end(why, &mut held, store, &over, events).await
    }

    /// Appends EpochStart, synced, and starts the committer.
    async fn begin(&self, replica: Replica, record: &LeaseRecord) -> Option<Store> {
        let in_sync: Vec<ReplicaId> = record.in_sync.iter().filter_map(|id| id.parse().ok()).collect();
        let (epoch, gate) = (record.epoch, self.gate.clone());
        let begun = tokio::task::spawn_blocking(move || replica.serve(epoch, &in_sync, gate)).await;
        match begun {
            Ok(Ok(store)) => Some(store),
            Ok(Err(error)) => {
                tracing::error!(%error, epoch, "the epoch's first record could not be made durable");
                self.status.set(ReplicaState::Refused(error.to_string()));
                self.remember(None);
                None
            }
            Err(error) => {
                tracing::error!(%error, epoch, "settling ended early");
                self.remember(None);
                None
            }
        }
    }

    /// Publishes the route, renewing meanwhile. `None` when it is published.
    async fn publish(&self, held: &mut Held) -> Option<Why> {
        let route = Route {
            epoch: held.record.epoch,
            replica: self.config.identity.replica.to_string(),
            pod_uid: self.config.pod_uid.clone(),
            endpoint: self.config.endpoint,
        };
        let lease_ms = self.config.lease_ms();
        let (mut last, mut open_at, mut refused_at) = (boottime(), boottime(), None);
        loop {
            match self.arbiter.publish(&route).await {
                Ok(()) => return None,
                Err(ArbiterError::Refused(why)) => {
                    tracing::error!(%why, "the route is refused");
                    let since = *refused_at.get_or_insert_with(boottime);
                    if boottime().saturating_sub(since) >= lease_ms {
                        // It is tried on, and people are told: nothing but a change outside of this process ends it.
                        self.status.set(ReplicaState::Refused(format!("RouteNotPublished: {why}")));
                    }
                }
                Err(error) => {
                    refused_at = None;
                    tracing::warn!(%error, "the route cannot be published yet");
                }
            }
            if self.gate.role() == Role::Poisoned {
                return Some(Why::Poisoned);
            }
            if !self.retry_pause().await {
                return Some(Why::Shutdown);
            }
            if boottime() - last >= lease_ms / 4 {
                last = boottime();
                if let Some(demotion) = self.renew_once(held, None).await {
                    return Some(Why::Demoted(demotion));
                }
            }
            if self.gate.would_open() {
                open_at = boottime();
            }
            if let Some(why) = self.too_long_silent(held, open_at) {
                return Some(Why::Demoted(why));
            }
        }
    }

    /// Renews every D/4 until something ends it.
    async fn renew(&self, held: &mut Held, store: &Store) -> Why {
        let lease_ms = self.config.lease_ms();
        let mut next = boottime() + lease_ms / 4;
        let epoch = held.record.epoch;
        let (mut open_at, mut believed, mut shut) = (boottime(), epoch, false);
        loop {
            let wait = Duration::from_millis(next.saturating_sub(boottime()));
            tokio::select! {
                () = self.shutdown.cancelled() => return Why::Shutdown,
                () = self.gate.wait_poisoned() => return Why::Poisoned,
                () = self.status.drain_requested() => return Why::Drained,
                () = store.stopped() => {
                    return if self.gate.role() == Role::Poisoned { Why::Poisoned } else { Why::StoreStopped };
                }
                seen = self.status.higher_epoch(believed) => {
                    if let Some(why) = self.told_of(seen, held).await {
                        return Why::Demoted(why);
                    }
                    believed = seen;
                    continue;
                }
                () = tokio::time::sleep(wait) => {}
            }
            if !self.arbiter.supervised() {
                next = boottime() + lease_ms;
                continue;
            }
            let asked = boottime();
            if let Some(why) = self.renew_once(held, Some(store)).await {
                return Why::Demoted(why);
            }
            if self.gate.open() {
                open_at = boottime();
            }
            shut = self.tell_of_silence(shut, epoch);
            if let Some(why) = self.too_long_silent(held, open_at) {
                return Why::Demoted(why);
            }
            // On time after a success; with a random pause of less than a second after a failure (F2).
            let renewed = self.gate.lease_until() >= asked + lease_ms * 3 / 4;
            next = if renewed { asked + lease_ms / 4 } else { boottime() + 200 + asked % 600 };
        }
    }

    /// Says once that nothing is acknowledged any more, and since when; and once that it is again. `shut` is what was
    /// said last; answers what is true now.
    fn tell_of_silence(&self, shut: bool, epoch: u64) -> bool {
        let open = self.gate.open();
        if open == shut {
            let ago = boottime().saturating_sub(self.gate.lease_until());
            match open {
                true => tracing::info!(epoch, "acknowledging again"),
                false => tracing::warn!(
                    epoch,
                    since_ms = ago,
                    "the lease is not renewed: nothing is acknowledged, since so many milliseconds"
                ),
            }
        }
        !open
    }

    fn too_long_silent(&self, held: &Held, open_at: Millis) -> Option<Demotion> {
        let silent = boottime().saturating_sub(open_at);
        demote(&self.config.me(), held.record.epoch, None, 0, silent, self.config.lease_ms())
    }

    /// A peer or frontend of the cluster asked for a higher epoch of this store. The lease decides; where it cannot be
    /// read, whoever was told of that epoch is believed.
    async fn told_of(&self, seen: u64, held: &mut Held) -> Option<Demotion> {
        tracing::warn!(seen, epoch = held.record.epoch, "somebody asked for a higher epoch of this store");
        let record = self.arbiter.current().await.ok().and_then(|current| current.record);
        let highest = if record.is_some() { 0 } else { seen };
        let lease_ms = self.config.lease_ms();
        demote(&self.config.me(), held.record.epoch, record.as_ref(), highest, 0, lease_ms)
    }

    /// One renewal, without reading first. A conflict is read; another holder or epoch there ends this one.
    async fn renew_once(&self, held: &mut Held, store: Option<&Store>) -> Option<Demotion> {
        let asked = boottime();
        let mut next = held.record.clone();
        if let Some(store) = store {
            let (epoch, seq) = store.committed();
            next.position = next.position.max(Position { epoch, seq });
        }
        next.in_force = Some(self.config.rules());
        match self.arbiter.swap(&held.current, &next).await {
            Ok(current) => {
                self.adopt(held, current, next, asked);
                None
            }
            Err(SwapError::Conflict | SwapError::Unknown(_)) => self.reread(held).await,
            Err(SwapError::Refused(why)) => {
                tracing::error!(%why, "the lease cannot be renewed");
                None
            }
        }
    }

    fn adopt(&self, held: &mut Held, current: Current, record: LeaseRecord, asked: Millis) {
        let rules = record.in_force.unwrap_or_else(|| self.config.rules());
        self.gate.renewed(record.epoch, asked, self.config.lease_ms(), rules);
        *held = Held { current, record };
    }

    /// What is there now? Mine at my epoch: the next renewal goes on from that version (somebody touched a label).
    async fn reread(&self, held: &mut Held) -> Option<Demotion> {
        let current = match self.arbiter.current().await {
            Ok(current) => current,
            Err(error) => {
                tracing::warn!(%error, "the lease could be neither renewed nor read");
                return None;
            }
        };
        let Some(record) = current.record.clone() else {
            tracing::warn!(
                "the lease is missing; serving goes on by the rules in force until it is made anew"
            );
            return None;
        };
        let me = self.config.me();
        match demote(&me, held.record.epoch, Some(&record), 0, 0, self.config.lease_ms()) {
            Some(why) => Some(why),
            None => {
                *held = Held { current, record };
                None
            }
        }
    }

    /// As asked for: new work is refused, what is in flight is finished and acknowledged, and only then the gate
    /// closes.
    async fn drain(&self, store: &Store, over: &CancellationToken, events: &dyn Lifecycle) {
        self.status.set(ReplicaState::Draining);
        over.cancel();
        let limit = if self.arbiter.supervised() {
            DRAIN.min(Duration::from_millis(self.gate.lease_until().saturating_sub(boottime())))
        } else {
            DRAIN
        };
        tokio::select! {
            () = events.drained() => {}
            () = store.stopped() => {}
            () = self.gate.wait_poisoned() => {}
            () = tokio::time::sleep(limit) => tracing::warn!("some sessions did not end in time"),
        }
        self.gate.set_role(Role::Draining);
    }

    /// Closes the gate first, unless the end was asked for, then sessions, then the log; then says so in the lease.
    async fn end(
        &self,
        why: Why,
        held: &mut Held,
        store: Store,
        over: &CancellationToken,
        events: &dyn Lifecycle,
    ) -> Ended {
        match &why {
            Why::Demoted(why) => {
                self.gate.set_role(Role::Standby);
                tracing::warn!(?why, epoch = held.record.epoch, "stepping down");
            }
            Why::Drained | Why::Shutdown => self.drain(&store, over, events).await,
            Why::Poisoned => {
                tracing::error!(epoch = held.record.epoch, "a sync failed: this replica is poisoned")
            }
            Why::StoreStopped => {
                self.gate.set_role(Role::Standby);
                tracing::error!(epoch = held.record.epoch, "the store stopped by itself");
            }
        }
        over.cancel();
        self.status.update(|status| status.store = None);
        let (epoch, seq) = store.committed();
        let committed = Position { epoch, seq };
        let replica = store.stop().await;
        drop(store);
        events.stopped().await;
        self.remember(replica.as_ref().map(Replica::describe));
        if matches!(why, Why::Poisoned) || self.gate.role() == Role::Poisoned {
            return self.poisoned(held).await;
        }
        if let (Why::Drained | Why::Shutdown, Some(replica)) = (&why, replica) {
            // Closing marks the log: nobody may find the lease free before that is done.
            let closed = tokio::task::spawn_blocking(move || drop(replica)).await;
            self.remember(None);
            match closed {
                Ok(()) => self.release(held, committed).await,
                Err(error) => tracing::error!(%error, "the volume was not closed; the lease is kept"),
            }
        }
        match why {
            Why::Shutdown => Ended::Shutdown,
            // Drained: it may open the volume again like any other. Deposed: another process may have it by now.
            _ => {
                self.remember(None);
                Ended::Closed
            }
        }
    }

    /// Gives the lease back: nobody writes to the volume any more, so the next may come without waiting.
    async fn release(&self, held: &mut Held, committed: Position) {
        for _ in 0..3 {
            let mut next = held.record.clone();
            next.position = next.position.max(committed);
            next.holder = None;
            match self.arbiter.swap(&held.current, &next).await {
                Ok(_) => {
                    tracing::info!(epoch = held.record.epoch, "the lease is released");
                    return;
                }
                Err(SwapError::Refused(why)) => {
                    tracing::warn!(%why, "the lease is not released");
                    return;
                }
                // After an unknown outcome too: it is released, or still mine and tried again.
                Err(SwapError::Conflict | SwapError::Unknown(_)) => {
                    if self.reread(held).await.is_some() {
                        return;
                    }
                }
            }
        }
        tracing::warn!("the lease could not be released; the operator waits for it to run out");
    }

    /// Says in the lease, if it can, that this disk failed a sync (D2).
    async fn poisoned(&self, held: &mut Held) -> Ended {
        self.status.set(ReplicaState::Poisoned);
        let mut next = held.record.clone();
        next.poisoned = Some(Poisoned {
            replica: self.config.identity.replica.to_string(),
            boot_id: self.boot_id.clone(),
        });
        if let Err(error) = self.arbiter.swap(&held.current, &next).await {
            tracing::warn!(%error, "the poisoned replica could not be noted in the lease");
        }
        Ended::Poisoned
    }
}
