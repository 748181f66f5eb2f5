//! What a process does with the volume it finds, given the lease: wait, initialise, open, or refuse.

use crate::{LeaseRecord, Position};

/// What lies on the volume, as far as can be told without opening it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Volume {
    /// Nothing but `lost+found`.
    Empty,
    /// A superblock.
    Store,
}

/// What the decision depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpeningView<'a> {
    /// The lease; `None` when it is missing.
    pub lease: Option<&'a LeaseRecord>,
    /// This pod.
    pub pod_uid: &'a str,
    /// `--replica`.
    pub replica: &'a str,
    /// The volume.
    pub volume: Volume,
    /// Has the store other replicas, each with a volume of its own? Then one that is not in sync is opened, to be fed.
    pub mirrored: bool,
    /// Is this a copy whose volume no process has opened yet? One that takes another's place begins empty.
    pub is_new: bool,
    /// Does this process run on the same node, and the same boot of it, as the holder? Then the lock decides.
    pub same_kernel: bool,
    /// Does `status.serving` name this pod? It had the volume last, so it may open it while the lease is missing.
    pub served_last: bool,
    /// Does a target name this replica and this version of the lease, with evidence that suffices?
    pub allowed_by_target: bool,
    /// Does the recorded evidence suffice against the record's holder?
    pub holder_is_dead: bool,
}

/// What to do with the volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// Write a superblock.
    Initialise,
    /// Open and recover (which writes: so never beside a holder elsewhere).
    Open,
    /// Not yet: another process may have it open.
    Wait(&'static str),
    /// Not without a person.
    Refuse(OpeningRefused),
}

/// Why a replica stays away from its volume or its lease.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpeningRefused {
    /// The lease has had holders and the volume has nothing.
    #[error(
        "EmptyVolume: the volume is empty and the lease is at epoch {0}: check which volume is mounted here; where the store has other copies, run `kubectl mailcluster store replace-replica`"
    )]
    EmptyVolume(u64),
    /// The lease lists other replicas.
    #[error(
        "NotInSync: the lease does not name replica {0} as in sync: a volume of another replica is mounted here"
    )]
    NotInSync(String),
    /// The log knows a higher epoch or in-sync version than the lease.
    #[error(
        "StateRolledBack: the volume has seen epoch {volume_epoch} (in-sync version {volume_version}) and the lease says {lease_epoch} (version {lease_version}): the Lease was restored from a backup; run `kubectl mailcluster store restore-lease`"
    )]
    StateRolledBack {
        /// Epoch of the last EpochStart on the volume.
        volume_epoch: u64,
        /// Version of the last InSync record.
        volume_version: u64,
        /// The lease's.
        lease_epoch: u64,
        /// The lease's.
        lease_version: u64,
    },
    /// The log ends below the position that the lease has seen committed.
    #[error(
        "StaleCopy: the volume ends at {end} and the lease has seen {position} committed: an old copy of the volume is mounted here; where it is all that is left (a backup), run `kubectl mailcluster store restore-lease`, and what came after it is lost"
    )]
    StaleCopy {
        /// The log's end.
        end: Position,
        /// The lease's.
        position: Position,
    },
}

/// May this process open its volume now? Opening writes (recovery copies the tail), so of a single copy it is done
/// only when no other process can have it open: nobody holds the lease, this pod does, the lock decides between two
/// processes of one kernel, or the operator has named this replica with evidence against the holder.
#[must_use]
pub fn opening(view: &OpeningView<'_>) -> Opening {
    let Some(lease) = view.lease else {
        // Opened for Describe alone, so that the operator can make the lease anew from what it says; each copy of a mirrored
        // store has a volume that no other pod opens.
        return if (view.served_last || view.mirrored) && view.volume == Volume::Store {
            Opening::Open
        } else {
            Opening::Wait("the Lease is missing: the operator makes it anew")
        };
    };
    let is_in_sync = lease.in_sync.iter().any(|id| id == view.replica);
    if !view.mirrored && !is_in_sync {
        return Opening::Refuse(OpeningRefused::NotInSync(view.replica.to_owned()));
    }
    if view.volume == Volume::Empty {
        let is_first = lease.epoch == 0 && lease.holder.is_none() && is_in_sync;
        // One that was open before may have promised something, or have had what was acknowledged: it does not begin anew
        // under its old id.
        let takes_a_place = view.mirrored && view.is_new && lease.epoch > 0 && !is_in_sync;
        return if is_first || takes_a_place {
            Opening::Initialise
        } else {
            Opening::Refuse(OpeningRefused::EmptyVolume(lease.epoch))
        };
    }
    match &lease.holder {
        None => Opening::Open,
        // A sibling may be let in at any moment: this pod was started again by a machine that came back.
        Some(holder) if holder.pod_uid == view.pod_uid && view.holder_is_dead => {
            Opening::Wait("the operator has evidence against this pod")
        }
        Some(holder) if holder.pod_uid == view.pod_uid => Opening::Open,
        // The holder writes to another replica's volume.
        Some(_) if lease.replica.as_deref().is_some_and(|holders| holders != view.replica) => Opening::Open,
        Some(_) if view.same_kernel || view.allowed_by_target => Opening::Open,
        Some(_) => Opening::Wait("another pod holds the store: the operator decides"),
    }
}

/// What a volume has seen of its store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VolumeHistory {
    /// The last epoch that begins in its log.
    pub last_epoch: u64,
    /// The highest epoch that it has promised: to one that wanted to take the lease, or to one that held it.
    pub promise: u64,
    /// The version of the last in-sync set in its log.
    pub in_sync_version: u64,
}

impl VolumeHistory {
    /// Has it seen a later state of the store than this lease? Whoever wants to take the lease is promised the epoch above
    /// it, so a promise of a still higher one was made under a later lease.
    #[must_use]
    pub fn is_later_than(&self, lease: &LeaseRecord) -> bool {
        self.last_epoch > lease.epoch
            || self.promise > lease.epoch.saturating_add(1)
            || self.in_sync_version > lease.in_sync_version
    }
}

/// After opening: does the volume know of nothing later than the lease?
///
/// # Errors
/// [`OpeningRefused::StateRolledBack`].
pub fn known(lease: &LeaseRecord, volume: &VolumeHistory) -> Result<(), OpeningRefused> {
    if volume.is_later_than(lease) {
        return Err(OpeningRefused::StateRolledBack {
            volume_epoch: volume.last_epoch.max(volume.promise.saturating_sub(1)),
            volume_version: volume.in_sync_version,
            lease_epoch: lease.epoch,
            lease_version: lease.in_sync_version,
        });
    }
    Ok(())
}

/// Does a log that ends there have all that the lease has seen committed? Asked of whoever serves; a mirror may be behind.
///
/// # Errors
/// [`OpeningRefused::StaleCopy`].
pub fn complete(lease: &LeaseRecord, end: Position) -> Result<(), OpeningRefused> {
    if end < lease.position {
        return Err(OpeningRefused::StaleCopy { end, position: lease.position });
    }
    Ok(())
}
