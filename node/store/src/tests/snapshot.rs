//! Snapshots: made while the store is written, taken piece by piece, and put in place as one.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::FileExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use mailcluster_types::{Epoch, ReplicaId, Seq};
use tempfile::TempDir;

use super::{
    falling::Falling,
    rows::rows,
    support::{account, deliver, identity, mailbox},
};
use crate::{
    Cancel, Claim, Committed, Expunge, FollowError, Follower, Identity, Incoming, LogReader, Mirrors, Offer,
    OpenError, OpenGate, Outgoing, PinnedFile, Received, Replica, Room, Store, View, engine::Options, schema,
    segment, superblock::Superblock, testing::Setup,
};

pub const FAST: u64 = 1 << 40;
pub const BOTH: &[ReplicaId] = &[ReplicaId(9), ReplicaId(10)];

pub fn other() -> Identity {
    Identity { replica: ReplicaId(10), ..identity() }
}

fn small() -> Setup {
    Setup { segment_size: Some(16 << 10), ..Setup::default() }
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

/// A primary of two with some mail.
async fn primary(dir: &Path) -> Store {
    let mut first = Follower::new(small().initialise(dir, &identity()).unwrap()).unwrap();
    first.tell(Arc::new(Confirms));
    let (_, end) = first.begin(1, BOTH).unwrap();
    first.advance(end).unwrap();
    let store = first.into_replica().go_on(Arc::new(OpenGate)).unwrap();
    store.put_account(account(1)).await.unwrap().acknowledge().unwrap();
    mail(&store, 30).await;
    store
}

async fn mail(store: &Store, count: usize) {
    for n in 0..count {
        deliver(store, 1, &format!("{n} {}", "x".repeat(n * 131))).await;
    }
}

pub fn make(dir: &Path) -> Outgoing {
    Outgoing::make(dir, 1, FAST, &Cancel::default()).unwrap().unwrap()
}

fn text(outgoing: &Outgoing, file: &PinnedFile) -> Bytes {
    let mut text = vec![0; usize::try_from(file.octets).unwrap()];
    outgoing.open(file).unwrap().read_exact_at(&mut text, 0).unwrap();
    text.into()
}

/// Sends a file from where it is here already, `part` octets at a time; `upto`: as if the stream broke there.
pub fn send(outgoing: &Outgoing, to: &mut Incoming, file: &PinnedFile, upto: usize) -> u64 {
    to.begin(file.name.clone(), file.octets).unwrap();
    let (here, crc) = std::iter::repeat_with(|| to.check().unwrap()).flatten().next().unwrap();
    let same = outgoing.begins_with(file, (here, crc), (FAST, &Cancel::default())).unwrap();
    let (text, from) = (text(outgoing, file), if same { usize::try_from(here).unwrap() } else { 0 });
    let mut at = from;
    while at < text.len().min(upto) {
        let piece = text.slice(at..(at + 5000).min(text.len()));
        to.write(at as u64, &piece, crc32c::crc32c(&piece)).unwrap();
        at += piece.len();
    }
    if upto >= text.len() {
        to.end(crc32c::crc32c(&text)).unwrap();
        outgoing.note(file, crc32c::crc32c(&text));
    }
    (at - from) as u64
}

pub fn received(outgoing: &Outgoing, mirror: &Follower, stream: Epoch) -> Received {
    let mut incoming = mirror.receive(stream, outgoing.offer().clone()).unwrap();
    for file in outgoing.files() {
        send(outgoing, &mut incoming, file, usize::MAX);
    }
    assert_eq!(incoming.progress(), (outgoing.offer().octets, outgoing.offer().octets));
    incoming.complete(mirror).unwrap()
}

pub fn install(mirror: Follower, stream: Epoch, received: Received) -> Follower {
    let (mirror, installed) = mirror.install(stream, &received);
    installed.unwrap();
    mirror.unwrap()
}

/// Every message's text.
pub fn texts(view: &View) -> BTreeMap<u32, Vec<u8>> {
    let inbox = view.mailbox_by_name(mailcluster_types::AccountId(1), "INBOX").unwrap().unwrap();
    let messages = view.messages(inbox.id, 1, u32::MAX).unwrap();
    messages.iter().map(|m| (m.uid, view.body(m.body).unwrap().to_vec())).collect()
}

pub fn content(dir: &Path) -> Vec<String> {
    rows(dir, &["replica", "segment", "offset", "start", "end"])
}

pub fn fresh(dir: &Path) -> Follower {
    Follower::new(small().initialise(dir, &other()).unwrap()).unwrap()
}

pub fn follow(from: &Path, mirror: &mut Follower, end: Seq) {
    let mut reader = LogReader::after(from, identity(), mirror.end().seq).unwrap();
    while let Some(batch) = reader.next(end).unwrap() {
        mirror.append(9, std::slice::from_ref(&batch)).unwrap();
    }
    mirror.advance(end).unwrap();
}

pub fn copy_of(dir: &Path) -> TempDir {
    fn copy(from: &Path, to: &Path) {
        for entry in fs::read_dir(from).unwrap() {
            let (entry, to) = (entry.as_ref().unwrap().path(), to.join(entry.as_ref().unwrap().file_name()));
            if entry.is_dir() {
                fs::create_dir_all(&to).unwrap();
                copy(&entry, &to);
            } else {
                fs::copy(&entry, &to).unwrap();
            }
        }
    }
    let to = tempfile::tempdir().unwrap();
    copy(dir, to.path());
    to
}

#[tokio::test]
async fn it_is_the_store_as_it_was_at_a_commit_and_the_log_goes_on_from_there() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = primary(one.path()).await;
    let at = store.committed().1;
    let outgoing = make(one.path());
    assert_eq!((outgoing.offer().at.epoch, outgoing.offer().at.seq), (1, at));
    let (before, then) = (content(one.path()), store.read(|v| Ok(texts(v))).await.unwrap());
    assert!(outgoing.files().len() > 3, "some segments, and the index");
    // It is written, and loses its first segment, while the snapshot is read.
    mail(&store, 20).await;
    fs::remove_file(segment::path(&one.path().join("log"), 1)).unwrap();

    let mut mirror = fresh(two.path());
    mirror.promise(5).unwrap();
    let received = received(&outgoing, &mirror, 7);
    assert_eq!(mirror.end().seq, 0, "nothing was touched so far");
    let mirror = install(mirror, 7, received);
    assert_eq!((mirror.end(), mirror.applied()), (outgoing.offer().at, (1, at)));
    let said = mirror.describe();
    assert_eq!((said.promise, said.identity), (5, other()), "both are its own");
    assert!(content(two.path()) == before, "the indexes differ");
    drop(mirror);
    let mut mirror = Follower::new(small().open(two.path(), &other()).unwrap()).unwrap();
    let view = mirror.replica.view();
    assert_eq!(view.verify().unwrap(), Vec::<String>::new());
    assert!(texts(&view) == then, "the texts differ");
    drop(view);

    let end = store.committed().1;
    follow(one.path(), &mut mirror, end);
    assert_eq!(texts(&mirror.replica.view()).len(), 50);
    let left: Vec<_> = fs::read_dir(two.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name == "snapshot-in" || name == "log.old"), "{left:?}");
    assert!(one.path().join("snapshot-out").join(&outgoing.offer().id).exists());
    drop((mirror, outgoing));
    assert_eq!(
        fs::read_dir(one.path().join("snapshot-out")).unwrap().count(),
        0,
        "nothing is pinned any more"
    );
    drop(store.stop().await);
    assert!(content(two.path()) == content(one.path()), "the indexes differ");
    // One that served can be a snapshot's mirror later, and one that took a snapshot can serve.
    let replica = small().open(two.path(), &other()).unwrap();
    let served = replica.serve(9, BOTH, Arc::new(OpenGate)).unwrap();
    let inbox = mailbox(&served, 1, "INBOX").await;
    assert_eq!(deliver(&served, 1, "later").await, (inbox.id, inbox.uid_next));
    drop(served.stop().await);
}

