//! How patient screening is.

use std::time::Duration;

/// Thresholds and bounds.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Failed logins of an address until it is banned.
    pub failures: f64,
    /// Accounts at which an address failed until it is banned.
    pub accounts: u32,
    /// Unknown recipients of an address, less those that were taken, until it is banned.
    pub recipients: f64,
    /// Sessions of an address ended for what they sent until it is banned.
    pub abuse: f64,
    /// An address from which somebody logged in well lately needs this many times as much of each.
    pub known_factor: f64,
    /// Banned addresses of a network, within a day, until all of it is banned; never one from which somebody logged in
    /// well lately.
    pub neighbours: usize,
    /// Failed logins at an account from addresses that it does not know until logins to it wait.
    pub under_attack: f64,
    /// The first and the longest wait.
    pub delays: (Duration, Duration),
    /// Counts halve in this time.
    pub half_life: Duration,
    /// The first ban; each further one is twice as long as the one before, up to the longest.
    pub first_ban: Duration,
    /// The longest ban. Whoever was not banned for this long begins with the first again.
    pub longest_ban: Duration,
    /// How long an address is known as good after a login.
    pub known_for: Duration,
    /// Entries in each table.
    pub capacity: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            failures: 50.0,
            accounts: 10,
            recipients: 100.0,
            abuse: 20.0,
            known_factor: 4.0,
            neighbours: 5,
            under_attack: 50.0,
            delays: (Duration::from_secs(1), Duration::from_secs(8)),
            half_life: Duration::from_secs(600),
            first_ban: Duration::from_secs(900),
            longest_ban: Duration::from_secs(7 * 86_400),
            known_for: Duration::from_secs(30 * 86_400),
            capacity: 50_000,
        }
    }
}

/// How long a ban lasts after `before` others.
#[must_use]
pub fn ban_duration(policy: &Policy, before: u32) -> Duration {
    let factor = 2_u32.checked_pow(before).unwrap_or(u32::MAX);
    policy.first_ban.saturating_mul(factor).min(policy.longest_ban)
}

/// How long logins to an account wait that `failures` speak of; none: not at all.
#[must_use]
pub fn delay(policy: &Policy, failures: f64) -> Option<Duration> {
    if failures < policy.under_attack {
        return None;
    }
    let doublings = (failures / policy.under_attack.max(1.0)).log2().floor().clamp(0.0, 16.0);
    let (first, longest) = policy.delays;
    Some(first.mul_f64(doublings.exp2()).min(longest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bans_grow() {
        let policy = Policy::default();
        for (before, minutes) in
            [(0, 15), (1, 30), (2, 60), (5, 480), (9, 7680), (10, 10_080), (40, 10_080), (u32::MAX, 10_080)]
        {
            assert_eq!(
                ban_duration(&policy, before),
                Duration::from_secs(minutes * 60),
                "{before} bans before"
            );
        }
    }

    #[test]
    fn delays_grow() {
        let policy = Policy::default();
        for (failures, seconds) in [
            (0.0, None),
            (49.9, None),
            (50.0, Some(1)),
            (99.0, Some(1)),
            (100.0, Some(2)),
            (399.0, Some(4)),
            (400.0, Some(8)),
            (1e9, Some(8)),
        ] {
            assert_eq!(delay(&policy, failures).map(|d| d.as_secs()), seconds, "{failures} failures");
        }
    }
}
