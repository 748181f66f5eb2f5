//! How much each account sends to other sites: counted here, as all frontends ask here. Told the time; forgets with the
//! process, so that a directory that has moved begins to count anew.

use std::time::{Duration, Instant};

use mailcluster_auth::Lru;
use mailcluster_types::{AccountId, Allowance};

/// Accounts that are counted; of more, those that have sent nothing for longest are forgotten.
const ACCOUNTS: usize = 50_000;
/// A period is counted in so many parts; one more than them is looked at, so that no period has more than is allowed.
const PARTS: usize = 12;
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// What an account may send to other sites; `None`: as much as it likes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SendLimits {
    /// Messages in any hour.
    pub messages_per_hour: Option<u32>,
    /// Recipients in any hour.
    pub recipients_per_hour: Option<u32>,
    /// Recipients in any day.
    pub recipients_per_day: Option<u32>,
}

impl SendLimits {
    pub(crate) fn any(self) -> bool {
        self != Self::default()
    }
}

/// A sum over the last period.
#[derive(Debug, Clone, Default)]
struct Window {
    parts: [u32; PARTS + 1],
    /// The number of the latest part.
    latest: u64,
}

impl Window {
    fn move_to(&mut self, part: u64) {
        let steps = usize::try_from(part.saturating_sub(self.latest)).unwrap_or(usize::MAX);
        for step in 1..=steps.min(PARTS + 1) {
            self.parts[place(self.latest + step as u64)] = 0;
        }
        self.latest = self.latest.max(part);
    }

    /// After how many parts there is room for `more`; `None`: never.
    fn room(&self, limit: u32, more: u32) -> Option<u64> {
        let mut sum: u64 = self.parts.iter().map(|n| u64::from(*n)).sum();
        let fits = |sum: u64| sum + u64::from(more) <= u64::from(limit);
        for step in 0..=PARTS as u64 + 1 {
            if fits(sum) {
                return Some(step);
            }
            // The oldest is the next to be used again.
            sum = sum.saturating_sub(u64::from(self.parts[place(self.latest + 1 + step)]));
        }
        None
    }

    fn add(&mut self, more: u32) {
        let part = &mut self.parts[place(self.latest)];
        *part = part.saturating_add(more);
    }
}

fn place(part: u64) -> usize {
    usize::try_from(part % (PARTS as u64 + 1)).unwrap_or(0)
}

/// The windows of one account, in the order of [`SendLimits`].
#[derive(Debug, Clone, Default)]
struct Sent([Window; 3]);

/// What accounts have sent.
pub(crate) struct Sending {
    limits: SendLimits,
    start: Instant,
    accounts: Lru<AccountId, Sent>,
}

impl Sending {
    pub(crate) fn new(limits: SendLimits, start: Instant) -> Self {
        Self { limits, start, accounts: Lru::new(ACCOUNTS) }
    }

    /// Counts a message, when it may be sent.
    pub(crate) fn count(&mut self, now: Instant, account: AccountId, recipients: u32) -> Allowance {
        if !self.limits.any() {
            return Allowance::Granted;
        }
        if self.accounts.get_mut(&account).is_none() {
            self.accounts.insert(account, Sent::default());
        }
        let Some(Sent(windows)) = self.accounts.get_mut(&account) else { return Allowance::Granted };
        let since = now.saturating_duration_since(self.start);
        let caps = [
            (self.limits.messages_per_hour, 1, HOUR),
            (self.limits.recipients_per_hour, recipients, HOUR),
            (self.limits.recipients_per_day, recipients, DAY),
        ];
        let mut wait = Duration::ZERO;
        for (window, (limit, more, period)) in windows.iter_mut().zip(caps) {
            let Some(limit) = limit else { continue };
            let length = period / PARTS as u32;
            let part = since.as_secs() / length.as_secs();
            window.move_to(part);
            match window.room(limit, more) {
                None => return Allowance::Never,
                Some(0) => {}
                Some(parts) => {
                    let begins = length * u32::try_from(part + parts).unwrap_or(u32::MAX);
                    wait = wait.max(begins.saturating_sub(since));
                }
            }
        }
        if wait > Duration::ZERO {
            return Allowance::Wait(u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).max(1));
        }
        for (window, (_, more, _)) in windows.iter_mut().zip(caps) {
            window.add(more);
        }
        Allowance::Granted
    }
}

#[cfg(test)]
mod tests {
    use Allowance::{Granted, Never, Wait};

    use super::*;

    const ANN: AccountId = AccountId(1);
    const BOB: AccountId = AccountId(2);

    fn limits(messages: u32, hour: u32, day: u32) -> SendLimits {
        let some = |n| if n == 0 { None } else { Some(n) };
        SendLimits {
            messages_per_hour: some(messages),
            recipients_per_hour: some(hour),
            recipients_per_day: some(day),
        }
    }

    #[test]
    fn each_cap_holds_for_each_account() {
        let start = Instant::now();
        let at = |minutes: u64| start + Duration::from_secs(60 * minutes);
        let mut sending = Sending::new(limits(3, 10, 15), start);
        for (minute, account, recipients, expected) in [
            (0, ANN, 1, Granted),
            (0, ANN, 11, Never),
            (6, ANN, 9, Granted),
            (7, ANN, 1, Wait(58 * 60)),
            (7, BOB, 1, Granted),
            // The message of the first minute no longer counts, those nine still do.
            (65, ANN, 1, Granted),
            (66, ANN, 4, Wait(4 * 60)),
            (70, ANN, 4, Granted),
            (71, ANN, 1, Wait(1489 * 60)),
            (24 * 60 + 130, ANN, 10, Granted),
        ] {
            assert_eq!(sending.count(at(minute), account, recipients), expected, "{minute} {recipients}");
        }
    }

    #[test]
    fn no_hour_has_more_than_is_allowed_whenever_messages_come() {
        let start = Instant::now();
        let mut sending = Sending::new(limits(20, 0, 0), start);
        let granted: Vec<u64> = (0..4 * 3600)
            .step_by(7)
            .filter(|second| sending.count(start + Duration::from_secs(*second), ANN, 1) == Granted)
            .collect();
        assert!(granted.len() > 3 * 20, "the cap is no ban: {}", granted.len());
        for from in &granted {
            let within = granted.iter().filter(|at| (*from..from + 3600).contains(*at)).count();
            assert!(within <= 20, "{within} in the hour after {from}");
        }
    }

    #[test]
    fn without_limits_nothing_is_counted() {
        let mut sending = Sending::new(SendLimits::default(), Instant::now());
        assert_eq!(sending.count(Instant::now(), ANN, u32::MAX), Granted);
        assert!(sending.accounts.is_empty());
    }
}
