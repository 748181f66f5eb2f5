//! Room that is given back: nothing that is still there is lost by it, whoever reads, writes or crashes meanwhile.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use mailcluster_types::{AccountId, ReplicaId, Seq};
use proptest::prelude::*;

use super::{
    property::{Step, act, step},
    rows::rows,
    support::{account, deliver, identity, mailbox, sound},
};
use crate::{
    Expunge, LogReader, OpenError, OpenGate, Replica, Store, View, base, schema, segment,
    superblock::Superblock, testing::Setup, tools,
};

const ME: &[ReplicaId] = &[ReplicaId(9)];

pub fn eager() -> Setup {
    Setup { segment_size: Some(16 << 10), eager_rewriting: true, ..Setup::default() }
}

/// All rows, but for where things lie.
pub fn content(dir: &Path) -> Vec<String> {
    rows(dir, &["segment", "offset", "start", "end"])
}

/// Every body that the index has, by its row; who reads them sees whether they are what they were.
pub fn bodies(dir: &Path, view: &View) -> BTreeMap<u64, Vec<u8>> {
    let conn = schema::open_reader(dir).unwrap();
    let mut query = conn.prepare("SELECT id FROM body").unwrap();
    let ids: Vec<u64> = query.query_map([], |r| r.get(0)).unwrap().map(Result::unwrap).collect();
    ids.into_iter().map(|id| (id, view.body(id).unwrap().to_vec())).collect()
}

