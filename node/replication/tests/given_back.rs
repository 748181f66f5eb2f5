//! Copies of a store give room back while the one feeds the others.
#![allow(clippy::panic, clippy::unwrap_used, reason = "tests")]

mod pair;

use std::{collections::BTreeSet, sync::Arc};

use mailcluster_replication::{Ended, Snapshots, Source, Standby};
use mailcluster_store::{Expunge, Follower, LogReader, Reclaimed, Replica, View, testing::Setup};
use mailcluster_types::{AccountId, Seq};
use pair::{
    Mirror, Primary, applied, ended, id, identity,
    support::{account, deliver, mailbox},
    until,
};
use tempfile::TempDir;
use tokio::task::JoinHandle;

fn setup() -> Setup {
    Setup { segment_size: Some(16 << 10), eager_rewriting: true, ..Setup::default() }
}

fn follower(dir: &TempDir, n: u128) -> Follower {
    Follower::new(setup().initialise(dir.path(), &identity(n)).unwrap()).unwrap()
}

async fn new_mirror(n: u128) -> (TempDir, Mirror) {
    let dir = tempfile::tempdir().unwrap();
    let mirror = Mirror::serve(n, follower(&dir, n)).await;
    (dir, mirror)
}

fn others(of: &[u128]) -> Option<BTreeSet<String>> {
    Some(of.iter().map(|n| id(*n)).collect())
}

/// Mail comes, and but for each twentieth message it goes again; the last record.
async fn come_and_go(primary: &Primary) -> Seq {
    for n in 0..120 {
        deliver(&primary.store, 1, &format!("{n} {}", "x".repeat(1500))).await;
    }
    let inbox = mailbox(&primary.store, 1, "INBOX").await;
    let gone = (1..inbox.uid_next).filter(|uid| uid % 20 > 0).collect();
    primary.store.expunge(inbox.id, Expunge::These(gone)).await.unwrap().acknowledge().unwrap();
    primary.store.committed().1
}

/// Every text in the inbox.
fn texts(view: &View) -> Vec<Vec<u8>> {
    let inbox = view.mailbox_by_name(AccountId(1), "INBOX").unwrap().unwrap();
    let messages = view.messages(inbox.id, 1, u32::MAX).unwrap();
    messages.iter().map(|m| view.body(m.body).unwrap().to_vec()).collect()
}

async fn same(primary: &Primary, copy: &Replica) {
    let view = copy.view();
    assert_eq!(view.verify().unwrap(), Vec::<String>::new());
    assert!(texts(&view) == primary.store.read(|v| Ok(texts(v))).await.unwrap(), "the texts differ");
}

/// What the mirror gives back once its primary has said what may go.
async fn given_back(standby: &Arc<Standby>) -> Reclaimed {
    let deadline = tokio::time::Instant::now() + pair::WAIT;
    loop {
        let done = standby.reclaim().await.unwrap();
        if done.files > 0 {
            return done;
        }
        assert!(tokio::time::Instant::now() < deadline, "the mirror gives nothing back");
        tokio::time::sleep(pair::BEAT).await;
    }
}

/// Replica 1 with a mirror that counts.
async fn pair_of() -> (Primary, (TempDir, TempDir), Mirror, JoinHandle<Ended>) {
    let one = tempfile::tempdir().unwrap();
    let (two, mirror) = new_mirror(2).await;
    let (primary, feed) = Primary::begin((&one, follower(&one, 1)), (1, 1), &[1, 2], Some(&mirror)).await;
    primary.store.put_account(account(1)).await.unwrap().acknowledge().unwrap();
    (primary, (one, two), mirror, feed.unwrap())
}

