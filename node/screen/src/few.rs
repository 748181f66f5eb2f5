//! The last few different things, with when each was seen.

use std::time::{Duration, Instant};

/// At most `MOST` different items; the one seen longest ago makes room.
#[derive(Debug, Clone)]
pub(crate) struct Few<T, const MOST: usize>(Vec<(T, Instant)>);

impl<T: PartialEq + Copy, const MOST: usize> Few<T, MOST> {
    pub(crate) fn new() -> Self {
        Self(Vec::new())
    }

    /// It was seen now. `true`: it was not among them.
    pub(crate) fn see(&mut self, item: T, now: Instant) -> bool {
        if let Some((_, at)) = self.0.iter_mut().find(|(held, _)| *held == item) {
            *at = now;
            return false;
        }
        if self.0.len() >= MOST {
            let oldest = self.0.iter().enumerate().min_by_key(|(_, (_, at))| *at).map(|(at, _)| at);
            oldest.map(|at| self.0.swap_remove(at));
        }
        self.0.push((item, now));
        true
    }

    /// Was it seen within this time?
    pub(crate) fn has(&self, item: T, now: Instant, within: Duration) -> bool {
        self.recent(now, within).any(|held| held == item)
    }

    /// Those seen within this time.
    pub(crate) fn recent(&self, now: Instant, within: Duration) -> impl Iterator<Item = T> {
        self.0
            .iter()
            .filter(move |(_, at)| now.saturating_duration_since(*at) <= within)
            .map(|(item, _)| *item)
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_few_are_kept() {
        let (t0, second) = (Instant::now(), Duration::from_secs(1));
        let mut few = Few::<u32, 3>::new();
        assert_eq!([1, 2, 3, 1].map(|item| few.see(item, t0 + second * item)), [true, true, true, false]);
        assert!(few.see(4, t0 + second * 9), "1 was seen longest ago");
        assert!(few.has(2, t0, second * 9) && few.has(3, t0, second * 9) && !few.has(1, t0, second * 9));
        assert_eq!(few.recent(t0 + second * 9, second * 6).count(), 2);
        few.clear();
        assert_eq!(few.recent(t0, second).count(), 0);
    }
}
