//! Mail comes in, changes, goes, and survives.

mod common;

use bytes::Bytes;
use common::{account, delivery, mailbox, reopen, sound, store, target};
use mailcluster_store::{
    Append, CopyKind, CreateMailbox, Delivered, Expunge, FlagChange, FlagOp, Flags, HasScript, HistoryKey,
    Refusal, SpecialUse, SystemFlag, WriteError,
};
use mailcluster_types::AccountId;

fn flags(system: &[SystemFlag], keywords: &[&str]) -> Flags {
    let flags = Flags { keywords: keywords.iter().map(|k| (*k).to_owned()).collect(), system: 0 };
    system.iter().fold(flags, |f, s| f.with(*s))
}

#[tokio::test]
async fn a_new_account_has_its_mailboxes() {
    let (_dir, store) = store(1).await;
    let boxes = store.read(|v| v.mailboxes(AccountId(1))).await.unwrap();
    let names: Vec<_> = boxes.iter().map(|m| (m.name.as_str(), m.special_use)).collect();
    assert_eq!(
        names,
        [
            ("Archive", Some(SpecialUse::Archive)),
            ("Drafts", Some(SpecialUse::Drafts)),
            ("INBOX", None),
            ("Junk", Some(SpecialUse::Junk)),
            ("Sent", Some(SpecialUse::Sent)),
            ("Trash", Some(SpecialUse::Trash)),
        ]
    );
    assert!(boxes.windows(2).all(|w| w[0].uid_validity != w[1].uid_validity));
    assert_eq!(store.read(|v| v.subscriptions(AccountId(1))).await.unwrap().len(), 6);
    assert_eq!(
        store.put_account(account(1)).await.err(),
        Some(WriteError::Refused(Refusal::Stale)),
        "an equal generation is refused"
    );
}

#[tokio::test]
async fn one_body_reaches_several_accounts_once() {
    let (dir, store) = store(3).await;
    let body = "Subject: x\r\n\r\nhello\r\n";
    let mut first = delivery(vec![target(1), target(2), target(2), target(99)], body);
    first.targets[1].mailbox = "nowhere".into();
    let answer = store.deliver(first.clone()).await.unwrap().acknowledge().unwrap();
    assert!(matches!(answer[0], Delivered::Stored { uid: 1, .. }));
    assert!(matches!(answer[1], Delivered::Stored { uid: 1, .. }));
    assert_eq!(answer[2], Delivered::Duplicate);
    assert_eq!(answer[3], Delivered::Refused(Refusal::NoSuchAccount(AccountId(99))));

    first.targets = vec![target(1), target(3)];
    let again = store.deliver(first.clone()).await.unwrap().acknowledge().unwrap();
    assert_eq!(again[0], Delivered::Duplicate);
    assert!(matches!(again[1], Delivered::Stored { uid: 1, .. }));

    let store = reopen(&dir, store).await;
    let again = store.deliver(first.clone()).await.unwrap().acknowledge().unwrap();
    assert_eq!(again, [Delivered::Duplicate, Delivered::Duplicate], "remembered across a restart");
    for n in 1..=3 {
        let inbox = mailbox(&store, n, "inbox").await;
        assert_eq!((inbox.counts.messages, inbox.counts.unseen, inbox.uid_next), (1, 1, 2));
        let text = store.read(move |v| v.body(v.messages(inbox.id, 1, u32::MAX)?[0].body)).await.unwrap();
        assert_eq!(text, format!("Delivered-To: user{n}@example.org\r\n{body}").into_bytes());
        assert_eq!(inbox.counts.octets, text.len() as u64);
    }
    let id = first.id;
    let events = store.read(move |v| v.history(&HistoryKey::Delivery(id), 10)).await.unwrap();
    assert_eq!(events.iter().filter(|e| e.event == "delivered").count(), 3);
    assert_eq!(events.iter().filter(|e| e.event == "duplicate").count(), 4);
    assert!(events.iter().any(|e| e.detail == "INBOX 1"));
    sound(&store).await;
}

