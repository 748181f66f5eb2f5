//! Moves the index's write-ahead log into the index, off the committer's path.
//!
//! It runs as the write-ahead log grows, in steps: what the disk has to write at once stays small then, and the log's
//! syncs wait for little of it. `PASSIVE` blocks nobody but never catches up with a committer that does not pause; so
//! when the limit is reached a `RESTART` follows, which holds the committer for what little is left.

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

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Work {
    /// Move what is there; it goes on growing.
    Step,
    /// Move all, and begin it anew.
    All,
}

/// Steps on the way to the limit.
const STEPS: i32 = 8;

/// What is to be done when the write-ahead log has so many pages, and had `worked_on` when something was last done.
fn due(pages: i32, worked_on: i32, limit: i32) -> Option<Work> {
    let since = if worked_on > pages { 0 } else { worked_on };
    match pages {
        _ if pages >= limit => Some(Work::All),
        _ if pages - since >= limit / STEPS => Some(Work::Step),
        _ => None,
    }
}

#[derive(Default)]
struct Signal {
    asked: Mutex<Asked>,
    wake: Condvar,
}

#[derive(Default)]
struct Asked {
    work: Option<Work>,
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
    /// Of a simulation, which has no other thread.
    here: Option<Mutex<Connection>>,
    /// Pages in the write-ahead log after the last commit.
    pages: Arc<AtomicI32>,
    /// Pages in it when something was last done.
    worked_on: AtomicI32,
    /// Pages from which it begins anew.
    limit: i32,
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
        let limit = i32::try_from(segment_size / 4096).unwrap_or(i32::MAX).max(64);
        let (signal, failed) = (Arc::new(Signal::default()), Arc::new(AtomicBool::new(false)));
        let (thread, here) = if machine::is_one_thread() {
            (None, Some(Mutex::new(conn)))
        } else {
            let (theirs, flag) = (signal.clone(), failed.clone());
            let builder = std::thread::Builder::new().name("store-checkpoint".into());
            let thread = builder.spawn(move || work(&conn, &theirs, &flag)).map_err(|e| e.to_string())?;
            (Some(thread), None)
        };
        let most = limit.saturating_mul(16).max(HELD_PAGES);
        let hold = Arc::new(Hold { held: AtomicBool::new(false), pages: pages.clone(), most });
        Ok(Self { signal, failed, thread, here, pages, worked_on: AtomicI32::new(0), limit, hold })
    }

    /// What keeps checkpoints away.
    pub fn hold(&self) -> Arc<Hold> {
        self.hold.clone()
    }

    /// Called by the committer after each commit.
    pub fn after_commit(&self) {
        if self.hold.held.load(Ordering::Acquire) {
            return;
        }
        let pages = self.pages.load(Ordering::Relaxed);
        let Some(work) = due(pages, self.worked_on.load(Ordering::Relaxed), self.limit) else { return };
        self.worked_on.store(pages, Ordering::Relaxed);
        if let Some(conn) = &self.here {
            let conn = conn.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = is_done(&checkpoint(&conn, work), &self.failed);
            return;
        }
        let mut asked = self.signal.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.work = asked.work.max(Some(work));
        self.signal.wake.notify_one();
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
        let asked = signal.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let nothing = |asked: &mut Asked| asked.work.is_none() && !asked.stop;
        let mut asked = signal.wake.wait_while(asked, nothing).unwrap_or_else(PoisonError::into_inner);
        let Some(work) = asked.work.take().filter(|_| !asked.stop) else { return };
        drop(asked);
        if !is_done(&checkpoint(conn, work), failed) {
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

fn checkpoint(conn: &Connection, work: Work) -> rusqlite::Result<()> {
    let run = |mode: &str| -> rusqlite::Result<(i64, i64)> {
        conn.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |r| Ok((r.get(1)?, r.get(2)?)))
    };
    let outcome = run("PASSIVE").and_then(|(pages, done)| {
        if work == Work::Step {
            return Ok(());
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_moved_in_steps_and_begins_anew_at_its_limit() {
        for (pages, worked_on, expected) in [
            (0, 0, None),
            (99, 0, None),
            (100, 0, Some(Work::Step)),
            (199, 100, None),
            (200, 100, Some(Work::Step)),
            (799, 700, None),
            (800, 700, Some(Work::All)),
            // Asked for already, and grown since.
            (805, 800, Some(Work::All)),
            // Begun anew meanwhile.
            (99, 805, None),
            (100, 805, Some(Work::Step)),
        ] {
            assert_eq!(due(pages, worked_on, 800), expected, "{pages} after {worked_on}");
        }
    }
}
