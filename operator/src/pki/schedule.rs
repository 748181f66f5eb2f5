//! When certificates are renewed and when the CA is replaced: pure, in seconds since 1970.
//!
//! A CA's successor is first only trusted (staged), so that every pod knows it before anything is signed by it; then it
//! signs, and everything is issued anew; its predecessor stays trusted until it expires.

use std::time::Duration;

/// Seconds by which certificates are valid before they were made, for peers whose clock is behind.
pub const BACKDATED: i64 = 3_600;

/// How long certificates are good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    /// A pod's or the operator's certificate.
    pub leaf: Duration,
    /// The CA.
    pub ca: Duration,
    /// How long a new CA is only trusted before it signs.
    pub overlap: Duration,
}

impl Lifetimes {
    /// Does the last third of a CA's life leave room to stage a successor and to issue everything anew?
    #[must_use]
    pub fn are_consistent(&self) -> bool {
        let shortest = Duration::from_secs(30);
        self.leaf >= shortest
            && self.overlap >= Duration::from_secs(1)
            && self.ca >= self.leaf * 3 + self.overlap
            && self.ca / 3 > self.overlap
    }
}

/// When a certificate was made and when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// When it was made.
    pub issued: i64,
    /// When it ends.
    pub expires: i64,
}

impl Validity {
    /// The moment after which it is to be renewed: a third of its life.
    #[must_use]
    pub fn renew_at(&self) -> i64 {
        self.issued + (self.expires - self.issued) / 3
    }

    /// The moment at which a CA's successor is to be made: two thirds of its life.
    #[must_use]
    pub fn replace_at(&self) -> i64 {
        self.issued + (self.expires - self.issued) / 3 * 2
    }
}

/// What to do about the CA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaStep {
    /// Nothing before this moment.
    Keep {
        /// Seconds since 1970.
        until: i64,
    },
    /// There is none that could sign: make one that signs at once.
    Create,
    /// Make a successor that is trusted and does not sign yet.
    Stage,
    /// Let the successor sign.
    Promote,
    /// Forget CAs that have expired.
    Prune,
}

/// Decides the next step for a CA with this current and staged certificate, and the ends of all trusted ones.
#[must_use]
pub fn ca_step(
    now: i64,
    current: Option<Validity>,
    staged: Option<Validity>,
    trusted: &[i64],
    lifetimes: &Lifetimes,
) -> CaStep {
    let overlap = i64::try_from(lifetimes.overlap.as_secs()).unwrap_or(i64::MAX);
    let alive = |v: &Validity| v.expires > now;
    let staged = staged.filter(alive);
    let Some(current) = current.filter(alive) else {
        return if staged.is_some() { CaStep::Promote } else { CaStep::Create };
    };
    if trusted.iter().any(|expires| *expires <= now) {
        return CaStep::Prune;
    }
    let next = match staged {
        Some(staged) if now >= staged.issued.saturating_add(overlap) => return CaStep::Promote,
        Some(staged) => staged.issued.saturating_add(overlap),
        None if now >= current.replace_at() => return CaStep::Stage,
        None => current.replace_at(),
    };
    let first_end = trusted.iter().copied().min().unwrap_or(i64::MAX);
    CaStep::Keep { until: next.min(first_end).min(current.expires) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const L: Lifetimes = Lifetimes {
        leaf: Duration::from_secs(90),
        ca: Duration::from_secs(900),
        overlap: Duration::from_secs(60),
    };

    fn v(issued: i64, expires: i64) -> Option<Validity> {
        Some(Validity { issued, expires })
    }

    #[test]
    fn a_leaf_is_renewed_after_a_third_of_its_life() {
        assert_eq!(Validity { issued: 1_000, expires: 1_090 }.renew_at(), 1_030);
    }

    #[test]
    fn the_authority_is_replaced_with_overlap() {
        let old = v(0, 900);
        for (name, now, current, staged, trusted, expected) in [
            ("none yet", 0, None, None, vec![], CaStep::Create),
            ("fresh", 10, old, None, vec![900], CaStep::Keep { until: 600 }),
            ("old enough", 600, old, None, vec![900], CaStep::Stage),
            (
                "staged, not yet known to all",
                620,
                old,
                v(600, 1_500),
                vec![900, 1_500],
                CaStep::Keep { until: 660 },
            ),
            ("staged long enough", 660, old, v(600, 1_500), vec![900, 1_500], CaStep::Promote),
            (
                "promoted, the old one still trusted",
                700,
                v(600, 1_500),
                None,
                vec![900, 1_500],
                CaStep::Keep { until: 900 },
            ),
            ("the old one has expired", 900, v(600, 1_500), None, vec![900, 1_500], CaStep::Prune),
            ("pruned", 901, v(600, 1_500), None, vec![1_500], CaStep::Keep { until: 1_200 }),
            ("operator away too long", 2_000, v(600, 1_500), None, vec![1_500], CaStep::Create),
            ("away, but one was staged", 950, old, v(600, 1_500), vec![900, 1_500], CaStep::Promote),
        ] {
            assert_eq!(ca_step(now, current, staged, &trusted, &L), expected, "{name}");
        }
    }

    #[test]
    fn impossible_lifetimes_are_told() {
        assert!(L.are_consistent());
        assert!(!Lifetimes { ca: Duration::from_secs(200), ..L }.are_consistent());
        assert!(!Lifetimes { leaf: Duration::from_secs(5), ..L }.are_consistent());
        let defaults = Lifetimes {
            leaf: Duration::from_secs(90 * 86_400),
            ca: Duration::from_secs(3_650 * 86_400),
            overlap: Duration::from_secs(3_600),
        };
        assert!(defaults.are_consistent());
    }
}
