//! A session over an in-memory pipe against a real store, driven by scripts.
//!
//! A script has lines `C: ` (sent with CRLF, `␍` standing for one inside) and `S: ` (expected, in order). In an
//! expected line `…` stands for any text; a line `S…` passes over lines until the next expected one comes.

#![allow(dead_code, reason = "each test file uses a part of this")]
#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used, reason = "a test may")]

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use mailcluster_backend::{Peer, SessionContext, SessionLimits, imap};
use mailcluster_store::{
    Account, Delivery, DeliveryTarget, Gate, Identity, OpenGate, Store, StoreKind, testing::Setup,
};
use mailcluster_types::{AccountId, ClientInfo, ClusterId, DeliveryId, ReplicaId, SessionId, StoreName};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// Nothing here takes so long unless it hangs.
const LIMIT: Duration = Duration::from_secs(20);

/// A store with one account, `ann@example.org`.
pub struct World {
    pub store: Store,
    pub account: AccountId,
    pub shutdown: CancellationToken,
    pub limits: SessionLimits,
    pub identity: Identity,
    pub dir: TempDir,
}

impl World {
    pub async fn new() -> Self {
        Self::with_gate(Arc::new(OpenGate)).await
    }

    pub async fn with_gate(gate: Arc<dyn Gate>) -> Self {
        Self::with_setup(&Setup::default(), gate).await
    }

    /// With this under the store.
    pub async fn with_setup(setup: &Setup, gate: Arc<dyn Gate>) -> Self {
        let dir = tempfile::Builder::new().prefix("imap").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let identity = Identity {
            cluster: ClusterId::random().unwrap(),
            store: StoreName::new("test-0"),
            replica: ReplicaId::random().unwrap(),
            kind: StoreKind::Mail,
        };
        let replica = setup.initialise(&dir.path().join("store"), &identity).unwrap();
        let store = replica.serve(1, &[identity.replica], gate).unwrap();
        let account = AccountId::random().unwrap();
        let world = Self {
            store,
            account,
            shutdown: CancellationToken::new(),
            limits: SessionLimits::default(),
            identity,
            dir,
        };
        world.put_account(account, "ann@example.org", 0).await;
        world
    }

    pub async fn put_account(&self, id: AccountId, address: &str, quota_octets: u64) {
        let account = Account {
            id,
            address: address.to_owned(),
            store: StoreName::new("test-0"),
            generation: 1,
            password_hash: String::new(),
            quota_octets,
            used_octets: 0,
            suspended: false,
            pending: false,
            tombstone: false,
        };
        self.store.put_account(account).await.unwrap().acknowledge().unwrap();
    }

    /// Mail that comes in by LMTP.
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

    /// What a session for this account is given.
    pub fn context(&self, account: Option<AccountId>) -> SessionContext {
        let address = "127.0.0.1:1".parse().unwrap();
        SessionContext {
            store: self.store.clone(),
            peer: Peer::Ours,
            account,
            client: ClientInfo {
                remote: address,
                local: address,
                tls: None,
                session: SessionId::random().unwrap(),
            },
            hostname: "mail.example.org".into(),
            directory: None,
            sending: mailcluster_backend::sieve::Sending::default(),
            shutdown: self.shutdown.clone(),
            limits: Arc::new(self.limits.clone()),
        }
    }

    /// A connection as the frontend opens it for this account.
    pub fn connect_as(&self, account: Option<AccountId>) -> Client {
        let context = self.context(account);
        let (near, far) = tokio::io::duplex(64 << 10);
        let task = tokio::spawn(imap::serve(Box::new(far), context));
        Client::new(near, task)
    }

    /// A session that is logged in.
    pub async fn login(&self) -> Client {
        let mut client = self.connect_as(Some(self.account));
        client
            .script("S: * OK …\nC: l AUTHENTICATE EXTERNAL YW5uQGV4YW1wbGUub3Jn\nS: l OK [CAPABILITY …] …")
            .await;
        client
    }

    /// A session with INBOX selected.
    pub async fn inbox(&self) -> Client {
        let mut client = self.login().await;
        client.script("C: s SELECT INBOX\nS…\nS: s OK [READ-WRITE] selected").await;
        client
    }
}

/// The client's end.
pub struct Client {
    stream: BufReader<DuplexStream>,
    pub task: JoinHandle<()>,
}

impl Client {
    pub fn new(near: DuplexStream, task: JoinHandle<()>) -> Self {
        Self { stream: BufReader::new(near), task }
    }

    pub async fn send(&mut self, octets: &[u8]) {
        timeout(LIMIT, self.stream.write_all(octets)).await.expect("the session does not read").unwrap();
    }

    /// Sends everything while reading and throwing away what comes, then leaves; the session must end by itself.
    pub async fn send_and_read_all(self, octets: &[u8]) {
        let (mut reader, mut writer) = tokio::io::split(self.stream.into_inner());
        let sending = async {
            // A session that has said BYE reads no more.
            let _ = writer.write_all(octets).await;
            let _ = writer.shutdown().await;
        };
        let reading = async { tokio::io::copy(&mut reader, &mut tokio::io::sink()).await };
        let both = timeout(LIMIT, async { tokio::join!(sending, reading) });
        both.await.expect("the session does not end").1.unwrap();
        timeout(LIMIT, self.task).await.expect("the session goes on").unwrap();
    }

    /// The next line without CRLF; `None` at the end of the connection.
    pub async fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        let read = timeout(LIMIT, self.stream.read_until(b'\n', &mut line));
        if read.await.expect("the session says nothing").unwrap() == 0 {
            return None;
        }
        let text = line.strip_suffix(b"\r\n").unwrap_or_else(|| panic!("no CRLF: {line:?}"));
        Some(String::from_utf8_lossy(text).into_owned())
    }

    /// Runs a script.
    pub async fn script(&mut self, script: &str) {
        let mut skip = false;
        for step in script.lines().map(str::trim_start).filter(|step| !step.is_empty()) {
            if let Some(text) = step.strip_prefix("C: ").or(step.strip_prefix("C:")) {
                self.send(format!("{}\r\n", text.replace('␍', "\r\n")).as_bytes()).await;
            } else if step == "S…" {
                skip = true;
            } else if let Some(expected) = step.strip_prefix("S: ").or(step.strip_prefix("S:")) {
                loop {
                    let line = self.line().await.unwrap_or_else(|| panic!("closed before {expected:?}"));
                    if matches(expected, &line) {
                        break;
                    }
                    assert!(skip, "expected {expected:?}\n     got {line:?}");
                }
                skip = false;
            } else {
                panic!("not a step: {step:?}");
            }
        }
    }

    /// The session ends without another line.
    pub async fn closed(mut self) {
        assert_eq!(self.line().await, None);
        timeout(LIMIT, self.task).await.expect("the session goes on").unwrap();
    }
}

fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('…') {
        None => pattern == text,
        Some((before, after)) => text.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len()).any(|from| rest.get(from..).is_some_and(|rest| matches(after, rest)))
        }),
    }
}
