//! What the thread remembers from one round to the next.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
};

use mailcluster_types::Seq;

use super::{
    Halt, copy,
    pace::Pace,
    policy::{self, Room},
    survey::Use,
};
use crate::{
    base::{self, Base},
    mirrors::Claim,
    schema,
    superblock::Superblock,
};

/// What it remembers.
#[derive(Default)]
pub struct Memory {
    /// The newest base that is of use; `None` before it was looked for, too.
    base: Option<Base>,
    has_looked: bool,
    /// The last record, the room and what others wanted when there was nothing to be had.
    pub nothing_at: Option<(Seq, Room, Claim)>,
    /// The last pack's number: none is used again.
    pub last: u64,
    /// Packs of this process, with what they were said to hold when they were made: one that holds nothing dead is not
    /// worth more because its records are larger than was thought.
    pub made: HashMap<u64, u64>,
    /// Files that have a body that cannot be read: they stay as they are.
    pub spoiled: HashSet<u64>,
    /// What is wrong with the index: nothing is removed by what it says any more.
    index_damage: Option<String>,
}

impl Memory {
    /// The files, without those that stay, and measured by what was thought when they were made.
    pub fn known(&self, mut files: Vec<Use>) -> Vec<Use> {
        files.retain(|file| !self.spoiled.contains(&file.number));
        for file in &mut files {
            if let Some(made) = self.made.get(&file.number) {
                file.size = file.size.min(*made);
            }
        }
        files
    }

    /// Is the index known to be damaged? What it does not have may be needed.
    pub fn check_index(&self) -> Result<(), Halt> {
        self.index_damage.as_ref().map_or(Ok(()), |what| Err(Halt::Damaged(what.clone())))
    }

    /// The segment of the base that there is, or of a new one where that is worth it.
    pub fn base(&mut self, pace: &Pace<'_>, (files, before): (&[Use], Seq), room: Room) -> Result<Seq, Halt> {
        let parts = pace.parts;
        if !self.has_looked {
            self.base = find_base(pace)?;
            self.has_looked = true;
        }
        let segment = self.base.as_ref().map_or(0, |base| base.segment);
        let gain = policy::gain(files, before, segment, room);
        let index = fs::metadata(schema::path(&parts.dir))?.len();
        let is_worth = policy::is_base_worth(gain, if parts.is_eager { 0 } else { index }, room);
        // The only way back, should the index be lost.
        let is_missing = self.base.is_none()
            && Superblock::read(&parts.dir).map_err(io::Error::other)?.contiguous_from > 0;
        if (is_worth || is_missing) && policy::has_room(parts.space.measure_now(), index + index / 8) {
            match copy::make(pace) {
                Ok(base) => self.base = Some(base),
                // The old one is there as before; another round comes at a better time.
                Err(Halt::Busy) => tracing::warn!("the index changes faster than it can be copied"),
                Err(Halt::Damaged(what)) => {
                    tracing::error!(what, "the index is damaged: no more room is given back");
                    self.index_damage = Some(what);
                    self.check_index()?;
                }
                Err(error) => return Err(error),
            }
        } else if is_worth || is_missing {
            tracing::warn!(
                octets = index,
                "there is no room for a copy of the index, without which no more is given back"
            );
        }
        Ok(self.base.as_ref().map_or(0, |base| base.segment))
    }
}

/// The newest base that an index could be made from.
fn find_base(pace: &Pace<'_>) -> Result<Option<Base>, Halt> {
    let parts = pace.parts;
    let folder = base::folder(&parts.dir);
    if !folder.is_dir() {
        return Ok(None);
    }
    // The process that named it may have died before it could sync the names.
    pace.sync_names(&folder)?;
    pace.sync_names(&parts.dir)?;
    for base in base::list(&parts.dir)? {
        match base.fault(&parts.dir, &parts.identity, &|| pace.still()) {
            Ok(None) => return Ok(Some(base)),
            Ok(Some(why)) => tracing::warn!(why, "a base is of no use"),
            Err(error) => {
                pace.go_on()?;
                tracing::warn!(%error, "a base cannot be read");
            }
        }
    }
    Ok(None)
}
