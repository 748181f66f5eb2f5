//! A store most of whose mail goes again, and whose room is given back while it lives on.

use std::{
    fs,
    path::{Path, PathBuf},
};

use mailcluster_types::Seq;

use super::{
    super::{
        rows::rows,
        support::{delivery_id, identity},
    },
    block_on,
    check::{Told, directory},
    disk::{Disk, Image},
    explore::Run,
    life::{Fed, History, Reference, perform_all, restart, round},
    mail::{Act, Mail},
    rng::Rng,
    tape::{Event, Faults, Tape, plain},
};
use crate::{OpenGate, Replica, Store};

/// What was done before the recording begins: much mail came, and most of it went.
async fn before(dir: &Path, history: &mut History, rng: &mut Rng) -> Seq {
    let tape = Tape::new(dir, Default::default(), Faults::default());
    let replica = Replica::initialise_with(dir, &identity(), &plain()).unwrap();
    let store = replica.serve(1, super::life::ME, std::sync::Arc::new(OpenGate)).unwrap();
    for n in 1..=3 {
        assert!(perform_all(&store, vec![Act::Account(n)], &tape, history).await);
    }
    for n in 0..60 {
        let text = format!("text {n} {}", "y".repeat(1000 + rng.below(800)));
        let act = Act::Deliver { id: delivery_id(), to: vec![1 + n % 3], text };
        assert!(perform_all(&store, vec![act], &tape, history).await);
    }
    thin(&store, &tape, history, rng).await;
    let end = store.committed().1;
    drop(store.stop().await);
    end
}

/// A life in which much mail comes and most of it goes again, so many times; its last record.
pub async fn gone(dir: &Path, history: &mut History, rng: &mut Rng, times: usize) -> Seq {
    let end = before(dir, history, rng).await;
    let tape = Tape::new(dir, Default::default(), Faults::default());
    let store = restart(dir, &tape, 2).await;
    for n in 1..times {
        for m in 0..24 {
            let text = format!("text {n} {m} {}", "z".repeat(800 + rng.below(800)));
            let act = Act::Deliver { id: delivery_id(), to: vec![1 + u128::try_from(m).unwrap() % 3], text };
            assert!(perform_all(&store, vec![act], &tape, history).await);
        }
        thin(&store, &tape, history, rng).await;
    }
    let last = store.committed().1;
    assert!(last > end);
    drop(store.stop().await);
    last
}

/// Expunges most of what there is, for good.
async fn thin(store: &Store, tape: &Tape, history: &mut History, rng: &mut Rng) {
    let mail = history.mail_at(Seq::MAX);
    let mut acts = Vec::new();
    for (of, contents) in mail.boxes.iter().filter(|(_, contents)| contents.messages.len() > 2) {
        let uids: Vec<u32> = contents.messages.keys().copied().filter(|_| !rng.one_in(4)).collect();
        if !uids.is_empty() {
            acts.push(Act::Expunge { of: of.clone(), uids });
        }
    }
    if !acts.is_empty() {
        acts.push(Act::Purge);
    }
    assert!(perform_all(store, acts, tape, history).await);
}

/// A directory's files, without those of the index and without the lock.
fn image(dir: &Path) -> Image {
    let mut image = Image::default();
    image.dirs.insert("log".into());
    for folder in ["", "log"] {
        for entry in fs::read_dir(dir.join(folder)).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let is_ours = !name.starts_with("index") && name != "lock";
            if entry.metadata().unwrap().is_file() && is_ours {
                let content = fs::read(entry.path()).unwrap();
                image.files.insert(PathBuf::from(folder).join(name), content.into());
            }
        }
    }
    image
}

/// Such a life under the recorder, with so many rounds of giving room back.
pub fn recorded(seed: u64, rounds: usize, faults: Faults) -> (Run, History) {
    let (dir, mirror) = (directory(), directory());
    let (mut history, mut rng) = (History::default(), Rng::new(seed));
    let end = block_on(before(dir.path(), &mut history, &mut rng));
    // Some of the index's connections may end a little later.
    super::super::rewrite::checkpointed(dir.path());
    let base = Disk::holding(&image(dir.path()));
    let tape = Tape::new(dir.path(), base.open_files(), faults);
    let mut fed = Fed::new(mirror.path()).unwrap();
    fed.feed(dir.path(), end).unwrap();
    block_on(live(dir.path(), &tape, (&mut rng, &mut fed, &mut history), rounds));
    history.references.extend(fed.end().unwrap());
    let (events, indexes) = tape.finish();
    let told = Told { ready: true, seq: end, promise: 0 };
    (Run { base, told, floor: 0, events, indexes }, history)
}

async fn live(
    dir: &Path,
    tape: &Tape,
    (rng, fed, history): (&mut Rng, &mut Fed<'_>, &mut History),
    rounds: usize,
) {
    let mut store = restart(dir, tape, 2).await;
    let (mut files, mut packed) = (0, 0);
    for n in 0..rounds {
        fed.feed(dir, store.committed().1).unwrap();
        let before = (Reference::read(dir).rows, store.read(|v| Ok(Mail::seen(v))).await.unwrap().unwrap());
        let done = store.reclaim().await.unwrap();
        let after = (Reference::read(dir).rows, store.read(|v| Ok(Mail::seen(v))).await.unwrap().unwrap());
        assert!(after == before);
        (files, packed) = (files + done.files, packed + done.packed);
        tape.note(Event::Told(store.committed().1));
        for _ in 0..6 {
            let acts = round(rng, &history.mail_at(Seq::MAX));
            assert!(perform_all(&store, acts, tape, history).await);
        }
        thin(&store, tape, history, rng).await;
        if n % 2 == 1 {
            // Some of this can come back: it is kept with the rest.
            for _ in 0..3 {
                let acts = round(rng, &history.mail_at(Seq::MAX));
                assert!(perform_all(&store, acts, tape, history).await);
            }
        }
        tape.note(Event::Told(store.committed().1));
        if n % 3 == 1 {
            let epoch = store.epoch() + 2;
            fed.feed(dir, store.committed().1).unwrap();
            drop(store.stop().await);
            store = restart(dir, tape, epoch).await;
        }
    }
    fed.feed(dir, store.committed().1).unwrap();
    history.references.insert(store.committed().1, Reference::read(dir));
    assert!(!rows(dir, &[]).is_empty());
    drop(store.stop().await);
    println!("{files} files were given back, {packed} octets packed");
    assert!(files > 3 && packed > 0, "{files} {packed}");
}
