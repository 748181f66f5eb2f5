//! Scripts at delivery: what they want happens once, and no mail is lost for them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use mailcluster_backend::{Peer, SessionContext, SessionLimits, lmtp, sieve::Sending};
use mailcluster_store::{
    Account, HistoryKey, Identity, OpenGate, QueueItem, Replica, ScriptChange, Store, StoreKind,
};
use mailcluster_types::{
    AccountId, AccountStatus, Address, AuthOutcome, AuthRequest, ClientInfo, ClusterId, DeliveryId,
    Directory, KeyAlgorithm, Located, ReplicaId, Resolution, ResolvedAccount, SessionId, SigningKey,
    SigningKeys, Unavailable,
};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio_util::sync::CancellationToken;

const ANN: AccountId = AccountId(1);
const BOB: AccountId = AccountId(2);
const REPLICA: ReplicaId = ReplicaId(9);

/// Knows ann and bob here; everything of `broken.example` cannot be said.
struct Names;

#[async_trait]
impl Directory for Names {
    async fn resolve(&self, address: &Address) -> Result<Resolution, Unavailable> {
        let id = match address.key().as_str() {
            "ann@example.org" => ANN,
            "bob@example.org" => BOB,
            _ if address.domain() == "broken.example" => return Err(Unavailable("away".into())),
            _ if address.domain() == "example.org" => return Ok(Resolution::NoSuchMailbox),
            _ => return Ok(Resolution::NotLocal),
        };
        let (address, store, status) = (address.clone(), "s-0".into(), AccountStatus::Active);
        Ok(Resolution::Accounts(vec![ResolvedAccount { id, address, store, status }]))
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

    async fn signing_keys(&self, domain: &str) -> Result<Arc<SigningKeys>, Unavailable> {
        if domain != "example.org" {
            return Ok(Arc::default());
        }
        let algorithm = KeyAlgorithm::Ed25519Sha256;
        let secret = mailcluster_dkim::generate(algorithm).unwrap().secret;
        let key = SigningKey { selector: "s".into(), algorithm, secret };
        Ok(Arc::new(SigningKeys { domain: domain.into(), keys: vec![key] }))
    }
}

struct Backend {
    store: Store,
    identity: Identity,
    dir: tempfile::TempDir,
    sending: Sending,
}

impl Backend {
    async fn new(script: &str) -> Self {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let identity =
            Identity { cluster: ClusterId(1), store: "s-0".into(), replica: REPLICA, kind: StoreKind::Mail };
        let replica = Replica::initialise(dir.path(), &identity).unwrap();
        let store = replica.serve(1, &[REPLICA], Arc::new(OpenGate)).unwrap();
        for (id, name) in [(ANN, "ann"), (BOB, "bob")] {
            let record = Account {
                id,
                address: format!("{name}@example.org"),
                store: "s-0".into(),
                generation: 1,
                password_hash: String::new(),
                quota_octets: 0,
                used_octets: 0,
                suspended: false,
                pending: false,
                tombstone: false,
            };
            store.put_account(record).await.unwrap().acknowledge().unwrap();
        }
        let sending = Sending { directory: Some(Arc::new(Names)), to_other_sites: true };
        let backend = Self { store, identity, dir, sending };
        backend.script(script).await;
        backend
    }

    async fn script(&self, text: &str) {
        for change in [
            ScriptChange::Put { name: "main".into(), text: text.to_owned().into() },
            ScriptChange::Activate(Some("main".into())),
        ] {
            self.store.change_scripts(ANN, change).await.unwrap().acknowledge().unwrap();
        }
    }

    /// Stops and opens again, at the next epoch.
    async fn reopen(self) -> Self {
        let Self { store, identity, dir, sending } = self;
        let epoch = store.epoch() + 1;
        drop(store.stop().await);
        let replica = Replica::open(dir.path(), &identity).unwrap();
        let store = replica.serve(epoch, &[REPLICA], Arc::new(OpenGate)).unwrap();
        Self { store, identity, dir, sending }
    }

    /// One transaction; answers the replies behind the final dot.
    async fn deliver(&self, id: DeliveryId, sender: &str, to: &[AccountId], text: &str) -> Vec<String> {
        self.transact(format!("MAIL FROM:<{sender}> MCID={id}"), to, text).await
    }

