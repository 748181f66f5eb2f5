//! Expunged mail comes back, once, as long as it is kept; and nobody counts it meanwhile.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use mailcluster_types::{AccountId, ReplicaId};

use super::{
    rewrite::{content, eager, octets, text},
    rows::rows,
    support::{account, deliver, identity, mailbox, sound},
};
use crate::{
    CopyKind, CreateMailbox, Expunge, FlagChange, FlagOp, Flags, OpenGate, Purge, Purged, Recoverable,
    RecoverableFilter, Refusal, Store, SystemFlag, Undelete, Undeleted, WriteError, keep_retention, schema,
    space, testing::Setup,
};

const ME: &[ReplicaId] = &[ReplicaId(9)];
const HOUR: Duration = Duration::from_secs(3600);

fn kept() -> Setup {
    Setup { undelete: HOUR, ..eager() }
}

async fn begin(setup: &Setup, dir: &Path) -> Store {
    let replica = setup.initialise(dir, &identity()).unwrap();
    let store = replica.serve(1, ME, Arc::new(OpenGate)).unwrap();
    for n in 1..=2 {
        store.put_account(account(n)).await.unwrap().acknowledge().unwrap();
    }
    store
}

async fn found(store: &Store, n: u128, filter: RecoverableFilter) -> Vec<Recoverable> {
    store.read(move |v| v.recoverable(AccountId(n), &filter, 1000)).await.unwrap()
}

async fn all(store: &Store, n: u128) -> Vec<Recoverable> {
    found(store, n, RecoverableFilter::default()).await
}

async fn undelete(store: &Store, n: u128, gone: &[Recoverable], into: Option<&str>) -> Undeleted {
    let messages = gone.iter().map(|gone| (gone.mailbox, gone.uid)).collect();
    let asked = Undelete { account: AccountId(n), messages, into: into.map(str::to_owned) };
    store.undelete(asked).await.unwrap().acknowledge().unwrap()
}

async fn expunge(store: &Store, mailbox: u64, uids: &[u32]) {
    store.expunge(mailbox, Expunge::These(uids.to_vec())).await.unwrap().acknowledge().unwrap();
}

async fn create(store: &Store, n: u128, name: &str) -> u64 {
    let create = CreateMailbox { account: AccountId(n), name: name.into(), special_use: None };
    store.create_mailbox(create).await.unwrap().acknowledge().unwrap()
}

/// UIDs with their texts.
async fn texts(store: &Store, n: u128, name: &str) -> Vec<(u32, String)> {
    let id = mailbox(store, n, name).await.id;
    let read = move |v: &crate::View| {
        let text = |body| v.body(body).map(|text| String::from_utf8(text.to_vec()).unwrap());
        v.messages(id, 1, u32::MAX)?.into_iter().map(|m| Ok((m.uid, text(m.body)?))).collect()
    };
    store.read(read).await.unwrap()
}

fn body(n: u32) -> String {
    format!("Delivered-To: user1@example.org\r\n{n}\r\n")
}

/// The index is what the log says, too.
async fn rebuilt_is_the_same(setup: &Setup, dir: &Path, store: Store) {
    sound(&store).await;
    drop(store.stop().await);
    let grown = rows(dir, &[]);
    schema::remove(dir).unwrap();
    drop(setup.open(dir, &identity()).unwrap());
    assert_eq!(rows(dir, &[]), grown);
}

