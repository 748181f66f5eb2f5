//! The gates before anything that cannot be taken back.

use crate::{Observation, Policy};

/// What goes on in the cluster beyond this store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cluster {
    /// Nodes that carry stores.
    pub nodes: usize,
    /// Nodes whose stores are lost now.
    pub lost_nodes: usize,
    /// Other stores (the directory not counted) that are moving.
    pub moving: usize,
    /// How many may.
    pub max_concurrent: usize,
    /// The directory is lost too and can still be moved: it goes first.
    pub directory_first: bool,
    /// Does any store on the holder's node still renew its lease? Then the node is not powered off.
    pub node_has_renewing_store: bool,
    /// Does every other store serve where it is? Seen from the directory: as it should be made, too, so that the
    /// directory is restarted last.
    pub others_are_well: bool,
}

/// Why a step waits; each is an event, a condition and a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Gate {
    /// The MailCluster is paused.
    Paused,
    /// `failover.suspendUntil` is in the future.
    Suspended,
    /// `failover.policy` is Manual.
    Manual,
    /// The lost stores sit on more than half of the nodes and on at least 3 (F1).
    TooManyNodes,
    /// `failover.maxConcurrent` stores are moving.
    Concurrency,
    /// The directory goes first.
    DirectoryFirst,
    /// The claim is not bound, so nothing is known of the volume.
    NotBound,
    /// The PersistentVolume would be deleted with its claim.
    NotRetained,
}

impl Gate {
    /// A reason in CamelCase for conditions, events and metrics.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Paused => "Paused",
            Self::Suspended => "Suspended",
            Self::Manual => "ManualPolicy",
            Self::TooManyNodes => "TooManyNodesLost",
            Self::Concurrency => "OthersAreMoving",
            Self::DirectoryFirst => "DirectoryFirst",
            Self::NotBound => "VolumeNotBound",
            Self::NotRetained => "VolumeNotRetained",
        }
    }

    /// What a person reads.
    #[must_use]
    pub fn message(self) -> &'static str {
        match self {
            Self::Paused => "the MailCluster is paused: set spec.paused to false to go on",
            Self::Suspended => "failover.suspendUntil is in the future: clear it to go on",
            Self::Manual => "failover.policy is Manual: run `kubectl mailcluster failover STORE` to move it",
            Self::TooManyNodes => {
                "stores are lost on more than half of the nodes, and on 3 or more: look at the network first, then run `kubectl mailcluster failover STORE`"
            }
            Self::Concurrency => "failover.maxConcurrent stores are moving already",
            Self::DirectoryFirst => "the directory is moved first",
            Self::NotBound => "the PersistentVolumeClaim is not bound, or is being deleted",
            Self::NotRetained => {
                "the PersistentVolume's reclaim policy is not Retain: set persistentVolumeReclaimPolicy: Retain"
            }
        }
    }
}

/// The first gate that is shut for a move of this store. `asked`: a person or a drain asked for this very move, which
/// opens those gates that only hold back what nobody asked for.
#[must_use]
pub fn gate(o: &Observation, asked: bool) -> Option<Gate> {
    let directory_first = !o.store.directory && o.cluster.directory_first;
    gate_before_proof(o, asked).or(directory_first.then_some(Gate::DirectoryFirst))
}

/// The first gate that is shut for a mirror that is to take over. Nothing moves with it, so it waits for no other store:
/// neither for the directory nor for its turn. That much of the cluster looks dead does not hold it back either: a mirror
/// that still hears the holder refuses by itself (F1).
#[must_use]
pub fn gate_of_promotion(o: &Observation, asked: bool) -> Option<Gate> {
    gate_before_proof(o, asked).filter(|gate| !matches!(gate, Gate::Concurrency | Gate::TooManyNodes))
}

/// The gates that also hold back what only proves the holder's end. That others go first does not: the proof of one
/// node serves all stores on it.
#[must_use]
pub fn gate_before_proof(o: &Observation, asked: bool) -> Option<Gate> {
    let c = &o.cluster;
    let shut = [
        (o.store.paused, Gate::Paused),
        (!o.volume.bound, Gate::NotBound),
        (!o.volume.retain, Gate::NotRetained),
        (!asked && o.store.suspended, Gate::Suspended),
        (!asked && o.store.policy == Policy::Manual, Gate::Manual),
        (!asked && c.lost_nodes >= 3 && c.lost_nodes * 2 > c.nodes, Gate::TooManyNodes),
        (!o.store.directory && c.moving >= c.max_concurrent.max(1), Gate::Concurrency),
    ];
    shut.into_iter().find(|(shut, _)| *shut).map(|(_, gate)| gate)
}
