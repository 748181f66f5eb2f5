//! How far each replica of the store has come, by its primary's account.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mailcluster_failover::{
    Position,
    mirror::{ClaimView, Confirmations, InSync, Other, wanted_from},
};
use mailcluster_store::{Claim, Committed, EpochMark, Mirrors, Room, machine};
use mailcluster_types::{Epoch, Seq};
use tokio::{sync::watch, time::Instant};

/// What the senders look out for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct News {
    /// The log reaches to this record.
    pub written: Seq,
    /// Everything up to this record is committed.
    pub commit: Seq,
    /// Nothing more is committed by this replica.
    pub is_over: bool,
}

/// What is known of one mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// What it has synced.
    pub synced: Seq,
    /// What its index had.
    pub applied: Seq,
    /// The latest that it has answered was said then (CLOCK_BOOTTIME). When the answer was read shows nothing: it may have
    /// waited while this process stood still, and another taken the lease.
    pub said_at: u64,
    /// Its index has all that was committed then.
    pub level: Option<Instant>,
}

impl Heard {
    /// Did it follow this primary within that span?
    #[must_use]
    pub fn is_within(&self, span: Duration) -> bool {
        Duration::from_millis(machine::boottime().saturating_sub(self.said_at)) < span
    }
}

/// What a mirror confirms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confirmed {
    /// Everything up to here is synced.
    pub synced: Seq,
    /// Everything up to here is in its index.
    pub applied: Seq,
    /// The latest that it answers was said then.
    pub said_at: u64,
}

/// What the gate asks of a term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Everything up to this record is committed.
    pub commit: Seq,
    /// Members of the effective in-sync set, this replica among them.
    pub effective: usize,
    /// Have all others of that set confirmed something within the span that was asked for?
    pub others_heard: bool,
}

/// For so long the log is kept for a replica that was not heard and does not count: nodes are restarted meanwhile, and
/// versions changed.
const PATIENCE: Duration = Duration::from_secs(3600);

/// How far apart [`State::milestones`] are at least, and how many are kept.
const MILESTONE: Duration = Duration::from_millis(50);
const MILESTONES: usize = 200;

struct State {
    /// The primary's epoch: what mirrors confirm at another does not count.
    epoch: Epoch,
    /// The log's epochs, ascending.
    epochs: Vec<EpochMark>,
    in_sync: InSync,
    /// What is synced here.
    own: Seq,
    /// Where the log ended when the epoch began. Whoever is let in must have all of it: earlier epochs may have acknowledged
    /// any of it, and until this is committed nobody here knows up to where they did.
    began: Seq,
    heard: BTreeMap<String, Heard>,
    commit: Seq,
    /// What was committed at some moments, ascending; the last ones.
    milestones: VecDeque<(Instant, Seq)>,
    /// The oldest record that the committer waits for, and since when.
    waiting: Option<(Seq, Instant)>,
    is_over: bool,
    /// The others that are named; `None`: nobody has said who they are.
    others: Option<BTreeSet<String>>,
    /// Since when mirrors may be heard.
    since: Instant,
    /// Mirrors that are sent snapshots: up to which record, and when they last were.
    copied: BTreeMap<String, (Seq, Instant)>,
}

impl State {
    /// Whoever has everything up to this record has everything that was ever acknowledged.
    fn needed(&self) -> Seq {
        self.commit.max(self.began)
    }

    /// Notes what is committed, now and then.
    fn milestone(&mut self, now: Instant) {
        let is_due = self
            .milestones
            .back()
            .is_none_or(|(at, seq)| *seq < self.commit && now.duration_since(*at) >= MILESTONE);
        if is_due {
            self.milestones.push_back((now, self.commit));
        }
        if self.milestones.len() > MILESTONES {
            self.milestones.pop_front();
        }
    }

