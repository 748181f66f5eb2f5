//! Initialising, opening, promising, serving, stopping.

use std::{fs, sync::Arc};

use mailcluster_types::{AccountId, DeliveryId, ReplicaId, StoreName};

use super::support::{account, delivery, directory, identity, mailbox, target};
use crate::{
    Alias, Delivered, DirectoryRecord, Domain, Enqueue, HistoryKey, Identity, OpenError, OpenGate, OutDue,
    QueueRecipient, QueueUpdate, Refusal, Replica, Sealed, WriteError, machine, schema,
    superblock::Superblock, testing::Setup,
};

const ME: &[ReplicaId] = &[ReplicaId(9)];

#[test]
fn only_an_empty_volume_is_initialised_and_only_ones_own_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Replica::open(dir.path(), &identity()), Err(OpenError::Empty(_))));
    assert!(matches!(Replica::identify(dir.path()), Err(OpenError::Empty(_))));
    fs::create_dir(dir.path().join("lost+found")).unwrap();
    let replica = Replica::initialise(dir.path(), &identity()).unwrap();
    assert_eq!(replica.describe().end, (0, 0));
    assert!(matches!(Replica::open(dir.path(), &identity()), Err(OpenError::Locked(_))));
    drop(replica);
    assert!(matches!(Replica::initialise(dir.path(), &identity()), Err(OpenError::NotEmpty(_))));
    assert_eq!(Replica::identify(dir.path()).unwrap(), identity());
    for other in [
        Identity { replica: ReplicaId(1), ..identity() },
        Identity { store: StoreName::from("mail-1"), ..identity() },
        directory(),
    ] {
        let error = Replica::open(dir.path(), &other).err().unwrap();
        assert!(matches!(&error, OpenError::Foreign { .. }), "{error}");
    }
    Replica::open(dir.path(), &identity()).unwrap();
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("precious"), "x").unwrap();
    assert!(matches!(Replica::initialise(other.path(), &identity()), Err(OpenError::NotEmpty(_))));
    assert_eq!(fs::read_dir(other.path()).unwrap().count(), 1, "nothing was put there");
}

#[test]
fn an_interrupted_initialisation_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    drop(Replica::initialise(dir.path(), &identity()).unwrap());
    let mut block = Superblock::read(dir.path()).unwrap();
    block.ready = false;
    block.write(&Setup::default_disk(), dir.path()).unwrap();
    assert!(matches!(Replica::open(dir.path(), &identity()), Err(OpenError::Empty(_))));
    drop(Replica::initialise(dir.path(), &identity()).unwrap());
    Replica::open(dir.path(), &identity()).unwrap();
}

#[tokio::test]
async fn promises_and_epochs_only_rise_and_survive() {
    let dir = tempfile::tempdir().unwrap();
    let mut replica = Replica::initialise(dir.path(), &identity()).unwrap();
    replica.promise(3).unwrap();
    replica.promise(2).unwrap();
    drop(replica);
    let replica = Replica::open(dir.path(), &identity()).unwrap();
    assert_eq!(replica.describe().promise, 3);
    let error = replica.serve(2, ME, Arc::new(OpenGate)).err().unwrap();
    assert!(matches!(error, OpenError::Epoch { epoch: 2, last: 0, promise: 3 }), "{error}");
    let replica = Replica::open(dir.path(), &identity()).unwrap();
    let store = replica.serve(3, ME, Arc::new(OpenGate)).unwrap();
    assert_eq!(store.committed(), (3, 1));
    store.put_account(account(1)).await.unwrap().acknowledge().unwrap();
    let before = mailbox(&store, 1, "INBOX").await;
    assert_eq!(before.id >> 32, 3);
    store.begin_epoch(5, ME).await.unwrap();
    assert_eq!(store.begin_epoch(5, ME).await.err(), Some(WriteError::Refused(Refusal::Stale)));
    let receipt = store.deliver(delivery(vec![target(1)], "x")).await.unwrap();
    assert_eq!(receipt.position(), (5, 4));
    receipt.acknowledge().unwrap();
    assert!(mailbox(&store, 1, "INBOX").await.highest_modseq >> 32 == 5, "MODSEQ is at least epoch << 32");
    let other = store.clone();
    let replica = store.stop().await.unwrap();
    assert_eq!(other.put_account(account(2)).await.err(), Some(WriteError::NotServing));
    assert!(other.stop().await.is_none());
    assert_eq!((replica.describe().last_epoch, replica.describe().end), (5, (5, 4)));
    let store = replica.serve(6, ME, Arc::new(OpenGate)).unwrap();
    assert_eq!(store.epoch(), 6);
}

