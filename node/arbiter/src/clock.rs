//! The one clock of leases: CLOCK_BOOTTIME, which goes on while the machine is suspended (schedule E7).

pub use mailcluster_store::machine::{boot_id, boottime};
