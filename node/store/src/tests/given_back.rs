//! Mirrors of a store that has given room back while it had none: they begin with a snapshot, and know that their log begins
//! later, too.

use std::{fs, path::Path, sync::Arc};

use mailcluster_types::ReplicaId;

use super::{
    falling::Falling,
    rewrite::{bodies, content, eager, mostly_gone, octets, serve, thinned, without_sense},
    snapshot::{copy_of, fresh, install, make, other, received, send},
    support::deliver,
};
use crate::{
    FollowError, Follower, LogReader, Offer, OpenError, OpenGate, Outgoing, Replica, Store, base,
    engine::Options, segment, superblock::Superblock,
};

const THEM: &[ReplicaId] = &[ReplicaId(10)];

/// A store with a single copy that has given room back, by packs and without.
async fn given_back(dir: &Path) -> Store {
    let store = serve(&eager(), dir);
    mostly_gone(&store, 120, 1500, 4).await;
    thinned(&store, 60, 1500).await;
    assert!(store.reclaim().await.unwrap().packed > 0);
    deliver(&store, 1, "one more\r\n").await;
    store
}

/// Rows, but for what differs between replicas.
fn rows_of(dir: &Path) -> Vec<String> {
    super::snapshot::content(dir)
}

fn serve_other(dir: &Path) -> Store {
    let replica = eager().open(dir, &other()).unwrap();
    let epoch = replica.describe().last_epoch + 1;
    replica.serve(epoch, THEM, Arc::new(OpenGate)).unwrap()
}

#[tokio::test]
async fn a_mirror_of_it_knows_where_its_log_begins() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = given_back(one.path()).await;
    let first = Superblock::read(one.path()).unwrap().contiguous_from;
    let outgoing = make(one.path());
    assert!(first > 1 && outgoing.offer().contiguous_from == first, "{first}: {:?}", outgoing.offer());
    let mirror = fresh(two.path());
    let mirror_log = received(&outgoing, &mirror, 1);
    let mirror = install(mirror, 1, mirror_log);
    assert_eq!(mirror.describe().format, 3, "no older version takes it for whole");
    assert_eq!(LogReader::first(two.path()).unwrap(), first);
    assert!(rows_of(two.path()) == rows_of(one.path()));
    drop(mirror);
    drop(store.stop().await);

    // Nothing is made anew from a log without its beginning.
    let lost = copy_of(two.path());
    without_sense(lost.path());
    let refused = eager().open(lost.path(), &other()).err();
    assert!(matches!(refused, Some(OpenError::Damaged(_))), "{refused:?}");

    // Alone, it gives room back as well; then there is a base of its own, from which an index can be made.
    let store = serve_other(two.path());
    mostly_gone(&store, 60, 1500, 1).await;
    let before = octets(two.path());
    assert!(store.reclaim().await.unwrap().files > 0 && octets(two.path()) < before);
    let dir = two.path().to_owned();
    let texts = store.read(move |view| Ok(bodies(&dir, view))).await.unwrap();
    let expected = content(two.path());
    drop(store.stop().await);
    without_sense(two.path());
    let replica = eager().open(two.path(), &other()).unwrap();
    assert_eq!(bodies(two.path(), &replica.view()), texts);
    drop(replica);
    assert!(content(two.path()) == expected);
}

#[tokio::test]
async fn a_snapshot_whose_log_begins_elsewhere_than_it_says_is_not_put_in_place() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = given_back(one.path()).await;
    let outgoing = make(one.path());
    let mirror = fresh(two.path());
    for contiguous_from in [0, outgoing.offer().contiguous_from - 1] {
        let offer = Offer { contiguous_from, ..outgoing.offer().clone() };
        let mut incoming = mirror.receive(1, offer).unwrap();
        for file in outgoing.files() {
            send(&outgoing, &mut incoming, file, usize::MAX);
        }
        let refused = incoming.complete(&mirror).err();
        assert!(matches!(refused, Some(FollowError::Snapshot(_))), "{contiguous_from}: {refused:?}");
    }
    drop(store.stop().await);
}

