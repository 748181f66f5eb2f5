//! Crashes: the log is cut or damaged anywhere, the index is current, old or gone. What was synced is there once,
//! what was not is wholly there or not at all, and no UID names two messages.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use mailcluster_types::{AccountId, ReplicaId, Seq};
use tempfile::TempDir;

use super::support::{account, delivery, identity, mailbox, target};
use crate::{
    CopyKind, Delivered, Expunge, FlagChange, FlagOp, Flags, LogReader, OpenError, OpenGate, Replica, Store,
    SystemFlag, View,
    batch::{HEADER, Header},
    segment::{self, SEGMENT_HEADER},
    testing::Setup,
};

const ME: &[ReplicaId] = &[ReplicaId(9)];

fn setup() -> Setup {
    Setup { segment_size: Some(12 << 10), ..Setup::default() }
}

/// All messages of all accounts: (account, mailbox, UID) to text and flags.
type Content = BTreeMap<(u128, String, u32), (String, u8)>;

fn content(view: &View) -> Content {
    let mut all = Content::new();
    for account in view.accounts(None, 100).unwrap() {
        for mailbox in view.mailboxes(account.id).unwrap() {
            for m in view.messages(mailbox.id, 1, u32::MAX).unwrap() {
                let text = String::from_utf8(view.body(m.body).unwrap().to_vec()).unwrap();
                all.insert((account.id.0, mailbox.name.clone(), m.uid), (text, m.flags.system));
            }
        }
    }
    all
}

/// A store's life, with what was true after each acknowledged change and copies of the index on the way.
struct History {
    dir: TempDir,
    /// After which sequence which content.
    states: BTreeMap<Seq, Content>,
    /// Copies of the index, by the sequence they are up to.
    indexes: BTreeMap<Seq, TempDir>,
}

fn copy_files(from: &Path, to: &Path, wanted: impl Fn(&str) -> bool) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if wanted(&name) && entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), to.join(name)).unwrap();
        }
    }
}

async fn note(history: &mut History, store: &Store) {
    let seq = store.committed().1;
    history.states.insert(seq, store.read(|v| Ok(content(v))).await.unwrap());
    if seq.is_multiple_of(5) {
        let copy = tempfile::tempdir().unwrap();
        copy_files(history.dir.path(), copy.path(), |n| {
            n.starts_with("index.sqlite") && !n.ends_with("-shm")
        });
        history.indexes.insert(seq, copy);
    }
}

/// Lives, and dies without a clean end: `dir` is a copy taken while the store served.
async fn live() -> History {
    let home = tempfile::tempdir().unwrap();
    let store =
        setup().initialise(home.path(), &identity()).unwrap().serve(1, ME, Arc::new(OpenGate)).unwrap();
    let mut history = History { dir: home, states: BTreeMap::new(), indexes: BTreeMap::new() };
    for n in 1..=2 {
        store.put_account(account(n)).await.unwrap().acknowledge().unwrap();
        note(&mut history, &store).await;
    }
    let trash = mailbox(&store, 1, "Trash").await;
    for n in 0..14u32 {
        let targets = if n % 3 == 0 { vec![target(1), target(2)] } else { vec![target(1)] };
        let text = format!("message {n} {}", "x".repeat(2000));
        let done = store.deliver(delivery(targets, &text)).await.unwrap().acknowledge().unwrap();
        note(&mut history, &store).await;
        let Delivered::Stored { mailbox, uid } = done[0] else { panic!("{done:?}") };
        let flags = Flags::default().with(SystemFlag::Seen);
        let change = FlagChange { mailbox, uids: vec![uid], op: FlagOp::Add, flags, unchanged_since: None };
        match n % 4 {
            0 => drop(store.set_flags(change).await.unwrap().acknowledge().unwrap()),
            1 => {
                let moved = store.copy(mailbox, vec![uid], trash.id, CopyKind::Move).await.unwrap();
                moved.acknowledge().unwrap();
            }
            2 => {
                drop(store.expunge(mailbox, Expunge::These(vec![uid])).await.unwrap().acknowledge().unwrap())
            }
            _ => continue,
        }
        note(&mut history, &store).await;
    }
    let copy = tempfile::tempdir().unwrap();
    fs::create_dir(copy.path().join("log")).unwrap();
    copy_files(history.dir.path(), copy.path(), |n| n == "superblock");
    copy_files(&history.dir.path().join("log"), &copy.path().join("log"), |n| n.ends_with(".seg"));
    drop(store.stop().await);
    history.dir = copy;
    history
}