#[tokio::test]
async fn what_was_expunged_comes_back_once_under_new_uids_and_is_not_counted_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let store = begin(&kept(), dir.path()).await;
    for n in 1..=4 {
        deliver(&store, 1, &format!("{n}\r\n")).await;
    }
    let inbox = mailbox(&store, 1, "INBOX").await.id;
    let flags = Flags {
        system: SystemFlag::Deleted as u8 | SystemFlag::Seen as u8,
        keywords: ["Work".into()].into(),
    };
    let change =
        FlagChange { mailbox: inbox, uids: vec![2, 3], op: FlagOp::Add, flags, unchanged_since: None };
    store.set_flags(change).await.unwrap().acknowledge().unwrap();
    let before = store.read(|v| v.usage()).await.unwrap();
    let gone = store.expunge(inbox, Expunge::AllDeleted).await.unwrap().acknowledge().unwrap();
    assert_eq!(gone, [2, 3]);
    let after = store.read(|v| v.usage()).await.unwrap();
    let size = body(2).len() as u64 * 2;
    assert_eq!((after.octets, after.recoverable, after.recoverable_octets), (before.octets - size, 2, size));
    let used = store.read(|v| v.account_record(AccountId(1))).await.unwrap().unwrap().used_octets;
    assert_eq!(used, after.octets);
    sound(&store).await;

    let listed = all(&store, 1).await;
    let told: Vec<_> = listed.iter().map(|gone| (gone.name.as_str(), gone.uid, gone.is_there)).collect();
    assert_eq!(told, [("INBOX", 2, true), ("INBOX", 3, true)]);
    assert!(listed[0].expunged_at > 1_700_000_000 && listed[0].internal_date == 1_700_000_000);
    assert!(all(&store, 2).await.is_empty());
    let first = listed[0].clone();
    let start = store.read(move |v| v.beginning(first.body, 40)).await.unwrap();
    assert_eq!(start, body(2).as_bytes()[..40.min(body(2).len())]);

    // Another account's messages are not there for it.
    assert_eq!(undelete(&store, 2, &listed, None).await, Undeleted::default());
    let back = undelete(&store, 1, &listed, None).await;
    assert_eq!((back.messages, back.mailboxes), (vec![(inbox, 2), (inbox, 3)], 0));
    assert_eq!(undelete(&store, 1, &listed, None).await, Undeleted::default(), "a second time");
    let now = [(1, body(1)), (4, body(4)), (5, body(2)), (6, body(3))];
    assert_eq!(texts(&store, 1, "INBOX").await, now);
    let message = store.read(move |v| v.messages(inbox, 5, 5)).await.unwrap().pop().unwrap();
    let flags = Flags { system: SystemFlag::Seen as u8, keywords: ["Work".into()].into() };
    assert_eq!(message.flags, flags, "as it was, but not \\Deleted");
    let after = store.read(|v| v.usage()).await.unwrap();
    assert_eq!((after.octets, after.recoverable, after.recoverable_octets), (before.octets, 0, 0));
    assert_eq!(store.stats().expunged().undeleted, 2);
    rebuilt_is_the_same(&kept(), dir.path(), store).await;
}

#[tokio::test]
async fn a_mailbox_that_is_gone_is_made_again_under_its_last_name_or_another_takes_its_mail() {
    let dir = tempfile::tempdir().unwrap();
    let store = begin(&kept(), dir.path()).await;
    let inbox = mailbox(&store, 1, "INBOX").await.id;
    deliver(&store, 1, "1\r\n").await;
    deliver(&store, 1, "2\r\n").await;
    let old = create(&store, 1, "a/old").await;
    store.copy(inbox, vec![1, 2], old, CopyKind::Copy).await.unwrap().acknowledge().unwrap();
    expunge(&store, old, &[1]).await;
    store.rename_mailbox(old, "b/new".into()).await.unwrap().acknowledge().unwrap();
    assert_eq!(all(&store, 1).await[0].name, "b/new", "as it is called now");
    store.delete_mailbox(old).await.unwrap().acknowledge().unwrap();
    store.delete_mailbox(mailbox(&store, 1, "b").await.id).await.unwrap().acknowledge().unwrap();
    let listed = all(&store, 1).await;
    let told: Vec<_> = listed.iter().map(|gone| (gone.name.as_str(), gone.uid, gone.is_there)).collect();
    assert_eq!(told, [("b/new", 1, false), ("b/new", 2, false)]);
    sound(&store).await;

    for (filter, count) in [
        (RecoverableFilter { mailbox: Some("b/new".into()), ..RecoverableFilter::default() }, 2),
        (RecoverableFilter { mailbox: Some("a/old".into()), ..RecoverableFilter::default() }, 0),
        (RecoverableFilter { since: i64::MAX, ..RecoverableFilter::default() }, 0),
        (RecoverableFilter { since: listed[1].expunged_at, after: (old, 1), mailbox: None }, 1),
        (RecoverableFilter { after: (old, 2), ..RecoverableFilter::default() }, 0),
    ] {
        assert_eq!(found(&store, 1, filter.clone()).await.len(), count, "{filter:?}");
    }
    let back = undelete(&store, 1, &listed[..1], None).await;
    assert_eq!((back.messages.len(), back.mailboxes), (1, 2), "b and b/new");
    // The other one comes into the mailbox that has the name now.
    assert_eq!(undelete(&store, 1, &listed, None).await.mailboxes, 0);
    assert_eq!(texts(&store, 1, "b/new").await, [(1, body(1)), (2, body(2))]);

    expunge(&store, inbox, &[1]).await;
    let gone = all(&store, 1).await;
    assert_eq!(undelete(&store, 1, &gone, Some("inbox/Back")).await.mailboxes, 1);
    assert_eq!(texts(&store, 1, "INBOX/Back").await, [(1, body(1))]);
    let bad = Undelete { account: AccountId(1), messages: vec![(inbox, 1)], into: Some("a//b".into()) };
    assert_eq!(undelete(&store, 1, &all(&store, 1).await, Some("a//b")).await, Undeleted::default());
    expunge(&store, inbox, &[2]).await;
    let refused = store.undelete(Undelete { messages: vec![(inbox, 2)], ..bad }).await.err();
    assert!(matches!(refused, Some(WriteError::Refused(Refusal::BadName(_)))), "{refused:?}");
    let many = Undelete { account: AccountId(1), messages: vec![(inbox, 2); 1001], into: None };
    assert!(matches!(store.undelete(many).await.err(), Some(WriteError::Refused(Refusal::NotAllowed(_)))));
    rebuilt_is_the_same(&kept(), dir.path(), store).await;
}

