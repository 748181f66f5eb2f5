//! Whatever is done, in whatever order, with crashes in between: the counters are exact, and an index made anew from
//! the log is the same as the one that grew with it. And the tables that must not grow do not.

use std::{fs, sync::Arc, time::Duration};

use super::{
    rows::rows,
    support::{account, delivery, identity, mailbox, target},
};
use crate::{
    CopyKind, CreateMailbox, Delivered, Delivery, Enqueue, Expunge, FlagChange, FlagOp, Flags, OpenGate,
    Purge, QueueRecipient, QueueUpdate, RecoverableFilter, Replica, Store, Undelete, schema, testing::Setup,
};
use mailcluster_types::{AccountId, ReplicaId};
use proptest::prelude::*;

const ME: &[ReplicaId] = &[ReplicaId(9)];
const NAMES: [&str; 5] = ["INBOX", "Trash", "a", "a/b", "Ä/../x"];

#[derive(Debug, Clone)]
pub enum Step {
    Deliver(Vec<u128>, usize),
    Again,
    Flags { who: u128, name: usize, uids: Vec<u32>, op: usize, system: u8 },
    Expunge { who: u128, name: usize, uids: Vec<u32>, kind: usize },
    Copy { who: u128, from: usize, to: usize, uids: Vec<u32>, moving: bool },
    Create(u128, usize),
    Delete(u128, usize),
    Rename(u128, usize, usize),
    Account(u128, u64, bool),
    Queue(usize),
    Dequeue,
    Undelete { who: u128, name: usize, into: Option<usize> },
    Purge(u64),
    Reopen,
}

pub fn step() -> impl Strategy<Value = Step> {
    let who = || 1..4u128;
    let name = || 0..NAMES.len();
    let uids = || proptest::collection::vec(1..12u32, 1..6);
    prop_oneof![
        6 => (proptest::collection::vec(who(), 1..4), 0..3000usize).prop_map(|(t, n)| Step::Deliver(t, n)),
        1 => Just(Step::Again),
        3 => (who(), name(), uids(), 0..3usize, 0..32u8)
            .prop_map(|(who, name, uids, op, system)| Step::Flags { who, name, uids, op, system }),
        2 => (who(), name(), uids(), 0..3usize)
            .prop_map(|(who, name, uids, kind)| Step::Expunge { who, name, uids, kind }),
        3 => (who(), name(), name(), uids(), any::<bool>())
            .prop_map(|(who, from, to, uids, moving)| Step::Copy { who, from, to, uids, moving }),
        2 => (who(), name()).prop_map(|(who, name)| Step::Create(who, name)),
        1 => (who(), name()).prop_map(|(who, name)| Step::Delete(who, name)),
        1 => (who(), name(), name()).prop_map(|(who, from, to)| Step::Rename(who, from, to)),
        1 => (who(), 2..5u64, any::<bool>()).prop_map(|(who, g, t)| Step::Account(who, g, t)),
        1 => (0..3000usize).prop_map(Step::Queue),
        1 => Just(Step::Dequeue),
        2 => (who(), name(), proptest::option::of(name()))
            .prop_map(|(who, name, into)| Step::Undelete { who, name, into }),
        1 => (0..3000u64).prop_map(Step::Purge),
        1 => Just(Step::Reopen),
    ]
}

async fn find(store: &Store, who: u128, name: usize) -> Option<u64> {
    store.read(move |v| v.mailbox_by_name(AccountId(who), NAMES[name])).await.unwrap().map(|m| m.id)
}

