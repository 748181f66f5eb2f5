//! Three replicas of a store in one process, each with its own log and connections on loopback, under one record: what
//! is acknowledged by one is there when another serves.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "mirrored/from_backup.rs"]
mod from_backup;
#[path = "mirrored/hanging.rs"]
mod hanging;
#[path = "mirrored/hanging_disk.rs"]
mod hanging_disk;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use mailcluster_arbiter::{
    Advice, Arbiter, ArbiterError, Current, LeaseGate, ReplicaState, Route, StatusHandle, SwapError,
    TargetAdvice,
    lifecycle::{Lifecycle, LifecycleConfig, Outcome, Peers, Replica, run},
};
use mailcluster_failover::{Durability, FencingMinimum, LeaseRecord, TargetKind};
use mailcluster_replication::{Standby, service};
use mailcluster_store::{Enqueue, Identity, QueueRecipient, Store, StoreKind, testing::Setup};
use mailcluster_types::{ClusterId, DeliveryId, ReplicaId};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint, Server};

/// What a test waits for comes within this.
const WAIT: Duration = Duration::from_secs(60);
/// The shortest lease there is.
const LEASE_SECONDS: u32 = 4;
/// How long writes wait for a mirror, unless a test says otherwise.
const MIRROR_TIMEOUT: Duration = Duration::from_millis(500);

fn id(n: u128) -> String {
    ReplicaId(n).to_string()
}

fn identity(n: u128) -> Identity {
    Identity { cluster: ClusterId(1), store: "demo-0".into(), replica: ReplicaId(n), kind: StoreKind::Mail }
}

/// The record of a store, as the API keeps it, and what the operator has written beside it.
struct Record {
    now: Mutex<(LeaseRecord, u64)>,
    advice: Mutex<Advice>,
    routes: Mutex<Vec<u64>>,
}

impl Record {
    fn read(&self) -> LeaseRecord {
        self.now.lock().unwrap().0.clone()
    }

    /// As the operator asks for a replica.
    fn ask(&self, n: u128, kind: TargetKind) {
        let version = self.now.lock().unwrap().1.to_string();
        self.advice.lock().unwrap().target = Some(TargetAdvice { replica: id(n), version, kind });
    }