#[tokio::test]
async fn nothing_is_kept_of_what_moves_nor_without_retention_nor_of_an_account_that_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let store = begin(&eager(), dir.path()).await;
    for n in 1..=3 {
        deliver(&store, 1, &format!("{n}\r\n")).await;
    }
    let inbox = mailbox(&store, 1, "INBOX").await.id;
    expunge(&store, inbox, &[1]).await;
    assert!(all(&store, 1).await.is_empty());
    drop(store.stop().await);

    let replica = kept().open(dir.path(), &identity()).unwrap();
    let store = replica.serve(2, ME, Arc::new(OpenGate)).unwrap();
    assert!(all(&store, 1).await.is_empty(), "it went before");
    let trash = mailbox(&store, 1, "Trash").await.id;
    store.copy(inbox, vec![2], trash, CopyKind::Move).await.unwrap().acknowledge().unwrap();
    assert!(all(&store, 1).await.is_empty());
    expunge(&store, inbox, &[3]).await;
    assert_eq!(all(&store, 1).await.len(), 1);
    let tombstone = crate::Account { generation: 2, tombstone: true, ..account(1) };
    store.put_account(tombstone).await.unwrap().acknowledge().unwrap();
    let usage = store.read(|v| v.usage()).await.unwrap();
    assert_eq!((usage.recoverable, usage.recoverable_octets), (0, 0));
    let bodies: u64 = schema::open_reader(dir.path())
        .unwrap()
        .query_row("SELECT count(*) FROM body", [], |r| r.get(0))
        .unwrap();
    assert_eq!(bodies, 0);
    rebuilt_is_the_same(&kept(), dir.path(), store).await;
}

#[tokio::test]
async fn a_purge_takes_the_oldest_and_no_more_than_it_is_asked_for_and_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let store = begin(&kept(), dir.path()).await;
    deliver(&store, 1, "1\r\n").await;
    let inbox = mailbox(&store, 1, "INBOX").await.id;
    let size = body(1).len() as u64;
    let copies = async |uids: Vec<u32>| {
        store.copy(inbox, uids, inbox, CopyKind::Copy).await.unwrap().acknowledge().unwrap();
    };
    for n in 0..10 {
        copies((1..=1 << n).collect()).await;
    }
    expunge(&store, inbox, &(1..=600).collect::<Vec<_>>()).await;
    let purge = async |until, early_octets| {
        store.purge(Purge { until, early_octets }).await.unwrap().acknowledge().unwrap()
    };
    assert_eq!(purge(0, 0).await, Purged::default(), "none is so old");
    let early = purge(0, size + 1).await;
    let expected = Purged { messages: 2, early: 2, early_octets: 2 * size, has_more: false };
    assert_eq!(early, expected, "the message with the last octet goes, too");
    let left: Vec<u32> = all(&store, 1).await.iter().map(|gone| gone.uid).take(2).collect();
    assert_eq!(left, [3, 4], "the first ones went");
    let first = purge(i64::MAX, 0).await;
    assert_eq!((first.messages, first.early, first.has_more), (500, 0, true));
    let rest = purge(i64::MAX, 0).await;
    assert_eq!((rest.messages, rest.has_more), (98, false));
    assert_eq!(purge(i64::MAX, u64::MAX).await, Purged::default());
    let expunged = store.stats().expunged();
    assert_eq!((expunged.purged, expunged.purged_early), (598, 2));
    rebuilt_is_the_same(&kept(), dir.path(), store).await;
}

