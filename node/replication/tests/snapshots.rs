//! Snapshots from a primary to a mirror, and the log's tail behind them.
#![allow(clippy::panic, clippy::unwrap_used, reason = "tests")]

mod pair;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use mailcluster_replication::{Ended, Snapshots};
use mailcluster_store::{Expunge, Follower, LogReader, Replica, Store, View, testing::Setup};
use mailcluster_types::AccountId;
use pair::{
    Mirror, Primary, aborted, applied, ended, feed_over, id, identity,
    support::{account, deliver, mailbox},
    until,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};

const SEGMENT: u64 = 64 << 10;

fn setup() -> Setup {
    Setup { segment_size: Some(SEGMENT), ..Setup::default() }
}

/// A mirror that has nothing gets files as soon as there is a full segment.
fn soon() -> Snapshots {
    let mut snapshots = Snapshots::default();
    (snapshots.from, snapshots.rate) = (1, 1 << 40);
    snapshots
}

/// So many octets a second.
fn slow(rate: u64) -> Snapshots {
    let mut snapshots = soon();
    snapshots.rate = rate;
    snapshots
}

/// Replica 1 at `epoch`, alone, with mail in many segments.
async fn primary(dir: &TempDir, snapshots: Snapshots) -> Primary {
    let replica = Follower::new(setup().initialise(dir.path(), &identity(1)).unwrap()).unwrap();
    let (primary, _) = Primary::begin_with((dir, replica), (1, 1), &[1], (None, snapshots)).await;
    primary.store.put_account(account(1)).await.unwrap().acknowledge().unwrap();
    for n in 0..40 {
        deliver(&primary.store, 1, &format!("{n} {}", "x".repeat(20_000))).await;
    }
    primary
}

async fn new_mirror(n: u128) -> (TempDir, Mirror) {
    let dir = tempfile::tempdir().unwrap();
    let replica = setup().initialise(dir.path(), &identity(n)).unwrap();
    let mirror = Mirror::serve(n, Follower::new(replica).unwrap()).await;
    (dir, mirror)
}

/// Every text in the inbox.
fn texts(view: &View) -> Vec<String> {
    let inbox = view.mailbox_by_name(AccountId(1), "INBOX").unwrap().unwrap();
    let messages = view.messages(inbox.id, 1, u32::MAX).unwrap();
    messages.iter().map(|m| String::from_utf8(view.body(m.body).unwrap().to_vec()).unwrap()).collect()
}

async fn same(primary: &Primary, copy: &Replica) {
    let view = copy.view();
    assert_eq!(view.verify().unwrap(), Vec::<String>::new());
    assert!(texts(&view) == primary.store.read(|v| Ok(texts(v))).await.unwrap(), "the texts differ");
}

/// Writes until it is told to stop; answers how many were acknowledged.
fn load(store: &Store) -> (watch::Sender<bool>, JoinHandle<usize>) {
    let (stop, stopped) = watch::channel(false);
    let store = store.clone();
    let task = tokio::spawn(async move {
        let mut count = 0;
        while !*stopped.borrow() {
            deliver(&store, 1, &format!("under load {count} {}", "y".repeat(3_000))).await;
            count += 1;
        }
        count
    });
    (stop, task)
}

/// Between a primary and its mirror: counts octets, can be cut, and can flip a bit.
struct Wire {
    at: SocketAddr,
    octets: Arc<AtomicU64>,
    /// All connections end when this changes.
    cut: watch::Sender<()>,
    /// One bit of a text is flipped on its way.
    flip: Arc<AtomicBool>,
}

impl Wire {
    async fn to(mirror: &Mirror) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (at, to) = (listener.local_addr().unwrap(), mirror.at);
        let wire = Self { at, octets: Arc::default(), cut: watch::Sender::new(()), flip: Arc::default() };
        let (octets, flip, cut) = (wire.octets.clone(), wire.flip.clone(), wire.cut.subscribe());
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(to).await.unwrap();
                tokio::spawn(pass((near, far), (octets.clone(), flip.clone()), cut.clone()));
            }
        });
        wire
    }

    fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.at)).unwrap().connect_lazy()
    }

    fn octets(&self) -> u64 {
        self.octets.load(Ordering::Relaxed)
    }
}

async fn pass(
    (near, far): (TcpStream, TcpStream),
    (octets, flip): (Arc<AtomicU64>, Arc<AtomicBool>),
    mut cut: watch::Receiver<()>,
) {
    let ((mut from, mut back), (mut answers, mut out)) = (near.into_split(), far.into_split());
    cut.mark_unchanged();
    let there = async {
        let mut buffer = vec![0; 16 << 10];
        while let Ok(got @ 1..) = from.read(&mut buffer).await {
            octets.fetch_add(got as u64, Ordering::Relaxed);
            let text = buffer[..got].windows(64).position(|window| window.iter().all(|octet| *octet == b'x'));
            if let Some(at) = text
                && flip.swap(false, Ordering::Relaxed)
            {
                buffer[at + 32] ^= 1;
            }
            if out.write_all(&buffer[..got]).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = there => {}
        _ = tokio::io::copy(&mut answers, &mut back) => {}
        _ = cut.changed() => {}
    }
}

/// The log's segments but for the newest, by name.
fn full_segments(dir: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(dir.join("log")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|e| e == "seg")).collect();
    files.sort();
    files.pop();
    files
}

