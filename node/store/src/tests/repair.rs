//! Damage in the log of a store that has a mirror: it is read as it was, and mended.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use mailcluster_types::{AccountId, ReplicaId, Seq};
use tempfile::TempDir;

use super::{
    mirror::{copy, fresh, other, work},
    support::{account, deliver, identity},
};
use crate::{
    Damage, Fetched, LogReader, OpenGate, ReadError, Repairs, Siblings, Store, Wanted, lend,
    log_walk::{LogWalk, Piece},
    segment,
    testing::Rng,
    tools,
};

/// Another replica's log.
struct Other {
    dir: PathBuf,
    asked: Mutex<Vec<Seq>>,
}

impl Siblings for Other {
    fn fetch(&self, wanted: &Wanted) -> Fetched {
        self.asked.lock().unwrap().push(wanted.first);
        match lend(&self.dir, &other(), wanted).unwrap() {
            Some(batch) => Fetched::Batch(batch),
            None => Fetched::Nowhere,
        }
    }
}

/// A store with mail in many segments, and a mirror that has all of it.
struct World {
    one: TempDir,
    two: TempDir,
    store: Store,
    repairs: Arc<Repairs>,
    other: Arc<Other>,
    texts: Vec<(u64, Vec<u8>)>,
}

async fn world() -> World {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut first = fresh(one.path(), &identity());
    let (_, end) = first.begin(1, &[ReplicaId(9)]).unwrap();
    first.advance(end).unwrap();
    let repairs = first.repairs();
    let store = first.into_replica().go_on(Arc::new(OpenGate)).unwrap();
    work(&store).await;
    let mut mirror = fresh(two.path(), &other());
    let mut reader = LogReader::after(one.path(), identity(), 0).unwrap();
    copy(&mut reader, &mut mirror, store.committed().1);
    let other = Arc::new(Other { dir: two.path().to_owned(), asked: Mutex::default() });
    repairs.ask(Some(other.clone()));
    let texts = texts(&store).await;
    assert!(texts.len() == 40 && segment::list(&one.path().join("log")).unwrap().len() > 4);
    World { one, two, store, repairs, other, texts }
}

async fn bodies(store: &Store) -> Vec<u64> {
    let all = |view: &crate::View| -> Result<Vec<u64>, ReadError> {
        let mut all = Vec::new();
        for n in 1..=2 {
            for mailbox in view.mailboxes(AccountId(n))? {
                all.extend(view.messages(mailbox.id, 1, u32::MAX)?.into_iter().map(|m| m.body));
            }
        }
        Ok(all)
    };
    store.read(all).await.unwrap()
}

async fn texts(store: &Store) -> Vec<(u64, Vec<u8>)> {
    let mut texts = Vec::new();
    for body in bodies(store).await {
        texts.push((body, store.read(move |view| view.body(body)).await.unwrap().to_vec()));
    }
    texts
}

/// A batch's place: segment, offset, octets.
type Batch = (Seq, u64, u64);

impl World {
    fn log(&self) -> PathBuf {
        self.one.path().join("log")
    }

    fn damage(&self) -> Damage {
        self.store.stats().damage()
    }

    /// Where this body's batch lies, and how many octets before the body.
    fn batch(&self, body: u64) -> (Batch, u64) {
        let conn = rusqlite::Connection::open(self.one.path().join("index.sqlite")).unwrap();
        let at: (Seq, u64) = conn
            .query_row("SELECT segment, offset FROM body WHERE id=?", [body], |r| Ok((r.get(0)?, r.get(1)?)))
            .unwrap();
        let all = batches(&self.log());
        let batch = all.into_iter().find(|b| b.0 == at.0 && (b.1..b.1 + b.2).contains(&at.1)).unwrap();
        (batch, at.1 - batch.1)
    }

    fn is_newest(&self, segment: Seq) -> bool {
        segment::list(&self.log()).unwrap().last() == Some(&segment)
    }

    async fn read(&self, body: u64) -> Result<Vec<u8>, ReadError> {
        let whole = self.store.read(move |view| view.body(body)).await.map(|text| text.to_vec());
        let pieces = self
            .store
            .read(move |view| {
                let stored = view.stored_body(body)?;
                let mut text = Vec::new();
                while (text.len() as u64) < stored.size() {
                    text.extend_from_slice(&view.piece(&stored, text.len() as u64)?);
                }
                Ok(text)
            })
            .await;
        assert_eq!(whole.is_ok(), pieces.is_ok());
        if let Ok(text) = &whole {
            assert!(pieces.unwrap() == *text);
        }
        whole
    }
}

fn batches(log: &Path) -> Vec<Batch> {
    let mut found = Vec::new();
    let mut each = |piece| {
        if let Piece::Batch(placed, _) = piece {
            found.push((placed.segment, placed.offset, placed.header.span()));
        }
    };
    LogWalk::new(log, &identity(), 0, &mut each).run().unwrap();
    found
}

fn flip(log: &Path, segment: Seq, at: u64) {
    let file = fs::File::options().read(true).write(true).open(segment::path(log, segment)).unwrap();
    let mut octet = [0];
    file.read_exact_at(&mut octet, at).unwrap();
    file.write_all_at(&[octet[0] ^ 4], at).unwrap();
}

