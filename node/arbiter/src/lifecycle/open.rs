//! Opening: which volume is this, may this process open it now, and does it agree with the lease?

use std::path::Path;

use mailcluster_failover::{
    LeaseRecord, Opening, OpeningView, Position, RestartView, Role, Volume, VolumeHistory, complete, enough,
    known, opening, restart,
};
use mailcluster_store::{Follower, OpenError, Replica, ReplicaDescription, machine};

use super::{Life, LifecycleConfig, POLL};
use crate::{
    arbiter::{Advice, Current},
    clock::boottime,
    status::ReplicaState,
};

/// Lease and advice, read one after the other, the lease last: what is decided is decided from it.
pub(super) struct Seen {
    pub current: Current,
    pub advice: Advice,
}

impl Life {
    /// Waits until the volume may be opened, and opens it. `None` when the process is to end.
    pub(super) async fn open(&self) -> Option<Follower> {
        loop {
            let state = match self.look().await {
                Ok(seen) => match self.try_open(&seen).await {
                    Ok(follower) => {
                        self.remember(Some(follower.describe()));
                        return Some(follower);
                    }
                    Err(state) => state,
                },
                Err(why) => ReplicaState::Waiting(why),
            };
            if let ReplicaState::Refused(_) = &state {
                self.gate.set_role(Role::Refused);
            }
            self.status.set(state);
            if !self.pause(POLL).await {
                return None;
            }
        }
    }

    pub(super) async fn look(&self) -> Result<Seen, String> {
        let advice = self.arbiter.advice().await.map_err(|error| error.to_string())?;
        let current = self.arbiter.current().await.map_err(|error| error.to_string())?;
        Ok(Seen { current, advice })
    }

    pub(super) fn remember(&self, description: Option<ReplicaDescription>) {
        self.status.update(|status| status.description = description);
    }

    async fn try_open(&self, seen: &Seen) -> Result<Follower, ReplicaState> {
        let dir = self.config.data_dir.clone();
        let volume = look_at(&dir, &self.config.identity).map_err(ReplicaState::Refused)?;
        match self.opening(seen, volume) {
            Opening::Wait(why) => Err(ReplicaState::Waiting(why.into())),
            Opening::Refuse(why) => Err(ReplicaState::Refused(why.to_string())),
            Opening::Initialise => self.touch(true).await,
            Opening::Open => self.touch(false).await,
        }
    }

    /// What the rules say about opening this volume now.
    pub(super) fn opening(&self, seen: &Seen, volume: Volume) -> Opening {
        let replica = self.config.identity.replica.to_string();
        let record = seen.current.record.as_ref();
        let allowed_by_target = record.is_some_and(|record| self.target_allows(seen, record));
        let holder_is_dead = record.is_some_and(|record| self.holder_is_dead(seen, record));
        let served_last = seen.advice.serving_pod.as_deref() == Some(self.config.pod_uid.as_str());
        let same_kernel = record.and_then(|r| r.seat.as_deref()).is_some_and(|seat| seat == self.seat());
        opening(&OpeningView {
            lease: record,
            pod_uid: &self.config.pod_uid,
            replica: &replica,
            volume,
            mirrored: self.is_mirrored(),
            is_new: seen.advice.unopened.contains(&replica),
            same_kernel,
            served_last,
            allowed_by_target,
            holder_is_dead,
        })
    }

    /// Node and boot of this process, as the lease's holder writes them.
    fn seat(&self) -> String {
        format!("{}@{}", self.config.node, self.boot_id)
    }

    /// A target that names this replica and the record as it is, with evidence that suffices.
    pub(super) fn target_allows(&self, seen: &Seen, record: &LeaseRecord) -> bool {
        seen.advice.target.as_ref().is_some_and(|target| {
            target.replica == self.config.identity.replica.to_string()
                && target.version == seen.current.version
        }) && self.holder_is_dead(seen, record)
    }

    /// Does the recorded evidence suffice against the record's holder?
    fn holder_is_dead(&self, seen: &Seen, record: &LeaseRecord) -> bool {
        enough(&seen.advice.evidence, record, self.config.fencing)
    }

    async fn touch(&self, initialise: bool) -> Result<Follower, ReplicaState> {
        let LifecycleConfig { data_dir: dir, identity, disk, .. } = self.config.clone();
        let outcome = machine::blocking(move || {
            let open = if initialise { Replica::initialise_with } else { Replica::open_with };
            Follower::new(open(&dir, &identity, &disk)?)
        })
        .await;
        match outcome {
            Ok(Ok(follower)) => Ok(follower),
            Ok(Err(OpenError::Locked(dir))) => {
                Err(ReplicaState::Waiting(format!("{dir} is in use by another process")))
            }
            Ok(Err(error)) => Err(ReplicaState::Refused(with_sources(&error))),
            Err(error) => Err(ReplicaState::Refused(format!("opening ended early: {error}"))),
        }
    }

    /// Does the open volume agree with the lease as it is now? A mirror may be behind it, and never ahead.
    pub(super) fn agrees(&self, seen: &Seen, description: &ReplicaDescription) -> Result<(), ReplicaState> {
        let Some(record) = &seen.current.record else {
            return Err(ReplicaState::Waiting("the Lease is missing: the operator makes it anew".into()));
        };
        let refused = |why: mailcluster_failover::OpeningRefused| ReplicaState::Refused(why.to_string());
        let seen_there = VolumeHistory {
            last_epoch: description.last_epoch,
            promise: description.promise,
            in_sync_version: description.in_sync_version,
        };
        known(record, &seen_there).map_err(refused)?;
        let mine = record.replica.as_deref() == Some(&self.config.identity.replica.to_string());
        if mine || !self.is_mirrored() {
            complete(record, end_of(description)).map_err(refused)?;
        }
        Ok(())
    }

    /// May this process take the lease as the holder's next incarnation?
    pub(super) fn may_restart(&self, seen: &Seen) -> mailcluster_failover::Restart {
        let Some(record) = &seen.current.record else { return mailcluster_failover::Restart::Standby };
        let mut view = RestartView {
            lease: record,
            pod_uid: &self.config.pod_uid,
            target_is_anothers: false,
            boot_id: &self.boot_id,
            now: boottime(),
        };
        let me = self.config.identity.replica.to_string();
        let anothers = seen.advice.target.as_ref().is_some_and(|target| target.replica != me);
        view.target_is_anothers = anothers || self.holder_is_dead(seen, record);
        if !self.arbiter.supervised() {
            // Nobody would name a target: each start takes the store, however many there were.
            view.boot_id = "";
            view.target_is_anothers = false;
        }
        restart(&view)
    }
}

/// Where its log ends.
pub(super) fn end_of(description: &ReplicaDescription) -> Position {
    Position { epoch: description.end.0, seq: description.end.1 }
}

fn look_at(dir: &Path, expected: &mailcluster_store::Identity) -> Result<Volume, String> {
    match Replica::identify(dir) {
        Ok(found) if found == *expected => Ok(Volume::Store),
        Ok(found) => Err(format!(
            "ForeignVolume: {} belongs to store {} replica {} of cluster {}, expected store {} replica {} of cluster {}: check which volume is mounted here",
            dir.display(),
            found.store,
            found.replica,
            found.cluster,
            expected.store,
            expected.replica,
            expected.cluster
        )),
        Err(OpenError::Empty(_)) => Ok(Volume::Empty),
        Err(error) => Err(with_sources(&error)),
    }
}

fn with_sources(error: &OpenError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
