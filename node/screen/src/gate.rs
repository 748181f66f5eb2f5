//! What a frontend asks at each connection and login, and what it gathers to report. Shared by its sessions; told the
//! time; bounded; nothing in it waits.

mod pending;

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{Ban, Bounded, Cidr, Kind, Lists, NetworkMap, News, Observation, Reason, Slowed, account_key};
use pending::Pending;

/// Bans and slowed accounts that are held; the judge has fewer.
const MOST: usize = 100_000;
/// Wrong passwords that are known again, as keyed hashes.
const PASSWORDS: usize = 50_000;
/// How long they are.
const KNOWN_AGAIN: Duration = Duration::from_secs(3600);
/// Logins that wait at a time.
const WAITING: usize = 1000;

/// Why a connection is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// For a while.
    Banned(Reason),
    /// An administrator's list says so.
    Blocked,
}

/// May this login be tried?
#[derive(Debug)]
pub enum Verdict {
    /// Yes.
    Allow,
    /// After this time, during which the place is held.
    Delay(Duration, Place),
    /// No; in so much time perhaps.
    Refuse(Duration),
}

/// A place among the logins that wait; given back when dropped.
#[derive(Debug)]
pub struct Place(Arc<Inner>);

/// What was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GateCounts {
    /// Connections refused for a ban.
    pub banned: u64,
    /// Connections refused for the block list.
    pub blocked: u64,
    /// Logins that had to wait.
    pub delayed: u64,
    /// Logins refused for a ban, or as too many wait.
    pub refused_logins: u64,
    /// Observations that found no room in a report.
    pub dropped: u64,
    /// Bans held now.
    pub bans: usize,
    /// Accounts under attack now.
    pub slowed: usize,
}

#[derive(Debug, Default)]
struct Counters {
    banned: AtomicU64,
    blocked: AtomicU64,
    delayed: AtomicU64,
    refused_logins: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    bans: NetworkMap<(Instant, Reason)>,
    slowed: HashMap<String, (Slowed, Instant)>,
    own: NetworkMap<()>,
}

#[derive(Debug)]
struct Inner {
    lists: Lists,
    state: RwLock<State>,
    pending: Mutex<Pending>,
    passwords: Mutex<Bounded<u64, Instant>>,
    hasher: RandomState,
    waiting: AtomicUsize,
    counters: Counters,
}

/// The gate of one frontend. Cheap to clone; the default one is open to all and notes nothing.
#[derive(Debug, Clone, Default)]
pub struct Gate(Option<Arc<Inner>>);

impl Gate {
    /// A gate with these lists, at which nobody is banned yet.
    #[must_use]
    pub fn new(lists: Lists) -> Self {
        Self(Some(Arc::new(Inner {
            lists,
            state: RwLock::default(),
            pending: Mutex::default(),
            passwords: Mutex::new(Bounded::new(PASSWORDS)),
            hasher: RandomState::new(),
            waiting: AtomicUsize::new(0),
            counters: Counters::default(),
        })))
    }

    /// These addresses are the cluster's own and never refused.
    pub fn set_own(&self, own: impl IntoIterator<Item = IpAddr>) {
        let Some(inner) = &self.0 else { return };
        let mut map = NetworkMap::default();
        own.into_iter().for_each(|ip| map.insert(Cidr::address(ip), ()));
        inner.write().own = map;
    }

    /// Whom it never refuses: the cluster's own, and those who are allowed.
    #[must_use]
    pub fn free(&self) -> Vec<Cidr> {
        let Some(inner) = &self.0 else { return Vec::new() };
        let state = inner.read();
        state.own.iter().map(|(own, ())| *own).chain(inner.lists.allowed()).collect()
    }

