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

impl Prober {
    /// Starts trying.
    #[must_use]
    pub fn start(port: SocketAddr, user: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(Mutex::new(Seen { last: Instant::now(), longest: Duration::ZERO, failed: 0 }));
        let (stopped, shared, user) = (stop.clone(), seen.clone(), user.to_owned());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let login = ImapClient::login(port, Tls::Implicit, TRY, &user, PASSWORD);
                let served = login.and_then(|mut client| client.ok("SELECT INBOX")).is_ok();
                let mut seen = shared.lock().unwrap_or_else(PoisonError::into_inner);
                if served {
                    seen.longest = seen.longest.max(seen.last.elapsed());
                    seen.last = Instant::now();
                } else {
                    seen.failed += 1;
                }
                drop(seen);
                std::thread::sleep(PAUSE);
            }
        });
        Self { stop, seen, thread }
    }

    /// Stops; answers the longest time between two successes, in seconds, and how many tries failed.
    #[must_use]
    pub fn finish(self) -> (f64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        let _panicked = self.thread.join();
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        (seen.longest.as_secs_f64(), seen.failed)
    }
}