    /// The latest moment at which no more was committed than an index with this record has.
    fn level(&self, applied: Seq, now: Instant) -> Option<Instant> {
        if applied >= self.commit {
            return Some(now);
        }
        self.milestones.iter().rev().find(|(_, seq)| *seq <= applied).map(|(at, _)| *at)
    }

    /// What is known of those who may want something of the log; `None`: not who they are.
    fn others(&self, me: &str) -> Option<Vec<Other>> {
        let effective = self.in_sync.effective();
        let named = self.others.as_ref()?.iter().map(String::as_str);
        let all: BTreeSet<&str> = named.chain(effective.iter().copied()).filter(|id| *id != me).collect();
        Some(all.into_iter().map(|id| self.other(id, effective.contains(id))).collect())
    }

    fn other(&self, id: &str, is_in_sync: bool) -> Other {
        let heard = self.heard.get(id);
        let heard = heard.map(|heard| (heard.synced, machine::boottime().saturating_sub(heard.said_at)));
        let copied = self.copied.get(id).map(|(seq, at)| (*seq, millis(at.elapsed())));
        let (has, silent) = match copied.or(heard) {
            Some((seq, silent)) => (Some(seq), silent),
            None => (None, millis(self.since.elapsed())),
        };
        Other { is_in_sync, has, silent }
    }

    fn confirmed(&self) -> Confirmations {
        self.heard.iter().map(|(id, heard)| (id.clone(), heard.synced)).collect()
    }
}

/// One term of a primary: what its committer waits for, and its mirrors confirm.
pub struct Progress {
    me: String,
    state: Mutex<State>,
    news: watch::Sender<News>,
}

/// The log of a replica that has begun an epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    /// Its epochs, the one that was begun the last of them.
    pub epochs: Vec<EpochMark>,
    /// It is synced up to this record.
    pub end: Seq,
    /// Up to this record it is known to be committed.
    pub commit: Seq,
}

impl Progress {
    /// The replica `me` has begun an epoch.
    #[must_use]
    pub fn new(me: String, in_sync: InSync, log: Begun) -> Self {
        let Begun { epochs, end, commit } = log;
        let state = State {
            epoch: epochs.last().map_or(0, |mark| mark.epoch),
            epochs,
            in_sync,
            own: end,
            began: end,
            heard: BTreeMap::new(),
            commit,
            milestones: VecDeque::new(),
            waiting: None,
            is_over: false,
            others: None,
            since: Instant::now(),
            copied: BTreeMap::new(),
        };
        let progress = Self {
            me,
            state: Mutex::new(state),
            news: watch::Sender::new(News { written: end, commit, is_over: false }),
        };
        progress.change(|_| ());
        progress
    }

    /// Which other replicas the store has now; `None`: it has some, and nobody knows which.
    pub fn set_others(&self, others: Option<BTreeSet<String>>) {
        self.lock().others = others;
    }

    /// A mirror is sent a snapshot that ends with this record: what follows is wanted when it is there.
    pub(crate) fn copies(&self, mirror: &str, seq: Seq) {
        self.lock().copied.insert(mirror.to_owned(), (seq, Instant::now()));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is known, then sees what is committed by it.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let answer = change(&mut state);
        // It never falls: what was committed once is in every log that could ever be taken up.
        let own = state.own;
        state.commit = state.commit.max(state.in_sync.commit(&self.me, own, &state.confirmed()));
        let (commit, is_over) = (state.commit, state.is_over);
        state.milestone(Instant::now());
        drop(state);
        self.news.send_if_modified(|news| {
            let is_new = news.commit < commit || news.is_over != is_over;
            news.commit = news.commit.max(commit);
            news.is_over = is_over;
            is_new
        });
        answer
    }

