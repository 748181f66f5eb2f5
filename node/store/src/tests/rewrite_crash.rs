//! Power is lost after each step of giving room back. Whatever of it is on the disk then: everything that was acknowledged
//! is there, once, with the index as it was last synced, as it is, and without one.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use mailcluster_types::ReplicaId;
use tempfile::TempDir;

use super::{
    rewrite::{bodies, content, eager, mostly_gone, serve},
    support::{deliver, identity},
};
use crate::{
    OpenGate, Replica,
    disk::{Disk, LogFile, RealDisk},
    engine::Options,
    schema, tools,
};

/// How to take back what a directory does not have durably.
enum Undo {
    /// It had the other name, and this was what stood under the new one.
    Renamed(PathBuf, PathBuf, Option<Vec<u8>>),
    Removed(PathBuf, Vec<u8>),
}

#[derive(Default)]
struct Noted {
    /// Operations that still succeed; `None`: all.
    left: Option<u64>,
    /// Files that were written since their last sync.
    dirty: BTreeSet<PathBuf>,
    /// Files that were synced since they were made.
    synced: BTreeSet<PathBuf>,
    undo: Vec<Undo>,
    /// The index, as it was last synced.
    index: BTreeMap<PathBuf, Vec<u8>>,
    wrong: Vec<String>,
}

/// Stops after a number of operations, and knows what would not survive.
#[derive(Clone, Default)]
struct Stopping(Arc<Mutex<Noted>>);

