//! The resources of a mail cluster in the Kubernetes API, and what operator, nodes and admin command must agree on:
//! names of objects, ports, labels, conditions and the node's configuration file.
//!
//! Nothing in here talks to anything. The definitions in `crds/` are generated from these types.

pub mod adoption;
pub mod condition;
pub mod config;
pub mod crd;
pub mod force;
pub mod labels;
pub mod mailcluster;
pub mod mailstore;
pub mod names;
pub mod ports;
pub mod reference;
pub mod restore;
pub mod retry;
pub mod roles;

pub use mailcluster::{MailCluster, MailClusterSpec, MailClusterStatus};
pub use mailstore::{MailStore, MailStoreSpec, MailStoreStatus};

/// The API group of every resource.
pub const GROUP: &str = "mailcluster.io";
/// The one version there is.
pub const VERSION: &str = "v1alpha1";
/// Keeps a MailCluster, MailStore or Lease until the pods that use it are gone.
pub const FINALIZER: &str = "mailcluster.io/cleanup";
/// The field manager of everything the operator applies, but for what failover writes.
pub const OPERATOR_FIELD_MANAGER: &str = "mailcluster-operator";
/// The field manager of what failover writes: `MailStore.spec.pinnedNode` and its part of `MailStore.status`.
pub const FAILOVER_FIELD_MANAGER: &str = "mailcluster-failover";
/// The field manager with which a node writes `MailStore.status.serving`.
pub const NODE_FIELD_MANAGER: &str = "mailcluster-node";
/// The readiness gate of frontends, written by the operator's leader.
pub const FRONTEND_GATE: &str = "mailcluster.io/frontend-reachable";