    /// The lease's version as long as nobody writes it for `span`.
    async fn unchanged_for(&self, span: Duration) {
        let (deadline, mut since) = (Instant::now() + WAIT, (0, Instant::now()));
        while since.1.elapsed() < span {
            assert!(Instant::now() < deadline, "somebody goes on renewing");
            let version = self.now.lock().unwrap().1;
            if version != since.0 {
                since = (version, Instant::now());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// One replica's way to it, which can be cut.
struct Way {
    record: Arc<Record>,
    away: Arc<AtomicBool>,
}

impl Way {
    fn check(&self) -> Result<(), ArbiterError> {
        if self.away.load(Ordering::SeqCst) { Err(ArbiterError::Away("cut".into())) } else { Ok(()) }
    }
}

#[async_trait]
impl Arbiter for Way {
    async fn current(&self) -> Result<Current, ArbiterError> {
        self.check()?;
        let (record, version) = self.record.now.lock().unwrap().clone();
        Ok(Current::new(record, version.to_string()))
    }

    async fn swap(&self, read: &Current, next: &LeaseRecord) -> Result<Current, SwapError> {
        self.check().map_err(|error| SwapError::Unknown(error.to_string()))?;
        let mut now = self.record.now.lock().unwrap();
        if now.1.to_string() != read.version {
            return Err(SwapError::Conflict);
        }
        *now = (next.clone(), now.1 + 1);
        Ok(Current::new(next.clone(), now.1.to_string()))
    }

    async fn advice(&self) -> Result<Advice, ArbiterError> {
        self.check()?;
        Ok(self.record.advice.lock().unwrap().clone())
    }

    async fn publish(&self, route: &Route) -> Result<(), ArbiterError> {
        self.check()?;
        self.record.routes.lock().unwrap().push(route.epoch);
        Ok(())
    }

    fn supervised(&self) -> bool {
        true
    }
}

/// Where the replicas are.
#[derive(Clone)]
struct Others {
    at: Arc<Mutex<BTreeMap<u128, SocketAddr>>>,
    all: Arc<Mutex<Vec<u128>>>,
}

#[async_trait]
impl Peers for Others {
    fn all(&self) -> Vec<String> {
        self.all.lock().unwrap().iter().map(|n| id(*n)).collect()
    }

    async fn channel(&self, replica: &str) -> Result<Channel, String> {
        let at = self.at.lock().unwrap().iter().find(|(n, _)| id(**n) == replica).map(|(_, at)| *at);
        let at = at.ok_or("it has no address")?;
        Ok(Endpoint::from_shared(format!("http://{at}")).unwrap().connect_lazy())
    }
}

struct Events(watch::Sender<Option<Store>>);

#[async_trait]
impl Lifecycle for Events {
    async fn serving(&self, store: Store, _: CancellationToken) {
        self.0.send_replace(Some(store));
    }

    async fn drained(&self) {}

    async fn stopped(&self) {
        self.0.send_replace(None);
    }
}

struct Node {
    standby: Arc<Standby>,
    status: StatusHandle,
    gate: Arc<LeaseGate>,
    serving: watch::Receiver<Option<Store>>,
    away: Arc<AtomicBool>,
    shutdown: CancellationToken,
    server: CancellationToken,
    task: JoinHandle<Outcome>,
}

struct Cluster {
    dir: tempfile::TempDir,
    record: Arc<Record>,
    at: Arc<Mutex<BTreeMap<u128, SocketAddr>>>,
    durability: Durability,
    mirror_timeout: Duration,
    all: Arc<Mutex<Vec<u128>>>,
    disks: BTreeMap<u128, Setup>,
    nodes: BTreeMap<u128, Node>,
}

impl Cluster {
    /// These replicas, new, and the first of them asked to serve.
    async fn start(all: &[u128], durability: Durability) -> Self {
        let cluster = Self::standing_by(all, durability, MIRROR_TIMEOUT).await;
        cluster.record.ask(all[0], TargetKind::Initial);
        cluster
    }

    /// These replicas, new, and nobody asked to serve yet.
    async fn standing_by(all: &[u128], durability: Durability, mirror_timeout: Duration) -> Self {
        let min = if durability == Durability::Required { 2 } else { 1 };
        let first = LeaseRecord::initial(all.iter().map(|n| id(*n)).collect(), min);
        let mut cluster = Self {
            dir: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap(),
            record: Arc::new(Record {
                now: Mutex::new((first, 1)),
                advice: Mutex::default(),
                routes: Mutex::default(),
            }),
            at: Arc::default(),
            durability,
            mirror_timeout,
            all: Arc::new(Mutex::new(all.to_vec())),
            disks: BTreeMap::new(),
            nodes: BTreeMap::new(),
        };
        for n in all {
            cluster.run(*n).await;
        }
        cluster
    }

    async fn run(&mut self, n: u128) {
        let data_dir = self.dir.path().join(n.to_string());
        std::fs::create_dir_all(&data_dir).unwrap();
        let away = Arc::new(AtomicBool::new(false));
        let config = LifecycleConfig {
            data_dir,
            disk: self.disks.entry(n).or_default().options(),
            identity: identity(n),
            pod_uid: format!("pod-{n}"),
            start_id: format!("{:?}", std::time::Instant::now()).replace('/', ""),
            node: format!("node-{n}"),
            endpoint: "127.0.0.1:1".parse().unwrap(),
            lease_seconds: LEASE_SECONDS,
            fencing: FencingMinimum::Proof,
            durability: self.durability,
            mirror_timeout: self.mirror_timeout,
            peers: Arc::new(Others { at: self.at.clone(), all: self.all.clone() }),
            comparing: Arc::default(),
        };
        let (status, gate) = (StatusHandle::new(), LeaseGate::new());
        let (shutdown, server) = (CancellationToken::new(), CancellationToken::new());
        let standby = Arc::new(Standby::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.at.lock().unwrap().insert(n, listener.local_addr().unwrap());
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        let router = Server::builder().add_service(service(standby.clone(), identity(n)));
        tokio::spawn({
            let over = server.clone();
            async move {
                tokio::select! { _ = router.serve_with_incoming(incoming) => {}, () = over.cancelled() => {} }
            }
        });
        let arbiter = Arc::new(Way { record: self.record.clone(), away: away.clone() });
        let (sender, serving) = watch::channel(None);
        let replica = Replica { arbiter, standby: standby.clone() };
        let task = tokio::spawn(run(
            config,
            replica,
            Arc::new(Events(sender)),
            gate.clone(),
            status.clone(),
            shutdown.clone(),
        ));
        self.nodes.insert(n, Node { standby, status, gate, serving, away, shutdown, server, task });
    }

    async fn serving(&self, n: u128) -> Store {
        let node = &self.nodes[&n];
        let mut serving = node.serving.clone();
        let store = tokio::time::timeout(WAIT, serving.wait_for(Option::is_some)).await;
        let store = store
            .unwrap_or_else(|_| panic!("{n} is {:?}: {:?}", node.status.get().state, self.record.read()));
        store.unwrap().clone().unwrap()
    }

    /// Ends a replica's process: without a word to anybody, or in order.
    async fn end(&mut self, n: u128, in_order: bool) {
        let node = self.nodes.remove(&n).unwrap();
        node.away.store(!in_order, Ordering::SeqCst);
        if !in_order {
            node.server.cancel();
            self.at.lock().unwrap().remove(&n);
        }
        node.shutdown.cancel();
        assert_eq!(tokio::time::timeout(WAIT, node.task).await.unwrap().unwrap(), Outcome::Stopped);
        node.server.cancel();
    }

    async fn in_sync(&self, wanted: &[u128]) {
        let wanted: Vec<String> = wanted.iter().map(|n| id(*n)).collect();
        until("the in-sync set", || {
            let mut now = self.record.read().in_sync;
            now.sort();
            now == wanted
        })
        .await;
    }

    async fn stop(mut self) {
        while let Some(n) = self.nodes.keys().next().copied() {
            self.end(n, true).await;
        }
    }
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + WAIT;
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Writes one line of the audit log; `true` when it was acknowledged.
async fn write(store: &Store, what: &str) -> bool {
    let receipt = tokio::time::timeout(WAIT, store.audit(0, "test".into(), what.into())).await.unwrap();
    receipt.is_ok_and(|receipt| receipt.acknowledge().is_ok())
}

async fn lines(store: &Store) -> Vec<String> {
    let log = store.read(|view| view.audit_log(100)).await.unwrap();
    let mut lines: Vec<String> = log.into_iter().map(|(_, _, what)| what).collect();
    lines.sort();
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planned_end_gives_the_store_to_a_mirror_and_back() {
    let cluster = Cluster::start(&[1, 2, 3], Durability::Required).await;
    let first = cluster.serving(1).await;
    assert_eq!(first.epoch(), 1);
    for n in 0..20 {
        assert!(write(&first, &format!("first {n:02}")).await);
    }
    cluster.nodes[&1].status.request_drain(Some(id(3)));
    let (heir, second) = (3, cluster.serving(3).await);
    assert_eq!(second.epoch(), 2);
    assert_eq!(lines(&second).await.len(), 20);
    assert!(write(&second, "second").await);
    assert!(!write(&first, "late").await, "the old handle appends nothing");
    // The old holder follows, and counts again.
    cluster.in_sync(&[1, 2, 3]).await;
    cluster.nodes[&heir].status.request_drain(None);
    until("another serves", || {
        cluster.nodes.iter().any(|(n, node)| *n != heir && node.serving.borrow().is_some())
    })
    .await;
    assert_eq!(cluster.record.routes.lock().unwrap().last(), Some(&3));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f18_a_lost_primary_costs_nothing_that_was_acknowledged() {
    let mut cluster = Cluster::start(&[1, 2, 3], Durability::Required).await;
    let first = cluster.serving(1).await;
    for n in 0..20 {
        assert!(write(&first, &format!("first {n:02}")).await);
    }
    drop(first);
    cluster.end(1, false).await;
    cluster.record.unchanged_for(Duration::from_secs(u64::from(LEASE_SECONDS))).await;
    cluster.record.ask(2, TargetKind::Auto);
    let second = cluster.serving(2).await;
    assert_eq!((second.epoch(), lines(&second).await.len()), (2, 20));
    assert!(write(&second, "second").await);
    assert!(!cluster.record.read().in_sync.contains(&id(1)));
    // It comes back with its old log, and is let in when it has everything.
    cluster.run(1).await;
    cluster.in_sync(&[1, 2, 3]).await;
    drop(second);
    cluster.end(2, true).await;
    until("another serves", || [1, 3].iter().any(|n| cluster.nodes[n].serving.borrow().is_some())).await;
    let heir = if cluster.nodes[&1].serving.borrow().is_some() { 1 } else { 3 };
    assert_eq!(lines(&cluster.serving(heir).await).await.len(), 21);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_is_gone_is_left_out_once_and_let_in_again() {
    let mut cluster = Cluster::start(&[1, 2], Durability::Preferred).await;
    let store = cluster.serving(1).await;
    assert!(write(&store, "both").await);
    cluster.end(2, false).await;
    cluster.nodes[&1].status.heard();
    assert!(write(&store, "waits for mirrorTimeout").await);
    cluster.in_sync(&[1]).await;
    assert!(write(&store, "alone").await && cluster.nodes[&1].gate.open());
    cluster.run(2).await;
    cluster.in_sync(&[1, 2]).await;
    assert!(write(&store, "both again").await);
    drop(store);
    cluster.end(1, true).await;
    let heir = cluster.serving(2).await;
    assert_eq!(lines(&heir).await.len(), 4);
    drop(heir);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c6_a_promise_to_somebody_else_makes_the_holder_go_above_it() {
    let cluster = Cluster::start(&[1, 2, 3], Durability::Required).await;
    let store = cluster.serving(1).await;
    assert!(write(&store, "first").await);
    // As a candidate does whose swap comes too late.
    let mut follower = cluster.nodes[&2].standby.take().unwrap();
    follower.promise(2).unwrap();
    cluster.nodes[&2].standby.give(follower);
    until("its epoch is above the promise", || cluster.record.read().epoch == 3).await;
    until("and published", || cluster.record.routes.lock().unwrap().last() == Some(&3)).await;
    assert!(write(&store, "second").await, "sessions stay");
    assert_eq!(store.epoch(), 3);
    cluster.in_sync(&[1, 2, 3]).await;
    drop(store);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a5_one_that_settles_says_which_epoch_it_has_begun() {
    let mut cluster = Cluster::start(&[1, 2], Durability::Required).await;
    drop(cluster.serving(1).await);
    for n in [1, 2] {
        cluster.end(n, false).await;
    }
    // Without the other it begins an epoch, and does not come to serve.
    cluster.run(1).await;
    until("it settles", || cluster.nodes[&1].status.get().state == ReplicaState::Settling).await;
    let taken = cluster.record.read().epoch;
    assert!(taken > 1);
    until("and says so", || {
        let said = cluster.nodes[&1].status.get().description;
        said.is_some_and(|said| said.promise == taken && said.last_epoch == taken)
    })
    .await;
    cluster.end(1, false).await;
}

/// A primary that both copies had everything of when its mirror went without a word. No client comes; the API is there.
async fn hearing_nobody() -> (Cluster, Store) {
    let mut cluster = Cluster::start(&[1, 2], Durability::Preferred).await;
    let store = cluster.serving(1).await;
    // EpochStart, the in-sync set, and this.
    assert!(write(&store, "both").await);
    until("nothing is under way", || store.committed().1 >= 3).await;
    cluster.end(2, false).await;
    (cluster, store)
}

#[tokio::test(flavor = "multi_thread")]
async fn b5_one_that_hears_nobody_leaves_nobody_out() {
    let (cluster, store) = hearing_nobody().await;
    tokio::time::sleep(Duration::from_millis(u64::from(LEASE_SECONDS) * 1000 + 200)).await;
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { write(&store, "held back").await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!waiting.is_finished(), "{:?} {:?}", waiting.await, cluster.record.read());
    assert_eq!(cluster.record.read().in_sync.len(), 2);
    cluster.nodes[&1].status.heard();
    assert!(tokio::time::timeout(WAIT, waiting).await.unwrap().unwrap());
    drop(store);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b5_one_that_hears_nobody_for_long_gives_the_store_back() {
    let (mut cluster, store) = hearing_nobody().await;
    until("the lease is given back", || cluster.record.read().holder.is_none()).await;
    let record = cluster.record.read();
    assert_eq!((record.in_sync.len(), record.replica), (2, Some(id(1))), "nobody was left out");
    drop(store);
    until("it stands by", || cluster.nodes[&1].status.get().state == ReplicaState::Standby).await;
    cluster.run(2).await;
    cluster.record.ask(2, TargetKind::Planned);
    let heir = cluster.serving(2).await;
    assert_eq!(lines(&heir).await.len(), 1);
    drop(heir);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f15_a_cut_off_primary_acknowledges_nothing_once_another_serves() {
    let cluster = Cluster::start(&[1, 2, 3], Durability::Required).await;
    let first = cluster.serving(1).await;
    assert!(write(&first, "first").await);
    // From the API and from both mirrors, but its clients reach it.
    cluster.nodes[&1].away.store(true, Ordering::SeqCst);
    let kept = std::mem::take(&mut *cluster.at.lock().unwrap());
    for n in [2, 3] {
        cluster.at.lock().unwrap().insert(n, kept[&n]);
    }
    cluster.record.unchanged_for(Duration::from_secs(u64::from(LEASE_SECONDS))).await;
    // A person orders it: the mirrors would still hear the old one.
    cluster.record.ask(2, TargetKind::Planned);
    let second = cluster.serving(2).await;
    assert!(write(&second, "second").await);
    assert!(!write(&first, "at the epoch before").await);
    cluster.nodes[&1].away.store(false, Ordering::SeqCst);
    until("it stands by", || cluster.nodes[&1].status.get().state == ReplicaState::Standby).await;
    cluster.at.lock().unwrap().insert(1, kept[&1]);
    cluster.in_sync(&[1, 2, 3]).await;
    let found = lines(&second).await;
    assert_eq!(found, ["first", "second"]);
    drop((first, second));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_copy_takes_the_place_of_a_lost_one_and_an_emptied_one_does_not_begin_anew() {
    let mut cluster = Cluster::start(&[1, 2, 3], Durability::Required).await;
    let first = cluster.serving(1).await;
    for n in 0..20 {
        assert!(write(&first, &format!("{n:02}")).await);
    }
    cluster.end(3, false).await;
    // Its disk is gone for good: nobody writes, so nobody notices, before another has its place.
    *cluster.all.lock().unwrap() = vec![1, 2, 4];
    cluster.record.advice.lock().unwrap().unopened = vec![id(4)];
    cluster.run(4).await;
    cluster.in_sync(&[1, 2, 4]).await;
    cluster.record.advice.lock().unwrap().unopened.clear();
    assert!(write(&first, "with the new one").await);
    cluster.nodes[&1].status.request_drain(Some(id(4)));
    let second = cluster.serving(4).await;
    assert_eq!(lines(&second).await.len(), 21);
    // What it had promised and acknowledged is on no disk any more: under its old id it does not come back.
    cluster.end(4, true).await;
    std::fs::remove_dir_all(cluster.dir.path().join("4")).unwrap();
    cluster.run(4).await;
    until("the empty volume is refused", || {
        let state = cluster.nodes[&4].status.get().state;
        matches!(state, ReplicaState::Refused(why) if why.starts_with("EmptyVolume"))
    })
    .await;
    cluster.stop().await;
}

/// Waits until nobody renews, then has a person order this replica to take the store.
async fn force(cluster: &Cluster, n: u128) -> Store {
    cluster.record.unchanged_for(Duration::from_secs(u64::from(LEASE_SECONDS))).await;
    cluster.record.ask(n, TargetKind::Forced);
    cluster.serving(n).await
}

async fn forked(cluster: &Cluster, n: u128) {
    until("it keeps what was left behind", || {
        matches!(cluster.nodes[&n].status.get().state, ReplicaState::Forked(_))
    })
    .await;
}

/// The lines of the audit log of a replica whose process has ended, as tools read it.
fn kept(cluster: &Cluster, n: u128) -> Vec<String> {
    let replica =
        mailcluster_store::Replica::open(&cluster.dir.path().join(n.to_string()), &identity(n)).unwrap();
    replica.view().audit_log(100).unwrap().into_iter().map(|(_, _, what)| what).collect()
}

/// Copy 2 was left out, 1 went on alone, and its machine is gone.
async fn left_alone() -> Cluster {
    let mut cluster = Cluster::start(&[1, 2], Durability::Preferred).await;
    let store = cluster.serving(1).await;
    assert!(write(&store, "both").await);
    cluster.in_sync(&[1, 2]).await;
    cluster.end(2, false).await;
    cluster.nodes[&1].status.heard();
    assert!(write(&store, "alone").await);
    cluster.in_sync(&[1]).await;
    assert!(write(&store, "alone, too").await);
    drop(store);
    cluster.end(1, false).await;
    cluster.run(2).await;
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn i3_a_copy_that_lacks_something_serves_by_force_alone_and_what_others_have_is_kept() {
    let mut cluster = left_alone().await;
    cluster.record.unchanged_for(Duration::from_secs(u64::from(LEASE_SECONDS))).await;
    cluster.record.ask(2, TargetKind::Auto);
    until("it stands by", || cluster.nodes[&2].status.get().state == ReplicaState::Standby).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(cluster.record.read().epoch, 1, "by itself it takes nothing");
    let store = force(&cluster, 2).await;
    assert_eq!((store.epoch(), lines(&store).await), (2, vec!["both".to_owned()]));
    let record = cluster.record.read();
    assert_eq!((record.in_sync, record.forced), (vec![id(2)], Some(2)));
    assert!(write(&store, "of the new line").await);
    // The old primary comes back: it follows nobody, and cuts nothing, however often it starts.
    for _ in 0..2 {
        cluster.run(1).await;
        forked(&cluster, 1).await;
        assert!(write(&store, "goes on").await);
        cluster.end(1, true).await;
        let kept = kept(&cluster, 1);
        assert!(
            ["both", "alone", "alone, too"].iter().all(|line| kept.contains(&(*line).to_owned())),
            "{kept:?}"
        );
        assert!(!kept.contains(&"of the new line".to_owned()), "{kept:?}");
    }
    assert_eq!(cluster.record.read().in_sync, [id(2)]);
    // It never takes the store, whoever asks.
    cluster.run(1).await;
    forked(&cluster, 1).await;
    drop(store);
    cluster.end(2, false).await;
    cluster.record.unchanged_for(Duration::from_secs(u64::from(LEASE_SECONDS))).await;
    cluster.record.ask(1, TargetKind::Forced);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(cluster.record.read().epoch, 2);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b4_under_required_writes_wait_until_a_second_copy_has_joined_the_forced_one() {
    let mut cluster = Cluster::start(&[1, 2, 3], Durability::Required).await;
    let store = cluster.serving(1).await;
    assert!(write(&store, "all").await);
    cluster.in_sync(&[1, 2, 3]).await;
    cluster.end(3, false).await;
    cluster.nodes[&1].status.heard();
    assert!(write(&store, "two").await);
    cluster.in_sync(&[1, 2]).await;
    drop(store);
    cluster.end(1, false).await;
    cluster.end(2, false).await;
    cluster.run(3).await;
    let store = force(&cluster, 3).await;
    assert_eq!(lines(&store).await, ["all"], "reads go on");
    // Longer than what it may be silent for.
    let deadline = Instant::now() + Duration::from_secs(2 * u64::from(LEASE_SECONDS));
    while Instant::now() < deadline {
        assert!(!write(&store, "refused").await);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(
        (cluster.record.read().epoch, lines(&store).await.len()),
        (2, 1),
        "nothing of it was appended"
    );
    // One of the lost copies is given up for a new one.
    *cluster.all.lock().unwrap() = vec![1, 4, 3];
    cluster.record.advice.lock().unwrap().unopened = vec![id(4)];
    cluster.run(4).await;
    cluster.in_sync(&[3, 4]).await;
    assert!(write(&store, "two again").await);
    // And the other comes back, with what it acknowledged.
    cluster.run(1).await;
    forked(&cluster, 1).await;
    assert!(write(&store, "and goes on").await);
    assert_eq!(lines(&store).await, ["all", "and goes on", "two again"]);
    drop(store);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i3_a_forced_takeover_that_ended_before_it_began_is_said_by_the_next_process() {
    let mut cluster = left_alone().await;
    cluster.record.unchanged_for(Duration::from_secs(u64::from(LEASE_SECONDS))).await;
    // It was asked, its swap went through, and its process ended before its EpochStart.
    cluster.record.ask(2, TargetKind::Forced);
    cluster.end(2, true).await;
    let end = {
        let dir = cluster.dir.path().join("2");
        let description = mailcluster_store::Replica::open(&dir, &identity(2)).unwrap().describe();
        mailcluster_failover::Position { epoch: description.end.0, seq: description.end.1 }
    };
    {
        let mut now = cluster.record.now.lock().unwrap();
        let me = mailcluster_failover::Holder { pod_uid: "pod-2".into(), start_id: "earlier".into() };
        let rules = mailcluster_failover::InForce {
            durability: Durability::Preferred,
            fencing: FencingMinimum::Proof,
        };
        let taker = mailcluster_failover::Taker {
            me: &me,
            replica: &id(2),
            rules,
            node: "node-2",
            boot_id: "boot",
            now: 0,
            forced: Some(end),
        };
        *now = (mailcluster_failover::take(&now.0, &taker), now.1 + 1);
    }
    cluster.run(2).await;
    let store = cluster.serving(2).await;
    assert_eq!((store.epoch(), cluster.record.read().forced), (3, Some(2)));
    cluster.run(1).await;
    forked(&cluster, 1).await;
    assert!(write(&store, "goes on").await, "it does not yield to the one with more");
    assert_eq!(cluster.record.read().in_sync, [id(2)]);
    drop(store);
    cluster.stop().await;
}

/// Other octets in the place of a text of many `X`.
fn damage(dir: &std::path::Path) {
    use std::os::unix::fs::FileExt;
    for entry in std::fs::read_dir(dir.join("log")).unwrap() {
        let path = entry.unwrap().path();
        let octets = std::fs::read(&path).unwrap();
        let run = octets.windows(1000).position(|octets| octets.iter().all(|octet| *octet == b'X'));
        let Some(at) = run else { continue };
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.write_all_at(b"YYY", u64::try_from(at).unwrap() + 500).unwrap();
    }
}

async fn queued(store: &Store) -> Result<Vec<u8>, mailcluster_store::ReadError> {
    store.read(|view| view.body(1)).await.map(|text| text.to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_on_the_disk_of_the_primary_is_read_from_a_mirror() {
    let mut cluster = Cluster::start(&[1, 2], Durability::Preferred).await;
    let store = cluster.serving(1).await;
    let text = "X".repeat(900_000);
    let message = Enqueue {
        delivery: DeliveryId(1),
        sender: "b@example.org".into(),
        at: 0,
        params: String::new(),
        recipients: vec![QueueRecipient { held: true, ..QueueRecipient::new("a@example.org".into(), 0) }],
        body: text.clone().into(),
    };
    store.queue_put(message).await.unwrap().acknowledge().unwrap();
    assert!(write(&store, "another batch").await);
    damage(&cluster.dir.path().join("1"));
    let deadline = Instant::now() + WAIT;
    // The mirror has it in its index soon, and this primary hears so.
    while store.stats().damage().lent == 0 {
        assert!(Instant::now() < deadline, "{:?}", store.stats().damage());
        if let Ok(read) = queued(&store).await {
            assert!(read == text.as_bytes());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(cluster.nodes[&1].status.get().store.unwrap().stats().damage().lent, 1);
    cluster.end(2, false).await;
    assert!(matches!(queued(&store).await, Err(mailcluster_store::ReadError::Damaged(_))));
    cluster.stop().await;
}