    /// Is a connection from this address to be refused?
    #[must_use]
    pub fn check(&self, now: Instant, ip: IpAddr) -> Option<Refusal> {
        let inner = self.0.as_ref()?;
        let (refusal, _) = inner.refusal(now, ip)?;
        let counter = match refusal {
            Refusal::Banned(_) => &inner.counters.banned,
            Refusal::Blocked => &inner.counters.blocked,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        Some(refusal)
    }

    /// May this client try to log in as this user now?
    #[must_use]
    pub fn login(&self, now: Instant, ip: IpAddr, user: &str) -> Verdict {
        let Some(inner) = &self.0 else { return Verdict::Allow };
        if let Some((_, remaining)) = inner.refusal(now, ip) {
            inner.counters.refused_logins.fetch_add(1, Ordering::Relaxed);
            return Verdict::Refuse(remaining);
        }
        let Some(wait) = inner.wait(now, ip, &account_key(user)) else { return Verdict::Allow };
        match Place::take(inner) {
            Some(place) => {
                inner.counters.delayed.fetch_add(1, Ordering::Relaxed);
                Verdict::Delay(wait, place)
            }
            None => {
                inner.counters.refused_logins.fetch_add(1, Ordering::Relaxed);
                Verdict::Refuse(wait)
            }
        }
    }

    /// The directory said no to a login.
    pub fn failed(&self, now: Instant, ip: IpAddr, (user, password): (&str, &str)) {
        self.failure(now, ip, (user, password), Kind::Failed);
    }

    /// A login was not looked at, as its client has to wait.
    pub fn throttled(&self, now: Instant, ip: IpAddr, (user, password): (&str, &str)) {
        self.failure(now, ip, (user, password), Kind::Throttled);
    }

    /// A login was right.
    pub fn logged_in(&self, ip: IpAddr, user: &str) {
        self.note(ip, Kind::LoggedIn, account_key(user));
    }

    /// Something else than a login was seen.
    pub fn saw(&self, ip: IpAddr, kind: Kind) {
        self.note(ip, kind, String::new());
    }

    fn failure(&self, now: Instant, ip: IpAddr, (user, password): (&str, &str), kind: Kind) {
        let Some(inner) = &self.0 else { return };
        let account = account_key(user);
        let kind = if inner.is_known_again(now, (ip, &account, password)) { Kind::Repeated } else { kind };
        self.note(ip, kind, account);
    }

    fn note(&self, ip: IpAddr, kind: Kind, account: String) {
        let Some(inner) = &self.0 else { return };
        if inner.is_free(&inner.read(), ip) {
            return;
        }
        inner.pending().add(Cidr::address(ip), kind, account);
    }

    /// What was seen since the last time.
    #[must_use]
    pub fn take(&self) -> Vec<Observation> {
        self.0.as_ref().map(|inner| inner.pending().take()).unwrap_or_default()
    }

    /// Something was decided.
    pub fn heed(&self, now: Instant, news: News) {
        let Some(inner) = &self.0 else { return };
        let mut state = inner.write();
        state.heed(now, news);
    }

    /// All that is decided; what was told before holds no longer.
    pub fn replace(&self, now: Instant, all: Vec<News>) {
        let Some(inner) = &self.0 else { return };
        let mut state = inner.write();
        (state.bans, state.slowed) = (NetworkMap::default(), HashMap::new());
        all.into_iter().for_each(|news| state.heed(now, news));
    }

    /// The bans that hold.
    #[must_use]
    pub fn bans(&self, now: Instant) -> Vec<Ban> {
        let Some(inner) = &self.0 else { return Vec::new() };
        let state = inner.read();
        let bans = state.bans.iter().filter(|(_, (until, _))| *until > now);
        bans.map(|(network, (until, reason))| Ban {
            network: *network,
            remaining: until.saturating_duration_since(now),
            reason: *reason,
        })
        .collect()
    }

    /// What was counted; nothing at a gate that is open to all.
    #[must_use]
    pub fn counts(&self, now: Instant) -> Option<GateCounts> {
        let inner = self.0.as_ref()?;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let state = inner.read();
        Some(GateCounts {
            banned: read(&inner.counters.banned),
            blocked: read(&inner.counters.blocked),
            delayed: read(&inner.counters.delayed),
            refused_logins: read(&inner.counters.refused_logins),
            dropped: inner.pending().dropped(),
            bans: state.bans.iter().filter(|(_, (until, _))| *until > now).count(),
            slowed: state.slowed.values().filter(|(_, until)| *until > now).count(),
        })
    }
}

impl Inner {
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Never refused, whatever was decided?
    fn is_free(&self, state: &State, ip: IpAddr) -> bool {
        self.lists.allows(ip) || state.own.of(ip).next().is_some()
    }

    fn refusal(&self, now: Instant, ip: IpAddr) -> Option<(Refusal, Duration)> {
        let state = self.read();
        if self.is_free(&state, ip) {
            return None;
        }
        if self.lists.blocks(ip) {
            return Some((Refusal::Blocked, Duration::from_secs(86_400)));
        }
        let longest = state.bans.of(ip).filter(|(until, _)| *until > now).max_by_key(|(until, _)| *until);
        longest.map(|(until, reason)| (Refusal::Banned(*reason), until.saturating_duration_since(now)))
    }

    /// How long a login to this account waits.
    fn wait(&self, now: Instant, ip: IpAddr, account: &str) -> Option<Duration> {
        let state = self.read();
        let (slowed, _) = state.slowed.get(account).filter(|(_, until)| *until > now)?;
        let is_good = slowed.good.iter().any(|good| good.contains(ip)) || self.is_free(&state, ip);
        (!is_good).then_some(slowed.delay)
    }

    /// Has this client offered this password for this account within the hour? Only a keyed hash is kept.
    fn is_known_again(&self, now: Instant, attempt: (IpAddr, &str, &str)) -> bool {
        let (ip, account, password) = attempt;
        let hash = self.hasher.hash_one((Cidr::address(ip), account, password));
        let mut passwords = self.passwords.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known =
            passwords.get(&hash).is_some_and(|at| now.saturating_duration_since(*at) < KNOWN_AGAIN);
        // The one offered longest ago makes room.
        passwords.insert(hash, now, |at| -now.saturating_duration_since(*at).as_secs_f64());
        is_known
    }
}

impl State {
    fn heed(&mut self, now: Instant, news: News) {
        match news {
            News::Banned(ban) => {
                if self.bans.len() >= MOST {
                    self.clear_out(now);
                }
                if self.bans.len() < MOST {
                    let until = now.checked_add(ban.remaining).unwrap_or(now);
                    self.bans.insert(ban.network, (until, ban.reason));
                }
            }
            News::Lifted(network) => {
                self.bans.remove(network);
            }
            News::Slowed(slowed) => {
                if self.slowed.len() >= MOST {
                    self.slowed.retain(|_, (_, until)| *until > now);
                }
                if self.slowed.len() < MOST {
                    let until = now.checked_add(slowed.remaining).unwrap_or(now);
                    self.slowed.insert(slowed.account.clone(), (slowed, until));
                }
            }
        }
    }

    fn clear_out(&mut self, now: Instant) {
        let over: Vec<Cidr> =
            self.bans.iter().filter(|(_, (until, _))| *until <= now).map(|(network, _)| *network).collect();
        for network in over {
            self.bans.remove(network);
        }
    }
}

impl Place {
    fn take(inner: &Arc<Inner>) -> Option<Self> {
        let more = |waiting: usize| (waiting < WAITING).then_some(waiting + 1);
        inner.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Self(Arc::clone(inner)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
