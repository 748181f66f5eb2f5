//! Adds up what all frontends saw, and decides. Told the time; bounded; reads no clock.

mod evidence;

use std::time::{Duration, Instant};

use crate::{
    Ban, Bounded, Cidr, Kind, Lists, News, Observation, Policy, Reason, Slowed, ban_duration, delay,
    few::Few, score::Score,
};
use evidence::Address;

/// Weight of a failed login with the password that failed before.
const REPEATED: f64 = 0.02;
/// Weight of an attempt that was not looked at.
const THROTTLED: f64 = 0.1;
/// Good addresses of an account that are remembered.
const GOOD: usize = 16;
/// Banned addresses of a network that are remembered.
const BANNED: usize = 16;
/// How long they count together.
const NEIGHBOURS: Duration = Duration::from_secs(86_400);
/// Addresses of the cluster's own that are remembered.
const OWN: usize = 1000;

/// Why an administrator's ban is not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BanError {
    /// It would have no effect on some of its addresses, which is not what was asked for.
    #[error(
        "it has addresses that are never refused: trusted proxies, the cluster's own, or those that are allowed"
    )]
    Protected,
}

struct Held {
    until: Instant,
    reason: Reason,
}

#[derive(Default)]
struct Past {
    times: u32,
    ended: Option<Instant>,
}

struct Neighbours {
    banned: Few<Cidr, BANNED>,
    good: Option<Instant>,
}

impl Neighbours {
    /// Changes those of an address.
    fn of(table: &mut Bounded<Cidr, Self>, now: Instant, client: Cidr, change: impl FnOnce(&mut Self)) {
        let network = Cidr::network(client.first());
        if table.get(&network).is_none() {
            let worth = |around: &Self| {
                let banned = around.banned.recent(now, NEIGHBOURS).fold(0.0, |count, _| count + 1.0);
                banned + if around.good.is_some() { 5.0 } else { 0.0 }
            };
            table.insert(network, Self { banned: Few::new(), good: None }, worth);
        }
        if let Some(around) = table.get_mut(&network) {
            change(around);
        }
    }
}

struct Account {
    failures: Score,
    good: Few<Cidr, GOOD>,
    /// What was told of it, and until when that holds.
    told: Option<(Duration, Instant)>,
}

/// Decides who is banned and which accounts are under attack.
pub struct Judge {
    policy: Policy,
    lists: Lists,
    own: Bounded<Cidr, Instant>,
    addresses: Bounded<Cidr, Address>,
    networks: Bounded<Cidr, Neighbours>,
    accounts: Bounded<String, Account>,
    bans: Bounded<Cidr, Held>,
    past: Bounded<Cidr, Past>,
}

impl Judge {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(policy: Policy, lists: Lists) -> Self {
        let capacity = policy.capacity;
        Self {
            policy,
            lists,
            own: Bounded::new(OWN),
            addresses: Bounded::new(capacity),
            networks: Bounded::new(capacity),
            accounts: Bounded::new(capacity),
            bans: Bounded::new(capacity),
            past: Bounded::new(capacity),
        }
    }

    /// These are the cluster's own, and its proxies': never banned, and no longer if they are.
    pub fn own(&mut self, now: Instant, own: impl IntoIterator<Item = Cidr>) -> Vec<News> {
        let mut news = Vec::new();
        for network in own {
            // What was told of longest ago makes room.
            let worth = |at: &Instant| -now.saturating_duration_since(*at).as_secs_f64();
            if network == Cidr::address(network.first()) {
                self.own.insert(network, now, worth);
            } else if !self.lists.allowed().any(|allowed| allowed == network) {
                self.lists.allow(network);
            }
            let overlapping: Vec<Cidr> =
                self.bans.iter().map(|(ban, _)| *ban).filter(|ban| ban.overlaps(network)).collect();
            news.extend(overlapping.into_iter().filter_map(|ban| self.lift(ban)));
        }
        news
    }

