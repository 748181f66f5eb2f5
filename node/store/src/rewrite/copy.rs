//! Making a base: a copy of the index as it is at a commit, while the store goes on.

use std::{fs, time::Duration};

use rusqlite::{
    Connection, ErrorCode,
    backup::{Backup, StepResult},
};

use super::{Halt, STEP, pace::Pace};
use crate::{
    base::{self, Base},
    schema::{self, State},
};

/// The write-ahead log grows while a copy is made: it is made so many times faster than packs are.
const FASTER: u64 = 4;
/// It is synced in steps, so that no sync takes long.
const SYNC: u64 = 16 * STEP;

/// Makes one, and removes those before it. All that it has is durable in the index, too, so that no recovery takes a
/// batch before it for one that may not have been synced.
pub fn make(pace: &Pace<'_>) -> Result<Base, Halt> {
    let parts = pace.parts;
    let folder = base::folder(&parts.dir);
    parts.disk.create_dir(&folder)?;
    let new = base::unfinished(&parts.dir);
    let made = put_in_place(pace);
    if made.is_err() && pace.go_on().is_ok() {
        // Else it is removed at the next opening. It may never have been made, or have its name by now.
        let _ = parts.disk.remove(&new);
    }
    let made = made?;
    pace.sync_names(&folder)?;
    pace.sync_names(&parts.dir)?;
    for old in base::list(&parts.dir)?.into_iter().filter(|old| *old != made) {
        if let Err(error) = parts.disk.remove(&old.path(&parts.dir)) {
            tracing::warn!(%error, seq = old.seq, "an old base of the index stays");
        }
    }
    Ok(made)
}

fn put_in_place(pace: &Pace<'_>) -> Result<Base, Halt> {
    let parts = pace.parts;
    let state = copy(pace)?;
    check(pace)?;
    pace.sync_index()?;
    let at = (state.link.seq, state.segment);
    Ok(Base::put_in_place(&parts.dir, &parts.disk, at, &|| pace.still())?)
}

/// Does the copy make sense? One of an index that was damaged must not become the only way back, and what such an index
/// does not have is not dead.
fn check(pace: &Pace<'_>) -> Result<(), Halt> {
    // Steps of SQLite's machine between two looks at who wants the thread to stop.
    const STEPS: i32 = 10_000;
    /// While clients wait for others.
    const PAUSE: Duration = Duration::from_millis(2);
    let mut conn = base::read_only(&base::unfinished(&pace.parts.dir))?;
    let (stop, stats) = (pace.stopper(), pace.parts.stats.clone());
    let mut before = stats.commits();
    let between = move || {
        let now = stats.commits();
        if std::mem::replace(&mut before, now) != now {
            std::thread::sleep(PAUSE);
        }
        stop.is_asked()
    };
    conn.progress_handler(STEPS, Some(between))?;
    match conn.query_row("PRAGMA quick_check(1)", [], |r| r.get::<_, String>(0)) {
        Ok(line) if line == "ok" => pace.go_on(),
        Ok(line) => pace.go_on().and(Err(Halt::Damaged(line))),
        Err(error) if is_damage(&error) => Err(Halt::Damaged(error.to_string())),
        Err(error) => pace.go_on().and(Err(error.into())),
    }
}

fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// Copies page by page out of one snapshot. Checkpoints wait meanwhile: they would hold the committer for as long as the
/// snapshot is there, and get nowhere.
fn copy(pace: &Pace<'_>) -> Result<State, Halt> {
    let dir = &pace.parts.dir;
    let new = base::unfinished(dir);
    pace.has_room(STEP)?;
    if new.exists() {
        pace.parts.disk.remove(&new)?;
    }
    let held = pace.parts.checkpoints.hold();
    let from = schema::open_reader(dir)?;
    from.execute_batch("BEGIN")?;
    let state = State::load(&from)?;
    let page: u64 = from.query_row("PRAGMA page_size", [], |r| r.get(0))?;
    let mut to = Connection::open(&new)?;
    to.execute_batch("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;")?;
    let pages = i32::try_from(STEP / page.max(1)).unwrap_or(1).max(1);
    {
        let mut copied = 0;
        let backup = Backup::new(&from, &mut to)?;
        loop {
            let before = pace.parts.stats.commits();
            match backup.step(pages)? {
                StepResult::Done => break,
                // Nobody else has the copy, and the snapshot is only read.
                StepResult::Busy | StepResult::Locked => {
                    return Err(Halt::Committer("the index is locked".into()));
                }
                _ => {}
            }
            if held.is_too_long(backup.progress().pagecount) {
                return Err(Halt::Busy);
            }
            copied += STEP;
            pace.has_room(STEP)?;
            if copied.is_multiple_of(SYNC) {
                fs::File::open(&new)?.sync_data()?;
            }
            pace.wrote(STEP / FASTER, before)?;
        }
    }
    to.close().map_err(|(_, error)| error)?;
    Ok(state)
}