#[tokio::test]
async fn damage_is_read_as_it_was_and_mended_where_nothing_is_written_any_more() {
    let world = world().await;
    let before: Vec<Vec<u8>> = batches(&world.log()).iter().map(|b| octets(&world.log(), b)).collect();
    let (mut mended, mut lent) = (0, 0);
    for (n, (body, text)) in world.texts.iter().enumerate() {
        let ((segment, offset, span), before_body) = world.batch(*body);
        // In the newest one, what follows may not be there to name a batch without a header.
        let kind = if world.is_newest(segment) { 0 } else { n % 4 };
        match kind {
            // An octet of the body.
            0 | 1 if text.len() > 100 => flip(&world.log(), segment, offset + before_body + 7),
            // Its record's head, and the body.
            2 if text.len() > 100 => (81..span - 8).for_each(|at| flip(&world.log(), segment, offset + at)),
            // The batch's header, and the body.
            3 if text.len() > 100 => {
                flip(&world.log(), segment, offset + 20);
                flip(&world.log(), segment, offset + before_body);
            }
            _ => continue,
        }
        assert!(world.read(*body).await.as_deref() == Ok(text), "message {n} in segment {segment}");
        if world.is_newest(segment) {
            lent += 1;
        } else {
            mended += 1;
            world.repairs.ask(None);
            assert!(world.read(*body).await.as_deref() == Ok(text), "message {n} is not in its place");
            world.repairs.ask(Some(world.other.clone()));
        }
    }
    assert!(mended > 20 && lent > 0, "{mended} mended, {lent} lent");
    // Each was read twice: as a whole and by pieces.
    assert_eq!(world.damage(), Damage { mended, lent: lent * 2, lost: 0 });
    for (batch, octets_before) in batches(&world.log()).iter().zip(&before) {
        if !world.is_newest(batch.0) {
            let mut now = octets(&world.log(), batch);
            // What it says to be synced is less where the header was damaged; so its checksum is another.
            now[56..80].copy_from_slice(&octets_before[56..80]);
            assert!(now == *octets_before, "{batch:?}");
        }
    }
    drop(world.store.stop().await);
    let mut tell =
        |_: &tools::Checked, line: Option<&str>| line.into_iter().for_each(|line| println!("{line}"));
    let checked = tools::fsck(world.one.path(), None, &mut tell).unwrap();
    // The batch, its record, and its text.
    assert!(checked.problems <= lent * 3, "only what lies in the newest segment is damaged");
}

fn octets(log: &Path, (segment, offset, span): &Batch) -> Vec<u8> {
    let mut octets = vec![0; usize::try_from(*span).unwrap()];
    fs::File::open(segment::path(log, *segment)).unwrap().read_exact_at(&mut octets, *offset).unwrap();
    octets
}

/// Hands out whatever it has under that number.
struct Liar(PathBuf);

impl Siblings for Liar {
    fn fetch(&self, wanted: &Wanted) -> Fetched {
        let mut reader = LogReader::after(&self.0, other(), wanted.first - 1).unwrap();
        Fetched::Batch(reader.next(wanted.first).unwrap().unwrap())
    }
}

#[tokio::test]
async fn only_the_record_that_was_there_is_believed() {
    let world = world().await;
    // Another line: the same records by number, and other content.
    let another = tempfile::tempdir().unwrap();
    let mut line = fresh(another.path(), &other());
    let (_, end) = line.begin(1, &[ReplicaId(10)]).unwrap();
    line.advance(end).unwrap();
    let line = line.into_replica().go_on(Arc::new(OpenGate)).unwrap();
    line.put_account(account(1)).await.unwrap().acknowledge().unwrap();
    line.put_account(account(2)).await.unwrap().acknowledge().unwrap();
    for n in 0..40 {
        deliver(&line, 1 + n % 2, &"y".repeat(usize::try_from(n).unwrap() * 97)).await;
    }
    let (body, _) = world.texts.iter().find(|(_, text)| text.len() > 1000).unwrap();
    let ((segment, offset, _), before) = world.batch(*body);
    assert!(!world.is_newest(segment));
    flip(&world.log(), segment, offset + before + 9);
    let file = fs::read(segment::path(&world.log(), segment)).unwrap();
    world.repairs.ask(Some(Arc::new(Liar(another.path().to_owned()))));
    assert!(matches!(world.read(*body).await, Err(ReadError::Damaged(_))));
    assert!(fs::read(segment::path(&world.log(), segment)).unwrap() == file, "nothing is written");
    // Asked again only after a while.
    world.repairs.ask(Some(world.other.clone()));
    assert!(matches!(world.read(*body).await, Err(ReadError::Damaged(_))));
    assert!(world.other.asked.lock().unwrap().is_empty());
    assert_eq!(world.damage().mended, 0);
    drop(line.stop().await);
}

