//! A small cluster in one process: real stores behind real LMTP sessions, a directory of a few lines, and a wire that
//! can be cut.

#![allow(dead_code, reason = "each test file uses its part")]

pub mod client;
mod latch;
mod wire;

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use mailcluster_backend::{Peer, SessionContext, SessionLimits};
use mailcluster_frontend::{FrontendContext, FrontendLimits, TlsUpgrade, smtp::Service};
use mailcluster_queue::{QueueConfig, QueueHandle};
use mailcluster_screen::Gate;
use mailcluster_store::{
    Account, Domain, HistoryEvent, HistoryKey, Identity, QueueItem, Replica, Sealed, Store, StoreKind,
};
use mailcluster_types::{
    AccountId, AccountStatus, Address, AuthOutcome, AuthRequest, Backends, BoxStream, ClientInfo, ClusterId,
    DeliveryId, Directory, Epoch, KeyAlgorithm, Located, OpenError, Protocol, ReplicaId, Resolution,
    ResolvedAccount, SessionId, SigningKey, SigningKeys, StoreName, TlsFacts, Unavailable,
};
use mailcluster_verdict::Checks;
use tokio_util::sync::CancellationToken;

use self::client::Smtp;
pub use self::{latch::Latch, wire::Fault};

pub const HOST: &str = "mail.example.org";

/// Accounts are `name@example.org`, their password is `secret`.
#[derive(Default)]
pub struct Accounts {
    known: Mutex<HashMap<String, Vec<ResolvedAccount>>>,
    deleted: Mutex<Vec<AccountId>>,
    pub away: AtomicBool,
    keys: Mutex<Arc<SigningKeys>>,
    pub keys_away: AtomicBool,
}

impl Accounts {
    /// From now on the domain has a key.
    pub fn sign_for(&self, domain: &str) {
        let algorithm = KeyAlgorithm::Ed25519Sha256;
        let secret = mailcluster_dkim::generate(algorithm).unwrap().secret;
        let key = SigningKey { selector: "s".into(), algorithm, secret };
        *self.keys.lock().unwrap() = Arc::new(SigningKeys { domain: domain.into(), keys: vec![key] });
    }
}

#[async_trait]
impl Directory for Accounts {
    async fn resolve(&self, address: &Address) -> Result<Resolution, Unavailable> {
        if self.away.load(Ordering::SeqCst) {
            return Err(Unavailable("away".into()));
        }
        Ok(match self.known.lock().unwrap().get(&address.key()) {
            Some(accounts) => Resolution::Accounts(accounts.clone()),
            None if address.domain() == "example.org" => Resolution::NoSuchMailbox,
            None => Resolution::NotLocal,
        })
    }

    async fn locate(&self, account: AccountId) -> Result<Located, Unavailable> {
        if self.away.load(Ordering::SeqCst) {
            return Err(Unavailable("away".into()));
        }
        if self.deleted.lock().unwrap().contains(&account) {
            return Ok(Located::Deleted);
        }
        let known = self.known.lock().unwrap();
        let found = known.values().flatten().find(|a| a.id == account);
        Ok(found.map_or(Located::Unknown, |a| Located::On(a.store.clone())))
    }

    async fn authenticate(&self, request: &AuthRequest) -> Result<AuthOutcome, Unavailable> {
        if self.away.load(Ordering::SeqCst) {
            return Err(Unavailable("away".into()));
        }
        if request.user == "slow@example.org" {
            return Ok(AuthOutcome::Throttled(30));
        }
        let known = self.known.lock().unwrap();
        match known.get(&request.user).filter(|_| &*request.password == "secret") {
            Some(accounts) => Ok(AuthOutcome::Accepted(accounts[0].clone())),
            None => Ok(AuthOutcome::Rejected),
        }
    }

    async fn may_send_as(&self, account: AccountId, sender: &Address) -> Result<bool, Unavailable> {
        let known = self.known.lock().unwrap();
        Ok(known.get(&sender.key()).is_some_and(|a| a.iter().any(|a| a.id == account)))
    }

