//! The memory that large messages may take while they come in or go out, over all IMAP sessions of the process.

use std::{sync::LazyLock, time::Duration};

use tokio::sync::{Semaphore, SemaphorePermit};

use super::reply::Fail;

/// Messages up to this size, in octets, are taken without asking: their number is bounded by that of connections.
pub(super) const SMALL: u64 = 1 << 20;
/// All larger ones that come in, and all that go out, in KiB each.
const LARGE_KIB: u32 = 256 << 10;
/// How long a large message waits for others to be done.
const PATIENCE: Duration = Duration::from_secs(30);

static COMING: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(LARGE_KIB as usize));
static GOING: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(LARGE_KIB as usize));

/// Room for messages, given back when dropped.
pub(super) type Room = Option<SemaphorePermit<'static>>;

/// Asks for room for a message that comes in.
pub(super) async fn coming(octets: u64) -> Result<Room, Fail> {
    room(&COMING, octets).await
}

/// Asks for room for messages that go out.
pub(super) async fn going(octets: u64) -> Result<Room, Fail> {
    room(&GOING, octets).await
}

/// All at once, so that two halves never wait for each other.
async fn room(of: &'static Semaphore, octets: u64) -> Result<Room, Fail> {
    if octets <= SMALL {
        return Ok(None);
    }
    let kib = u32::try_from(octets / 1024 + 1).unwrap_or(LARGE_KIB).min(LARGE_KIB);
    match tokio::time::timeout(PATIENCE, of.acquire_many(kib)).await {
        Ok(Ok(permit)) => Ok(Some(permit)),
        _ => Err(Fail::no("LIMIT", "too many large messages are on their way; try again")),
    }
}
