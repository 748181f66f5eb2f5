//! Opens what a crash may have left, and compares it with what was told to somebody.

use std::{fs, path::Path, sync::Arc};

use mailcluster_types::{Epoch, Seq};
use tempfile::TempDir;

use super::{
    super::{
        rows::rows,
        support::{delivery_id, identity},
    },
    disk::Image,
    index::IndexFiles,
    life::{History, ME, Reference, mail_for, mirrored},
    mail::{Act, Mail},
    tape::{plain, write},
};
use crate::{
    OpenError, OpenGate, Replica, schema, segment,
    superblock::{self, Superblock},
};

/// What was told to somebody before the crash.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Told {
    /// The replica was made.
    pub ready: bool,
    /// Everything up to here is there.
    pub seq: Seq,
    /// Nothing older is confirmed.
    pub promise: Epoch,
}

/// A directory for a state: in memory where that can be had, as what survives is for the model to say.
pub fn directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

macro_rules! ensure {
    ($holds:expr, $($why:tt)+) => {
        if !$holds {
            return Err(format!($($why)+));
        }
    };
}

/// A state that is checked.
pub struct Check<'a> {
    pub history: &'a History,
    pub told: Told,
}

impl Check<'_> {
    /// Opens it and looks at everything. `None` where nothing was made yet, as may be.
    pub fn open(&self, dir: &Path) -> Result<Option<Replica>, String> {
        let replica = match Replica::open_with(dir, &identity(), &plain()) {
            Ok(replica) => replica,
            Err(OpenError::Empty(_)) if !self.told.ready => {
                Replica::initialise_with(dir, &identity(), &plain())
                    .map_err(|e| format!("cannot be made anew: {e}"))?;
                return Ok(None);
            }
            Err(e) => return Err(format!("does not open: {e}")),
        };
        let (said, told) = (replica.describe(), self.told);
        let end = said.end.1;
        ensure!(end >= told.seq, "ends at {end}, and {} was acknowledged", told.seq);
        ensure!(said.promise >= told.promise, "promised {}, and says {}", told.promise, said.promise);
        let mail = Mail::seen(&replica.view()).map_err(|e| format!("cannot be read: {e}"))?;
        let expected = self.history.mail_at(end);
        ensure!(mail == expected, "other mail at {end}: {}", difference(&mail, &expected));
        // Where every row is the same, so is every sum of them: it was checked when the reference was made.
        if let Some(reference) = self.history.references.get(&end) {
            let found = Reference::of(&replica.engine.conn);
            let differs = found.rows.iter().zip(reference.rows.iter()).find(|(a, b)| a != b);
            ensure!(found.rows == reference.rows, "other rows at {end}: {differs:?}");
        } else {
            let wrong = replica.view().verify().map_err(|e| e.to_string())?;
            ensure!(wrong.is_empty(), "counters are wrong: {wrong:?}");
        }
        Ok(Some(replica))
    }

    /// Opened once more, nothing is different.
    pub fn opened_again(&self, replica: Replica, dir: &Path) -> Result<Replica, String> {
        let end = replica.describe().end;
        drop(replica);
        let (before, segments) = (rows(dir, &[]), segment::list(&dir.join("log")).unwrap());
        let replica = self.open(dir)?.ok_or("it is gone")?;
        ensure!(replica.describe().end == end, "opened twice, it ends at {:?}", replica.describe().end);
        ensure!(rows(dir, &[]) == before, "opened twice, the index is another");
        let now = segment::list(&dir.join("log")).unwrap();
        ensure!(now == segments, "opened twice, the segments are {now:?}, not {segments:?}");
        Ok(replica)
    }

    /// Mail goes on under numbers that nobody has; an index made anew, and a mirror's, is the same.
    pub async fn goes_on(&self, replica: Replica, dir: &Path) -> Result<(), String> {
        let end = replica.describe().end;
        let epoch = end.0.max(replica.describe().promise) + 1;
        let store = replica.serve(epoch, ME, Arc::new(OpenGate)).map_err(|e| e.to_string())?;
        self.numbers(&store, end.1).await?;
        let end = store.committed().1;
        let seen = store.read(|view| Ok(Mail::seen(view))).await.map_err(|e| e.to_string())??;
        let given_back = store.reclaim().await?;
        drop(store.stop().await);
        // With packs, where bodies lie may differ: some are in two places.
        let has_packs = !segment::packs(&dir.join("log")).unwrap().is_empty();
        let places: &[&str] = if has_packs { &["segment", "offset"] } else { &[] };
        let grown = rows(dir, places);
        schema::remove(dir).unwrap();
        let replica =
            Replica::open_with(dir, &identity(), &plain()).map_err(|e| format!("index gone: {e}"))?;
        ensure!(rows(dir, places) == grown, "an index made anew is another");
        let anew = Mail::seen(&replica.view()).map_err(|e| format!("index gone: {e}"))?;
        ensure!(anew == seen, "after {given_back:?}, other mail: {}", difference(&anew, &seen));
        let block = Superblock::read(dir).map_err(|e| e.to_string())?;
        if block.contiguous_from > 0 {
            return Ok(());
        }
        let mirror = directory();
        let last = mirrored(dir, mirror.path(), end)?.into_values().next_back().ok_or("an empty log")?;
        ensure!(last.rows == Reference::read(dir).rows, "a mirror's index is another");
        drop(replica);
        Ok(())
    }

    /// New mail and mailboxes get numbers above all that anybody was told.
    async fn numbers(&self, store: &crate::Store, end: Seq) -> Result<(), String> {
        let told = self.history.references.range(..=self.told.seq).next_back().map(|(_, r)| r.state);
        let told = told.unwrap_or_default();
        let mail = self.history.mail_at(end);
        let owners: Vec<u128> =
            (1..=3).filter(|n| mail.boxes.contains_key(&(*n, "INBOX".to_owned()))).collect();
        let Some(first) = owners.first().copied() else { return Ok(()) };
        let act = Act::Deliver { id: delivery_id(), to: owners, text: "later".to_owned() };
        let mut expected = mail;
        expected.act(&act);
        let delivered = store.deliver(mail_for(&act).unwrap()).await.map_err(|e| e.to_string())?;
        drop(delivered.acknowledge());
        let create = crate::CreateMailbox {
            account: mailcluster_types::AccountId(first),
            name: "later".to_owned(),
            special_use: None,
        };
        let id = store.create_mailbox(create).await.map_err(|e| e.to_string())?;
        let id = id.acknowledge().map_err(|e| e.to_string())?;
        expected.act(&Act::Create(first, "later".to_owned()));
        let (mail, made) =
            store.read(move |v| Ok((Mail::seen(v), v.mailbox(id)?))).await.map_err(|e| e.to_string())?;
        let (mail, made) = (mail?, made.ok_or("the new mailbox is not there")?);
        ensure!(mail == expected, "other numbers: {}", difference(&mail, &expected));
        ensure!(made.uid_validity > told.uid_validity, "UIDVALIDITY {} again", made.uid_validity);
        ensure!(made.highest_modseq > told.modseq, "MODSEQ {} again", made.highest_modseq);
        ensure!(made.id > told.mailbox, "mailbox {} again", made.id);
        Ok(())
    }
}

