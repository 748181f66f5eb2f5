use std::{io::Read, path::Path, sync::Arc};

use mailcluster_store::{
    Cancel, Claim, Committed, Identity, LogReader, Mirrors, Offer, OpenGate, Outgoing, Room, Store,
    StoreKind, testing::Setup,
};
use mailcluster_types::{ClusterId, ReplicaId};

use super::*;

fn identity(n: u128) -> Identity {
    Identity { cluster: ClusterId(7), store: "m-0".into(), replica: ReplicaId(n), kind: StoreKind::Mail }
}

struct Confirms;

impl Mirrors for Confirms {
    fn written(&self, _: (Epoch, Seq)) {}

    fn until_committed(&self, _: (Epoch, Seq)) -> Committed<'_> {
        Box::pin(std::future::ready(true))
    }

    fn claim(&self, _: Room) -> Claim {
        Claim::All
    }
}

fn fresh(dir: &Path, n: u128) -> Follower {
    Follower::new(Setup::default().initialise(dir, &identity(n)).unwrap()).unwrap()
}

fn primary(dir: &Path) -> Store {
    let mut first = fresh(dir, 1);
    first.tell(Arc::new(Confirms));
    let (_, end) = first.begin(1, &[ReplicaId(1), ReplicaId(2)]).unwrap();
    first.advance(end).unwrap();
    first.into_replica().go_on(Arc::new(OpenGate)).unwrap()
}

async fn write(store: &Store, count: usize) {
    for _ in 0..count {
        let line = "a line ".repeat(40);
        store.audit(0, "test".into(), line).await.unwrap().acknowledge().unwrap();
    }
}

fn follow(from: &Path, mirror: &mut Follower, end: Seq, commit: Seq) {
    let mut reader = LogReader::after(from, identity(1), mirror.end().seq).unwrap();
    while let Some(batch) = reader.next(end).unwrap() {
        mirror.append(1, &[batch]).unwrap();
    }
    mirror.advance(commit).unwrap();
}

/// All files of a snapshot.
fn take(follower: &Follower, outgoing: &Outgoing, offer: Offer) -> Incoming {
    let mut incoming = follower.receive(1, offer).unwrap();
    for file in outgoing.files() {
        let mut text = vec![0; usize::try_from(file.octets).unwrap()];
        outgoing.open(file).unwrap().read_exact(&mut text).unwrap();
        let crc = crc32c::crc32c(&text);
        incoming.begin(file.name.clone(), file.octets).unwrap();
        incoming.check().unwrap();
        incoming.write(0, &text.into(), crc).unwrap();
        incoming.end(crc).unwrap();
    }
    incoming
}

fn said(commit: Seq) -> Said {
    Said { commit, at: 77, wanted_from: None }
}

fn stream_of(standby: &Standby, epoch: Epoch) -> u64 {
    match standby.hello(epoch).unwrap() {
        Greeting::Table { stream, .. } => stream,
        Greeting::Refused { promise } => panic!("{promise} is promised"),
    }
}

/// What this replica has confirmed may be what somebody was told, committed here or not.
#[tokio::test]
async fn records_behind_a_snapshot_are_not_given_up_for_it() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = primary(one.path());
    write(&store, 9).await;
    let outgoing = Outgoing::make(one.path(), 1, 1 << 40, &Cancel::default()).unwrap().unwrap();
    write(&store, 5).await;
    let mut mirror = fresh(two.path(), 2);
    follow(one.path(), &mut mirror, 15, 8);
    assert_eq!((outgoing.offer().at.seq, mirror.end().seq, mirror.applied().1), (10, 15, 8));

    let standby = Arc::new(Standby::default());
    standby.give(mirror);
    let stream = stream_of(&standby, 1);
    let offer = outgoing.offer().clone();
    let incoming = standby.on(stream, |follower, _| Ok(take(follower, &outgoing, offer))).unwrap();
    let refused = standby.install(stream, incoming).unwrap_err();
    assert!(matches!(refused, Over::Follow(FollowError::Snapshot(_))), "{refused:?}");
    assert_eq!(standby.take().unwrap().end().seq, 15);
}

/// A primary that ended without a word has left its stream open.
#[test]
fn what_an_older_stream_says_of_its_snapshot_is_not_told() {
    let dir = tempfile::tempdir().unwrap();
    let standby = Arc::new(Standby::default());
    standby.give(fresh(dir.path(), 2));
    let some = Some(Copied { octets: 1, of: 2 });
    let old = stream_of(&standby, 1);
    standby.has_copied(old, some);
    assert_eq!(standby.copied(), some);
    let new = stream_of(&standby, 1);
    assert_eq!(standby.copied(), None);
    standby.has_copied(old, some);
    assert_eq!(standby.copied(), None);
    standby.has_copied(new, some);
    standby.left(old);
    assert_eq!(standby.copied(), some);
    standby.left(new);
    assert_eq!(standby.copied(), None);
}

