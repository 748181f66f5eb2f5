//! Scripts, and what they want done with mail.

mod common;

use bytes::Bytes;
use common::{account, delivery, mailbox, reopen, sound, store, target};
use mailcluster_store::{
    Account, Delivered, Delivery, DeliveryTarget, Enqueue, Filing, Flags, HasScript, HistoryKey, InMailbox,
    QueueRecipient, Refusal, ScriptChange, ScriptMail, SeenId, Store, SystemFlag, WriteError,
};
use mailcluster_types::{AccountId, DeliveryId};

const NOW: i64 = 1_700_000_000;
const ANN: AccountId = AccountId(1);

fn into(name: &str, create: bool) -> InMailbox {
    let flags = Flags { keywords: ["Work".to_owned()].into(), ..Flags::default() }.with(SystemFlag::Seen);
    InMailbox { mailbox: name.into(), create, flags }
}

fn mail(n: u128, unless: Option<SeenId>) -> ScriptMail {
    let message = Enqueue {
        delivery: DeliveryId(1 << 100 | n),
        sender: String::new(),
        at: NOW,
        params: String::new(),
        recipients: vec![QueueRecipient::new("joe@elsewhere.example".into(), NOW)],
        body: Bytes::from(format!("mail {n}")),
    };
    ScriptMail { message, unless }
}

fn seen(n: u8) -> SeenId {
    SeenId { id: [n; 16], until: i64::MAX }
}

fn filed(filing: Filing) -> DeliveryTarget {
    DeliveryTarget { filing: Some(Box::new(filing)), ..target(1) }
}

async fn deliver(store: &Store, delivery: &Delivery) -> Vec<Delivered> {
    store.deliver(delivery.clone()).await.unwrap().acknowledge().unwrap()
}

async fn queued(store: &Store) -> usize {
    store.read(|v| Ok(v.queue(None, 100)?.len())).await.unwrap()
}

async fn change(store: &Store, change: ScriptChange) -> Result<(), Refusal> {
    match store.change_scripts(ANN, change).await {
        Ok(receipt) => {
            receipt.acknowledge().unwrap();
            Ok(())
        }
        Err(WriteError::Refused(refusal)) => Err(refusal),
        Err(other) => panic!("{other}"),
    }
}

fn put(name: &str, text: &str) -> ScriptChange {
    ScriptChange::Put { name: name.into(), text: Bytes::from(text.to_owned()) }
}

async fn listed(store: &Store) -> Vec<(String, bool)> {
    let all = store.read(|v| v.scripts(ANN)).await.unwrap();
    all.into_iter().map(|script| (script.name, script.active)).collect()
}

#[tokio::test]
async fn one_body_goes_into_several_mailboxes_and_some_are_made() {
    let (dir, store) = store(2).await;
    let wanted = Filing {
        into: vec![
            into("INBOX", false),
            into("a/b", true),
            into("a/c", true),
            into("nowhere", false),
            into("a//", true),
        ],
        detail: "as it should".into(),
        ..Filing::default()
    };
    let message = delivery(vec![filed(wanted), target(2)], "Subject: x\r\n\r\nhello\r\n");
    let done = deliver(&store, &message).await;
    assert!(done.iter().all(|one| matches!(one, Delivered::Stored { uid: 1, .. })), "{done:?}");
    assert_eq!(deliver(&store, &message).await, [Delivered::Duplicate, Delivered::Duplicate]);
    let check = async |store: &Store| {
        let mut bodies = Vec::new();
        for (name, count) in [("INBOX", 1), ("a", 0), ("a/b", 1), ("a/c", 1)] {
            let found = mailbox(store, 1, name).await;
            assert_eq!(found.counts.messages, count, "{name}");
            assert_eq!(found.counts.unseen, 0, "{name}");
            let messages = store.read(move |v| v.messages(found.id, 1, u32::MAX)).await.unwrap();
            for message in messages {
                assert!(
                    message.flags.has(SystemFlag::Seen) && message.flags.keywords.contains("Work"),
                    "{name}"
                );
                bodies.push(message.body);
            }
        }
        assert!(bodies.len() == 3 && bodies.windows(2).all(|two| two[0] == two[1]), "one body: {bodies:?}");
        sound(store).await;
    };
    check(&store).await;
    // A base of the index, and an index from the log alone, say the same.
    let store = reopen(&dir, store).await;
    check(&store).await;
    let epoch = store.epoch() + 1;
    drop(store.stop().await);
    for suffix in ["", "-wal", "-shm"] {
        let _may_be_missing = std::fs::remove_file(dir.path().join(format!("index.sqlite{suffix}")));
    }
    let replica = mailcluster_store::Replica::open(dir.path(), &common::identity()).unwrap();
    let gate = std::sync::Arc::new(mailcluster_store::OpenGate);
    let store = replica.serve(epoch, &[mailcluster_types::ReplicaId(9)], gate).unwrap();
    check(&store).await;
    let lines = store.read(move |v| v.history(&HistoryKey::Delivery(message.id), 10)).await.unwrap();
    assert!(lines.iter().any(|line| line.detail.contains("as it should")), "{lines:?}");
}

