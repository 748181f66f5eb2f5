//! LMTP into a real store: what is stored, queued, refused, and when nothing may be said.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use mailcluster_backend::{Peer, Refuse, SessionContext, SessionLimits, lmtp};
use mailcluster_store::{Account, Gate, HistoryKey, Identity, Replica, Store, StoreKind};
use mailcluster_types::{
    AccountId, AccountStatus, Address, AuthOutcome, AuthRequest, ClientInfo, ClusterId, DeliveryId,
    Directory, Epoch, Located, ReplicaId, Resolution, ResolvedAccount, Seq, SessionId, StoreName,
    Unavailable,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream};
use tokio_util::sync::CancellationToken;

/// A gate that a test can shut.
#[derive(Default)]
struct Shut(AtomicBool);

impl Gate for Shut {
    fn may_acknowledge(&self, _: Epoch, _: Seq) -> bool {
        !self.0.load(Ordering::SeqCst)
    }
    fn may_read(&self) -> bool {
        true
    }
    fn may_write(&self) -> bool {
        true
    }
    fn poisoned(&self) {}
}

/// Knows `ann@example.org` here and `far@example.org` on another store.
struct Names(AccountId);

#[async_trait]
impl Directory for Names {
    async fn resolve(&self, address: &Address) -> Result<Resolution, Unavailable> {
        let found = |store: &str| {
            let account = ResolvedAccount {
                id: self.0,
                address: address.clone(),
                store: StoreName::new(store),
                status: AccountStatus::Active,
            };
            Resolution::Accounts(vec![account])
        };
        match address.key().as_str() {
            "ann@example.org" | "alias@example.org" => Ok(found("s-0")),
            "far@example.org" => Ok(found("s-1")),
            "broken@example.org" => Err(Unavailable("away".into())),
            _ if address.domain() == "example.org" => Ok(Resolution::NoSuchMailbox),
            _ => Ok(Resolution::NotLocal),
        }
    }

    async fn locate(&self, _: AccountId) -> Result<Located, Unavailable> {
        Ok(Located::Unknown)
    }

    async fn authenticate(&self, _: &AuthRequest) -> Result<AuthOutcome, Unavailable> {
        Ok(AuthOutcome::Rejected)
    }

    async fn may_send_as(&self, _: AccountId, _: &Address) -> Result<bool, Unavailable> {
        Ok(false)
    }
}

struct Backend {
    store: Store,
    ann: AccountId,
    gate: Arc<Shut>,
    _dir: tempfile::TempDir,
}

impl Backend {
    async fn new(quota_octets: u64) -> Self {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let replica = ReplicaId::random().unwrap();
        let identity =
            Identity { cluster: ClusterId(1), store: "s-0".into(), replica, kind: StoreKind::Mail };
        let gate = Arc::new(Shut::default());
        let store =
            Replica::initialise(dir.path(), &identity).unwrap().serve(1, &[replica], gate.clone()).unwrap();
        let ann = AccountId::random().unwrap();
        let record = Account {
            id: ann,
            address: "ann@example.org".into(),
            store: "s-0".into(),
            generation: 1,
            password_hash: String::new(),
            quota_octets,
            used_octets: 0,
            suspended: false,
            pending: false,
            tombstone: false,
        };
        store.put_account(record).await.unwrap().acknowledge().unwrap();
        Self { store, ann, gate, _dir: dir }
    }

    /// A session past LHLO; `named`: recipients need an account id.
    async fn session(&self, with_directory: Option<Arc<dyn Directory>>) -> Lmtp {
        self.session_of(Peer::Ours, with_directory).await
    }

