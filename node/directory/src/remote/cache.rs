//! What a frontend remembers of the directory: a state machine that is told the time.
//!
//! An answer is *fresh* when the directory would give the same one now: it was learnt while the stream of
//! invalidations ran, and that has run ever since. What is not fresh is asked for again; when nobody answers,
//! accounts that were known go on being known, but a "no" (no such mailbox, not our domain) counts for no longer than
//! its half minute.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use mailcluster_auth::Lru;
use mailcluster_types::{AccountId, Resolution, ResolvedAccount};

use crate::names;

/// A "no" counts this long; so does any answer while no invalidations come.
const SHORT: Duration = Duration::from_secs(30);
/// A "yes" is asked again after this long even so.
const LONG: Duration = Duration::from_secs(600);

/// What became different.
#[derive(Debug, Clone, Default)]
pub(super) struct Changed {
    pub(super) addresses: HashSet<String>,
    pub(super) accounts: HashSet<AccountId>,
    pub(super) domains: HashSet<String>,
}

/// What the cache can say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found<T> {
    /// True now.
    Fresh(T),
    /// Was true when last heard; for when nobody can be asked.
    LastKnown(T),
    /// Nothing to go by.
    Unknown,
}

/// A question that is under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asking {
    /// When it was asked.
    pub(super) at: Instant,
    told: u64,
    run: u64,
}

struct Entry {
    resolution: Resolution,
    learnt: Instant,
    /// The uninterrupted run of invalidations it was learnt in.
    run: u64,
}

/// Bounded memory of resolutions.
pub(super) struct ResolveCache {
    entries: Lru<String, Entry>,
    capacity: usize,
    /// Rises when invalidations may have been missed.
    run: u64,
    /// Do invalidations come now?
    watching: bool,
    /// When this run began; answers and logins older than it are not fresh.
    since: Option<Instant>,
    /// Rises with every invalidation: an answer that was under way meanwhile is not kept.
    told: u64,
}

impl ResolveCache {
    pub(super) fn new(capacity: usize) -> Self {
        Self { entries: Lru::new(capacity), capacity, run: 0, watching: false, since: None, told: 0 }
    }

    /// Handed back with the answer, so that one older than an invalidation is not kept.
    pub(super) fn asking(&self, now: Instant) -> Asking {
        Asking { at: now, told: self.told, run: self.run }
    }

    /// Did nothing change since the question?
    pub(super) fn still_holds(&self, asked: Asking) -> bool {
        asked.told == self.told
    }

    pub(super) fn find(&mut self, now: Instant, key: &str) -> Found<Resolution> {
        let (run, watching) = (self.run, self.watching);
        let Some(entry) = self.entries.get_mut(key) else { return Found::Unknown };
        let age = now.saturating_duration_since(entry.learnt);
        let is_yes = matches!(entry.resolution, Resolution::Accounts(_));
        let limit = if is_yes && watching && entry.run == run { LONG } else { SHORT };
        // Invalidations of a run that ended were missed, so a "yes" of it is asked again at once when they come
        // again; while they don't come, half a minute's lag is borne rather than a question for each mail.
        let is_current = entry.run == run || !watching;
        if age < limit && is_current {
            Found::Fresh(entry.resolution.clone())
        } else if is_yes {
            Found::LastKnown(entry.resolution.clone())
        } else {
            Found::Unknown
        }
    }

    /// An answer counts from its question on: when invalidations began in between, it is last known, not fresh.
    pub(super) fn learn(&mut self, asked: Asking, key: String, resolution: Resolution) {
        if self.still_holds(asked) {
            self.entries.insert(key, Entry { resolution, learnt: asked.at, run: asked.run });
        }
    }

