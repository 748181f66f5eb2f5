//! The indexes of a primary and its mirrors are compared while both change.
#![allow(clippy::panic, clippy::unwrap_used, reason = "tests")]

mod pair;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use mailcluster_replication::Difference;
use mailcluster_store::{Expunge, FlagChange, FlagOp, Flags, Store, SystemFlag, testing::rows::change};
use pair::{
    Pair, Primary, applied, id, pair,
    support::{account, deliver, mailbox},
    until, work,
};
use tokio::task::JoinHandle;

/// Delivers, flags and expunges until it is told to stop; answers how many times.
fn writer(store: &Store, n: u128, stop: &Arc<AtomicBool>) -> JoinHandle<usize> {
    let (store, stop) = (store.clone(), stop.clone());
    tokio::spawn(async move {
        store.put_account(account(n)).await.unwrap().acknowledge().unwrap();
        let inbox = mailbox(&store, n, "INBOX").await.id;
        let mut count = 0;
        while !stop.load(Ordering::Relaxed) {
            deliver(&store, n, &"x".repeat(count % 977)).await;
            count += 1;
            let uid = u32::try_from(count).unwrap();
            let deleted = Flags::default().with(SystemFlag::Deleted);
            let change = FlagChange {
                mailbox: inbox,
                uids: vec![uid],
                op: FlagOp::Add,
                flags: deleted,
                unchanged_since: None,
            };
            store.set_flags(change).await.unwrap().acknowledge().unwrap();
            if count % 3 == 0 {
                store.expunge(inbox, Expunge::Deleted(vec![uid])).await.unwrap().acknowledge().unwrap();
            }
        }
        count
    })
}

fn passes(primary: &Primary) -> u64 {
    primary.source.comparing.counts().passes
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_indexes_never_differ_while_writes_go_on() {
    let Pair { primary, mirror, feed: _feed, dirs: _dirs } = pair().await;
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (1..=4).map(|n| writer(&primary.store, n, &stop)).collect();
    until("several passes", || passes(&primary) >= 4).await;
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        assert!(writer.await.unwrap() > 0);
    }
    let counts = primary.source.comparing.counts();
    println!("{counts:?} while {} records were written", primary.store.committed().1);
    assert_eq!((counts.alarms, primary.source.comparing.differing()), (0, vec![]));
    applied(&primary, 2, primary.store.committed().1).await;
    drop(mirror.take());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_was_changed_by_hand_is_found_in_whichever_replica_it_is() {
    let Pair { primary, mirror: _mirror, feed: _feed, dirs } = pair().await;
    let end = work(&primary.store, 1).await;
    applied(&primary, 2, end).await;
    let comparing = &primary.source.comparing;
    for (dir, there, back, table) in [
        (
            &dirs.1,
            "UPDATE message SET system=system+1 WHERE uid=3",
            "UPDATE message SET system=system-1 WHERE uid=3",
            "message",
        ),
        (&dirs.0, "UPDATE body SET len=len+1 WHERE id=2", "UPDATE body SET len=len-1 WHERE id=2", "body"),
        (&dirs.1, "INSERT INTO gap VALUES('demo-9')", "DELETE FROM gap", "gap"),
        (
            &dirs.0,
            "UPDATE counter SET uid_next=uid_next+7",
            "UPDATE counter SET uid_next=uid_next-7",
            "counter",
        ),
    ] {
        assert!(change(dir.path(), there) > 0);
        until("it is noticed", || !comparing.differing().is_empty()).await;
        let Difference { mirror, table: found, at } = comparing.differing().remove(0);
        assert_eq!((mirror, found, at), (id(2), table, end));
        let seen = passes(&primary);
        until("it is not forgotten", || passes(&primary) > seen + 2).await;
        assert_eq!(comparing.differing().len(), 1);
        assert!(change(dir.path(), back) > 0);
        until("all is the same again", || comparing.differing().is_empty()).await;
    }
    // What is each replica's own says nothing.
    let seen = passes(&primary);
    assert!(change(dirs.1.path(), "UPDATE body SET segment=segment+1, offset=offset+8") > 0);
    until("two passes more", || passes(&primary) > seen + 2).await;
    assert_eq!(comparing.differing(), []);
    assert_eq!(comparing.counts().alarms, 4);
}
