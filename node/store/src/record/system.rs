//! Records of the protocol itself.

use mailcluster_types::{Epoch, ReplicaId};

use crate::model::Names;

/// A process begins to append at a new epoch.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct EpochStart {
    /// The epoch.
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    /// Replica ids, 16 octets each.
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub in_sync: Vec<Vec<u8>>,
    /// The promotion was forced: UIDs are skipped.
    #[prost(bool, tag = "3")]
    pub forced: bool,
    /// Every mailbox gets another UIDVALIDITY.
    #[prost(bool, tag = "4")]
    pub anew: bool,
}

/// The set of replicas that must confirm has changed.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct InSync {
    /// Rises by one.
    #[prost(uint64, tag = "1")]
    pub version: u64,
    /// Replica ids, 16 octets each.
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub in_sync: Vec<Vec<u8>>,
}

/// Things of a line that was left behind were brought into this one, or are not to be any more.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Salvaged {
    /// Which.
    #[prost(message, repeated, tag = "1")]
    pub marks: Vec<Mark>,
}

/// Names one thing of such a line, for ever. A message by where and when it came to be there: (mailbox, UID, MODSEQ). What a
/// record made by (epoch, number within the record, sequence): a mailbox's id is above every epoch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, prost::Message)]
pub struct Mark {
    /// Mailbox or epoch.
    #[prost(uint64, tag = "1")]
    pub place: u64,
    /// UID or number.
    #[prost(uint32, tag = "2")]
    pub number: u32,
    /// MODSEQ or sequence.
    #[prost(uint64, tag = "3")]
    pub born: u64,
}

impl EpochStart {
    /// Not forced.
    pub fn new(epoch: Epoch, in_sync: &[ReplicaId]) -> Self {
        Self { epoch, in_sync: octets(in_sync), forced: false, anew: false }
    }

    /// Begun by a replica that need not have had everything.
    pub fn forced(epoch: Epoch, in_sync: &[ReplicaId], names: Names) -> Self {
        Self { forced: true, anew: names == Names::Anew, ..Self::new(epoch, in_sync) }
    }
}

impl InSync {
    /// The set of this version.
    pub fn new(version: u64, in_sync: &[ReplicaId]) -> Self {
        Self { version, in_sync: octets(in_sync) }
    }
}

fn octets(ids: &[ReplicaId]) -> Vec<Vec<u8>> {
    ids.iter().map(|id| id.to_bytes().to_vec()).collect()
}
