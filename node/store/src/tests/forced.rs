//! A replica that was forced to serve gives no name anew that clients may have seen of the line that was left behind.

use std::{path::Path, sync::Arc};

use mailcluster_types::ReplicaId;

use super::support::{account, deliver, identity, mailbox, sound};
use crate::{Follower, Identity, LogReader, Names, OpenGate, Store, apply::UID_SKIP, testing::Setup};

const ME: &[ReplicaId] = &[ReplicaId(10)];

fn other() -> Identity {
    Identity { replica: ReplicaId(10), ..identity() }
}

/// A primary, and a mirror that has the first of its messages: 3 for account 1, and 4 that only the primary has.
async fn parted(one: &Path, two: &Path) -> (Store, Follower) {
    let mut first = Follower::new(Setup::default().initialise(one, &identity()).unwrap()).unwrap();
    let (_, end) = first.begin(1, &[ReplicaId(9)]).unwrap();
    first.advance(end).unwrap();
    let store = first.into_replica().go_on(Arc::new(OpenGate)).unwrap();
    store.put_account(account(1)).await.unwrap().acknowledge().unwrap();
    for n in 0..3 {
        deliver(&store, 1, &format!("both {n}")).await;
    }
    let (_, shared) = store.committed();
    let mut mirror = Follower::new(Setup::default().initialise(two, &other()).unwrap()).unwrap();
    let mut reader = LogReader::after(one, identity(), 0).unwrap();
    while let Some(batch) = reader.next(shared).unwrap() {
        mirror.append(1, std::slice::from_ref(&batch)).unwrap();
    }
    mirror.advance(shared).unwrap();
    for n in 0..4 {
        deliver(&store, 1, &format!("lost {n}")).await;
    }
    (store, mirror)
}

fn forced(mut mirror: Follower, names: Names) -> Store {
    assert_eq!((mirror.describe().last_forced, mirror.describe().in_sync), (0, vec![ReplicaId(9)]));
    let (_, start) = mirror.begin_forced(2, ME, names).unwrap();
    assert_eq!(mirror.describe().last_forced, 2, "before it is in the index");
    assert_eq!(mirror.describe().in_sync, ME, "the same");
    assert!(mirror.epochs().unwrap().last().is_some_and(|mark| mark.forced && mark.epoch == 2));
    mirror.advance(start).unwrap();
    mirror.into_replica().go_on(Arc::new(OpenGate)).unwrap()
}

#[tokio::test]
async fn i6_no_uid_nor_modseq_of_the_old_line_is_given_anew() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (old, mirror) = parted(one.path(), two.path()).await;
    let seen = mailbox(&old, 1, "INBOX").await;
    assert_eq!((seen.uid_next, seen.counts.messages), (8, 7));
    let new = forced(mirror, Names::Kept);
    let now = mailbox(&new, 1, "INBOX").await;
    assert_eq!((now.uid_validity, now.counts.messages), (seen.uid_validity, 3));
    assert!(now.highest_modseq > seen.highest_modseq, "it does not fall for those who saw the old line's");
    assert_eq!(now.uid_next, 4 + UID_SKIP);
    let (_, uid) = deliver(&new, 1, "of the new line").await;
    assert_eq!(uid, 4 + UID_SKIP);
    // Who synchronises with what the old line said is told that its messages are gone, and of the new one.
    let (id, since) = (now.id, seen.highest_modseq);
    let changes = new.read(move |view| view.changes(id, since)).await.unwrap();
    assert_eq!(changes.changed.iter().map(|m| m.uid).collect::<Vec<_>>(), [uid]);
    assert!((4..8).all(|lost| changes.expunged.contains(&lost)), "{}", changes.expunged.len());
    assert!((1..4).all(|kept| !changes.expunged.contains(&kept)));
    sound(&new).await;
    // A mirror of the new line has the same names, and so has the replica when its index is made anew.
    drop(new.stop().await);
    std::fs::remove_file(two.path().join("index.sqlite")).unwrap();
    let again = Setup::default().open(two.path(), &other()).unwrap();
    assert_eq!((again.describe().last_epoch, again.describe().last_forced), (2, 2));
    let again = again.serve(3, ME, Arc::new(OpenGate)).unwrap();
    assert_eq!(mailbox(&again, 1, "INBOX").await.uid_next, uid + 1);
    sound(&again).await;
}

#[tokio::test]
async fn i6_a_mailbox_made_anew_has_no_uidvalidity_of_the_old_line() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (old, mirror) = parted(one.path(), two.path()).await;
    let make =
        |name: &str| crate::CreateMailbox { account: account(1).id, name: name.into(), special_use: None };
    for n in 0..50 {
        old.create_mailbox(make(&format!("Box {n}"))).await.unwrap().acknowledge().unwrap();
    }
    let new = forced(mirror, Names::Kept);
    new.create_mailbox(make("Box 0")).await.unwrap().acknowledge().unwrap();
    let of = |store: Store| async move { mailbox(&store, 1, "Box 0").await.uid_validity };
    let last = mailbox(&old, 1, "Box 49").await.uid_validity;
    assert!(of(new.clone()).await > last, "also at the same second of the clock");
    assert!(of(new).await > of(old).await);
}

#[tokio::test]
async fn i6_what_may_have_other_names_elsewhere_is_named_anew() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (old, mirror) = parted(one.path(), two.path()).await;
    let before = mailbox(&old, 1, "INBOX").await.uid_validity;
    let new = forced(mirror, Names::Anew);
    let all = new.read(|view| view.mailboxes(account(1).id)).await.unwrap();
    let mut validities: Vec<u32> = all.iter().map(|mailbox| mailbox.uid_validity).collect();
    assert!(validities.iter().all(|v| *v > before), "{validities:?}");
    validities.sort_unstable();
    validities.dedup();
    assert_eq!(validities.len(), all.len(), "each has its own: one may be renamed to another's name");
    sound(&new).await;
}
