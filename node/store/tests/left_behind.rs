//! F21: both lines have new mail. What a forced promotion left behind comes into the new line by net effect, each thing
//! once, and undoes nothing.
#![allow(clippy::panic, clippy::unwrap_used, reason = "tests")]

mod common;

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use bytes::Bytes;
use mailcluster_types::{AccountId, DeliveryId, ReplicaId, Seq, Uid};

use common::{STORE, account, delivery, delivery_id, identity, mailbox, sound, target};
use mailcluster_store::{
    Append, CopyKind, CreateMailbox, Delivery, Enqueue, Expunge, FlagChange, FlagOp, Flags, Follower,
    Identity, LogReader, Names, OpenGate, QueueRecipient, QueueUpdate, Replica, Store, SystemFlag,
    left_behind::{FileReader, Head, Item, Salvaged, file::Part, gather},
};

const OLD: ReplicaId = ReplicaId(9);
const NEW: ReplicaId = ReplicaId(10);
const THIRD: ReplicaId = ReplicaId(11);

fn of(replica: ReplicaId) -> Identity {
    Identity { replica, ..identity() }
}

async fn ok<T>(
    change: impl Future<Output = Result<mailcluster_store::Receipt<T>, mailcluster_store::WriteError>>,
) -> T {
    change.await.unwrap().acknowledge().unwrap()
}

/// INBOX, by delivery.
async fn deliver_as(store: &Store, id: DeliveryId, to: &str, body: &str) {
    let targets =
        vec![mailcluster_store::DeliveryTarget { mailbox: to.into(), prefix: Bytes::new(), ..target(1) }];
    ok(store.deliver(Delivery { id, ..delivery(targets, body) })).await;
}

async fn deliver(store: &Store, body: &str) {
    deliver_as(store, delivery_id(), "INBOX", body).await;
}

async fn flag(store: &Store, name: &str, uid: Uid, flag: SystemFlag, keyword: &str) {
    let keywords = if keyword.is_empty() { [].into() } else { [keyword.to_owned()].into() };
    let flags = Flags { system: flag as u8, keywords };
    let mailbox = mailbox(store, 1, name).await.id;
    let change = FlagChange { mailbox, uids: vec![uid], op: FlagOp::Add, flags, unchanged_since: None };
    ok(store.set_flags(change)).await;
}

async fn expunge(store: &Store, uid: Uid) {
    let inbox = mailbox(store, 1, "INBOX").await.id;
    ok(store.expunge(inbox, Expunge::These(vec![uid]))).await;
}

async fn copy(store: &Store, uid: Uid, kind: CopyKind) {
    let (from, to) = (mailbox(store, 1, "INBOX").await.id, mailbox(store, 1, "Work").await.id);
    ok(store.copy(from, vec![uid], to, kind)).await;
}