#[tokio::test]
async fn what_was_offered_by_a_process_that_ended_is_removed_at_the_next_start() {
    let one = tempfile::tempdir().unwrap();
    let store = primary(one.path()).await;
    std::mem::forget(make(one.path()));
    drop(store.stop().await);
    assert!(one.path().join("snapshot-out").exists());
    drop(small().open(one.path(), &identity()).unwrap());
    assert!(!one.path().join("snapshot-out").exists());
}

/// Its log has no gaps from its first segment on, and the volume says so.
fn begins_later(dir: &Path) {
    let mut block = Superblock::read(dir).unwrap();
    block.contiguous_from = segment::list(&dir.join("log")).unwrap()[0];
    block.write(&Setup::default_disk(), dir).unwrap();
}

#[tokio::test]
async fn one_that_lacks_what_its_index_wants_is_not_offered() {
    let one = tempfile::tempdir().unwrap();
    let store = primary(one.path()).await;
    let ahead = store.committed().1 + 1;
    assert!(Outgoing::make(one.path(), ahead, FAST, &Cancel::default()).unwrap().is_none(), "not yet");
    let cancel = Cancel::default();
    cancel.cancel();
    let error = Outgoing::make(one.path(), 1, FAST, &cancel).err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::Interrupted);
    fs::remove_file(segment::path(&one.path().join("log"), 1)).unwrap();
    let error = Outgoing::make(one.path(), 1, FAST, &Cancel::default()).err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error}");
    // What nobody wants any more may be gone.
    let inbox = mailbox(&store, 1, "INBOX").await;
    store.expunge(inbox.id, Expunge::These((1..=30).collect())).await.unwrap().acknowledge().unwrap();
    deliver(&store, 1, "the only one").await;
    begins_later(one.path());
    let outgoing = make(one.path());
    let two = tempfile::tempdir().unwrap();
    let mirror = fresh(two.path());
    let received = received(&outgoing, &mirror, 1);
    let mirror = install(mirror, 1, received);
    assert_eq!(texts(&mirror.replica.view()).len(), 1);
    assert_eq!(
        fs::read_dir(one.path().join("snapshot-out")).unwrap().count(),
        1,
        "failed ones leave nothing"
    );
    // Without its index this copy knows nothing of what its log does not have: it says so, and is not begun anew.
    drop(mirror);
    schema::remove(two.path()).unwrap();
    let refused = small().open(two.path(), &other()).err();
    assert!(matches!(refused, Some(OpenError::Damaged(_))), "{refused:?}");
}

