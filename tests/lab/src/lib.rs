//! A real Kubernetes on one machine, for tests and for people: real API servers, kubelets and containerd, several
//! nodes, and the faults a cluster meets.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use mailcluster_lab::{Lab, Options};
//! let lab = Lab::up(&Options { nodes: 2, ..Options::default() })?;
//! println!("{}", lab.kubectl(&["get", "nodes"])?);
//! lab.power_off("node1")?;
//! # Ok(()) }
//! ```
//!
//! A node is a network namespace on a bridge, with a PID and a mount namespace of its own, in which containerd,
//! kubelet and kube-proxy run. The control plane runs in the bridge's namespace. A background process plays the parts
//! of a site: BMCs, a load balancer, and the network plugin's enforcement of NetworkPolicies.
//!
//! Nothing is installed on the host, no host service is touched, and `down` leaves nothing but caches and logs.
//! Names of pods and Services aren't served: there is no DNS in the lab.

mod api;
mod apt;
mod bmc;
mod boot_id;
mod cache_key;
mod cleanup;
mod control_plane;
mod daemon;
mod debs;
mod faults;
mod guard;
mod kubebox;
mod lab;
mod load_balancer;
mod lock;
mod network;
mod network_policy;
mod nftables;
mod node;
mod node_init;
mod oci_archive;
mod pause;
mod pki;
mod power;
mod progress;
mod ranges;
mod selector;
mod site;
mod state;
mod status;
mod volumes;
mod watch;

use mailcluster_machine::{cgroup, command, paths, preflight};

pub use apt::Apt;
pub use bmc::Bmc;
pub use boot_id::run as run_container_hook;
pub use daemon::run as run_daemon;
pub use debs::tool;
pub use guard::run as run_guard;
pub use kubebox::{HELM_VERSION, KUBERNETES_VERSION};
pub use lab::{Lab, Options};
pub use lock::Lock;
pub use mailcluster_machine::{command::in_path, paths::Paths};
pub use node_init::run as run_node;
pub use oci_archive::{ArchivedImage, OciArchive, OciImage, Source};
pub use ranges::{MAX_NODES, Ranges};
pub use state::{ApiServer, Block, Cut, Node, Owner, Power, Process, State, Volume, Way};
pub use volumes::{STORAGE_CLASS, VolumeSpec};
