//! `:matches`: `*` for any octets, `?` for one, each as short as can be (RFC 5228 section 2.7.1, RFC 5229 section 3.2).
//!
//! No backtracking: the parts between stars are looked for one after the other, each where it comes first, and the
//! last at the end. Where a part begins earliest, the rest has most room, so this finds a match if there is one, and
//! it is the one whose wildcards are shortest from left to right.

use std::ops::Range;

use crate::matcher::{Budget, Exhausted};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Octet(u8),
    Any,
}

/// A key of `:matches`: the parts between its stars.
#[derive(Debug)]
pub struct Pattern(Vec<Vec<Unit>>);

impl Pattern {
    /// A backslash takes the meaning of the character behind it.
    pub fn new(key: &[u8]) -> Self {
        let mut parts = Vec::new();
        let mut part = Vec::new();
        let mut octets = key.iter().copied();
        while let Some(octet) = octets.next() {
            match octet {
                b'*' => parts.push(std::mem::take(&mut part)),
                b'?' => part.push(Unit::Any),
                b'\\' => part.push(Unit::Octet(octets.next().unwrap_or(b'\\'))),
                octet => part.push(Unit::Octet(octet)),
            }
        }
        parts.push(part);
        Self(parts)
    }

    /// Where each wildcard's part of the value is, if the whole value matches.
    pub fn find(&self, value: &[u8], budget: &mut Budget) -> Result<Option<Vec<Range<usize>>>, Exhausted> {
        let mut wildcards = Vec::new();
        let mut from = 0;
        let last = self.0.len() - 1;
        for (index, part) in self.0.iter().enumerate() {
            let start = match index {
                0 if last == 0 && part.len() != value.len() => None,
                0 => fits(part, value, 0).then_some(0),
                index if index == last => {
                    let start = value.len().checked_sub(part.len()).filter(|start| *start >= from);
                    start.filter(|start| fits(part, value, *start))
                }
                _ => first(part, value, from, budget)?,
            };
            let Some(start) = start else { return Ok(None) };
            if index > 0 {
                wildcards.push(from..start);
            }
            let any = part.iter().enumerate().filter(|(_, unit)| **unit == Unit::Any);
            wildcards.extend(any.map(|(offset, _)| start + offset..start + offset + 1));
            from = start + part.len();
        }
        Ok(Some(wildcards))
    }
}

fn fits(part: &[Unit], value: &[u8], start: usize) -> bool {
    let Some(value) = value.get(start..start + part.len()) else { return false };
    part.iter().zip(value).all(|(unit, octet)| *unit == Unit::Any || *unit == Unit::Octet(*octet))
}

/// Where a part fits first. Without `?` that takes time in proportion to the value; with it, each place may cost the
/// part's length, and is paid for before it is looked at.
fn first(part: &[Unit], value: &[u8], from: usize, budget: &mut Budget) -> Result<Option<usize>, Exhausted> {
    let literal: Option<Vec<u8>> = part
        .iter()
        .map(|unit| match unit {
            Unit::Octet(octet) => Some(*octet),
            Unit::Any => None,
        })
        .collect();
    let rest = value.get(from..).unwrap_or_default();
    if let Some(literal) = literal {
        let found = memchr::memmem::find(rest, &literal);
        budget.spend(u64::try_from(found.unwrap_or(rest.len())).unwrap_or(u64::MAX))?;
        return Ok(found.map(|offset| from + offset));
    }
    let cost = u64::try_from(part.len()).unwrap_or(u64::MAX);
    for start in from..=value.len().saturating_sub(part.len()) {
        budget.spend(cost)?;
        if fits(part, value, start) {
            return Ok(Some(start));
        }
    }
    Ok(None)
}
