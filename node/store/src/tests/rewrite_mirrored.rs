//! Room given back by the copies of a mirrored store: by each its own, and never what another still wants.

use std::{
    path::Path,
    slice::from_ref,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use mailcluster_types::{Epoch, ReplicaId, Seq};
use tempfile::TempDir;

use super::{
    mirror::other,
    rewrite::{bodies, eager, mostly_gone, octets, store_view, text, thinned, without_sense},
    rows::rows,
    support::{deliver, identity, mailbox, sound},
};
use crate::{
    Claim, Committed, Expunge, Fetched, Follower, Identity, IndexMoment, LogReader, LoggedBatch, Mirrors,
    OpenGate, Room, Siblings, Slice, Sliced, Store, Wanted, left_behind::gather, lend, segment,
    superblock::Superblock,
};

const BOTH: &[ReplicaId] = &[ReplicaId(9), ReplicaId(10)];

/// Confirms, and says what the others want.
struct Others(Mutex<Claim>);

impl Others {
    fn want(&self, claim: Claim) {
        *self.0.lock().unwrap() = claim;
    }
}

impl Mirrors for Others {
    fn written(&self, _: (Epoch, Seq)) {}

    fn until_committed(&self, _: (Epoch, Seq)) -> Committed<'_> {
        Box::pin(std::future::ready(true))
    }

    fn claim(&self, _: Room) -> Claim {
        *self.0.lock().unwrap()
    }
}

/// A replica begins an epoch, and serves.
fn serve(mut replica: Follower, epoch: Epoch, in_sync: &[ReplicaId]) -> (Store, Arc<Others>) {
    let others = Arc::new(Others(Mutex::new(Claim::All)));
    replica.tell(others.clone());
    let (_, end) = replica.begin(epoch, in_sync).unwrap();
    replica.advance(end).unwrap();
    (replica.into_replica().go_on(Arc::new(OpenGate)).unwrap(), others)
}

fn opened(dir: &Path, identity: &Identity) -> Follower {
    let replica = match Superblock::read(dir) {
        Ok(_) => eager().open(dir, identity),
        Err(_) => eager().initialise(dir, identity),
    };
    Follower::new(replica.unwrap()).unwrap()
}

/// The log of the replica in `dir` behind a record.
fn log(dir: &Path, (after, end): (Seq, Seq)) -> Vec<LoggedBatch> {
    let mut reader = LogReader::after(dir, identity(), after).unwrap();
    std::iter::from_fn(|| reader.next(end).unwrap()).collect()
}

fn follow(mirror: &mut Follower, batches: &[LoggedBatch]) {
    for batch in batches {
        // No segment is begun while there is a tail.
        mirror.advance(batch.prev.seq).unwrap();
        mirror.append(9, from_ref(batch)).unwrap();
    }
    mirror.advance(mirror.end().seq).unwrap();
}

fn content(dir: &Path) -> Vec<String> {
    rows(dir, &["replica", "segment", "offset", "start", "end"])
}

/// What replicas compare in service.
fn digests(dir: &Path) -> Vec<Sliced> {
    let moment = IndexMoment::now(dir).unwrap();
    let slices = (0..).map(|table| Slice { table, rows: 4096, ..Slice::default() });
    slices.take_while(|slice| slice.name().is_some()).map(|slice| moment.digest(&slice).unwrap()).collect()
}

/// A primary most of whose mail is gone, its mirror, which has all of its log, and that log.
struct Pair {
    one: TempDir,
    two: TempDir,
    store: Store,
    others: Arc<Others>,
    mirror: Follower,
    batches: Vec<LoggedBatch>,
}

impl Pair {
    async fn new() -> Self {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (store, others) = serve(opened(one.path(), &identity()), 1, BOTH);
        mostly_gone(&store, 160, 1500, 4).await;
        thinned(&store, 80, 1500).await;
        let batches = log(one.path(), (0, store.committed().1));
        let mut mirror = opened(two.path(), &other());
        follow(&mut mirror, &batches);
        Self { one, two, store, others, mirror, batches }
    }

