//! A mail cluster on the lab, or on a Kubernetes of somebody's, as its users see it: through helm, kubectl, the admin command and the Service's
//! address. The demo and the end-to-end tests drive it.

pub mod audit;
mod beside;
mod carry;
mod drill;
pub mod faults;
mod knocker;
mod kubernetes;
mod layout;
mod own;
mod picture;
mod pod_log;
mod prober;
mod promise;
mod site;
mod stores;
mod teller;

pub use beside::{Sizes, mirrored_disks, mirrored_manifest};
pub use carry::Carried;
pub use drill::{DOMAIN, Loss, Placed, Reader, Say, read, reads};
pub use knocker::{Knocked, Knocker};
pub use kubernetes::Kubernetes;
pub use layout::{PASSWORD, Plan, PullPolicy};
pub use own::OwnCluster;
pub use picture::{event_time, picture};
pub use pod_log::Line;
pub use prober::Prober;
pub use promise::BROKEN;
pub use site::{NAMESPACE, SYSTEM, Site, wait_for};
pub use stores::StoreView;
pub use teller::{Tell, Teller};