    async fn transact(&self, mail: String, to: &[AccountId], text: &str) -> Vec<String> {
        let nobody = "127.0.0.1:5".parse().unwrap();
        let session = SessionId::random().unwrap();
        let context = SessionContext {
            store: self.store.clone(),
            peer: Peer::Ours,
            account: None,
            client: ClientInfo { remote: nobody, local: nobody, tls: None, session },
            hostname: "mail.example.org".into(),
            directory: None,
            sending: self.sending.clone(),
            shutdown: CancellationToken::new(),
            limits: Arc::new(SessionLimits::default()),
        };
        let (near, far) = tokio::io::duplex(64 << 10);
        tokio::spawn(lmtp::serve(Box::new(far), context));
        let mut wire = BufReader::new(near);
        reply(&mut wire).await;
        let mut commands = vec!["LHLO peer".to_owned(), mail];
        for account in to {
            let name = if *account == ANN { "ann" } else { "bob" };
            commands.push(format!("RCPT TO:<{name}@example.org> MCACCT={account}"));
        }
        for command in commands {
            wire.get_mut().write_all(format!("{command}\r\n").as_bytes()).await.unwrap();
            let said = reply(&mut wire).await;
            assert!(said.starts_with("250"), "{command}: {said}");
        }
        wire.get_mut().write_all(b"DATA\r\n").await.unwrap();
        assert!(reply(&mut wire).await.starts_with("354"));
        wire.get_mut().write_all(format!("{text}\r\n.\r\n").as_bytes()).await.unwrap();
        let mut all = Vec::new();
        for _ in to {
            all.push(reply(&mut wire).await);
        }
        all
    }

    /// Mailboxes of ann's with the flags of their messages; empty ones are left out.
    async fn mail(&self) -> Vec<String> {
        let read = self.store.read(|view| {
            let mut all = Vec::new();
            for mailbox in view.mailboxes(ANN)? {
                for message in view.messages(mailbox.id, 1, u32::MAX)? {
                    let words: Vec<_> = message.flags.keywords.into_iter().collect();
                    all.push(format!("{} {} {}", mailbox.name, message.flags.system, words.join(",")));
                }
            }
            Ok(all)
        });
        read.await.unwrap().into_iter().map(|line| line.trim_end().to_owned()).collect()
    }

