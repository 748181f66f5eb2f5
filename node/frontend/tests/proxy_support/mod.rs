//! A frontend before one real store, over in-memory pipes: a directory of two users, backends that can be taken away,
//! and clients with or without TLS.

#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use mailcluster_backend::{Peer, SessionContext, SessionLimits};
use mailcluster_frontend::{FrontendContext, FrontendLimits, TlsUpgrade};
use mailcluster_net::tls::{CertStore, TlsAcceptor};
use mailcluster_screen::Gate;
use mailcluster_store::{Account, Delivery, DeliveryTarget, Identity, OpenGate, Replica, Store, StoreKind};
use mailcluster_types::{
    AccountId, AccountStatus, Address, AuthOutcome, AuthRequest, Backends, BoxStream, ClientInfo, ClusterId,
    DeliveryId, Directory, Epoch, IoStream, Located, OpenError, Protocol, ReplicaId, Resolution,
    ResolvedAccount, SessionId, StoreName, TlsFacts, Unavailable,
};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

const LIMIT: Duration = Duration::from_secs(30);
const STORE: &str = "test-0";

/// `ann@example.org` logs in with `secret`.
pub struct World {
    pub store: Store,
    pub account: AccountId,
    pub directory_away: Arc<AtomicBool>,
    pub throttle: Arc<AtomicBool>,
    pub screen: Gate,
    pub backends_away: Arc<AtomicBool>,
    /// What the backend said first to be refused with, in place of a session.
    pub refusal: Arc<Mutex<Option<&'static str>>>,
    pub opened: Arc<AtomicUsize>,
    pub seen: Arc<Mutex<Vec<ClientInfo>>>,
    /// Stops the backend's sessions.
    pub backend_shutdown: CancellationToken,
    /// Stops the frontend.
    pub shutdown: CancellationToken,
    pub login_timeout: Duration,
    certificate: CertifiedKey<rcgen::KeyPair>,
    _dir: tempfile::TempDir,
}