#[tokio::test]
async fn a_broken_stream_goes_on_where_it_was_and_with_what_another_snapshot_has_too() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = primary(one.path()).await;
    let first = make(one.path());
    let mirror = fresh(two.path());
    let mut incoming = mirror.receive(1, first.offer().clone()).unwrap();
    let files = first.files();
    let (index, segments): (Vec<_>, Vec<_>) = files.iter().partition(|file| file.name == "index.sqlite");
    send(&first, &mut incoming, segments[0], usize::MAX);
    send(&first, &mut incoming, segments[1], 7000);
    drop(incoming);
    drop(mirror);

    let mirror = Follower::new(small().open(two.path(), &other()).unwrap()).unwrap();
    let mut incoming = mirror.receive(1, first.offer().clone()).unwrap();
    assert_eq!(send(&first, &mut incoming, segments[0], usize::MAX), 0, "it is here");
    let sent = send(&first, &mut incoming, segments[1], usize::MAX);
    assert!(sent > 0 && sent < segments[1].octets - 6000, "{sent}");
    send(&first, &mut incoming, index[0], 20_000);
    drop(incoming);
    // Of the same snapshot the index is gone on with; of another one it is not.
    let mut incoming = mirror.receive(1, first.offer().clone()).unwrap();
    assert_eq!(send(&first, &mut incoming, index[0], usize::MAX), index[0].octets - 20_000);
    drop(incoming);
    mail(&store, 20).await;
    let second = make(one.path());
    let mut incoming = mirror.receive(1, second.offer().clone()).unwrap();
    let mut sent = BTreeMap::new();
    for file in second.files() {
        sent.insert(file.name.clone(), send(&second, &mut incoming, file, usize::MAX));
    }
    assert_eq!((sent[&segments[0].name], sent[&segments[1].name]), (0, 0));
    assert_eq!(
        sent["index.sqlite"],
        second.files().iter().find(|f| f.name == "index.sqlite").unwrap().octets
    );
    let received = incoming.complete(&mirror).unwrap();
    let mirror = install(mirror, 1, received);
    assert_eq!(texts(&mirror.replica.view()).len(), 50);
}

