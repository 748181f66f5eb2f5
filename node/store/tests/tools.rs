//! A stopped store can be looked at and carried away.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;

use common::{STORE, delivery, mailbox, store, target};
use mailcluster_store::{
    CreateMailbox, FlagChange, FlagOp, Flags, SystemFlag,
    tools::{self, ToolError},
};
use mailcluster_types::AccountId;

#[tokio::test]
async fn a_stopped_store_is_listed_read_and_exported() {
    let (dir, store) = store(2).await;
    common::deliver(&store, 1, "first\r\n").await;
    common::deliver(&store, 1, "second\r\n").await;
    store.deliver(delivery(vec![target(2)], "other\r\n")).await.unwrap().acknowledge().unwrap();
    let inbox = mailbox(&store, 1, "INBOX").await;
    let flags = Flags { system: 0, keywords: ["Work".to_owned()].into() };
    let flags = flags.with(SystemFlag::Seen).with(SystemFlag::Flagged);
    let change =
        FlagChange { mailbox: inbox.id, uids: vec![2], op: FlagOp::Add, flags, unchanged_since: None };
    store.set_flags(change).await.unwrap().acknowledge().unwrap();
    let name = "Lists/../rust.lang".to_owned();
    let create = CreateMailbox { account: AccountId(1), name, special_use: None };
    store.create_mailbox(create).await.unwrap().acknowledge().unwrap();
    let mut out = Vec::new();
    assert!(matches!(tools::list(dir.path(), "", &mut out), Err(ToolError::Open(_))), "it is being served");
    drop(store.stop().await);

    let list = |path: &str| {
        let mut out = Vec::new();
        tools::list(dir.path(), path, &mut out).map(|()| String::from_utf8(out).unwrap())
    };
    let accounts = list("").unwrap();
    assert!(accounts.contains(&format!("user1@example.org\t{:032x}\t{STORE}", 1)), "{accounts}");
    let boxes = list("USER1@example.org").unwrap();
    assert!(boxes.contains("INBOX\t2\t1\t"), "{boxes}");
    let messages = list("user1@example.org/inbox").unwrap();
    assert!(messages.contains("\\Seen \\Flagged Work"), "{messages}");
    assert!(matches!(list("nobody@example.org"), Err(ToolError::NotFound(_))));

    let mut text = Vec::new();
    tools::cat(dir.path(), "user1@example.org/INBOX/2", &mut text).unwrap();
    assert_eq!(text, b"Delivered-To: user1@example.org\r\nsecond\r\n");
    assert!(tools::cat(dir.path(), "user1@example.org/INBOX/3", &mut text).is_err());

    let out = dir.path().join("export");
    let mut reached = Vec::new();
    let done = tools::export_maildir(dir.path(), &out, &mut |at, _| reached.push((at.messages, at.expected)));
    let done = done.unwrap();
    assert_eq!((done.accounts, done.messages, done.damaged), (2, 3, 0));
    assert_eq!(reached, [(1, 3), (2, 3), (3, 3)], "it tells how far it is");
    let home = out.join("user1@example.org");
    let mut files: Vec<_> = fs::read_dir(home.join("cur"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert!(files[0].ends_with(":2,") && files[1].ends_with(":2,FSa"), "{files:?}");
    assert_eq!(fs::read(home.join("cur").join(&files[1])).unwrap(), &text[..]);
    assert_eq!(fs::read_to_string(home.join("dovecot-keywords")).unwrap(), "0 Work\n");
    assert!(home.join(".Lists.%2e%2e.rust%2elang/cur").is_dir());
    assert!(tools::export_maildir(dir.path(), &out, &mut |_, _| ()).is_err(), "never over something");
}

/// Changes one octet of a text in the log.
fn flipped(dir: &std::path::Path, text: &[u8]) {
    for entry in fs::read_dir(dir.join("log")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        if let Some(at) = bytes.windows(text.len()).position(|window| window == text) {
            bytes[at] ^= 1;
            fs::write(&path, bytes).unwrap();
            return;
        }
    }
    panic!("the log has no such text");
}

#[tokio::test]
async fn a_damaged_store_is_checked_and_what_can_be_read_of_it_is_saved() {
    let (dir, store) = store(1).await;
    for text in ["first\r\n", "second\r\n", "third\r\n"] {
        common::deliver(&store, 1, text).await;
    }
    drop(store.stop().await);
    let check = |scratch: Option<&std::path::Path>| {
        let mut said = Vec::new();
        let mut told = |_: &tools::Checked, line: Option<&str>| said.extend(line.map(str::to_owned));
        let done = tools::fsck(dir.path(), scratch, &mut told).unwrap();
        (done, said)
    };
    let scratch = tempfile::tempdir().unwrap();
    let (done, said) = check(Some(scratch.path()));
    assert_eq!((done.problems, done.messages, done.segments), (0, 3, 1), "{said:?}");
    assert_eq!((done.expected, done.log.done), (3, done.log.of), "it has come to the end");
    assert!(done.log.of > 4096 && done.made_anew.of == done.log.of, "{done:?}");
    assert!(tools::fsck(dir.path(), Some(scratch.path()), &mut |_, _| ()).is_err(), "never over something");

    flipped(dir.path(), b"second\r\n");
    let (done, said) = check(None);
    assert!(done.problems >= 2, "a batch, and a message: {said:?}");
    assert!(
        said.iter().any(|line| line.starts_with("message user1@example.org/INBOX/2 is damaged")),
        "{said:?}"
    );
    let exported = |name: &str| {
        let out = dir.path().join(name);
        let mut said = Vec::new();
        let done =
            tools::export_maildir(dir.path(), &out, &mut |_, line| said.extend(line.map(str::to_owned)));
        (done.unwrap(), said)
    };
    let (done, _) = exported("one");
    assert_eq!((done.messages, done.damaged), (2, 1));

    // Without an index, too: by one that is made from what is whole of the log.
    fs::write(dir.path().join("index.sqlite"), "no index").unwrap();
    let (done, said) = exported("two");
    assert_eq!((done.accounts, done.messages, done.damaged), (1, 2, 0), "{said:?}");
    assert!(said.iter().any(|line| line.contains("damaged from")), "{said:?}");
}
