//! The machine under a process: its clocks, its boot, and the threads on which blocking work is done. A simulation puts
//! another one under all that runs on its thread.

use std::{
    fs, io,
    time::{SystemTime, UNIX_EPOCH},
};

use rustix::time::{ClockId, clock_gettime};
use tokio::task::JoinError;

/// Milliseconds since the machine started, suspended time included (CLOCK_BOOTTIME).
#[must_use]
pub fn boottime() -> u64 {
    #[cfg(any(test, feature = "testing"))]
    if let Some(machine) = simulated::machine() {
        return machine.boottime();
    }
    let now = clock_gettime(ClockId::Boottime);
    let (seconds, nanos) = (u64::try_from(now.tv_sec).unwrap_or(0), u64::try_from(now.tv_nsec).unwrap_or(0));
    seconds * 1000 + nanos / 1_000_000
}

/// This boot's id, as the kernel tells it; empty where it cannot be read.
#[must_use]
pub fn boot_id() -> String {
    #[cfg(any(test, feature = "testing"))]
    if let Some(machine) = simulated::machine() {
        return machine.boot_id();
    }
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

/// Seconds since 1970.
pub(crate) fn unix_time() -> i64 {
    #[cfg(any(test, feature = "testing"))]
    if let Some(machine) = simulated::machine() {
        return machine.unix_time();
    }
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX))
}

/// A number below 256, for pauses of a random length: no good randomness is needed, the clock's low bits do.
#[must_use]
pub fn jitter() -> u32 {
    #[cfg(any(test, feature = "testing"))]
    if let Some(machine) = simulated::machine() {
        return machine.jitter();
    }
    let nanos = clock_gettime(ClockId::Monotonic).tv_nsec;
    u32::try_from((nanos / 1000) & 255).unwrap_or(128)
}

/// Does what blocks on a thread for that. It is done to its end, also when nobody waits for it any more.
///
/// # Errors
/// When it panicked, or the process ends.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    #[cfg(any(test, feature = "testing"))]
    if is_one_thread() {
        let done = work();
        catch_up().await;
        return Ok(done);
    }
    tokio::task::spawn_blocking(work).await
}

/// Has `work`, which blocks at times, a thread of its own until it ends.
pub(crate) fn thread(name: &str, work: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
    #[cfg(any(test, feature = "testing"))]
    if simulated::machine().is_some() {
        drop(tokio::spawn(work));
        return Ok(());
    }
    // It has neither timers nor sockets: this parks the thread, and nothing else.
    let waits = tokio::runtime::Builder::new_current_thread().build()?;
    std::thread::Builder::new().name(name.into()).spawn(move || waits.block_on(work)).map(drop)
}

/// What blocked has taken longer than its thread shows.
pub(crate) async fn catch_up() {
    #[cfg(any(test, feature = "testing"))]
    if let Some(owed) = simulated::owed() {
        tokio::time::sleep(owed).await;
    }
}

/// Is all of this one thread?
#[must_use]
pub fn is_one_thread() -> bool {
    #[cfg(any(test, feature = "testing"))]
    if simulated::machine().is_some() {
        return true;
    }
    false
}

/// For simulations.
#[cfg(any(test, feature = "testing"))]
pub(crate) mod simulated {
    use std::{cell::RefCell, rc::Rc, time::Duration};

    /// A machine that is not there.
    pub trait Machine {
        /// Milliseconds since it started.
        fn boottime(&self) -> u64;
        /// Its boot's id.
        fn boot_id(&self) -> String;
        /// Seconds since 1970, by its clock.
        fn unix_time(&self) -> i64;
        /// A number below 256.
        fn jitter(&self) -> u32;
        /// What was just done on this thread has taken so long. Asked once for each piece of work.
        fn owed(&self) -> Duration;
    }

    thread_local! {
        static MACHINE: RefCell<Option<Rc<dyn Machine>>> = const { RefCell::new(None) };
    }

    pub(super) fn machine() -> Option<Rc<dyn Machine>> {
        MACHINE.with_borrow(Clone::clone)
    }

    /// For how long work that was just done still goes on, if it does.
    pub(super) fn owed() -> Option<Duration> {
        machine().map(|machine| machine.owed()).filter(|owed| !owed.is_zero())
    }

    /// From here on this thread is on this machine, in place of the real one: what blocks is done where it is called, a
    /// committer is a task, and there is no other thread.
    pub fn on(machine: Option<Rc<dyn Machine>>) {
        MACHINE.set(machine);
    }
}
