//! The stream from a primary to its mirrors.
#![allow(clippy::panic, clippy::unwrap_used, reason = "tests")]

mod pair;

use std::sync::Arc;

use mailcluster_failover::Position;
use mailcluster_replication::Ended;
use mailcluster_store::{Follower, WriteError};
use pair::{
    Mirror, Pair, Primary, WAIT, aborted, applied, ended, fresh, id, pair,
    support::{account, deliver, delivery, target},
    until, work,
};
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_acknowledged_before_the_mirror_has_it() {
    let Pair { primary, mirror, feed, dirs: _dirs } = pair().await;
    feed.abort();
    let committed = primary.progress.commit();
    let putting = tokio::spawn({
        let store = primary.store.clone();
        async move { store.put_account(account(2)).await.unwrap().acknowledge() }
    });
    until("the committer waits", || primary.progress.waiting().is_some()).await;
    assert!(!putting.is_finished());
    assert_eq!(primary.progress.commit(), committed);
    let _feed = primary.feed(&mirror);
    tokio::time::timeout(WAIT, putting).await.unwrap().unwrap().unwrap();

    let end = work(&primary.store, 1).await;
    applied(&primary, 2, end).await;
    assert!(mirror.standby.heard_within(WAIT));
    let copy = mirror.take();
    assert_eq!(copy.describe().end, (1, end));
    assert_eq!(copy.view().verify().unwrap(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_stream_ends_the_older_one_and_goes_on_where_that_was() {
    let Pair { primary, mirror, feed, dirs: _dirs } = pair().await;
    work(&primary.store, 1).await;
    let _new = primary.feed(&mirror);
    let why = ended(feed).await;
    assert!(aborted(&why), "{why:?}");
    let end = work(&primary.store, 2).await;
    applied(&primary, 2, end).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promise_ends_a_primary_and_what_nobody_has_is_cut_off() {
    let Pair { primary: old, mirror, feed, dirs } = pair().await;
    let committed = work(&old.store, 1).await;
    feed.abort();
    // Cut off, it writes what nobody will ever see.
    let lost = tokio::spawn({
        let store = old.store.clone();
        async move { store.deliver(delivery(vec![target(1)], "seen by nobody")).await.err() }
    });
    until("the committer waits", || old.progress.waiting().is_some()).await;

    let taken = mirror.standby.take().unwrap();
    assert!(aborted(&ended(old.feed(&mirror)).await), "its replica is no standby any more");
    let (new, _) = Primary::begin((&dirs.1, taken), (2, 2), &[2], None).await;
    deliver(&new.store, 1, "of the new primary").await;

    old.progress.end();
    assert_eq!(lost.await.unwrap(), Some(WriteError::Unknown));
    let back = Follower::new(old.store.stop().await.unwrap()).unwrap();
    assert_eq!(back.end().seq, committed + 1);
    let mirror = Mirror::serve(1, back).await;
    let _feed = new.feed(&mirror);
    let (_, end) = new.store.committed();
    until("it follows", || new.progress.heard().get(&id(1)).is_some_and(|heard| heard.synced == end)).await;
    assert!(matches!(ended(old.feed(&mirror)).await, Ended::Refused { promise: 2 }));
    applied(&new, 1, end).await;
    let copy = mirror.take();
    assert_eq!(copy.describe().end, (2, end));
    assert_eq!(copy.view().verify().unwrap(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_comes_late_gets_what_older_epochs_wrote() {
    let (one, first) = fresh(1);
    let (old, _) = Primary::begin((&one, first), (1, 1), &[1], None).await;
    work(&old.store, 1).await;
    let again = Follower::new(old.store.stop().await.unwrap()).unwrap();
    let (new, _) = Primary::begin((&one, again), (1, 2), &[1], None).await;
    let (_two, second) = fresh(2);
    let mirror = Mirror::serve(2, second).await;
    let _feed = new.feed(&mirror);
    let end = work(&new.store, 2).await;
    applied(&new, 2, end).await;
    assert_eq!(mirror.take().view().verify().unwrap(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_has_lost_what_a_mirror_has_committed_yields_to_it() {
    let Pair { primary, mirror, feed, dirs: _dirs } = pair().await;
    let end = work(&primary.store, 1).await;
    applied(&primary, 2, end).await;
    feed.abort();
    let (dir, empty) = fresh(3);
    let (forgetful, _) = Primary::begin((&dir, empty), (3, 2), &[3], None).await;
    let why = ended(forgetful.feed(&mirror)).await;
    assert!(matches!(why, Ended::Yield { after: Position { epoch: 0, seq: 0 } }), "{why:?}");
    assert_eq!(mirror.take().describe().end, (1, end), "nothing of it was cut");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_of_another_store_refuses() {
    let (dir, first) = fresh(1);
    let (_other, second) = fresh(2);
    let mirror = Mirror::serve(2, second).await;
    let (mut primary, _) = Primary::begin((&dir, first), (1, 1), &[1], None).await;
    Arc::get_mut(&mut primary.source).unwrap().identity.store = "other".into();
    let why = ended(primary.feed(&mirror)).await;
    assert!(matches!(&why, Ended::Lost(status) if status.code() == Code::FailedPrecondition), "{why:?}");
    assert!(!mirror.standby.heard_within(WAIT));
}
