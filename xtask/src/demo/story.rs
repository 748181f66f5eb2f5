//! Telling what happens, with the seconds since the beginning.

use std::time::Instant;

/// The clock of a demo.
pub struct Story {
    start: Instant,
}

impl Story {
    /// Starts the clock.
    pub fn begin() -> Self {
        Self { start: Instant::now() }
    }

    /// One line.
    pub fn say(&self, what: &str) {
        println!("[{:6.1} s] {what}", self.start.elapsed().as_secs_f64());
    }
}