async fn create(store: &Store, name: &str) {
    ok(store.create_mailbox(CreateMailbox { account: AccountId(1), name: name.into(), special_use: None }))
        .await;
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

fn recipient(address: &str) -> QueueRecipient {
    QueueRecipient {
        account: Some(AccountId(77)),
        store: Some("mail-1".into()),
        ..QueueRecipient::new(address.into(), 0)
    }
}

async fn queue(store: &Store, id: DeliveryId, at: i64, addresses: &[&str]) {
    let recipients = addresses.iter().map(|a| recipient(a)).collect();
    let message = Enqueue {
        delivery: id,
        sender: "s@example.com".into(),
        at,
        params: String::new(),
        recipients,
        body: "queued\r\n".into(),
    };
    ok(store.queue_put(message)).await;
}

/// Everything that people see, without UIDs: mailboxes with texts and flags, subscriptions, the queue.
type Seen = BTreeMap<String, Vec<String>>;

async fn seen(store: &Store) -> Seen {
    let read = store.read(|view| {
        let mut seen = Seen::new();
        for mailbox in view.mailboxes(AccountId(1))? {
            let mut texts = Vec::new();
            for message in view.messages(mailbox.id, 1, Uid::MAX)? {
                let text = String::from_utf8(view.body(message.body)?.to_vec()).unwrap();
                let keywords: Vec<_> = message.flags.keywords.into_iter().collect();
                texts.push(
                    format!("{} {} {}", text.trim(), message.flags.system, keywords.join(","))
                        .trim()
                        .to_owned(),
                );
            }
            texts.sort();
            seen.insert(mailbox.name, texts);
        }
        seen.insert("subscribed".into(), view.subscriptions(AccountId(1))?);
        let queue = view.queue(None, 100)?.into_iter();
        let queue = queue.flat_map(|item| item.recipients).map(|r| format!("{} {}", r.address, r.held));
        seen.insert("queue".into(), queue.collect());
        Ok(seen)
    });
    read.await.unwrap()
}

/// The two lines, and a copy of the one left behind that has not heard what of it is committed.
struct Lines {
    old: tempfile::TempDir,
    new: tempfile::TempDir,
    third: tempfile::TempDir,
    /// The last record of both.
    parted: Seq,
}

fn follow(from: &Path, follower: &mut Follower, until: Seq) {
    let mut reader = LogReader::after(from, identity(), follower.end().seq).unwrap();
    while let Some(batch) = reader.next(until).unwrap() {
        follower.append(1, std::slice::from_ref(&batch)).unwrap();
    }
}

fn follower(dir: &Path, replica: ReplicaId) -> Follower {
    Follower::new(Replica::initialise(dir, &of(replica)).unwrap()).unwrap()
}

/// What both lines have: twelve messages in INBOX, UIDs 1 to 12.
async fn shared(store: &Store) -> [DeliveryId; 3] {
    ok(store.put_account(account(1))).await;
    create(store, "Work").await;
    create(store, "Names").await;
    for n in 1..=12 {
        deliver(store, &format!("m{n}")).await;
    }
    let ids = std::array::from_fn(|_| delivery_id());
    queue(store, ids[0], now(), &["done@example.net", "waits@example.net"]).await;
    ids
}

/// What only the line left behind has.
async fn left(store: &Store, [first, second, third]: [DeliveryId; 3], both: DeliveryId) {
    deliver(store, "lost").await;
    flag(store, "INBOX", 13, SystemFlag::Seen, "Mine").await;
    copy(store, 13, CopyKind::Copy).await;
    deliver_as(store, both, "INBOX", "both").await;
    let append = Append {
        mailbox: mailbox(store, 1, "Work").await.id,
        flags: Flags::default().with(SystemFlag::Draft),
        internal_date: 1_600_000_000,
        zone_minutes: 60,
        body: "appended\r\n".into(),
    };
    ok(store.append(append)).await;
    flag(store, "INBOX", 1, SystemFlag::Flagged, "").await;
    flag(store, "INBOX", 2, SystemFlag::Flagged, "").await;
    expunge(store, 3).await;
    expunge(store, 4).await;
    for uid in [5, 6, 7] {
        copy(store, uid, CopyKind::Move).await;
    }
    copy(store, 8, CopyKind::Copy).await;
    // As a client without MOVE does it, and seen there.
    copy(store, 9, CopyKind::Copy).await;
    expunge(store, 9).await;
    let work = mailbox(store, 1, "Work").await;
    flag(store, "Work", work.uid_next - 1, SystemFlag::Seen, "").await;
    flag(store, "INBOX", 10, SystemFlag::Flagged, "").await;
    create(store, "Only/There").await;
    deliver_as(store, delivery_id(), "Only/There", "there").await;
    // Came and went: nothing of it is left.
    deliver(store, "came and went").await;
    expunge(store, 15).await;
    ok(store.subscribe(AccountId(1), "Only/There".into(), true)).await;
    let names = mailbox(store, 1, "Names").await.id;
    ok(store.rename_mailbox(names, "Other".into())).await;
    queue(store, second, now(), &["new@example.net"]).await;
    queue(store, third, 1_700_000_000, &["old@example.net"]).await;
    let done = QueueUpdate::Done { outcome: "250".into() };
    ok(store.queue_update(first, "done@example.net".into(), done)).await;
}

/// What the new line has done since.
async fn since(store: &Store, both: DeliveryId) {
    flag(store, "INBOX", 2, SystemFlag::Answered, "").await;
    flag(store, "INBOX", 4, SystemFlag::Answered, "").await;
    flag(store, "INBOX", 6, SystemFlag::Answered, "").await;
    expunge(store, 7).await;
    expunge(store, 10).await;
    copy(store, 11, CopyKind::Move).await;
    deliver(store, "of the new line").await;
    // A queue that had no answer tried again.
    deliver_as(store, both, "INBOX", "both").await;
}

async fn lines() -> Lines {
    let [old, new, third] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    let mut first = follower(old.path(), OLD);
    let (_, end) = first.begin(1, &[OLD, NEW, THIRD]).unwrap();
    first.advance(end).unwrap();
    let store = first.into_replica().go_on(Arc::new(OpenGate)).unwrap();
    let queued = shared(&store).await;
    let both = delivery_id();
    let (_, parted) = store.committed();
    let (mut mirror, mut other) = (follower(new.path(), NEW), follower(third.path(), THIRD));
    follow(old.path(), &mut mirror, parted);
    mirror.advance(parted).unwrap();
    left(&store, queued, both).await;
    let (_, end) = store.committed();
    follow(old.path(), &mut other, end);
    other.advance(parted).unwrap();
    drop(other);
    drop(store.stop().await);
    let (_, start) = mirror.begin_forced(2, &[NEW], Names::Kept).unwrap();
    mirror.advance(start).unwrap();
    let store = mirror.into_replica().go_on(Arc::new(OpenGate)).unwrap();
    since(&store, both).await;
    drop(store.stop().await);
    Lines { old, new, third, parted }
}

fn file(dir: &Path, after: Seq) -> (Head, Vec<Item>) {
    let mut octets = Vec::new();
    let done = gather(dir, (1, after), &mut octets, &mut |_, _| {}).unwrap();
    let (mut reader, mut head, mut items) = (FileReader::default(), Head::default(), Vec::new());
    reader.push(&octets);
    while let Some(part) = reader.next_part().unwrap() {
        match part {
            Part::Head(found) => head = found,
            Part::Item(item) => items.push(item),
            Part::End(end) => assert_eq!((end.items, done.items), (items.len() as u64, items.len() as u64)),
        }
    }
    reader.finish().unwrap();
    (head, items)
}

fn serve(dir: &Path) -> Store {
    let replica = Replica::open(dir, &of(NEW)).unwrap();
    let epoch = replica.describe().last_epoch + 1;
    replica.serve(epoch, &[NEW], Arc::new(OpenGate)).unwrap()
}

async fn salvage(store: &Store, head: &Head, items: &[Item]) -> Salvaged {
    let mut all = Salvaged::default();
    for item in items {
        all.add(ok(store.salvage(head.modseq, item.clone())).await);
    }
    all
}

fn copy_store(from: &Path, to: &Path) {
    for part in ["", "log"] {
        fs::create_dir_all(to.join(part)).unwrap();
        for entry in fs::read_dir(from.join(part)).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                fs::copy(entry.path(), to.join(part).join(entry.file_name())).unwrap();
            }
        }
    }
}

