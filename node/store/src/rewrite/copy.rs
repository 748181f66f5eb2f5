//! Making a base: a copy of the index as it is at a commit, while the store goes on.

use std::{fs, io};

use rusqlite::{
    Connection,
    backup::{Backup, StepResult},
};

use super::{Halt, Pace, STEP};
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
    match fs::create_dir(base::folder(&parts.dir)) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e.into()),
        _ => {}
    }
    let new = base::unfinished(&parts.dir);
    let copied = copy(pace);
    let made = copied.and_then(|state| {
        pace.sync_index()?;
        pace.go_on()?;
        Ok(Base::put_in_place(&parts.dir, &parts.disk, (state.link.seq, state.segment), &|| pace.still())?)
    });
    if made.is_err() && pace.go_on().is_ok() {
        // Else it is removed at the next opening.
        let _ = fs::remove_file(&new);
    }
    let made = made?;
    for old in base::list(&parts.dir)?.into_iter().filter(|old| *old != made) {
        parts.disk.remove(&old.path(&parts.dir))?;
    }
    Ok(made)
}

/// Copies page by page out of one snapshot. Checkpoints wait meanwhile: they would hold the committer for as long as the
/// snapshot is there, and get nowhere.
fn copy(pace: &Pace<'_>) -> Result<State, Halt> {
    let dir = &pace.parts.dir;
    let new = base::unfinished(dir);
    match fs::remove_file(&new) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e.into()),
        _ => {}
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
            if copied.is_multiple_of(SYNC) {
                fs::File::open(&new)?.sync_data()?;
            }
            pace.wrote(STEP / FASTER, before)?;
        }
    }
    to.close().map_err(|(_, error)| error)?;
    Ok(state)
}
