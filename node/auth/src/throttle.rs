//! Slows guessing down, without letting the guesser lock the user out.
//!
//! Failures are counted by network (IPv4 address, IPv6 /64) and by (network, account); each failure beyond the free
//! ones doubles a wait, up to a ban. Nothing is ever held against an account from networks that did not fail: an
//! account that is guessed at from many networks only makes each of them run out of free failures sooner.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

use crate::Lru;

/// A range of addresses, such as `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// Any address in it.
    pub address: IpAddr,
    /// How many leading bits count.
    pub prefix: u8,
}

impl Network {
    /// Does it hold this address? IPv4-mapped IPv6 addresses count as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address.to_canonical(), address.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(one)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix.min(32))).unwrap_or(0);
                net.to_bits() & mask == one.to_bits() & mask
            }
            (IpAddr::V6(net), IpAddr::V6(one)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix.min(128))).unwrap_or(0);
                net.to_bits() & mask == one.to_bits() & mask
            }
            _ => false,
        }
    }
}

/// How patient the throttle is.
#[derive(Debug, Clone)]
pub struct ThrottlePolicy {
    /// Failures of one network at one account before it has to wait.
    pub free_per_account: f64,
    /// Failures of one network at any accounts before it has to wait.
    pub free_per_network: f64,
    /// Failures at one account from all networks together after which each network has one free failure left.
    pub under_attack: f64,
    /// A count halves in this time.
    pub half_life: Duration,
    /// The first wait; each further failure doubles it.
    pub first_wait: Duration,
    /// The longest wait: a ban.
    pub longest_wait: Duration,
    /// Attempts of one network at one account at the same time: guesses that run together are not yet counted.
    pub together: u32,
    /// Entries in each table.
    pub capacity: usize,
    /// Networks that are never slowed down or banned (proxies, health checks).
    pub trusted: Vec<Network>,
}

impl Default for ThrottlePolicy {
    fn default() -> Self {
        Self {
            free_per_account: 5.0,
            free_per_network: 30.0,
            under_attack: 50.0,
            half_life: Duration::from_secs(600),
            first_wait: Duration::from_secs(2),
            longest_wait: Duration::from_secs(1800),
            together: 64,
            capacity: 65_536,
            trusted: Vec::new(),
        }
    }
}

/// May this attempt be made?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Yes.
    Allowed,
    /// Not before this much time has passed.
    Wait(Duration),
}

#[derive(Debug, Clone, Copy)]
struct Score {
    failures: f64,
    counted: Instant,
    until: Instant,
}

/// Counts failures. Told the time; bounded; reads no clock.
pub struct Throttle {
    policy: ThrottlePolicy,
    hasher: RandomState,
    networks: Lru<u128, Score>,
    pairs: Lru<(u128, u64), Score>,
    accounts: Lru<u64, Score>,
    /// Attempts under way; as many as there are callers, who each call [`Throttle::end`].
    under_way: HashMap<(u128, u64), u32>,
}

impl Throttle {
    /// An empty throttle.
    #[must_use]
    pub fn new(policy: ThrottlePolicy) -> Self {
        let capacity = policy.capacity;
        Self {
            policy,
            hasher: RandomState::new(),
            networks: Lru::new(capacity),
            pairs: Lru::new(capacity),
            accounts: Lru::new(capacity),
            under_way: HashMap::new(),
        }
    }

    /// May `client` try to log in to `account` now?
    pub fn check(&mut self, now: Instant, client: IpAddr, account: &str) -> Verdict {
        if self.is_trusted(client) {
            return Verdict::Allowed;
        }
        let network = network_of(client);
        let pair = (network, self.hasher.hash_one(account));
        let until = [self.networks.get_mut(&network), self.pairs.get_mut(&pair)]
            .into_iter()
            .flatten()
            .map(|score| score.until.saturating_duration_since(now))
            .max()
            .unwrap_or_default();
        if until.is_zero() { Verdict::Allowed } else { Verdict::Wait(until) }
    }