    /// Some segments are not given back, and those behind them are.
    async fn with_mail_that_stays(&mut self) {
        let end = self.mirror.end().seq;
        for n in 0..30 {
            deliver(&self.store, 1, &text(n, 1500)).await;
        }
        let from = mailbox(&self.store, 2, "INBOX").await.uid_next;
        for n in 0..80 {
            deliver(&self.store, 2, &text(n, 1500)).await;
        }
        let inbox = mailbox(&self.store, 2, "INBOX").await;
        let gone = (from..inbox.uid_next).collect();
        self.store.expunge(inbox.id, Expunge::These(gone)).await.unwrap().acknowledge().unwrap();
        let more = log(self.one.path(), (end, self.store.committed().1));
        follow(&mut self.mirror, &more);
        self.batches.extend(more);
    }

    /// Both give back what they can, the mirror told that nobody wants anything.
    async fn give_back(&mut self) {
        let end = self.store.committed().1;
        self.others.want(Claim::From(end));
        let done = self.store.reclaim().await.unwrap();
        assert!(done.files > 10 && done.packed > 0, "{done:?}");
        self.mirror.note_wanted(Some(end));
        let done = self.mirror.reclaim().unwrap();
        assert!(done.files > 10 && done.packed > 0, "{done:?}");
    }
}

#[tokio::test]
async fn each_copy_gives_its_own_room_back_and_either_can_serve() {
    let mut pair = Pair::new().await;
    let (one, two) = (pair.one.path().to_owned(), pair.two.path().to_owned());
    let texts = bodies(&one, &store_view(&pair.store).await);
    let (before, said, taken) = (content(&one), digests(&one), octets(&two));
    assert!(pair.store.reclaim().await.unwrap().files == 0, "as long as the mirror was not heard");
    pair.give_back().await;
    assert!(content(&one) == before && content(&two) == before, "more than places has changed");
    assert_eq!((digests(&one), digests(&two)), (said.clone(), said));
    assert!(octets(&two) < taken / 2, "{taken}: {}", octets(&two));
    assert_eq!(pair.mirror.reclaim().unwrap().files, 0, "there is no more to be had");

    // The stream goes on where it was.
    let end = pair.mirror.end().seq;
    deliver(&pair.store, 1, "one more\r\n").await;
    let more = log(&one, (end, pair.store.committed().1));
    follow(&mut pair.mirror, &more);
    drop(pair.store.stop().await);
    let last = content(&one);
    assert!(content(&two) == last);

    // The mirror takes over, and the other follows it.
    let (store, others) = serve(pair.mirror, 2, BOTH);
    let view = store_view(&store).await;
    assert!(texts.iter().all(|(id, text)| view.body(*id).unwrap() == *text));
    drop(view);
    sound(&store).await;
    deliver(&store, 2, "and another\r\n").await;
    let mut first = opened(&one, &identity());
    let mut reader = LogReader::after(&two, other(), first.end().seq).unwrap();
    let more: Vec<_> = std::iter::from_fn(|| reader.next(store.committed().1).unwrap()).collect();
    follow(&mut first, &more);
    assert!(content(&one) == content(&two));
    mostly_gone(&store, 60, 1500, 1).await;
    others.want(Claim::From(store.committed().1));
    assert!(store.reclaim().await.unwrap().files > 0, "as a primary it goes on");
    let (grown, texts) = (content(&two), bodies(&two, &store_view(&store).await));
    drop(store.stop().await);
    without_sense(&two);
    let replica = eager().open(&two, &other()).unwrap();
    assert!(content(&two) == grown, "an index made anew is another");
    assert_eq!(bodies(&two, &replica.view()), texts);
}

#[tokio::test]
async fn a_replica_that_follows_gives_back_what_it_is_told_and_never_what_may_be_cut_off() {
    let mut pair = Pair::new().await;
    let two = pair.two.path().to_owned();
    let before = octets(&two);
    for told in [None, Some(0), Some(1)] {
        pair.mirror.note_wanted(told);
        assert_eq!((pair.mirror.reclaim().unwrap().files, octets(&two)), (0, before), "{told:?}");
    }
    // A tail that is longer than all of the log that is kept in any case.
    let committed = pair.mirror.applied().1;
    mostly_gone(&pair.store, 120, 1500, 0).await;
    let more = log(pair.one.path(), (committed, pair.store.committed().1));
    more.iter().for_each(|batch| pair.mirror.append(9, from_ref(batch)).unwrap());
    assert_eq!(pair.mirror.applied().1, committed);
    pair.mirror.note_wanted(Some(Seq::MAX));
    assert!(pair.mirror.reclaim().unwrap().files > 10);
    let index_lost = super::snapshot::copy_of(&two);
    pair.mirror.cut(committed).unwrap();
    let cut = content(&two);
    drop(pair.mirror);
    let mut mirror = opened(&two, &other());
    assert_eq!((mirror.end().seq, mirror.applied().1), (committed, committed));
    assert!(content(&two) == cut);
    follow(&mut mirror, &more);
    assert!(content(&two) == content(pair.one.path()));

    without_sense(index_lost.path());
    let mut mirror = opened(index_lost.path(), &other());
    assert_eq!(mirror.end().seq, pair.store.committed().1, "the tail is there");
    mirror.advance(mirror.end().seq).unwrap();
    assert!(content(index_lost.path()) == content(pair.one.path()));
}