    /// What waits in the queue, with its text.
    async fn queue(&self) -> Vec<(QueueItem, String)> {
        let read = self.store.read(|view| {
            let items = view.queue(None, 100)?;
            items
                .into_iter()
                .map(|item| Ok((item.clone(), view.body(item.body)?)))
                .collect::<Result<Vec<_>, _>>()
        });
        let text = |octets: bytes::Bytes| String::from_utf8_lossy(&octets).into_owned();
        read.await.unwrap().into_iter().map(|(item, octets)| (item, text(octets))).collect()
    }
}

async fn reply(wire: &mut BufReader<tokio::io::DuplexStream>) -> String {
    let mut all = String::new();
    loop {
        let mut line = String::new();
        let read = tokio::time::timeout(Duration::from_secs(30), wire.read_line(&mut line)).await;
        assert!(read.expect("a reply in time").unwrap() > 0, "closed instead of a reply");
        all.push_str(&line);
        if line.as_bytes().get(3) == Some(&b' ') {
            return all;
        }
    }
}

fn id(n: u128) -> DeliveryId {
    DeliveryId(1_700_000_000_000 << 80 | n)
}

const MAIL: &str = "From: joe@elsewhere.example\r\nTo: ann@example.org\r\nSubject: hello\r\nMessage-ID: <1@elsewhere>\r\n\r\nbody";
const JOE: &str = "joe@elsewhere.example";

#[tokio::test]
async fn an_answer_is_signed_where_the_domain_has_keys_and_what_is_sent_on_is_not() {
    let script = "require \"vacation\"; vacation \"away\"; redirect \"x@elsewhere.example\";";
    let backend = Backend::new(script).await;
    let replies = backend.deliver(id(1), JOE, &[ANN], MAIL).await;
    assert!(replies[0].starts_with("250 "), "{replies:?}");
    let texts: Vec<_> = backend.queue().await.into_iter().map(|(_, text)| text).collect();
    let (answers, sent_on): (Vec<_>, Vec<_>) = texts.into_iter().partition(|text| text.contains("away"));
    assert!(answers.len() == 1 && answers[0].starts_with("DKIM-Signature: v=1; "), "{answers:?}");
    assert!(answers[0].contains("d=example.org; s=s;"), "{answers:?}");
    assert!(sent_on.len() == 1 && !sent_on[0].contains("DKIM-Signature"), "{sent_on:?}");
}

#[tokio::test]
async fn what_is_kept_of_junk_is_junk_and_a_script_may_still_say_otherwise() {
    for (script, expected) in [
        ("keep;", "Junk 0"),
        ("redirect \"ann@broken.example", "Junk 0"),
        ("require \"fileinto\"; fileinto \"Archive\";", "Archive 0"),
    ] {
        let backend = Backend::new(script).await;
        let mail = format!("MAIL FROM:<{JOE}> MCID={} MCJUNK=1 MCMET=spf:fail", id(1));
        let replies = backend.transact(mail, &[ANN], MAIL).await;
        assert!(replies[0].starts_with("250 "), "{script}: {replies:?}");
        assert_eq!(backend.mail().await, [expected], "{script}");
        let history =
            backend.store.read(|view| view.history(&HistoryKey::Delivery(id(1)), 100)).await.unwrap();
        assert!(history.iter().any(|event| event.detail.contains("spf:fail")), "{script}: {history:?}");
    }
}

#[tokio::test]
async fn mail_goes_where_the_script_says() {
    for (script, mail, queued) in [
        ("keep;", &["INBOX 0"][..], 0),
        ("discard;", &[], 0),
        ("require \"fileinto\"; fileinto \"Archive\";", &["Archive 0"], 0),
        ("require \"fileinto\"; fileinto \"nowhere\";", &["INBOX 0"], 0),
        ("require [\"fileinto\", \"mailbox\"]; fileinto :create \"a/b\";", &["a/b 0"], 0),
        ("require [\"fileinto\", \"copy\"]; fileinto :copy \"Archive\";", &["Archive 0", "INBOX 0"], 0),
        ("require \"imap4flags\"; keep :flags [\"\\\\Flagged\", \"Work\"];", &["INBOX 4 Work"], 0),
        (
            "require [\"fileinto\", \"mailbox\"]; if mailboxexists \"Junk\" { fileinto \"Junk\"; }",
            &["Junk 0"],
            0,
        ),
        (
            "require [\"fileinto\", \"body\"]; if body :contains \"bod\" { fileinto \"Junk\"; }",
            &["Junk 0"],
            0,
        ),
        ("redirect \"x@elsewhere.example\";", &[], 1),
        ("require \"copy\"; redirect :copy \"bob@example.org\";", &["INBOX 0"], 1),
        ("redirect \"nobody@example.org\";", &["INBOX 0"], 0),
        ("require \"enotify\"; notify \"mailto:x@elsewhere.example\";", &["INBOX 0"], 1),
        ("require \"vacation\"; vacation \"away\";", &["INBOX 0"], 1),
    ] {
        let backend = Backend::new(script).await;
        let replies = backend.deliver(id(1), JOE, &[ANN, BOB], MAIL).await;
        assert!(
            replies.iter().all(|reply| reply.starts_with("250 2.0.0") && reply.contains("delivered")),
            "{replies:?}"
        );
        assert_eq!(backend.mail().await, mail, "{script}");
        assert_eq!(backend.queue().await.len(), queued, "{script}");
        assert_eq!(backend.store.read(|v| v.verify()).await.unwrap(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_delivery_that_comes_again_sends_nothing_twice() {
    let script = "require [\"copy\", \"vacation\", \"fileinto\"]; redirect :copy \"x@elsewhere.example\"; \
                  redirect :copy \"bob@example.org\"; vacation :days 3 \"away\"; fileinto \"Archive\";";
    let mut backend = Backend::new(script).await;
    for _ in 0..3 {
        let replies = backend.deliver(id(1), JOE, &[ANN], MAIL).await;
        assert!(replies[0].starts_with("250 "), "{replies:?}");
        assert_eq!(backend.mail().await, ["Archive 0"]);
        assert_eq!(backend.queue().await.len(), 2, "one redirected message, one answer");
        // The answer was lost with the process: whoever has sent it tries again.
        backend = backend.reopen().await;
    }
    let queue = backend.queue().await;
    let (redirected, text) = queue.iter().find(|(item, _)| item.sender == JOE).expect("it keeps its sender");
    let who: Vec<_> = redirected.recipients.iter().map(|r| (r.address.as_str(), r.account)).collect();
    assert_eq!(who, [("bob@example.org", Some(BOB)), ("x@elsewhere.example", None)]);
    assert!(text.starts_with("Received: by mail.example.org (Sieve) id "), "{text}");
    assert!(text.contains("X-Sieve-Redirected-From: ann@example.org\r\n") && text.contains(MAIL), "{text}");
    let (answer, text) = queue.iter().find(|(item, _)| item.sender.is_empty()).expect("an answer");
    assert_eq!(answer.recipients[0].address, JOE);
    assert!(
        text.contains("In-Reply-To: <1@elsewhere>\r\n") && text.contains("From: ann@example.org\r\n"),
        "{text}"
    );
    // Another message of the same sender: it was answered.
    backend.deliver(id(2), JOE, &[ANN], MAIL).await;
    assert_eq!(backend.queue().await.len(), 3, "only the redirect");
    for sender in ["", "mailer-daemon@elsewhere.example"] {
        backend.deliver(id(3 + sender.len() as u128), sender, &[ANN], MAIL).await;
    }
    let answers = backend.queue().await.iter().filter(|(_, text)| text.contains("auto-replied")).count();
    assert_eq!(answers, 1);
}

#[tokio::test]
async fn a_refusal_is_said_in_the_protocol_for_this_account_alone() {
    let backend = Backend::new("require \"reject\"; reject \"not\nyou\";").await;
    let replies = backend.deliver(id(1), JOE, &[ANN, BOB], MAIL).await;
    assert_eq!(replies[0], "550-5.7.1 not\r\n550 5.7.1 you\r\n");
    assert!(replies[1].starts_with("250 "), "{replies:?}");
    assert!(backend.mail().await.is_empty() && backend.queue().await.is_empty());
    // What was taken before is not refused when it comes again.
    backend.script("keep;").await;
    backend.deliver(id(2), JOE, &[ANN], MAIL).await;
    backend.script("require \"reject\"; reject \"no\";").await;
    assert!(backend.deliver(id(2), JOE, &[ANN], MAIL).await[0].starts_with("250 "));
    assert_eq!(backend.mail().await, ["INBOX 0"]);
}

#[tokio::test]
async fn a_script_that_fails_keeps_all_mail_and_tells_its_user_once_a_day() {
    let failing = "require [\"variables\", \"fileinto\"]; set \"a\" \"not an address\"; fileinto \"Junk\"; redirect \"${a}\";";
    for script in [failing, "this is no script"] {
        let backend = Backend::new(script).await;
        for n in 1..4 {
            backend.deliver(id(n), JOE, &[ANN], MAIL).await;
        }
        assert_eq!(backend.mail().await, ["INBOX 0", "INBOX 0", "INBOX 0"], "{script}");
        let queue = backend.queue().await;
        assert_eq!(queue.len(), 1, "{script}");
        assert_eq!((queue[0].0.recipients[0].account, queue[0].0.sender.as_str()), (Some(ANN), ""));
        assert!(
            queue[0].1.contains("Subject: Your Sieve script fails\r\n")
                && queue[0].1.contains("line 1, column")
        );
    }
}

#[tokio::test]
async fn what_cannot_be_sent_on_is_kept_and_what_cannot_be_decided_comes_again() {
    let mut backend = Backend::new("redirect \"x@elsewhere.example\";").await;
    let looped = format!("X-Sieve-Redirected-From: ann@example.org\r\n{MAIL}");
    backend.deliver(id(1), JOE, &[ANN], &looped).await;
    assert_eq!((backend.mail().await, backend.queue().await.len()), (vec!["INBOX 0".to_owned()], 0));
    backend.script("redirect \"x@broken.example\";").await;
    let replies = backend.deliver(id(2), JOE, &[ANN, BOB], MAIL).await;
    assert!(replies[0].starts_with("451 4.3.0") && replies[1].starts_with("250 "), "{replies:?}");
    assert_eq!(backend.mail().await.len(), 1, "nothing of it was done");
    backend.script("redirect \"x@elsewhere.example\";").await;
    backend.sending = Sending::default();
    backend.deliver(id(3), JOE, &[ANN], MAIL).await;
    assert_eq!((backend.mail().await.len(), backend.queue().await.len()), (2, 0));
}

#[tokio::test]
async fn duplicates_are_known_across_a_restart_and_not_for_the_delivery_itself() {
    let script =
        "require [\"duplicate\", \"fileinto\", \"mailbox\"]; if duplicate { fileinto :create \"twice\"; }";
    let mut backend = Backend::new(script).await;
    backend.deliver(id(1), JOE, &[ANN], MAIL).await;
    backend.deliver(id(1), JOE, &[ANN], MAIL).await;
    assert_eq!(backend.mail().await, ["INBOX 0"]);
    backend = backend.reopen().await;
    backend.deliver(id(2), JOE, &[ANN], MAIL).await;
    assert_eq!(backend.mail().await, ["INBOX 0", "twice 0"]);
    // At the same time: one of them is the first.
    let other = MAIL.replace("<1@", "<2@");
    let (a, b) = tokio::join!(
        backend.deliver(id(3), JOE, &[ANN], &other),
        backend.deliver(id(4), JOE, &[ANN], &other)
    );
    assert!(a[0].starts_with("250 ") && b[0].starts_with("250 "), "{a:?} {b:?}");
    assert_eq!(backend.mail().await, ["INBOX 0", "INBOX 0", "twice 0", "twice 0"]);
}
