//! Who was promised what: every attempt to send is written down, and what is found later is compared with it.

use std::collections::BTreeMap;

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
        self.attempts.values().filter(|outcome| **outcome == Outcome::Accepted).count()
    }

    /// Compares with what was found: one (token, recipient) for each copy.
    #[must_use]
    pub fn compare(&self, found: &[(String, String)]) -> Verdict {
        let mut copies: BTreeMap<&(String, String), usize> = BTreeMap::new();
        for copy in found {
            *copies.entry(copy).or_default() += 1;
        }
        let mut verdict = Verdict { accepted: self.accepted(), ..Verdict::default() };
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
        verdict.unexpected.extend(copies.into_keys().cloned());
        verdict
    }
}

impl Verdict {
    /// Nothing lost, duplicated or unexpected.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.lost.is_empty() && self.duplicated.is_empty() && self.unexpected.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let found = [key("kept"), key("twice"), key("twice"), key("refused"), key("perhaps"), key("alien")];
        let verdict = ledger.compare(&found);
        assert_eq!(verdict.lost, [key("lost")]);
        assert_eq!(verdict.duplicated, [key("twice")]);
        assert_eq!(verdict.unexpected, [key("refused"), key("alien")]);
        assert_eq!((verdict.accepted, verdict.ambiguous), (3, 2));
        assert!(!verdict.is_clean());
    }
}