#[tokio::test]
async fn the_last_of_the_copies_frees_the_body() {
    let (_dir, store) = store(1).await;
    let wanted = Filing { into: vec![into("INBOX", false), into("b", true)], ..Filing::default() };
    deliver(&store, &delivery(vec![filed(wanted)], "hello\r\n")).await;
    let (inbox, other) = (mailbox(&store, 1, "INBOX").await, mailbox(&store, 1, "b").await);
    store.delete_mailbox(other.id).await.unwrap().acknowledge().unwrap();
    let body = store.read(move |v| Ok(v.messages(inbox.id, 1, 1)?[0].body)).await.unwrap();
    assert!(store.read(move |v| v.body(body)).await.unwrap().ends_with(b"hello\r\n"));
    store.expunge(inbox.id, mailcluster_store::Expunge::These(vec![1])).await.unwrap().acknowledge().unwrap();
    assert!(store.read(move |v| v.body(body)).await.is_err());
    sound(&store).await;
}

#[tokio::test]
async fn what_is_sent_or_thrown_away_is_so_once_and_survives() {
    let (dir, store) = store(1).await;
    let wanted = Filing {
        sends: vec![mail(1, None), mail(2, Some(seen(7)))],
        seen: vec![seen(8)],
        ..Filing::default()
    };
    let message = delivery(vec![filed(wanted)], "hello\r\n");
    assert_eq!(deliver(&store, &message).await, [Delivered::Filtered]);
    assert_eq!((queued(&store).await, mailbox(&store, 1, "INBOX").await.counts.messages), (2, 0));
    let store = reopen(&dir, store).await;
    assert_eq!(deliver(&store, &message).await, [Delivered::Duplicate], "nothing is done twice");
    assert_eq!((queued(&store).await, mailbox(&store, 1, "INBOX").await.counts.messages), (2, 0));
    let known = async |n: u8| store.read(move |v| v.is_seen(ANN, &[n; 16], NOW)).await.unwrap();
    assert_eq!((known(7).await, known(8).await, known(9).await), (true, true, false));
    // Another message: its answer was given, and its script has to look again.
    let answered =
        Filing { into: vec![into("INBOX", false)], sends: vec![mail(3, Some(seen(7)))], ..Filing::default() };
    assert!(matches!(
        deliver(&store, &delivery(vec![filed(answered)], "x")).await[..],
        [Delivered::Stored { uid: 1, .. }]
    ));
    assert_eq!(queued(&store).await, 2);
    let late = Filing { seen: vec![seen(8)], sends: vec![mail(4, None)], ..Filing::default() };
    let refused = store.deliver(delivery(vec![filed(late)], "y")).await.err();
    assert_eq!(refused, Some(WriteError::Refused(Refusal::Stale)));
    assert_eq!(queued(&store).await, 2, "nothing of it is done");
    sound(&store).await;
}

