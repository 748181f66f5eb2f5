//! Two replicas of a store: one copies the other's log, and takes over from it.

use std::{
    path::Path,
    slice::from_ref,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use mailcluster_types::{Epoch, ReplicaId, Seq};

use super::{
    rows::rows,
    support::{account, deliver, delivery, identity, mailbox, sound, target},
};
use crate::{
    Claim, Committed, FollowError, Follower, Identity, LogReader, LoggedBatch, Mirrors, OpenGate, Replica,
    Room, Store, WriteError,
    engine::Options,
    schema,
    testing::{Fault, Setup},
};

const BOTH: &[ReplicaId] = &[ReplicaId(9), ReplicaId(10)];

pub(super) fn other() -> Identity {
    Identity { replica: ReplicaId(10), ..identity() }
}

fn small() -> Setup {
    Setup { segment_size: Some(16 << 10), ..Setup::default() }
}

/// Confirms until it is told to stop.
#[derive(Default)]
struct Confirms {
    stopped: AtomicBool,
}

impl Mirrors for Confirms {
    fn written(&self, _: (Epoch, Seq)) {}

    fn until_committed(&self, _: (Epoch, Seq)) -> Committed<'_> {
        Box::pin(std::future::ready(!self.stopped.load(Ordering::Relaxed)))
    }

    fn claim(&self, _: Room) -> Claim {
        Claim::All
    }
}

/// A new replica.
pub(super) fn fresh(dir: &Path, identity: &Identity) -> Follower {
    Follower::new(small().initialise(dir, identity).unwrap()).unwrap()
}

/// One that was here before.
fn opened(dir: &Path, identity: &Identity) -> Follower {
    Follower::new(small().open(dir, identity).unwrap()).unwrap()
}

/// A primary of two, and who says whether its mirror confirms.
fn primary(dir: &Path) -> (Store, Arc<Confirms>) {
    let mut first = fresh(dir, &identity());
    let confirms = Arc::new(Confirms::default());
    first.tell(confirms.clone());
    let (epoch, end) = first.begin(1, BOTH).unwrap();
    assert_eq!((epoch, end), (1, 1));
    first.advance(end).unwrap();
    (first.into_replica().go_on(Arc::new(OpenGate)).unwrap(), confirms)
}

pub(super) fn copy(reader: &mut LogReader, to: &mut Follower, end: Seq) {
    while let Some(batch) = reader.next(end).unwrap() {
        to.append(2, from_ref(&batch)).unwrap();
        // As with a stream: what comes before a batch is committed when it is sent.
        to.advance(batch.prev.seq).unwrap();
    }
}

/// All rows, but for what is a replica's own: its id, and where in its segments things lie.
fn content(dir: &Path) -> Vec<String> {
    rows(dir, &["replica", "segment", "offset", "start", "end"])
}

/// Does something of each kind that carries bodies or counters.
pub(super) async fn work(store: &Store) {
    for n in 1..=2 {
        store.put_account(account(n)).await.unwrap().acknowledge().unwrap();
    }
    for n in 0..40 {
        deliver(store, 1 + n % 2, &"x".repeat(usize::try_from(n).unwrap() * 97)).await;
    }
    let inbox = mailbox(store, 1, "INBOX").await;
    let trash = mailbox(store, 1, "Trash").await;
    store.copy(inbox.id, vec![1, 2], trash.id, crate::CopyKind::Move).await.unwrap().acknowledge().unwrap();
}

/// A primary that has done that; its last record, and its log.
async fn worked(dir: &Path) -> (Store, Seq, Vec<LoggedBatch>) {
    let (store, _) = primary(dir);
    work(&store).await;
    let (_, end) = store.committed();
    let mut reader = LogReader::after(dir, identity(), 0).unwrap();
    let batches = std::iter::from_fn(|| reader.next(end).unwrap()).collect();
    (store, end, batches)
}