/// Does one step; refusals are answers like others.
pub async fn act(store: &Store, step: Step, last: &mut Option<crate::Delivery>) {
    match step {
        Step::Deliver(to, size) => {
            let new = delivery(to.into_iter().map(target).collect(), &"x".repeat(size));
            *last = Some(new.clone());
            let _ = store.deliver(new).await.unwrap().acknowledge().unwrap();
        }
        Step::Again => {
            if let Some(again) = last.clone() {
                let answer = store.deliver(again).await.unwrap().acknowledge().unwrap();
                assert!(!answer.iter().any(|d| matches!(d, Delivered::Stored { uid: 0, .. })));
            }
        }
        Step::Flags { who, name, uids, op, system } => {
            let Some(mailbox) = find(store, who, name).await else { return };
            let op = [FlagOp::Replace, FlagOp::Add, FlagOp::Remove][op];
            let flags = Flags { system, keywords: [format!("k{}", system % 3)].into() };
            let change = FlagChange { mailbox, uids, op, flags, unchanged_since: None };
            let _ = store.set_flags(change).await.map(|r| r.acknowledge());
        }
        Step::Expunge { who, name, uids, kind } => {
            let Some(mailbox) = find(store, who, name).await else { return };
            let which = [Expunge::AllDeleted, Expunge::Deleted(uids.clone()), Expunge::These(uids)];
            let _ = store.expunge(mailbox, which[kind].clone()).await.unwrap().acknowledge();
        }
        Step::Copy { who, from, to, uids, moving } => {
            let (Some(from), Some(to)) = (find(store, who, from).await, find(store, who, to).await) else {
                return;
            };
            let kind = if moving { CopyKind::Move } else { CopyKind::Copy };
            let _ = store.copy(from, uids, to, kind).await.map(|r| r.acknowledge());
        }
        step @ (Step::Queue(_) | Step::Dequeue) => act_on_queue(store, step).await,
        step @ (Step::Undelete { .. } | Step::Purge(_)) => act_on_expunged(store, step).await,
        step => act_on_names(store, step).await,
    }
}

/// Mailboxes and accounts, by name.
async fn act_on_names(store: &Store, step: Step) {
    match step {
        Step::Create(who, name) => {
            let create =
                CreateMailbox { account: AccountId(who), name: NAMES[name].into(), special_use: None };
            let _ = store.create_mailbox(create).await.map(|r| r.acknowledge());
        }
        Step::Delete(who, name) => {
            if let Some(mailbox) = find(store, who, name).await {
                let _ = store.delete_mailbox(mailbox).await.map(|r| r.acknowledge());
            }
        }
        Step::Rename(who, from, to) => {
            if let Some(mailbox) = find(store, who, from).await {
                let _ = store.rename_mailbox(mailbox, NAMES[to].into()).await.map(|r| r.acknowledge());
            }
        }
        Step::Account(who, generation, tombstone) => {
            let mut record = account(who);
            (record.generation, record.tombstone, record.quota_octets) = (generation, tombstone, 20_000);
            let _ = store.put_account(record).await.map(|r| r.acknowledge());
        }
        _ => {}
    }
}

async fn act_on_queue(store: &Store, step: Step) {
    match step {
        Step::Queue(size) => {
            let Delivery { id, sender, at, body, .. } = delivery(Vec::new(), &"q".repeat(size));
            let recipient = |address: &str| QueueRecipient {
                noticed: size % 2 == 0,
                ..QueueRecipient::new(address.into(), 0)
            };
            let message = Enqueue {
                delivery: id,
                sender,
                at,
                params: "SMTPUTF8".into(),
                recipients: ["one@example.com", "two@example.com"].map(recipient).to_vec(),
                body,
            };
            store.queue_put(message).await.unwrap().acknowledge().unwrap();
        }
        Step::Dequeue => {
            let queue = store.read(|v| v.queue(None, 10)).await.unwrap();
            let Some(item) = queue.first() else { return };
            let update = QueueUpdate::Done { outcome: "delivered".into() };
            let address = item.recipients[0].address.clone();
            store.queue_update(item.delivery, address, update).await.unwrap().acknowledge().unwrap();
        }
        _ => {}
    }
}

/// Even names: what went from there; odd ones: all.
async fn act_on_expunged(store: &Store, step: Step) {
    match step {
        Step::Undelete { who, name, into } => {
            let mailbox = (name % 2 == 0).then(|| NAMES[name].to_owned());
            let filter = RecoverableFilter { mailbox, ..RecoverableFilter::default() };
            let found = store.read(move |v| v.recoverable(AccountId(who), &filter, 50)).await.unwrap();
            let messages = found.iter().map(|gone| (gone.mailbox, gone.uid)).collect();
            let into = into.map(|name| NAMES[name].to_owned());
            let asked = Undelete { account: AccountId(who), messages, into };
            let Ok(receipt) = store.undelete(asked).await else { return };
            assert_eq!(receipt.acknowledge().unwrap().messages.len(), found.len());
        }
        Step::Purge(early_octets) => {
            store.purge(Purge { until: 0, early_octets }).await.unwrap().acknowledge().unwrap();
        }
        _ => {}
    }
}