    async fn signing_keys(&self, domain: &str) -> Result<Arc<SigningKeys>, Unavailable> {
        if self.keys_away.load(Ordering::SeqCst) {
            return Err(Unavailable("away".into()));
        }
        let keys = self.keys.lock().unwrap().clone();
        Ok(if keys.domain == domain { keys } else { Arc::default() })
    }
}

/// Stores and the wires to them.
#[derive(Default)]
pub struct Net {
    pub stores: HashMap<StoreName, Store>,
    pub faults: Mutex<HashMap<StoreName, Fault>>,
    pub candidates: Mutex<Vec<StoreName>>,
    /// Stores of which it is known that they do not answer.
    pub away: Mutex<HashSet<StoreName>>,
    /// How often each store was asked for a connection.
    pub asked: Mutex<HashMap<StoreName, usize>>,
}

#[async_trait]
impl Backends for Net {
    async fn open(
        &self,
        store: &StoreName,
        protocol: Protocol,
        account: Option<AccountId>,
        client: &ClientInfo,
    ) -> Result<BoxStream, OpenError> {
        assert_eq!((protocol, account), (Protocol::Lmtp, None));
        *self.asked.lock().unwrap().entry(store.clone()).or_default() += 1;
        let fault = self.faults.lock().unwrap().get(store).copied();
        let Some(served) = self.stores.get(store).filter(|_| fault != Some(Fault::Away)) else {
            return Err(OpenError::NoRoute(store.clone()));
        };
        let (near, far) = tokio::io::duplex(32 << 10);
        let context = SessionContext {
            store: served.clone(),
            peer: Peer::Ours,
            account: None,
            client: client.clone(),
            hostname: HOST.into(),
            directory: None,
            sending: mailcluster_backend::sieve::Sending::default(),
            shutdown: CancellationToken::new(),
            limits: Arc::new(SessionLimits::default()),
        };
        tokio::spawn(mailcluster_backend::lmtp::serve(Box::new(far), context));
        Ok(match fault {
            None => Box::new(near),
            Some(fault) => wire::faulty(near, fault),
        })
    }

    fn hand_off_candidates(&self, except: &StoreName, limit: usize) -> Vec<StoreName> {
        let candidates = self.candidates.lock().unwrap();
        candidates.iter().filter(|c| *c != except).take(limit).cloned().collect()
    }

    fn is_away(&self, store: &StoreName) -> bool {
        self.away.lock().unwrap().contains(store)
    }

    fn route_hint(&self, _: &StoreName, _: Epoch, _: Option<SocketAddr>) {}
}

/// Passes the bytes on and says that it was TLS.
struct Pretend;

#[async_trait]
impl TlsUpgrade for Pretend {
    async fn upgrade(&self, stream: BoxStream) -> std::io::Result<(BoxStream, TlsFacts)> {
        Ok((stream, facts()))
    }
}

pub fn facts() -> TlsFacts {
    TlsFacts { version: "TLSv1.3".into(), cipher: "TLS13_AES_256_GCM_SHA384".into(), sni: None }
}

pub struct Cluster {
    pub directory: Arc<Accounts>,
    pub net: Arc<Net>,
    pub limits: FrontendLimits,
    pub shutdown: CancellationToken,
    pub checks: Option<Arc<Checks>>,
    pub screen: Gate,
    /// What each store's lease says.
    pub leases: HashMap<StoreName, Arc<Latch>>,
    _dirs: Vec<tempfile::TempDir>,
}