#[tokio::test]
async fn nothing_damaged_or_out_of_place_is_taken() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let _store = primary(one.path()).await;
    let outgoing = make(one.path());
    let mirror = fresh(two.path());
    let offer = outgoing.offer().clone();
    assert!(mirror.receive(1, Offer { id: "../x".into(), ..offer.clone() }).is_err());
    let mut incoming = mirror.receive(1, offer.clone()).unwrap();
    for name in ["", "../superblock", "a/b", ".hidden", "next.new", &"x".repeat(65)] {
        assert!(incoming.begin(name.into(), 1).is_err(), "{name}");
    }
    assert!(incoming.begin("1.seg".into(), offer.octets + 1).is_err(), "more than was said");
    let file = outgoing.files().iter().find(|file| file.name != "index.sqlite").unwrap();
    let whole = text(&outgoing, file);
    let crc = crc32c::crc32c(&whole);
    assert!(incoming.write(0, &whole, crc).is_err(), "no file was begun");
    incoming.begin(file.name.clone(), file.octets).unwrap();
    incoming.check().unwrap();
    assert_eq!(incoming.write(0, &whole, crc ^ 1), Err(FollowError::Damaged));
    assert!(
        incoming.write(1, &whole.slice(1..), crc32c::crc32c(&whole[1..])).is_err(),
        "not behind what is here"
    );
    let half = whole.slice(..whole.len() / 2);
    incoming.write(0, &half, crc32c::crc32c(&half)).unwrap();
    assert!(incoming.write(half.len() as u64, &whole, crc).is_err(), "longer than was said");
    assert_eq!(incoming.end(crc), Err(FollowError::Damaged), "half of it");
    // What was found to be damaged is sent anew.
    incoming.begin(file.name.clone(), file.octets).unwrap();
    assert_eq!(incoming.check().unwrap(), Some((0, 0)));
    incoming.write(0, &whole, crc).unwrap();
    assert_eq!(incoming.end(crc ^ 1), Err(FollowError::Damaged));
    incoming.begin(file.name.clone(), file.octets).unwrap();
    incoming.check().unwrap();
    incoming.write(0, &whole, crc).unwrap();
    incoming.end(crc).unwrap();
    assert!(incoming.begin(file.name.clone(), file.octets).is_err(), "once more");
    assert!(incoming.complete(&mirror).is_err(), "some is missing");
    // What is here under the name of another's file, or was never synced before power went, is not taken for it.
    let name = two.path().join("snapshot-in/log").join(&file.name);
    let mut octets = fs::read(&name).unwrap();
    octets[5000] ^= 1;
    fs::write(&name, octets).unwrap();
    let mut incoming = mirror.receive(1, offer.clone()).unwrap();
    assert_eq!(send(&outgoing, &mut incoming, file, usize::MAX), file.octets);
    drop(incoming);
    // An index that ends elsewhere than was said.
    let elsewhere = Offer { at: crate::Link { crc: 1, ..offer.at }, ..offer };
    let mut incoming = mirror.receive(1, elsewhere).unwrap();
    for file in outgoing.files() {
        send(&outgoing, &mut incoming, file, usize::MAX);
    }
    assert!(matches!(incoming.complete(&mirror), Err(FollowError::Snapshot(_))));
    assert_eq!(mirror.end().seq, 0);
}

