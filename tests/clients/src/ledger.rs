//! Who was promised what: every attempt to send is written down, and what is found later is compared with it.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use crate::{damage, token_of};

/// What a client was told of one message for one recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// 250: exactly one copy must be there.
    Accepted,
    /// A refusal: no copy may be there.
    Refused,
    /// No answer: none or one copy.
    Ambiguous,
}

/// How many attempts had which outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// 250.
    pub accepted: usize,
    /// Refused, or cut off before the message was sent.
    pub refused: usize,
    /// No answer.
    pub ambiguous: usize,
}

/// A copy that was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// The message's token.
    pub token: String,
    /// The account that has it.
    pub account: String,
    /// In what it differs from what was sent.
    pub damage: Option<String>,
}

impl Found {
    /// The copy that an account has.
    ///
    /// # Errors
    /// When it has no token.
    pub fn read(account: &str, text: &[u8]) -> Result<Self> {
        let token = token_of(text).context("a message without a token")?;
        Ok(Self { token, account: account.to_owned(), damage: damage(text) })
    }
}

/// All attempts, by (token, recipient).
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    attempts: BTreeMap<(String, String), Outcome>,
}

/// What the comparison found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Attempts that got 250.
    pub accepted: usize,
    /// Accepted and not there: (token, recipient).
    pub lost: Vec<(String, String)>,
    /// There more than once.
    pub duplicated: Vec<(String, String)>,
    /// Refused, never offered, or with the wrong recipient, and there.
    pub unexpected: Vec<(String, String)>,
    /// There, and not as it was sent: (token, recipient, in what it differs).
    pub damaged: Vec<(String, String, String)>,
    /// Attempts without an answer.
    pub ambiguous: usize,
}

impl Ledger {
    /// Writes an attempt down; a later one of the same token and recipient replaces it.
    pub fn record(&mut self, token: &str, recipient: &str, outcome: Outcome) {
        self.attempts.insert((token.to_owned(), recipient.to_owned()), outcome);
    }

    /// Adds another ledger's attempts.
    pub fn merge(&mut self, other: &Self) {
        self.attempts.extend(other.attempts.iter().map(|(attempt, outcome)| (attempt.clone(), *outcome)));
    }

    /// Only what `before` had accepted counts as accepted; the rest may or may not be there (a power cut came
    /// between the two).
    #[must_use]
    pub fn weakened_to(&self, before: &Self) -> Self {
        let weaken = |(attempt, outcome): (&(String, String), &Outcome)| {
            let kept = before.attempts.get(attempt) == Some(outcome);
            (attempt.clone(), if kept { *outcome } else { Outcome::Ambiguous })
        };
        Self { attempts: self.attempts.iter().map(weaken).collect() }
    }

    /// How many attempts got 250.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.counts().accepted
    }

    /// What came of all attempts so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for outcome in self.attempts.values() {
            let counter = match outcome {
                Outcome::Accepted => &mut counts.accepted,
                Outcome::Refused => &mut counts.refused,
                Outcome::Ambiguous => &mut counts.ambiguous,
            };
            *counter += 1;
        }
        counts
    }

    /// Compares with every copy that was found.
    #[must_use]
    pub fn compare(&self, found: &[Found]) -> Verdict {
        let mut copies: BTreeMap<(String, String), usize> = BTreeMap::new();
        let mut verdict = Verdict { accepted: self.accepted(), ..Verdict::default() };
        for Found { token, account, damage } in found {
            *copies.entry((token.clone(), account.clone())).or_default() += 1;
            verdict.damaged.extend(damage.clone().map(|damage| (token.clone(), account.clone(), damage)));
        }
        for (attempt, outcome) in &self.attempts {
            let count = copies.remove(attempt).unwrap_or(0);
            match (outcome, count) {
                (Outcome::Accepted, 0) => verdict.lost.push(attempt.clone()),
                (Outcome::Refused, 1..) => verdict.unexpected.push(attempt.clone()),
                (_, 2..) => verdict.duplicated.push(attempt.clone()),
                _ => {}
            }
            verdict.ambiguous += usize::from(*outcome == Outcome::Ambiguous);
        }
        verdict.unexpected.extend(copies.into_keys());
        verdict
    }
}

impl Verdict {
    /// Nothing lost, duplicated, unexpected or damaged.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let wrong = [&self.lost, &self.duplicated, &self.unexpected];
        wrong.iter().all(|list| list.is_empty()) && self.damaged.is_empty()
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "accepted {}, ambiguous {}", self.accepted, self.ambiguous)?;
        for (what, list) in
            [("lost", &self.lost), ("duplicated", &self.duplicated), ("unexpected", &self.unexpected)]
        {
            write!(f, ", {what} {}", list.len())?;
            few(f, list.iter().map(|(token, rcpt)| format!("{token} of {rcpt}")))?;
        }
        write!(f, ", damaged {}", self.damaged.len())?;
        few(f, self.damaged.iter().map(|(token, rcpt, how)| format!("{token} of {rcpt}: {how}")))
    }
}

/// The first and last of a list that may be long.
fn few(f: &mut std::fmt::Formatter<'_>, items: impl Iterator<Item = String>) -> std::fmt::Result {
    let items: Vec<String> = items.collect();
    match items.as_slice() {
        [] => Ok(()),
        [one] => write!(f, " ({one})"),
        [first, .., last] => write!(f, " ({first} ... {last})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(token: &str, damage: Option<&str>) -> Found {
        Found { token: token.to_owned(), account: "a@x".to_owned(), damage: damage.map(str::to_owned) }
    }

    #[test]
    fn the_ledger_tells_lost_duplicated_and_ambiguous_apart() {
        let mut ledger = Ledger::default();
        let key = |token: &str| (token.to_owned(), "a@x".to_owned());
        for (token, outcome) in [
            ("kept", Outcome::Accepted),
            ("lost", Outcome::Accepted),
            ("twice", Outcome::Accepted),
            ("refused", Outcome::Refused),
            ("perhaps", Outcome::Ambiguous),
            ("perhaps not", Outcome::Ambiguous),
        ] {
            ledger.record(token, "a@x", outcome);
        }
        let found = ["kept", "twice", "twice", "refused", "perhaps", "alien"];
        let verdict = ledger.compare(&found.map(|token| copy(token, None)));
        assert_eq!(verdict.lost, [key("lost")]);
        assert_eq!(verdict.duplicated, [key("twice")]);
        assert_eq!(verdict.unexpected, [key("refused"), key("alien")]);
        assert_eq!((verdict.accepted, verdict.ambiguous), (3, 2));
        assert!(!verdict.is_clean() && verdict.damaged.is_empty());
        let told = "accepted 3, ambiguous 2, lost 1 (lost of a@x), duplicated 1 (twice of a@x), \
                    unexpected 2 (refused of a@x ... alien of a@x), damaged 0";
        assert_eq!(verdict.to_string(), told);
    }

    #[test]
    fn a_damaged_copy_is_not_a_kept_one() {
        let mut ledger = Ledger::default();
        ledger.record("one", "a@x", Outcome::Accepted);
        assert!(ledger.compare(&[copy("one", None)]).is_clean());
        let verdict = ledger.compare(&[copy("one", Some("short"))]);
        assert_eq!(verdict.damaged, [("one".to_owned(), "a@x".to_owned(), "short".to_owned())]);
        assert!(!verdict.is_clean());
    }
}