/// Where the batches of a log lie: (segment, start, end, last sequence).
fn batches(dir: &Path) -> Vec<(PathBuf, u64, u64, Seq)> {
    let log = dir.join("log");
    let mut found = Vec::new();
    for first in segment::list(&log).unwrap() {
        let path = segment::path(&log, first);
        let bytes = fs::read(&path).unwrap();
        let mut at = SEGMENT_HEADER;
        while let Some(header) = bytes.get(usize::try_from(at).unwrap()..).and_then(Header::decode) {
            found.push((path.clone(), at, at + header.span(), header.last_seq()));
            at += header.span();
        }
    }
    found
}

/// A copy of the history's log, cut in `segment` at `cut` (later segments never were), with an index that is at most
/// `index` old.
fn crashed(history: &History, (segment, cut): (&Path, u64), index: Option<Seq>) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    fs::create_dir(&log).unwrap();
    copy_files(history.dir.path(), dir.path(), |n| n == "superblock");
    let name = segment.file_name().unwrap().to_str().unwrap();
    copy_files(&history.dir.path().join("log"), &log, |n| n <= name);
    let file = fs::OpenOptions::new().write(true).open(log.join(name)).unwrap();
    let len = file.metadata().unwrap().len();
    file.set_len(cut).unwrap();
    // Reserved room reads as zeros.
    file.set_len(len).unwrap();
    if let Some((_, copy)) = index.and_then(|seq| history.indexes.range(..=seq).next_back()) {
        copy_files(copy.path(), dir.path(), |_| true);
    }
    dir
}

fn check_content(history: &History, replica: &Replica, seq: Seq) {
    let view = replica.view();
    assert_eq!(view.verify().unwrap(), Vec::<String>::new());
    let expected = history.states.range(..=seq).next_back().map(|(_, c)| c.clone()).unwrap_or_default();
    assert_eq!(content(&view).keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "up to {seq}");
    assert_eq!(content(&view), expected, "up to {seq}");
}

/// After a crash mail goes on, under UIDs that nobody has.
async fn goes_on(replica: Replica, dir: &Path) {
    let epoch = replica.describe().last_epoch + 1;
    let store = replica.serve(epoch, ME, Arc::new(OpenGate)).unwrap();
    if store.read(|v| v.account(AccountId(1))).await.unwrap().is_some() {
        let inbox = mailbox(&store, 1, "INBOX").await;
        let done = store.deliver(delivery(vec![target(1)], "later")).await.unwrap().acknowledge().unwrap();
        assert_eq!(done, [Delivered::Stored { mailbox: inbox.id, uid: inbox.uid_next }]);
    }
    let before = store.read(|v| Ok(content(v))).await.unwrap();
    drop(store.stop().await);
    let again = setup().open(dir, &identity()).unwrap();
    assert_eq!(content(&again.view()), before);
}

