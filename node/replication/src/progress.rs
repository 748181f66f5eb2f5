//! How far each replica of the store has come, by its primary's account.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use mailcluster_failover::mirror::{Confirmations, InSync};
use mailcluster_store::Mirrors;
use mailcluster_types::{Epoch, Seq};
use tokio::sync::watch;

/// What the senders look out for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct News {
    /// The log reaches to this record.
    pub written: Seq,
    /// Everything up to this record is committed.
    pub commit: Seq,
}

/// What is known of one mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// What its index had.
    pub applied: Seq,
    /// When it last confirmed anything.
    pub at: Instant,
}

struct State {
    in_sync: InSync,
    /// What is synced here.
    own: Seq,
    confirmed: Confirmations,
    heard: BTreeMap<String, Heard>,
    commit: Seq,
    /// The oldest record that the committer waits for, and since when.
    waiting: Option<(Seq, Instant)>,
    is_over: bool,
}

/// One term of a primary: what its committer waits for, and its mirrors confirm.
pub struct Progress {
    me: String,
    state: Mutex<State>,
    changed: Condvar,
    news: watch::Sender<News>,
}

impl Progress {
    /// The replica `me` has begun an epoch; its log is synced up to `end`, and `commit` is known to be committed.
    #[must_use]
    pub fn new(me: String, in_sync: InSync, end: Seq, commit: Seq) -> Self {
        let state = State {
            in_sync,
            own: end,
            confirmed: Confirmations::new(),
            heard: BTreeMap::new(),
            commit,
            waiting: None,
            is_over: false,
        };
        let progress = Self {
            me,
            state: Mutex::new(state),
            changed: Condvar::new(),
            news: watch::Sender::new(News { written: end, commit }),
        };
        progress.change(|_| ());
        progress
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is known, then sees what is committed by it.
    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        // It never falls: what was committed once is in every log that could ever be taken up.
        state.commit = state.commit.max(state.in_sync.commit(&self.me, state.own, &state.confirmed));
        let commit = state.commit;
        drop(state);
        self.changed.notify_all();
        self.news.send_if_modified(|news| {
            let is_new = news.commit < commit;
            news.commit = news.commit.max(commit);
            is_new
        });
    }

    /// A mirror has synced everything up to `seq` at this primary's epoch.
    pub fn confirm(&self, replica: &str, seq: Seq, applied: Seq) {
        self.change(|state| {
            let confirmed = state.confirmed.entry(replica.to_owned()).or_default();
            *confirmed = seq.max(*confirmed);
            state.heard.insert(replica.to_owned(), Heard { applied, at: Instant::now() });
        });
    }

    /// Before a swap of the in-sync set is sent.
    pub fn begin_change(&self, next: BTreeSet<String>) {
        self.change(|state| state.in_sync.begin(next));
    }

    /// The in-sync set as it was read back after the swap.
    pub fn settled(&self, read: impl IntoIterator<Item = String>) {
        self.change(|state| state.in_sync.settled(read));
    }

    /// This replica is no longer the primary: nobody waits any more.
    pub fn end(&self) {
        self.change(|state| state.is_over = true);
    }

    /// Everything up to this record is committed.
    #[must_use]
    pub fn commit(&self) -> Seq {
        self.lock().commit
    }

    /// The in-sync set.
    #[must_use]
    pub fn in_sync(&self) -> InSync {
        self.lock().in_sync.clone()
    }

    /// What each mirror has confirmed at this epoch.
    #[must_use]
    pub fn confirmed(&self) -> Confirmations {
        self.lock().confirmed.clone()
    }

    /// What each mirror was last heard to say.
    #[must_use]
    pub fn heard(&self) -> BTreeMap<String, Heard> {
        self.lock().heard.clone()
    }

    /// The oldest record that a client's change waits for, and for how long it has waited.
    #[must_use]
    pub fn waiting(&self) -> Option<(Seq, Duration)> {
        self.lock().waiting.map(|(seq, since)| (seq, since.elapsed()))
    }

    pub(crate) fn news(&self) -> watch::Receiver<News> {
        self.news.subscribe()
    }
}

impl Mirrors for Progress {
    fn written(&self, (_, seq): (Epoch, Seq)) {
        self.news.send_if_modified(|news| {
            let is_new = news.written < seq;
            news.written = news.written.max(seq);
            is_new
        });
    }

    fn wait_committed(&self, (_, seq): (Epoch, Seq)) -> bool {
        self.change(|state| {
            state.own = state.own.max(seq);
            state.waiting = Some((seq, Instant::now()));
        });
        let mut state = self.lock();
        while state.commit < seq && !state.is_over {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting = None;
        state.commit >= seq
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread};

    use super::*;

    fn set(ids: &[&str]) -> BTreeSet<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    fn primary(ids: &[&str]) -> Arc<Progress> {
        Arc::new(Progress::new("a".into(), InSync::new(set(ids), 1), 4, 3))
    }

    #[test]
    fn a_record_is_committed_when_the_whole_set_has_it() {
        let alone = primary(&["a"]);
        assert_eq!(alone.commit(), 4);
        assert!(alone.wait_committed((2, 5)));
        let both = primary(&["a", "b"]);
        assert_eq!(both.commit(), 3, "b has confirmed nothing at this epoch");
        both.confirm("b", 4, 3);
        both.confirm("c", 9, 9);
        assert_eq!(both.commit(), 4);
        both.confirm("b", 2, 2);
        assert_eq!(both.commit(), 4, "it never falls");
        both.confirm("b", 9, 4);
        assert_eq!(both.commit(), 4, "nor is it ahead of what is synced here");
    }

    #[test]
    fn while_the_set_changes_both_count() {
        let p = primary(&["a", "b"]);
        p.begin_change(set(&["a"]));
        assert_eq!(p.commit(), 3, "the swap may not take place");
        p.settled(set(&["a"]));
        assert_eq!(p.commit(), 4);
        p.begin_change(set(&["a", "c"]));
        let waiting = thread::spawn({
            let p = p.clone();
            move || p.wait_committed((2, 5))
        });
        while p.waiting().is_none() {
            thread::yield_now();
        }
        assert_eq!((p.waiting().map(|(seq, _)| seq), p.commit()), (Some(5), 4));
        p.confirm("c", 5, 4);
        assert!(waiting.join().unwrap());
        assert_eq!(p.waiting(), None);
    }

    #[test]
    fn at_its_end_nobody_waits_and_nothing_is_committed_by_it() {
        let p = primary(&["a", "b"]);
        let waiting = thread::spawn({
            let p = p.clone();
            move || p.wait_committed((2, 5))
        });
        p.end();
        assert!(!waiting.join().unwrap());
        assert_eq!(p.commit(), 3);
    }
}
