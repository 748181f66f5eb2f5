//! Replicas of a store in one process, each with its own log, over real connections on loopback.
#![allow(clippy::panic, clippy::unwrap_used, reason = "tests")]

#[path = "../../store/tests/common/mod.rs"]
mod support;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use mailcluster_failover::{Position, mirror::InSync};
use mailcluster_replication::{Begun, Ended, Progress, Source, Standby, service};
use mailcluster_store::{Follower, Identity, OpenGate, Replica, Store, WriteError, testing::Setup};
use mailcluster_types::{Epoch, ReplicaId, Seq};
use support::{account, deliver, delivery, target};
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinHandle, time::Instant};
use tonic::{
    Code,
    transport::{Channel, Endpoint, Server},
};

/// What a test waits for comes within this.
const WAIT: Duration = Duration::from_secs(30);
const BEAT: Duration = Duration::from_millis(50);

fn identity(n: u128) -> Identity {
    Identity { replica: ReplicaId(n), ..support::identity() }
}

fn id(n: u128) -> String {
    ReplicaId(n).to_string()
}

fn fresh(n: u128) -> (TempDir, Follower) {
    let dir = tempfile::tempdir().unwrap();
    let replica = Setup::default().initialise(dir.path(), &identity(n)).unwrap();
    (dir, Follower::new(replica).unwrap())
}

/// Replica `n` as it serves.
struct Primary {
    store: Store,
    progress: Arc<Progress>,
    source: Arc<Source>,
}

impl Primary {
    /// Begins `epoch` with this in-sync set, fed to `mirrors` so that it can settle. What its log had before is committed.
    async fn begin(
        (dir, mut replica): (&TempDir, Follower),
        (n, epoch): (u128, Epoch),
        in_sync: &[u128],
        mirror: Option<&Mirror>,
    ) -> (Self, Option<JoinHandle<Ended>>) {
        replica.promise(epoch).unwrap();
        let ids: Vec<ReplicaId> = in_sync.iter().map(|n| ReplicaId(*n)).collect();
        let before = replica.end().seq;
        let (_, start) = replica.begin(epoch, &ids).unwrap();
        let set = InSync::new(in_sync.iter().map(|n| id(*n)), 1);
        let log = Begun { epochs: replica.epochs().unwrap(), end: start, commit: before };
        let progress = Arc::new(Progress::new(id(n), set, log));
        replica.tell(progress.clone());
        let source = Arc::new(Source {
            dir: dir.path().to_owned(),
            identity: identity(n),
            epoch,
            progress: progress.clone(),
            beat: BEAT,
        });
        let fed = mirror.map(|mirror| feed(&source, mirror));
        until("its first record is committed", || progress.commit() == start).await;
        replica.advance(start).unwrap();
        let store = replica.into_replica().go_on(Arc::new(OpenGate)).unwrap();
        (Self { store, progress, source }, fed)
    }

    fn feed(&self, mirror: &Mirror) -> JoinHandle<Ended> {
        feed(&self.source, mirror)
    }
}

fn feed(source: &Arc<Source>, mirror: &Mirror) -> JoinHandle<Ended> {
    let (source, channel) = (source.clone(), mirror.channel());
    tokio::spawn(async move { source.feed(channel).await })
}

/// A primary at epoch 1, its only mirror, and the stream between them.
struct Pair {
    primary: Primary,
    mirror: Mirror,
    feed: JoinHandle<Ended>,
    dirs: (TempDir, TempDir),
}

async fn pair() -> Pair {
    let ((one, first), (two, second)) = (fresh(1), fresh(2));
    let mirror = Mirror::serve(2, second).await;
    let (primary, feed) = Primary::begin((&one, first), (1, 1), &[1, 2], Some(&mirror)).await;
    Pair { primary, mirror, feed: feed.unwrap(), dirs: (one, two) }
}

/// A replica that may be fed.
struct Mirror {
    standby: Arc<Standby>,
    at: SocketAddr,
}

impl Mirror {
    async fn serve(n: u128, follower: Follower) -> Self {
        let standby = Arc::new(Standby::default());
        standby.give(follower);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        let server = Server::builder().add_service(service(standby.clone(), identity(n)));
        tokio::spawn(server.serve_with_incoming(incoming));
        Self { standby, at }
    }

    fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.at)).unwrap().connect_lazy()
    }

    fn take(&self) -> Replica {
        self.standby.take().unwrap().into_replica()
    }
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + WAIT;
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn ended(feed: JoinHandle<Ended>) -> Ended {
    tokio::time::timeout(WAIT, feed).await.unwrap().unwrap()
}

fn aborted(ended: &Ended) -> bool {
    matches!(ended, Ended::Lost(status) if status.code() == Code::Aborted)
}

/// A new account, and bodies of many sizes for it, some of them in several parts.
async fn work(store: &Store, n: u128) -> Seq {
    store.put_account(account(n)).await.unwrap().acknowledge().unwrap();
    for octets in [0, 1, 4_000, 300_000, 2_000_000] {
        deliver(store, n, &"x".repeat(octets)).await;
    }
    store.committed().1
}