#[tokio::test]
async fn a_log_cut_anywhere_opens_with_all_that_was_whole() {
    let history = live().await;
    let all = batches(history.dir.path());
    assert!(all.iter().map(|(s, ..)| s).collect::<std::collections::BTreeSet<_>>().len() > 2);
    for (n, (segment, start, end, last)) in all.iter().enumerate().skip(1) {
        let whole_before = all[n - 1].3;
        let middle = (start + end) / 2;
        let header = HEADER as u64;
        // Every class of place for the last batches; one of them for the others.
        let cuts = [*start, start + 1, start + 40, start + header, middle, end - 8, *end];
        let wanted = if n + 4 >= all.len() { cuts.len() } else { 1 };
        for cut in cuts.iter().cycle().skip(n % 7).take(wanted) {
            // The last octets of a batch may be padding, which nothing misses.
            let seq = if *cut >= end - 8 { None } else { Some(whole_before) };
            for index in [None, Some(whole_before), Some(whole_before.saturating_sub(6))] {
                let dir = crashed(&history, (segment, *cut), index);
                let replica = setup().open(dir.path(), &identity()).unwrap();
                let end_seq = replica.describe().end.1;
                assert!(seq.is_none_or(|seq| seq == end_seq), "cut at {cut} of batch {n}: {end_seq}");
                assert!(end_seq == *last || end_seq == whole_before);
                check_content(&history, &replica, end_seq);
                if wanted > 1 && index.is_none() {
                    goes_on(replica, dir.path()).await;
                }
            }
        }
    }
}

/// A segment is made for what comes next, and power is lost before anything whole is in it: what the store then goes on
/// with must be found again, with the index and without it.
#[tokio::test]
async fn an_empty_segment_made_ahead_hides_nothing_that_follows() {
    let history = live().await;
    let all = batches(history.dir.path());
    let firsts = all.iter().skip(4).filter(|(_, start, ..)| *start == SEGMENT_HEADER);
    let mut tried = 0;
    for (segment, start, ..) in firsts {
        let dir = crashed(&history, (segment, *start), None);
        goes_on(setup().open(dir.path(), &identity()).unwrap(), dir.path()).await;
        let with_index = content(&setup().open(dir.path(), &identity()).unwrap().view());
        for entry in fs::read_dir(dir.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_str().unwrap().starts_with("index.sqlite") {
                fs::remove_file(path).unwrap();
            }
        }
        let rebuilt = content(&setup().open(dir.path(), &identity()).unwrap().view());
        assert_eq!(rebuilt.keys().collect::<Vec<_>>(), with_index.keys().collect::<Vec<_>>());
        tried += 1;
    }
    assert!(tried > 0);
}

#[tokio::test]
async fn damage_at_the_end_is_cut_and_damage_below_is_an_error() {
    let history = live().await;
    let all = batches(history.dir.path());
    let flip = |dir: &Path, (segment, at): (&Path, u64)| {
        let path = dir.join("log").join(segment.file_name().unwrap());
        let mut bytes = fs::read(&path).unwrap();
        bytes[usize::try_from(at).unwrap()] ^= 0x10;
        fs::write(path, bytes).unwrap();
    };
    let (segment, start, end, _) = all.last().unwrap();
    let before = all[all.len() - 2].3;
    for at in [*start, start + 30, start + 73, start + HEADER as u64 + 3, (start + end) / 2] {
        let dir = crashed(&history, (segment, *end), None);
        flip(dir.path(), (segment, at));
        let replica = setup().open(dir.path(), &identity()).unwrap();
        assert_eq!(replica.describe().end.1, before, "flipped at {at}");
        check_content(&history, &replica, before);
    }
    for (segment, start, end, last) in all.iter().rev().skip(1) {
        for at in [*start, (start + end) / 2] {
            let (last_segment, _, last_end, _) = all.last().unwrap();
            let dir = crashed(&history, (last_segment, *last_end), None);
            flip(dir.path(), (segment, at));
            let error = setup().open(dir.path(), &identity()).err().unwrap();
            assert!(
                matches!(error, OpenError::Damaged(_)),
                "flipped at {at} of the batch up to {last}: {error}"
            );
        }
    }
}

#[tokio::test]
async fn an_index_that_knows_more_than_the_log_is_refused() {
    let history = live().await;
    let all = batches(history.dir.path());
    let (&newest, _) = history.indexes.last_key_value().unwrap();
    let (segment, start, ..) = all.iter().find(|(.., last)| *last >= newest).unwrap();
    let dir = crashed(&history, (segment, *start), Some(newest));
    let error = setup().open(dir.path(), &identity()).err().unwrap();
    assert!(matches!(error, OpenError::Damaged(_)), "{error}");
}