    /// What a mirror has, by the word of a stream of this epoch.
    pub fn confirm(&self, epoch: Epoch, replica: &str, confirmed: Confirmed) {
        self.change(|state| {
            if epoch != state.epoch {
                return;
            }
            let now = Instant::now();
            state.copied.remove(replica);
            let Confirmed { synced, applied, said_at } = confirmed;
            let level = state.level(applied, now);
            let heard = state.heard.entry(replica.to_owned()).or_insert(Heard {
                synced: 0,
                applied: 0,
                said_at: 0,
                level: None,
            });
            heard.synced = heard.synced.max(synced);
            heard.applied = applied;
            heard.said_at = heard.said_at.max(said_at);
            heard.level = heard.level.max(level);
        });
    }

    /// Everything up to `seq` is synced here, by other hands than the committer's.
    pub fn synced(&self, seq: Seq) {
        self.change(|state| state.own = state.own.max(seq));
    }

    /// The primary goes on at a higher epoch: what its mirrors have confirmed so far does not count there.
    pub fn go_above(&self, epoch: Epoch) {
        self.change(|state| {
            state.epoch = epoch;
            state.heard.clear();
            state.since = Instant::now();
        });
    }

    /// Before a swap of the in-sync set is sent. `false`, and nothing is changed, when a new member lacks something that
    /// is committed, or may be: every member has all of it from the moment it counts.
    #[must_use]
    pub fn begin_change(&self, next: BTreeSet<String>) -> bool {
        self.change(|state| {
            let has_all = |id: &String| state.heard.get(id).is_some_and(|h| h.synced >= state.needed());
            let all = next.difference(state.in_sync.members()).all(has_all);
            if all {
                state.in_sync.begin(next);
            }
            all
        })
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

    /// Whoever has everything up to this record has everything that was ever acknowledged. Above [`Self::commit`] only
    /// until the epoch's first record is committed.
    #[must_use]
    pub fn needed(&self) -> Seq {
        self.lock().needed()
    }

    /// The same as [`Self::commit`], with its epoch.
    #[must_use]
    pub fn committed(&self) -> Position {
        let state = self.lock();
        let seq = state.commit;
        let mark = state.epochs.iter().rev().find(|mark| mark.first_seq <= seq);
        Position { epoch: mark.map_or(0, |mark| mark.epoch), seq }
    }

    /// Resolves when everything up to `seq` is committed.
    pub async fn reached(&self, seq: Seq) {
        // The sender lives as long as this.
        let _ = self.news.subscribe().wait_for(|news| news.commit >= seq).await;
    }

    /// The in-sync set.
    #[must_use]
    pub fn in_sync(&self) -> InSync {
        self.lock().in_sync.clone()
    }

    /// What is known of each mirror that has confirmed anything at this epoch.
    #[must_use]
    pub fn heard(&self) -> BTreeMap<String, Heard> {
        self.lock().heard.clone()
    }

    /// What the gate asks; mirrors were heard when they confirmed something within `span`.
    #[must_use]
    pub fn standing(&self, span: Duration) -> Standing {
        let state = self.lock();
        let effective = state.in_sync.effective();
        let recent = |id: &&str| state.heard.get(*id).is_some_and(|heard| heard.is_within(span));
        Standing {
            commit: state.commit,
            effective: effective.len(),
            others_heard: effective.iter().filter(|id| **id != self.me).all(recent),
        }
    }

    /// The oldest record that a client's change waits for, and for how long it has waited.
    #[must_use]
    pub fn waiting(&self) -> Option<(Seq, Duration)> {
        self.lock().waiting.map(|(seq, since)| (seq, since.elapsed()))
    }

    /// The epochs of the log, and its end, as one.
    pub(crate) fn log(&self) -> (Vec<EpochMark>, Seq) {
        let state = self.lock();
        let written = self.news.borrow().written;
        (state.epochs.clone(), written)
    }

    /// This replica.
    pub(crate) fn me(&self) -> &str {
        &self.me
    }

    pub(crate) fn news(&self) -> watch::Receiver<News> {
        self.news.subscribe()
    }
}

impl Mirrors for Progress {
    fn written(&self, (epoch, seq): (Epoch, Seq)) {
        let mut state = self.lock();
        // Only EpochStart goes above the epoch before it, and it is a batch of its own.
        if state.epochs.last().is_none_or(|mark| mark.epoch < epoch) {
            state.epochs.push(EpochMark { epoch, first_seq: seq, forced: false });
        }
        self.news.send_if_modified(|news| {
            let is_new = news.written < seq;
            news.written = news.written.max(seq);
            is_new
        });
    }