#[tokio::test]
async fn flags_change_by_rule_and_modseq_rises() {
    let (dir, store) = store(1).await;
    for _ in 0..3 {
        common::deliver(&store, 1, "x").await;
    }
    let inbox = mailbox(&store, 1, "INBOX").await;
    let change =
        |uids: Vec<u32>, op, flags| FlagChange { mailbox: inbox.id, uids, op, flags, unchanged_since: None };
    let seen = change(vec![2, 1, 77], FlagOp::Add, flags(&[SystemFlag::Seen], &["Work"]));
    let done = store.set_flags(seen.clone()).await.unwrap().acknowledge().unwrap();
    assert_eq!(done.now.iter().map(|(uid, ..)| *uid).collect::<Vec<_>>(), [1, 2]);
    let modseq = done.now[0].1;
    assert!(modseq > inbox.highest_modseq);
    let again = store.set_flags(seen).await.unwrap().acknowledge().unwrap();
    assert_eq!(again.now, done.now, "nothing changed, nothing rises");
    let mut late = change(vec![1, 3], FlagOp::Replace, flags(&[SystemFlag::Deleted], &[]));
    late.unchanged_since = Some(modseq - 1);
    let done = store.set_flags(late).await.unwrap().acknowledge().unwrap();
    assert_eq!((done.modified.as_slice(), done.now.len()), (&[1][..], 1));

    let store = reopen(&dir, store).await;
    let inbox = mailbox(&store, 1, "INBOX").await;
    assert_eq!((inbox.counts.unseen, inbox.counts.deleted), (1, 1));
    let changes = store.read(move |v| v.changes(inbox.id, modseq)).await.unwrap();
    assert_eq!(changes.changed.iter().map(|m| m.uid).collect::<Vec<_>>(), [3]);
    let all = store.read(move |v| v.changes(inbox.id, 0)).await.unwrap();
    assert_eq!(all.changed.len(), 3);
    assert_eq!(all.changed[0].flags, flags(&[SystemFlag::Seen], &["Work"]));
    sound(&store).await;
}

#[tokio::test]
async fn expunged_uids_are_known_and_never_given_again() {
    let (dir, store) = store(1).await;
    for _ in 0..4 {
        common::deliver(&store, 1, "x").await;
    }
    let inbox = mailbox(&store, 1, "INBOX").await;
    let deleted = FlagChange {
        mailbox: inbox.id,
        uids: vec![2, 4],
        op: FlagOp::Add,
        flags: flags(&[SystemFlag::Deleted], &[]),
        unchanged_since: None,
    };
    store.set_flags(deleted).await.unwrap().acknowledge().unwrap();
    let before = mailbox(&store, 1, "INBOX").await.highest_modseq;
    let none = store.expunge(inbox.id, Expunge::Deleted(vec![1, 3])).await.unwrap().acknowledge().unwrap();
    assert!(none.is_empty());
    let gone = store.expunge(inbox.id, Expunge::AllDeleted).await.unwrap().acknowledge().unwrap();
    assert_eq!(gone, [2, 4]);
    let gone = store.expunge(inbox.id, Expunge::These(vec![1, 2])).await.unwrap().acknowledge().unwrap();
    assert_eq!(gone, [1]);
    let store = reopen(&dir, store).await;
    let changes = store.read(move |v| v.changes(inbox.id, before)).await.unwrap();
    assert_eq!((changes.expunged.as_slice(), changes.changed.len()), (&[1, 2, 4][..], 0));
    assert_eq!(common::deliver(&store, 1, "y").await, (inbox.id, 5));
    assert_eq!(store.read(move |v| v.uids(inbox.id)).await.unwrap(), [3, 5]);
    sound(&store).await;
}

#[tokio::test]
async fn copy_and_move_share_the_body() {
    let (dir, store) = store(1).await;
    common::deliver(&store, 1, "one").await;
    common::deliver(&store, 1, "two").await;
    let (inbox, trash) = (mailbox(&store, 1, "INBOX").await, mailbox(&store, 1, "Trash").await);
    let copied = store.copy(inbox.id, vec![2, 1, 9], trash.id, CopyKind::Copy).await.unwrap();
    let copied = copied.acknowledge().unwrap();
    assert_eq!((copied.uid_validity, copied.pairs), (trash.uid_validity, vec![(1, 1), (2, 2)]));
    let moved = store.copy(inbox.id, vec![1], trash.id, CopyKind::Move).await.unwrap();
    assert_eq!(moved.acknowledge().unwrap().pairs, [(1, 3)]);
    sound(&store).await;
    store.expunge(inbox.id, Expunge::These(vec![2])).await.unwrap().acknowledge().unwrap();
    let store = reopen(&dir, store).await;
    let texts = store
        .read(move |v| {
            let all = v.messages(trash.id, 1, u32::MAX)?;
            all.iter().map(|m| v.body(m.body)).collect::<Result<Vec<_>, _>>()
        })
        .await
        .unwrap();
    let ends: Vec<_> =
        texts.iter().map(|t| String::from_utf8_lossy(&t[t.len() - 3..]).into_owned()).collect();
    assert_eq!(ends, ["one", "two", "one"]);
    let changes = store.read(move |v| v.changes(inbox.id, inbox.highest_modseq)).await.unwrap();
    assert_eq!(changes.expunged, [1, 2]);
    sound(&store).await;
}

