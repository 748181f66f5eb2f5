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

use crate::{machine, schema};

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

/// The thread.
pub struct Checkpointer {
    signal: Arc<Signal>,
    failed: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// Of a simulation, which has no other thread.
    here: Option<Mutex<Connection>>,
    /// Pages in the write-ahead log after the last commit.
    pages: Arc<AtomicI32>,
    /// Pages from which it is worth while.
    threshold: i32,
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
        if machine::is_one_thread() {
            let here = Some(Mutex::new(conn));
            return Ok(Self { signal, failed, thread: None, here, pages, threshold });
        }
        let (theirs, flag) = (signal.clone(), failed.clone());
        let thread = std::thread::Builder::new()
            .name("store-checkpoint".into())
            .spawn(move || work(&conn, &theirs, &flag))
            .map_err(|e| e.to_string())?;
        Ok(Self { signal, failed, thread: Some(thread), here: None, pages, threshold })
    }

    /// Called by the committer after each commit.
    pub fn after_commit(&self) {
        if self.pages.load(Ordering::Relaxed) < self.threshold {
            return;
        }
        if let Some(conn) = &self.here {
            let _ = is_done(&checkpoint(&conn.lock().unwrap_or_else(PoisonError::into_inner)), &self.failed);
        } else {
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
        if !is_done(&checkpoint(conn), failed) {
            return;
        }
    }
}

/// Was it done?
fn is_done(done: &rusqlite::Result<()>, failed: &AtomicBool) -> bool {
    if let Err(e) = done {
        tracing::error!(error = %e, "failed to checkpoint the index");
        failed.store(true, Ordering::Release);
    }
    done.is_ok()
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