#[tokio::test]
async fn what_another_replica_lacks_stays_and_where_the_lines_may_part() {
    let pair = Pair::new().await;
    let (dir, end) = (pair.one.path(), pair.store.committed().1);
    let lags = pair.batches[pair.batches.len() / 2].prev.seq;
    pair.others.want(Claim::From(lags));
    let done = pair.store.reclaim().await.unwrap();
    assert!(done.files > 3, "{done:?}");
    assert!(log(dir, (lags, end)) == pair.batches[pair.batches.len() / 2..], "another log");
    // A forced promotion of the other would leave the rest behind here: all of that can be brought.
    let dir_of = |store: &TempDir| super::snapshot::copy_of(store.path());
    let left = dir_of(&pair.one);
    let gathered = gather(left.path(), (1, lags), &mut Vec::new(), &mut |_, _| {});
    assert!(gathered.unwrap().items > 0);

    pair.others.want(Claim::From(end));
    assert!(pair.store.reclaim().await.unwrap().files > 3);
    let gone = LogReader::after(dir, identity(), lags).err().map(|error| error.kind());
    assert_eq!(gone, Some(std::io::ErrorKind::NotFound), "it is sent a snapshot");
    let left = dir_of(&pair.one);
    assert!(gather(left.path(), (1, lags), &mut Vec::new(), &mut |_, _| {}).is_err(), "never a part of it");
}

/// Counts how often it is asked.
#[derive(Default)]
struct Asked(AtomicUsize);

impl Siblings for Asked {
    fn fetch(&self, _: &Wanted) -> Fetched {
        self.0.fetch_add(1, Ordering::SeqCst);
        Fetched::Nowhere
    }
}

#[tokio::test]
async fn what_is_gone_is_not_lent_and_is_no_damage() {
    let mut pair = Pair::new().await;
    pair.with_mail_that_stays().await;
    pair.give_back().await;
    let (mut here, mut gone) = (0, 0);
    for batch in &pair.batches {
        let link = batch.header().unwrap().link();
        let wanted = Wanted { first: batch.seq, link, most: LoggedBatch::MAX_PAYLOAD };
        match lend(pair.two.path(), &other(), &wanted).unwrap() {
            Some(lent) => {
                assert!(lent == *batch, "another batch is lent");
                here += 1;
            }
            None => gone += 1,
        }
    }
    assert!(here > 10 && gone > 10, "{here} {gone}");

    let log = pair.two.path().join("log");
    let (segments, asked) = (segment::list(&log).unwrap(), Arc::new(Asked::default()));
    let first = Superblock::read(pair.two.path()).unwrap().contiguous_from;
    assert!(segments.iter().any(|segment| *segment < first), "{segments:?}: there are no gaps");
    let repairs = pair.mirror.repairs();
    repairs.ask(Some(asked.clone()));
    for segment in segments {
        assert!(repairs.check(segment).unwrap(), "segment {segment} is taken for damaged");
    }
    // Nor is anybody asked for what lies in a pack, which is nobody else's.
    let pack = segment::path(&log, segment::packs(&log).unwrap()[0]);
    let mut text = std::fs::read(&pack).unwrap();
    text.iter_mut().skip(4096).for_each(|octet| *octet ^= 1);
    std::fs::write(&pack, text).unwrap();
    let ids: Vec<u64> = bodies_of(pair.two.path());
    let view = pair.mirror.replica.view();
    assert!(ids.iter().any(|id| view.body(*id).is_err()), "nothing is damaged");
    assert_eq!(asked.0.load(Ordering::SeqCst), 0);
}

fn bodies_of(dir: &Path) -> Vec<u64> {
    let conn = crate::schema::open_reader(dir).unwrap();
    let mut query = conn.prepare("SELECT id FROM body").unwrap();
    query.query_map([], |r| r.get(0)).unwrap().map(Result::unwrap).collect()
}