    /// A frontend saw this.
    pub fn observe(&mut self, now: Instant, seen: &Observation) -> Vec<News> {
        let mut news = Vec::new();
        if self.own.get(&seen.client).is_some() || self.lists.allows_any_of(seen.client) {
            return news;
        }
        news.extend(self.at_account(now, seen));
        if let Some(reason) = self.at_address(now, seen) {
            news.extend(self.punish(now, seen.client, reason));
            if self.is_hopeless(now, seen.client) {
                news.extend(self.punish(now, Cidr::network(seen.client.first()), Reason::Neighbours));
            }
        }
        news
    }

    /// An administrator bans a network for this long.
    ///
    /// # Errors
    /// [`BanError`]
    pub fn ban(&mut self, now: Instant, network: Cidr, duration: Duration) -> Result<Vec<News>, BanError> {
        if self.is_protected(network) {
            return Err(BanError::Protected);
        }
        let ban = Ban { network, remaining: duration, reason: Reason::Administrator };
        Ok(self.hold(now, ban))
    }

    /// A frontend still holds a ban that was decided before this judge began.
    pub fn adopt(&mut self, now: Instant, ban: Ban) -> Vec<News> {
        let known = self.bans.get(&ban.network).is_some_and(|held| held.until > now);
        if known || ban.remaining.is_zero() || self.is_protected(ban.network) {
            return Vec::new();
        }
        if ban.reason != Reason::Administrator {
            self.remember(now, ban.network, ban.remaining);
        }
        self.hold(now, ban)
    }

    /// A ban is over now; what led to it is forgotten. `None`: there was none.
    pub fn lift(&mut self, network: Cidr) -> Option<News> {
        self.addresses.remove(&network);
        self.past.remove(&network);
        if let Some(around) = self.networks.get_mut(&network) {
            around.banned.clear();
        }
        self.bans.remove(&network).map(|_| News::Lifted(network))
    }

    /// All bans, those that last longest first.
    #[must_use]
    pub fn bans(&self, now: Instant) -> Vec<Ban> {
        let mut bans: Vec<Ban> = self
            .bans
            .iter()
            .map(|(network, held)| Ban {
                network: *network,
                remaining: held.until.saturating_duration_since(now),
                reason: held.reason,
            })
            .filter(|ban| !ban.remaining.is_zero())
            .collect();
        bans.sort_by_key(|ban| (std::cmp::Reverse(ban.remaining), ban.network));
        bans
    }

    /// Accounts to which logins wait.
    #[must_use]
    pub fn slowed(&self, now: Instant) -> Vec<Slowed> {
        let told = self.accounts.iter().filter_map(|(name, account)| account.slowed(name, now, &self.policy));
        told.collect()
    }

