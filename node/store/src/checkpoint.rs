//! Moves the index's write-ahead log into the index, off the committer's path.
//!
//! It runs when the write-ahead log has grown to its limit. `PASSIVE` blocks nobody but never catches up with a
//! committer that does not pause; so a `RESTART` follows, which holds the committer for what little is left.

use std::{
    path::Path,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI32, Ordering},
    },
    thread::JoinHandle,
};

use rusqlite::{Connection, ErrorCode, hooks::Wal};

use crate::schema;

#[derive(Default)]
struct Signal {
    asked: Mutex<Asked>,
    wake: Condvar,
}

#[derive(Default)]
struct Asked {
    work: bool,
    stop: bool,
}

/// Keeps checkpoints away while a snapshot of the index is held for long.
pub struct Hold {
    held: AtomicBool,
    pages: Arc<AtomicI32>,
    most: i32,
}

/// As long as it is there, no checkpoint begins.
pub struct Held<'a>(&'a Hold);

impl Hold {
    /// From now on none begins; one that runs goes on to its end.
    pub fn hold(&self) -> Held<'_> {
        self.held.store(true, Ordering::Release);
        Held(self)
    }
}

impl Held<'_> {
    /// Has the write-ahead log of an index of so many pages grown so long that it must end?
    pub fn is_too_long(&self, index: i32) -> bool {
        self.0.pages.load(Ordering::Relaxed) > self.0.most.max(index)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.held.store(false, Ordering::Release);
    }
}

/// Pages of the write-ahead log up to which checkpoints may be kept away, at least.
const HELD_PAGES: i32 = 65_536;

/// The thread.
pub struct Checkpointer {
    signal: Arc<Signal>,
    failed: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// Pages in the write-ahead log after the last commit.
    pages: Arc<AtomicI32>,
    /// Pages from which it is worth while.
    threshold: i32,
    hold: Arc<Hold>,
}

impl Checkpointer {
    /// Starts it for the index in `dir` that `committer` writes.
    pub fn start(dir: &Path, committer: &mut Connection, segment_size: u64) -> Result<Self, String> {
        let conn = schema::open_checkpointer(dir).map_err(|e| e.to_string())?;
        let pages = Arc::new(AtomicI32::new(0));
        let noted = pages.clone();
        let note = move |_: &mut Wal, pages: i32| {
            noted.store(pages, Ordering::Relaxed);
            Ok(())
        };
        committer.wal_hook(Some(note)).map_err(|e| e.to_string())?;
        // As large as a segment, so in proportion to the volume.
        let threshold = i32::try_from(segment_size / 4096).unwrap_or(i32::MAX).max(64);
        let (signal, failed) = (Arc::new(Signal::default()), Arc::new(AtomicBool::new(false)));
        let (theirs, flag) = (signal.clone(), failed.clone());
        let thread = std::thread::Builder::new()
            .name("store-checkpoint".into())
            .spawn(move || work(&conn, &theirs, &flag))
            .map_err(|e| e.to_string())?;
        let most = threshold.saturating_mul(16).max(HELD_PAGES);
        let hold = Arc::new(Hold { held: AtomicBool::new(false), pages: pages.clone(), most });
        Ok(Self { signal, failed, thread: Some(thread), pages, threshold, hold })
    }

    /// What keeps checkpoints away.
    pub fn hold(&self) -> Arc<Hold> {
        self.hold.clone()
    }

    /// Called by the committer after each commit.
    pub fn after_commit(&self) {
        if self.pages.load(Ordering::Relaxed) >= self.threshold && !self.hold.held.load(Ordering::Acquire) {
            let mut asked = self.signal.asked.lock().unwrap_or_else(PoisonError::into_inner);
            asked.work = true;
            self.signal.wake.notify_one();
        }
    }

    /// Has writing or syncing the index failed?
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.signal.asked.lock().unwrap_or_else(PoisonError::into_inner).stop = true;
        self.signal.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn work(conn: &Connection, signal: &Signal, failed: &AtomicBool) {
    loop {
        {
            let mut asked = signal.asked.lock().unwrap_or_else(PoisonError::into_inner);
            while !asked.work && !asked.stop {
                asked = signal.wake.wait(asked).unwrap_or_else(PoisonError::into_inner);
            }
            if asked.stop {
                return;
            }
            asked.work = false;
        }
        if let Err(e) = checkpoint(conn) {
            tracing::error!(error = %e, "failed to checkpoint the index");
            failed.store(true, Ordering::Release);
            return;
        }
    }
}

fn checkpoint(conn: &Connection) -> rusqlite::Result<()> {
    let run = |mode: &str| -> rusqlite::Result<(i64, i64)> {
        conn.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |r| Ok((r.get(1)?, r.get(2)?)))
    };
    let outcome = run("PASSIVE").and_then(|(pages, done)| {
        // What came while the first pass ran; this one is short.
        if pages > done {
            run("PASSIVE")?;
        }
        run("RESTART").map(drop)
    });
    match outcome {
        Err(e)
            if matches!(e.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)) =>
        {
            Ok(())
        }
        // The volume is full: the write-ahead log keeps what it has.
        Err(e) if e.sqlite_error_code() == Some(ErrorCode::DiskFull) => {
            tracing::warn!("no room to checkpoint the index");
            Ok(())
        }
        other => other,
    }
}