/// Octets of segments and packs.
pub fn octets(dir: &Path) -> u64 {
    let files = fs::read_dir(dir.join("log")).unwrap();
    files.map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

pub fn serve(setup: &Setup, dir: &Path) -> Store {
    let replica = match Superblock::read(dir) {
        Ok(_) => setup.open(dir, &identity()).unwrap(),
        Err(_) => setup.initialise(dir, &identity()).unwrap(),
    };
    let epoch = replica.describe().last_epoch + 1;
    replica.serve(epoch, ME, Arc::new(OpenGate)).unwrap()
}

/// A text that says which it is.
pub fn text(n: u64, octets: usize) -> String {
    format!("Subject: {n}\r\n\r\n{}\r\n", format!("{n} ").repeat(octets / 4))
}

/// A store of two accounts of which most mail is gone again, of all but the first `kept` of twenty: most segments have none.
pub async fn mostly_gone(store: &Store, messages: u64, octets: usize, kept: u32) {
    gone(store, (messages, octets), |uid| uid % 20 < kept).await;
}

/// The same, but for each third message: every segment has some.
pub async fn thinned(store: &Store, messages: u64, octets: usize) {
    gone(store, (messages, octets), |uid| uid % 3 == 1).await;
}

async fn gone(store: &Store, (messages, octets): (u64, usize), stays: impl Fn(u32) -> bool) {
    for n in 1..=2 {
        if store.read(move |v| v.account(AccountId(n))).await.unwrap().is_none() {
            store.put_account(account(n)).await.unwrap().acknowledge().unwrap();
        }
    }
    for n in 0..messages {
        deliver(store, 1 + u128::from(n % 2), &text(n, octets)).await;
    }
    for n in 1..=2 {
        let inbox = mailbox(store, n, "INBOX").await;
        let gone = (1..inbox.uid_next).filter(|uid| !stays(*uid)).collect();
        store.expunge(inbox.id, Expunge::These(gone)).await.unwrap().acknowledge().unwrap();
    }
}

fn without_index(dir: &Path) {
    schema::remove(dir).unwrap();
}

/// An index that is none.
pub fn without_sense(dir: &Path) {
    schema::remove(dir).unwrap();
    fs::write(schema::path(dir), "no index").unwrap();
}

/// All of the index is in its file, and none in its write-ahead log.
pub fn checkpointed(dir: &Path) {
    let conn = rusqlite::Connection::open(schema::path(dir)).unwrap();
    conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
}

fn clean(dir: &Path) {
    let scratch = tempfile::tempdir().unwrap();
    let mut said = Vec::new();
    let mut tell = |_: &tools::Checked, line: Option<&str>| said.extend(line.map(str::to_owned));
    let checked = tools::fsck(dir, Some(scratch.path()), &mut tell).unwrap();
    assert_eq!(checked.problems, 0, "{said:?}");
}

#[tokio::test]
async fn what_is_gone_gives_its_room_back_and_what_is_there_stays() {
    let dir = tempfile::tempdir().unwrap();
    let store = serve(&eager(), dir.path());
    mostly_gone(&store, 240, 1500, 4).await;
    let (before, rows_before) = (octets(dir.path()), content(dir.path()));
    let texts = bodies(dir.path(), &store_view(&store).await);
    assert_eq!(Superblock::read(dir.path()).unwrap().format(), 1, "as older versions know it");
    let done = store.reclaim().await.unwrap();
    assert!(done.files > 10 && done.removed > done.packed * 2, "{done:?}");
    assert!(octets(dir.path()) < before / 2, "{before}: {}", octets(dir.path()));
    assert_eq!(store.stats().removed_files(), (done.files, done.removed));
    assert!(content(dir.path()) == rows_before, "the index differs in more than places");
    assert_eq!(bodies(dir.path(), &store_view(&store).await), texts);
    sound(&store).await;
    // Nothing that was given back is sent to a mirror.
    let first = LogReader::first(dir.path()).unwrap();
    assert!(first > 1);
    assert!(LogReader::after(dir.path(), identity(), 0).is_err());
    assert!(LogReader::after(dir.path(), identity(), first - 2).is_err());
    let (_, end) = store.committed();
    let mut reader = LogReader::after(dir.path(), identity(), first - 1).unwrap();
    let mut last = first - 1;
    while let Some(batch) = reader.next(end).unwrap() {
        assert_eq!(batch.seq, last + 1);
        last = batch.seq + Seq::from(batch.count) - 1;
    }
    assert_eq!(last, end);
    assert_eq!(store.reclaim().await.unwrap().files, 0, "there is no more to be had");
    drop(store.stop().await);
    assert_eq!(Superblock::read(dir.path()).unwrap().format(), 3, "older versions must not open it");
    clean(dir.path());
    let grown = content(dir.path());
    without_index(dir.path());
    let replica = eager().open(dir.path(), &identity()).unwrap();
    assert_eq!(bodies(dir.path(), &replica.view()), texts, "by an index that was made anew");
    assert!(content(dir.path()) == grown, "the index made anew differs");
}

/// A view of now.
pub async fn store_view(store: &Store) -> View {
    let (sender, receiver) = std::sync::mpsc::channel();
    let told = store.read(move |view| Ok(sender.send(view.again()).is_ok())).await.unwrap();
    assert!(told);
    receiver.recv().unwrap()
}

#[tokio::test]
async fn rewriting_goes_on_from_packs_and_bases_of_earlier_rounds() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = serve(&eager(), dir.path());
    for round in 0..4u32 {
        mostly_gone(&store, 80, 1500, 16).await;
        store.reclaim().await.unwrap();
        let inbox = mailbox(&store, 1, "INBOX").await;
        let some = (1..inbox.uid_next).filter(|uid| uid % 3 == round % 3).collect();
        store.expunge(inbox.id, Expunge::These(some)).await.unwrap().acknowledge().unwrap();
        store.reclaim().await.unwrap();
        let texts = bodies(dir.path(), &store_view(&store).await);
        drop(store.stop().await);
        clean(dir.path());
        assert_eq!(base::list(dir.path()).unwrap().len(), 1, "old bases go");
        if round % 2 == 1 {
            without_index(dir.path());
        }
        store = serve(&eager(), dir.path());
        assert_eq!(bodies(dir.path(), &store_view(&store).await), texts);
        sound(&store).await;
    }
    assert!(!segment::packs(&dir.path().join("log")).unwrap().is_empty());
}