    /// Entries in all tables.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.addresses.len()
            + self.networks.len()
            + self.accounts.len()
            + self.bans.len()
            + self.past.len()
            + self.own.len()
    }

    fn is_protected(&self, network: Cidr) -> bool {
        self.lists.allows_any_of(network) || self.own.iter().any(|(own, _)| own.overlaps(network))
    }

    /// Counts at the address; why it shall be banned, if it shall.
    fn at_address(&mut self, now: Instant, seen: &Observation) -> Option<Reason> {
        let (policy, client) = (&self.policy, seen.client);
        if seen.kind == Kind::LoggedIn {
            Neighbours::of(&mut self.networks, now, client, |around| around.good = Some(now));
        }
        if self.bans.get(&client).is_some_and(|held| held.until > now) {
            // What was under way when it was banned.
            return None;
        }
        if self.addresses.get(&client).is_none() {
            let worth = |address: &Address| address.worth(now, policy);
            self.addresses.insert(client, Address::new(now), worth);
        }
        let address = self.addresses.get_mut(&client)?;
        address.count(now, seen, policy);
        let reason = address.verdict(now, policy)?;
        address.forget(now);
        Some(reason)
    }

    /// Counts at the account; what is to be told of it.
    fn at_account(&mut self, now: Instant, seen: &Observation) -> Option<News> {
        let policy = &self.policy;
        let counts = matches!(seen.kind, Kind::Failed | Kind::LoggedIn);
        if seen.account.is_empty() || !counts {
            return None;
        }
        if self.accounts.get(&seen.account).is_none() {
            let worth = |account: &Account| account.worth(now, policy);
            let new = Account { failures: Score::none(now), good: Few::new(), told: None };
            self.accounts.insert(seen.account.clone(), new, worth);
        }
        let account = self.accounts.get_mut(&seen.account)?;
        let is_good = account.good.has(seen.client, now, policy.known_for);
        let is_news = if seen.kind == Kind::LoggedIn {
            account.good.see(seen.client, now);
            !is_good
        } else {
            if !is_good {
                account.failures.add(now, policy.half_life, f64::from(seen.count));
            }
            false
        };
        let before = account.told.filter(|(_, until)| *until > now).map(|(wait, _)| wait);
        let wanted = delay(policy, account.failures.value(now, policy.half_life));
        let longer = wanted.filter(|wanted| before.is_none_or(|before| *wanted > before));
        if let Some(longer) = longer {
            account.told = Some((longer, now + policy.half_life));
        }
        // Once more while it lasts only when there is more to tell.
        let tell = longer.is_some() || (is_news && before.is_some());
        if tell { account.slowed(&seen.account, now, policy).map(News::Slowed) } else { None }
    }

    /// Bans a network for as long as its past says, and notes it there.
    fn punish(&mut self, now: Instant, network: Cidr, reason: Reason) -> Vec<News> {
        if self.is_protected(network) {
            return Vec::new();
        }
        let past = self.past.get(&network);
        let ended = past.and_then(|past| past.ended).unwrap_or(now);
        let is_fresh = now.saturating_duration_since(ended) < self.policy.longest_ban;
        let times = past.filter(|_| is_fresh).map_or(0, |past| past.times);
        if !is_fresh {
            self.past.remove(&network);
        }
        let remaining = ban_duration(&self.policy, times);
        self.remember(now, network, remaining);
        self.hold(now, Ban { network, remaining, reason })
    }

    fn remember(&mut self, now: Instant, network: Cidr, lasts: Duration) {
        let times = self.past.get(&network).map_or(0, |past| past.times);
        let past = Past { times: times.saturating_add(1), ended: now.checked_add(lasts) };
        self.past.insert(network, past, |past| f64::from(past.times));
        Neighbours::of(&mut self.networks, now, network, |around| {
            around.banned.see(network, now);
        });
    }

    fn hold(&mut self, now: Instant, ban: Ban) -> Vec<News> {
        let until = now.checked_add(ban.remaining).unwrap_or(now + self.policy.longest_ban);
        let held = Held { until, reason: ban.reason };
        let worth = |held: &Held| held.until.saturating_duration_since(now).as_secs_f64();
        let gone = self.bans.insert(ban.network, held, worth);
        let lifted = gone.filter(|(_, held)| held.until > now).map(|(network, _)| News::Lifted(network));
        lifted.into_iter().chain([News::Banned(ban)]).collect()
    }

    /// Are so many of its neighbours banned, and has nobody logged in well from there, that all of them shall be?
    fn is_hopeless(&self, now: Instant, client: Cidr) -> bool {
        let network = Cidr::network(client.first());
        let is_banned = self.bans.get(&network).is_some_and(|held| held.until > now);
        self.networks.get(&network).is_some_and(|around| {
            let good =
                around.good.is_some_and(|at| now.saturating_duration_since(at) < self.policy.known_for);
            !is_banned && !good && around.banned.recent(now, NEIGHBOURS).count() >= self.policy.neighbours
        })
    }
}

impl Account {
    /// Those that are under attack or have good addresses are kept.
    fn worth(&self, now: Instant, policy: &Policy) -> f64 {
        let good = if self.good.recent(now, policy.known_for).next().is_some() { 5.0 } else { 0.0 };
        self.failures.value(now, policy.half_life) + good
    }

    fn slowed(&self, name: &str, now: Instant, policy: &Policy) -> Option<Slowed> {
        let (wait, until) = self.told.filter(|(_, until)| *until > now)?;
        Some(Slowed {
            account: name.to_owned(),
            delay: wait,
            remaining: until.saturating_duration_since(now),
            good: self.good.recent(now, policy.known_for).collect(),
        })
    }
}

#[cfg(test)]
mod tests;