    fn until_committed(&self, (_, seq): (Epoch, Seq)) -> Committed<'_> {
        self.change(|state| {
            state.own = state.own.max(seq);
            state.waiting = Some((seq, Instant::now()));
        });
        Box::pin(async move {
            // The sender lives as long as this.
            let _ = self.news.subscribe().wait_for(|news| news.commit >= seq || news.is_over).await;
            let mut state = self.lock();
            state.waiting = None;
            state.commit >= seq
        })
    }

    fn claim(&self, room: Room) -> Claim {
        let state = self.lock();
        let Some(others) = state.others(&self.me) else { return Claim::All };
        if others.is_empty() {
            return Claim::Nothing;
        }
        let wanted = wanted_from(&ClaimView {
            others: &others,
            commit: state.commit,
            patience: millis(PATIENCE),
            is_short: room == Room::Short,
        });
        wanted.map_or(Claim::All, Claim::From)
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread};

    use futures::executor::block_on;

    use super::*;

    fn has(synced: Seq, applied: Seq) -> Confirmed {
        Confirmed { synced, applied, said_at: machine::boottime() }
    }

    fn set(ids: &[&str]) -> BTreeSet<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    fn primary(ids: &[&str]) -> Arc<Progress> {
        let epochs = vec![EpochMark { epoch: 2, first_seq: 4, forced: false }];
        Arc::new(Progress::new("a".into(), InSync::new(set(ids), 1), Begun { epochs, end: 4, commit: 3 }))
    }

    #[test]
    fn a_record_is_committed_when_the_whole_set_has_it() {
        let alone = primary(&["a"]);
        assert_eq!(alone.commit(), 4);
        assert!(block_on(alone.until_committed((2, 5))));
        let both = primary(&["a", "b"]);
        assert_eq!(both.commit(), 3, "b has confirmed nothing at this epoch");
        both.confirm(2, "b", has(4, 3));
        both.confirm(2, "c", has(9, 9));
        assert_eq!(both.commit(), 4);
        both.confirm(2, "b", has(2, 2));
        assert_eq!(both.commit(), 4, "it never falls");
        both.confirm(2, "b", has(9, 4));
        assert_eq!(both.commit(), 4, "nor is it ahead of what is synced here");
    }

    #[test]
    fn while_the_set_changes_both_count() {
        let p = primary(&["a", "b"]);
        assert!(p.begin_change(set(&["a"])));
        assert_eq!(p.commit(), 3, "the swap may not take place");
        p.settled(set(&["a"]));
        assert_eq!(p.commit(), 4);
        assert!(!p.begin_change(set(&["a", "c"])), "it may lack what was acknowledged");
        p.confirm(2, "c", has(4, 3));
        assert!(p.begin_change(set(&["a", "c"])));
        let waiting = thread::spawn({
            let p = p.clone();
            move || block_on(p.until_committed((2, 5)))
        });
        while p.waiting().is_none() {
            thread::yield_now();
        }
        assert_eq!((p.waiting().map(|(seq, _)| seq), p.commit()), (Some(5), 4));
        p.confirm(2, "c", has(5, 4));
        assert!(waiting.join().unwrap());
        assert_eq!(p.waiting(), None);
    }

