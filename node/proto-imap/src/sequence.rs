//! Sequence sets: message numbers or UIDs (RFC 3501 section 9).

use std::ops::RangeInclusive;

use crate::{cursor::Cursor, error::SyntaxError};

/// Most ranges in one set.
const MAX_RANGES: usize = 10_000;

/// One end of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// A number, never 0.
    Number(u32),
    /// `*`: the largest in use.
    Last,
}

/// A set of message numbers or UIDs as sent: unordered, possibly overlapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SequenceSet(Vec<(Bound, Bound)>);

impl SequenceSet {
    /// ```text
    /// sequence-set = (seq-number / seq-range) *("," sequence-set)
    /// seq-range    = seq-number ":" seq-number
    /// seq-number   = nz-number / "*"
    /// ```
    pub(crate) fn parse(cursor: &mut Cursor<'_>) -> Result<Self, SyntaxError> {
        let mut ranges = Vec::new();
        loop {
            let from = bound(cursor)?;
            let to = if cursor.eat(b':') { bound(cursor)? } else { from };
            if ranges.len() == MAX_RANGES {
                return Err(SyntaxError::too_big(format!("a set has at most {MAX_RANGES} ranges")));
            }
            ranges.push((from, to));
            if !cursor.eat(b',') {
                return Ok(Self(ranges));
            }
        }
    }

    /// The ranges with `*` taken as `last`, ascending and merged.
    #[must_use]
    pub fn resolve(&self, last: u32) -> Vec<RangeInclusive<u32>> {
        let number = |bound: Bound| match bound {
            Bound::Number(number) => number,
            Bound::Last => last,
        };
        let mut ranges: Vec<(u32, u32)> =
            self.0.iter().map(|&(a, b)| (number(a), number(b))).map(|(a, b)| (a.min(b), a.max(b))).collect();
        ranges.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::new();
        for (from, to) in ranges {
            match merged.last_mut() {
                Some(last) if from <= last.1.saturating_add(1) => last.1 = last.1.max(to),
                _ => merged.push((from, to)),
            }
        }
        merged.into_iter().map(|(from, to)| from..=to).collect()
    }

    /// The largest number named, `*` left out.
    #[must_use]
    pub fn largest_number(&self) -> u32 {
        self.0
            .iter()
            .flat_map(|&(a, b)| [a, b])
            .filter_map(|bound| if let Bound::Number(number) = bound { Some(number) } else { None })
            .max()
            .unwrap_or(0)
    }

    /// Is `*` named?
    #[must_use]
    pub fn names_last(&self) -> bool {
        self.0.iter().any(|&(a, b)| a == Bound::Last || b == Bound::Last)
    }
}

fn bound(cursor: &mut Cursor<'_>) -> Result<Bound, SyntaxError> {
    if cursor.eat(b'*') {
        Ok(Bound::Last)
    } else {
        cursor.nz_number("a message number or *").map(Bound::Number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_sorted_and_merged() {
        let set = |text: &str| SequenceSet::parse(&mut Cursor::new(text.as_bytes())).unwrap();
        assert_eq!(set("5,1:3,2:4,9").resolve(9), [1..=5, 9..=9]);
        assert_eq!(set("7:*").resolve(3), [3..=7]);
        assert_eq!(set("*:2,4294967295").resolve(1), [1..=2, 4294967295..=4294967295]);
        assert!(SequenceSet::parse(&mut Cursor::new(b"0")).is_err());
        assert!(SequenceSet::parse(&mut Cursor::new(b"4294967296")).is_err());
        assert!(SequenceSet::parse(&mut Cursor::new(b"1,")).is_err());
    }
}