#[tokio::test]
async fn room_is_given_back_of_what_is_purged_and_of_nothing_that_can_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = begin(&kept(), dir.path()).await;
    for n in 0..120 {
        deliver(&store, 1, &text(n, 1500)).await;
    }
    let inbox = mailbox(&store, 1, "INBOX").await.id;
    expunge(&store, inbox, &(1..=119).collect::<Vec<_>>()).await;
    let before = octets(dir.path());
    let listed = all(&store, 1).await;
    assert_eq!(store.reclaim().await.unwrap().files, 0, "all of it may come back");
    // Some comes back, the rest goes.
    let some: Vec<Recoverable> = listed.iter().filter(|gone| gone.uid % 10 == 0).cloned().collect();
    assert_eq!(undelete(&store, 1, &some, None).await.messages.len(), 11);
    store.purge(Purge { until: i64::MAX, early_octets: 0 }).await.unwrap().acknowledge().unwrap();
    let done = store.reclaim().await.unwrap();
    assert!(done.files > 5 && done.packed > 0 && octets(dir.path()) < before / 2, "{done:?}");
    // What can come back goes into packs with the rest.
    let uids: Vec<u32> = texts(&store, 1, "INBOX").await.iter().map(|(uid, _)| *uid).collect();
    expunge(&store, inbox, &uids[1..]).await;
    for n in 0..60 {
        deliver(&store, 2, &text(n, 1500)).await;
    }
    let other = mailbox(&store, 2, "INBOX").await.id;
    expunge(&store, other, &(1..=60).collect::<Vec<_>>()).await;
    let theirs = all(&store, 2).await;
    assert_eq!(undelete(&store, 2, &theirs[..1], None).await.messages.len(), 1);
    store.purge(Purge { until: 0, early_octets: 1 }).await.unwrap().acknowledge().unwrap();
    store.reclaim().await.unwrap();
    let gone = all(&store, 1).await;
    assert_eq!(gone.len(), 10);
    drop(store.stop().await);
    let grown = content(dir.path());
    schema::remove(dir.path()).unwrap();
    let replica = kept().open(dir.path(), &identity()).unwrap();
    assert!(content(dir.path()) == grown, "an index made anew, from a base and packs");
    let store = replica.serve(2, ME, Arc::new(OpenGate)).unwrap();
    let gone_now = all(&store, 1).await;
    undelete(&store, 1, &gone_now, Some("back")).await;
    for (_, text) in texts(&store, 1, "back").await {
        assert!(text.contains("Subject: ") && text.len() > 1000);
    }
    sound(&store).await;
}

/// Waits until so many messages are kept.
async fn until_kept(store: &Store, messages: u64) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let usage = store.read(|v| v.usage()).await.unwrap();
        if usage.recoverable == messages {
            return;
        }
        assert!(Instant::now() < deadline, "{} are kept", usage.recoverable);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn the_retention_is_kept_by_itself_and_a_shorter_one_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let free = Arc::new(AtomicU64::new(50 << 30));
    let setup = Setup { free: Some(free.clone()), ..kept() };
    let store = begin(&setup, dir.path()).await;
    for n in 0..40 {
        deliver(&store, 1, &text(n, 100_000)).await;
    }
    let inbox = mailbox(&store, 1, "INBOX").await.id;
    expunge(&store, inbox, &(1..=40).collect::<Vec<_>>()).await;
    // The volume is short of what ten messages have: that much goes, and no more as long as it is not given back.
    let ten = all(&store, 1).await.iter().take(10).map(|gone| u64::from(gone.size)).sum::<u64>();
    free.store(2 * space::reserve(100 << 30) - ten, Ordering::Relaxed);
    let deadline = Instant::now() + Duration::from_secs(60);
    while store.room().0 > 40 << 30 {
        assert!(Instant::now() < deadline, "the volume was not asked again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let keeping = tokio::spawn(keep_retention(store.clone()));
    let deadline = Instant::now() + Duration::from_secs(60);
    while store.stats().expunged().purged_early == 0 {
        assert!(Instant::now() < deadline, "nothing went early");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (expunged, left) = (store.stats().expunged(), all(&store, 1).await);
    assert!((9..=12).contains(&expunged.purged_early) && expunged.purged == 0, "{expunged:?}");
    assert!(left[0].uid > 9, "the oldest went: {}", left[0].uid);
    keeping.abort();
    drop(store.stop().await);

    // Without retention what was kept goes, as soon as the store serves, in as many steps as that takes.
    let setup = Setup { free: None, ..setup };
    let replica = setup.open(dir.path(), &identity()).unwrap();
    let store = replica.serve(2, ME, Arc::new(OpenGate)).unwrap();
    deliver(&store, 1, "x\r\n").await;
    for n in 0..10 {
        let from = 41..=40 + (1 << n);
        store.copy(inbox, from.collect(), inbox, CopyKind::Copy).await.unwrap().acknowledge().unwrap();
    }
    expunge(&store, inbox, &(41..=1064).collect::<Vec<_>>()).await;
    drop(store.stop().await);
    let setup = Setup { undelete: Duration::ZERO, ..setup };
    let replica = setup.open(dir.path(), &identity()).unwrap();
    let store = replica.serve(3, ME, Arc::new(OpenGate)).unwrap();
    let keeping = tokio::spawn(keep_retention(store.clone()));
    until_kept(&store, 0).await;
    keeping.abort();
    rebuilt_is_the_same(&setup, dir.path(), store).await;
}
