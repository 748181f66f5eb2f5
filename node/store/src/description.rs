//! What a replica says of itself, to whoever decides about its store.

use mailcluster_types::{Epoch, ReplicaId, Seq};

use crate::{
    replica::{Identity, Replica},
    schema,
};

/// What a replica says of itself (control Describe).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaDescription {
    /// Whose it is.
    pub identity: Identity,
    /// Epoch of the last EpochStart record; 0 when there is none.
    pub last_epoch: Epoch,
    /// The last epoch that began with a forced takeover; 0 when there is none.
    pub last_forced: Epoch,
    /// Epoch and sequence of the log's last record.
    pub end: (Epoch, Seq),
    /// Highest epoch promised.
    pub promise: Epoch,
    /// Version of the last InSync record.
    pub in_sync_version: u64,
    /// The replicas that must have what is acknowledged, by the last record that names them, be that of an epoch or of a change
    /// of the set; none before the first epoch.
    pub in_sync: Vec<ReplicaId>,
    /// On-disk format.
    pub format: u32,
    /// The latest time that a record of its index carries, in seconds since 1970; 0 when there is none.
    pub newest: i64,
}

impl Replica {
    /// What it says of itself.
    #[must_use]
    pub fn describe(&self) -> ReplicaDescription {
        let (state, tail) = (&self.engine.state, &self.engine.tail);
        let end = tail.end(state.link);
        ReplicaDescription {
            identity: self.engine.identity.clone(),
            last_epoch: end.epoch,
            last_forced: self.last_forced(),
            end: (end.epoch, end.seq),
            promise: self.engine.superblock.promise,
            in_sync_version: tail.in_sync_version().max(state.in_sync_version),
            in_sync: self.in_sync(),
            format: self.engine.superblock.format(),
            newest: state.clock,
        }
    }

    /// Of an index that cannot be read: nobody, which proves nothing to whoever asks.
    fn in_sync(&self) -> Vec<ReplicaId> {
        let tail = self.engine.tail.in_sync().map(<[Vec<u8>]>::to_vec);
        let ids = tail.unwrap_or_else(|| schema::in_sync(&self.engine.conn).unwrap_or_default());
        ids.iter().filter_map(|id| ReplicaId::from_slice(id)).collect()
    }

    /// An index that cannot be read says so wherever something is done with it.
    fn last_forced(&self) -> Epoch {
        let applied = schema::epochs(&self.engine.conn).unwrap_or_default();
        let all = applied.into_iter().chain(self.engine.tail.epochs());
        all.filter(|mark| mark.forced).map(|mark| mark.epoch).max().unwrap_or(0)
    }
}