async fn applied(primary: &Primary, mirror: u128, end: Seq) {
    let heard = || primary.progress.heard().get(&id(mirror)).is_some_and(|heard| heard.applied == end);
    until("the mirror applies what is committed", heard).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_acknowledged_before_the_mirror_has_it() {
    let Pair { primary, mirror, feed, dirs: _dirs } = pair().await;
    feed.abort();
    let committed = primary.progress.commit();
    let putting = tokio::spawn({
        let store = primary.store.clone();
        async move { store.put_account(account(2)).await.unwrap().acknowledge() }
    });
    until("the committer waits", || primary.progress.waiting().is_some()).await;
    assert!(!putting.is_finished());
    assert_eq!(primary.progress.commit(), committed);
    let _feed = primary.feed(&mirror);
    tokio::time::timeout(WAIT, putting).await.unwrap().unwrap().unwrap();

    let end = work(&primary.store, 1).await;
    applied(&primary, 2, end).await;
    assert!(mirror.standby.heard_within(WAIT));
    let copy = mirror.take();
    assert_eq!(copy.describe().end, (1, end));
    assert_eq!(copy.view().verify().unwrap(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_stream_ends_the_older_one_and_goes_on_where_that_was() {
    let Pair { primary, mirror, feed, dirs: _dirs } = pair().await;
    work(&primary.store, 1).await;
    let _new = primary.feed(&mirror);
    let why = ended(feed).await;
    assert!(aborted(&why), "{why:?}");
    let end = work(&primary.store, 2).await;
    applied(&primary, 2, end).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promise_ends_a_primary_and_what_nobody_has_is_cut_off() {
    let Pair { primary: old, mirror, feed, dirs } = pair().await;
    let committed = work(&old.store, 1).await;
    feed.abort();
    // Cut off, it writes what nobody will ever see.
    let lost = tokio::spawn({
        let store = old.store.clone();
        async move { store.deliver(delivery(vec![target(1)], "seen by nobody")).await.err() }
    });
    until("the committer waits", || old.progress.waiting().is_some()).await;

    let taken = mirror.standby.take().unwrap();
    assert!(aborted(&ended(old.feed(&mirror)).await), "its replica is no standby any more");
    let (new, _) = Primary::begin((&dirs.1, taken), (2, 2), &[2], None).await;
    deliver(&new.store, 1, "of the new primary").await;

    old.progress.end();
    assert_eq!(lost.await.unwrap(), Some(WriteError::Unknown));
    let back = Follower::new(old.store.stop().await.unwrap()).unwrap();
    assert_eq!(back.end().seq, committed + 1);
    let mirror = Mirror::serve(1, back).await;
    let _feed = new.feed(&mirror);
    let (_, end) = new.store.committed();
    until("it follows", || new.progress.heard().get(&id(1)).is_some_and(|heard| heard.synced == end)).await;
    assert!(matches!(ended(old.feed(&mirror)).await, Ended::Refused { promise: 2 }));
    applied(&new, 1, end).await;
    let copy = mirror.take();
    assert_eq!(copy.describe().end, (2, end));
    assert_eq!(copy.view().verify().unwrap(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_comes_late_gets_what_older_epochs_wrote() {
    let (one, first) = fresh(1);
    let (old, _) = Primary::begin((&one, first), (1, 1), &[1], None).await;
    work(&old.store, 1).await;
    let again = Follower::new(old.store.stop().await.unwrap()).unwrap();
    let (new, _) = Primary::begin((&one, again), (1, 2), &[1], None).await;
    let (_two, second) = fresh(2);
    let mirror = Mirror::serve(2, second).await;
    let _feed = new.feed(&mirror);
    let end = work(&new.store, 2).await;
    applied(&new, 2, end).await;
    assert_eq!(mirror.take().view().verify().unwrap(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_has_lost_what_a_mirror_has_committed_yields_to_it() {
    let Pair { primary, mirror, feed, dirs: _dirs } = pair().await;
    let end = work(&primary.store, 1).await;
    applied(&primary, 2, end).await;
    feed.abort();
    let (dir, empty) = fresh(3);
    let (forgetful, _) = Primary::begin((&dir, empty), (3, 2), &[3], None).await;
    let why = ended(forgetful.feed(&mirror)).await;
    assert!(matches!(why, Ended::Yield { after: Position { epoch: 0, seq: 0 } }), "{why:?}");
    assert_eq!(mirror.take().describe().end, (1, end), "nothing of it was cut");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_of_another_store_refuses() {
    let (dir, first) = fresh(1);
    let (_other, second) = fresh(2);
    let mirror = Mirror::serve(2, second).await;
    let (mut primary, _) = Primary::begin((&dir, first), (1, 1), &[1], None).await;
    Arc::get_mut(&mut primary.source).unwrap().identity.store = "other".into();
    let why = ended(primary.feed(&mirror)).await;
    assert!(matches!(&why, Ended::Lost(status) if status.code() == Code::FailedPrecondition), "{why:?}");
    assert!(!mirror.standby.heard_within(WAIT));
}