#[tokio::test]
async fn files_that_do_not_fit_together_are_not_put_in_place() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let _store = primary(one.path()).await;
    let outgoing = make(one.path());
    let mirror = fresh(two.path());
    let all: Vec<(String, Bytes)> =
        outgoing.files().iter().map(|file| (file.name.clone(), text(&outgoing, file))).collect();
    let complete = |files: &[(String, Bytes)]| {
        let octets = files.iter().map(|(_, text)| text.len() as u64).sum();
        let offer = Offer { files: files.len() as u64, octets, ..outgoing.offer().clone() };
        let mut incoming = mirror.receive(1, offer).unwrap();
        for (name, text) in files {
            let crc = crc32c::crc32c(text);
            incoming.begin(name.clone(), text.len() as u64).unwrap();
            incoming.check().unwrap();
            incoming.write(0, text, crc).unwrap();
            incoming.end(crc).unwrap();
        }
        incoming.complete(&mirror).map(drop)
    };
    complete(&all).unwrap();
    let segments = all.len() - 1;
    assert!(segments > 3 && all[segments].0 == "index.sqlite");
    let mut emptied = all.clone();
    emptied[segments - 1].1 = vec![0; all[segments - 1].1.len()].into();
    let mut longer = all.clone();
    let name = segment::path(Path::new(""), 1 << 40).to_str().unwrap().to_owned();
    longer.push((name, all[0].1.clone()));
    for (what, files) in [
        ("a segment that the index wants is missing", all[1..].to_vec()),
        ("the index's last batch is not in the log", emptied),
        ("the log goes on behind the index", longer),
        ("there is no index", all[..segments].to_vec()),
    ] {
        let refused = complete(&files);
        assert!(matches!(refused, Err(FollowError::Snapshot(_))), "{what}: {refused:?}");
    }
    assert_eq!(mirror.end().seq, 0);
}

#[tokio::test]
async fn a_mirror_gives_nothing_up_that_it_has_committed_nor_follows_whom_it_has_not_promised() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = primary(one.path()).await;
    let outgoing = make(one.path());
    let mut mirror = fresh(two.path());
    let early = received(&outgoing, &mirror, 1);
    mail(&store, 3).await;
    follow(one.path(), &mut mirror, store.committed().1);
    let refused = mirror.receive(1, outgoing.offer().clone()).err();
    assert!(matches!(refused, Some(FollowError::Committed { .. })), "{refused:?}");
    let (Some(mut mirror), Err(FollowError::Committed { .. })) = mirror.install(1, &early) else {
        panic!("what it has committed was given up")
    };
    mirror.promise(4).unwrap();
    let newer = make(one.path());
    assert_eq!(mirror.receive(3, newer.offer().clone()).err(), Some(FollowError::Promised(4)));
    let received = received(&newer, &mirror, 4);
    mirror.promise(5).unwrap();
    let (Some(mirror), Err(FollowError::Promised(5))) = mirror.install(4, &received) else {
        panic!("another was promised")
    };
    assert_eq!(texts(&mirror.replica.view()).len(), 33);
}

