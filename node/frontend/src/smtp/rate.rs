//! The slowest message data that is put up with.

use std::time::Duration;

use tokio::time::Instant;

/// The time over which the rate is averaged.
const WINDOW: Duration = Duration::from_secs(60);

/// Watches one message come in.
#[derive(Debug)]
pub(super) struct RateWindow {
    ends: Instant,
    received_before: u64,
    least: u64,
}

impl RateWindow {
    /// Starts now; `octets_per_second` on average over each minute.
    pub(super) fn new(now: Instant, octets_per_second: u32) -> Self {
        Self {
            ends: now + WINDOW,
            received_before: 0,
            least: u64::from(octets_per_second) * WINDOW.as_secs(),
        }
    }

    /// When the rate is looked at next.
    pub(super) fn ends(&self) -> Instant {
        self.ends
    }

    /// `false` when a window has passed with too little in it. `received` counts from the message's start.
    pub(super) fn is_fast_enough(&mut self, now: Instant, received: u64) -> bool {
        if now < self.ends {
            return true;
        }
        let fast = received - self.received_before >= self.least;
        self.ends = now + WINDOW;
        self.received_before = received;
        fast
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trickle_is_noticed_after_a_minute() {
        let start = Instant::now();
        let mut rate = RateWindow::new(start, 500);
        assert!(rate.is_fast_enough(start + Duration::from_secs(59), 10));
        assert!(rate.is_fast_enough(start + WINDOW, 30_000));
        assert!(rate.is_fast_enough(start + WINDOW + Duration::from_secs(59), 30_001));
        assert!(!rate.is_fast_enough(start + WINDOW * 2, 59_999));
    }
}