    /// Keeps what was asked for before anyone needs it; nothing goes for it, so there must be room.
    pub(super) fn learn_ahead(&mut self, asked: Asking, known: Vec<(String, Vec<ResolvedAccount>)>) {
        for (key, accounts) in known {
            if !self.has_room() {
                return;
            }
            self.learn(asked, key, Resolution::Accounts(accounts));
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn has_room(&self) -> bool {
        self.entries.len() < self.capacity
    }

    /// The run of invalidations that goes on, or was the last.
    pub(super) fn run(&self) -> u64 {
        self.run
    }

    /// Invalidations come. `missed`: some may not have come since they last did.
    pub(super) fn watch_began(&mut self, now: Instant, missed: bool) {
        if missed || self.since.is_none() {
            self.run += 1;
            self.since = Some(now);
        }
        self.watching = true;
    }

    pub(super) fn watch_ended(&mut self) {
        self.watching = false;
    }

    /// Is something learnt at `at` still what the directory would say?
    pub(super) fn is_fresh_since(&self, at: Instant) -> bool {
        self.watching && self.since.is_some_and(|since| at >= since)
    }

    pub(super) fn forget(&mut self, changed: &Changed) {
        self.told += 1;
        self.entries.retain(|key, entry| !touches(changed, key, &entry.resolution));
    }
}

fn touches(changed: &Changed, key: &str, resolution: &Resolution) -> bool {
    let accounts = match resolution {
        Resolution::Accounts(accounts) => accounts.as_slice(),
        Resolution::NoSuchMailbox | Resolution::NotLocal => &[],
    };
    changed.addresses.contains(key)
        || names::without_tag(key).is_some_and(|user| changed.addresses.contains(&user))
        || changed.domains.contains(names::domain_of(key))
        || accounts.iter().any(|a| changed.accounts.contains(&a.id))
}

#[cfg(test)]
mod tests {
    use mailcluster_types::{AccountStatus, ResolvedAccount};

    use super::*;

    fn yes(id: u128) -> Resolution {
        Resolution::Accounts(vec![ResolvedAccount {
            id: AccountId(id),
            address: "a@b.c".parse().unwrap(),
            store: "s-0".into(),
            status: AccountStatus::Active,
        }])
    }

    fn after(t0: Instant, seconds: u64) -> Instant {
        t0 + Duration::from_secs(seconds)
    }

    fn learnt(t0: Instant, resolution: Resolution) -> ResolveCache {
        let mut cache = ResolveCache::new(10);
        cache.watch_began(t0, true);
        cache.learn(cache.asking(t0), "a@b.c".into(), resolution);
        cache
    }

    #[test]
    fn a_yes_lasts_while_invalidations_come_and_is_last_known_after() {
        let t0 = Instant::now();
        let mut cache = learnt(t0, yes(1));
        assert_eq!(cache.find(after(t0, 599), "a@b.c"), Found::Fresh(yes(1)));
        assert_eq!(cache.find(after(t0, 600), "a@b.c"), Found::LastKnown(yes(1)));
        cache.watch_ended();
        assert_eq!(cache.find(after(t0, 29), "a@b.c"), Found::Fresh(yes(1)));
        assert_eq!(cache.find(after(t0, 30), "a@b.c"), Found::LastKnown(yes(1)));
        assert_eq!(cache.find(after(t0, 9_999_999), "a@b.c"), Found::LastKnown(yes(1)));
        assert_eq!(cache.find(t0, "b@b.c"), Found::Unknown);
    }

    #[test]
    fn a_no_is_never_believed_for_long() {
        let t0 = Instant::now();
        for no in [Resolution::NoSuchMailbox, Resolution::NotLocal] {
            let mut cache = learnt(t0, no.clone());
            assert_eq!(cache.find(after(t0, 29), "a@b.c"), Found::Fresh(no));
            assert_eq!(cache.find(after(t0, 30), "a@b.c"), Found::Unknown);
        }
    }

    #[test]
    fn changes_are_forgotten_by_address_tag_domain_and_account() {
        let t0 = Instant::now();
        let set = |text: &str| HashSet::from([text.to_owned()]);
        for changed in [
            Changed { addresses: set("a+tag@b.c"), ..Changed::default() },
            Changed { addresses: set("a@b.c"), ..Changed::default() },
            Changed { domains: set("b.c"), ..Changed::default() },
            Changed { accounts: HashSet::from([AccountId(1)]), ..Changed::default() },
        ] {
            let mut cache = learnt(t0, yes(1));
            cache.learn(cache.asking(t0), "a+tag@b.c".into(), yes(1));
            cache.learn(cache.asking(t0), "z@y.x".into(), yes(2));
            cache.forget(&changed);
            assert_eq!(cache.find(t0, "a+tag@b.c"), Found::Unknown, "{changed:?}");
            assert_eq!(cache.find(t0, "z@y.x"), Found::Fresh(yes(2)));
        }
    }

    #[test]
    fn an_answer_overtaken_by_a_change_is_not_kept() {
        let t0 = Instant::now();
        let mut cache = learnt(t0, yes(1));
        let asked = cache.asking(t0);
        cache.forget(&Changed::default());
        cache.learn(asked, "late@b.c".into(), yes(3));
        assert_eq!(cache.find(t0, "late@b.c"), Found::Unknown);
        let asked = cache.asking(t0);
        cache.watch_began(after(t0, 1), true);
        cache.learn(asked, "late@b.c".into(), yes(3));
        assert_eq!(
            cache.find(after(t0, 1), "late@b.c"),
            Found::LastKnown(yes(3)),
            "changes may have been missed"
        );
    }

    #[test]
    fn what_is_learnt_ahead_takes_nobodys_place() {
        let t0 = Instant::now();
        let accounts = || match yes(2) {
            Resolution::Accounts(accounts) => accounts,
            no => panic!("{no:?}"),
        };
        let page = || (0..20).map(|i| (format!("{i}@b.c"), accounts())).collect::<Vec<_>>();
        let mut cache = learnt(t0, yes(1));
        cache.learn_ahead(cache.asking(t0), page());
        assert!(!cache.has_room());
        assert_eq!(cache.find(t0, "a@b.c"), Found::Fresh(yes(1)));
        assert_eq!(cache.find(t0, "8@b.c"), Found::Fresh(yes(2)));
        assert_eq!(cache.find(t0, "9@b.c"), Found::Unknown);
        let mut cache = learnt(t0, yes(1));
        let asked = cache.asking(t0);
        cache.forget(&Changed { addresses: HashSet::from(["1@b.c".to_owned()]), ..Changed::default() });
        cache.learn_ahead(asked, page());
        assert_eq!(cache.find(t0, "1@b.c"), Found::Unknown, "a change was told meanwhile");
    }

    #[test]
    fn a_gap_in_the_invalidations_makes_everything_last_known() {
        let t0 = Instant::now();
        let mut cache = learnt(t0, yes(1));
        cache.watch_ended();
        cache.watch_began(after(t0, 2), false);
        assert_eq!(cache.find(after(t0, 100), "a@b.c"), Found::Fresh(yes(1)), "nothing was missed");
        assert!(cache.is_fresh_since(t0));
        cache.watch_ended();
        assert!(!cache.is_fresh_since(t0));
        cache.watch_began(after(t0, 3), true);
        assert_eq!(cache.find(after(t0, 4), "a@b.c"), Found::LastKnown(yes(1)));
        assert!(!cache.is_fresh_since(t0) && cache.is_fresh_since(after(t0, 3)));
    }
}
