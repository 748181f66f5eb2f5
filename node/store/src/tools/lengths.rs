//! How long the files of a log are, to tell how far a walk through them has come.

use std::{collections::BTreeMap, fs, io, path::Path};

use crate::segment;

/// Some files of a log, in the order in which they are walked.
#[derive(Debug, Default)]
pub struct Lengths {
    /// Octets before each file, by its number.
    before: BTreeMap<u64, u64>,
    /// Octets of all.
    pub total: u64,
}

impl Lengths {
    /// Of these segments and packs.
    pub fn of(log: &Path, numbers: &[u64]) -> io::Result<Self> {
        let mut lengths = Self::default();
        for number in numbers {
            let length = fs::metadata(segment::path(log, *number))?.len();
            lengths.push(*number, length);
        }
        Ok(lengths)
    }

    fn push(&mut self, number: u64, length: u64) {
        self.before.insert(number, self.total);
        self.total += length;
    }

    /// How much is done where the walk has come to this place.
    pub fn up_to(&self, number: u64, offset: u64) -> u64 {
        let before = self.before.get(&number).copied().unwrap_or_default();
        before.saturating_add(offset).min(self.total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_as_far_as_all_that_lies_before_it() {
        let mut lengths = Lengths::default();
        for (number, length) in [(1, 100), (7, 50), (segment::PACK | 1, 30)] {
            lengths.push(number, length);
        }
        assert_eq!(lengths.total, 180);
        for (number, offset, expected) in [
            (1, 0, 0),
            (1, 100, 100),
            (7, 20, 120),
            (segment::PACK | 1, 0, 150),
            // Grown since, or a file that was not there.
            (segment::PACK | 1, 31, 180),
            (9, 20, 20),
        ] {
            assert_eq!(lengths.up_to(number, offset), expected, "{number} at {offset}");
        }
    }
}
