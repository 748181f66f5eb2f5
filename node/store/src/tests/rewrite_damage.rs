//! Damage beside giving room back: what is damaged costs itself and nothing else, and nothing is made of what is doubtful.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    rewrite::{
        bodies, checkpointed, content, eager, mostly_gone, octets, serve, store_view, text, thinned,
        without_sense,
    },
    rewrite_faults::{Faulty, serve_on},
    support::{account, deliver, identity},
};
use crate::{
    OpenError, base, schema, segment,
    superblock::{self, Superblock},
    tools,
};

fn flip(path: &Path, at: usize) {
    let mut octets = fs::read(path).unwrap();
    octets[at] ^= 1;
    fs::write(path, octets).unwrap();
}

/// Where these octets stand in a file.
fn find(path: &Path, octets: &[u8]) -> Option<usize> {
    fs::read(path).unwrap().windows(octets.len()).position(|window| window == octets)
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let log = dir.join("log");
    let numbers = [segment::list(&log).unwrap(), segment::packs(&log).unwrap()].concat();
    numbers.into_iter().map(|number| segment::path(&log, number)).collect()
}

#[tokio::test]
async fn an_index_is_not_made_anew_from_a_pack_that_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let store = serve(&eager(), dir.path());
    thinned(&store, 240, 1500).await;
    store.reclaim().await.unwrap();
    let there = bodies(dir.path(), &store_view(&store).await).len();
    drop(store.stop().await);
    let pack = files(dir.path()).into_iter().find(|path| path.extension().is_some_and(|e| e == "pack"));
    flip(&pack.unwrap(), 4096 + 1500);
    let checked = tools::fsck(dir.path(), None, &mut |_, _| ()).unwrap();
    assert!(checked.problems > 0);
    checkpointed(dir.path());
    let index = fs::read(schema::path(dir.path())).unwrap();
    without_sense(dir.path());
    let error = eager().open(dir.path(), &identity()).err().unwrap();
    assert!(matches!(error, OpenError::Damaged(_)), "{error}");
    assert_eq!(fs::read(schema::path(dir.path())).unwrap(), b"no index", "nothing was changed");
    schema::remove(dir.path()).unwrap();
    for _ in 0..2 {
        let error = eager().open(dir.path(), &identity()).err().unwrap();
        assert!(matches!(error, OpenError::Damaged(_)), "{error}");
    }
    let done = tools::export_maildir(dir.path(), &dir.path().join("export"), &mut |_, _| ()).unwrap();
    assert!(done.messages + 12 >= there as u64, "{done:?} of {there}");
    // With its index, all that is whole can be read, and more room is given back.
    schema::remove(dir.path()).unwrap();
    fs::write(schema::path(dir.path()), index).unwrap();
    let store = serve(&eager(), dir.path());
    mostly_gone(&store, 240, 1500, 0).await;
    assert!(store.reclaim().await.unwrap().files > 10);
}

#[tokio::test]
async fn a_base_is_no_copy_of_an_index_that_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let store = serve(&eager(), dir.path());
    mostly_gone(&store, 240, 1500, 4).await;
    drop(store.stop().await);
    let page: usize = {
        let conn = schema::open_reader(dir.path()).unwrap();
        let sql = "SELECT rootpage FROM sqlite_master WHERE name='history_delivery'";
        conn.query_row(sql, [], |r| r.get(0)).unwrap()
    };
    // Nothing that this test does reads it.
    checkpointed(dir.path());
    let mut index = fs::read(schema::path(dir.path())).unwrap();
    index[(page - 1) * 4096..][..2048].fill(0xee);
    fs::write(schema::path(dir.path()), index).unwrap();
    let store = serve(&eager(), dir.path());
    let before = files(dir.path());
    for _ in 0..2 {
        let refused = store.reclaim().await.unwrap_err();
        assert!(refused.contains("damaged"), "{refused}");
    }
    assert_eq!(base::list(dir.path()).unwrap(), []);
    assert_eq!(files(dir.path()), before);
    let left = fs::read_dir(base::folder(dir.path())).unwrap().count();
    assert_eq!(left, 0, "of the copy nothing is left");
}

/// A store that has a base, and a log that is whole: what should have said otherwise could not be written.
async fn with_a_base_and_a_whole_log(dir: &Path) {
    let faulty = Faulty::new(|op, path| (op == "create" && path.ends_with("superblock.new")).then_some(28));
    let store = serve(&eager(), dir);
    mostly_gone(&store, 240, 1500, 4).await;
    drop(store.stop().await);
    let store = serve_on(&faulty, dir);
    store.reclaim().await.unwrap_err();
    drop(store.stop().await);
    assert_eq!(base::list(dir).unwrap().len(), 1);
    assert_eq!(Superblock::read(dir).unwrap().contiguous_from, 0);
}

#[tokio::test]
async fn a_base_goes_when_the_index_is_made_anew_from_the_log_alone() {
    let dir = tempfile::tempdir().unwrap();
    with_a_base_and_a_whole_log(dir.path()).await;
    let grown = content(dir.path());
    schema::remove(dir.path()).unwrap();
    drop(eager().open(dir.path(), &identity()).unwrap());
    assert_eq!(base::list(dir.path()).unwrap(), []);
    assert!(content(dir.path()) == grown);
}

