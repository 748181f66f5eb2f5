//! A replica's life over a real store and the file arbiter: initialise, serve, stop, come back one epoch higher.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use mailcluster_arbiter::{
    FileArbiter, LeaseGate, ReplicaState, StatusHandle,
    lifecycle::{Alone, Lifecycle, LifecycleConfig, Outcome, Replica, run},
};
use mailcluster_failover::{Durability, FencingMinimum};
use mailcluster_store::{Identity, Options, Store, StoreKind};
use mailcluster_types::{ClusterId, ReplicaId};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Beside the repository's build output: never on tmpfs, which a store refuses.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

struct Events {
    /// A session is at a command.
    busy: watch::Sender<bool>,
    serving: watch::Sender<Option<Store>>,
    over: watch::Sender<Option<CancellationToken>>,
}

#[async_trait]
impl Lifecycle for Events {
    async fn serving(&self, store: Store, over: CancellationToken) {
        self.over.send_replace(Some(over));
        self.serving.send_replace(Some(store));
    }

    async fn drained(&self) {
        let _ = self.busy.subscribe().wait_for(|busy| !busy).await;
    }

    async fn stopped(&self) {
        self.serving.send_replace(None);
    }
}

struct Node {
    status: StatusHandle,
    gate: Arc<LeaseGate>,
    events: Arc<Events>,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<Outcome>,
}

fn identity(replica: u128) -> Identity {
    Identity {
        cluster: ClusterId(1),
        store: "demo-0".into(),
        replica: ReplicaId(replica),
        kind: StoreKind::Mail,
    }
}

fn start(dir: &Path, replica: u128) -> Node {
    let arbiter = FileArbiter::open(&dir.join("arbiter"), &ReplicaId(replica).to_string()).unwrap();
    let data_dir = dir.join("store");
    std::fs::create_dir_all(&data_dir).unwrap();
    let config = LifecycleConfig {
        data_dir,
        disk: Options::default(),
        identity: identity(replica),
        pod_uid: "standalone".into(),
        start_id: format!("{:?}", std::time::Instant::now()).replace('/', ""),
        node: "here".into(),
        endpoint: "127.0.0.1:1".parse().unwrap(),
        lease_seconds: 8,
        fencing: FencingMinimum::Proof,
        durability: Durability::Single,
        mirror_timeout: Duration::from_secs(3),
        peers: Arc::new(Alone),
        comparing: Arc::default(),
    };
    let (status, gate, shutdown) = (StatusHandle::new(), LeaseGate::new(), CancellationToken::new());
    let events = Arc::new(Events {
        busy: watch::Sender::new(false),
        serving: watch::Sender::new(None),
        over: watch::Sender::new(None),
    });
    let task = tokio::spawn(run(
        config,
        Replica { arbiter: Arc::new(arbiter), standby: Arc::default() },
        events.clone(),
        gate.clone(),
        status.clone(),
        shutdown.clone(),
    ));
    Node { status, gate, events, shutdown, task }
}

impl Node {
    async fn serving(&self) -> Store {
        let mut serving = self.events.serving.subscribe();
        let store = tokio::time::timeout(Duration::from_secs(30), serving.wait_for(Option::is_some))
            .await
            .unwrap_or_else(|_| panic!("not serving: {:?}", self.status.get().state))
            .unwrap()
            .clone();
        store.unwrap()
    }

    async fn stop(self) -> Outcome {
        self.shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(30), self.task).await.unwrap().unwrap()
    }
}

async fn write(store: &Store, what: &str) -> bool {
    let receipt = store.audit(0, "test".into(), what.into()).await.unwrap();
    receipt.acknowledge().is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_start_takes_a_new_epoch_and_keeps_what_was_acknowledged() {
    let dir = scratch();
    for epoch in 1..=6 {
        let node = start(dir.path(), 7);
        let store = node.serving().await;
        assert_eq!(store.epoch(), epoch, "C3");
        assert!(node.gate.open() && store.may_read());
        assert!(write(&store, "x").await);
        let end = store.committed();
        assert_eq!(end.0, epoch);
        let over = node.events.over.borrow().clone().unwrap();
        assert!(!over.is_cancelled());
        drop(store);
        assert_eq!(node.stop().await, Outcome::Stopped);
        assert!(over.is_cancelled());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_stops_in_the_process_and_the_next_epoch_follows() {
    let dir = scratch();
    let node = start(dir.path(), 7);
    let first = node.serving().await;
    assert_eq!(first.epoch(), 1);
    node.status.request_drain(None);
    let mut serving = node.events.serving.subscribe();
    tokio::time::timeout(
        Duration::from_secs(30),
        serving.wait_for(|s| s.as_ref().is_some_and(|s| s.epoch() == 2)),
    )
    .await
    .unwrap()
    .unwrap();
    assert!(first.audit(0, "test".into(), "late".into()).await.is_err(), "the old handle appends nothing");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_flight_when_the_end_is_asked_for_is_still_acknowledged() {
    let dir = scratch();
    let node = start(dir.path(), 7);
    let store = node.serving().await;
    node.events.busy.send_replace(true);
    let over = node.events.over.borrow().clone().unwrap();
    node.shutdown.cancel();
    over.cancelled().await;
    assert_eq!(node.status.get().state, ReplicaState::Draining, "nothing new is let in");
    assert!(write(&store, "in flight").await);
    node.events.busy.send_replace(false);
    drop(store);
    assert_eq!(node.stop().await, Outcome::Stopped);
    // One that does not end holds up nothing for long.
    let node = start(dir.path(), 7);
    let store = node.serving().await;
    node.events.busy.send_replace(true);
    assert_eq!(node.stop().await, Outcome::Stopped);
    assert!(store.audit(0, "test".into(), "late".into()).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_replicas_volume_and_an_emptied_one_are_refused() {
    let dir = scratch();
    let node = start(dir.path(), 7);
    node.serving().await;
    node.stop().await;
    let refused = async |node: Node, word: &str| {
        let wait = async {
            loop {
                if let ReplicaState::Refused(why) = node.status.get().state {
                    break why;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let why = tokio::time::timeout(Duration::from_secs(30), wait).await.unwrap();
        assert!(why.contains(word), "{why}");
        assert_eq!(node.stop().await, Outcome::Stopped);
    };
    let store = dir.path().join("store");
    std::fs::rename(&store, dir.path().join("kept")).unwrap();
    refused(start(dir.path(), 7), "EmptyVolume").await;
    std::fs::remove_dir_all(dir.path().join("arbiter")).unwrap();
    std::fs::remove_dir_all(&store).unwrap();
    std::fs::rename(dir.path().join("kept"), &store).unwrap();
    refused(start(dir.path(), 8), "ForeignVolume").await;
    std::fs::remove_dir_all(dir.path().join("arbiter")).unwrap();
    refused(start(dir.path(), 7), "StateRolledBack").await;
}
