//! The memory that large messages may take while they come in, over all LMTP sessions of the process.

use std::{sync::LazyLock, time::Duration};

use tokio::sync::{Semaphore, SemaphorePermit};

/// Messages up to this size, in octets, are taken without asking: their number is bounded by that of connections.
pub(super) const SMALL: usize = 1 << 20;
/// All larger ones together, in KiB.
const LARGE_KIB: usize = 256 << 10;
/// How long a large message waits for others to be done.
const PATIENCE: Duration = Duration::from_secs(30);

static LARGE: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(LARGE_KIB));

/// Asks for room for one message of up to `octets`, all at once, so that two halves never wait for each other.
/// `None` when none came free in time.
pub(super) async fn room_for(octets: u64) -> Option<SemaphorePermit<'static>> {
    let kib = usize::try_from(octets / 1024 + 1).unwrap_or(LARGE_KIB).min(LARGE_KIB);
    let permits = u32::try_from(kib).unwrap_or(u32::MAX);
    tokio::time::timeout(PATIENCE, LARGE.acquire_many(permits)).await.ok()?.ok()
}