fn difference(found: &Mail, expected: &Mail) -> String {
    for (key, contents) in &expected.boxes {
        let now = found.boxes.get(key);
        if now != Some(contents) {
            let next = now.map(|now| now.uid_next);
            let uids = now.map(|now| now.messages.keys().copied().collect::<Vec<_>>());
            let wanted: Vec<_> = contents.messages.keys().collect();
            return format!(
                "{key:?} has {uids:?} and then {next:?}, not {wanted:?} and then {}",
                contents.uid_next
            );
        }
    }
    let boxes = found.boxes.len();
    format!("{boxes} mailboxes, not {}; {:?}, not {:?}", expected.boxes.len(), found.queue, expected.queue)
}

/// One state, written where it can be opened.
pub fn lay_out(image: &Image, index: &IndexFiles) -> TempDir {
    let dir = directory();
    write(dir.path(), image, index);
    dir
}

/// What a machine finds when it starts again: a sync that failed was one of an earlier boot.
pub fn after_boot(mut image: Image) -> Image {
    let name = Path::new("superblock");
    let Some(content) = image.files.get_mut(name) else { return image };
    let dir = directory();
    fs::write(superblock::path(dir.path()), content.as_slice()).unwrap();
    if let Ok(mut block) = Superblock::read(dir.path())
        && !block.poisoned.is_empty()
    {
        block.poisoned = "an earlier boot".to_owned();
        block.write(&plain().disk, dir.path()).unwrap();
        *content = Arc::new(fs::read(superblock::path(dir.path())).unwrap());
    }
    image
}
