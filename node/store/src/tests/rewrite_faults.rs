//! Faults beside giving room back: a disk that fails, a volume that fills up, readers that do not end, and a mirror that
//! comes.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use mailcluster_types::{Epoch, ReplicaId, Seq};

use super::{
    rewrite::{bodies, content, eager, mostly_gone, octets, serve, store_view, thinned},
    support::{deliver, identity},
};
use crate::{
    OpenGate, Replica, Store, base,
    disk::{Disk, LogFile, RealDisk},
    engine::Options,
    mirrors::{Claim, Committed, Mirrors},
    rewrite::Room,
    schema, segment,
    space::Volume,
    superblock::Superblock,
};

type Rule = dyn Fn(&str, &Path) -> Option<i32> + Send + Sync;

/// A disk on which an operation fails with the error that a rule names.
#[derive(Clone)]
pub struct Faulty(Arc<Rule>);

impl Faulty {
    pub fn new(rule: impl Fn(&str, &Path) -> Option<i32> + Send + Sync + 'static) -> Self {
        Self(Arc::new(rule))
    }

    fn ask(&self, op: &str, path: &Path) -> io::Result<()> {
        (self.0)(op, path).map_or(Ok(()), |error| Err(io::Error::from_raw_os_error(error)))
    }
}

impl Disk for Faulty {
    fn create(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        self.ask("create", path)?;
        Ok(Box::new(FaultyFile(self.clone(), path.to_owned(), RealDisk.create(path)?)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        self.ask("open", path)?;
        Ok(Box::new(FaultyFile(self.clone(), path.to_owned(), RealDisk.open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.ask("rename", to)?;
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.ask("remove", path)?;
        RealDisk.remove(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.ask("create_dir", path)?;
        RealDisk.create_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.ask("sync_dir", path)?;
        RealDisk.sync_dir(path)
    }
}

struct FaultyFile(Faulty, PathBuf, Box<dyn LogFile>);

impl LogFile for FaultyFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.ask("write", &self.1)?;
        self.2.write_at(offset, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.ask("sync", &self.1)?;
        self.2.sync()
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.2.set_len(len)
    }

    fn allocate(&mut self, len: u64) -> io::Result<()> {
        self.2.allocate(len)
    }
}

fn options() -> Options {
    Options { segment_size: Some(16 << 10), eager_rewriting: true, ..Options::default() }
}

fn opened(options: &Options, dir: &Path) -> Replica {
    Replica::open_with(dir, &identity(), options).unwrap()
}

fn served(replica: Replica) -> Store {
    let epoch = replica.describe().last_epoch + 1;
    replica.serve(epoch, &[ReplicaId(9)], Arc::new(OpenGate)).unwrap()
}

/// Serves the store in `dir` on such a disk.
pub fn serve_on(disk: &Faulty, dir: &Path) -> Store {
    served(opened(&Options { disk: Arc::new(disk.clone()), ..options() }, dir))
}

/// A stopped store of which little is still needed.
async fn lived(dir: &Path, messages: u64) {
    let store = serve(&eager(), dir);
    thinned(&store, messages, 1500).await;
    drop(store.stop().await);
}

fn is_wal(path: &Path) -> bool {
    path.to_string_lossy().ends_with("-wal")
}

async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), work)
        .await
        .unwrap_or_else(|_| panic!("{what}: nothing comes"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_opened_is_no_failed_sync() {
    const TOO_MANY_FILES: i32 = 24;
    for op in ["open", "sync_dir"] {
        let dir = tempfile::tempdir().unwrap();
        lived(dir.path(), 240).await;
        let root = dir.path().to_owned();
        let fails = Arc::new(AtomicBool::new(false));
        let disk = Faulty::new({
            let fails = fails.clone();
            move |now, path| {
                let is_it = now == op && (is_wal(path) || path == root);
                (is_it && fails.load(Ordering::Relaxed)).then_some(TOO_MANY_FILES)
            }
        });
        let store = serve_on(&disk, dir.path());
        fails.store(true, Ordering::Relaxed);
        store.reclaim().await.unwrap_err();
        deliver(&store, 1, "one").await;
        deliver(&store, 1, "and another, after somebody has looked whether the index failed").await;
        assert_eq!(store.stats().failures(), 0);
        fails.store(false, Ordering::Relaxed);
        assert!(store.reclaim().await.unwrap().files > 10);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_that_failed_ends_the_store_and_is_not_tried_again() {
    let parts: [fn(&str, &Path) -> bool; 3] = [
        |op, path| op == "sync" && is_wal(path),
        // The index's own names, and those of the log: others may never learn that theirs are lost.
        |op, path| op == "sync_dir" && path.join("superblock").exists(),
        |op, path| {
            op == "sync_dir"
                && path.ends_with("log")
                && fs::read_dir(path)
                    .unwrap()
                    .any(|e| e.unwrap().path().extension().is_some_and(|e| e == "pack"))
        },
    ];
    for (n, is_it) in parts.into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        lived(dir.path(), 240).await;
        let (fails, tried) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let disk = Faulty::new({
            let (fails, tried) = (fails.clone(), tried.clone());
            move |op, path| {
                let fails = fails.load(Ordering::Relaxed) && is_it(op, path);
                fails.then(|| tried.fetch_add(1, Ordering::Relaxed))?;
                Some(5)
            }
        });
        let store = serve_on(&disk, dir.path());
        fails.store(true, Ordering::Relaxed);
        soon("reclaim", store.reclaim()).await.unwrap_err();
        // Without anybody asking for anything.
        soon("stopped", store.stopped()).await;
        let first = tried.load(Ordering::Relaxed);
        soon("reclaim again", store.reclaim()).await.unwrap_err();
        assert!(store.stats().failures() > 0, "{n}");
        // The poison is written, too, to another file of the same directory.
        let most = if n == 1 { 2 } else { 1 };
        assert!((1..=most).contains(&first), "{n}: tried {first} times");
        assert_eq!(tried.load(Ordering::Relaxed), first, "{n}");
    }
}

/// A volume of 100 GiB that has so much free, and what was written since is not free any more.
struct Filling {
    free: u64,
    /// Everything that lies on it when it was made.
    before: u64,
    /// Somebody else has taken all that there is.
    is_taken: Box<dyn Fn(&Path) -> bool + Send + Sync>,
}

/// Of 100 GiB 4 are kept free, of which a half may be used.
const KEPT: u64 = 4 << 29;

impl Volume for Filling {
    fn measure(&self, dir: &Path) -> (u64, u64) {
        let used = everything(dir).saturating_sub(self.before);
        let free = if (self.is_taken)(dir) { KEPT } else { (KEPT + self.free).saturating_sub(used) };
        (free, 100 << 30)
    }
}

fn everything(dir: &Path) -> u64 {
    let mut sum = 0;
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(meta) = entry.metadata() else { continue };
        sum += if meta.is_dir() { everything(&entry.path()) } else { meta.len() };
    }
    sum
}

/// Gives room back where there is so little of it; answers what came of it, and the most that lay there meanwhile.
async fn reclaimed(
    dir: &Path,
    free: u64,
    is_taken: impl Fn(&Path) -> bool + Send + Sync + 'static,
) -> (Result<crate::Reclaimed, String>, u64) {
    let (before, most) = (everything(dir), Arc::new(AtomicU64::new(0)));
    let disk = Faulty::new({
        let (root, most) = (dir.to_owned(), most.clone());
        move |_, _| {
            most.fetch_max(everything(&root).saturating_sub(before), Ordering::Relaxed);
            None
        }
    });
    let volume = Filling { free, before, is_taken: Box::new(is_taken) };
    let options = Options { disk: Arc::new(disk), volume: Arc::new(volume), ..options() };
    let store = served(opened(&options, dir));
    let done = store.reclaim().await;
    drop(store.stop().await);
    (done, most.load(Ordering::Relaxed))
}

#[tokio::test]
async fn packs_and_bases_take_no_room_that_is_not_there_any_more() {
    let dir = tempfile::tempdir().unwrap();
    lived(dir.path(), 2000).await;
    let index = fs::metadata(schema::path(dir.path())).unwrap().len();
    // A new segment may be begun, the index's write-ahead log be written.
    let slack = 64 << 10;
    let free = index + index / 8 + slack;
    let (done, most) = reclaimed(dir.path(), free, |_| false).await;
    assert!(most <= free + slack, "{most} of {free}: {done:?}");
    assert_eq!(base::list(dir.path()).unwrap().len(), 1, "for that there was room");
}

#[tokio::test]
async fn what_others_take_meanwhile_ends_a_pack_and_a_base() {
    for unfinished in [PathBuf::from("log/pack.new"), PathBuf::from("base/base.new")] {
        let dir = tempfile::tempdir().unwrap();
        lived(dir.path(), 1000).await;
        let before = octets(dir.path());
        let began = Arc::new(AtomicBool::new(false));
        let is_there = {
            let (began, unfinished) = (began.clone(), unfinished.clone());
            move |dir: &Path| {
                if dir.join(&unfinished).exists() {
                    began.store(true, Ordering::Relaxed);
                }
                began.load(Ordering::Relaxed)
            }
        };
        let (done, _) = reclaimed(dir.path(), 50 << 20, is_there).await;
        assert!(done.unwrap_err().contains("no room"), "{}", unfinished.display());
        assert!(!dir.path().join(&unfinished).exists());
        let packs = segment::packs(&dir.path().join("log")).unwrap().len();
        assert!(packs <= 16, "{packs}: {before}");
        let bases = base::list(dir.path()).unwrap().len();
        assert_eq!(bases, usize::from(!unfinished.starts_with("base")));
    }
}

#[tokio::test]
async fn what_the_committer_does_for_it_is_checkpointed_too() {
    let dir = tempfile::tempdir().unwrap();
    lived(dir.path(), 4000).await;
    let store = serve(&eager(), dir.path());
    assert!(store.reclaim().await.unwrap().files > 100);
    // Nobody delivers anything.
    let uri = format!("file:{}?immutable=1", schema::path(dir.path()).display());
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY | rusqlite::OpenFlags::SQLITE_OPEN_URI;
        let found = rusqlite::Connection::open_with_flags(&uri, flags).and_then(|conn| {
            let sql = "SELECT count(*) FROM body WHERE segment>=?";
            conn.query_row(sql, [segment::PACK], |r| r.get::<_, u64>(0))
        });
        if found.is_ok_and(|moved| moved > 0) {
            break;
        }
        assert!(Instant::now() < deadline, "the write-ahead log only grows");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_that_does_not_end_costs_no_more_than_one_round() {
    let dir = tempfile::tempdir().unwrap();
    lived(dir.path(), 240).await;
    let options = Options { patience: Duration::from_millis(100), ..options() };
    let store = served(opened(&options, dir.path()));
    let view = store_view(&store).await;
    let seen = bodies(dir.path(), &view);
    let mut packed = Vec::new();
    for _ in 0..4 {
        assert_eq!(store.reclaim().await.unwrap().files, 0, "the view may read them");
        packed.push(segment::packs(&dir.path().join("log")).unwrap());
        thinned(&store, 240, 1500).await;
        for (id, text) in &seen {
            assert_eq!(view.body(*id).unwrap(), text, "by a view of before");
        }
    }
    assert!(!packed[0].is_empty(), "the first round writes");
    assert!(packed.iter().all(|packs| *packs == packed[0]), "{packed:?}");
    drop(view);
    assert!(store.reclaim().await.unwrap().files > 40);
}

/// A mirror that comes while something is done on the disk, and sees what there is then.
#[derive(Default)]
struct Coming {
    dir: PathBuf,
    /// Steps until it comes, from when on that is counted.
    left: AtomicUsize,
    is_there: AtomicBool,
    seen: Mutex<Option<Before>>,
}

/// Segments, and from where on the log has no gaps.
type Before = (Vec<Seq>, Seq);

impl Coming {
    fn now(&self) -> Before {
        let segments = segment::list(&self.dir.join("log")).unwrap();
        (segments, Superblock::read(&self.dir).unwrap().contiguous_from)
    }

    /// Not in the middle of what was begun before it came.
    fn step(&self, op: &str, path: &Path) {
        let is_within = op == "remove" || path.to_string_lossy().contains("superblock");
        let left = self.left.load(Ordering::SeqCst);
        if is_within || left == 0 {
            return;
        }
        self.left.store(left - 1, Ordering::SeqCst);
        if left == 1 {
            *self.seen.lock().unwrap() = Some(self.now());
            self.is_there.store(true, Ordering::SeqCst);
        }
    }
}

impl Mirrors for Coming {
    fn written(&self, _: (Epoch, Seq)) {}

    fn until_committed(&self, _: (Epoch, Seq)) -> Committed<'_> {
        Box::pin(std::future::ready(true))
    }

    fn claim(&self, _: Room) -> Claim {
        if self.is_there.load(Ordering::SeqCst) { Claim::All } else { Claim::Nothing }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_when_a_mirror_comes_nothing_is_taken_away() {
    let lived_in = tempfile::tempdir().unwrap();
    lived(lived_in.path(), 40).await;
    let store = serve(&eager(), lived_in.path());
    mostly_gone(&store, 60, 1500, 0).await;
    thinned(&store, 60, 1500).await;
    drop(store.stop().await);
    let mut steps = 1;
    loop {
        let dir = super::rewrite_crash::copied(lived_in.path());
        let coming = Arc::new(Coming { dir: dir.path().to_owned(), ..Coming::default() });
        let disk = Faulty::new({
            let coming = coming.clone();
            move |op, path| {
                coming.step(op, path);
                None
            }
        });
        let mut replica = opened(&Options { disk: Arc::new(disk), ..options() }, dir.path());
        replica.engine.mirrors = coming.clone();
        let store = served(replica);
        let before = content(dir.path());
        coming.left.store(steps, Ordering::SeqCst);
        let done = store.reclaim().await;
        let seen = coming.seen.lock().unwrap().clone();
        let Some(seen) = seen else {
            assert!(done.unwrap().files > 5, "without a mirror");
            break;
        };
        assert_eq!(coming.now(), seen, "after {steps} steps: {done:?}");
        assert!(content(dir.path()) == before);
        drop(store.stop().await);
        steps += 1;
    }
    println!("{steps} steps");
    assert!(steps > 20, "{steps}");
}
