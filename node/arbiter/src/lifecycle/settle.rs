//! Settling: the epoch's first record, in the log of every replica that counts, before anything is read or written.

use std::sync::Arc;

use mailcluster_failover::{
    Beginning, LeaseRecord, Position, Role, beginning,
    mirror::{EpochEntry, InSync, LogShape},
};
use mailcluster_replication::{Begun, Progress};
use mailcluster_store::{EpochMark, FollowError, Follower, Names, OpenError, Store, machine};
use mailcluster_types::{ReplicaId, Seq};
use tokio::time::Instant;

use super::{
    Life,
    feeds::{Feeds, Trouble},
    term::{Term, Why},
};
use crate::{
    arbiter::{ArbiterError, Route},
    clock::boottime,
    status::ReplicaState,
};

/// What a term has to give back.
pub(super) enum Left {
    Store(Store),
    Follower(Box<Follower>),
    /// It broke.
    Nothing,
}

impl Life {
    /// Appends EpochStart, synced; from then on the log is copied by `Progress`.
    pub(super) async fn begin(
        &self,
        follower: Follower,
        record: &LeaseRecord,
    ) -> Option<(Follower, Progress)> {
        let (epoch, taken) = (record.epoch, record.clone());
        let begun = machine::blocking(move || begin(follower, &taken)).await;
        match begun {
            Ok(Ok((follower, begun))) => {
                let set = InSync::new(record.in_sync.clone(), record.min_in_sync);
                Some((follower, Progress::new(self.config.identity.replica.to_string(), set, begun)))
            }
            Ok(Err(error)) => {
                tracing::error!(%error, epoch, "the epoch's first record could not be made durable");
                if matches!(error, FollowError::Broken) {
                    mailcluster_store::Gate::poisoned(&*self.gate);
                }
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

    /// Waits until the epoch's first record is committed, applies what came before it, and starts the committer.
    pub(super) async fn settle(
        &self,
        term: &mut Term,
        feeds: &mut Feeds,
        mut follower: Follower,
    ) -> Result<Store, (Why, Left)> {
        loop {
            let (start, progress) = (follower.end().seq, term.progress.clone());
            term.settling = Some((start, Instant::now()));
            let work = async {
                tokio::select! {
                    () = progress.reached(start) => None,
                    trouble = feeds.trouble() => Some(trouble),
                }
            };
            match self.during(term, work).await {
                Ok(None) => break,
                Ok(Some(Trouble::Promised(promise))) => match self.go_above(term, promise).await {
                    Ok(false) => {}
                    Ok(true) => {
                        follower = self.begin_anew(term, follower).await?;
                        *feeds = self.feed(term);
                    }
                    Err(why) => return Err((why, Left::Follower(Box::new(follower)))),
                },
                Ok(Some(Trouble::Yield(to))) if !term.record.in_sync.contains(&to) => {}
                Ok(Some(Trouble::Yield(to))) => {
                    return Err((Why::Yielded(to), Left::Follower(Box::new(follower))));
                }
                Err(why) => return Err((why, Left::Follower(Box::new(follower)))),
            }
        }
        term.settling = None;
        self.apply(term, follower).await
    }

    /// A mirror has promised a higher epoch to one that did not get the lease: this holder goes above it (C6). `true`
    /// when the lease has the new epoch.
    pub(super) async fn go_above(&self, term: &mut Term, promise: u64) -> Result<bool, Why> {
        if promise < term.record.epoch {
            return Ok(false);
        }
        let mut next = term.record.clone();
        next.epoch = promise + 1;
        next.position = term.committed();
        tracing::warn!(from = term.record.epoch, to = next.epoch, "a mirror has promised a higher epoch");
        let wanted = next.epoch;
        self.write(term, next).await.map_err(Why::Demoted)?;
        if term.record.epoch != wanted {
            return Ok(false);
        }
        // Also when the swap's own answer was lost.
        self.gate.raise(wanted);
        term.progress.go_above(wanted);
        Ok(true)
    }

    async fn begin_anew(&self, term: &Term, follower: Follower) -> Result<Follower, (Why, Left)> {
        let (epoch, taken) = (term.record.epoch, term.record.clone());
        let begun = machine::blocking(move || begin(follower, &taken)).await;
        match begun {
            Ok(Ok((follower, begun))) => {
                term.progress.synced(begun.end);
                Ok(follower)
            }
            Ok(Err(error)) => {
                tracing::error!(%error, epoch, "the epoch's first record could not be made durable");
                let broken = matches!(error, FollowError::Broken);
                Err((if broken { Why::Poisoned } else { Why::StoreStopped }, Left::Nothing))
            }
            Err(_) => Err((Why::StoreStopped, Left::Nothing)),
        }
    }

    async fn apply(&self, term: &mut Term, follower: Follower) -> Result<Store, (Why, Left)> {
        let (commit, gate) = (term.progress.commit(), self.gate.clone());
        let work = machine::blocking(move || {
            let mut follower = follower;
            follower.advance(commit).map_err(|error| {
                if matches!(error, FollowError::Broken) {
                    mailcluster_store::Gate::poisoned(&*gate);
                }
                OpenError::Index(error.to_string())
            })?;
            follower.into_replica().go_on(gate)
        });
        let mut task = Box::pin(work);
        let over = match self.during(term, task.as_mut()).await {
            Ok(done) => return self.started(done),
            Err(why) => why,
        };
        // The replica is not let go before its work has ended.
        Err(match self.started(task.await) {
            Ok(store) => (over, Left::Store(store)),
            Err((_, left)) => (over, left),
        })
    }

    fn started(
        &self,
        done: Result<Result<Store, OpenError>, tokio::task::JoinError>,
    ) -> Result<Store, (Why, Left)> {
        match done {
            Ok(Ok(store)) => Ok(store),
            Ok(Err(_)) if self.gate.role() == Role::Poisoned => Err((Why::Poisoned, Left::Nothing)),
            Ok(Err(error)) => {
                tracing::error!(%error, "the store could not begin to serve");
                self.status.set(ReplicaState::Refused(error.to_string()));
                Err((Why::StoreStopped, Left::Nothing))
            }
            Err(error) => {
                tracing::error!(%error, "settling ended early");
                Err((Why::StoreStopped, Left::Nothing))
            }
        }
    }

    /// Publishes the route, trying until it is done.
    pub(super) async fn publish(&self, term: &mut Term) -> Result<(), Why> {
        let route = Route {
            epoch: term.record.epoch,
            replica: self.config.identity.replica.to_string(),
            pod_uid: self.config.pod_uid.clone(),
            endpoint: self.config.endpoint,
        };
        let published = async {
            let mut refused_at = None;
            loop {
                match self.arbiter.publish(&route).await {
                    Ok(()) => return,
                    Err(ArbiterError::Refused(why)) => {
                        tracing::error!(%why, "the route is refused");
                        let since = *refused_at.get_or_insert_with(boottime);
                        if boottime().saturating_sub(since) >= self.config.lease_ms() {
                            // It is tried on, and people are told: nothing but a change outside of this process ends it.
                            self.status.set(ReplicaState::Refused(format!("RouteNotPublished: {why}")));
                        }
                    }
                    Err(error) => {
                        refused_at = None;
                        tracing::warn!(%error, "the route cannot be published yet");
                    }
                }
                if !self.retry_pause().await {
                    return;
                }
            }
        };
        self.during(term, published).await
    }
}

/// The members of a set, as the log names them.
pub(super) fn ids<'a>(set: impl IntoIterator<Item = &'a String>) -> Vec<ReplicaId> {
    set.into_iter().filter_map(|id| id.parse().ok()).collect()
}

fn begin(mut follower: Follower, taken: &LeaseRecord) -> Result<(Follower, Begun), FollowError> {
    let unreadable = |error: OpenError| FollowError::Index(error.to_string());
    let (epoch, in_sync, commit): (_, _, Seq) = (taken.epoch, ids(&taken.in_sync), follower.applied().1);
    let known: Vec<EpochEntry> = follower.epochs().map_err(unreadable)?.into_iter().map(entry).collect();
    let at = |(epoch, seq)| Position { epoch, seq };
    let end = follower.end();
    let log = LogShape { epochs: &known, end: at((end.epoch, end.seq)) };
    let beginning = beginning(taken, log, at(follower.applied()));
    if beginning != Beginning::Plain {
        tracing::warn!(epoch, ?beginning, "what only other copies have is left behind");
    }
    let (_, end) = match beginning {
        Beginning::Plain => follower.begin(epoch, &in_sync)?,
        Beginning::Forced => follower.begin_forced(epoch, &in_sync, Names::Kept)?,
        Beginning::ForcedAnew => follower.begin_forced(epoch, &in_sync, Names::Anew)?,
    };
    let epochs = follower.epochs().map_err(unreadable)?;
    Ok((follower, Begun { epochs, end, commit }))
}

fn entry(mark: EpochMark) -> EpochEntry {
    EpochEntry { epoch: mark.epoch, first_seq: mark.first_seq, forced: mark.forced }
}

/// Tells the log's copies of what is written from now on.
pub(super) fn told(mut follower: Follower, progress: &Arc<Progress>) -> Follower {
    follower.tell(progress.clone());
    follower
}