fn expected() -> Seen {
    let list = |of: &[&str]| of.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    let mut seen = Seen::new();
    let inbox =
        ["both 0", "lost 1 Mine", "m1 4", "m12 0", "m2 2", "m4 2", "m6 2", "m8 0", "of the new line 0"];
    seen.insert("INBOX".into(), list(&inbox));
    seen.insert("Work".into(), list(&["appended 16", "lost 0", "m11 0", "m5 0", "m8 0", "m9 1"]));
    seen.insert("Only/There".into(), list(&["there 0"]));
    for name in ["Archive", "Drafts", "Junk", "Names", "Only", "Sent", "Trash"] {
        seen.insert(name.into(), Vec::new());
    }
    seen.insert(
        "subscribed".into(),
        list(&["Archive", "Drafts", "INBOX", "Junk", "Only/There", "Sent", "Trash"]),
    );
    seen.insert(
        "queue".into(),
        list(&["waits@example.net false", "new@example.net false", "old@example.net true"]),
    );
    seen
}

#[tokio::test]
async fn what_was_left_behind_comes_by_net_effect_and_undoes_nothing() {
    let lines = lines().await;
    let (head, items) = file(lines.old.path(), lines.parted);
    let store = serve(lines.new.path());
    let before = mailbox(&store, 1, "INBOX").await;
    let done = salvage(&store, &head, &items).await;
    let mut expected = expected();
    // The copy has the flags that it was copied with.
    expected.get_mut("Work").unwrap()[1] = "lost 1 Mine".into();
    assert_eq!(seen(&store).await, expected);
    let counts = done.counts;
    let all = (counts.messages, counts.moved, counts.flags, counts.expunged, counts.already);
    assert_eq!(all, (5, 2, 1, 1, 1), "lost twice, appended, m8, there; m5 and m9; m1; m3; both");
    assert_eq!((counts.mailboxes, counts.queued), (3, 3), "{:?}", done.kept);
    for what in ["INBOX 2:", "INBOX 4:", "INBOX 6:", "INBOX 10:", "renamed to Other"] {
        assert_eq!(done.kept.iter().filter(|line| line.contains(what)).count(), 1, "{what}: {:?}", done.kept);
    }
    let moved = done.kept.iter().filter(|line| line.contains("is not moved")).count();
    assert_eq!((moved, done.kept.len()), (2, 7), "m6 and m7: {:?}", done.kept);
    // New UIDs, all of them.
    let now = store.read(move |view| view.messages(before.id, before.uid_next, Uid::MAX)).await.unwrap();
    assert_eq!(now.len(), 1, "lost");
    let appended = mailbox(&store, 1, "Work").await.id;
    let dates = store.read(move |view| view.messages(appended, 1, Uid::MAX)).await.unwrap();
    assert!(dates.iter().any(|m| (m.internal_date, m.zone_minutes) == (1_600_000_000, 60)));
    sound(&store).await;
    // An index that is made from the log has it, and a retry by a queue finds the delivery.
    let again = now[0].delivery.unwrap();
    drop(store.stop().await);
    fs::remove_file(lines.new.path().join("index.sqlite")).unwrap();
    let store = serve(lines.new.path());
    assert_eq!(seen(&store).await, expected);
    deliver_as(&store, again, "INBOX", "lost").await;
    assert_eq!(seen(&store).await, expected);
    sound(&store).await;
}