#[tokio::test]
async fn a_lost_old_or_broken_index_is_rebuilt_from_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup { segment_size: Some(64 << 10), ..Setup::default() };
    let store = setup.initialise(dir.path(), &identity()).unwrap().serve(1, ME, Arc::new(OpenGate)).unwrap();
    store.put_account(account(1)).await.unwrap().acknowledge().unwrap();
    let body = "x".repeat(5000);
    for _ in 0..30 {
        store.deliver(delivery(vec![target(1)], &body)).await.unwrap().acknowledge().unwrap();
    }
    let read = |v: &crate::View| {
        let inbox = v.mailbox_by_name(AccountId(1), "INBOX")?.unwrap();
        let messages = v.messages(inbox.id, 1, u32::MAX)?;
        let texts = messages.iter().map(|m| v.body(m.body)).collect::<Result<Vec<_>, _>>()?;
        Ok((inbox, messages, texts))
    };
    let expected = store.read(read).await.unwrap();
    drop(store.stop().await);
    assert!(fs::read_dir(dir.path().join("log")).unwrap().count() > 2, "several segments");
    let index = schema::path(dir.path());
    for damage in ["gone", "garbage", "another version"] {
        match damage {
            "gone" => schema::remove(dir.path()).unwrap(),
            "garbage" => fs::write(&index, vec![7; 10_000]).unwrap(),
            _ => rusqlite::Connection::open(&index).unwrap().execute_batch("PRAGMA user_version=99").unwrap(),
        }
        let replica = setup.open(dir.path(), &identity()).unwrap();
        assert_eq!(read(&replica.view()).unwrap(), expected, "{damage}");
        assert_eq!(replica.view().verify().unwrap(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn the_directory_keeps_records_and_tells_what_changed() {
    let dir = tempfile::tempdir().unwrap();
    let replica = Replica::initialise(dir.path(), &directory()).unwrap();
    let store = replica.serve(1, ME, Arc::new(OpenGate)).unwrap();
    let keys = Sealed(b"hidden".to_vec());
    let domain = Domain { name: "example.org".into(), generation: 1, tombstone: false, keys };
    assert!(!format!("{domain:?}").contains("hidden") && !format!("{domain:?}").contains("104"));
    store.put_domain(domain.clone()).await.unwrap().acknowledge().unwrap();
    let accounts = vec![account(1), account(2), account(1)];
    assert_eq!(store.put_accounts(accounts).await.unwrap().acknowledge().unwrap(), 2);
    let mut taken = account(3);
    taken.address = account(1).address;
    let exists = Some(WriteError::Refused(Refusal::AlreadyExists));
    assert_eq!(store.put_account(taken).await.err(), exists);
    let alias = |address: &str| Alias {
        address: address.into(),
        accounts: vec![AccountId(1), AccountId(2)],
        generation: 1,
        tombstone: false,
    };
    assert_eq!(store.put_alias(alias("user1@example.org")).await.err(), exists);
    store.put_alias(alias("info@example.org")).await.unwrap().acknowledge().unwrap();
    let (first, at) = store.read(|v| v.directory_changes(0, 2)).await.unwrap();
    assert_eq!((first.len(), first[1].0), (2, at));
    let (rest, end) = store.read(move |v| v.directory_changes(at, 10)).await.unwrap();
    assert_eq!(rest.len(), 2);
    assert!(matches!(&rest[1].1, DirectoryRecord::Alias(a) if a.accounts.len() == 2));
    assert_eq!(end, store.committed().1);
    assert_eq!(store.read(move |v| v.directory_changes(end, 10)).await.unwrap(), (vec![], end));
    let found = store.read(|v| v.accounts_by_address(Some("example.org"), "", 10)).await.unwrap();
    assert_eq!(found.len(), 2);
    let counts = store.read(|v| v.accounts_per_store()).await.unwrap();
    assert_eq!(counts, [(StoreName::from("mail-0"), 2)]);
    assert_eq!(store.read(|v| v.mailboxes(AccountId(1))).await.unwrap(), []);
    let refused = store.deliver(delivery(vec![target(1)], "x")).await.unwrap().acknowledge().unwrap();
    assert_eq!(refused, [Delivered::Refused(Refusal::NoSuchAccount(AccountId(1)))]);
    store.audit(7, "admin".into(), "account add".into()).await.unwrap().acknowledge().unwrap();
    let log = store.read(|v| v.audit_log(10)).await.unwrap();
    assert_eq!(log, [(7, "admin".to_owned(), "account add".to_owned())]);
    assert_eq!(store.read(|v| v.domain("example.org")).await.unwrap(), Some(domain));
}

fn queued(delivery: DeliveryId, at: i64, recipients: Vec<QueueRecipient>) -> Enqueue {
    Enqueue {
        delivery,
        sender: "s@x".into(),
        at,
        params: "SMTPUTF8".into(),
        recipients,
        body: "queued".into(),
    }
}

#[tokio::test]
async fn the_queue_takes_once_and_lets_go() {
    let setup = Setup::default();
    let dir = tempfile::tempdir().unwrap();
    let store = setup.initialise(dir.path(), &identity()).unwrap().serve(1, ME, Arc::new(OpenGate)).unwrap();
    let recipient = |n: u32, store: &str| QueueRecipient {
        account: Some(AccountId(n.into())),
        store: (!store.is_empty()).then(|| StoreName::from(store)),
        held: store.is_empty(),
        ..QueueRecipient::new(format!("u{n}@example.net"), i64::from(n) * 100)
    };
    let mut news = store.watch_queue();
    let id = super::support::delivery_id();
    let put = |recipients| store.queue_put(queued(id, 50, recipients));
    let all = vec![recipient(1, "mail-1"), recipient(2, "mail-2"), recipient(3, "")];
    put(all.clone()).await.unwrap().acknowledge().unwrap();
    news.changed().await.unwrap();
    put(all).await.unwrap().acknowledge().unwrap();
    let stats = store.read(|v| v.queue_stats()).await.unwrap();
    assert_eq!((stats.messages, stats.recipients, stats.held, stats.oldest), (1, 3, 1, 50));
    for (now, due, waits_for) in [
        (99, [0, 0], &[][..]),
        (100, [1, 0], &["mail-1"]),
        (200, [1, 1], &["mail-1", "mail-2"]),
        (900, [1, 1], &["mail-1", "mail-2"]),
    ] {
        let read = store.read(move |v| {
            let of = |name: &str| v.queue_due(now, &name.into(), 5).map(|items| items.len());
            Ok(([of("mail-1")?, of("mail-2")?], v.queue_stores(now)?, of("mail-9")?))
        });
        let (found, stores, nobody) = read.await.unwrap();
        assert_eq!((found, nobody), (due, 0), "at {now}");
        assert_eq!(stores.iter().map(StoreName::as_str).collect::<Vec<_>>(), waits_for, "at {now}");
        for (before, old) in [(50, 0), (51, usize::from(now >= 100))] {
            let found = store.read(move |v| v.queue_old(before, now, 5)).await.unwrap();
            assert_eq!(found.len(), old, "before {before} at {now}");
        }
    }
    let update = |n: u32, update| store.queue_update(id, format!("u{n}@example.net"), update);
    let later = QueueRecipient { attempts: 1, next_attempt: 999, ..recipient(2, "mail-2") };
    update(2, QueueUpdate::Retry(later.clone())).await.unwrap().acknowledge().unwrap();
    let done = || QueueUpdate::Done { outcome: "delivered".into() };
    update(1, done()).await.unwrap().acknowledge().unwrap();
    update(1, done()).await.unwrap().acknowledge().unwrap();
    let item = store.read(|v| v.queue(None, 10)).await.unwrap().remove(0);
    assert_eq!(item.recipients.iter().map(|r| r.attempts).collect::<Vec<_>>(), [1, 0]);
    assert_eq!(&store.read(move |v| v.body(item.body)).await.unwrap()[..], b"queued");
    update(2, done()).await.unwrap().acknowledge().unwrap();
    update(3, done()).await.unwrap().acknowledge().unwrap();
    assert_eq!(store.read(|v| v.queue_stats()).await.unwrap().messages, 0);
    put(vec![recipient(1, "mail-1")]).await.unwrap().acknowledge().unwrap();
    assert_eq!(store.read(|v| v.queue_stats()).await.unwrap().messages, 0, "it was here: passed over");
    let events = store.read(move |v| v.history(&HistoryKey::Recipient("u3@example.net".into()), 9)).await;
    let events: Vec<_> = events.unwrap().into_iter().map(|e| e.event).collect();
    assert_eq!(events, ["handed-on", "held"]);
    assert_eq!(store.read(|v| v.verify()).await.unwrap(), Vec::<String>::new());
    assert!(machine::boot_id().len() > 8);
}

#[tokio::test]
async fn what_is_due_for_other_sites_comes_in_its_order_and_once() {
    let setup = Setup::default();
    let dir = tempfile::tempdir().unwrap();
    let store = setup.initialise(dir.path(), &identity()).unwrap().serve(1, ME, Arc::new(OpenGate)).unwrap();
    let (one, two) = (DeliveryId(1), DeliveryId(2));
    let out = |address: &str, at| QueueRecipient::new(address.into(), at);
    let held = QueueRecipient { held: true, ..out("held@x", 1) };
    let ours = QueueRecipient { store: Some("mail-1".into()), ..out("ours@x", 1) };
    for (id, recipients) in
        [(one, vec![out("b@x", 20), out("a@x", 10), held, ours]), (two, vec![out("c@y", 10), out("d@y", 30)])]
    {
        store.queue_put(queued(id, 5, recipients)).await.unwrap().acknowledge().unwrap();
    }
    let due = |after: OutDue, now, max| {
        let store = store.clone();
        async move { store.read(move |v| v.queue_out(&after, now, max)).await.unwrap() }
    };
    let names = |found: &[OutDue]| found.iter().map(|d| d.address.clone()).collect::<Vec<_>>();
    assert_eq!(names(&due(OutDue::start(), 9, 9).await), [""; 0]);
    assert_eq!(names(&due(OutDue::start(), 20, 9).await), ["a@x", "c@y", "b@x"]);
    let first = due(OutDue::start(), 30, 2).await;
    assert_eq!(names(&first), ["a@x", "c@y"]);
    assert_eq!(names(&due(first[1].clone(), 30, 9).await), ["b@x", "d@y"]);
    assert_eq!(names(&due(first[0].clone(), 30, 9).await), ["c@y", "b@x", "d@y"]);
    // Who is put off comes again, behind those that have been seen.
    let later = QueueRecipient { attempts: 1, noticed: true, ..out("a@x", 25) };
    let put_off = store.queue_update(one, "a@x".into(), QueueUpdate::Retry(later.clone())).await;
    put_off.unwrap().acknowledge().unwrap();
    assert_eq!(names(&due(first[1].clone(), 30, 9).await), ["b@x", "a@x", "d@y"]);
    let item = store.read(move |v| v.queued(one)).await.unwrap().unwrap();
    assert_eq!((item.params.as_str(), &item.recipients[0]), ("SMTPUTF8", &later));
    assert!(store.read(|v| v.queued(DeliveryId(3))).await.unwrap().is_none());
}
