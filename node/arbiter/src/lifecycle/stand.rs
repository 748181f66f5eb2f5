//! Standby and candidate: wait for the right moment, promise, swap.

use std::time::Duration;

use mailcluster_failover::{
    LeaseRecord, Millis, Opening, Position, Restart, Role, Takeover, TakeoverView, Taker, TargetKind, Volume,
    enough, inherits, take, takeover,
};
use mailcluster_store::{Follower, ReplicaDescription, machine};
use tokio::time::Instant;

use super::{
    Life, POLL,
    open::{Seen, end_of},
};
use crate::{
    arbiter::{Current, SwapError},
    clock::boottime,
    status::ReplicaState,
};

/// How often a mirror that is fed looks at lease and target.
const SELDOM: Duration = Duration::from_secs(30);

/// The lease is this process', and its volume is open.
pub(super) struct Taken {
    pub follower: Follower,
    pub current: Current,
    pub record: LeaseRecord,
    /// When the request that took it began.
    pub asked: Millis,
}

/// How standing by ended.
pub(super) enum Stood {
    /// The lease is taken.
    Taken(Box<Taken>),
    /// The volume is closed: another process may have it now, or the candidacy broke it off.
    Closed,
    /// A sync failed.
    Poisoned,
    /// The process is to end.
    Ended,
}

/// The record that is to be replaced, and the log's end when a person ordered it.
struct Candidate {
    record: LeaseRecord,
    forced: Option<Position>,
}

/// What a candidacy came to.
enum Candidacy {
    Won(Box<Taken>),
    /// The replica stands by again.
    Lost,
    /// It went down.
    Down,
}

impl Life {
    /// Waits for a restart's or a target's permission, and takes the lease. Until then the replica may be fed.
    pub(super) async fn stand(&self) -> Stood {
        self.gate.set_role(Role::Standby);
        let mut looked = None;
        loop {
            self.status.update(|status| status.copied = self.standby.copied());
            // First the volume, then the lease: what a primary has written by then, the lease knows of.
            let Some((description, is_sound)) = self.describe().await else { return Stood::Closed };
            if !is_sound {
                return Stood::Poisoned;
            }
            self.remember(Some(description.clone()));
            if self.is_followed(&mut looked) {
                let forked = self.standby.forked();
                self.status.set(forked.map_or(ReplicaState::Standby, ReplicaState::Forked));
                if !self.pause(POLL).await {
                    return Stood::Ended;
                }
                continue;
            }
            let state = match self.look().await {
                Ok(seen) if self.must_close(&seen) => {
                    tracing::warn!("another pod holds the store: closing the volume");
                    drop(self.standby.take());
                    self.remember(None);
                    return Stood::Closed;
                }
                Ok(seen) => match self.may_take(&seen, &description) {
                    Ok(candidate) => match self.candidate(&seen.current, &candidate).await {
                        Candidacy::Won(taken) => return Stood::Taken(taken),
                        Candidacy::Lost => ReplicaState::Standby,
                        Candidacy::Down => return Stood::Closed,
                    },
                    Err(state) => state,
                },
                Err(why) => ReplicaState::Waiting(why),
            };
            self.gate.set_role(if matches!(state, ReplicaState::Refused(_)) {
                Role::Refused
            } else {
                Role::Standby
            });
            self.status.set(state);
            if !self.pause(POLL).await {
                return Stood::Ended;
            }
        }
    }

    /// A mirror that hears its primary need not ask the API who that is: only now and then. One that keeps a fork takes
    /// nothing over.
    fn is_followed(&self, looked: &mut Option<Instant>) -> bool {
        let recent = looked.is_some_and(|at| at.elapsed() < SELDOM);
        let is_followed =
            recent && (self.standby.is_fed(self.config.lease() / 2) || self.standby.forked().is_some());
        if !is_followed {
            *looked = Some(Instant::now());
        }
        is_followed
    }

    /// What the replica that stands by says of itself, and whether its disk keeps its promises.
    async fn describe(&self) -> Option<(ReplicaDescription, bool)> {
        let standby = self.standby.clone();
        machine::blocking(move || standby.describe()).await.ok().flatten()
    }

    /// A single copy's volume is open in one process only: not in this one when the lease has gone to another pod.
    fn must_close(&self, seen: &Seen) -> bool {
        seen.current.record.is_some() && matches!(self.opening(seen, Volume::Store), Opening::Wait(_))
    }