#[tokio::test]
async fn what_cannot_be_done_for_one_account_is_not_done_at_all() {
    let (_dir, store) = store(1).await;
    let small = Account { generation: 2, quota_octets: 60, ..account(1) };
    store.put_account(small).await.unwrap().acknowledge().unwrap();
    let wanted = Filing {
        into: vec![into("INBOX", false), into("b", true)],
        sends: vec![mail(1, None)],
        ..Filing::default()
    };
    let done = deliver(&store, &delivery(vec![filed(wanted)], "1234567890\r\n")).await;
    assert_eq!(done, [Delivered::Refused(Refusal::OverQuota)], "two copies count twice");
    assert_eq!(queued(&store).await, 0);
    assert!(store.read(|v| v.mailbox_by_name(ANN, "b")).await.unwrap().is_none());
    let gone = Account { generation: 3, tombstone: true, ..account(1) };
    change(&store, put("main", "keep;")).await.unwrap();
    store.put_account(gone).await.unwrap().acknowledge().unwrap();
    assert!(listed(&store).await.is_empty(), "scripts go with the account");
}

#[tokio::test]
async fn scripts_are_put_activated_renamed_and_deleted() {
    let (dir, store) = store(1).await;
    let name = str::to_owned;
    let activate = |n: &str| ScriptChange::Activate(Some(n.to_owned()));
    for (step, expected) in [
        (put("a", "keep;"), Ok(())),
        (put("b", "discard;"), Ok(())),
        (activate("c"), Err(Refusal::NoSuchScript)),
        (activate("a"), Ok(())),
        (ScriptChange::Delete(name("a")), Err(Refusal::ScriptIsActive)),
        (ScriptChange::Rename { from: name("a"), to: name("b") }, Err(Refusal::AlreadyExists)),
        (ScriptChange::Rename { from: name("x"), to: name("y") }, Err(Refusal::NoSuchScript)),
        (ScriptChange::Rename { from: name("a"), to: name("c") }, Ok(())),
        (put("c", "stop;"), Ok(())),
        (activate("b"), Ok(())),
        (activate("b"), Ok(())),
        (ScriptChange::Delete(name("c")), Ok(())),
        (ScriptChange::Delete(name("c")), Err(Refusal::NoSuchScript)),
        (put("c", "stop;"), Ok(())),
        (put("", "x"), Err(Refusal::BadName("a script's name has 1 to 512 octets"))),
        (put("a\nb", "x"), Err(Refusal::BadName("a script's name has no control characters"))),
        (
            put("big", &" ".repeat(mailcluster_store::MAX_SCRIPT + 1)),
            Err(Refusal::TooLarge { limit: 128 << 10 }),
        ),
    ] {
        assert_eq!(change(&store, step.clone()).await, expected, "{step:?}");
    }
    let expected = [(name("b"), true), (name("c"), false)];
    assert_eq!(listed(&store).await, expected);
    let store = reopen(&dir, store).await;
    assert_eq!(listed(&store).await, expected);
    assert_eq!(store.check_recipient(ANN, 1).await.unwrap(), Ok(HasScript::Yes));
    let active = store.read(|v| v.active_script(ANN)).await.unwrap();
    assert_eq!(active, Some((name("b"), Bytes::from_static(b"discard;"))));
    change(&store, ScriptChange::Activate(None)).await.unwrap();
    assert_eq!(store.check_recipient(ANN, 1).await.unwrap(), Ok(HasScript::No));
    for n in 2..mailcluster_store::MAX_SCRIPTS {
        change(&store, put(&format!("s{n}"), "keep;")).await.unwrap();
    }
    let limit = mailcluster_store::MAX_SCRIPTS;
    assert_eq!(change(&store, put("one more", "keep;")).await, Err(Refusal::TooManyScripts { limit }));
    change(&store, put("c", "keep;")).await.unwrap();
    sound(&store).await;
}