#[tokio::test]
async fn a_copied_log_gives_the_same_index_however_often_the_mirror_is_opened_anew() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (store, _) = primary(one.path());
    work(&store).await;
    let (_, end) = store.committed();
    drop(small().initialise(two.path(), &other()).unwrap());
    for upto in [7, 8, 20, end] {
        let mut mirror = opened(two.path(), &other());
        let at = mirror.end();
        let mut reader = LogReader::after(one.path(), identity(), at.seq).unwrap();
        while mirror.end().seq < upto {
            let Some(batch) = reader.next(end).unwrap() else { break };
            mirror.append(1, from_ref(&batch)).unwrap();
        }
        mirror.advance(upto.min(end - 1)).unwrap();
        assert!(mirror.applied().1 < end, "the last batch is not known to be committed");
    }
    let mut mirror = opened(two.path(), &other());
    assert_eq!(mirror.end().seq, end);
    assert!(mirror.applied().1 < end, "opening applies nothing that is not known to be committed");
    mirror.advance(end).unwrap();
    assert_eq!(mirror.epochs().unwrap().len(), 1);
    drop(store.stop().await);
    assert!(content(two.path()) == content(one.path()), "the indexes differ");
    assert_eq!(mirror.into_replica().view().verify().unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn what_no_mirror_confirmed_is_seen_by_nobody_and_can_be_cut_off() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (store, confirms) = primary(one.path());
    work(&store).await;
    let (_, committed) = store.committed();
    let mut mirror = fresh(two.path(), &other());
    copy(&mut LogReader::after(one.path(), identity(), 0).unwrap(), &mut mirror, committed);

    confirms.stopped.store(true, Ordering::Relaxed);
    let before = content(one.path());
    let lost = store.deliver(delivery(vec![target(1)], "seen by nobody")).await;
    assert_eq!(lost.err(), Some(WriteError::Unknown), "it may stay or go");
    assert!(!store.may_read());
    let old = store.stop().await.unwrap();
    assert!(content(one.path()) == before, "the indexes differ");
    assert_eq!(old.describe().end, (1, committed + 1));
    drop(old);

    // The mirror takes over without it.
    mirror.promise(2).unwrap();
    let (_, start) = mirror.begin(2, &[ReplicaId(10)]).unwrap();
    mirror.advance(start).unwrap();
    let new = mirror.into_replica().go_on(Arc::new(OpenGate)).unwrap();
    deliver(&new, 1, "of the new primary").await;
    let (_, end) = new.committed();

    // The old one comes back, opened twice, with what it has; it cuts that off and follows.
    drop(small().open(one.path(), &identity()).unwrap());
    let mut old = opened(one.path(), &identity());
    assert_eq!(old.end().seq, committed + 1);
    assert!(content(one.path()) == before, "opening it shows nothing of it");
    let mut reader = LogReader::after(two.path(), other(), committed).unwrap();
    let first = reader.next(end).unwrap().unwrap();
    assert_eq!(old.append(2, from_ref(&first)), Err(FollowError::Gap));
    assert!(matches!(old.cut(committed - 1), Err(FollowError::Committed { .. })));
    old.cut(committed).unwrap();
    old.append(2, from_ref(&first)).unwrap();
    copy(&mut reader, &mut old, end);
    old.advance(end).unwrap();
    sound(&new).await;
    drop(new.stop().await);
    assert!(content(one.path()) == content(two.path()), "the indexes differ");
}

#[tokio::test]
async fn a_mirror_takes_nothing_that_is_damaged_out_of_order_or_below_its_promise() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (_store, _, batches) = worked(one.path()).await;
    let mut mirror = fresh(two.path(), &other());
    assert_eq!(mirror.append(1, from_ref(&batches[1])), Err(FollowError::Gap));
    mirror.append(1, from_ref(&batches[0])).unwrap();
    let mut flipped = batches[1].clone();
    let mut payload = flipped.payload.to_vec();
    payload[0] ^= 1;
    flipped.payload = payload.into();
    // A batch names its predecessor by content: whoever follows the flipped one is told apart.
    let three = tempfile::tempdir().unwrap();
    let mut forked = fresh(three.path(), &other());
    forked.append(1, from_ref(&batches[0])).unwrap();
    let _ = forked.append(1, from_ref(&flipped));
    assert_eq!(forked.append(1, from_ref(&batches[2])), Err(FollowError::Gap));
    for broken in [
        LoggedBatch { count: 0, ..batches[1].clone() },
        LoggedBatch { epoch: 0, ..batches[1].clone() },
        LoggedBatch { seq: u64::MAX, ..batches[1].clone() },
    ] {
        assert!(mirror.append(1, from_ref(&broken)).is_err());
    }
    mirror.append(1, from_ref(&batches[1])).unwrap();
    mirror.promise(2).unwrap();
    assert_eq!(
        mirror.append(1, from_ref(&batches[2])),
        Err(FollowError::Promised(2)),
        "another was promised"
    );
    mirror.append(2, from_ref(&batches[2])).unwrap();
    let ahead = LoggedBatch { epoch: 3, ..batches[3].clone() };
    assert_eq!(
        mirror.append(2, from_ref(&ahead)),
        Err(FollowError::Gap),
        "no primary has what a later one writes"
    );
    assert_eq!(mirror.begin(1, BOTH).err(), Some(FollowError::Promised(2)));
}