#[tokio::test]
async fn what_is_damaged_in_both_or_in_the_index_stays_so() {
    let world = world().await;
    let mut texts = world.texts.iter().filter(|(_, text)| text.len() > 1000);
    let ((both, _), (index, _)) = (texts.next().unwrap(), texts.next().unwrap());
    let ((segment, offset, _), before) = world.batch(*both);
    flip(&world.log(), segment, offset + before);
    let theirs = rusqlite::Connection::open(world.two.path().join("index.sqlite")).unwrap();
    let at: (Seq, u64) = theirs
        .query_row("SELECT segment, offset FROM body WHERE id=?", [both], |r| Ok((r.get(0)?, r.get(1)?)))
        .unwrap();
    flip(&world.two.path().join("log"), at.0, at.1);
    assert!(matches!(world.read(*both).await, Err(ReadError::Damaged(_))));
    let own = rusqlite::Connection::open(world.one.path().join("index.sqlite")).unwrap();
    own.execute("UPDATE body SET crc=crc+1 WHERE id=?", [index]).unwrap();
    let asked = world.other.asked.lock().unwrap().len();
    assert!(matches!(world.read(*index).await, Err(ReadError::Damaged(_))));
    assert_eq!(world.other.asked.lock().unwrap().len(), asked, "nobody is asked for what is intact");
    assert_eq!((world.damage().mended, world.damage().lent), (0, 0));
    assert!(world.damage().lost > 0);
}

#[tokio::test]
async fn a_log_that_is_sent_is_restored_first() {
    let world = world().await;
    let all = batches(&world.log());
    let (_, end) = world.store.committed();
    let intact: Vec<_> = {
        let mut reader = LogReader::after(world.one.path(), identity(), 0).unwrap();
        std::iter::from_fn(|| reader.next(end).unwrap()).collect()
    };
    for (n, (segment, offset, _)) in all.iter().enumerate().take(all.len() - 1).skip(3) {
        match n % 5 {
            0 => flip(&world.log(), *segment, offset + 90),
            2 => flip(&world.log(), *segment, offset + 1),
            _ => {}
        }
    }
    let mut reader = LogReader::after(world.one.path(), identity(), 0).unwrap();
    let mut sent = Vec::new();
    while let Some(batch) = reader.next(end).unwrap_or_else(|_| reader.restored(&world.repairs)) {
        sent.push(batch);
    }
    assert!(sent == intact, "{} of {} batches", sent.len(), intact.len());
    for segment in segment::list(&world.log()).unwrap() {
        assert!(world.repairs.check(segment).unwrap());
    }
    let (segment, offset, _) = all[1];
    flip(&world.log(), segment, offset + 90);
    assert!(world.repairs.check(segment).unwrap());
    assert_eq!(octets(&world.log(), &all[1]).len() as u64, all[1].2);
    world.repairs.ask(None);
    flip(&world.log(), segment, offset + 90);
    assert!(!world.repairs.check(segment).unwrap());
}

/// Who needs what comes later is fed, whatever is damaged before that in the same segment, and whoever else has it.
#[tokio::test]
async fn a_log_is_read_from_behind_damage() {
    let world = world().await;
    let (_, end) = world.store.committed();
    let from = |after| LogReader::after(world.one.path(), identity(), after);
    let intact: Vec<_> = {
        let mut reader = from(0).unwrap();
        std::iter::from_fn(|| reader.next(end).unwrap()).collect()
    };
    // Side by side: nothing here says what the first of them was called.
    for (segment, offset, _) in &batches(&world.log())[1..3] {
        flip(&world.log(), *segment, offset + 1);
    }
    for batch in &intact[3..] {
        let next = from(batch.seq - 1).unwrap().next(end).unwrap();
        assert!(next.as_ref() == Some(batch), "{}", batch.seq);
    }
    assert!(from(intact[1].seq).is_err(), "it ends between the two");
}

/// Whatever of a mend is on disk after a crash, sector by sector: nothing is lost that could be read before.
#[tokio::test]
async fn a_crash_in_the_middle_of_a_mend_costs_nothing() {
    let world = world().await;
    let (body, _) =
        world.texts.iter().rev().find(|(body, _)| !world.is_newest(world.batch(*body).0.0)).unwrap();
    let ((segment, offset, span), before) = world.batch(*body);
    for at in [1, before, before + 600, span - 90] {
        flip(&world.log(), segment, offset + at);
    }
    let path = segment::path(&world.log(), segment);
    let damaged = fs::read(&path).unwrap();
    let readable = |_: &str| batches(&world.log()).into_iter().collect::<BTreeSet<_>>();
    let could = readable("before");
    assert!(world.read(*body).await.is_ok());
    let mended = fs::read(&path).unwrap();
    assert!(mended != damaged && readable("after").len() == could.len() + 1);
    let mut rng = Rng::new(1);
    for round in 0..200 {
        let mut torn = mended.clone();
        for (new, old) in torn.chunks_mut(512).zip(damaged.chunks(512)) {
            if rng.one_in(2) {
                new[..old.len()].copy_from_slice(old);
            }
        }
        fs::write(&path, &torn).unwrap();
        assert!(readable("torn").is_superset(&could), "round {round}");
    }
}
