//! A machine with a replica: the real lifecycle, store and stream in a runtime of their own, whose clock the world moves.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use mailcluster_arbiter::{
    LeaseGate, StatusHandle,
    lifecycle::{Lifecycle, LifecycleConfig, Outcome, Peers, Replica, run},
};
use mailcluster_failover::{Durability, FencingMinimum};
use mailcluster_replication::{Comparing, Standby, service};
use mailcluster_store::{
    Fetched, Identity, Options, Reclaimed, Store, StoreKind, Wanted,
    testing::{
        Machine, Rng, on,
        volume::{Crash, Faults, Syncs, Volume},
    },
};
use mailcluster_types::{ClusterId, Epoch, ReplicaId};
use tempfile::TempDir;
use tokio::{
    runtime::{Builder, Runtime},
    time::Instant,
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint, Server};

use crate::{
    LEASE_SECONDS, STORE,
    api::Api,
    clients::{Clients, Host},
    net::{Net, Place},
};

/// Small, so that there are many.
const SEGMENT: u64 = 24 << 10;
const MIRROR_TIMEOUT: Duration = Duration::from_millis(500);

/// Pass after pass.
fn comparing() -> Arc<Comparing> {
    Arc::new(Comparing::new(200, Duration::from_millis(50), Duration::from_millis(500)))
}

/// The copies that have stood in a place one after the other have ids of their own.
fn id(place: Place, copy: u64) -> ReplicaId {
    ReplicaId(u128::from(copy) << 64 | u128::try_from(place + 1).unwrap())
}

/// Those that the store has first.
pub fn first_ids(replicas: usize) -> Vec<String> {
    (0..replicas).map(|place| id(place, 0).to_string()).collect()
}

fn identity(replica: ReplicaId) -> Identity {
    Identity { cluster: ClusterId(1), store: STORE.into(), replica, kind: StoreKind::Mail }
}

pub fn node_name(place: Place) -> String {
    format!("node-{place}")
}

/// In memory where that can be had: what survives is the volume's to say.
fn directory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// What all machines have to do with.
#[derive(Clone)]
pub struct Around {
    pub net: Net,
    pub api: Api,
    pub clients: Clients,
    pub durability: Durability,
    /// The copies that the store has, by their places.
    copies: Arc<Mutex<Vec<ReplicaId>>>,
    /// Those whose processes answer now.
    standing: Arc<Mutex<BTreeMap<Place, Arc<Standby>>>>,
}

impl Around {
    pub fn new((net, api, clients): (Net, Api, Clients), replicas: usize, durability: Durability) -> Self {
        let copies = (0..replicas).map(|place| id(place, 0)).collect();
        Self { net, api, clients, durability, copies: Arc::new(Mutex::new(copies)), standing: Arc::default() }
    }

    pub fn ids(&self) -> Vec<String> {
        self.copies.lock().unwrap().iter().map(ToString::to_string).collect()
    }
}

struct Clock {
    /// Of the machine, when the process began.
    base: Cell<u64>,
    began: Cell<Option<Instant>>,
    boot: String,
    volume: RefCell<Volume>,
    rng: RefCell<Rng>,
}

impl Machine for Clock {
    fn boottime(&self) -> u64 {
        let since = self.began.get().map_or(Duration::ZERO, |began| began.elapsed());
        self.base.get() + u64::try_from(since.as_millis()).unwrap()
    }

    fn boot_id(&self) -> String {
        self.boot.clone()
    }

    fn unix_time(&self) -> i64 {
        1_800_000_000 + i64::try_from(self.boottime() / 1000).unwrap()
    }

    fn jitter(&self) -> u32 {
        u32::try_from(self.rng.borrow_mut().below(256)).unwrap()
    }

    fn owed(&self) -> Duration {
        self.volume.borrow().owed()
    }
}

struct Others {
    place: Place,
    around: Around,
}

#[async_trait]
impl Peers for Others {
    fn all(&self) -> Vec<String> {
        self.around.ids()
    }

    /// There is no other thread on which one could wait for a stream: what another has is there at once.
    async fn borrow(&self, replica: &str, (own, epoch): (&Identity, Epoch), wanted: &Wanted) -> Fetched {
        let to = self.around.ids().iter().position(|id| id == replica);
        let to = to.filter(|to| self.around.net.is_open(self.place, *to));
        let standby = to.and_then(|to| self.around.standing.lock().unwrap().get(&to).cloned());
        standby.map_or(Fetched::NoAnswer, |standby| standby.lend_here(own, (epoch, wanted)))
    }

