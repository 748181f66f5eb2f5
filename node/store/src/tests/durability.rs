//! Nothing is acknowledged before a sync that covers it; whatever fails is told apart.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use mailcluster_types::{AccountId, Epoch, ReplicaId, Seq};
use tempfile::TempDir;

use super::support::{account, delivery, identity, mailbox, target};
use crate::{
    CopyKind, Delivered, Expunge, FlagChange, FlagOp, Flags, Gate, OpenError, OpenGate, Refusal, Store,
    SystemFlag, WriteError,
    testing::{Fault, Recorder, Setup},
};

#[derive(Default)]
struct TestGate {
    closed: AtomicBool,
    /// Somebody else may have the volume.
    deposed: AtomicBool,
    poisoned: AtomicBool,
}

impl Gate for TestGate {
    fn may_acknowledge(&self, _: Epoch, _: Seq) -> bool {
        !self.closed.load(Ordering::SeqCst)
    }
    fn may_read(&self) -> bool {
        !self.closed.load(Ordering::SeqCst)
    }
    fn may_write(&self) -> bool {
        !self.deposed.load(Ordering::SeqCst)
    }
    fn poisoned(&self) {
        self.poisoned.store(true, Ordering::SeqCst);
    }
}

async fn serve(setup: &Setup, gate: Arc<dyn Gate>) -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let replica = setup.initialise(dir.path(), &identity()).unwrap();
    let store = replica.serve(1, &[ReplicaId(9)], gate).unwrap();
    for n in 1..=4 {
        store.put_account(account(n)).await.unwrap().acknowledge().unwrap();
    }
    (dir, store)
}