#[tokio::test]
async fn batches_that_come_together_are_synced_as_one_and_what_finds_no_room_comes_again() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (store, end, batches) = worked(one.path()).await;
    let setup = small();
    let mut mirror = Follower::new(setup.initialise(two.path(), &other()).unwrap()).unwrap();
    let out_of_order = [batches[0].clone(), batches[2].clone()];
    assert_eq!(mirror.append(1, &out_of_order), Err(FollowError::Gap));
    assert_eq!(mirror.end().seq, 0, "nothing of them");
    let (third, last) = (batches.len() / 3, batches.len() - 1);
    for (fault, upto) in [(Fault::ShortNoSpace, 0), (Fault::SecondShortNoSpace, 1)] {
        setup.recorder.fail(Some(fault));
        assert_eq!(mirror.append(1, &batches[..third]), Err(FollowError::Full), "{fault:?}");
        assert_eq!(mirror.end().seq, batches[..upto].last().map_or(0, |b| b.prev.seq + u64::from(b.count)));
        assert_eq!(setup.recorder.unsynced(), 0, "what it says that it has is synced");
    }
    let before = setup.recorder.syncs();
    mirror.append(1, &batches[1..third]).unwrap();
    assert_eq!(setup.recorder.syncs(), before + 1);
    mirror.advance(batches[third - 1].prev.seq).unwrap();
    drop(mirror);
    let mut mirror = Follower::new(setup.open(two.path(), &other()).unwrap()).unwrap();
    mirror.append(1, &batches[third..]).unwrap();
    mirror.advance(end).unwrap();
    assert_eq!(mirror.applied().1, batches[last].prev.seq + u64::from(batches[last].count));
    drop((mirror, store.stop().await));
    assert!(content(one.path()) == content(two.path()), "the indexes differ");
}

#[tokio::test]
async fn what_was_written_together_and_never_synced_is_no_damage() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (store, _, batches) = worked(one.path()).await;
    let mut mirror = fresh(two.path(), &other());
    let (whole, together) = (&batches[..20], &batches[20..23]);
    mirror.append(1, whole).unwrap();
    mirror.advance(batches[20].prev.seq).unwrap();
    mirror.append(1, together).unwrap();
    drop(mirror);
    // The second of the three is not what it was, as when a sync failed: nobody was told that it is there.
    let name = super::newest_segment(two.path());
    let mut octets = std::fs::read(&name).unwrap();
    let text = &together[1].payload[..];
    let at = octets.windows(text.len()).position(|window| window == text).unwrap();
    octets[at] ^= 1;
    std::fs::write(&name, octets).unwrap();
    std::fs::write(two.path().join("index.sqlite"), "of no use").unwrap();
    let mirror = opened(two.path(), &other());
    assert_eq!(mirror.end().seq, together[1].prev.seq, "the index is made anew, and the rest comes again");
    drop((mirror, store.stop().await));
}

#[tokio::test]
async fn a_single_copy_applies_all_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let replica = Replica::initialise_with(dir.path(), &identity(), &Options::default()).unwrap();
    let store = replica.serve(1, &[ReplicaId(9)], Arc::new(OpenGate)).unwrap();
    work(&store).await;
    let grown = content(dir.path());
    drop(store.stop().await);
    schema::remove(dir.path()).unwrap();
    let follower = Follower::new(Replica::open(dir.path(), &identity()).unwrap()).unwrap();
    assert_eq!(follower.applied().1, follower.end().seq);
    assert!(content(dir.path()) == grown, "the indexes differ");
}

#[tokio::test]
async fn a_mirror_takes_more_while_its_index_is_brought_up() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (_store, end, batches) = worked(one.path()).await;
    let mut mirror = fresh(two.path(), &other());
    let (first, rest) = batches.split_at(batches.len() / 2);
    mirror.append(2, first).unwrap();
    let half = first.last().unwrap();
    let half = half.seq + u64::from(half.count) - 1;
    assert!(mirror.is_whole() && mirror.begin_advance(0).unwrap().is_none());

    let work = mirror.begin_advance(half).unwrap().unwrap();
    assert!(!mirror.is_whole() && mirror.begin_advance(end).unwrap().is_none(), "one at a time");
    for batch in rest {
        mirror.append(2, from_ref(batch)).unwrap();
    }
    assert_eq!((mirror.end().seq, mirror.applied().1), (end, 0));
    // What is being applied is committed.
    let cut = mirror.cut(half - 1).unwrap_err();
    assert!(matches!(cut, FollowError::Committed { applied, .. } if applied == half), "{cut:?}");
    let done = std::thread::spawn(move || work.run()).join().unwrap();
    mirror.end_advance(done).unwrap();
    assert_eq!((mirror.is_whole(), mirror.applied().1), (true, half));

    mirror.advance(end).unwrap();
    assert_eq!(mirror.applied().1, end);
    drop(mirror.into_replica());
    assert_eq!(content(one.path()), content(two.path()));
    let again = opened(two.path(), &other());
    assert_eq!(again.applied().1, end);
}

#[tokio::test]
async fn a_mirror_whose_index_falls_behind_catches_up_when_its_segment_is_full() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (_store, end, batches) = worked(one.path()).await;
    let mut mirror = fresh(two.path(), &other());
    let mut caught_up = 0;
    for batch in &batches {
        if mirror.must_catch_up() {
            mirror.advance(batch.prev.seq).unwrap();
            assert!(!mirror.must_catch_up());
            caught_up += 1;
        }
        mirror.append(2, from_ref(batch)).unwrap();
    }
    assert!(caught_up > 0, "the log fits into a segment");
    mirror.advance(end).unwrap();
    assert_eq!(content(one.path()), content(two.path()));
}
