//! The decisions of failover, and nothing else: what a lease record says, when a change may be acknowledged, when a
//! process may take a store, what proves that its holder is dead, and what the operator does next.
//!
//! Nothing here does I/O, reads a clock or awaits: times come in as milliseconds of the caller's CLOCK_BOOTTIME,
//! objects come in as plain values. The operator, the mail node and the model share this crate, so that there is one
//! text of each rule. The names of schedules (A1, E3, ...) in tests and comments are those of docs/failover.md.

mod acknowledge;
mod adopt;
mod candidate;
mod detection;
mod eviction;
mod evidence;
mod forced;
mod gates;
pub mod mirror;
mod mirrored;
mod opening;
mod outdated;
mod place;
pub mod rebalance;
mod record;
mod restore;
mod step;
mod view;

pub use acknowledge::{AckState, Role, may_acknowledge, may_read, may_write};
pub use adopt::{Adoption, AdoptionState, AdoptionStep};
pub use candidate::{
    Beginning, Demotion, Refused, Restart, RestartView, Takeover, TakeoverView, Taker, beginning, demote,
    inherits, restart, take, takeover,
};
pub use detection::{Detection, LeaseWatch, Reach, Undetected, detect};
pub use eviction::Eviction;
pub use evidence::{Evidence, EvidenceKind, Found, enough, live_evidence, suffices};
pub use forced::ForceRequest;
pub use gates::{Cluster, Gate, gate, gate_before_proof, gate_of_promotion};
pub use opening::{Opening, OpeningRefused, OpeningView, Volume, VolumeHistory, complete, known, opening};
pub use place::unplaced_on;
pub use record::{
    Durability, FencingMinimum, Holder, InForce, LeaseRecord, Poisoned, Position, RecordError, Starts,
    in_sync, keys,
};
pub use restore::{Shown, Witness, restored};
pub use step::{Blocked, Decision, Phase, Step, next_step};
pub use view::{
    FenceJob, LeaseView, NodeView, Observation, Placement, PodState, PodView, Policy, ReplicaView, Request,
    StoreView, Target, TargetKind, Unplaced, VolumeAccount, VolumeView,
};

/// Milliseconds of the caller's CLOCK_BOOTTIME (which goes on in suspend), or a span of them.
pub type Millis = u64;
