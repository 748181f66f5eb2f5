//! A stopped store of which one bit is another, or a file shorter: nothing panics, whatever can be read is right, what
//! cannot says so, `fsck` finds what matters, and `export` saves the rest.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use mailcluster_types::AccountId;

use super::{
    rows::rows,
    support::{account, deliver, identity, mailbox},
};
use crate::{
    OpenGate, ReadError, Replica, View,
    model::SystemFlag,
    ops::{CopyKind, Expunge, FlagChange, FlagOp},
    testing::Setup,
    tools,
};

/// Places in a run; the long form is the stated one.
const PLACES: u64 = 250;
const LONG: u64 = 1000;
const ACCOUNTS: u128 = 3;

/// A sequence that looks random, and is the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit.max(1)
    }
}

/// Messages by account, mailbox and UID.
type Mail = BTreeMap<(u128, String, u32), Result<Vec<u8>, String>>;

fn mail(view: &View) -> Result<Mail, ReadError> {
    let mut all = Mail::new();
    for n in 1..=ACCOUNTS {
        for mailbox in view.mailboxes(AccountId(n))? {
            for message in view.messages(mailbox.id, 1, u32::MAX)? {
                let text = view.body(message.body).map(|b| b.to_vec()).map_err(|e| e.to_string());
                all.insert((n, mailbox.name.clone(), message.uid), text);
            }
        }
    }
    Ok(all)
}

async fn whole(dir: &Path) {
    let setup = Setup { segment_size: Some(16 << 10), ..Setup::default() };
    let replica = setup.initialise(dir, &identity()).unwrap();
    let store = replica.serve(1, &[identity().replica], std::sync::Arc::new(OpenGate)).unwrap();
    for n in 1..=ACCOUNTS {
        store.put_account(account(n)).await.unwrap().acknowledge().unwrap();
    }
    for n in 0..60 {
        let text =
            format!("Subject: {n}\r\n\r\n{}\r\n", "text ".repeat(usize::try_from(n % 17).unwrap() * 30));
        deliver(&store, 1 + n % ACCOUNTS, &text).await;
    }
    let (inbox, trash) = (mailbox(&store, 1, "INBOX").await, mailbox(&store, 1, "Trash").await);
    store.copy(inbox.id, vec![1, 2, 5], trash.id, CopyKind::Move).await.unwrap().acknowledge().unwrap();
    let flags = crate::model::Flags::default().with(SystemFlag::Seen).with(SystemFlag::Deleted);
    let change =
        FlagChange { mailbox: inbox.id, uids: vec![3, 4], op: FlagOp::Add, flags, unchanged_since: None };
    store.set_flags(change).await.unwrap().acknowledge().unwrap();
    store.expunge(inbox.id, Expunge::Deleted(vec![3])).await.unwrap().acknowledge().unwrap();
    drop(store.stop().await);
}

/// The same, after much of it was expunged and its room given back.
async fn rewritten(dir: &Path) {
    whole(dir).await;
    let store = super::rewrite::serve(&super::rewrite::eager(), dir);
    super::rewrite::mostly_gone(&store, 200, 1000, 4).await;
    assert!(store.reclaim().await.unwrap().files > 0);
    drop(store.stop().await);
}

fn files(dir: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for folder in [dir.to_owned(), dir.join("log"), dir.join("base")] {
        let Ok(entries) = fs::read_dir(folder) else { continue };
        for entry in entries {
            let (path, meta) = entry.map(|e| (e.path(), e.metadata().unwrap())).unwrap();
            if meta.is_file() && meta.len() > 0 {
                found.push((path, meta.len()));
            }
        }
    }
    found.sort();
    found
}

fn copied(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    for folder in ["log", "base"] {
        fs::create_dir_all(to.join(folder)).unwrap();
    }
    for (path, _) in files(from) {
        fs::copy(&path, to.join(path.strip_prefix(from).unwrap())).unwrap();
    }
}

/// Damages one place; answers what was done.
fn damage(dir: &Path, dice: &mut Dice) -> String {
    let all = files(dir);
    let (path, length) = &all[usize::try_from(dice.below(all.len() as u64)).unwrap()];
    let name = path.strip_prefix(dir).unwrap().display().to_string();
    let at = dice.below(*length);
    if dice.below(5) == 0 {
        fs::File::options().write(true).open(path).unwrap().set_len(at).unwrap();
        return format!("{name} cut at {at} of {length}");
    }
    let (mut bytes, bit) = (fs::read(path).unwrap(), dice.below(8));
    bytes[usize::try_from(at).unwrap()] ^= 1 << bit;
    fs::write(path, bytes).unwrap();
    format!("{name}: bit {bit} at {at} of {length}")
}