#[tokio::test]
async fn a_salvage_that_is_cut_off_anywhere_is_done_once_when_it_is_repeated() {
    let lines = lines().await;
    let (head, items) = file(lines.old.path(), lines.parted);
    let scratch = tempfile::tempdir().unwrap();
    let whole = scratch.path().join("whole");
    copy_store(lines.new.path(), &whole);
    let store = serve(&whole);
    salvage(&store, &head, &items).await;
    let expected = seen(&store).await;
    let again = salvage(&store, &head, &items).await;
    assert_eq!(
        (again.counts, seen(&store).await),
        (Default::default(), expected.clone()),
        "{:?}",
        again.kept
    );
    drop(store.stop().await);
    for done in 0..=items.len() {
        let [live, crashed] = ["live", "crashed"].map(|name| scratch.path().join(format!("{name}-{done}")));
        copy_store(lines.new.path(), &live);
        let store = serve(&live);
        salvage(&store, &head, &items[..done]).await;
        // What a crash leaves; the store goes on elsewhere.
        copy_store(&live, &crashed);
        let store = serve(&crashed);
        salvage(&store, &head, &items).await;
        assert_eq!(seen(&store).await, expected, "cut off after {done} of {}", items.len());
        sound(&store).await;
    }
}

#[tokio::test]
async fn what_is_changed_after_a_salvage_is_not_undone_by_a_second_one() {
    let lines = lines().await;
    let (head, items) = file(lines.old.path(), lines.parted);
    let store = serve(lines.new.path());
    salvage(&store, &head, &items).await;
    let (inbox, work) = (mailbox(&store, 1, "INBOX").await, mailbox(&store, 1, "Work").await);
    // All that came goes again, and what has got flags loses them.
    ok(store.expunge(inbox.id, Expunge::These(((1 << 20)..inbox.uid_next).collect()))).await;
    ok(store.expunge(work.id, Expunge::These((1..work.uid_next).collect()))).await;
    let flags = Flags::default();
    let change =
        FlagChange { mailbox: inbox.id, uids: vec![1], op: FlagOp::Replace, flags, unchanged_since: None };
    ok(store.set_flags(change)).await;
    let there = mailbox(&store, 1, "Only/There").await.id;
    ok(store.delete_mailbox(there)).await;
    ok(store.subscribe(AccountId(1), "Only/There".into(), false)).await;
    let before = seen(&store).await;
    let again = salvage(&store, &head, &items).await;
    assert_eq!((again.counts, seen(&store).await), (Default::default(), before));
}