    fn may_take(&self, seen: &Seen, description: &ReplicaDescription) -> Result<Candidate, ReplicaState> {
        self.agrees(seen, description)?;
        let Some(record) = &seen.current.record else { return Err(ReplicaState::Standby) };
        let me = self.config.identity.replica.to_string();
        let forked = self.standby.forked();
        if forked.is_none() && inherits(record, &me, end_of(description)) {
            return Ok(Candidate { record: record.clone(), forced: None });
        }
        match self.may_restart(seen) {
            Restart::Take => return Ok(Candidate { record: record.clone(), forced: None }),
            Restart::CrashLoop if seen.advice.target.is_none() => return Err(ReplicaState::CrashLoop),
            Restart::CrashLoop | Restart::Standby => {}
        }
        let otherwise = forked.map_or(ReplicaState::Standby, ReplicaState::Forked);
        let Some(target) = &seen.advice.target else { return Err(otherwise) };
        let decision = takeover(&TakeoverView {
            lease: record,
            resource_version: &seen.current.version,
            replica: &me,
            target_replica: &target.replica,
            target_version: &target.version,
            kind: target.kind,
            ready: forked.is_none(),
            end: end_of(description),
            holder_heard: self.standby.heard_within(self.config.lease()),
            evidence: enough(&seen.advice.evidence, record, self.config.fencing)
                || record.seat.as_deref() == Some(&format!("{}@{}", self.config.node, self.boot_id)),
        });
        match decision {
            Takeover::Go => {
                let forced = (target.kind == TargetKind::Forced).then(|| end_of(description));
                Ok(Candidate { record: record.clone(), forced })
            }
            Takeover::No(why) => {
                tracing::debug!(?why, "the target is not followed");
                Err(otherwise)
            }
        }
    }

    /// Promise the next epoch, sync it, swap (C7). An unknown outcome is read until it is known (A6).
    async fn candidate(&self, current: &Current, candidate: &Candidate) -> Candidacy {
        let Candidate { record, forced } = candidate;
        self.gate.set_role(Role::Candidate);
        self.status.set(ReplicaState::Candidate);
        let me = self.config.me();
        let id = self.config.identity.replica.to_string();
        let next = take(
            record,
            &Taker {
                me: &me,
                replica: &id,
                rules: self.config.rules(),
                node: &self.config.node,
                boot_id: &self.boot_id,
                now: boottime(),
                forced: *forced,
            },
        );
        let epoch = next.epoch;
        let standby = self.standby.clone();
        let promised = machine::blocking(move || {
            // From here on no stream of another primary writes.
            let mut follower = standby.take()?;
            let outcome = follower.promise(epoch);
            Some((follower, outcome))
        })
        .await;
        let follower = match promised {
            Ok(Some((follower, Ok(())))) => {
                // Whoever makes a lost Lease anew asks for it: no epoch that the Lease has had may come again (A5).
                self.remember(Some(follower.describe()));
                follower
            }
            Ok(Some((follower, Err(error)))) => {
                tracing::error!(%error, epoch, "the promise could not be made durable");
                self.standby.give(follower);
                return Candidacy::Lost;
            }
            Ok(None) | Err(_) => {
                tracing::error!(epoch, "the promise ended early");
                self.remember(None);
                return Candidacy::Down;
            }
        };
        let asked = boottime();
        match self.swap_until_known(current, &next).await {
            Some(current) => {
                tracing::info!(epoch, "the lease is taken");
                Candidacy::Won(Box::new(Taken { follower, current, record: next, asked }))
            }
            None => {
                self.standby.give(follower);
                Candidacy::Lost
            }
        }
    }

    /// Swaps; after an unknown outcome reads until it is known. `None`: the record is another's, or the process ends.
    async fn swap_until_known(&self, current: &Current, next: &LeaseRecord) -> Option<Current> {
        match self.arbiter.swap(current, next).await {
            Ok(written) => return Some(written),
            Err(SwapError::Conflict) => return None,
            Err(SwapError::Refused(why)) => {
                tracing::error!(%why, "the lease cannot be written");
                return None;
            }
            Err(SwapError::Unknown(why)) => tracing::warn!(%why, "the lease's swap has no known outcome"),
        }
        loop {
            if !self.retry_pause().await {
                return None;
            }
            if let Ok(now) = self.arbiter.current().await {
                let mine = now
                    .record
                    .as_ref()
                    .is_some_and(|r| next.holder.as_ref().is_some_and(|me| r.held_by(me, next.epoch)));
                // The old version may be there because the request is still on its way: it is not known to be lost
                // before another version is there. So try again; only one of the two can succeed.
                if mine {
                    return Some(now);
                }
                if now.version != current.version {
                    return None;
                }
                match self.arbiter.swap(current, next).await {
                    Ok(written) => return Some(written),
                    Err(SwapError::Conflict | SwapError::Unknown(_)) => {}
                    Err(SwapError::Refused(_)) => return None,
                }
            }
        }
    }
}