/// Nothing but what was there is ever read; answers how much of it can be. The lines before a body lie in the index and have
/// no checksum of their own: that they are not what they were, at least `fsck` has to find.
fn right(found: &Mail, truth: &Mail, what: &str, problems: u64) -> usize {
    let is_told = what.starts_with("index.sqlite") && problems > 0;
    for (name, text) in found {
        if let Ok(text) = text {
            let is_right = truth.get(name) == Some(&Ok(text.clone()));
            assert!(is_right || is_told, "{what}: {name:?} reads as something else");
        }
    }
    found.iter().filter(|(name, text)| text.is_ok() && truth.get(*name) == Some(text)).count()
}

#[tokio::test]
async fn whatever_place_is_damaged_the_rest_is_read_and_the_damage_is_said() {
    let home = tempfile::tempdir().unwrap();
    let sound = home.path().join("sound");
    fs::create_dir_all(&sound).unwrap();
    whole(&sound).await;
    any_place(&home, PLACES, 20);
}

#[tokio::test]
async fn a_store_whose_room_was_given_back_says_its_damage_too() {
    let home = tempfile::tempdir().unwrap();
    let sound = home.path().join("sound");
    fs::create_dir_all(&sound).unwrap();
    rewritten(&sound).await;
    assert!(files(&sound).iter().any(|(path, _)| path.extension().is_some_and(|e| e == "pack")));
    any_place(&home, PLACES / 5, 20);
}

/// Damages one place after the other; never more than `most` messages go with it.
fn any_place(home: &tempfile::TempDir, places: u64, most: usize) {
    let (sound, hurt) = (home.path().join("sound"), home.path().join("hurt"));
    let truth = mail(&Replica::open(&sound, &identity()).unwrap().view()).unwrap();
    let before = rows(&sound, &[]);
    assert_eq!(
        tools::fsck(&sound, Some(&home.path().join("i")), &mut |what| panic!("{what}")).unwrap().problems,
        0
    );
    let long = std::env::var("MAILCLUSTER_LONG").is_ok_and(|value| !value.is_empty());
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let (mut opened, mut refused, mut harmless, mut lost) = (0, 0, 0, 0);
    for _ in 0..if long { LONG } else { places } {
        copied(&sound, &hurt);
        let what = damage(&hurt, &mut dice);
        let scratch = home.path().join("index");
        let _ = fs::remove_dir_all(&scratch);
        let mut said = Vec::new();
        let checked = tools::fsck(&hurt, Some(&scratch), &mut |line| said.push(line.to_owned()));
        let problems = checked.map_or(1, |checked| checked.problems);
        match Replica::open(&hurt, &identity()) {
            Ok(replica) => {
                opened += 1;
                match mail(&replica.view()) {
                    Ok(found) => {
                        let read = right(&found, &truth, &what, problems);
                        lost += truth.len() - read;
                        assert!(read + most >= truth.len(), "{what}: {read} of {} can be read", truth.len());
                        assert!(problems > 0 || read == truth.len(), "{what}: fsck has found nothing");
                    }
                    Err(error) => assert!(matches!(error, ReadError::Damaged(_)), "{what}: {error}"),
                }
                drop(replica);
                if problems == 0 {
                    harmless += 1;
                    assert!(rows(&hurt, &[]) == before, "{what}: fsck has found nothing");
                }
            }
            Err(error) => {
                refused += 1;
                assert!(problems > 0, "{what}: {error}: {said:?}");
                let out = home.path().join("out");
                let _ = fs::remove_dir_all(&out);
                let mut lines = Vec::new();
                let mut note =
                    |_: &tools::Exported, line: Option<&str>| lines.extend(line.map(str::to_owned));
                let saved = tools::export_maildir(&hurt, &out, &mut note)
                    .unwrap_or_else(|e| panic!("{what}: {error}: {e}"));
                lost += truth.len() - usize::try_from(saved.messages).unwrap();
                assert!(saved.messages + most as u64 >= truth.len() as u64, "{what}: {saved:?} {lines:?}");
            }
        }
    }
    println!("{opened} opened, {refused} refused, {harmless} of them harmless, {lost} messages damaged");
    assert!(opened > 0 && refused > 0, "{opened} opened, {refused} refused");
}
