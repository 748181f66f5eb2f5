//! The replicas' indexes are compared in service, slice by slice.
//!
//! A digest says something only if both sides read the same rows at the same record. The primary looks at its index as it is
//! at some record, and says so on the mirror's stream before anything later is said to be committed; the mirror brings its
//! index up to exactly that record, reads the slice, and goes on. What differs is read once more, at another record, before
//! it is believed.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mailcluster_rpc::mirror::v1::{Compare, Compared, Link as LinkMessage};
use mailcluster_store::{IndexMoment, Link, ReadError, Slice, Sliced, machine};
use mailcluster_types::Seq;
use tokio::{sync::oneshot, time::Instant};

/// Rows in a slice: a millisecond or two on either side.
const ROWS: u32 = 1000;
/// Between two slices: less than a hundredth of a core.
const EVERY: Duration = Duration::from_millis(250);
/// Between two passes over a whole index.
const REST: Duration = Duration::from_secs(3600);

/// A mirror whose index differs from its primary's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The mirror's id.
    pub mirror: String,
    /// The table in which the first difference was found.
    pub table: &'static str,
    /// The record at which it was found.
    pub at: Seq,
}

/// How often indexes are compared, and what has come of it.
pub struct Comparing {
    rows: u32,
    every: Duration,
    rest: Duration,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    differing: BTreeMap<String, (&'static str, Seq)>,
    /// When a whole index was last compared.
    passed: BTreeMap<String, Instant>,
    counts: Compares,
}

/// What was compared so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compares {
    /// Slices.
    pub slices: u64,
    /// Whole indexes.
    pub passes: u64,
    /// How often a mirror's index was found to differ that had not before.
    pub alarms: u64,
}

impl Default for Comparing {
    fn default() -> Self {
        Self::new(ROWS, EVERY, REST)
    }
}