    /// As [`Self::check`], and counts the attempt as under way when it is allowed: then, and only then,
    /// [`Self::end`] must follow.
    pub fn begin(&mut self, now: Instant, client: IpAddr, account: &str) -> Verdict {
        if let Verdict::Wait(wait) = self.check(now, client, account) {
            return Verdict::Wait(wait);
        }
        let pair = (network_of(client), self.hasher.hash_one(account));
        let limit = if self.is_trusted(client) { u32::MAX } else { self.policy.together };
        let running = self.under_way.entry(pair).or_default();
        if *running >= limit {
            return Verdict::Wait(self.policy.first_wait);
        }
        *running += 1;
        Verdict::Allowed
    }

    /// An attempt that began is over, however it ended.
    pub fn end(&mut self, client: IpAddr, account: &str) {
        let pair = (network_of(client), self.hasher.hash_one(account));
        if let Some(running) = self.under_way.get_mut(&pair) {
            *running = running.saturating_sub(1);
            if *running == 0 {
                self.under_way.remove(&pair);
            }
        }
    }

    /// An attempt failed.
    pub fn failed(&mut self, now: Instant, client: IpAddr, account: &str) {
        if self.is_trusted(client) {
            return;
        }
        let (network, name) = (network_of(client), self.hasher.hash_one(account));
        let at_account = add(&mut self.accounts, name, now, self.policy.half_life);
        let at_account = at_account.map_or(0.0, |s| s.failures);
        let free = if at_account > self.policy.under_attack { 1.0 } else { self.policy.free_per_account };
        if let Some(score) = add(&mut self.pairs, (network, name), now, self.policy.half_life) {
            score.until = score.until.max(now + wait(&self.policy, score.failures - free));
        }
        if let Some(score) = add(&mut self.networks, network, now, self.policy.half_life) {
            let over = score.failures - self.policy.free_per_network;
            score.until = score.until.max(now + wait(&self.policy, over));
        }
    }

    /// An attempt succeeded: this network knows this account's password. Its other failures stay counted, else a
    /// guesser with an account of his own would clear them at will.
    pub fn succeeded(&mut self, client: IpAddr, account: &str) {
        let pair = (network_of(client), self.hasher.hash_one(account));
        self.pairs.remove(&pair);
    }

    /// Someone who sees more (the directory) said that this client must wait.
    pub fn impose(&mut self, now: Instant, client: IpAddr, account: &str, wait: Duration) {
        if self.is_trusted(client) {
            return;
        }
        let pair = (network_of(client), self.hasher.hash_one(account));
        let until = now + wait.min(self.policy.longest_wait);
        match self.pairs.get_mut(&pair) {
            Some(score) => score.until = score.until.max(until),
            None => self.pairs.insert(pair, Score { failures: 0.0, counted: now, until }),
        }
    }

    fn is_trusted(&self, client: IpAddr) -> bool {
        self.policy.trusted.iter().any(|n| n.contains(client))
    }
}

/// IPv4 addresses by themselves, IPv6 by /64; mapped addresses are IPv4.
fn network_of(client: IpAddr) -> u128 {
    match client.to_canonical() {
        IpAddr::V4(v4) => Ipv6Addr::to_bits(v4.to_ipv6_mapped()),
        IpAddr::V6(v6) => v6.to_bits() & (u128::MAX << 64),
    }
}

fn add<K: std::hash::Hash + Eq + Clone>(
    table: &mut Lru<K, Score>,
    key: K,
    now: Instant,
    half_life: Duration,
) -> Option<&mut Score> {
    if table.get_mut(&key).is_none() {
        table.insert(key.clone(), Score { failures: 0.0, counted: now, until: now });
    }
    let score = table.get_mut(&key)?;
    let halvings =
        now.saturating_duration_since(score.counted).as_secs_f64() / half_life.as_secs_f64().max(1.0);
    score.failures = score.failures * (-halvings).exp2() + 1.0;
    score.counted = now;
    Some(score)
}

/// The wait after `over` failures too many.
fn wait(policy: &ThrottlePolicy, over: f64) -> Duration {
    // Decay leaves fractions; half a failure too many is none.
    if over < 0.5 {
        return Duration::ZERO;
    }
    let doubled = policy.first_wait.as_secs_f64() * (over.round() - 1.0).min(64.0).exp2();
    Duration::try_from_secs_f64(doubled).unwrap_or(policy.longest_wait).min(policy.longest_wait)
}

#[cfg(test)]
mod tests;
