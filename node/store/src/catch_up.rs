//! Bringing the index up to what is committed, batch by batch out of the log. A follower does it apart from taking more: the
//! one needs the index, the other the log, and a client waits for the latter alone.

use std::path::PathBuf;

use mailcluster_types::Seq;
use rusqlite::Connection;

use crate::{
    apply::{Changed, Hot},
    engine::Engine,
    error::{FollowError, OpenError},
    replay::{Index, PER_TRANSACTION, Placed},
    replica::Identity,
    schema::State,
    segment::{Found, Reader},
};

/// Batches that are committed and not in the index, as many as one transaction takes. They lie in one segment.
#[derive(Debug)]
pub struct Due {
    dir: PathBuf,
    identity: Identity,
    state: State,
    batches: Vec<Placed>,
}

/// Why they are not in the index.
#[derive(Debug)]
pub enum Failure {
    /// The index is as it was.
    Undone(OpenError),
    /// It is of no use any more.
    Broken(String),
}

impl Due {
    /// The last record.
    pub fn last(&self) -> Seq {
        self.batches.last().map_or(0, |batch| batch.header.last_seq())
    }

    /// Puts them into the index; what the index then has.
    fn apply(&self, conn: &Connection, hot: &mut Hot) -> Result<State, Failure> {
        let undone = |e: rusqlite::Error| Failure::Undone(OpenError::Index(e.to_string()));
        conn.execute_batch("BEGIN IMMEDIATE").map_err(undone)?;
        match self.apply_all(conn, hot) {
            Ok(state) => {
                let broken = |e| Failure::Broken(format!("failed to commit the index: {e}"));
                conn.execute_batch("COMMIT").map_err(broken)?;
                Ok(state)
            }
            Err(why) => {
                hot.clear();
                let broken = |e| Failure::Broken(format!("failed to roll the index back: {e}"));
                conn.execute_batch("ROLLBACK").map_err(broken)?;
                Err(Failure::Undone(why))
            }
        }
    }

    fn apply_all(&self, conn: &Connection, hot: &mut Hot) -> Result<State, OpenError> {
        let io = |source| OpenError::Io { dir: self.dir.display().to_string(), source };
        let segment = self.batches.first().map_or(0, |batch| batch.segment);
        let reader = Reader::open(&Engine::log_dir(&self.dir), segment, &self.identity).map_err(io)?;
        let mut state = self.state;
        for placed in &self.batches {
            let found =
                reader.as_ref().map(|segment| segment.batch(placed.offset)).transpose().map_err(io)?;
            let payload = match found {
                Some(Found::Batch(header, payload)) if header.link() == placed.header.link() => payload,
                _ => return Err(lost(placed)),
            };
            let changed = &mut Changed::default();
            Index { conn, state: &mut state, hot, changed }.apply(placed, &payload)?;
        }
        state.save(conn).map_err(|e| OpenError::Index(e.to_string()))?;
        Ok(state)
    }
}

fn lost(placed: &Placed) -> OpenError {
    OpenError::Damaged(format!("segment {} at {}: a batch is gone", placed.segment, placed.offset))
}

impl Engine {
    /// What is committed up to `commit` and not in the index, as far as this log has it.
    pub fn due(&self, commit: Seq) -> Option<Due> {
        let mut octets = 0;
        let fits = |placed: &&Placed| {
            let fits = octets <= PER_TRANSACTION;
            octets += placed.cost();
            fits
        };
        let batches: Vec<Placed> = self.tail.up_to(commit).take_while(fits).copied().collect();
        (!batches.is_empty()).then(|| Due {
            dir: self.dir.clone(),
            identity: self.identity.clone(),
            state: self.state,
            batches,
        })
    }

    /// Takes note of what became of it.
    pub fn noted(&mut self, due: &Due, outcome: Result<State, Failure>) -> Result<(), FollowError> {
        match outcome {
            Ok(state) => {
                self.state = state;
                (0..due.batches.len()).for_each(|_| self.tail.applied());
                Ok(())
            }
            Err(Failure::Undone(error)) => Err(FollowError::Index(error.to_string())),
            Err(Failure::Broken(why)) => Err(self.fail(&why)),
        }
    }

    /// Brings the index up to what is committed, as far as this log has it.
    pub fn advance(&mut self, commit: Seq) -> Result<(), FollowError> {
        while let Some(due) = self.due(commit) {
            if self.broken {
                return Err(FollowError::Broken);
            }
            let outcome = due.apply(&self.conn, &mut self.hot);
            self.noted(&due, outcome)?;
        }
        Ok(())
    }
}

/// What is due, with the half of a follower that brings its index up. Without it the follower takes batches, and nothing
/// else.
pub struct Work {
    due: Due,
    conn: Connection,
    hot: Hot,
}

/// What became of it.
pub struct Done {
    due: Due,
    outcome: Result<State, Failure>,
    conn: Connection,
    hot: Hot,
}

impl Work {
    pub(crate) fn new(due: Due, conn: Connection, hot: Hot) -> Self {
        Self { due, conn, hot }
    }

    /// Does it; takes as long as one transaction.
    #[must_use]
    pub fn run(mut self) -> Done {
        let outcome = self.due.apply(&self.conn, &mut self.hot);
        Done { due: self.due, outcome, conn: self.conn, hot: self.hot }
    }
}

impl Done {
    pub(crate) fn into_parts(self) -> (Due, Result<State, Failure>, Connection, Hot) {
        (self.due, self.outcome, self.conn, self.hot)
    }
}