impl World {
    pub async fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("proxy").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let identity = Identity {
            cluster: ClusterId::random().unwrap(),
            store: StoreName::new(STORE),
            replica: ReplicaId::random().unwrap(),
            kind: StoreKind::Mail,
        };
        let replica = Replica::initialise(&dir.path().join("store"), &identity).unwrap();
        let store = replica.serve(1, &[identity.replica], Arc::new(OpenGate)).unwrap();
        let account = Account {
            id: AccountId::random().unwrap(),
            address: "ann@example.org".to_owned(),
            store: StoreName::new(STORE),
            generation: 1,
            password_hash: String::new(),
            quota_octets: 0,
            used_octets: 0,
            suspended: false,
            pending: false,
            tombstone: false,
        };
        let id = account.id;
        store.put_account(account).await.unwrap().acknowledge().unwrap();
        Self {
            store,
            account: id,
            directory_away: Arc::default(),
            throttle: Arc::default(),
            screen: Gate::default(),
            backends_away: Arc::default(),
            refusal: Arc::default(),
            opened: Arc::default(),
            seen: Arc::default(),
            backend_shutdown: CancellationToken::new(),
            shutdown: CancellationToken::new(),
            login_timeout: Duration::from_secs(60),
            certificate: generate_simple_self_signed(vec!["mail.example.org".to_owned()]).unwrap(),
            _dir: dir,
        }
    }

    pub async fn deliver(&self, body: &str) {
        let delivery = Delivery {
            id: DeliveryId::new(1_700_000_000_000).unwrap(),
            sender: String::new(),
            at: 1_700_000_000,
            body: Bytes::from(body.to_owned()),
            met: String::new(),
            targets: vec![DeliveryTarget {
                account: self.account,
                recipient: "ann@example.org".to_owned(),
                mailbox: "INBOX".to_owned(),
                filing: None,
                prefix: Bytes::new(),
            }],
        };
        self.store.deliver(delivery).await.unwrap().acknowledge().unwrap();
    }

    pub fn context(&self) -> FrontendContext {
        let key = self.certificate.signing_key.serialize_pem();
        let certs = CertStore::from_pem(self.certificate.cert.pem().as_bytes(), key.as_bytes()).unwrap();
        let tls: Arc<dyn TlsUpgrade> = Arc::new(TlsAcceptor::new(certs).unwrap());
        FrontendContext {
            directory: Arc::new(Users {
                account: self.account,
                away: self.directory_away.clone(),
                throttle: self.throttle.clone(),
            }),
            backends: Arc::new(OneStore {
                store: self.store.clone(),
                away: self.backends_away.clone(),
                refusal: self.refusal.clone(),
                opened: self.opened.clone(),
                seen: self.seen.clone(),
                shutdown: self.backend_shutdown.clone(),
            }),
            hostname: "mail.example.org".into(),
            tls: Some(tls),
            sends_out: false,
            checks: None,
            screen: self.screen.clone(),
            shutdown: self.shutdown.clone(),
            limits: Arc::new(FrontendLimits {
                login_timeout: self.login_timeout,
                ..FrontendLimits::default()
            }),
        }
    }

    /// The client's side of a TLS handshake.
    pub async fn handshake(&self, stream: BoxStream) -> BoxStream {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.cert.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("mail.example.org").unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        Box::new(timeout(LIMIT, connector.connect(name, stream)).await.unwrap().unwrap())
    }

    /// Waits until the INBOX has so many messages.
    pub async fn until_messages(&self, count: usize) {
        let account = self.account;
        let wait = async {
            loop {
                let read =
                    self.store.read(move |v| v.uids(v.mailbox_by_name(account, "INBOX")?.unwrap().id)).await;
                if read.unwrap().len() == count {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(LIMIT, wait).await.unwrap();
    }
}

/// A client's facts, with or without TLS.
pub fn client(tls: bool) -> ClientInfo {
    let tls = tls.then(|| TlsFacts { version: "TLSv1.3".into(), cipher: "x".into(), sni: None });
    ClientInfo {
        remote: SocketAddr::from(([203, 0, 113, 9], 4711)),
        local: SocketAddr::from(([198, 51, 100, 1], 143)),
        tls,
        session: SessionId(5),
    }
}

struct Users {
    account: AccountId,
    away: Arc<AtomicBool>,
    throttle: Arc<AtomicBool>,
}

#[async_trait]
impl Directory for Users {
    async fn resolve(&self, _: &Address) -> Result<Resolution, Unavailable> {
        Err(Unavailable("not asked here".into()))
    }

    async fn locate(&self, _: AccountId) -> Result<Located, Unavailable> {
        Ok(Located::Unknown)
    }

    async fn authenticate(&self, request: &AuthRequest) -> Result<AuthOutcome, Unavailable> {
        if self.away.load(Ordering::SeqCst) {
            return Err(Unavailable("away".into()));
        }
        if self.throttle.load(Ordering::SeqCst) {
            return Ok(AuthOutcome::Throttled(7));
        }
        if request.user != "ann@example.org" || &*request.password != "secret" {
            return Ok(AuthOutcome::Rejected);
        }
        Ok(AuthOutcome::Accepted(ResolvedAccount {
            id: self.account,
            address: "ann@example.org".parse().unwrap(),
            store: StoreName::new(STORE),
            status: AccountStatus::Active,
        }))
    }

    async fn may_send_as(&self, _: AccountId, _: &Address) -> Result<bool, Unavailable> {
        Ok(false)
    }
}

struct OneStore {
    store: Store,
    away: Arc<AtomicBool>,
    refusal: Arc<Mutex<Option<&'static str>>>,
    opened: Arc<AtomicUsize>,
    seen: Arc<Mutex<Vec<ClientInfo>>>,
    shutdown: CancellationToken,
}

#[async_trait]
impl Backends for OneStore {
    async fn open(
        &self,
        store: &StoreName,
        protocol: Protocol,
        account: Option<AccountId>,
        client: &ClientInfo,
    ) -> Result<BoxStream, OpenError> {
        if self.away.load(Ordering::SeqCst) {
            return Err(OpenError::NoRoute(store.clone()));
        }
        self.opened.fetch_add(1, Ordering::SeqCst);
        self.seen.lock().unwrap().push(client.clone());
        let (near, mut far) = tokio::io::duplex(16 << 10);
        let refusal = *self.refusal.lock().unwrap();
        if let Some(text) = refusal {
            far.write_all(text.as_bytes()).await.unwrap();
            return Ok(Box::new(near));
        }
        let context = SessionContext {
            store: self.store.clone(),
            peer: Peer::Ours,
            account,
            client: client.clone(),
            hostname: "mail.example.org".into(),
            directory: None,
            sending: mailcluster_backend::sieve::Sending::default(),
            shutdown: self.shutdown.clone(),
            limits: Arc::new(SessionLimits::default()),
        };
        match protocol {
            Protocol::Imap => tokio::spawn(mailcluster_backend::imap::serve(Box::new(far), context)),
            Protocol::Pop3 => tokio::spawn(mailcluster_backend::pop3::serve(Box::new(far), context)),
            Protocol::ManageSieve => {
                tokio::spawn(mailcluster_backend::managesieve::serve(Box::new(far), context))
            }
            Protocol::Lmtp => return Err(OpenError::NoRoute(store.clone())),
        };
        Ok(Box::new(near))
    }

    fn hand_off_candidates(&self, _: &StoreName, _: usize) -> Vec<StoreName> {
        Vec::new()
    }

    fn route_hint(&self, _: &StoreName, _: Epoch, _: Option<SocketAddr>) {}
}

/// A client that reads lines.
pub struct Client {
    stream: BoxStream,
}

impl Client {
    pub fn new(stream: impl IoStream + 'static) -> Self {
        Self { stream: Box::new(stream) }
    }

    pub fn into_stream(self) -> BoxStream {
        self.stream
    }

    pub async fn send(&mut self, text: &str) {
        let send = async {
            self.stream.write_all(text.as_bytes()).await?;
            self.stream.flush().await
        };
        // A session that has ended shows when it is read.
        let _ = timeout(LIMIT, send).await.expect("nobody reads");
    }

    pub async fn line(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let octet = timeout(LIMIT, self.stream.read_u8()).await.expect("nothing is said");
            line.push(octet.unwrap_or_else(|_| panic!("closed after {line:?}")));
        }
        String::from_utf8_lossy(&line[..line.len() - 2]).into_owned()
    }

    /// Reads lines until one starts so, and gives it back.
    pub async fn until(&mut self, start: &str) -> String {
        loop {
            let line = self.line().await;
            if line.starts_with(start) {
                return line;
            }
        }
    }

    /// Sends a command and reads one line, which must start so.
    pub async fn expect(&mut self, command: &str, start: &str) -> String {
        self.send(&format!("{command}\r\n")).await;
        let line = self.line().await;
        assert!(line.starts_with(start), "{command:?} got {line:?}, not {start:?}");
        line
    }

    /// Nothing more comes.
    pub async fn closed(mut self) {
        let mut rest = Vec::new();
        let _ = timeout(LIMIT, self.stream.read_to_end(&mut rest)).await.expect("the session goes on");
        assert_eq!(String::from_utf8_lossy(&rest), "");
    }
}