#[tokio::test]
async fn appended_mail_keeps_its_date_and_flags() {
    let (dir, store) = store(1).await;
    let drafts = mailbox(&store, 1, "Drafts").await;
    let append = Append {
        mailbox: drafts.id,
        flags: flags(&[SystemFlag::Draft, SystemFlag::Seen], &["$MDNSent"]),
        internal_date: -5,
        zone_minutes: -330,
        body: Bytes::from_static(b"draft"),
    };
    let answer = store.append(append.clone()).await.unwrap().acknowledge().unwrap();
    assert_eq!((answer.uid_validity, answer.uid), (drafts.uid_validity, 1));
    let missing = Append { mailbox: 12, ..append.clone() };
    assert_eq!(store.append(missing).await.err(), Some(WriteError::Refused(Refusal::NoSuchMailbox)));
    let store = reopen(&dir, store).await;
    let message = store.read(move |v| v.messages(drafts.id, 1, 1)).await.unwrap().remove(0);
    assert_eq!(message.flags, append.flags);
    assert_eq!((message.internal_date, message.zone_minutes, message.size), (-5, -330, 5));
    assert_eq!(message.delivery, None);
}

#[tokio::test]
async fn mailboxes_are_made_renamed_and_deleted() {
    let (dir, store) = store(1).await;
    let create =
        |name: &str| CreateMailbox { account: AccountId(1), name: name.to_owned(), special_use: None };
    let c = store.create_mailbox(create("a/b/c/")).await.unwrap().acknowledge().unwrap();
    assert_eq!(
        store.create_mailbox(create("a/b")).await.err(),
        Some(WriteError::Refused(Refusal::AlreadyExists))
    );
    assert!(matches!(
        store.create_mailbox(create("x\r\ny")).await.err(),
        Some(WriteError::Refused(Refusal::BadName(_)))
    ));
    store.create_mailbox(create("../../etc")).await.unwrap().acknowledge().unwrap();
    let a = mailbox(&store, 1, "a").await;
    let into_itself = store.rename_mailbox(a.id, "a/b/x".into()).await.err();
    assert!(matches!(into_itself, Some(WriteError::Refused(Refusal::NotAllowed(_)))));
    store.rename_mailbox(a.id, "new/place".into()).await.unwrap().acknowledge().unwrap();
    let store = reopen(&dir, store).await;
    let renamed = mailbox(&store, 1, "new/place/b/c").await;
    assert_eq!(renamed.id, c);
    assert_eq!(mailbox(&store, 1, "new/place").await.uid_validity, a.uid_validity);
    store.delete_mailbox(mailbox(&store, 1, "new/place/b").await.id).await.unwrap().acknowledge().unwrap();
    assert_eq!(mailbox(&store, 1, "new/place/b/c").await.id, c, "children stay");
    let inbox = mailbox(&store, 1, "INBOX").await;
    assert!(store.delete_mailbox(inbox.id).await.is_err());
    common::deliver(&store, 1, "mail").await;
    store.rename_mailbox(inbox.id, "old-mail".into()).await.unwrap().acknowledge().unwrap();
    assert_eq!(mailbox(&store, 1, "INBOX").await.counts.messages, 0);
    assert_eq!(mailbox(&store, 1, "old-mail").await.counts.messages, 1);
    let old = mailbox(&store, 1, "old-mail").await;
    store.delete_mailbox(old.id).await.unwrap().acknowledge().unwrap();
    let fresh = store.create_mailbox(create("old-mail")).await.unwrap().acknowledge().unwrap();
    let fresh = store.read(move |v| v.mailbox(fresh)).await.unwrap().unwrap();
    assert!(fresh.uid_validity > old.uid_validity && fresh.id > old.id);
    let used = store.read(|v| v.account(AccountId(1))).await.unwrap().unwrap().used_octets;
    assert_eq!(used, 0);
    sound(&store).await;
}