/// Waits until it is seen that the volume is full: the file system is asked once a second.
fn full(mirror: &Follower) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while mirror.replica.engine.space.has_room(0) {
        assert!(Instant::now() < deadline, "the file system is not asked");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[tokio::test]
async fn one_that_does_not_fit_is_refused_before_anything_is_written() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let _store = primary(one.path()).await;
    let outgoing = make(one.path());
    let free = Arc::new(AtomicU64::new(50 << 30));
    let setup = Setup { free: Some(free.clone()), ..small() };
    let mirror = Follower::new(setup.initialise(two.path(), &other()).unwrap()).unwrap();
    // What is kept free of 100 GiB, and half of what the snapshot has.
    free.store((4 << 30) + outgoing.offer().octets / 2, Ordering::Relaxed);
    let refused = mirror.receive(1, outgoing.offer().clone()).err();
    assert!(matches!(refused, Some(FollowError::NoRoom { .. })), "{refused:?}");
    let roomy = (4 << 30) + 2 * outgoing.offer().octets;
    free.store(roomy, Ordering::Relaxed);
    let mut incoming = mirror.receive(1, outgoing.offer().clone()).unwrap();
    let files = outgoing.files();
    send(&outgoing, &mut incoming, &files[0], usize::MAX);
    // Others have taken the room meanwhile.
    free.store(4 << 30, Ordering::Relaxed);
    full(&mirror);
    let refused = incoming.begin(files[1].name.clone(), files[1].octets);
    assert!(matches!(refused, Err(FollowError::NoRoom { .. })), "{refused:?}");
    free.store(roomy, Ordering::Relaxed);
    incoming.begin(files[1].name.clone(), files[1].octets).unwrap();
    drop(incoming);
    // What is here of another snapshot takes the room of this one, and goes; of this one, it needs none.
    let log = two.path().join("snapshot-in/log");
    fs::write(log.join("of-another"), "x").unwrap();
    let mut incoming = mirror.receive(1, outgoing.offer().clone()).unwrap();
    assert_eq!(send(&outgoing, &mut incoming, &files[0], usize::MAX), 0, "it is here");
    drop(incoming);
    free.store(4 << 30, Ordering::Relaxed);
    full(&mirror);
    let refused = mirror.receive(1, outgoing.offer().clone()).err();
    assert!(matches!(refused, Some(FollowError::NoRoom { .. })), "{refused:?}");
    assert_eq!(fs::read_dir(log).unwrap().count(), 0, "it is in the way");
}

#[tokio::test]
async fn power_lost_at_any_step_leaves_the_one_or_the_other() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = primary(one.path()).await;
    let mut mirror = fresh(two.path());
    mirror.promise(3).unwrap();
    let third = store.committed().1 / 3;
    follow(one.path(), &mut mirror, third);
    let old = mirror.end();
    let outgoing = make(one.path());
    let mut incoming = mirror.receive(3, outgoing.offer().clone()).unwrap();
    for file in outgoing.files() {
        send(&outgoing, &mut incoming, file, usize::MAX);
    }
    drop((incoming, mirror));
    let (before, after) = (content(two.path()), content(one.path()));
    assert!(before != after);

    let mut seen = Vec::new();
    for (steps, taken_back) in (0..200).flat_map(|steps| [(steps, false), (steps, true)]) {
        let dir = copy_of(two.path());
        let disk = Falling::default();
        let options =
            Options { disk: Arc::new(disk.clone()), segment_size: Some(16 << 10), ..Options::default() };
        let mirror = Follower::new(Replica::open_with(dir.path(), &other(), &options).unwrap()).unwrap();
        let mut incoming = mirror.receive(3, outgoing.offer().clone()).unwrap();
        for file in outgoing.files() {
            assert_eq!(send(&outgoing, &mut incoming, file, usize::MAX), 0);
        }
        disk.fall_after(steps);
        let installed = match incoming.complete(&mirror) {
            Ok(received) => mirror.install(3, &received).1.is_ok(),
            Err(_) => {
                drop(mirror);
                false
            }
        };
        disk.fall_after(0);
        if taken_back {
            disk.take_back();
        }
        let again = Follower::new(small().open(dir.path(), &other()).unwrap()).unwrap();
        let is_new = again.end() == outgoing.offer().at;
        assert!(is_new || again.end() == old, "after {steps} steps: {:?}", again.end());
        assert!(is_new || !installed, "after {steps} steps it was said to be there");
        let said = again.describe();
        assert_eq!((said.promise, said.identity), (3, other()), "after {steps} steps");
        drop(again);
        let expected = if is_new { &after } else { &before };
        assert!(content(dir.path()) == *expected, "after {steps} steps: neither the one nor the other");
        let again = small().open(dir.path(), &other()).unwrap();
        assert_eq!(again.view().verify().unwrap(), Vec::<String>::new());
        texts(&again.view());
        seen.push((is_new, installed));
        if installed && taken_back {
            break;
        }
    }
    for wanted in [(false, false), (true, false), (true, true)] {
        assert!(seen.contains(&wanted), "{wanted:?} never came up");
    }
    drop(store.stop().await);
}