    async fn channel(&self, replica: &str) -> Result<Channel, String> {
        let to = self.around.ids().iter().position(|id| id == replica).ok_or("no such replica")?;
        let connector = self.around.net.connector(self.place, to);
        Ok(Endpoint::from_static("http://replica").connect_with_connector_lazy(connector))
    }
}

struct Events {
    clients: Clients,
    host: Host,
    rng: Mutex<Rng>,
}

#[async_trait]
impl Lifecycle for Events {
    async fn serving(&self, store: Store, over: CancellationToken) {
        self.clients.come(&self.host, &store, &over, &mut self.rng.lock().unwrap());
    }

    async fn drained(&self) {}

    async fn stopped(&self) {}
}

/// A process.
pub struct Process {
    runtime: Runtime,
    /// When it began, by the world's time.
    began: u64,
    clock: Rc<Clock>,
    pub number: u64,
    pub status: StatusHandle,
    shutdown: CancellationToken,
    outcome: Arc<Mutex<Option<Outcome>>>,
    standby: Arc<Standby>,
    /// Files that were given back.
    given_back: Arc<AtomicU64>,
}

impl Process {
    /// Runs something in it.
    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        on(Some(self.clock.clone()));
        let done = self.runtime.block_on(work);
        on(None);
        done
    }

    /// Room is given back here, now: by the store that serves, or the replica that stands by.
    pub fn reclaim(&self) {
        let (standby, given_back) = (self.standby.clone(), self.given_back.clone());
        let store = self.status.get().store;
        self.block_on(async move {
            let note = move |done: Result<Reclaimed, String>| {
                given_back.fetch_add(done.map_or(0, |done| done.files), Ordering::Relaxed);
            };
            if standby.has_replica() {
                note(standby.reclaim_here());
            } else if let Some(store) = store {
                // The committer may wait for others.
                tokio::spawn(async move { note(store.reclaim().await) });
            }
        });
    }

    /// How it ended, once it has.
    pub fn outcome(&self) -> Option<Outcome> {
        *self.outcome.lock().unwrap()
    }

    /// Asks it to end in order.
    pub fn ask_to_end(&self) {
        self.shutdown.cancel();
    }
}

/// A machine.
pub struct Node {
    place: Place,
    /// So many copies had this place before.
    copy: u64,
    around: Around,
    rng: Rng,
    dir: TempDir,
    pub volume: Volume,
    pub process: Option<Process>,
    boot: u64,
    /// What its clock shows when the world's shows 0.
    offset: u64,
    /// Frontends do not reach it.
    pub is_cut: Arc<AtomicBool>,
    /// It stands still until then.
    pub frozen: Option<u64>,
    /// What has come of comparing its mirrors' indexes, whenever it served.
    pub comparing: Arc<Comparing>,
    /// Files of its log that were given back.
    pub given_back: Arc<AtomicU64>,
}

impl Node {
    pub fn new(place: Place, around: Around, mut rng: Rng) -> Self {
        let dir = directory();
        let volume = Volume::empty(dir.path(), &identity(id(place, 0)));
        around.clients.ledger.has_volume(id(place, 0).to_string(), volume.clone());
        let offset = 100_000 + rng.next() % 10_000_000;
        Self {
            place,
            copy: 0,
            around,
            rng,
            dir,
            volume,
            process: None,
            boot: 1,
            offset,
            is_cut: Arc::default(),
            frozen: None,
            comparing: comparing(),
            given_back: Arc::default(),
        }
    }

    pub fn pod(&self) -> String {
        format!("pod-{}-{}", self.place, self.copy)
    }

    pub fn id(&self) -> String {
        id(self.place, self.copy).to_string()
    }

    pub fn identity(&self) -> Identity {
        identity(id(self.place, self.copy))
    }

    pub fn boot_id(&self) -> String {
        format!("boot-{}-{}", self.place, self.boot)
    }

    /// A process begins.
    pub fn start(&mut self, now: u64, number: u64) {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let clock = Rc::new(Clock {
            base: Cell::new(self.offset + now),
            began: Cell::new(None),
            boot: self.boot_id(),
            volume: RefCell::new(self.volume.clone()),
            rng: RefCell::new(Rng::new(self.rng.next())),
        });
        let process = Process {
            runtime,
            began: now,
            clock,
            number,
            status: StatusHandle::new(),
            shutdown: CancellationToken::new(),
            outcome: Arc::default(),
            standby: Arc::default(),
            given_back: self.given_back.clone(),
        };
        process.block_on(async {
            process.clock.began.set(Some(Instant::now()));
            self.spawn(&process);
        });
        self.process = Some(process);
    }