    #[test]
    fn while_a_primary_settles_nobody_is_let_in_without_all_that_it_found_in_its_log() {
        // Its index ends at 3, and whoever served before may have acknowledged all up to the epoch's first record.
        let p = primary(&["a", "b"]);
        p.confirm(2, "c", has(3, 3));
        assert_eq!((p.commit(), p.needed()), (3, 4));
        assert!(
            !p.begin_change(set(&["a", "b", "c"])),
            "it has what is known to be committed, and not what may be"
        );
        assert!(!p.begin_change(set(&["a", "c"])));
        p.confirm(2, "c", has(4, 3));
        assert!(p.begin_change(set(&["a", "b", "c"])));
    }

    #[test]
    fn what_was_confirmed_at_another_epoch_does_not_count() {
        let p = primary(&["a", "b"]);
        p.written((3, 5));
        p.go_above(3);
        p.confirm(2, "b", has(5, 3));
        assert_eq!(p.commit(), 3, "a stream of the epoch before");
        p.confirm(3, "b", has(5, 3));
        assert_eq!(p.commit(), 4, "synced here");
        assert_eq!(p.log().0.last().map(|mark| (mark.epoch, mark.first_seq)), Some((3, 5)));
    }

    #[test]
    fn the_gate_is_told_who_counts_and_whether_they_were_heard() {
        let p = primary(&["a", "b"]);
        let standing = |others_heard, commit| Standing { commit, effective: 2, others_heard };
        assert_eq!(p.standing(Duration::from_secs(60)), standing(false, 3));
        p.confirm(2, "b", has(4, 2));
        assert_eq!(p.standing(Duration::from_secs(60)), standing(true, 4));
        assert_eq!(p.standing(Duration::ZERO), standing(false, 4));
        assert_eq!(p.heard()["b"].level, None, "its index is behind");
        p.confirm(2, "b", has(4, 4));
        assert!(p.heard()["b"].level.is_some());
    }

    #[test]
    fn an_answer_shows_that_its_mirror_followed_when_that_was_said_and_not_when_it_is_read() {
        let p = primary(&["a", "b"]);
        let now = machine::boottime();
        let old = Confirmed { said_at: now.saturating_sub(30_000), ..has(4, 3) };
        p.confirm(2, "b", old);
        assert_eq!(p.commit(), 4, "what it has, it has");
        assert!(p.standing(Duration::from_secs(60)).others_heard);
        assert!(!p.standing(Duration::from_secs(20)).others_heard);
        p.confirm(2, "b", Confirmed { said_at: now, ..old });
        p.confirm(2, "b", old);
        assert!(p.standing(Duration::from_secs(20)).others_heard, "answers may overtake each other");
    }

    #[test]
    fn an_index_that_is_behind_is_as_old_as_what_it_lacks() {
        let p = primary(&["a", "b"]);
        let started = Instant::now();
        let mut state = p.lock();
        state.milestones.clear();
        let at = |n: u32| started + MILESTONE * n;
        for (moment, commit) in [(0, 10), (1, 20), (2, 20), (3, 30), (4, 40)] {
            state.commit = commit;
            state.milestone(at(moment));
        }
        let now = at(9);
        for (applied, level) in [
            (9, None),
            (10, Some(at(0))),
            (19, Some(at(0))),
            (20, Some(at(1))),
            (39, Some(at(3))),
            (40, Some(now)),
            (41, Some(now)),
        ] {
            assert_eq!(state.level(applied, now), level, "{applied}");
        }
        for n in 0..MILESTONES * 2 {
            state.commit += 1;
            state.milestone(at(10 + u32::try_from(n).unwrap()));
        }
        assert_eq!(state.milestones.len(), MILESTONES);
    }

    #[test]
    fn at_its_end_nobody_waits_and_nothing_is_committed_by_it() {
        let p = primary(&["a", "b"]);
        let waiting = thread::spawn({
            let p = p.clone();
            move || block_on(p.until_committed((2, 5)))
        });
        p.end();
        assert!(!waiting.join().unwrap());
        assert_eq!(p.commit(), 3);
    }
}