impl Comparing {
    /// So many rows at a time, with these pauses between two slices, and between two passes.
    #[must_use]
    pub fn new(rows: u32, every: Duration, rest: Duration) -> Self {
        Self { rows, every, rest, known: Mutex::default() }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The mirrors whose indexes differ. One is among them until a whole pass has found nothing.
    #[must_use]
    pub fn differing(&self) -> Vec<Difference> {
        let known = self.known();
        let told = |(mirror, (table, at)): (&String, &(&'static str, Seq))| Difference {
            mirror: mirror.clone(),
            table,
            at: *at,
        };
        known.differing.iter().map(told).collect()
    }

    /// What was compared so far.
    #[must_use]
    pub fn counts(&self) -> Compares {
        self.known().counts
    }

    /// Nothing is known of any but these mirrors: others have taken their places, or a new term begins.
    pub fn keep(&self, mirrors: &[String]) {
        let mut known = self.known();
        known.differing.retain(|mirror, _| mirrors.contains(mirror));
        known.passed.retain(|mirror, _| mirrors.contains(mirror));
    }

    fn note(&self, mirror: &str, (at, judged): (Seq, &Judged)) {
        let mut known = self.known();
        known.counts.slices += u64::from(*judged != Judged::Nothing);
        if let Judged::Differs(table) = judged
            && known.differing.insert(mirror.to_owned(), (table, at)).is_none()
        {
            known.counts.alarms += 1;
            tracing::error!(
                mirror,
                table,
                at,
                "the index of this mirror differs from its primary's: one of the two is wrong"
            );
        }
    }

    fn passed(&self, mirror: &str, is_clean: bool) {
        let mut known = self.known();
        known.counts.passes += 1;
        known.passed.insert(mirror.to_owned(), Instant::now());
        if is_clean && known.differing.remove(mirror).is_some() {
            tracing::warn!(mirror, "the index of this mirror is again as its primary's");
        }
    }
}

/// What comes of one slice.
#[derive(Debug, PartialEq, Eq)]
enum Judged {
    Same,
    /// It is read once more.
    Again,
    Differs(&'static str),
    /// One of the two could not read it.
    Nothing,
}

/// One pass over an index.
#[derive(Debug, Default, PartialEq, Eq)]
struct Pass {
    table: u32,
    after: Vec<u8>,
    /// The slice has differed once.
    is_suspect: bool,
    /// Something has differed, or could not be read.
    is_unclean: bool,
}

impl Pass {
    fn judge(&mut self, own: Option<Sliced>, theirs: Option<(u32, u32)>) -> Judged {
        let (Some(own), Some(theirs)) = (own, theirs) else {
            // It is tried again, for as long as the stream lasts.
            self.is_unclean = true;
            return Judged::Nothing;
        };
        let is_same = (own.digest, own.rows) == theirs;
        if !is_same && !self.is_suspect {
            self.is_suspect = true;
            return Judged::Again;
        }
        let name = Slice { table: self.table, ..Slice::default() }.name().unwrap_or_default();
        self.is_suspect = false;
        self.is_unclean |= !is_same;
        self.table += u32::from(own.last.is_none());
        self.after = own.last.unwrap_or_default();
        if is_same { Judged::Same } else { Judged::Differs(name) }
    }

    fn is_over(&self) -> bool {
        Slice { table: self.table, ..Slice::default() }.name().is_none()
    }
}

/// What is on its way: each side is there when it is known.
struct Flight {
    at: Link,
    own: Option<Option<Sliced>>,
    theirs: Option<Option<(u32, u32)>>,
}

struct State {
    pass: Pass,
    flight: Option<Flight>,
    due: Instant,
}

/// The comparison with one mirror, on one stream.
pub(crate) struct Comparison {
    mirror: String,
    shared: Arc<Comparing>,
    /// `None`: the mirror does not know how.
    state: Mutex<Option<State>>,
}

impl Comparison {
    /// With a mirror that makes digests of this version; 0: it makes none.
    pub(crate) fn new(mirror: &str, shared: &Arc<Comparing>, version: u32) -> Self {
        let now = Instant::now();
        let last = shared.known().passed.get(mirror).copied();
        let due = last.map_or(now, |last| last + shared.rest);
        let state = State { pass: Pass::default(), flight: None, due };
        let state = Mutex::new((version == Slice::VERSION).then_some(state));
        Self { mirror: mirror.to_owned(), shared: shared.clone(), state }
    }

    fn state(&self) -> MutexGuard<'_, Option<State>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The slice that is to be compared now.
    pub(crate) fn due(&self) -> Option<Slice> {
        let state = self.state();
        let State { pass, .. } = state.as_ref().filter(|s| s.flight.is_none() && s.due <= Instant::now())?;
        Some(Slice { table: pass.table, after: pass.after.clone(), rows: self.shared.rows })
    }

    /// How long until something is due; not longer than `most`.
    pub(crate) fn pause(&self, most: Duration) -> Duration {
        let state = self.state();
        let idle = state.as_ref().filter(|state| state.flight.is_none());
        idle.map_or(most, |state| state.due.saturating_duration_since(Instant::now()).min(most))
    }

    /// It cannot be done now.
    pub(crate) fn put_off(&self) {
        if let Some(state) = self.state().as_mut() {
            state.due = Instant::now() + self.shared.every;
        }
    }

    /// The mirror is asked for the slice as it is at this moment of the own index, and the own is read beside that.
    pub(crate) fn begin(self: &Arc<Self>, moment: IndexMoment, slice: Slice) -> Compare {
        let at = moment.at();
        if let Some(state) = self.state().as_mut() {
            state.flight = Some(Flight { at, own: None, theirs: None });
        }
        let question = question(at, &slice);
        let this = self.clone();
        tokio::spawn(async move {
            let read = machine::blocking(move || moment.digest(&slice)).await;
            let own = read.map_err(|e| ReadError::Io(e.to_string())).flatten();
            let own = own.inspect_err(|error| tracing::warn!(%error, "the index cannot be compared"));
            this.arrived(|flight| flight.own = Some(own.ok()));
        });
        question
    }

    /// The mirror's answer. What is of another record answers nothing that was asked.
    pub(crate) fn answered(&self, compared: &Compared) {
        let at = compared.at.map(link);
        self.arrived(|flight| {
            if at == Some(flight.at) {
                flight.theirs = Some((!compared.failed).then_some((compared.digest, compared.rows)));
            }
        });
    }

    fn arrived(&self, note: impl FnOnce(&mut Flight)) {
        let mut locked = self.state();
        let Some(State { pass, flight, due }) = locked.as_mut() else { return };
        let Some(under_way) = flight else { return };
        note(under_way);
        let (Some(own), Some(theirs)) = (under_way.own.clone(), under_way.theirs) else { return };
        let at = under_way.at.seq;
        *flight = None;
        *due = Instant::now() + self.shared.every;
        let judged = pass.judge(own, theirs);
        self.shared.note(&self.mirror, (at, &judged));
        if pass.is_over() {
            self.shared.passed(&self.mirror, !pass.is_unclean);
            (*pass, *due) = (Pass::default(), Instant::now() + self.shared.rest);
        }
    }
}

fn question(at: Link, slice: &Slice) -> Compare {
    Compare {
        at: Some(LinkMessage { epoch: at.epoch, seq: at.seq, crc: at.crc }),
        table: slice.table,
        after: slice.after.clone().into(),
        rows: slice.rows,
    }
}

fn link(link: LinkMessage) -> Link {
    Link { epoch: link.epoch, seq: link.seq, crc: link.crc }
}

/// What a mirror is asked.
pub(crate) struct Question {
    /// At which record.
    pub(crate) at: Link,
    slice: Slice,
    answer: oneshot::Sender<Compared>,
}

impl Question {
    /// It, and where the answer will be.
    pub(crate) fn of(compare: &Compare) -> Option<(Self, oneshot::Receiver<Compared>)> {
        let slice = Slice { table: compare.table, after: compare.after.to_vec(), rows: compare.rows };
        let (answer, answered) = oneshot::channel();
        Some((Self { at: link(compare.at?), slice, answer }, answered))
    }

    /// Answers by the index at that moment, if it is the one that was asked for.
    pub(crate) fn answer(self, moment: Result<IndexMoment, ReadError>) {
        let read = moment.and_then(|moment| match moment.at() == self.at {
            true => moment.digest(&self.slice),
            false => Err(ReadError::NotFound),
        });
        match read {
            Ok(Sliced { digest, rows, .. }) => self.say(Compared { digest, rows, ..Compared::default() }),
            Err(error) => {
                tracing::warn!(%error, at = self.at.seq, "the index cannot be compared with the primary's");
                self.refuse();
            }
        }
    }

    /// Nothing can be said.
    pub(crate) fn refuse(self) {
        self.say(Compared { failed: true, ..Compared::default() });
    }

    fn say(self, compared: Compared) {
        let Link { epoch, seq, crc } = self.at;
        // The stream may be over.
        let _ = self.answer.send(Compared { at: Some(LinkMessage { epoch, seq, crc }), ..compared });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sliced(digest: u32, last: Option<u8>) -> Option<Sliced> {
        Some(Sliced { digest, rows: 3, last: last.map(|key| vec![key]) })
    }

    #[test]
    fn a_difference_is_believed_when_it_is_found_twice() {
        let mut pass = Pass::default();
        assert_eq!(pass.judge(sliced(1, Some(7)), Some((1, 3))), Judged::Same);
        assert_eq!((pass.table, &pass.after[..]), (0, &[7][..]));
        assert_eq!(pass.judge(sliced(1, Some(9)), Some((2, 3))), Judged::Again);
        assert_eq!(pass.after, [7], "the same slice");
        assert_eq!(pass.judge(sliced(5, Some(9)), Some((5, 3))), Judged::Same, "it was nothing");
        assert_eq!(pass.judge(sliced(1, None), Some((1, 4))), Judged::Again);
        assert_eq!(pass.judge(sliced(1, None), Some((1, 4))), Judged::Differs("state"));
        assert_eq!((pass.table, pass.after.len(), pass.is_unclean), (1, 0, true));
    }

    #[test]
    fn what_cannot_be_read_says_nothing_and_no_pass_is_clean_with_it() {
        for (own, theirs) in [(None, Some((1, 3))), (sliced(1, None), None), (None, None)] {
            let mut pass = Pass::default();
            assert_eq!(pass.judge(own, theirs), Judged::Nothing);
            assert_eq!(pass, Pass { is_unclean: true, ..Pass::default() });
        }
    }

    #[tokio::test]
    async fn a_mirror_of_another_version_is_asked_for_nothing() {
        let (shared, beat) = (Arc::<Comparing>::default(), Duration::from_secs(2));
        for version in [0, Slice::VERSION + 1] {
            let other = Comparison::new("b", &shared, version);
            assert_eq!((other.due(), other.pause(beat)), (None, beat));
        }
        let same = Comparison::new("b", &shared, Slice::VERSION);
        assert_eq!((same.due().map(|slice| slice.rows), same.pause(beat)), (Some(ROWS), Duration::ZERO));
        same.put_off();
        assert_eq!(same.due(), None);
        shared.passed("b", true);
        assert_eq!(Comparison::new("b", &shared, Slice::VERSION).due(), None, "an hour's rest");
    }

    #[tokio::test]
    async fn an_alarm_stays_until_a_whole_pass_has_found_nothing() {
        let shared = Arc::new(Comparing::default());
        shared.note("b", (5, &Judged::Differs("message")));
        shared.note("b", (6, &Judged::Differs("body")));
        shared.passed("b", false);
        let difference = Difference { mirror: "b".into(), table: "body", at: 6 };
        assert_eq!(shared.differing(), [difference]);
        shared.passed("c", true);
        assert_eq!(shared.differing().len(), 1);
        shared.passed("b", true);
        assert_eq!(shared.differing(), []);
        shared.note("b", (5, &Judged::Differs("message")));
        shared.keep(&["c".into()]);
        assert_eq!(shared.differing(), []);
        assert_eq!(shared.counts(), Compares { slices: 3, passes: 3, alarms: 2 });
    }
}