impl Stopping {
    fn with<T>(&self, work: impl FnOnce(&mut Noted) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn step(&self) -> io::Result<()> {
        self.with(|noted| match &mut noted.left {
            Some(0) => Err(io::Error::other("the power is gone")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        })
    }

    fn note_index(&self, dir: &Path) {
        let files = schema::files(dir).filter(|path| !path.to_string_lossy().ends_with("-shm"));
        let index = files.filter_map(|path| Some((path.clone(), fs::read(&path).ok()?))).collect();
        self.with(|noted| noted.index = index);
    }
}

impl Disk for Stopping {
    fn create(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        self.step()?;
        self.with(|noted| noted.synced.remove(path));
        Ok(Box::new(StoppingFile(self.clone(), path.to_owned(), RealDisk.create(path)?)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        self.step()?;
        Ok(Box::new(StoppingFile(self.clone(), path.to_owned(), RealDisk.open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        let replaced = fs::read(to).ok();
        RealDisk.rename(from, to)?;
        self.with(|noted| {
            if noted.dirty.remove(from) || !noted.synced.remove(from) {
                noted.wrong.push(format!("{} was renamed before it was synced", from.display()));
            }
            noted.undo.push(Undo::Renamed(from.to_owned(), to.to_owned(), replaced));
        });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        let octets = fs::read(path)?;
        RealDisk.remove(path)?;
        self.with(|noted| noted.undo.push(Undo::Removed(path.to_owned(), octets)));
        Ok(())
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        RealDisk.sync_dir(path)?;
        self.with(|noted| {
            noted.undo.retain(|undo| {
                let (Undo::Renamed(_, of, _) | Undo::Removed(of, _)) = undo;
                of.parent() != Some(path)
            });
        });
        Ok(())
    }
}

struct StoppingFile(Stopping, PathBuf, Box<dyn LogFile>);

impl LogFile for StoppingFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.step()?;
        self.0.with(|noted| noted.dirty.insert(self.1.clone()));
        self.2.write_at(offset, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.step()?;
        self.2.sync()?;
        self.0.with(|noted| {
            noted.dirty.remove(&self.1);
            noted.synced.insert(self.1.clone());
        });
        if let Some(dir) = self.1.to_str().and_then(|path| path.strip_suffix("/index.sqlite-wal")) {
            self.0.note_index(Path::new(dir));
        }
        Ok(())
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.2.set_len(len)
    }

    fn allocate(&mut self, len: u64) -> io::Result<()> {
        self.2.allocate(len)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Index {
    /// All that was written of it, and of the directories.
    Written,
    /// What was synced of it, and of the directories.
    Synced,
    /// None, and what was synced of the directories.
    Gone,
}

pub fn copied(from: &Path) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    for folder in ["", "log", "base"] {
        let Ok(entries) = fs::read_dir(from.join(folder)) else { continue };
        fs::create_dir_all(to.path().join(folder)).unwrap();
        for path in entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
            if !path.to_string_lossy().ends_with("-shm") {
                fs::copy(&path, to.path().join(folder).join(path.file_name().unwrap())).unwrap();
            }
        }
    }
    to
}

/// What is on the disk when power is lost now.
fn lost_power(dir: &Path, disk: &Stopping, index: Index) -> TempDir {
    let image = copied(dir);
    if index == Index::Written {
        return image;
    }
    let there = |path: &Path| image.path().join(path.strip_prefix(dir).unwrap());
    disk.with(|noted| {
        for undo in noted.undo.iter().rev() {
            match undo {
                Undo::Renamed(from, to, replaced) => {
                    fs::rename(there(to), there(from)).unwrap();
                    if let Some(octets) = replaced {
                        fs::write(there(to), octets).unwrap();
                    }
                }
                Undo::Removed(path, octets) => fs::write(there(path), octets).unwrap(),
            }
        }
        schema::remove(image.path()).unwrap();
        if index == Index::Synced {
            for (path, octets) in &noted.index {
                fs::write(there(path), octets).unwrap();
            }
        }
    });
    image
}

/// Mail of which most is gone, rewritten once already, so that there are packs and a base.
async fn lived() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let store = serve(&eager(), dir.path());
    mostly_gone(&store, 120, 1500, 16).await;
    mostly_gone(&store, 60, 1500, 4).await;
    assert!(store.reclaim().await.unwrap().files > 0);
    mostly_gone(&store, 80, 1500, 4).await;
    let inbox = super::support::mailbox(&store, 1, "INBOX").await;
    let half = (1..inbox.uid_next).filter(|uid| uid % 3 > 0).collect();
    store.expunge(inbox.id, crate::Expunge::These(half)).await.unwrap().acknowledge().unwrap();
    drop(store.stop().await);
    dir
}

#[tokio::test]
async fn power_may_be_lost_after_every_step_of_it() {
    let lived = lived().await;
    let (mut steps, mut ended) = (0, false);
    while !ended {
        let dir = copied(lived.path());
        let disk = Stopping::default();
        let options = Options {
            disk: Arc::new(disk.clone()),
            segment_size: Some(16 << 10),
            eager_rewriting: true,
            ..Options::default()
        };
        let replica = Replica::open_with(dir.path(), &identity(), &options).unwrap();
        let epoch = replica.describe().last_epoch + 1;
        let store = replica.serve(epoch, &[ReplicaId(9)], Arc::new(OpenGate)).unwrap();
        // The index may be behind the log.
        disk.note_index(dir.path());
        deliver(&store, 1, "the last before the power is lost\r\n").await;
        let truth = content(dir.path());
        let texts = store.read({
            let dir = dir.path().to_owned();
            move |view| Ok(bodies(&dir, view))
        });
        let texts = texts.await.unwrap();
        disk.with(|noted| noted.left = Some(steps));
        ended = store.reclaim().await.is_ok();
        for index in [Index::Written, Index::Synced, Index::Gone] {
            let image = lost_power(dir.path(), &disk, index);
            let what = format!("after {steps} steps, {index:?}");
            if index == Index::Gone {
                // Were the log not enough for it, there would have to be a base by now.
                schema::remove(image.path()).unwrap();
            }
            let replica = eager().open(image.path(), &identity()).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(bodies(image.path(), &replica.view()), texts, "{what}");
            assert!(content(image.path()) == truth, "{what}: the index differs");
            drop(replica);
            if index == Index::Synced {
                // What recovery did to the log, a base must fit.
                schema::remove(image.path()).unwrap();
                let replica =
                    eager().open(image.path(), &identity()).unwrap_or_else(|e| panic!("{what}: {e}"));
                assert_eq!(
                    bodies(image.path(), &replica.view()),
                    texts,
                    "{what}, and then without the index"
                );
                drop(replica);
                goes_on(image.path(), &texts, &what).await;
            }
        }
        assert_eq!(disk.with(|noted| std::mem::take(&mut noted.wrong)), Vec::<String>::new());
        drop(store.stop().await);
        steps += 1;
    }
    println!("{steps} steps");
    assert!(steps > 15, "{steps}");
}

/// What was half done is done, or done away with.
async fn goes_on(dir: &Path, texts: &BTreeMap<u64, Vec<u8>>, what: &str) {
    let store = serve(&eager(), dir);
    store.reclaim().await.unwrap_or_else(|e| panic!("{what}: {e}"));
    let there = store.read({
        let dir = dir.to_owned();
        move |view| Ok(bodies(&dir, view))
    });
    assert_eq!(there.await.unwrap(), *texts, "{what}, and on");
    assert_eq!(store.reclaim().await.unwrap().files, 0, "{what}: nothing is left over");
    drop(store.stop().await);
    let mut said = Vec::new();
    let checked = tools::fsck(dir, None, &mut |_, line| said.extend(line.map(str::to_owned))).unwrap();
    assert_eq!(checked.problems, 0, "{what}: {said:?}");
}
