//! Values against keys: every value with every key, until one pair matches (RFC 5228 section 2.7).

use super::{Result, Run};
use crate::{
    Limits,
    matcher::{MatchType, Matcher, Relation},
    text::{CAPTURES, Text},
};

/// What a match with wildcards leaves behind.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Leaves {
    /// Match variables with parts of the message.
    Mail,
    /// Match variables with what the script or the site knew.
    Other,
    /// No match variables: `body` (RFC 5173 section 6).
    Nothing,
}

impl Run<'_> {
    /// Whether a value matches one of the keys.
    pub fn matches_any(
        &mut self,
        matcher: Matcher,
        value: &[u8],
        keys: &[Text],
        leaves: Leaves,
    ) -> Result<bool> {
        for key in keys {
            let key = self.bounded(key)?;
            self.budget.spend(Limits::STEP)?;
            if matcher.kind != MatchType::Matches || leaves == Leaves::Nothing {
                if matcher.matches(value, &key, &mut self.budget)? {
                    return Ok(true);
                }
                continue;
            }
            let Some(mut captures) =
                matcher.captures(value, &key, usize::from(CAPTURES), &mut self.budget)?
            else {
                continue;
            };
            for capture in &mut captures {
                super::cut(capture, self.script.limits.variable);
                capture.shrink_to_fit();
            }
            self.captures = captures;
            self.captured_mail = leaves == Leaves::Mail;
            return Ok(true);
        }
        Ok(false)
    }

    /// Whether a count is in the relation of `:count` with one of the keys.
    pub fn counts(
        &mut self,
        matcher: Matcher,
        relation: Relation,
        count: usize,
        keys: &[Text],
    ) -> Result<bool> {
        let count = count.to_string();
        for key in keys {
            let key = self.bounded(key)?;
            self.budget.spend(Limits::STEP)?;
            if relation.holds(matcher.comparator.compare(count.as_bytes(), &key)) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
