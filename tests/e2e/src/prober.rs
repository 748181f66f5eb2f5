//! How long a user cannot be served, as a client sees it: a new connection through the Service for each try.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use mailcluster_test_clients::{ImapClient, Tls};

use crate::layout::PASSWORD;

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest a try may take.
const TRY: Duration = Duration::from_secs(1);

/// For how long a success is waited for when it is to stop.
const LAST: Duration = Duration::from_secs(60);

/// Logs a user in and selects INBOX, again and again.
#[derive(Debug)]
pub struct Prober {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    thread: JoinHandle<()>,
}

#[derive(Debug)]
struct Seen {
    last: Instant,
    longest: Duration,
    failed: u64,
}

impl Seen {
    fn tried(&mut self, served: bool, now: Instant) {
        if served {
            self.longest = self.longest.max(now.saturating_duration_since(self.last));
            self.last = now;
        } else {
            self.failed += 1;
        }
    }

    /// The longest time until now, and a new beginning.
    fn lap(&mut self, now: Instant) -> Duration {
        let longest = self.longest(now);
        (self.longest, self.last) = (Duration::ZERO, now);
        longest
    }

    /// The longest time without a success, the one that has not ended among them.
    fn longest(&self, now: Instant) -> Duration {
        self.longest.max(now.saturating_duration_since(self.last))
    }
}

impl Prober {
    /// Starts trying.
    #[must_use]
    pub fn start(port: SocketAddr, user: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(Mutex::new(Seen { last: Instant::now(), longest: Duration::ZERO, failed: 0 }));
        let (stopped, shared, user) = (stop.clone(), seen.clone(), user.to_owned());
        let thread = std::thread::spawn(move || {
            let mut stopped_at = None;
            loop {
                let login = ImapClient::login(port, Tls::Implicit, TRY, &user, PASSWORD);
                let served = login.and_then(|mut client| client.ok("SELECT INBOX")).is_ok();
                shared.lock().unwrap_or_else(PoisonError::into_inner).tried(served, Instant::now());
                if stopped_at.is_none() && stopped.load(Ordering::Relaxed) {
                    stopped_at = Some(Instant::now());
                }
                // A gap ends with a success: without that last one it would not be seen.
                if stopped_at.is_some_and(|at| served || at.elapsed() > LAST) {
                    return;
                }
                std::thread::sleep(PAUSE);
            }
        });
        Self { stop, seen, thread }
    }

    /// The longest time without a success since the last lap, or the beginning.
    #[must_use]
    pub fn lap(&self) -> Duration {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).lap(Instant::now())
    }

    /// Stops with the next success; answers the longest time without one, in seconds, and how many tries failed.
    #[must_use]
    pub fn finish(self) -> (f64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        let _panicked = self.thread.join();
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        (seen.longest(Instant::now()).as_secs_f64(), seen.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_that_has_not_ended_counts() {
        let t0 = Instant::now();
        let after = |seconds| t0 + Duration::from_secs(seconds);
        let mut seen = Seen { last: t0, longest: Duration::ZERO, failed: 0 };
        seen.tried(true, after(1));
        seen.tried(false, after(2));
        seen.tried(true, after(4));
        assert_eq!((seen.longest(after(5)).as_secs(), seen.failed), (3, 1));
        seen.tried(false, after(9));
        assert_eq!(seen.longest(after(10)).as_secs(), 6);
        assert_eq!((seen.lap(after(11)).as_secs(), seen.longest(after(12)).as_secs()), (7, 1));
    }
}