/// Octets of all files in a folder.
fn octets_in(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries
        .map(|entry| entry.unwrap())
        .map(|entry| match entry.metadata().unwrap() {
            m if m.is_dir() => octets_in(&entry.path()),
            m => m.len(),
        })
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_mirror_gets_files_under_load_and_then_the_tail() {
    let one = tempfile::tempdir().unwrap();
    let primary = primary(&one, soon()).await;
    let (stop, writing) = load(&primary.store);
    let (two, mirror) = new_mirror(2).await;
    let feed = primary.feed(&mirror);
    let heard = || primary.progress.heard().get(&id(2)).is_some_and(|heard| heard.synced > 42);
    until("it follows the log", heard).await;
    stop.send_replace(true);
    let written = writing.await.unwrap();
    let end = primary.store.committed().1;
    applied(&primary, 2, end).await;
    let copy = mirror.take();
    assert_eq!((copy.describe().end, copy.describe().identity), ((1, end), identity(2)));
    assert_eq!(texts(&copy.view()).len(), 40 + written);
    same(&primary, &copy).await;
    // As files: its segments begin where the primary's do.
    let names =
        |dir| full_segments(dir).iter().map(|f| f.file_name().unwrap().to_owned()).collect::<Vec<_>>();
    let (theirs, own) = (names(one.path()), names(two.path()));
    assert_eq!(theirs[..5], own[..5]);
    assert_eq!(
        fs::read(one.path().join("log").join(&own[0])).unwrap(),
        fs::read(two.path().join("log").join(&own[0])).unwrap()
    );
    assert_eq!(mirror.standby.copied(), None);
    feed.abort();
    until("nothing is pinned any more", || octets_in(&one.path().join("snapshot-out")) == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_behind_what_the_log_still_has_gets_a_snapshot_by_itself() {
    let one = tempfile::tempdir().unwrap();
    let primary = primary(&one, Snapshots::default()).await;
    let (two, mirror) = new_mirror(2).await;
    let feed = primary.feed(&mirror);
    applied(&primary, 2, primary.store.committed().1).await;
    feed.abort();
    let inbox = mailbox(&primary.store, 1, "INBOX").await;
    let gone = Expunge::These((1..=40).collect());
    primary.store.expunge(inbox.id, gone).await.unwrap().acknowledge().unwrap();
    for n in 0..10 {
        deliver(&primary.store, 1, &format!("left {n} {}", "x".repeat(20_000))).await;
    }
    // As if they had been rewritten: nothing in them is wanted any more, and what follows the mirror's end is gone.
    let mut removed = full_segments(one.path());
    removed.truncate(removed.len() - 3);
    removed.iter().for_each(|path| fs::remove_file(path).unwrap());
    let has = primary.progress.heard()[&id(2)].synced;
    assert!(LogReader::first(one.path()).unwrap() > has + 1, "the log has not what comes next");
    let end = primary.store.committed().1;
    let _feed = primary.feed(&mirror);
    applied(&primary, 2, end).await;
    let copy = mirror.take();
    assert_eq!(copy.describe().end, (1, end));
    same(&primary, &copy).await;
    drop(copy);
    assert_eq!(LogReader::first(two.path()).unwrap(), LogReader::first(one.path()).unwrap());
    let again = setup().open(two.path(), &identity(2)).unwrap();
    same(&primary, &again).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_cut_is_gone_on_with_and_nothing_goes_twice() {
    let one = tempfile::tempdir().unwrap();
    let primary = primary(&one, slow(400_000)).await;
    let (two, mirror) = new_mirror(2).await;
    let wire = Wire::to(&mirror).await;
    let feed = feed_over(&primary.source, wire.channel());
    until("half of it is here", || mirror.standby.copied().is_some_and(|c| c.octets > c.of / 2)).await;
    let of = mirror.standby.copied().unwrap().of;
    wire.cut.send_replace(());
    assert!(matches!(ended(feed).await, Ended::Lost(_)));
    until("it knows that nobody sends", || mirror.standby.copied().is_none()).await;
    assert!(octets_in(&two.path().join("snapshot-in")) > of / 2);
    let first = wire.octets();
    let _feed = feed_over(&primary.source, wire.channel());
    applied(&primary, 2, primary.store.committed().1).await;
    // Headers and the log's tail come to little.
    let (second, most) = (wire.octets() - first, of - of / 2 + of / 8);
    assert!(second < most, "{second} of {of} octets were sent after the first half");
    same(&primary, &mirror.take()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_starts_again_offers_another_and_full_segments_are_not_sent_again() {
    let one = tempfile::tempdir().unwrap();
    let first = primary(&one, slow(400_000)).await;
    let (_two, mirror) = new_mirror(2).await;
    let wire = Wire::to(&mirror).await;
    let feed = feed_over(&first.source, wire.channel());
    until("most of it is here", || mirror.standby.copied().is_some_and(|c| c.octets > c.of / 4 * 3)).await;
    let of = mirror.standby.copied().unwrap().of;
    let Primary { store, source, progress } = first;
    feed.abort();
    assert!(feed.await.unwrap_err().is_cancelled());
    drop((source, progress));
    let again = Follower::new(store.stop().await.unwrap()).unwrap();
    drop(store);
    assert_eq!(octets_in(&one.path().join("snapshot-out")), 0, "its snapshots go with a term");
    let (second, _) = Primary::begin_with((&one, again), (1, 2), &[1], (None, soon())).await;
    deliver(&second.store, 1, "of the next epoch").await;
    let before = wire.octets();
    let _feed = feed_over(&second.source, wire.channel());
    applied(&second, 2, second.store.committed().1).await;
    let sent = wire.octets() - before;
    assert!(sent < of / 2, "{sent} of {of} octets were sent after three quarters");
    let copy = mirror.take();
    assert_eq!(copy.describe().end.0, 2);
    same(&second, &copy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_promised_a_higher_epoch_takes_no_snapshot_nor_goes_on_with_one() {
    let one = tempfile::tempdir().unwrap();
    let primary = primary(&one, slow(100_000)).await;
    let (two, mirror) = new_mirror(2).await;
    let feed = primary.feed(&mirror);
    until("some of it is here", || mirror.standby.copied().is_some_and(|c| c.octets > 0)).await;
    let mut follower = mirror.standby.take().unwrap();
    follower.promise(5).unwrap();
    assert_eq!(follower.end().seq, 0, "nothing counts before all of it is here");
    mirror.standby.give(follower);
    let why = ended(feed).await;
    assert!(aborted(&why), "{why:?}");
    assert!(matches!(ended(primary.feed(&mirror)).await, Ended::Refused { promise: 5 }));
    drop(mirror.take());
    let replica = setup().open(two.path(), &identity(2)).unwrap();
    assert_eq!((replica.describe().end, replica.describe().promise), ((0, 0), 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_arrives_damaged_is_refused_and_comes_again() {
    let one = tempfile::tempdir().unwrap();
    let primary = primary(&one, soon()).await;
    let (_two, mirror) = new_mirror(2).await;
    let wire = Wire::to(&mirror).await;
    wire.flip.store(true, Ordering::Relaxed);
    let why = ended(feed_over(&primary.source, wire.channel())).await;
    assert!(matches!(&why, Ended::NotCopied(status) if status.code() == Code::DataLoss), "{why:?}");
    assert!(!wire.flip.load(Ordering::Relaxed));
    assert_eq!(mirror.standby.describe().unwrap().0.end, (0, 0));
    let _feed = feed_over(&primary.source, wire.channel());
    applied(&primary, 2, primary.store.committed().1).await;
    same(&primary, &mirror.take()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_runs_out_of_room_lets_its_snapshot_go_and_goes_on_when_it_has_room() {
    let one = tempfile::tempdir().unwrap();
    let short = Arc::new(AtomicBool::new(false));
    let (is_short, mut snapshots) = (short.clone(), slow(300_000));
    snapshots.must_go = Arc::new(move |_: &Path| is_short.load(Ordering::Relaxed));
    let primary = primary(&one, snapshots).await;
    let (_two, mirror) = new_mirror(2).await;
    let feed = primary.feed(&mirror);
    until("some of it is here", || mirror.standby.copied().is_some_and(|c| c.octets > c.of / 8)).await;
    assert!(octets_in(&one.path().join("snapshot-out")) > 0);
    short.store(true, Ordering::Relaxed);
    let why = ended(feed).await;
    assert!(matches!(&why, Ended::NotCopied(status) if status.code() == Code::ResourceExhausted), "{why:?}");
    until("its room is given back", || octets_in(&one.path().join("snapshot-out")) == 0).await;
    assert_eq!(mirror.standby.describe().unwrap().0.end, (0, 0));
    short.store(false, Ordering::Relaxed);
    let _feed = primary.feed(&mirror);
    applied(&primary, 2, primary.store.committed().1).await;
    same(&primary, &mirror.take()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_without_room_says_so_and_is_not_pressed() {
    let one = tempfile::tempdir().unwrap();
    let primary = primary(&one, soon()).await;
    let two = tempfile::tempdir().unwrap();
    let free = Arc::new(AtomicU64::new(50 << 30));
    let tight = Setup { free: Some(free.clone()), ..setup() };
    let mirror =
        Mirror::serve(2, Follower::new(tight.initialise(two.path(), &identity(2)).unwrap()).unwrap()).await;
    free.store((4 << 30) + 1000, Ordering::Relaxed);
    let why = ended(primary.feed(&mirror)).await;
    let Ended::NotCopied(status) = &why else { panic!("{why:?}") };
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().contains("a snapshot needs"), "{status}");
    free.store(50 << 30, Ordering::Relaxed);
    let _feed = primary.feed(&mirror);
    applied(&primary, 2, primary.store.committed().1).await;
}