impl Cluster {
    /// Stores of these names, none with an account; each may take mail for the others.
    pub async fn new(names: &[&str]) -> Self {
        let (mut stores, mut leases, mut dirs) = (HashMap::new(), HashMap::new(), Vec::new());
        for name in names {
            let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
            let identity = Identity {
                cluster: ClusterId(1),
                store: StoreName::new(*name),
                replica: ReplicaId::random().unwrap(),
                kind: StoreKind::Mail,
            };
            let replica = Replica::initialise(dir.path(), &identity).unwrap();
            let lease = Arc::new(Latch::default());
            let store = replica.serve(1, &[identity.replica], lease.clone()).unwrap();
            let (name, keys) = ("example.org".to_owned(), Sealed::default());
            let domain = Domain { name, generation: 1, tombstone: false, keys };
            store.put_domain(domain).await.unwrap().acknowledge().unwrap();
            leases.insert(identity.store.clone(), lease);
            stores.insert(identity.store, store);
            dirs.push(dir);
        }
        let candidates = Mutex::new(names.iter().map(|n| StoreName::new(*n)).collect());
        let limits = FrontendLimits {
            spool_memory: 4 << 10,
            max_recipients: 20,
            max_message: 1 << 20,
            ..FrontendLimits::default()
        };
        Self {
            directory: Arc::default(),
            net: Arc::new(Net { stores, candidates, ..Net::default() }),
            limits,
            screen: Gate::default(),
            shutdown: CancellationToken::new(),
            checks: None,
            leases,
            _dirs: dirs,
        }
    }

    pub fn store(&self, name: &str) -> &Store {
        &self.net.stores[&StoreName::new(name)]
    }

    /// Adds `name@example.org` on a store.
    pub async fn account(&self, name: &str, store: &str) -> AccountId {
        self.account_with_quota(name, store, 0).await
    }

    pub async fn account_with_quota(&self, name: &str, store: &str, quota_octets: u64) -> AccountId {
        let id = AccountId::random().unwrap();
        let address: Address = format!("{name}@example.org").parse().unwrap();
        let record = Account {
            id,
            address: address.key(),
            store: StoreName::new(store),
            generation: 1,
            password_hash: String::new(),
            quota_octets,
            used_octets: 0,
            suspended: false,
            pending: false,
            tombstone: false,
        };
        self.store(store).put_account(record).await.unwrap().acknowledge().unwrap();
        let resolved =
            ResolvedAccount { id, address, store: StoreName::new(store), status: AccountStatus::Active };
        self.resolve_as(name, vec![resolved]);
        id
    }

    /// What `name@example.org` stands for.
    pub fn resolve_as(&self, name: &str, accounts: Vec<ResolvedAccount>) {
        self.directory.known.lock().unwrap().insert(format!("{name}@example.org"), accounts);
    }

    /// The directory knows the address no more.
    pub fn forget(&self, name: &str) {
        self.directory.known.lock().unwrap().remove(&format!("{name}@example.org"));
    }

    /// The directory has deleted the account.
    pub fn delete(&self, name: &str) {
        let id = self.resolved(name).id;
        self.forget(name);
        self.directory.deleted.lock().unwrap().push(id);
    }

    pub fn resolved(&self, name: &str) -> ResolvedAccount {
        self.directory.known.lock().unwrap()[&format!("{name}@example.org")][0].clone()
    }

    pub fn fault(&self, store: &str, fault: Fault) {
        self.net.faults.lock().unwrap().insert(StoreName::new(store), fault);
    }

    pub fn heal(&self, store: &str) {
        self.net.faults.lock().unwrap().remove(&StoreName::new(store));
    }

    /// Everybody knows that the store does not answer.
    pub fn known_away(&self, store: &str) {
        self.net.away.lock().unwrap().insert(StoreName::new(store));
    }

    pub fn asked(&self, store: &str) -> usize {
        self.net.asked.lock().unwrap().get(&StoreName::new(store)).copied().unwrap_or_default()
    }

    pub fn candidates(&self, names: &[&str]) {
        *self.net.candidates.lock().unwrap() = names.iter().map(|n| StoreName::new(*n)).collect();
    }

