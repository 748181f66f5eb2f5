//! Mirrors that have made clients wait: each time it takes longer until they are let in again, or one that is a little too
//! slow would make a client wait every second or two.

use std::collections::{BTreeMap, BTreeSet};

use crate::Millis;

/// The longest time that a mirror which has everything is kept out.
const LONGEST: Millis = 60_000;
/// After so long the times before are forgotten.
const FORGIVEN: Millis = 600_000;

/// What a primary remembers of the mirrors that it has left out in its term.
#[derive(Debug, Clone, Default)]
pub struct Probation {
    /// How often in a row, and when last.
    left_out: BTreeMap<String, (u32, Millis)>,
}

impl Probation {
    /// These have made a client wait for mirrorTimeout.
    pub fn note<'a>(&mut self, out: impl IntoIterator<Item = &'a String>, now: Millis) {
        for id in out {
            let (times, last) = self.left_out.entry(id.clone()).or_insert((0, now));
            *times = if now.saturating_sub(*last) > FORGIVEN { 1 } else { times.saturating_add(1) };
            *last = now;
        }
    }

    /// Those that are not let in yet: for mirrorTimeout after the first time, for twice as long after each further one.
    #[must_use]
    pub fn kept_out(&self, timeout: Millis, now: Millis) -> BTreeSet<String> {
        let is_kept_out = |(times, last): &(u32, Millis)| {
            let factor = 1_u64.checked_shl(times.saturating_sub(1)).unwrap_or(u64::MAX);
            now.saturating_sub(*last) < timeout.saturating_mul(factor).min(LONGEST)
        };
        self.left_out.iter().filter(|(_, left)| is_kept_out(left)).map(|(id, _)| id.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_it_takes_longer_and_the_past_is_forgotten() {
        let (mut probation, id) = (Probation::default(), "b".to_owned());
        assert!(probation.kept_out(3_000, 0).is_empty());
        // When it made a client wait, and until when it is kept out then.
        for (at, until) in [
            (1_000, 4_000),
            (10_000, 16_000),
            (20_000, 32_000),
            (40_000, 64_000),
            (70_000, 118_000),
            (130_000, 190_000),
            (200_000, 260_000),
            (860_001, 863_001),
        ] {
            probation.note([&id], at);
            let set = BTreeSet::from([id.clone()]);
            assert_eq!(probation.kept_out(3_000, until - 1), set, "left out at {at}");
            assert_eq!(probation.kept_out(3_000, until), BTreeSet::new(), "left out at {at}");
        }
    }
}