fn contiguous_from(source: &Source) -> Seq {
    LogReader::first(&source.dir).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_copy_gives_room_back_while_it_is_fed_and_either_feeds_a_new_one() {
    let (primary, (one, two), mirror, feed) = pair_of().await;
    let end = come_and_go(&primary).await;
    applied(&primary, 2, end).await;
    // As long as nobody knows who the others are.
    assert_eq!(primary.store.reclaim().await.unwrap(), Reclaimed::default());
    assert_eq!(mirror.standby.reclaim().await.unwrap(), Reclaimed::default());
    primary.progress.set_others(others(&[2]));
    let theirs = given_back(&mirror.standby).await;
    let own = primary.store.reclaim().await.unwrap();
    assert!(theirs.files > 5 && own.files > 5, "{theirs:?} {own:?}");
    let end = come_and_go(&primary).await;
    applied(&primary, 2, end).await;
    assert!(given_back(&mirror.standby).await.files > 5, "while it is fed");
    let passes = || primary.source.comparing.counts().passes;
    let before = passes();
    until("the indexes are compared", || passes() > before + 1).await;
    assert_eq!(primary.source.comparing.differing(), Vec::new());

    // A new one begins with a snapshot, however small the log is: it has no beginning.
    assert!(contiguous_from(&primary.source) > 1);
    primary.progress.set_others(others(&[2, 3]));
    let (_three, third) = new_mirror(3).await;
    let fed = primary.feed(&third);
    applied(&primary, 3, end).await;
    same(&primary, &third.take()).await;
    fed.abort();

    // Promotion: the mirror's log goes on, and the former primary follows.
    feed.abort();
    drop(primary.store.stop().await);
    let old = Mirror::serve(1, Follower::new(setup().open(one.path(), &identity(1)).unwrap()).unwrap()).await;
    let replica = mirror.standby.take().unwrap();
    let begun =
        Primary::begin_with((&two, replica), (2, 2), &[1, 2], (Some(&old), Snapshots::default())).await;
    let (primary, fed) = begun;
    let end = come_and_go(&primary).await;
    applied(&primary, 1, end).await;
    primary.progress.set_others(others(&[1]));
    assert!(primary.store.reclaim().await.unwrap().files > 5, "as a primary it goes on");
    assert!(given_back(&old.standby).await.files > 5);
    fed.unwrap().abort();
    same(&primary, &old.take()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_kept_for_a_mirror_that_is_silent_and_it_takes_a_snapshot_when_it_is_not() {
    let (primary, _dirs, _mirror, _feed) = pair_of().await;
    let (three, third) = new_mirror(3).await;
    primary.progress.set_others(others(&[2, 3]));
    let fed = primary.feed(&third);
    let had = primary.store.committed().1;
    applied(&primary, 3, had).await;
    fed.abort();
    ended_silently(fed).await;
    let end = come_and_go(&primary).await;
    assert_eq!(primary.store.reclaim().await.unwrap().files, 0, "it lacks all of it");
    let fed = primary.feed(&third);
    applied(&primary, 3, end).await;
    let alike = Follower::new(third.take()).unwrap();
    assert_eq!(alike.describe().format, 1, "it has got records, not files");
    third.standby.give(alike);
    fed.abort();
    // It may have seen that the mirror was taken.
    let _ended = tokio::time::timeout(pair::WAIT, fed).await.unwrap();

    // Another takes its place: it is waited for no more.
    let end = come_and_go(&primary).await.max(end);
    primary.progress.set_others(others(&[2]));
    assert!(primary.store.reclaim().await.unwrap().files > 5);
    assert!(LogReader::after(&primary.source.dir, identity(1), had).is_err());
    let fed = primary.feed(&third);
    applied(&primary, 3, end).await;
    let copy = third.take();
    assert_eq!(copy.describe().format, 3, "it has got files: the log does not reach back so far");
    same(&primary, &copy).await;
    drop((fed, three));
}

async fn ended_silently(fed: JoinHandle<Ended>) {
    assert!(tokio::time::timeout(pair::WAIT, fed).await.unwrap().unwrap_err().is_cancelled());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_taken_away_gives_nothing_back() {
    let (primary, _dirs, mirror, feed) = pair_of().await;
    let end = come_and_go(&primary).await;
    applied(&primary, 2, end).await;
    primary.progress.set_others(others(&[2]));
    given_back(&mirror.standby).await;
    let (standby, asking) = (mirror.standby.clone(), mirror.standby.clone());
    let asked = tokio::spawn(async move {
        while asking.has_replica() {
            let _ = asking.reclaim().await;
        }
    });
    let taken = tokio::task::spawn_blocking(move || standby.take()).await.unwrap().unwrap();
    assert!(mirror.standby.reclaim().await.is_err());
    asked.await.unwrap();
    assert!(matches!(ended(feed).await, Ended::Lost(_)));
    same(&primary, &taken.into_replica()).await;
}
