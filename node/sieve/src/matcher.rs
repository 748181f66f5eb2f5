//! Comparators and match types (RFC 5228 section 2.7, RFC 5231, RFC 4790 section 9).

use std::{borrow::Cow, cmp::Ordering};

use crate::glob::Pattern;

/// How two strings are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparator {
    /// `i;octet`
    Octet,
    /// `i;ascii-casemap`
    Casemap,
    /// `i;ascii-numeric`: no substrings.
    Numeric,
}

/// `gt`, `ge`, `lt`, `le`, `eq`, `ne`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    Gt,
    Ge,
    Lt,
    Le,
    Eq,
    Ne,
}

/// How a value and a key have to agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MatchType {
    Is,
    Contains,
    Matches,
    Value(Relation),
    Count(Relation),
}

/// A match type with its comparator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Matcher {
    pub comparator: Comparator,
    pub kind: MatchType,
}

/// What is left of a run's work; comparing takes from it.
#[derive(Debug)]
pub struct Budget(u64);

/// The work of a run is used up.
#[derive(Debug, PartialEq, Eq)]
pub struct Exhausted;

impl Budget {
    pub fn new(work: u64) -> Self {
        Self(work)
    }

    pub fn left(&self) -> u64 {
        self.0
    }

    pub fn spend(&mut self, work: u64) -> Result<(), Exhausted> {
        self.0 = self.0.checked_sub(work).ok_or(Exhausted)?;
        Ok(())
    }
}

impl Relation {
    pub fn from_name(name: &[u8]) -> Option<Self> {
        let table = [
            ("gt", Self::Gt),
            ("ge", Self::Ge),
            ("lt", Self::Lt),
            ("le", Self::Le),
            ("eq", Self::Eq),
            ("ne", Self::Ne),
        ];
        table
            .iter()
            .find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(name))
            .map(|(_, relation)| *relation)
    }

    /// Whether values that compare so are in this relation, the message's on the left.
    pub fn holds(self, ordering: Ordering) -> bool {
        match self {
            Self::Gt => ordering.is_gt(),
            Self::Ge => ordering.is_ge(),
            Self::Lt => ordering.is_lt(),
            Self::Le => ordering.is_le(),
            Self::Eq => ordering.is_eq(),
            Self::Ne => ordering.is_ne(),
        }
    }
}

impl Comparator {
    pub fn compare(self, a: &[u8], b: &[u8]) -> Ordering {
        match self {
            Self::Octet => a.cmp(b),
            Self::Casemap => a.iter().map(u8::to_ascii_uppercase).cmp(b.iter().map(u8::to_ascii_uppercase)),
            Self::Numeric => number(a).cmp(&number(b)),
        }
    }

    /// The string whose octets are those of all strings that this comparator takes for equal.
    pub fn fold(self, text: &[u8]) -> Cow<'_, [u8]> {
        match self {
            Self::Casemap if text.iter().any(u8::is_ascii_lowercase) => text.to_ascii_uppercase().into(),
            _ => text.into(),
        }
    }
}

/// A number as something that sorts like it: the length and digits without leading zeros. What does not begin with a
/// digit is infinite, and equal to all that is (RFC 4790 section 9.1).
fn number(text: &[u8]) -> (usize, &[u8]) {
    let digits = text.iter().take_while(|octet| octet.is_ascii_digit()).count();
    if digits == 0 {
        return (usize::MAX, b"");
    }
    let zeros = text[..digits].iter().take_while(|octet| **octet == b'0').count();
    (digits - zeros, &text[zeros..digits])
}

/// What the wildcards of a key stood for: the whole value first.
pub type Captures = Vec<Vec<u8>>;

impl Matcher {
    /// Whether a value matches a key. `:count` compares numbers that its test makes, with [`Matcher::count`].
    pub fn matches(self, value: &[u8], key: &[u8], budget: &mut Budget) -> Result<bool, Exhausted> {
        budget.spend(octets(value, key))?;
        Ok(match self.kind {
            MatchType::Is => self.comparator.compare(value, key).is_eq(),
            MatchType::Contains => {
                let (value, key) = (self.comparator.fold(value), self.comparator.fold(key));
                memchr::memmem::find(&value, &key).is_some()
            }
            MatchType::Matches => self.captures(value, key, 0, budget)?.is_some(),
            MatchType::Value(relation) | MatchType::Count(relation) => {
                relation.holds(self.comparator.compare(value, key))
            }
        })
    }

    /// For `:matches`: the parts of the value that the first `most` wildcards stand for, after the whole value.
    pub fn captures(
        self,
        value: &[u8],
        key: &[u8],
        most: usize,
        budget: &mut Budget,
    ) -> Result<Option<Captures>, Exhausted> {
        budget.spend(octets(value, key))?;
        let folded = self.comparator.fold(value);
        let pattern = Pattern::new(&self.comparator.fold(key));
        let Some(ranges) = pattern.find(&folded, budget)? else { return Ok(None) };
        let parts = ranges.into_iter().take(most).map(|range| value.get(range).unwrap_or_default().to_vec());
        let whole = if most == 0 { Vec::new() } else { value.to_vec() };
        Ok(Some(std::iter::once(whole).chain(parts).collect()))
    }
}

fn octets(value: &[u8], key: &[u8]) -> u64 {
    u64::try_from(value.len().saturating_add(key.len())).unwrap_or(u64::MAX)
}
