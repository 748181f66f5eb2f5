//! A replica's life in the mail node: who may hold the store (an [`Arbiter`]: the store's Lease, or a locked file in a
//! standalone node), the [`LeaseGate`] that the store asks before every acknowledgement, and the [`lifecycle`] from an
//! opening volume to a serving store and back. Decisions are those of `mailcluster-failover`; here are the effects.

mod arbiter;
pub mod clock;
pub mod control;
mod file;
mod gate;
mod kube;
pub mod lifecycle;
mod routes;
mod status;

pub use arbiter::{Advice, Arbiter, ArbiterError, Current, Route, SwapError, TargetAdvice};
pub use file::FileArbiter;
pub use gate::LeaseGate;
pub use kube::{KubeArbiter, KubeArbiterConfig};
pub use routes::{RouteEvent, publish_mirror, watch_routes};
pub use status::{ReplicaState, ReplicaStatus, StatusHandle};
