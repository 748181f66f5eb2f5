//! F43. A stopped store of which one bit is another, or a file shorter: nothing panics, whatever can be read is right, what
//! cannot says so, `fsck` finds what matters, and `export` saves the rest.
//!
//! What one place may cost: in the log or a pack, a flipped bit the text that it lies in, a cut the texts that end behind it;
//! in the index, the superblock or a base nothing, since the index is made anew from the log.

mod hurt;

use std::{
    collections::{BTreeMap, BTreeSet},
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
    schema,
    testing::Setup,
    tools,
};
use hurt::{Dice, Hurt, Kind, Text, copied, files, texts};

/// Places in a run; the long form is the stated one.
const PLACES: u64 = 300;
const LONG: u64 = 1000;
const ACCOUNTS: u128 = 3;

/// A message's account, mailbox and UID.
type Name = (u128, String, u32);
/// Messages and their texts.
type Mail = BTreeMap<Name, Result<Vec<u8>, String>>;

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

#[tokio::test]
async fn whatever_place_is_damaged_the_rest_is_read_and_the_damage_is_said() {
    let home = tempfile::tempdir().unwrap();
    let sound = home.path().join("sound");
    fs::create_dir_all(&sound).unwrap();
    whole(&sound).await;
    any_place(home.path(), PLACES);
}

#[tokio::test]
async fn a_store_whose_room_was_given_back_says_its_damage_too() {
    let home = tempfile::tempdir().unwrap();
    let sound = home.path().join("sound");
    fs::create_dir_all(&sound).unwrap();
    rewritten(&sound).await;
    assert!(files(&sound).iter().any(|(path, _)| path.extension().is_some_and(|e| e == "pack")));
    any_place(home.path(), PLACES / 5);
}

/// Damages one place after the other, each in a new copy of the store.
fn any_place(home: &Path, places: u64) {
    let world = World::of(home);
    let long = std::env::var("MAILCLUSTER_LONG").is_ok_and(|value| !value.is_empty());
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let (mut opened, mut refused, mut harmless) = (0, 0, 0);
    // Messages that went with a flipped bit, and with a cut: of how many places, at most, and in all.
    let mut lost: BTreeMap<&str, (u64, usize, usize)> = BTreeMap::new();
    for _ in 0..if long { LONG } else { places } {
        let hurt = Hurt::draw(&world.sound, &mut dice);
        let came_to = world.judged(&hurt);
        *(if came_to.is_opened { &mut opened } else { &mut refused }) += 1;
        harmless += u64::from(came_to.is_harmless);
        let kind = if hurt.kind == Kind::Cut { "cuts" } else { "flipped bits" };
        let (count, most, all) = lost.entry(kind).or_default();
        (*count, *most, *all) = (*count + 1, (*most).max(came_to.lost), *all + came_to.lost);
    }
    println!("{opened} opened, {refused} refused, {harmless} places harmless");
    for (kind, (count, most, all)) in lost {
        println!("{count} {kind}: {all} messages damaged, at most {most} by one");
    }
    assert!(opened > 0 && refused > 0, "{opened} opened, {refused} refused");
}

/// A store that is whole, and a copy of it that is not.
struct World {
    sound: PathBuf,
    dir: PathBuf,
    scratch: PathBuf,
    out: PathBuf,
    truth: Mail,
    rows: Vec<String>,
    texts: Vec<Text>,
}

/// What a place that is damaged came to.
struct CameTo {
    is_opened: bool,
    /// Nothing is wrong, says `fsck`, and so it is.
    is_harmless: bool,
    /// Messages that cannot be read, with an index that is made anew where the old one was hit.
    lost: usize,
}

impl World {
    fn of(home: &Path) -> Self {
        let sound = home.join("sound");
        let replica = Replica::open(&sound, &identity()).unwrap();
        let (truth, texts) = (mail(&replica.view()).unwrap(), texts(&replica.view()));
        drop(replica);
        let scratch = home.join("index");
        let checked = tools::fsck(&sound, Some(&scratch), &mut |_, line| assert_eq!(line, None)).unwrap();
        assert_eq!(checked.problems, 0);
        assert_eq!(texts.len(), truth.len());
        let (rows, dir, out) = (rows(&sound, &[]), home.join("hurt"), home.join("out"));
        Self { sound, dir, scratch, out, truth, rows, texts }
    }

