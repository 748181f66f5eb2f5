//! Records of the protocol itself.

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