    pub fn context(&self) -> FrontendContext {
        FrontendContext {
            directory: self.directory.clone(),
            backends: self.net.clone(),
            hostname: HOST.into(),
            tls: Some(Arc::new(Pretend)),
            sends_out: false,
            checks: self.checks.clone(),
            screen: self.screen.clone(),
            shutdown: self.shutdown.clone(),
            limits: Arc::new(self.limits.clone()),
        }
    }

    /// A session on port 25, greeted and past EHLO.
    pub async fn mx(&self) -> Smtp {
        let mut smtp = self.connect(Service::Mx, None).await;
        assert!(smtp.say("EHLO client.example.net").await.starts_with("250-"));
        smtp
    }

    /// A session on port 465, not yet past EHLO.
    pub async fn submission(&self) -> Smtp {
        self.connect(Service::Submission, Some(facts())).await
    }

    pub async fn connect(&self, service: Service, tls: Option<TlsFacts>) -> Smtp {
        let client = ClientInfo {
            remote: "192.0.2.10:4000".parse().unwrap(),
            local: "192.0.2.1:25".parse().unwrap(),
            tls,
            session: SessionId::random().unwrap(),
        };
        let (near, far) = tokio::io::duplex(64 << 10);
        tokio::spawn(mailcluster_frontend::smtp::serve(Box::new(far), client, service, self.context()));
        let mut smtp = Smtp::new(near);
        assert!(smtp.reply().await.starts_with("220 "));
        smtp
    }

    /// Runs the queue of a store.
    pub fn run_queue(&self, name: &str) -> QueueHandle {
        self.run_queue_with(name, |_| {})
    }

    pub fn run_queue_with(&self, name: &str, change: impl FnOnce(&mut QueueConfig)) -> QueueHandle {
        let mut config = QueueConfig::new(HOST.into());
        config.poll = Duration::from_millis(50);
        change(&mut config);
        let handle = config.handle.clone();
        let store = self.store(name).clone();
        tokio::spawn(mailcluster_queue::run(
            config,
            store,
            self.directory.clone(),
            self.net.clone(),
            self.shutdown.clone(),
        ));
        handle
    }

    /// The messages in an account's INBOX, oldest first.
    pub async fn inbox(&self, store: &str, account: AccountId) -> Vec<String> {
        self.mailbox(store, account, "INBOX").await
    }

    /// The messages in a mailbox, oldest first.
    pub async fn mailbox(&self, store: &str, account: AccountId, name: &'static str) -> Vec<String> {
        let read = self.store(store).read(move |view| {
            let inbox = view.mailbox_by_name(account, name)?.expect("a mailbox");
            let messages = view.messages(inbox.id, 1, u32::MAX)?;
            messages.iter().map(|m| view.body(m.body)).collect::<Result<Vec<_>, _>>()
        });
        read.await.unwrap().into_iter().map(|b| String::from_utf8_lossy(&b).into_owned()).collect()
    }

    /// Waits until an INBOX has so many messages.
    pub async fn inbox_of(&self, store: &str, account: AccountId, count: usize) -> Vec<String> {
        for _ in 0..2000 {
            let inbox = self.inbox(store, account).await;
            if inbox.len() >= count {
                return inbox;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no {count} messages in {store}");
    }

    pub async fn queue(&self, store: &str) -> Vec<QueueItem> {
        self.store(store).read(|view| view.queue(None, 1000)).await.unwrap()
    }

    /// Waits until nothing but held recipients wait.
    pub async fn queue_drained(&self, store: &str) {
        for _ in 0..2000 {
            let stats = self.store(store).read(|view| view.queue_stats()).await.unwrap();
            if stats.recipients == stats.held {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the queue of {store} does not drain: {:?}", self.queue(store).await);
    }

    pub async fn history(&self, store: &str, id: DeliveryId) -> Vec<HistoryEvent> {
        self.store(store).read(move |view| view.history(&HistoryKey::Delivery(id), 100)).await.unwrap()
    }
}
