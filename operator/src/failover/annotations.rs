//! Annotations by which people talk to failover, and by which failover remembers. docs/failover.md documents them.

/// On a MailStore: move it, to the node named in the value; `any`: to whichever can take it. Removed when done.
pub const FAILOVER: &str = mailcluster_api::mailstore::FAILOVER;
/// On a MailStore: why the last such request was refused; `kubectl mailcluster failover` shows it.
pub const REFUSED: &str = mailcluster_api::mailstore::FAILOVER_REFUSED;
/// On a MailStore: which such request the operator made itself in a window for rebalancing; see [`super::rebalance`].
pub const REBALANCED: &str = mailcluster_api::mailstore::REBALANCED;
/// The value of [`FAILOVER`] that names no node.
pub const ANY: &str = "any";
/// On a Node: the boot id (`status.nodeInfo.bootID`) that a person has seen end; `kubectl mailcluster fence confirm NODE`
/// writes it. On a MailStore: the UID of the holder's pod, for a node whose object is gone.
pub const FENCE_CONFIRMED: &str = "mailcluster.io/fence-confirmed";
/// On a MailStore: make its Lease anew from what the volumes say, even where that is older or newer, and without waiting for
/// the copies that are named; see [`mailcluster_api::restore`]. Removed when done.
pub const RESTORE_LEASE: &str = mailcluster_api::restore::ANNOTATION;
/// On a MailStore: the id of the copy whose place a new one is to take. Removed when done.
pub const REPLACE: &str = mailcluster_api::mailstore::REPLACE_REPLICA;
/// On a MailStore: a copy that lacks something is to take it; see [`mailcluster_api::force`]. Removed when done.
pub const FORCE: &str = mailcluster_api::force::ANNOTATION;
/// On a MailStore: adopt its disk on another node; see [`mailcluster_api::adoption`]. Removed when done.
pub const ADOPT: &str = mailcluster_api::adoption::ANNOTATION;
/// On a MailStore: the PersistentVolume that is being made anew for such a request, as JSON.
pub const ADOPTING: &str = "mailcluster.io/adopting";
/// On a PersistentVolume that was made anew: the UID of the one before it.
pub const ADOPTED_FROM: &str = "mailcluster.io/adopted-from";
/// On a MailStore: the UID of the pod whose graceful deletion failover asked for.
pub const DELETING: &str = "mailcluster.io/deleting-pod";
/// On a MailStore: the UID of the pod whose eviction its budget lets through, and since when; or that it was shut again.
pub const EVICTION: &str = "mailcluster.io/evictable-pod";
/// On a MailStore: the UID of the pod that `status.nodeIdentity` speaks of.
pub const HELD_BY: &str = "mailcluster.io/held-by";
/// On a fence Job: the node and the boot it may end.
pub const FENCE_NODE: &str = "mailcluster.io/fence-node";
/// On a fence Job: the boot it may end.
pub const FENCE_BOOT: &str = "mailcluster.io/fence-boot-id";