    async fn session_of(&self, peer: Peer, with_directory: Option<Arc<dyn Directory>>) -> Lmtp {
        let nobody = "127.0.0.1:5".parse().unwrap();
        let session = SessionId::random().unwrap();
        let context = SessionContext {
            store: self.store.clone(),
            peer,
            account: None,
            client: ClientInfo { remote: nobody, local: nobody, tls: None, session },
            hostname: "mail.example.org".into(),
            directory: with_directory,
            sending: mailcluster_backend::sieve::Sending::default(),
            shutdown: CancellationToken::new(),
            limits: Arc::new(SessionLimits { max_message: 3 << 20, ..SessionLimits::default() }),
        };
        let (near, far) = tokio::io::duplex(64 << 10);
        tokio::spawn(lmtp::serve(Box::new(far), context));
        let mut lmtp = Lmtp(BufReader::new(near));
        assert!(lmtp.reply().await.starts_with("220 "));
        lmtp.expect("MAIL FROM:<a@b.example>", "503 ").await;
        let offers = lmtp.say("LHLO peer").await;
        assert!(offers.contains("PIPELINING") && offers.contains("SIZE 3145728"), "{offers}");
        assert_eq!(offers.contains("MCMET"), peer == Peer::Ours, "{offers}");
        lmtp
    }

    async fn inbox(&self) -> Vec<String> {
        let ann = self.ann;
        let read = self.store.read(move |view| {
            let inbox = view.mailbox_by_name(ann, "INBOX")?.expect("an INBOX");
            let messages = view.messages(inbox.id, 1, u32::MAX)?;
            messages.iter().map(|m| view.body(m.body)).collect::<Result<Vec<_>, _>>()
        });
        read.await.unwrap().into_iter().map(|b| String::from_utf8_lossy(&b).into_owned()).collect()
    }
}

struct Lmtp(BufReader<DuplexStream>);

impl Lmtp {
    async fn send(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).await.unwrap();
    }

    async fn reply(&mut self) -> String {
        let mut all = String::new();
        loop {
            let mut line = String::new();
            let read = tokio::time::timeout(Duration::from_secs(30), self.0.read_line(&mut line)).await;
            assert!(read.expect("a reply in time").unwrap() > 0, "closed instead of a reply");
            all.push_str(&line);
            if line.as_bytes().get(3) == Some(&b' ') {
                return all;
            }
        }
    }

    async fn say(&mut self, command: &str) -> String {
        self.send(&format!("{command}\r\n")).await;
        self.reply().await
    }

    async fn expect(&mut self, command: &str, start: &str) {
        let reply = self.say(command).await;
        assert!(reply.starts_with(start), "{command:?} got {reply:?}, not {start:?}");
    }

    async fn closed(&mut self) {
        let mut rest = String::new();
        let read = tokio::time::timeout(Duration::from_secs(30), self.0.read_to_string(&mut rest)).await;
        read.expect("the end in time").unwrap();
        assert_eq!(rest, "");
    }
}

#[tokio::test]
async fn recipients_with_ids_are_delivered_handed_off_and_held_in_one_transaction() {
    let backend = Backend::new(0).await;
    let id = DeliveryId::new(1_700_000_000_000).unwrap();
    let ann = backend.ann;
    let mut lmtp = backend.session(None).await;
    for _ in 0..2 {
        lmtp.expect(&format!("MAIL FROM:<x@y.example> SIZE=20 BODY=8BITMIME MCID={id}"), "250 ").await;
        lmtp.expect(&format!("RCPT TO:<ann@example.org> MCACCT={ann}"), "250 ").await;
        let far = AccountId(9);
        lmtp.expect(&format!("RCPT TO:<far@example.org> MCACCT={far} MCSTORE=s-1"), "250 ").await;
        lmtp.expect(&format!("RCPT TO:<alias@example.org> MCACCT={ann}"), "250 ").await;
        lmtp.expect("RCPT TO:<out@elsewhere.example> MCHOLD=1", "250 ").await;
        lmtp.expect("DATA", "354 ").await;
        lmtp.send("Subject: x\r\n\r\n..dot\r\n.\r\n").await;
        for expected in [
            "<ann@example.org> delivered",
            "<far@example.org> queued",
            "<alias@example.org> delivered",
            "<out@elsewhere.example> held",
        ] {
            assert_eq!(lmtp.reply().await, format!("250 2.0.0 {expected} id={id}\r\n"));
        }
    }
    let expected =
        "Return-Path: <x@y.example>\r\nDelivered-To: ann@example.org\r\nSubject: x\r\n\r\n.dot\r\n"
            .to_owned();
    assert_eq!(backend.inbox().await, [expected], "the second time it was known");
    let queue = backend.store.read(|view| view.queue(None, 10)).await.unwrap();
    assert_eq!(queue.len(), 1);
    let waiting: Vec<_> = queue[0].recipients.iter().map(|r| (r.address.as_str(), r.held)).collect();
    assert_eq!(waiting, [("far@example.org", false), ("out@elsewhere.example", true)]);
    let body = queue[0].body;
    let text = backend.store.read(move |view| view.body(body)).await.unwrap();
    assert_eq!(&text[..], b"Subject: x\r\n\r\n.dot\r\n");
}

