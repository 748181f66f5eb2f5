//! The one clock of leases: CLOCK_BOOTTIME, which goes on while the machine is suspended (schedule E7).

use mailcluster_failover::Millis;
use rustix::time::{ClockId, clock_gettime};

/// Milliseconds since the machine started, suspended time included.
#[must_use]
pub fn boottime() -> Millis {
    let now = clock_gettime(ClockId::Boottime);
    let (seconds, nanos) = (u64::try_from(now.tv_sec).unwrap_or(0), u64::try_from(now.tv_nsec).unwrap_or(0));
    seconds * 1000 + nanos / 1_000_000
}

/// This boot's id, as the kernel tells it; empty where it cannot be read.
#[must_use]
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}