/// A stream that another has taken the place of changes nothing, however far its snapshot has come.
#[tokio::test]
async fn only_the_newest_stream_puts_a_snapshot_in_place() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = primary(one.path());
    write(&store, 9).await;
    let outgoing = Outgoing::make(one.path(), 1, 1 << 40, &Cancel::default()).unwrap().unwrap();
    let standby = Arc::new(Standby::default());
    standby.give(fresh(two.path(), 2));
    let old = stream_of(&standby, 1);
    let all = |stream| {
        let offer = outgoing.offer().clone();
        standby.on(stream, |follower, _| Ok(take(follower, &outgoing, offer))).unwrap()
    };
    let late = all(old);
    let new = stream_of(&standby, 1);
    assert_eq!(standby.install(old, late), Err(Over::Superseded));
    assert_eq!(standby.describe().unwrap().0.end, (0, 0));
    standby.install(new, all(new)).unwrap();
    assert_eq!(standby.describe().unwrap().0.end, (1, 10));
}

/// One thread appends, confirms and is fed on while another works on the index; whoever wants both waits.
#[tokio::test]
async fn a_mirror_confirms_while_its_index_is_worked_on() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = primary(one.path());
    write(&store, 6).await;
    let standby = Arc::new(Standby::default());
    standby.give(fresh(two.path(), 2));
    let stream = stream_of(&standby, 1);
    let mut reader = LogReader::after(one.path(), identity(1), 0).unwrap();
    let mut next = || reader.next(7).unwrap().unwrap();
    standby.append(stream, &[next(), next(), next()], said(2)).unwrap();
    assert!(standby.begin_catching_up() && !standby.begin_catching_up(), "one at a time");
    let work = standby.lock().follower.as_mut().unwrap().begin_advance(2).unwrap().unwrap();
    let has = standby.append(stream, &[next()], said(3)).unwrap();
    assert_eq!((has.seq, has.applied), (4, 0));

    let taken = std::thread::spawn({
        let standby = standby.clone();
        move || standby.take().unwrap()
    });
    std::thread::yield_now();
    assert!(!taken.is_finished() && standby.has_replica(), "its index is not here");
    standby.lock().follower.as_mut().unwrap().end_advance(work.run()).unwrap();
    standby.whole.notify_all();
    assert_eq!(taken.join().unwrap().applied().1, 2);
    assert_eq!(standby.catch_up(), None, "nothing is left to do");
    assert_eq!(standby.append(stream, &[next()], said(4)), Err(Over::Superseded));
}

#[tokio::test]
async fn an_index_comes_up_to_what_is_committed_and_says_so() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = primary(one.path());
    write(&store, 6).await;
    let standby = Arc::new(Standby::default());
    standby.give(fresh(two.path(), 2));
    let stream = stream_of(&standby, 1);
    let mut reader = LogReader::after(one.path(), identity(1), 0).unwrap();
    let batches: Vec<_> = std::iter::from_fn(|| reader.next(7).unwrap()).collect();
    standby.append(stream, &batches, said(5)).unwrap();
    let told =
        || std::iter::from_fn(|| standby.catch_up()).map(|has| (has.seq, has.applied)).collect::<Vec<_>>();
    assert!(standby.begin_catching_up());
    assert_eq!(told(), [(7, 5)]);
    assert!(!standby.begin_catching_up(), "there is nothing more");
    standby.append(stream, &[], said(7)).unwrap();
    assert!(standby.begin_catching_up());
    assert_eq!(told(), [(7, 7)]);
    assert_eq!(standby.take().unwrap().applied().1, 7);
}

/// Another primary's log may part from this one's anywhere: nothing goes before it has said what others want of it.
#[tokio::test]
async fn what_a_primary_has_said_of_others_counts_for_its_stream_alone() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = primary(one.path());
    write(&store, 400).await;
    let setup = Setup { segment_size: Some(16 << 10), eager_rewriting: true, ..Setup::default() };
    let mirror = Follower::new(setup.initialise(two.path(), &identity(2)).unwrap()).unwrap();
    let standby = Arc::new(Standby::default());
    standby.give(mirror);
    let stream = stream_of(&standby, 1);
    let end = store.committed().1;
    let mut reader = LogReader::after(one.path(), identity(1), 0).unwrap();
    while let Some(batch) = reader.next(end).unwrap() {
        let commit = batch.prev.seq;
        standby.append(stream, &[batch], said(commit)).unwrap();
        while standby.begin_catching_up() {
            while standby.catch_up().is_some() {}
        }
    }
    let wanted = |from| Said { wanted_from: Some(from), ..said(end - 1) };
    let given_back = || standby.reclaim_here().unwrap().files;
    assert_eq!(given_back(), 0, "nothing was said");
    standby.append(stream, &[], wanted(end)).unwrap();
    standby.append(stream, &[], wanted(0)).unwrap();
    assert_eq!(given_back(), 0, "all is wanted");
    standby.append(stream, &[], wanted(end)).unwrap();
    let newer = stream_of(&standby, 2);
    assert_eq!(given_back(), 0, "another primary has not said anything yet");
    standby.fork(newer, Position { epoch: 1, seq: 5 });
    assert_eq!(given_back(), 0, "its line is kept as a whole");
    standby.append(newer, &[], wanted(end)).unwrap();
    assert!(given_back() > 1);
}