async fn run(steps: Vec<Step>) {
    let dir = tempfile::tempdir().unwrap();
    let mut store = serve(&eager(), dir.path());
    for n in 1..=3 {
        store.put_account(account(n)).await.unwrap().acknowledge().unwrap();
    }
    let mut last = None;
    for (n, step) in steps.into_iter().enumerate() {
        if matches!(step, Step::Reopen) {
            drop(store.stop().await);
            store = serve(&eager(), dir.path());
        } else {
            act(&store, step, &mut last).await;
        }
        if n % 16 == 15 {
            let before = (content(dir.path()), bodies(dir.path(), &store_view(&store).await));
            store.reclaim().await.unwrap();
            let after = (content(dir.path()), bodies(dir.path(), &store_view(&store).await));
            assert_eq!(after, before);
        }
    }
    sound(&store).await;
    let texts = bodies(dir.path(), &store_view(&store).await);
    drop(store.stop().await);
    clean(dir.path());
    let grown = content(dir.path());
    without_index(dir.path());
    let replica = eager().open(dir.path(), &identity()).unwrap();
    assert_eq!(content(dir.path()), grown, "made anew and grown differ");
    assert_eq!(bodies(dir.path(), &replica.view()), texts);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 100, ..ProptestConfig::default() })]
    #[test]
    fn whatever_was_done_rewriting_changes_places_only(steps in proptest::collection::vec(step(), 40..140)) {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
            .block_on(run(steps));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_comes_and_goes_while_room_is_given_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = serve(&eager(), dir.path());
    mostly_gone(&store, 200, 1500, 4).await;
    let work = |who: u128| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut there = BTreeMap::new();
            for n in 0..60 {
                let text = text(n, 1000);
                let (mailbox, uid) = deliver(&store, who, &text).await;
                there.insert(uid, text);
                if n % 3 > 0 {
                    there.remove(&uid);
                    let gone = store.expunge(mailbox, Expunge::These(vec![uid])).await.unwrap();
                    assert_eq!(gone.acknowledge().unwrap(), [uid]);
                }
            }
            there
        })
    };
    let workers = [work(1), work(2)];
    let mut given_back = 0;
    while workers.iter().any(|worker| !worker.is_finished()) {
        given_back += store.reclaim().await.unwrap().files;
    }
    given_back += store.reclaim().await.unwrap().files;
    assert!(given_back > 10, "{given_back}");
    for (who, worker) in (1..).zip(workers) {
        let there = worker.await.unwrap();
        let inbox = mailbox(&store, who, "INBOX").await;
        let found = store.read(move |v| {
            let messages = v.messages(inbox.id, 1, u32::MAX)?;
            messages
                .iter()
                .map(|m| Ok((m.uid, v.body(m.body)?.to_vec())))
                .collect::<Result<BTreeMap<_, _>, _>>()
        });
        let found = found.await.unwrap();
        for (uid, text) in there {
            assert!(found[&uid].ends_with(text.as_bytes()), "message {uid} of {who}");
        }
    }
    sound(&store).await;
    drop(store.stop().await);
    clean(dir.path());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_being_read_is_read_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let store = serve(&Setup { segment_size: Some(512 << 10), ..eager() }, dir.path());
    store.put_account(account(1)).await.unwrap().acknowledge().unwrap();
    // Longer than a piece, in one segment: the first goes while it is read, the second stays and moves.
    let long = [text(7, 150_000), text(8, 150_000), text(9, 150_000)];
    for text in &long {
        deliver(&store, 1, text).await;
    }
    mostly_gone(&store, 200, 15_000, 4).await;
    let inbox = mailbox(&store, 1, "INBOX").await.id;
    let reading = store.read(move |v| {
        let messages = v.messages(inbox, 1, 2)?;
        Ok([v.stored_body(messages[0].body)?, v.stored_body(messages[1].body)?])
    });
    let reading = reading.await.unwrap();
    store.expunge(inbox, Expunge::These(vec![1, 3])).await.unwrap().acknowledge().unwrap();
    let view = store_view(&store).await;
    let seen = bodies(dir.path(), &view);
    let before = segment::list(&dir.path().join("log")).unwrap();
    let reclaiming = tokio::spawn({
        let store = store.clone();
        async move { store.reclaim().await.unwrap() }
    });
    // The rows of the first segment have moved, and the view's are where they were.
    let conn = schema::open_reader(dir.path()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let moved = || {
        let sql = "SELECT count(*) FROM body WHERE segment=?";
        conn.query_row(sql, [before[0]], |r| r.get::<_, u64>(0)).unwrap() == 0
    };
    while !moved() {
        assert!(Instant::now() < deadline, "nothing moves");
        std::thread::yield_now();
    }
    // It is not removed as long as the view is there, however long that is looked at.
    let watched = Instant::now() + Duration::from_millis(300);
    while Instant::now() < watched {
        assert_eq!(segment::list(&dir.path().join("log")).unwrap()[0], before[0]);
        std::thread::yield_now();
    }
    for (id, text) in &seen {
        assert_eq!(view.body(*id).unwrap(), text, "by a view of before");
    }
    drop(view);
    assert!(reclaiming.await.unwrap().files > 0);
    assert!(segment::list(&dir.path().join("log")).unwrap()[0] > before[0]);
    for (reading, long) in reading.into_iter().zip(&long) {
        let read = store.read(move |v| {
            let mut text = Vec::new();
            while (text.len() as u64) < reading.size() {
                text.extend_from_slice(&v.piece(&reading, text.len() as u64)?);
            }
            Ok(text)
        });
        assert!(read.await.unwrap().ends_with(long.as_bytes()));
    }
}