#[tokio::test]
async fn recipients_without_ids_are_resolved_when_a_directory_is_there() {
    let backend = Backend::new(0).await;
    let mut lmtp = backend.session(Some(Arc::new(Names(backend.ann)))).await;
    lmtp.expect("MAIL FROM:<>", "250 ").await;
    for (to, start) in [
        ("ann@example.org", "250 "),
        ("alias@example.org", "250 "),
        ("nobody@example.org", "550 5.1.1"),
        ("x@elsewhere.example", "550 5.7.1"),
        ("far@example.org", "451 4.3.0"),
        ("broken@example.org", "451 4.3.0"),
        ("a..b@example.org", "553 "),
    ] {
        lmtp.expect(&format!("RCPT TO:<{to}>"), start).await;
    }
    lmtp.expect("DATA", "354 ").await;
    lmtp.send("Subject: x\r\n\r\nx\r\n.\r\n").await;
    let first = lmtp.reply().await;
    assert!(first.starts_with("250 2.0.0 <ann@example.org> delivered id="), "{first}");
    assert!(lmtp.reply().await.starts_with("250 2.0.0 <alias@example.org> delivered id="));
    let inbox = backend.inbox().await;
    assert_eq!(inbox.len(), 1, "one copy for one account");
    assert!(inbox[0].contains("Received: from peer ([127.0.0.1])\r\n\tby mail.example.org with LMTP id "));
    let mut strict = backend.session(None).await;
    strict.expect("MAIL FROM:<>", "250 ").await;
    strict.expect("RCPT TO:<ann@example.org>", "451 ").await;
}

#[tokio::test]
async fn refusals_say_what_is_final_and_never_that_an_account_is_unknown() {
    let backend = Backend::new(1000).await;
    let (ann, stranger) = (backend.ann, AccountId(77));
    let mut lmtp = backend.session(None).await;
    lmtp.expect("MAIL FROM:<x@y.example> SIZE=4000000", "552 5.3.4").await;
    lmtp.expect("MAIL FROM:<x@y.example> MCID=nonsense", "501 ").await;
    lmtp.expect("MAIL FROM:<x@y.example> SIZE=5000", "250 ").await;
    lmtp.expect(&format!("RCPT TO:<ann@example.org> MCACCT={ann}"), "552 5.2.2").await;
    lmtp.expect(&format!("RCPT TO:<s@example.org> MCACCT={stranger}"), "451 4.3.0").await;
    lmtp.expect("RCPT TO:<s@example.org> MCACCT=xyz", "501 ").await;
    lmtp.expect("RCPT TO:<s@example.org> MCSTORE=s-1", "501 ").await;
    lmtp.expect("DATA", "503 ").await;
    lmtp.expect("RSET", "250 ").await;
    lmtp.expect("MAIL FROM:<x@y.example>", "250 ").await;
    lmtp.expect(&format!("RCPT TO:<ann@example.org> MCACCT={ann}"), "250 ").await;
    lmtp.expect("DATA", "354 ").await;
    lmtp.send(&format!("{}\r\n.\r\n", "x".repeat(2000))).await;
    assert!(lmtp.reply().await.starts_with("552 5.2.2"), "an unannounced size is checked at the end");
    assert!(backend.inbox().await.is_empty());
}