/// Many changes at once, from many tasks; answers how many acknowledgements came before their sync.
async fn acknowledged_too_early(setup: &Setup) -> u64 {
    let (_dir, store) = serve(setup, Arc::new(OpenGate)).await;
    let early = Arc::new(AtomicU64::new(0));
    let check = |recorder: &Recorder, early: &AtomicU64, position| {
        early.fetch_add(u64::from(!recorder.synced(position)), Ordering::SeqCst);
    };
    let tasks: Vec<_> = (0..16u128)
        .map(|n| {
            let (store, recorder, early) = (store.clone(), setup.recorder.clone(), early.clone());
            tokio::spawn(async move {
                let who = n % 4 + 1;
                for _ in 0..10 {
                    let receipt = store.deliver(delivery(vec![target(who)], "text")).await.unwrap();
                    check(&recorder, &early, receipt.position());
                    let Delivered::Stored { mailbox, uid } = receipt.acknowledge().unwrap()[0] else {
                        panic!("not stored");
                    };
                    let flags = Flags::default().with(SystemFlag::Seen);
                    let change = FlagChange {
                        mailbox,
                        uids: vec![uid],
                        op: FlagOp::Add,
                        flags,
                        unchanged_since: None,
                    };
                    let receipt = store.set_flags(change).await.unwrap();
                    check(&recorder, &early, receipt.position());
                    let receipt = store.expunge(mailbox, Expunge::These(vec![uid])).await.unwrap();
                    check(&recorder, &early, receipt.position());
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    early.load(Ordering::SeqCst)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recording_disk_proves_sync_before_ack() {
    // Small segments: syncs across a change of segments count too.
    let setup = Setup { segment_size: Some(16 << 10), ..Setup::default() };
    assert_eq!(acknowledged_too_early(&setup).await, 0);
    assert!(setup.recorder.syncs() > 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_sync_taken_out_the_proof_fails() {
    let setup = Setup { skip_sync: true, ..Setup::default() };
    assert!(acknowledged_too_early(&setup).await > 0, "the recorder would not notice a missing sync");
}

#[tokio::test]
async fn a_failed_sync_stops_the_store_and_is_remembered() {
    for fault in [Fault::SyncOnce, Fault::SyncForever, Fault::WriteError, Fault::ShortNoSpaceForever] {
        let setup = Setup::default();
        let gate = Arc::new(TestGate::default());
        let (dir, store) = serve(&setup, gate.clone()).await;
        let kept = store.deliver(delivery(vec![target(1)], "kept")).await.unwrap().acknowledge().unwrap();
        setup.recorder.fail(Some(fault));
        let lost = delivery(vec![target(1)], "lost");
        assert_eq!(store.deliver(lost.clone()).await.err(), Some(WriteError::Unknown), "{fault:?}");
        tokio::time::timeout(Duration::from_secs(10), store.stopped()).await.unwrap();
        assert!(gate.poisoned.load(Ordering::SeqCst));
        assert_eq!(store.deliver(lost.clone()).await.err(), Some(WriteError::NotServing), "{fault:?}");
        assert!(!store.may_read());
        assert!(store.stop().await.is_none(), "a poisoned replica is not given back");
        drop(store);

        // The only copy starts again by copying forward, unless that fails too.
        if matches!(fault, Fault::SyncForever) {
            assert!(matches!(setup.open(dir.path(), &identity()), Err(OpenError::Io { .. })));
        }
        setup.recorder.fail(None);
        let replica = setup.open(dir.path(), &identity()).unwrap();
        assert_eq!(replica.view().verify().unwrap(), Vec::<String>::new());
        let store = replica.serve(2, &[ReplicaId(9)], Arc::new(OpenGate)).unwrap();
        let inbox = mailbox(&store, 1, "INBOX").await;
        assert!(matches!(kept[0], Delivered::Stored { uid: 1, mailbox } if mailbox == inbox.id));
        // Unknown means: there once, or not there.
        let there = inbox.counts.messages;
        let again = store.deliver(lost).await.unwrap().acknowledge().unwrap();
        match there {
            1 => assert!(matches!(again[0], Delivered::Stored { uid: 2, .. })),
            2 => assert_eq!(again, [Delivered::Duplicate]),
            other => panic!("{other} messages after {fault:?}"),
        }
        assert_eq!(mailbox(&store, 1, "INBOX").await.counts.messages, 2);
    }
}

#[tokio::test]
async fn a_poisoned_replica_with_mirrors_stays_down_on_this_boot() {
    let setup = Setup::default();
    let dir = tempfile::tempdir().unwrap();
    let replica = setup.initialise(dir.path(), &identity()).unwrap();
    let store = replica.serve(1, &[ReplicaId(9), ReplicaId(10)], Arc::new(OpenGate)).unwrap();
    setup.recorder.fail(Some(Fault::SyncOnce));
    assert_eq!(store.put_account(account(1)).await.err(), Some(WriteError::Unknown));
    store.stopped().await;
    drop(store);
    assert!(matches!(setup.open(dir.path(), &identity()), Err(OpenError::Poisoned(ReplicaId(9)))));
}

#[tokio::test]
async fn a_full_disk_refuses_and_takes_back_what_was_half_written() {
    let setup = Setup::default();
    let (dir, store) = serve(&setup, Arc::new(TestGate::default())).await;
    for fault in [Fault::NoSpace, Fault::ShortNoSpace] {
        setup.recorder.fail(Some(fault));
        let refused = store.deliver(delivery(vec![target(1)], "no room")).await.err();
        assert_eq!(refused, Some(WriteError::Refused(Refusal::Full)), "{fault:?}");
        let stored = store.deliver(delivery(vec![target(1)], "room")).await.unwrap().acknowledge().unwrap();
        assert!(matches!(stored[0], Delivered::Stored { .. }));
    }
    drop(store.stop().await);
    let replica = setup.open(dir.path(), &identity()).unwrap();
    assert_eq!(replica.view().verify().unwrap(), Vec::<String>::new());
    let inbox = replica.view().mailbox_by_name(AccountId(1), "INBOX").unwrap().unwrap();
    assert_eq!((inbox.counts.messages, inbox.uid_next), (2, 3), "a refusal takes no UID");
}

#[tokio::test]
async fn the_reserve_is_for_deleting() {
    let free = Arc::new(AtomicU64::new(50 << 30));
    let setup = Setup { free: Some(free.clone()), ..Setup::default() };
    let (dir, store) = serve(&setup, Arc::new(OpenGate)).await;
    for text in ["one", "two"] {
        store.deliver(delivery(vec![target(1)], text)).await.unwrap().acknowledge().unwrap();
    }
    drop(store.stop().await);
    free.store(3 << 30, Ordering::Relaxed);
    let replica = setup.open(dir.path(), &identity()).unwrap();
    let store = replica.serve(2, &[ReplicaId(9)], Arc::new(OpenGate)).unwrap();
    let (inbox, trash) = (mailbox(&store, 1, "INBOX").await, mailbox(&store, 1, "Trash").await);
    let full = Some(WriteError::Refused(Refusal::Full));
    assert_eq!(store.deliver(delivery(vec![target(1)], "three")).await.err(), full);
    assert_eq!(store.copy(inbox.id, vec![1], trash.id, CopyKind::Copy).await.err(), full);
    assert_eq!(store.check_recipient(AccountId(1), 1).await.unwrap(), Err(Refusal::Full));
    assert!(!store.has_room(1));
    let moved = store.copy(inbox.id, vec![1], trash.id, CopyKind::Move).await.unwrap();
    assert_eq!(moved.acknowledge().unwrap().pairs, [(1, 1)]);
    let gone = store.expunge(trash.id, Expunge::These(vec![1])).await.unwrap().acknowledge().unwrap();
    assert_eq!(gone, [1]);
    store.begin_epoch(3, &[ReplicaId(9)]).await.unwrap();
    assert_eq!(store.epoch(), 3);
}

#[tokio::test]
async fn a_closed_gate_keeps_the_value_in_the_receipt() {
    let gate = Arc::new(TestGate::default());
    let (_dir, store) = serve(&Setup::default(), gate.clone()).await;
    let receipt = store.deliver(delivery(vec![target(1)], "x")).await.unwrap();
    gate.closed.store(true, Ordering::SeqCst);
    assert!(receipt.acknowledge().is_err());
    assert!(store.read(|v| v.usage()).await.is_err());
}

/// Every octet under a directory, but for what processes that have it open share in memory.
fn octets(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(octets(&path));
        } else if !path.to_string_lossy().ends_with("-shm") {
            found.insert(path.clone(), fs::read(path).unwrap());
        }
    }
    found
}

#[tokio::test]
async fn a_volume_that_another_may_have_is_left_as_it_is() {
    let gate = Arc::new(TestGate::default());
    let (dir, store) = serve(&Setup::default(), gate.clone()).await;
    store.deliver(delivery(vec![target(1)], "before")).await.unwrap().acknowledge().unwrap();
    let before = octets(dir.path());
    gate.deposed.store(true, Ordering::SeqCst);
    let late = store.deliver(delivery(vec![target(1)], "late")).await;
    assert_eq!(late.err(), Some(WriteError::NotServing));
    assert!(before == octets(dir.path()), "an append wrote");
    // The lease came back before anyone took it.
    gate.deposed.store(false, Ordering::SeqCst);
    store.deliver(delivery(vec![target(1)], "again")).await.unwrap().acknowledge().unwrap();
    let before = octets(dir.path());
    gate.deposed.store(true, Ordering::SeqCst);
    drop(store.stop().await);
    drop(store);
    assert!(before == octets(dir.path()), "closing wrote");
    // As after a crash.
    let replica = Setup::default().open(dir.path(), &identity()).unwrap();
    let inbox = replica.view().mailbox_by_name(AccountId(1), "INBOX").unwrap().unwrap();
    assert_eq!(inbox.counts.messages, 2);
}
