//! How soon a watch is tried again. Who decides or routes by what a watch shows is blind in between: kube's own back-off grows
//! to 30 s while the API server is away, and a node that was lost just after it came back was noticed that much later.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use kube::runtime::utils::Backoff;

/// The first pause.
const FIRST: Duration = Duration::from_millis(500);
/// No pause is longer, but for a random part of up to half.
const LONGEST: Duration = Duration::from_secs(2);

/// The pauses between tries of a watch: from half a second to two, and up to half more, so that not all come at once.
#[derive(Debug)]
pub struct Retry(Duration);

impl Default for Retry {
    fn default() -> Self {
        Self(FIRST)
    }
}

impl Iterator for Retry {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let pause = self.0;
        self.0 = (pause * 2).min(LONGEST);
        let thousandth = u32::try_from(RandomState::new().hash_one(()) % 500).unwrap_or_default();
        Some(pause + pause * thousandth / 1000)
    }
}

impl Backoff for Retry {
    fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_fails_is_tried_again_within_three_seconds() {
        let mut retry = Retry::default();
        let pauses: Vec<Duration> = retry.by_ref().take(50).collect();
        for (number, pause) in pauses.iter().enumerate() {
            let least = if number < 2 { FIRST * (1 << number) } else { LONGEST };
            assert!(*pause >= least && *pause <= least * 3 / 2, "{number}: {pause:?}");
        }
        assert!(pauses[2..].iter().any(|pause| *pause != pauses[2]), "they differ: {pauses:?}");
        retry.reset();
        assert!(retry.next() < Some(Duration::from_secs(1)));
    }
}
