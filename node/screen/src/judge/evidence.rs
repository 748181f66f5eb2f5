//! What speaks against an address.

use std::{
    hash::{BuildHasher, RandomState},
    time::Instant,
};

use super::{REPEATED, THROTTLED};
use crate::{Kind, Observation, Policy, Reason, few::Few, score::Score};

/// Accounts at which an address failed that are told apart.
const ACCOUNTS: usize = 64;
/// The same as a number to compare with.
const MOST_ACCOUNTS: f64 = 64.0;

/// The counts of one address.
pub(super) struct Address {
    logins: Score,
    accounts: Few<u64, ACCOUNTS>,
    recipients: Score,
    abuse: Score,
    good: Option<Instant>,
    hasher: RandomState,
}

impl Address {
    pub(super) fn new(now: Instant) -> Self {
        let none = Score::none(now);
        Self {
            logins: none,
            accounts: Few::new(),
            recipients: none,
            abuse: none,
            good: None,
            hasher: RandomState::new(),
        }
    }

    /// Those with much against them, and the good ones, are kept.
    pub(super) fn worth(&self, now: Instant, policy: &Policy) -> f64 {
        let scores = [self.logins, self.recipients, self.abuse].map(|s| s.value(now, policy.half_life));
        scores.iter().sum::<f64>() + if self.is_known(now, policy) { 5.0 } else { 0.0 }
    }

    pub(super) fn count(&mut self, now: Instant, seen: &Observation, policy: &Policy) {
        let (count, half_life) = (f64::from(seen.count), policy.half_life);
        match seen.kind {
            Kind::Failed => {
                self.logins.add(now, half_life, count);
                self.accounts.see(self.hasher.hash_one(&seen.account), now);
            }
            Kind::Repeated => self.logins.add(now, half_life, count * REPEATED),
            Kind::Throttled => self.logins.add(now, half_life, count * THROTTLED),
            Kind::UnknownRecipient => self.recipients.add(now, half_life, count),
            Kind::TookRecipient => self.recipients.add(now, half_life, -count),
            Kind::Abuse => self.abuse.add(now, half_life, count),
            Kind::LoggedIn => self.good = Some(now),
        }
    }

    pub(super) fn verdict(&self, now: Instant, policy: &Policy) -> Option<Reason> {
        let factor = if self.is_known(now, policy) { policy.known_factor } else { 1.0 };
        let over = |score: Score, limit: f64| score.value(now, policy.half_life) >= limit * factor;
        let window = policy.half_life.saturating_mul(2);
        let accounts = self.accounts.recent(now, window).fold(0.0, |count, _| count + 1.0);
        let most = f64::from(policy.accounts) * factor;
        if over(self.logins, policy.failures) {
            Some(Reason::Logins)
        } else if accounts >= most.min(MOST_ACCOUNTS) {
            Some(Reason::Accounts)
        } else if over(self.recipients, policy.recipients) {
            Some(Reason::Recipients)
        } else if over(self.abuse, policy.abuse) {
            Some(Reason::Abuse)
        } else {
            None
        }
    }

    /// It is banned for what it did; what it does after that counts anew.
    pub(super) fn forget(&mut self, now: Instant) {
        let none = Score::none(now);
        (self.logins, self.recipients, self.abuse) = (none, none, none);
        self.accounts.clear();
    }

    fn is_known(&self, now: Instant, policy: &Policy) -> bool {
        self.good.is_some_and(|at| now.saturating_duration_since(at) < policy.known_for)
    }
}
