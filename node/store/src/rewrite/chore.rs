//! What the committer does for the rewriter, between two batches: it alone writes the index and the superblock.

use mailcluster_types::Seq;
use rusqlite::params;

use super::{Room, policy};
use crate::{apply::ApplyError, engine::Engine, mirrors::Claim, schema};

/// A row of the index whose body has a new place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// The row.
    pub id: u64,
    /// File and offset, as they were.
    pub from: (u64, u64),
    /// As they are to be.
    pub to: (u64, u64),
}

/// Something small for the committer to do.
#[derive(Debug)]
pub enum Chore {
    /// Points rows to new places, those that are still there and still point to the old ones.
    Move(Vec<Moved>),
    /// Notes on the volume, before segments are removed, that the log has no gaps from this record on.
    ContiguousFrom(Seq),
}

impl Engine {
    /// What other replicas may want of this log, as its primary.
    pub fn claim(&self) -> Result<Claim, String> {
        let in_sync = schema::in_sync(&self.conn).map_err(|e| e.to_string())?;
        let said = self.mirrors.claim(self.room());
        Ok(policy::claim(&in_sync, &self.identity.replica.to_bytes(), said))
    }

    /// Whether it is time to be stingy.
    pub fn room(&self) -> Room {
        policy::room(self.space.measure())
    }

    /// Does it; `Err` says why not, and nothing is changed then.
    pub fn do_chore(&mut self, chore: &Chore, claim: Claim) -> Result<(), String> {
        if self.broken || self.untouchable {
            return Err("the store stops".into());
        }
        match chore {
            Chore::Move(rows) => self.move_rows(rows),
            Chore::ContiguousFrom(seq) => self.note_contiguous_from(*seq, claim),
        }
    }

    fn move_rows(&mut self, rows: &[Moved]) -> Result<(), String> {
        let moved = self.sql("BEGIN IMMEDIATE").and_then(|()| {
            let mut update = self.conn.prepare_cached(
                "UPDATE body SET segment=?, offset=? WHERE id=? AND segment=? AND offset=?",
            )?;
            for row in rows {
                update.execute(params![row.to.0, row.to.1, row.id, row.from.0, row.from.1])?;
            }
            drop(update);
            self.sql("COMMIT")
        });
        let Err(error) = moved else { return Ok(()) };
        if !self.conn.is_autocommit() {
            self.undo(self.state).map_err(|_| "the store stops".to_owned())?;
        }
        let error = ApplyError::from(error);
        if error.is_fatal() {
            self.broke(&format!("the index failed: {error}"));
        }
        Err(error.to_string())
    }

    /// Only here is it sure that no mirror has come: records that name one are written by nobody else.
    fn note_contiguous_from(&mut self, seq: Seq, claim: Claim) -> Result<(), String> {
        if seq <= self.superblock.contiguous_from {
            return Ok(());
        }
        if !policy::may_begin(seq, claim) {
            return Err("other replicas may want that of the log".into());
        }
        let mut block = self.superblock.clone();
        block.contiguous_from = seq;
        block.write(&self.options.disk, &self.dir).map_err(|e| e.to_string())?;
        self.superblock = block;
        Ok(())
    }
}