#[tokio::test]
async fn without_room_for_a_new_base_the_old_one_says_what_may_go() {
    let dir = tempfile::tempdir().unwrap();
    let free = Arc::new(AtomicU64::new(50 << 30));
    let setup = Setup { free: Some(free.clone()), ..eager() };
    let store = serve(&setup, dir.path());
    mostly_gone(&store, 120, 1500, 4).await;
    assert!(store.reclaim().await.unwrap().files > 0);
    let base = base::list(dir.path()).unwrap();
    mostly_gone(&store, 240, 1500, 0).await;
    // Half of what is kept free of 100 GiB: a base may not use it.
    free.store(4 << 29, Ordering::Relaxed);
    let deadline = Instant::now() + Duration::from_secs(30);
    while store.read(|v| v.usage()).await.unwrap().free_octets > 3 << 30 {
        assert!(Instant::now() < deadline, "the room is not looked at again");
    }
    store.reclaim().await.unwrap();
    assert_eq!(base::list(dir.path()).unwrap(), base);
    drop(store.stop().await);
    let grown = content(dir.path());
    without_index(dir.path());
    drop(eager().open(dir.path(), &identity()).unwrap());
    assert!(content(dir.path()) == grown, "the index made anew differs");
}

#[tokio::test]
async fn a_log_that_others_copy_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let both = [ReplicaId(9), ReplicaId(10)];
    let replica = eager().initialise(dir.path(), &identity()).unwrap();
    let store = replica.serve(1, &both, Arc::new(OpenGate)).unwrap();
    mostly_gone(&store, 200, 1500, 4).await;
    assert_eq!(store.reclaim().await.unwrap().files, 0);
    store.note_in_sync(2, ME).await.unwrap();
    assert!(store.reclaim().await.unwrap().files > 0);
}

#[tokio::test]
async fn an_index_cannot_be_made_anew_without_its_base_and_what_packs_know_is_exported() {
    let dir = tempfile::tempdir().unwrap();
    let store = serve(&eager(), dir.path());
    mostly_gone(&store, 240, 1500, 4).await;
    store.reclaim().await.unwrap();
    drop(store.stop().await);
    let kept = eager().open(dir.path(), &identity()).unwrap();
    let there = bodies(dir.path(), &kept.view());
    drop(kept);
    let found = base::list(dir.path()).unwrap().remove(0).path(dir.path());
    let mut octets = fs::read(&found).unwrap();
    let middle = octets.len() / 2;
    octets[middle] ^= 1;
    fs::write(&found, octets).unwrap();
    let checked = tools::fsck(dir.path(), None, &mut |_, _| ()).unwrap();
    assert_eq!(checked.problems, 1, "the base");
    without_sense(dir.path());
    let error = eager().open(dir.path(), &identity()).err().unwrap();
    assert!(matches!(error, OpenError::Damaged(_)), "{error}");
    assert!(schema::path(dir.path()).exists(), "nothing was changed");
    let out = dir.path().join("export");
    let done = tools::export_maildir(dir.path(), &out, &mut |_, _| ()).unwrap();
    assert_eq!(done.damaged, 0);
    let mut exported = BTreeSet::new();
    // Those of which only the log tells are in mailboxes without a name.
    for home in [1, 2].map(|n| out.join(format!("user{n}@example.org"))) {
        for folder in fs::read_dir(home).unwrap().map(|entry| entry.unwrap().path()) {
            let folder = if folder.ends_with("cur") { folder } else { folder.join("cur") };
            let Ok(messages) = fs::read_dir(folder) else { continue };
            exported.extend(messages.map(|message| fs::read(message.unwrap().path()).unwrap()));
        }
    }
    let lost = there.values().filter(|text| !exported.contains(*text)).count();
    assert_eq!((lost, there.len()), (0, 48), "of {done:?}");
}

#[test]
fn a_store_without_packs_opens_as_before() {
    let dir = tempfile::tempdir().unwrap();
    drop(Replica::initialise(dir.path(), &identity()).unwrap());
    let octets = fs::read(crate::superblock::path(dir.path())).unwrap();
    assert_eq!(octets[8..12], 1u32.to_le_bytes());
    Replica::open(dir.path(), &identity()).unwrap();
}
