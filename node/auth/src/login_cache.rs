//! Logins that were verified, so that a client that comes back every minute costs no Argon2, and logs in while the
//! directory is away. What is kept is a keyed digest: useless without the process's random key.

use std::time::{Duration, Instant};

use mailcluster_types::{AccountId, ResolvedAccount};
use ring::hmac;
use subtle::ConstantTimeEq;

use crate::Lru;

/// Bounds of a [`LoginCache`].
#[derive(Debug, Clone, Copy)]
pub struct LoginCacheConfig {
    /// Most users.
    pub capacity: usize,
    /// How long a login is believed without asking again; at most an hour is taken.
    pub ttl: Duration,
}

impl Default for LoginCacheConfig {
    fn default() -> Self {
        Self { capacity: 100_000, ttl: MAX_TTL }
    }
}

const MAX_TTL: Duration = Duration::from_secs(3600);

/// What the cache knows of a login attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheAnswer {
    /// This user with this password was verified within the time to live.
    Verified {
        /// The account.
        account: ResolvedAccount,
        /// When it was verified.
        at: Instant,
    },
    /// Another password of this user was verified: this one may be new or wrong. Never a rejection by itself.
    OtherPassword,
    /// Nothing is known.
    Unknown,
}

struct Entry {
    digest: [u8; 32],
    generation: u64,
    account: ResolvedAccount,
    verified: Instant,
}

/// A bounded cache of verified logins.
pub struct LoginCache {
    key: hmac::Key,
    entries: Lru<String, Entry>,
    ttl: Duration,
}

impl LoginCache {
    /// An empty cache under a fresh random key.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn new(config: LoginCacheConfig) -> std::io::Result<Self> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(std::io::Error::from)?;
        Ok(Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &secret),
            entries: Lru::new(config.capacity),
            ttl: config.ttl.min(MAX_TTL),
        })
    }

    /// What is known of `user` (an address key) with `password`?
    pub fn check(&mut self, now: Instant, user: &str, password: &str) -> CacheAnswer {
        let Some(entry) = self.entries.get_mut(user) else { return CacheAnswer::Unknown };
        if now.saturating_duration_since(entry.verified) >= self.ttl {
            self.entries.remove(user);
            return CacheAnswer::Unknown;
        }
        let offered = digest(&self.key, user, password, entry.generation);
        if offered.ct_eq(&entry.digest).into() {
            CacheAnswer::Verified { account: entry.account.clone(), at: entry.verified }
        } else {
            CacheAnswer::OtherPassword
        }
    }

    /// A login was verified by the directory, against this generation of the account.
    pub fn verified(
        &mut self,
        now: Instant,
        user: &str,
        password: &str,
        generation: u64,
        account: ResolvedAccount,
    ) {
        let digest = digest(&self.key, user, password, generation);
        self.entries.insert(user.to_owned(), Entry { digest, generation, account, verified: now });
    }

    /// The directory said no: what was believed of this user with this password is no longer.
    pub fn rejected(&mut self, now: Instant, user: &str, password: &str) {
        if matches!(self.check(now, user, password), CacheAnswer::Verified { .. }) {
            self.entries.remove(user);
        }
    }

    /// These accounts changed.
    pub fn forget(&mut self, changed: impl Fn(AccountId) -> bool) {
        self.entries.retain(|_, entry| !changed(entry.account.id));
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.entries.clear();
    }
}

/// Lengths stand before the parts, so that no two attempts run into one.
fn digest(key: &hmac::Key, user: &str, password: &str, generation: u64) -> [u8; 32] {
    let mut context = hmac::Context::with_key(key);
    for part in [user.as_bytes(), password.as_bytes(), &generation.to_be_bytes()] {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let tag = context.sign();
    let mut out = [0; 32];
    out.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
    out
}

#[cfg(test)]
mod tests {
    use mailcluster_types::{AccountStatus, StoreName};

    use super::*;

    fn account(id: u128) -> ResolvedAccount {
        ResolvedAccount {
            id: AccountId(id),
            address: "a@b.c".parse().unwrap(),
            store: StoreName::from("s-0"),
            status: AccountStatus::Active,
        }
    }

    #[test]
    fn a_verified_login_is_believed_for_its_time_and_no_other() {
        let mut cache = LoginCache::new(LoginCacheConfig::default()).unwrap();
        let t0 = Instant::now();
        assert_eq!(cache.check(t0, "a@b.c", "pw"), CacheAnswer::Unknown);
        cache.verified(t0, "a@b.c", "pw", 3, account(1));
        let later = |s| t0 + Duration::from_secs(s);
        assert_eq!(
            cache.check(later(3599), "a@b.c", "pw"),
            CacheAnswer::Verified { account: account(1), at: t0 }
        );
        assert_eq!(cache.check(later(1), "a@b.c", "pw2"), CacheAnswer::OtherPassword);
        assert_eq!(cache.check(later(1), "A@b.c", "pw"), CacheAnswer::Unknown);
        assert_eq!(cache.check(later(3600), "a@b.c", "pw"), CacheAnswer::Unknown);
    }

    #[test]
    fn changes_and_rejections_end_belief() {
        let mut cache = LoginCache::new(LoginCacheConfig { capacity: 2, ttl: MAX_TTL * 9 }).unwrap();
        let t0 = Instant::now();
        for (user, id) in [("a@b.c", 1), ("b@b.c", 2)] {
            cache.verified(t0, user, "pw", 1, account(id));
        }
        cache.forget(|id| id == AccountId(1));
        assert_eq!(cache.check(t0, "a@b.c", "pw"), CacheAnswer::Unknown);
        cache.rejected(t0, "b@b.c", "other");
        assert_eq!(cache.check(t0, "b@b.c", "pw"), CacheAnswer::Verified { account: account(2), at: t0 });
        cache.rejected(t0, "b@b.c", "pw");
        assert_eq!(cache.check(t0, "b@b.c", "pw"), CacheAnswer::Unknown);
        for user in ["a", "b", "c"] {
            cache.verified(t0, user, "pw", 1, account(1));
        }
        assert_eq!(cache.entries.len(), 2);
        assert_eq!(cache.check(t0 + MAX_TTL, "c", "pw"), CacheAnswer::Unknown, "an hour at most");
    }
}