#[tokio::test]
async fn a_base_of_another_version_or_log_is_none() {
    for what in ["version", "replica", "log"] {
        let dir = tempfile::tempdir().unwrap();
        with_a_base_and_a_whole_log(dir.path()).await;
        let old = base::list(dir.path()).unwrap().remove(0).path(dir.path());
        let conn = rusqlite::Connection::open(&old).unwrap();
        conn.execute_batch(match what {
            "version" => "PRAGMA user_version=1",
            "replica" => "UPDATE state SET replica=zeroblob(16)",
            _ => "UPDATE state SET crc=crc+1",
        })
        .unwrap();
        drop(conn);
        let crc = crc32c::crc32c(&fs::read(&old).unwrap());
        let name = old.file_name().unwrap().to_str().unwrap();
        let name = format!("{}{crc:08x}.db", &name[..name.len() - 11]);
        fs::rename(&old, old.with_file_name(name)).unwrap();
        let store = serve(&eager(), dir.path());
        assert!(store.reclaim().await.unwrap().files > 10);
        drop(store.stop().await);
        let grown = content(dir.path());
        schema::remove(dir.path()).unwrap();
        drop(eager().open(dir.path(), &identity()).unwrap_or_else(|e| panic!("{what}: {e}")));
        assert!(content(dir.path()) == grown, "{what}");
    }
}

#[tokio::test]
async fn damage_that_a_base_does_not_need_costs_no_more_than_itself() {
    let dir = tempfile::tempdir().unwrap();
    let store = serve(&eager(), dir.path());
    for n in 1..=3 {
        store.put_account(account(n)).await.unwrap().acknowledge().unwrap();
    }
    // All of it stays where it is, in the first segments.
    let first = text(7_777_777, 1500);
    deliver(&store, 3, &first).await;
    for n in 0..30 {
        deliver(&store, 3, &text(n, 1500)).await;
    }
    mostly_gone(&store, 240, 1500, 4).await;
    assert!(store.reclaim().await.unwrap().files > 10);
    drop(store.stop().await);
    let (path, at) = files(dir.path())
        .into_iter()
        .find_map(|path| Some((path.clone(), find(&path, b"Subject: 7777777\r\n")?)))
        .unwrap();
    assert!(path.extension().is_some_and(|e| e == "seg"), "it has moved: {}", path.display());
    flip(&path, at + 100);
    let grown = content(dir.path());
    without_sense(dir.path());
    let replica = eager().open(dir.path(), &identity()).unwrap();
    assert!(content(dir.path()) == grown);
    let view = replica.view();
    let inbox = view.mailbox_by_name(mailcluster_types::AccountId(3), "INBOX").unwrap().unwrap();
    let read: Vec<_> =
        view.messages(inbox.id, 1, u32::MAX).unwrap().iter().map(|m| view.body(m.body).is_ok()).collect();
    assert_eq!((read.len(), read[0], read[1..].contains(&false)), (31, false, false));
}

#[tokio::test]
async fn a_file_that_cannot_be_read_keeps_its_room_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let store = serve(&eager(), dir.path());
    thinned(&store, 240, 1500).await;
    drop(store.stop().await);
    // As good as sectors that cannot be read: opening it works, and reading fails.
    let unreadable = files(dir.path()).remove(3);
    fs::remove_file(&unreadable).unwrap();
    fs::create_dir(&unreadable).unwrap();
    let store = serve(&eager(), dir.path());
    assert!(store.reclaim().await.unwrap().files > 10);
    assert!(unreadable.exists());
    thinned(&store, 240, 1500).await;
    assert!(store.reclaim().await.unwrap().files > 10, "the next round gives back, too");
    drop(store.stop().await);
    // The same of a base.
    let found = base::list(dir.path()).unwrap().remove(0).path(dir.path());
    fs::remove_file(&found).unwrap();
    fs::create_dir(&found).unwrap();
    let store = serve(&eager(), dir.path());
    thinned(&store, 240, 1500).await;
    assert!(store.reclaim().await.unwrap().files > 10);
    assert!(base::list(dir.path()).unwrap()[0].path(dir.path()).is_file(), "there is a new one");
}

#[tokio::test]
async fn what_is_wholly_dead_goes_whatever_happens_to_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let store = serve(&eager(), dir.path());
    mostly_gone(&store, 240, 1500, 0).await;
    thinned(&store, 240, 1500).await;
    drop(store.stop().await);
    let before = octets(dir.path());
    let faulty = Faulty::new(|op, path| (op == "create" && path.ends_with("pack.new")).then_some(5));
    let store = serve_on(&faulty, dir.path());
    store.reclaim().await.unwrap_err();
    assert!(octets(dir.path()) * 10 < before * 7, "{before}: {}", octets(dir.path()));
    drop(store.stop().await);
    assert!(superblock::path(dir.path()).exists());
}