async fn run(steps: Vec<Step>) {
    let undelete = Duration::from_secs(3600);
    let setup = Setup { segment_size: Some(16 << 10), undelete, ..Setup::default() };
    let dir = tempfile::tempdir().unwrap();
    let mut store =
        setup.initialise(dir.path(), &identity()).unwrap().serve(1, ME, Arc::new(OpenGate)).unwrap();
    for n in 1..=3 {
        store.put_account(account(n)).await.unwrap().acknowledge().unwrap();
    }
    let mut last = None;
    for step in steps {
        if matches!(step, Step::Reopen) {
            let epoch = store.epoch() + 1;
            drop(store.stop().await);
            store =
                setup.open(dir.path(), &identity()).unwrap().serve(epoch, ME, Arc::new(OpenGate)).unwrap();
        } else {
            act(&store, step, &mut last).await;
        }
    }
    assert_eq!(store.read(|v| v.verify()).await.unwrap(), Vec::<String>::new());
    drop(store.stop().await);
    let grown = rows(dir.path(), &[]);
    schema::remove(dir.path()).unwrap();
    drop(setup.open(dir.path(), &identity()).unwrap());
    assert_eq!(rows(dir.path(), &[]), grown, "replayed and grown differ");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]
    #[test]
    fn counters_are_exact_and_replay_gives_the_same_index(steps in proptest::collection::vec(step(), 1..60)) {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
            .block_on(run(steps));
    }
}

#[tokio::test]
async fn ids_are_forgotten_only_when_they_are_too_old_to_come_again() {
    let dir = tempfile::tempdir().unwrap();
    let store =
        Replica::initialise(dir.path(), &identity()).unwrap().serve(1, ME, Arc::new(OpenGate)).unwrap();
    store.put_account(account(1)).await.unwrap().acknowledge().unwrap();
    let day = 24 * 3600;
    let first = delivery(vec![target(1)], "first");
    let start = first.at;
    let is_known = async |store: &Store| {
        let answer = store.deliver(first.clone()).await.unwrap().acknowledge().unwrap();
        answer == [Delivered::Duplicate]
    };
    assert!(!is_known(&store).await);
    for (days, known) in [(5, true), (7, false)] {
        for _ in 0..70 {
            let mut later = delivery(vec![target(1)], "later");
            later.at = start + days * day;
            store.deliver(later).await.unwrap().acknowledge().unwrap();
        }
        assert_eq!(is_known(&store).await, known, "after {days} days");
    }
}

#[tokio::test]
async fn expunge_history_is_bounded_and_says_where_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let store =
        Replica::initialise(dir.path(), &identity()).unwrap().serve(1, ME, Arc::new(OpenGate)).unwrap();
    store.put_account(account(1)).await.unwrap().acknowledge().unwrap();
    super::support::deliver(&store, 1, "x").await;
    let inbox = mailbox(&store, 1, "INBOX").await;
    for n in 0..14u32 {
        let all = (1..=1 << n).collect();
        store.copy(inbox.id, all, inbox.id, CopyKind::Copy).await.unwrap().acknowledge().unwrap();
    }
    let full = mailbox(&store, 1, "INBOX").await;
    assert_eq!(full.counts.messages, 1 << 14);
    let first: Vec<u32> = (1..=100).collect();
    store.expunge(inbox.id, Expunge::These(first)).await.unwrap().acknowledge().unwrap();
    let most: Vec<u32> = (101..=16_000).collect();
    store.expunge(inbox.id, Expunge::These(most)).await.unwrap().acknowledge().unwrap();
    let changes = store.read(move |v| v.changes(inbox.id, full.highest_modseq)).await.unwrap();
    assert_eq!(changes.expunged, (1..=16_000).collect::<Vec<u32>>());
    assert!(changes.changed.is_empty());
    let conn = schema::open_reader(dir.path()).unwrap();
    let kept: u64 = conn.query_row("SELECT count(*) FROM expunged", [], |r| r.get(0)).unwrap();
    assert!(kept <= 12_000, "{kept}");
    assert_eq!(store.read(|v| v.verify()).await.unwrap(), Vec::<String>::new());
    drop(store.stop().await);
    assert!(fs::metadata(dir.path().join("index.sqlite")).unwrap().len() > 0);
}
