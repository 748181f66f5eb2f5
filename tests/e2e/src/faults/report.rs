//! What a run came to.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use super::schedule::Kind;

/// A rule that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// When it was noticed (UTC).
    pub at: String,
    /// What it is about.
    pub about: String,
    /// What was seen, and why it cannot be.
    pub evidence: String,
}

impl Violation {
    pub(super) fn now(about: &str, evidence: String) -> Self {
        Self { at: jiff::Timestamp::now().to_string(), about: about.to_owned(), evidence }
    }
}

/// A fault that was made.
#[derive(Debug, Clone)]
pub(super) struct Made {
    pub kind: Kind,
    /// From its begin to its end.
    pub held: Duration,
    /// From its end until all was well.
    pub recovered: Duration,
    /// The longest time in which somebody could not log in and select a mailbox.
    pub gap: Duration,
}

/// What a run came to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// The mode's name.
    pub mode: &'static str,
    /// How long faults were made.
    pub seconds: u64,
    /// Operations by kind: acknowledged, refused, without an answer.
    pub operations: BTreeMap<&'static str, [u64; 3]>,
    /// How often an account was compared as a whole with the model.
    pub looks: u64,
    /// Deliveries: accepted.
    pub accepted: usize,
    /// Deliveries: accepted and not there.
    pub lost: usize,
    /// Deliveries: there more often than once, or never accepted.
    pub duplicated: usize,
    /// Deliveries without an answer.
    pub ambiguous: usize,
    pub(super) faults: Vec<Made>,
    /// Faults that could not be made, and why.
    pub skipped: Vec<String>,
    /// Pods that their kubelet let wait, and that were made anew.
    pub held_back: usize,
    /// What was broken.
    pub violations: Vec<Violation>,
}

/// Seconds, rounded to tenths.
fn tenths(time: Duration) -> f64 {
    (time.as_secs_f64() * 10.0).round() / 10.0
}

impl Outcome {
    /// How many faults were made.
    #[must_use]
    pub fn made(&self) -> usize {
        self.faults.len()
    }

    /// No rule was broken.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }

    fn kinds(&self) -> BTreeMap<&'static str, Vec<&Made>> {
        let mut kinds: BTreeMap<&'static str, Vec<&Made>> = BTreeMap::new();
        for made in &self.faults {
            kinds.entry(made.kind.name()).or_default().push(made);
        }
        kinds
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let rows = self.kinds().into_iter().map(|(kind, made)| {
            let most =
                |of: fn(&Made) -> Duration| tenths(made.iter().map(|m| of(m)).max().unwrap_or_default());
            json!({"kind": kind, "count": made.len(), "longest_held": most(|m| m.held),
                "longest_recovery": most(|m| m.recovered), "longest_gap": most(|m| m.gap)})
        });
        let operations = self.operations.iter().map(|(kind, [done, refused, unanswered])| {
            json!({"kind": kind, "acknowledged": done, "refused": refused, "ambiguous": unanswered})
        });
        let violations =
            self.violations.iter().map(|v| json!({"at": v.at, "about": v.about, "evidence": v.evidence}));
        json!({
            "seed": self.seed, "mode": self.mode, "seconds": self.seconds,
            "operations": operations.collect::<Vec<_>>(), "looks": self.looks,
            "faults": rows.collect::<Vec<_>>(), "skipped": self.skipped,
            "held_back": self.held_back,
            "accepted": self.accepted, "lost": self.lost, "duplicated": self.duplicated,
            "ambiguous": self.ambiguous, "violations": violations.collect::<Vec<_>>(),
        })
    }

    /// For people; the last line says how it ended.
    #[must_use]
    pub fn text(&self) -> String {
        let mut lines = vec![format!("{:<20} {:>8} {:>8} {:>9}", "operation", "ok", "refused", "no answer")];
        for (kind, [done, refused, unanswered]) in &self.operations {
            lines.push(format!("{kind:<20} {done:>8} {refused:>8} {unanswered:>9}"));
        }
        lines.push(format!(
            "\n{:<20} {:>5} {:>8} {:>9} {:>9}",
            "fault", "count", "held s", "recovered", "gap s"
        ));
        for row in self.json()["faults"].as_array().into_iter().flatten() {
            lines.push(format!(
                "{:<20} {:>5} {:>8} {:>9} {:>9}",
                row["kind"].as_str().unwrap_or_default(),
                row["count"].to_string(),
                row["longest_held"].to_string(),
                row["longest_recovery"].to_string(),
                row["longest_gap"].to_string()
            ));
        }
        lines.extend(self.skipped.iter().map(|why| format!("left out: {why}")));
        lines.push(format!(
            "made anew while their kubelet let them wait (CrashLoopBackOff): {} pods",
            self.held_back
        ));
        for violation in &self.violations {
            lines.push(format!("\nVIOLATION {} {}\n{}", violation.at, violation.about, violation.evidence));
        }
        let operations: u64 = self.operations.values().map(|[done, ..]| done).sum();
        lines.push(format!(
            "\nfaults: {} mode={} seed={} faults={} operations={operations} accepted={} lost={} duplicated={} \
             ambiguous={} violations={}",
            if self.is_clean() { "ok" } else { "FAILED" },
            self.mode,
            self.seed,
            self.faults.len(),
            self.accepted,
            self.lost,
            self.duplicated,
            self.ambiguous,
            self.violations.len()
        ));
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_and_the_figures_tell_how_it_ended() {
        let made = |gap: u64| Made {
            kind: Kind::Kill,
            held: Duration::ZERO,
            recovered: Duration::from_millis(1260),
            gap: Duration::from_secs(gap),
        };
        let mut outcome = Outcome {
            seed: 7,
            mode: "single",
            operations: BTreeMap::from([("append", [3, 2, 1])]),
            accepted: 9,
            faults: vec![made(2), made(5)],
            ..Outcome::default()
        };
        let last = "faults: ok mode=single seed=7 faults=2 operations=3 accepted=9 lost=0 duplicated=0 \
                    ambiguous=0 violations=0";
        assert_eq!(outcome.text().lines().last(), Some(last));
        let row = &outcome.json()["faults"][0];
        assert_eq!(
            (&row["count"], &row["longest_gap"], &row["longest_recovery"]),
            (&2.into(), &5.0.into(), &1.3.into())
        );
        outcome.violations.push(Violation::now("mail", "one is lost".to_owned()));
        assert!(!outcome.is_clean() && outcome.text().contains("faults: FAILED"));
        assert_eq!(outcome.json()["violations"][0]["evidence"], "one is lost");
    }
}