    fn spawn(&mut self, process: &Process) {
        let (place, around) = (self.place, &self.around);
        let config = LifecycleConfig {
            data_dir: self.dir.path().to_owned(),
            disk: self.options(),
            identity: self.identity(),
            pod_uid: self.pod(),
            start_id: format!("s{}", process.number),
            node: node_name(place),
            endpoint: format!("127.0.0.1:{place}").parse().unwrap(),
            lease_seconds: LEASE_SECONDS,
            fencing: FencingMinimum::Proof,
            durability: around.durability,
            mirror_timeout: MIRROR_TIMEOUT,
            peers: Arc::new(Others { place, around: around.clone() }),
            comparing: self.comparing.clone(),
        };
        let host = Host {
            place,
            process: process.number,
            status: process.status.clone(),
            is_cut: self.is_cut.clone(),
        };
        let rng = Mutex::new(Rng::new(self.rng.next()));
        let events = Arc::new(Events { clients: around.clients.clone(), host, rng });
        let standby = process.standby.clone();
        let router = Server::builder().add_service(service(standby.clone(), self.identity()));
        let incoming = UnboundedReceiverStream::new(around.net.listen(place));
        tokio::spawn(async move { drop(router.serve_with_incoming(incoming).await) });
        let replica = Replica { arbiter: around.api.arbiter(place, around.clone()), standby };
        let life =
            run(config, replica, events, LeaseGate::new(), process.status.clone(), process.shutdown.clone());
        let outcome = process.outcome.clone();
        tokio::spawn(async move { *outcome.lock().unwrap() = Some(life.await) });
    }

    /// Time has come to `now`.
    pub fn step(&mut self, now: u64) {
        if self.frozen.is_some_and(|until| now < until) {
            self.around.standing.lock().unwrap().remove(&self.place);
            return;
        }
        let thawed = self.frozen.take().is_some();
        let Some(process) = &self.process else { return };
        self.around.standing.lock().unwrap().insert(self.place, process.standby.clone());
        let began = process.clock.began.get().unwrap();
        process.block_on(async {
            let until = began + Duration::from_millis(now - process.began);
            if thawed {
                // All that it waited for is due at once.
                tokio::time::advance(until - Instant::now()).await;
            }
            tokio::time::sleep_until(until).await;
        });
    }

    /// Is its process able to answer?
    pub fn answers(&self) -> bool {
        self.process.is_some() && self.frozen.is_none()
    }

    /// The clock jumps ahead.
    pub fn jump(&mut self, ahead: u64) {
        self.offset += ahead;
        if let Some(process) = &self.process {
            process.clock.base.set(process.clock.base.get() + ahead);
        }
    }

    /// Its process ends, and nobody is told before.
    pub fn crash(&mut self, how: Crash) {
        let dir = directory();
        let left = self.volume.crash(how, dir.path(), &mut self.rng).unwrap();
        self.end(how, (dir, left));
    }

    /// Another copy has its place, with an empty volume.
    pub fn replace(&mut self) {
        self.copy += 1;
        let dir = directory();
        let volume = Volume::empty(dir.path(), &self.identity());
        self.around.copies.lock().unwrap()[self.place] = id(self.place, self.copy);
        self.end(Crash::Power, (dir, volume));
        self.volume.set_faults(Faults { syncs: Syncs::Work, ..self.volume.faults() });
    }

    fn end(&mut self, how: Crash, (dir, volume): (TempDir, Volume)) {
        let is_power = how == Crash::Power;
        volume.set_faults(self.volume.faults());
        self.volume = volume;
        self.around.standing.lock().unwrap().remove(&self.place);
        if let Some(process) = self.process.take() {
            on(Some(process.clock.clone()));
            drop(process);
            on(None);
        }
        self.dir = dir;
        self.boot += u64::from(is_power);
        self.frozen = None;
        self.around.net.gone(self.place, !is_power);
        self.around.clients.ledger.has_volume(self.id(), self.volume.clone());
    }

    /// Its disk is as it should be again.
    pub fn heal(&mut self) {
        self.volume.set_faults(Faults { lies: self.volume.faults().lies, ..Faults::default() });
        self.is_cut.store(false, Ordering::Relaxed);
        self.frozen = self.frozen.map(|_| 0);
    }

    /// What a store there is opened with.
    pub fn options(&self) -> Options {
        self.volume.options(SEGMENT)
    }

    /// The directory of its volume.
    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }
}