#[tokio::test]
async fn a_foreign_peer_may_name_no_ids() {
    let backend = Backend::new(0).await;
    let ann = backend.ann;
    let id = DeliveryId::new(1_700_000_000_000).unwrap();
    let mut lmtp = backend.session_of(Peer::Foreign, Some(Arc::new(Names(ann)))).await;
    for named in [format!("MCID={id}"), "MCJUNK=1".to_owned(), "MCMET=spf:pass".to_owned()] {
        lmtp.expect(&format!("MAIL FROM:<x@y.example> {named}"), "555 5.5.4").await;
    }
    lmtp.expect("MAIL FROM:<x@y.example>", "250 ").await;
    for named in [format!("MCACCT={ann}"), format!("MCACCT={ann} MCSTORE=s-1"), "MCHOLD=1".to_owned()] {
        lmtp.expect(&format!("RCPT TO:<ann@example.org> {named}"), "555 5.5.4").await;
    }
    lmtp.expect("RCPT TO:<ann@example.org>", "250 ").await;
    lmtp.expect("RCPT TO:<postmaster>", "550 5.7.1").await;
    lmtp.expect("RCPT TO:<postmaster@example.org>", "250 ").await;
    lmtp.expect("DATA", "354 ").await;
    lmtp.send("Subject: x\r\n\r\nx\r\n.\r\n").await;
    assert!(lmtp.reply().await.contains("delivered"));
    assert!(lmtp.reply().await.contains("held"));
}

#[tokio::test]
async fn a_deleted_account_is_refused_for_good() {
    let backend = Backend::new(0).await;
    let ann = backend.ann;
    let held = backend.store.read(move |view| view.account(ann)).await.unwrap().unwrap();
    let tombstone = Account { generation: 2, tombstone: true, ..held };
    backend.store.put_account(tombstone).await.unwrap().acknowledge().unwrap();
    let mut lmtp = backend.session(None).await;
    lmtp.expect("MAIL FROM:<x@y.example>", "250 ").await;
    lmtp.expect(&format!("RCPT TO:<ann@example.org> MCACCT={ann}"), "550 5.1.1").await;
}

#[tokio::test]
async fn faulty_messages_are_refused_for_each_recipient() {
    let backend = Backend::new(0).await;
    let ann = backend.ann;
    let mut lmtp = backend.session(None).await;
    for (text, start) in [
        ("bare\nnewline".to_owned(), "550 5.6.11"),
        ("nul\0".to_owned(), "550 5.6.0"),
        ("line\r\n".repeat(600_000), "552 5.3.4"),
    ] {
        lmtp.expect("MAIL FROM:<x@y.example>", "250 ").await;
        lmtp.expect(&format!("RCPT TO:<ann@example.org> MCACCT={ann}"), "250 ").await;
        lmtp.expect("RCPT TO:<h@example.org> MCHOLD=1", "250 ").await;
        lmtp.expect("DATA", "354 ").await;
        lmtp.send(&format!("{text}\r\n.\r\n")).await;
        for _ in 0..2 {
            let reply = lmtp.reply().await;
            assert!(reply.starts_with(start), "{reply}");
        }
    }
    lmtp.expect("NOOP", "250 ").await;
    assert!(backend.inbox().await.is_empty());
    assert_eq!(backend.store.read(|view| view.queue_stats()).await.unwrap().messages, 0);
}

#[tokio::test]
async fn a_large_message_within_the_limit_is_taken_whole() {
    let backend = Backend::new(0).await;
    let ann = backend.ann;
    let mut lmtp = backend.session(None).await;
    let text = "0123456789\r\n".repeat(200_000);
    lmtp.expect("MAIL FROM:<x@y.example>", "250 ").await;
    lmtp.expect(&format!("RCPT TO:<ann@example.org> MCACCT={ann}"), "250 ").await;
    lmtp.expect("DATA", "354 ").await;
    lmtp.send(&format!("{text}.\r\n")).await;
    assert!(lmtp.reply().await.starts_with("250 "));
    assert!(backend.inbox().await[0].ends_with(&text));
}