#[tokio::test]
async fn the_tail_is_copied_forward_and_a_crash_in_between_does_no_harm() {
    let history = live().await;
    let all = batches(history.dir.path());
    let (segment, _, end, last) = all.last().unwrap();
    let dir = crashed(&history, (segment, *end), None);
    let files = |dir: &Path| segment::list(&dir.join("log")).unwrap();
    let before = files(dir.path());
    let replica = setup().open(dir.path(), &identity()).unwrap();
    check_content(&history, &replica, *last);
    drop(replica);
    let new: Vec<_> = files(dir.path()).into_iter().filter(|f| !before.contains(f)).collect();
    assert_eq!(new, [*last], "the one batch that nothing proved is in a segment of its own");
    // The copy has its name, but the old tail was not cut yet.
    let torn = crashed(&history, (segment, *end), None);
    let copy = segment::path(&dir.path().join("log"), *last);
    fs::copy(&copy, torn.path().join("log").join(copy.file_name().unwrap())).unwrap();
    let replica = setup().open(torn.path(), &identity()).unwrap();
    check_content(&history, &replica, *last);
    goes_on(replica, torn.path()).await;
    // A mirror is fed with each record once.
    let (mut reader, mut at) = (LogReader::after(torn.path(), identity(), 0).unwrap(), 0);
    while let Some(batch) = reader.next(*last + 2).unwrap() {
        assert_eq!(batch.seq, at + 1);
        at += u64::from(batch.count);
    }
    assert_eq!(at, *last + 2, "with the next epoch's start and a message");
    // A clean end leaves a mark: nothing is copied then.
    let before = files(dir.path());
    drop(setup().open(dir.path(), &identity()).unwrap());
    assert_eq!(files(dir.path()), before);
}

#[tokio::test]
async fn a_damaged_body_costs_that_message_only() {
    let history = live().await;
    let all = batches(history.dir.path());
    let (segment, _, end, last) = all.last().unwrap();
    let dir = crashed(&history, (segment, *end), None);
    drop(setup().open(dir.path(), &identity()).unwrap());
    let path = segment::path(&dir.path().join("log"), 1);
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(10).position(|w| w == b"message 0 ").unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
    let replica = setup().open(dir.path(), &identity()).unwrap();
    let view = replica.view();
    let inbox = view.mailbox_by_name(AccountId(1), "INBOX").unwrap().unwrap();
    let messages = view.messages(inbox.id, 1, u32::MAX).unwrap();
    let damaged = messages.iter().filter(|m| matches!(view.body(m.body), Err(crate::ReadError::Damaged(_))));
    assert_eq!(damaged.count(), 1);
    let damaged = |m: &&crate::Message| matches!(view.stored_body(m.body), Err(crate::ReadError::Damaged(_)));
    assert_eq!(messages.iter().filter(damaged).count(), 1);
    assert_eq!(replica.describe().end.1, *last);
}

#[tokio::test]
async fn an_unknown_record_is_never_skipped() {
    let history = live().await;
    let all = batches(history.dir.path());
    let (segment, start, end, _) = all.last().unwrap();
    let dir = crashed(&history, (segment, *end), None);
    let path = dir.path().join("log").join(segment.file_name().unwrap());
    let mut bytes = fs::read(&path).unwrap();
    let at = usize::try_from(*start).unwrap();
    let mut header = Header::decode(&bytes[at..]).unwrap();
    let payload = at + HEADER..at + HEADER + usize::try_from(header.length).unwrap();
    bytes[payload.start + 4..payload.start + 6].copy_from_slice(&999u16.to_le_bytes());
    header.payload_crc = crc32c::crc32c(&bytes[payload]);
    bytes[at..at + HEADER].copy_from_slice(&header.encode());
    fs::write(path, bytes).unwrap();
    let error = setup().open(dir.path(), &identity()).err().unwrap();
    assert!(matches!(error, OpenError::UnknownRecord { kind: 999, .. }), "{error}");
}
