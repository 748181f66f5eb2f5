use std::sync::atomic::{AtomicBool, Ordering};

use mailcluster_store::{Follower, Identity, StoreKind, testing::Setup};
use mailcluster_types::{ClusterId, ReplicaId};

use super::*;

#[tokio::test]
async fn a_snapshot_that_nobody_takes_any_more_is_let_go() {
    let dir = tempfile::tempdir().unwrap();
    let identity =
        Identity { cluster: ClusterId(7), store: "m-0".into(), replica: ReplicaId(1), kind: StoreKind::Mail };
    let mut replica = Follower::new(Setup::default().initialise(dir.path(), &identity).unwrap()).unwrap();
    let (_, end) = replica.begin(1, &[ReplicaId(1)]).unwrap();
    replica.advance(end).unwrap();
    let make = || Arc::new(Outgoing::make(dir.path(), 1, RATE, &Cancel::default()).unwrap().unwrap());
    let pinned = || std::fs::read_dir(dir.path().join("snapshot-out")).unwrap().count();
    let short = Arc::new(AtomicBool::new(false));
    let is_short = short.clone();
    let must_go = Arc::new(move |_: &Path| is_short.load(Ordering::Relaxed));
    let (snapshots, both) = (Snapshots { must_go, ..Snapshots::default() }, ["b".to_owned(), "c".to_owned()]);
    let taken = make();
    snapshots.offer("b", taken.clone());
    snapshots.offer("c", make());
    snapshots.tidy(dir.path(), &both);
    assert_eq!(pinned(), 2);
    snapshots.let_go(&both, Duration::ZERO);
    assert_eq!(pinned(), 1, "one is on its way");
    assert!(snapshots.of("b").is_some() && snapshots.of("c").is_none());
    drop(taken);
    snapshots.tidy(dir.path(), &both);
    assert_eq!(pinned(), 1, "it may be asked for again soon");
    snapshots.tidy(dir.path(), &both[1..]);
    assert_eq!(pinned(), 0, "there is no such mirror any more");
    snapshots.offer("c", make());
    short.store(true, Ordering::Relaxed);
    snapshots.tidy(dir.path(), &both);
    assert_eq!(pinned(), 0, "mail needs the room");
}
