//! A disk that hangs without failing, as a path to it does that is tried again for ever: the primary on it is alive to everybody,
//! and nothing is acknowledged.

use std::time::Duration;

use mailcluster_arbiter::lifecycle::Outcome;
use mailcluster_failover::Durability;

use super::{Cluster, LEASE_SECONDS, WAIT, lines, write};

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_whose_disk_hangs_gives_its_store_to_a_mirror() {
    let mut cluster = Cluster::start(&[1, 2], Durability::Preferred).await;
    let first = cluster.serving(1).await;
    cluster.in_sync(&[1, 2]).await;
    assert!(write(&first, "both").await);

    let disk = cluster.disks[&1].recorder.clone();
    disk.hang(true);
    let waiting = tokio::spawn(async move { write(&first, "hangs").await });
    let second = cluster.serving(2).await;
    assert!(second.epoch() > 1);
    assert!(write(&second, "after").await);

    // Its process ends while the disk still hangs.
    let node = cluster.nodes.remove(&1).unwrap();
    assert_eq!(tokio::time::timeout(WAIT, node.task).await.unwrap().unwrap(), Outcome::DiskHangs);
    node.server.cancel();
    disk.hang(false);
    assert!(!waiting.await.unwrap(), "a mirror has the store");
    let found = lines(&second).await;
    assert!(["after", "both"].iter().all(|what| found.iter().any(|line| line == what)), "{found:?}");
    drop(second);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_whose_disk_hangs_keeps_a_store_that_no_mirror_could_serve() {
    let mut cluster = Cluster::start(&[1, 2], Durability::Preferred).await;
    let store = cluster.serving(1).await;
    cluster.in_sync(&[1, 2]).await;
    cluster.end(2, true).await;
    let status = cluster.nodes[&1].status.clone();
    status.heard();
    assert!(write(&store, "alone").await);
    cluster.in_sync(&[1]).await;

    let disk = cluster.disks[&1].recorder.clone();
    disk.hang(true);
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { write(&store, "waits").await }
    });
    tokio::time::sleep(Duration::from_secs(u64::from(LEASE_SECONDS) + 2)).await;
    assert_eq!(cluster.record.read().replica, Some(super::id(1)));
    assert!(cluster.record.read().holder.is_some(), "it was given back to nobody");
    disk.hang(false);
    assert!(waiting.await.unwrap(), "the disk answers again");
    drop(store);
    cluster.stop().await;
}