    /// Damages a place, and sees what it costs: of the log at most the texts that it hit, and of anything else nothing.
    fn judged(&self, hurt: &Hurt) -> CameTo {
        copied(&self.sound, &self.dir);
        hurt.inflict(&self.dir);
        let problems = self.problems();
        let opened = Replica::open(&self.dir, &identity());
        let is_opened = opened.is_ok();
        let missing = match opened {
            Ok(replica) => self.missing_of(&replica, hurt, problems),
            Err(error) => {
                assert!(problems > 0, "{hurt}: {error}: fsck has found nothing");
                let missing = self.missing_of_export(hurt);
                self.bounded(hurt, &missing);
                Some(missing)
            }
        };
        assert!(
            problems > 0 || missing.as_ref().is_some_and(BTreeSet::is_empty),
            "{hurt}: fsck has found nothing"
        );
        let is_harmless = is_opened && problems == 0;
        assert!(!is_harmless || rows(&self.dir, &[]) == self.rows, "{hurt}: fsck has found nothing");
        let missing = match missing {
            // One that is wrong and makes sense is for `fsck` to find; what it should say stands in the log.
            _ if hurt.is_in_index() => self.made_anew(hurt),
            missing => missing.unwrap_or_else(|| panic!("{hurt}: the index cannot be read")),
        };
        self.bounded(hurt, &missing);
        CameTo { is_opened, is_harmless, lost: missing.len() }
    }

    /// No place costs more than what it hit.
    fn bounded(&self, hurt: &Hurt, missing: &BTreeSet<Name>) {
        let at_stake = hurt.at_stake(&self.texts);
        assert!(missing.is_subset(&at_stake), "{hurt}: {missing:?} cannot be read; it hit {at_stake:?}");
    }

    fn problems(&self) -> u64 {
        let _ = fs::remove_dir_all(&self.scratch);
        let checked = tools::fsck(&self.dir, Some(&self.scratch), &mut |_, _| ());
        checked.map_or(1, |checked| checked.problems)
    }

    /// What cannot be read; `None` when not even the index can. Nothing but what was there is ever read: the lines before
    /// a body lie in the index and have no checksum of their own, so that they are not what they were, at least `fsck` has
    /// to find.
    fn missing_of(&self, replica: &Replica, hurt: &Hurt, problems: u64) -> Option<BTreeSet<Name>> {
        let found = match mail(&replica.view()) {
            Ok(found) => found,
            Err(error) => {
                assert!(matches!(error, ReadError::Damaged(_)), "{hurt}: {error}");
                return None;
            }
        };
        let is_told = hurt.is_in_index() && problems > 0;
        for (name, text) in found.iter().filter(|(_, text)| text.is_ok()) {
            let is_right = self.truth.get(name) == Some(text);
            assert!(is_right || is_told, "{hurt}: {name:?} reads as something else");
        }
        Some(self.truth.iter().filter(|(name, text)| found.get(*name) != Some(*text)).map(name).collect())
    }

    /// What `export` does not save of a store that is not opened.
    fn missing_of_export(&self, hurt: &Hurt) -> BTreeSet<Name> {
        let _ = fs::remove_dir_all(&self.out);
        tools::export_maildir(&self.dir, &self.out, &mut |_, _| ()).unwrap_or_else(|e| panic!("{hurt}: {e}"));
        let mut saved: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
        each_exported(&self.out, &mut |text| *saved.entry(text).or_default() += 1);
        let mut is_saved = |text: &Result<Vec<u8>, String>| {
            let left = text.as_ref().ok().and_then(|text| saved.get_mut(text)).filter(|left| **left > 0);
            left.map(|left| *left -= 1).is_some()
        };
        let missing = self.truth.iter().filter(|(_, text)| !is_saved(text)).map(name).collect();
        assert!(saved.values().all(|left| *left == 0), "{hurt}: something else was saved");
        missing
    }

    /// What is missing when the index is thrown away, as a person does when it is wrong, and made from the log.
    fn made_anew(&self, hurt: &Hurt) -> BTreeSet<Name> {
        schema::remove(&self.dir).unwrap();
        let replica = Replica::open(&self.dir, &identity())
            .unwrap_or_else(|e| panic!("{hurt}: without its index: {e}"));
        self.missing_of(&replica, hurt, 0).unwrap_or_else(|| panic!("{hurt}: the new index cannot be read"))
    }
}

fn name((name, _): (&Name, &Result<Vec<u8>, String>)) -> Name {
    name.clone()
}

/// Calls `each` with every message in Maildirs.
fn each_exported(folder: &Path, each: &mut dyn FnMut(Vec<u8>)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            each_exported(&path, each);
        } else if folder.ends_with("cur") {
            each(fs::read(path).unwrap());
        }
    }
}