#[tokio::test]
async fn quota_is_exact() {
    let (_dir, store) = store(0).await;
    let mut limited = account(1);
    limited.quota_octets = 100;
    store.put_account(limited).await.unwrap().acknowledge().unwrap();
    let mut to = target(1);
    to.prefix = Bytes::new();
    let sixty = "x".repeat(60);
    let first = store.deliver(delivery(vec![to.clone()], &sixty)).await.unwrap().acknowledge().unwrap();
    assert!(matches!(first[0], Delivered::Stored { .. }));
    let second = store.deliver(delivery(vec![to.clone()], &sixty)).await.unwrap().acknowledge().unwrap();
    assert_eq!(second, [Delivered::Refused(Refusal::OverQuota)]);
    assert_eq!(store.check_recipient(AccountId(1), 40).await.unwrap(), Ok(HasScript::No));
    assert_eq!(store.check_recipient(AccountId(1), 41).await.unwrap(), Err(Refusal::OverQuota));
    assert_eq!(
        store.check_recipient(AccountId(5), 1).await.unwrap(),
        Err(Refusal::NoSuchAccount(AccountId(5)))
    );
    let inbox = mailbox(&store, 1, "INBOX").await;
    let copy = store.copy(inbox.id, vec![1], inbox.id, CopyKind::Copy).await.err();
    assert_eq!(copy, Some(WriteError::Refused(Refusal::OverQuota)));
    store.expunge(inbox.id, Expunge::These(vec![1])).await.unwrap().acknowledge().unwrap();
    let third = store.deliver(delivery(vec![to], &"x".repeat(100))).await.unwrap().acknowledge().unwrap();
    assert!(matches!(third[0], Delivered::Stored { uid: 2, .. }));
    sound(&store).await;
}

#[tokio::test]
async fn a_tombstone_takes_the_mail_and_nothing_older_brings_it_back() {
    let (dir, store) = store(2).await;
    common::deliver(&store, 1, "x").await;
    let mut gone = account(1);
    gone.generation = 5;
    gone.tombstone = true;
    store.put_account(gone).await.unwrap().acknowledge().unwrap();
    let store = reopen(&dir, store).await;
    let mut old = account(1);
    old.generation = 4;
    assert_eq!(store.put_account(old).await.err(), Some(WriteError::Refused(Refusal::Stale)));
    let answer = store.deliver(delivery(vec![target(1), target(2)], "y")).await.unwrap();
    let answer = answer.acknowledge().unwrap();
    assert_eq!(answer[0], Delivered::Refused(Refusal::NoSuchAccount(AccountId(1))));
    assert!(matches!(answer[1], Delivered::Stored { .. }));
    assert_eq!(store.read(|v| v.mailboxes(AccountId(1))).await.unwrap(), []);
    let usage = store.read(|v| v.usage()).await.unwrap();
    assert_eq!(usage.accounts, 1);
    sound(&store).await;
}

#[tokio::test]
async fn watchers_hear_of_changes() {
    let (_dir, store) = store(1).await;
    let inbox = mailbox(&store, 1, "INBOX").await;
    let mut mail = store.watch_mailbox(inbox.id);
    let mut directory = store.watch_directory();
    common::deliver(&store, 1, "x").await;
    mail.changed().await.unwrap();
    assert_eq!(*mail.borrow(), mailbox(&store, 1, "INBOX").await.highest_modseq);
    assert!(!directory.has_changed().unwrap());
    store.put_account(account(2)).await.unwrap().acknowledge().unwrap();
    directory.changed().await.unwrap();
}

#[tokio::test]
async fn a_text_is_read_in_pieces_too() {
    let (_dir, store) = store(1).await;
    for length in [0, 5, 64 << 10, (64 << 10) + 1, 300_000] {
        let body: String = (0..length).map(|n| char::from(b'a' + u8::try_from(n % 23).unwrap())).collect();
        store.deliver(delivery(vec![target(1)], &body)).await.unwrap().acknowledge().unwrap();
        let inbox = mailbox(&store, 1, "inbox").await;
        let read = store.read(move |v| {
            let last = v.sizes(inbox.id, 100)?.pop().unwrap();
            let (whole, stored) = (v.body(last.2)?, v.stored_body(last.2)?);
            assert_eq!((stored.size(), stored.size()), (whole.len() as u64, u64::from(last.1)));
            let (mut text, mut longest) = (Vec::new(), 0);
            loop {
                let piece = v.piece(&stored, text.len() as u64)?;
                if piece.is_empty() {
                    break;
                }
                longest = longest.max(piece.len());
                text.extend_from_slice(&piece);
            }
            assert!(v.piece(&stored, u64::MAX)?.is_empty());
            Ok((whole == text, longest))
        });
        let (same, longest) = read.await.unwrap();
        assert!(same && longest <= 64 << 10, "{length}");
    }
}