/// Two replicas of one store that were each alone once and gave room back by themselves: as their logs are, so far, the same,
/// one takes the other's files. Answers them, and the snapshot.
async fn apart(one: &Path, two: &Path) -> (Store, Outgoing) {
    let store = given_back(one).await;
    let mirror = fresh(two);
    let first = received(&make(one), &mirror, 1);
    drop(install(mirror, 1, first));
    // The one makes packs of its own, the other, too.
    mostly_gone(&store, 60, 1500, 4).await;
    thinned(&store, 60, 1500).await;
    assert!(store.reclaim().await.unwrap().packed > 0);
    let replica = eager().open(two, &other()).unwrap();
    let (last, had) = (replica.describe().last_epoch, replica.describe().end);
    drop(replica);
    assert!(had.1 < store.committed().1 && last == 1);
    let outgoing = make(one);
    (store, outgoing)
}

/// A base as the mirror may have it from a time when it was alone.
fn with_a_base(dir: &Path) {
    let replica = eager().open(dir, &other()).unwrap();
    let state = replica.engine.state;
    drop(replica);
    super::rewrite::checkpointed(dir);
    fs::create_dir_all(base::folder(dir)).unwrap();
    fs::copy(dir.join("index.sqlite"), base::unfinished(dir)).unwrap();
    let disk = crate::testing::Setup::default_disk();
    let made = base::Base::put_in_place(dir, &disk, (state.link.seq, state.segment), &|| Ok(())).unwrap();
    assert_eq!(made.fault(dir, &other(), &|| Ok(())).unwrap(), None);
}

#[tokio::test]
async fn no_base_outlives_the_log_that_it_is_of_whenever_power_is_lost() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (store, outgoing) = apart(one.path(), two.path()).await;
    with_a_base(two.path());
    let old = Superblock::read(two.path()).unwrap().contiguous_from;
    let new = outgoing.offer().contiguous_from;
    assert!(old > 1 && new > old, "{old} {new}");
    let mirror = Follower::new(eager().open(two.path(), &other()).unwrap()).unwrap();
    let mut incoming = mirror.receive(1, outgoing.offer().clone()).unwrap();
    for file in outgoing.files() {
        send(&outgoing, &mut incoming, file, usize::MAX);
    }
    drop((incoming, mirror));
    let (before, after) = (rows_of(two.path()), rows_of(one.path()));
    let (mut were_new, mut steps, mut ended) = (0, 0, false);
    while !ended {
        for (taken_back, killed) in [(false, false), (true, false), (true, true)] {
            let dir = copy_of(two.path());
            let disk = Falling::default();
            let options =
                Options { disk: Arc::new(disk.clone()), segment_size: Some(16 << 10), ..Options::default() };
            let mirror = Follower::new(Replica::open_with(dir.path(), &other(), &options).unwrap()).unwrap();
            let mut incoming = mirror.receive(1, outgoing.offer().clone()).unwrap();
            for file in outgoing.files() {
                send(&outgoing, &mut incoming, file, usize::MAX);
            }
            disk.fall_after(steps);
            let installed = match incoming.complete(&mirror) {
                Ok(all) => mirror.install(1, &all).1.is_ok(),
                Err(_) => {
                    drop(mirror);
                    false
                }
            };
            disk.fall_after(0);
            if killed {
                // The next process finds what was in memory, and ends what was begun; then the power goes.
                disk.fall_after(usize::MAX);
                drop(Replica::open_with(dir.path(), &other(), &options).unwrap());
                disk.fall_after(0);
            }
            if taken_back {
                disk.take_back();
            }
            let what = format!("after {steps} steps, {taken_back} {killed}");
            drop(eager().open(dir.path(), &other()).unwrap_or_else(|e| panic!("{what}: {e}")));
            let block = Superblock::read(dir.path()).unwrap();
            let bases = base::list(dir.path()).unwrap().len();
            let is_new = rows_of(dir.path()) == after;
            assert!(is_new || !installed && rows_of(dir.path()) == before, "{what}");
            let expected = if is_new { (new, 0, false) } else { (old, 1, false) };
            assert_eq!((block.contiguous_from, bases, block.installing), expected, "{what}");
            let firsts = segment::list(&dir.path().join("log")).unwrap();
            assert!(firsts.contains(&block.contiguous_from), "{what}");
            were_new += u32::from(is_new);
            ended |= installed && taken_back && !killed;
        }
        steps += 1;
    }
    println!("{steps} steps, {were_new} times the new one");
    assert!(steps > 8 && were_new > 3, "{steps} {were_new}");
    drop(store.stop().await);
}