#[tokio::test]
async fn two_copies_of_one_line_bring_everything_once_and_one_brings_what_it_does_not_know_to_be_committed() {
    let lines = lines().await;
    let (head, items) = file(lines.old.path(), lines.parted);
    let (other, same) = file(lines.third.path(), lines.parted);
    assert_eq!((head.modseq, head.end), (other.modseq, other.end));
    assert_eq!(items, same, "what its index does not have yet is in its log");
    let (_, again) = file(lines.third.path(), lines.parted);
    assert_eq!(same, again, "nothing of it was changed");
    let store = serve(lines.new.path());
    salvage(&store, &other, &same).await;
    let expected = seen(&store).await;
    let second = salvage(&store, &head, &items).await;
    assert_eq!((second.counts, seen(&store).await), (Default::default(), expected));
}

#[tokio::test]
async fn a_damaged_log_and_a_record_that_is_not_there_are_refused() {
    let lines = lines().await;
    let log = lines.old.path().join("log");
    for entry in fs::read_dir(log).unwrap() {
        let path = entry.unwrap().path();
        let mut octets = fs::read(&path).unwrap();
        let Some(at) = octets.windows(10).position(|part| part == b"appended\r\n") else { continue };
        octets[at] ^= 1;
        fs::write(&path, octets).unwrap();
    }
    let mut octets = Vec::new();
    let refused = gather(lines.old.path(), (1, lines.parted), &mut octets, &mut |_, _| {}).unwrap_err();
    assert!(refused.to_string().contains("store export"), "{refused}");
    for (epoch, seq) in [(1, 1 << 40), (7, lines.parted), (0, lines.parted)] {
        let refused = gather(lines.third.path(), (epoch, seq), &mut octets, &mut |_, _| {}).unwrap_err();
        assert!(refused.to_string().contains("there is no record"), "{refused}");
    }
}

#[tokio::test]
async fn whose_account_is_not_here_any_more_is_told() {
    let lines = lines().await;
    let (head, items) = file(lines.old.path(), lines.parted);
    let store = serve(lines.new.path());
    let gone = mailcluster_store::Account { generation: 9, tombstone: true, ..account(1) };
    ok(store.put_account(gone)).await;
    let mut refused = 0;
    for item in items {
        match store.salvage(head.modseq, item).await {
            Ok(_) => {}
            Err(mailcluster_store::WriteError::Refused(mailcluster_store::Refusal::NoSuchAccount(_))) => {
                refused += 1
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(refused > 0, "of {STORE}");
    sound(&store).await;
}
