//! Telling what happens, with the seconds since the beginning, and after the cut with those since the cut.

use std::{
    sync::{Arc, OnceLock},
    time::Instant,
};

/// The clock of a demo.
#[derive(Clone)]
pub struct Story(Arc<Clock>);

struct Clock {
    start: Instant,
    cut: OnceLock<Instant>,
}

impl Story {
    /// Starts the clock.
    pub fn begin() -> Self {
        Self(Arc::new(Clock { start: Instant::now(), cut: OnceLock::new() }))
    }

    /// The power goes off now: from here on, seconds are told since this moment. Answers it.
    pub fn cut(&self) -> Instant {
        *self.0.cut.get_or_init(Instant::now)
    }

    /// One line.
    pub fn say(&self, what: &str) {
        println!("{} {what}", self.stamp(Instant::now()));
    }

    fn stamp(&self, now: Instant) -> String {
        match self.0.cut.get() {
            None => format!("[{:6.1} s]", now.duration_since(self.0.start).as_secs_f64()),
            Some(cut) => format!("[{:+6.1} s]", now.duration_since(*cut).as_secs_f64()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn seconds_are_told_since_the_cut() {
        let story = Story::begin();
        assert_eq!(story.stamp(story.0.start + Duration::from_millis(1500)), "[   1.5 s]");
        let cut = story.cut();
        assert_eq!(story.stamp(cut + Duration::from_millis(12_300)), "[ +12.3 s]");
        assert_eq!(story.cut(), cut, "there is one cut");
    }
}