#[tokio::test]
async fn a_pipelined_flight_is_answered_in_order() {
    let backend = Backend::new(0).await;
    let ann = backend.ann;
    let mut lmtp = backend.session(None).await;
    let one = format!("MAIL FROM:<x@y.example>\r\nRCPT TO:<a@b.c> MCACCT={ann}\r\nDATA\r\n");
    lmtp.send(&one).await;
    for start in ["250 ", "250 ", "354 "] {
        assert!(lmtp.reply().await.starts_with(start));
    }
    lmtp.send(&format!("x\r\n.\r\n{one}")).await;
    for start in ["250 2.0.0 <a@b.c> delivered", "250 ", "250 ", "354 "] {
        assert!(lmtp.reply().await.starts_with(start));
    }
    lmtp.send("y\r\n.\r\nQUIT\r\n").await;
    assert!(lmtp.reply().await.starts_with("250 "));
    assert!(lmtp.reply().await.starts_with("221 "));
    lmtp.closed().await;
    assert_eq!(backend.inbox().await.len(), 2);
}

#[tokio::test]
async fn what_may_not_be_acknowledged_closes_the_connection_without_a_word() {
    let backend = Backend::new(0).await;
    let ann = backend.ann;
    for recipient in [format!("RCPT TO:<a@b.c> MCACCT={ann}"), "RCPT TO:<a@b.c> MCHOLD=1".to_owned()] {
        let mut lmtp = backend.session(None).await;
        lmtp.expect("MAIL FROM:<x@y.example>", "250 ").await;
        lmtp.expect(&recipient, "250 ").await;
        lmtp.expect("DATA", "354 ").await;
        backend.gate.0.store(true, Ordering::SeqCst);
        lmtp.send("x\r\n.\r\n").await;
        lmtp.closed().await;
        backend.gate.0.store(false, Ordering::SeqCst);
    }
    let mut lmtp = backend.session(None).await;
    lmtp.expect("MAIL FROM:<x@y.example>", "250 ").await;
    lmtp.expect(&format!("RCPT TO:<a@b.c> MCACCT={ann}"), "250 ").await;
    lmtp.expect("DATA", "354 ").await;
    backend.store.stop().await;
    lmtp.send("x\r\n.\r\n").await;
    lmtp.closed().await;
}

#[tokio::test]
async fn the_history_tells_of_a_delivery() {
    let backend = Backend::new(0).await;
    let (ann, id) = (backend.ann, DeliveryId::new(1_700_000_000_000).unwrap());
    let mut lmtp = backend.session(None).await;
    lmtp.expect(&format!("MAIL FROM:<x@y.example> MCID={id}"), "250 ").await;
    lmtp.expect(&format!("RCPT TO:<Ann@Example.ORG> MCACCT={ann}"), "250 ").await;
    lmtp.expect("DATA", "354 ").await;
    lmtp.expect("x\r\n.", "250 ").await;
    let events = backend.store.read(move |view| view.history(&HistoryKey::Delivery(id), 10)).await.unwrap();
    let told: Vec<_> = events.iter().map(|e| (e.event.as_str(), e.recipient.as_str())).collect();
    assert_eq!(told, [("delivered", "ann@example.org")]);
}

#[tokio::test]
async fn a_refusal_tells_where_the_store_is() {
    let (near, far) = tokio::io::duplex(1024);
    let endpoint = Some("10.0.0.3:11024".parse().unwrap());
    lmtp::refuse(Box::new(far), &Refuse { reason: "not served here".into(), epoch: 7, endpoint }).await;
    let mut lmtp = Lmtp(BufReader::new(near));
    assert_eq!(lmtp.reply().await, "421 4.3.2 not served here epoch=7 endpoint=10.0.0.3:11024\r\n");
    lmtp.closed().await;
}
