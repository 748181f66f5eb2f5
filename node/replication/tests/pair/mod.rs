//! Replicas of a store in one process, each with its own log, over real connections on loopback.
#![allow(dead_code, clippy::panic, clippy::unwrap_used, reason = "tests; each file uses a part of it")]

#[path = "../../../store/tests/common/mod.rs"]
pub mod support;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use mailcluster_failover::mirror::InSync;
use mailcluster_replication::{Begun, Comparing, Ended, Progress, Snapshots, Source, Standby, service};
use mailcluster_store::{Follower, Identity, OpenGate, Replica, Store, testing::Setup};
use mailcluster_types::{Epoch, ReplicaId, Seq};
use support::{account, deliver};
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinHandle, time::Instant};
use tonic::{
    Code,
    transport::{Channel, Endpoint, Server},
};

/// What a test waits for comes within this.
pub const WAIT: Duration = Duration::from_secs(30);
pub const BEAT: Duration = Duration::from_millis(50);
/// Indexes are compared all the time.
const COMPARED: Duration = Duration::from_millis(5);

pub fn identity(n: u128) -> Identity {
    Identity { replica: ReplicaId(n), ..support::identity() }
}

pub fn id(n: u128) -> String {
    ReplicaId(n).to_string()
}

pub fn fresh(n: u128) -> (TempDir, Follower) {
    let dir = tempfile::tempdir().unwrap();
    let replica = Setup::default().initialise(dir.path(), &identity(n)).unwrap();
    (dir, Follower::new(replica).unwrap())
}

/// Replica `n` as it serves.
pub struct Primary {
    pub store: Store,
    pub progress: Arc<Progress>,
    pub source: Arc<Source>,
}

impl Primary {
    /// Begins `epoch` with this in-sync set, fed to `mirrors` so that it can settle. What its log had before is committed.
    pub async fn begin(
        replica: (&TempDir, Follower),
        (n, epoch): (u128, Epoch),
        in_sync: &[u128],
        mirror: Option<&Mirror>,
    ) -> (Self, Option<JoinHandle<Ended>>) {
        Self::begin_with(replica, (n, epoch), in_sync, (mirror, Snapshots::default())).await
    }

    /// The same, with another way to make snapshots.
    pub async fn begin_with(
        (dir, mut replica): (&TempDir, Follower),
        (n, epoch): (u128, Epoch),
        in_sync: &[u128],
        (mirror, snapshots): (Option<&Mirror>, Snapshots),
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
            snapshots,
            repairs: replica.repairs(),
            comparing: Arc::new(Comparing::new(20, COMPARED, COMPARED)),
        });
        let fed = mirror.map(|mirror| feed(&source, mirror));
        until("its first record is committed", || progress.commit() == start).await;
        replica.advance(start).unwrap();
        let store = replica.into_replica().go_on(Arc::new(OpenGate)).unwrap();
        (Self { store, progress, source }, fed)
    }

    pub fn feed(&self, mirror: &Mirror) -> JoinHandle<Ended> {
        feed(&self.source, mirror)
    }
}

pub fn feed(source: &Arc<Source>, mirror: &Mirror) -> JoinHandle<Ended> {
    feed_over(source, mirror.channel())
}

pub fn feed_over(source: &Arc<Source>, channel: Channel) -> JoinHandle<Ended> {
    let source = source.clone();
    tokio::spawn(async move { source.feed(channel).await })
}

/// A primary at epoch 1, its only mirror, and the stream between them.
pub struct Pair {
    pub primary: Primary,
    pub mirror: Mirror,
    pub feed: JoinHandle<Ended>,
    pub dirs: (TempDir, TempDir),
}

pub async fn pair() -> Pair {
    let ((one, first), (two, second)) = (fresh(1), fresh(2));
    let mirror = Mirror::serve(2, second).await;
    let (primary, feed) = Primary::begin((&one, first), (1, 1), &[1, 2], Some(&mirror)).await;
    Pair { primary, mirror, feed: feed.unwrap(), dirs: (one, two) }
}

/// A replica that may be fed.
pub struct Mirror {
    pub standby: Arc<Standby>,
    pub at: SocketAddr,
}

impl Mirror {
    pub async fn serve(n: u128, follower: Follower) -> Self {
        let standby = Arc::new(Standby::default());
        standby.give(follower);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        let server = Server::builder().add_service(service(standby.clone(), identity(n)));
        tokio::spawn(server.serve_with_incoming(incoming));
        Self { standby, at }
    }

    pub fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.at)).unwrap().connect_lazy()
    }

    pub fn take(&self) -> Replica {
        self.standby.take().unwrap().into_replica()
    }
}

pub async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + WAIT;
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub async fn ended(feed: JoinHandle<Ended>) -> Ended {
    tokio::time::timeout(WAIT, feed).await.unwrap().unwrap()
}

pub fn aborted(ended: &Ended) -> bool {
    matches!(ended, Ended::Lost(status) if status.code() == Code::Aborted)
}

/// A new account, and bodies of many sizes for it, some of them in several parts.
pub async fn work(store: &Store, n: u128) -> Seq {
    store.put_account(account(n)).await.unwrap().acknowledge().unwrap();
    for octets in [0, 1, 4_000, 300_000, 2_000_000] {
        deliver(store, n, &"x".repeat(octets)).await;
    }
    store.committed().1
}

pub async fn applied(primary: &Primary, mirror: u128, end: Seq) {
    let heard = || primary.progress.heard().get(&id(mirror)).is_some_and(|heard| heard.applied == end);
    until("the mirror applies what is committed", heard).await;
}
