//! A count that fades.

use std::time::{Duration, Instant};

/// A count that halves in a given time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Score {
    value: f64,
    at: Instant,
}

impl Score {
    pub(crate) fn none(now: Instant) -> Self {
        Self { value: 0.0, at: now }
    }

    /// What is left of it.
    pub(crate) fn value(self, now: Instant, half_life: Duration) -> f64 {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.value * (-passed / half_life.as_secs_f64().max(1.0)).exp2()
    }

    /// Adds to what is left; never falls below none.
    pub(crate) fn add(&mut self, now: Instant, half_life: Duration, weight: f64) {
        self.value = (self.value(now, half_life) + weight).max(0.0);
        self.at = self.at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_halves_and_never_falls_below_none() {
        let (t0, half_life) = (Instant::now(), Duration::from_secs(600));
        let mut score = Score::none(t0);
        score.add(t0, half_life, 8.0);
        for (minutes, expected) in [(0, 8.0), (10, 4.0), (30, 1.0), (600, 0.0)] {
            let value = score.value(t0 + Duration::from_secs(minutes * 60), half_life);
            assert!((value - expected).abs() < 1e-6, "{minutes} minutes: {value}");
        }
        score.add(t0, half_life, -100.0);
        assert!(score.value(t0, half_life).abs() < 1e-9);
    }
}
