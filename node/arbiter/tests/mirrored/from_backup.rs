//! F26: the API's store goes back to a backup while a primary serves, and nobody has taken the store over.

use mailcluster_failover::Durability;
use mailcluster_store::Store;

use super::{Cluster, id, until, write};

async fn without_the_third(cluster: &mut Cluster, store: &Store) {
    cluster.end(3, false).await;
    assert!(write(store, "waits for mirrorTimeout").await);
    cluster.in_sync(&[1, 2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_from_a_backup_does_not_bring_a_left_out_mirror_into_the_set() {
    let mut cluster = Cluster::start(&[1, 2, 3], Durability::Preferred).await;
    let store = cluster.serving(1).await;
    assert!(write(&store, "all").await);
    let before = cluster.record.read();
    assert_eq!(before.in_sync.len(), 3, "{before:?}");
    // Twice, so that leaving it out once more after the backup is not what is looked for.
    without_the_third(&mut cluster, &store).await;
    cluster.run(3).await;
    cluster.in_sync(&[1, 2, 3]).await;
    without_the_third(&mut cluster, &store).await;
    let later = cluster.record.read();

    {
        let mut now = cluster.record.now.lock().unwrap();
        *now = (before.clone(), now.1 + 1);
    }
    until("the holder says again who has everything", || {
        let now = cluster.record.read();
        !now.in_sync.contains(&id(3)) && now.in_sync_version >= later.in_sync_version
    })
    .await;
    assert_eq!(cluster.record.read().epoch, later.epoch, "the term goes on");
    assert!(write(&store, "after it").await);
    drop(store);
    cluster.stop().await;
}
