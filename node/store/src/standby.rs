//! What a replica does that does not serve: it takes batches of a primary's log, cuts off what the primary does not have,
//! has the index brought up to what is committed, and begins an epoch of its own.

use std::{io, path::PathBuf, sync::Arc};

use bytes::Bytes;
use mailcluster_types::{Epoch, ReplicaId, Seq};
use rusqlite::Connection;

use crate::{
    apply::Hot,
    batch::{Header, Link},
    catch_up::{Done, Work},
    checkpoint::Checkpointer,
    description::ReplicaDescription,
    digest::IndexMoment,
    engine::{Engine, is_full},
    error::{FollowError, OpenError, ReadError},
    log_reader::LoggedBatch,
    mirrors::Mirrors,
    model::{EpochMark, Names},
    record::{self, EpochStart},
    repair::Repairs,
    replay::Placed,
    replica::Replica,
    schema, snapshot,
};

impl Engine {
    /// The log's last batch.
    fn end(&self) -> Link {
        self.tail.end(self.state.link)
    }

    /// Writes batches behind the log's end, syncs them as one, and keeps them in the tail.
    fn append_raw(&mut self, batches: &[(Header, Bytes)]) -> Result<(), FollowError> {
        if self.broken {
            return Err(FollowError::Broken);
        }
        // The tail stays in one segment: only recovery moves it, as a whole.
        if let (true, Some((first, _))) = (self.tail.is_empty(), batches.first()) {
            let room = batches.iter().map(|(header, _)| header.span()).sum();
            self.log.roll(first.seq, room).map_err(|e| self.failed(&e))?;
        }
        let mut written = Vec::with_capacity(batches.len());
        let mut full = None;
        for (header, payload) in batches {
            match self.write_raw(*header, payload) {
                Ok(placed) => written.push((placed, payload)),
                // What came before it is whole, and was synced when this was taken back.
                Err(FollowError::Full) => full = Some(FollowError::Full),
                Err(why) => return Err(why),
            }
            if full.is_some() {
                break;
            }
        }
        if !self.options.skip_sync && full.is_none() {
            self.log.sync().map_err(|e| self.fail(&format!("failed to sync the log: {e}")))?;
        }
        self.log.look_ahead(self.options.spares, &self.space);
        for (placed, payload) in written {
            self.tail.push(placed, payload);
            self.space.wrote(placed.header.span(), self.log.reserved());
        }
        full.map_or(Ok(()), Err)
    }

    /// Writes a batch without syncing it; where there is no room, nothing of it stays.
    fn write_raw(&mut self, mut header: Header, payload: &Bytes) -> Result<Placed, FollowError> {
        header.nonce = self.log.nonce;
        header.synced = self.state.link.seq;
        let placed = Placed { header, segment: self.log.first, offset: self.log.offset };
        if let Err(e) = self.log.write(&header.framed(payload)) {
            let why = self.failed(&e);
            if matches!(why, FollowError::Full)
                && let Err(e) = self.log.retract()
            {
                return Err(self.fail(&format!("failed to take a write back: {e}")));
            }
            return Err(why);
        }
        self.mirrors.written((header.epoch, header.last_seq()));
        Ok(placed)
    }

    fn failed(&mut self, error: &io::Error) -> FollowError {
        if is_full(error) {
            FollowError::Full
        } else {
            self.fail(&format!("failed to write the log: {error}"))
        }
    }

    pub(crate) fn fail(&mut self, why: &str) -> FollowError {
        self.broke(why);
        FollowError::Broken
    }

    /// Cuts off what follows `after`, durably.
    fn cut(&mut self, after: Seq) -> Result<(), FollowError> {
        if after < self.state.link.seq {
            return Err(FollowError::Committed { after, applied: self.state.link.seq });
        }
        let Some(first) = self.tail.behind(after)? else {
            return if after <= self.end().seq { Ok(()) } else { Err(FollowError::Gap) };
        };
        if first.segment != self.log.first {
            return Err(FollowError::Index("the tail spans two segments".into()));
        }
        tracing::info!(after, end = self.end().seq, "cutting off what the primary does not have");
        self.log.cut(first.offset).map_err(|e| self.fail(&format!("failed to cut the log: {e}")))?;
        self.tail.cut(after);
        Ok(())
    }
}

/// A replica that follows a primary, or is about to take over from one. Its index has what is committed, its log may have
/// more.
pub struct Follower {
    pub(crate) replica: Replica,
    pub(crate) checkpointer: Checkpointer,
    /// Takes the index's place in the replica while that is being worked on; `None`: it is.
    stand_in: Option<Connection>,
    /// What is being put into the index reaches up to here, and is committed.
    working_up_to: Seq,
    /// The first record that others may want of the log, by its primary's word.
    pub(crate) wanted: Option<Seq>,
}

impl Follower {
    /// Nothing is changed yet.
    ///
    /// # Errors
    /// When the index cannot be opened once more.
    pub fn new(mut replica: Replica) -> Result<Self, OpenError> {
        let engine = &mut replica.engine;
        let checkpointer =
            Checkpointer::start(&engine.dir, &mut engine.conn, engine.log.size).map_err(OpenError::Index)?;
        let stand_in = schema::open_reader(&engine.dir).map_err(|e| OpenError::Index(e.to_string()))?;
        Ok(Self { replica, checkpointer, stand_in: Some(stand_in), working_up_to: 0, wanted: None })
    }

    /// Its epochs, ascending: those of the index, and those that begin in what is not committed.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn epochs(&self) -> Result<Vec<EpochMark>, OpenError> {
        let engine = &self.replica.engine;
        let mut epochs = schema::epochs(&engine.conn).map_err(|e| OpenError::Index(e.to_string()))?;
        epochs.extend(engine.tail.epochs());
        Ok(epochs)
    }

    /// The last batch of its log.
    #[must_use]
    pub fn end(&self) -> Link {
        self.replica.engine.end()
    }

    /// What its index has: all of it is committed.
    #[must_use]
    pub fn applied(&self) -> (Epoch, Seq) {
        let link = self.replica.engine.state.link;
        (link.epoch, link.seq)
    }

    /// What it says of itself.
    #[must_use]
    pub fn describe(&self) -> ReplicaDescription {
        self.replica.describe()
    }

    /// Did every write and sync so far succeed? If not, this replica never serves again on this boot.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        !self.replica.engine.broken
    }

    /// The highest epoch that was promised, or has been followed.
    #[must_use]
    pub fn promised(&self) -> Epoch {
        self.replica.engine.superblock.promise.max(self.end().epoch)
    }

    /// Raises the promise, durably.
    ///
    /// # Errors
    /// When the superblock cannot be written and synced.
    pub fn promise(&mut self, epoch: Epoch) -> Result<(), OpenError> {
        self.replica.promise(epoch)
    }

    /// The log that is here is gone on with: what there is of a snapshot is of no use.
    pub fn forget_snapshot(&self) {
        snapshot::forget(&self.replica.engine.dir);
    }

    /// Cuts off what follows `after`, durably. What is committed is never cut.
    ///
    /// # Errors
    /// [`FollowError::Committed`], and as the disk says.
    pub fn cut(&mut self, after: Seq) -> Result<(), FollowError> {
        if after < self.working_up_to {
            return Err(FollowError::Committed { after, applied: self.working_up_to });
        }
        self.replica.engine.cut(after)
    }

    /// Appends batches of the log of a primary that feeds this replica at epoch `stream`, and syncs them as one. They may
    /// be of an older epoch: what this replica has missed.
    ///
    /// # Errors
    /// [`FollowError::Promised`] when another was promised, [`FollowError::Gap`] when it does not follow what is here,
    /// [`FollowError::Damaged`] when it is not what its sender says, and as the disk says.
    pub fn append(&mut self, stream: Epoch, batches: &[LoggedBatch]) -> Result<(), FollowError> {
        let promise = self.replica.engine.superblock.promise;
        if stream < promise {
            return Err(FollowError::Promised(promise));
        }
        let mut end = self.end();
        let mut framed = Vec::with_capacity(batches.len());
        for batch in batches {
            let header = batch.header()?;
            let follows = batch.prev == end && header.seq == batch.prev.seq + 1;
            if !follows || header.epoch > stream {
                return Err(FollowError::Gap);
            }
            end = header.link();
            framed.push((header, batch.payload.clone()));
        }
        self.replica.engine.append_raw(&framed)
    }

    /// Applies what is committed up to `commit`, as far as it is here.
    ///
    /// # Errors
    /// When the index cannot be written.
    pub fn advance(&mut self, commit: Seq) -> Result<(), FollowError> {
        while let Some(work) = self.begin_advance(commit)? {
            self.end_advance(work.run())?;
        }
        Ok(())
    }

    /// Some of what is committed up to `commit` and not in the index. Until it is given back to [`Self::end_advance`], only
    /// batches may be appended. `None`: there is nothing to do, or it is being done.
    ///
    /// # Errors
    /// [`FollowError::Broken`].
    pub fn begin_advance(&mut self, commit: Seq) -> Result<Option<Work>, FollowError> {
        let engine = &mut self.replica.engine;
        if engine.broken {
            return Err(FollowError::Broken);
        }
        let Some(stand_in) = self.stand_in.take() else { return Ok(None) };
        let Some(due) = engine.due(commit) else {
            self.stand_in = Some(stand_in);
            return Ok(None);
        };
        self.working_up_to = due.last();
        let conn = std::mem::replace(&mut engine.conn, stand_in);
        let hot = std::mem::replace(&mut engine.hot, Hot::new(&engine.identity.store));
        Ok(Some(Work::new(due, conn, hot)))
    }

    /// What [`Self::begin_advance`] gave is done.
    ///
    /// # Errors
    /// When the index could not be written.
    pub fn end_advance(&mut self, done: Done) -> Result<(), FollowError> {
        let engine = &mut self.replica.engine;
        let (due, outcome, conn, hot) = done.into_parts();
        self.stand_in = Some(std::mem::replace(&mut engine.conn, conn));
        engine.hot = hot;
        engine.noted(&due, outcome)?;
        if self.checkpointer.has_failed() {
            return Err(engine.fail("the index could not be written or synced"));
        }
        self.checkpointer.after_commit();
        Ok(())
    }

    /// Is nobody working on its index? Otherwise batches may be appended to it, and that is all.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.stand_in.is_some()
    }

    /// Is its newest segment full, so that the index must come up to what is committed before another can be begun?
    #[must_use]
    pub fn must_catch_up(&self) -> bool {
        let engine = &self.replica.engine;
        !engine.tail.is_empty() && engine.log.offset >= engine.log.size
    }

    /// Appends EpochStart behind whatever is in the log, committed or not, and syncs it. Nobody sees it before
    /// [`Self::advance`] has been told that it is committed.
    ///
    /// # Errors
    /// [`FollowError::Promised`] when the epoch is not above all that came before.
    pub fn begin(&mut self, epoch: Epoch, in_sync: &[ReplicaId]) -> Result<(Epoch, Seq), FollowError> {
        self.replica.begin(&EpochStart::new(epoch, in_sync))
    }

    /// The same for a replica that need not have had everything: where its log parts from another's that has more, the other
    /// keeps that; and no UID is given anew that clients may have seen there.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub fn begin_forced(
        &mut self,
        epoch: Epoch,
        in_sync: &[ReplicaId],
        names: Names,
    ) -> Result<(Epoch, Seq), FollowError> {
        self.replica.begin(&EpochStart::forced(epoch, in_sync, names))
    }

    /// Its index as it is now. Only while nobody works on that.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn moment(&self) -> Result<IndexMoment, ReadError> {
        IndexMoment::now(&self.replica.dir())
    }

    /// The root of its volume.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        self.replica.dir()
    }

    /// What is done about damage in its log, now and while it serves.
    #[must_use]
    pub fn repairs(&self) -> Arc<Repairs> {
        self.replica.engine.repairs.clone()
    }

    /// Who is told of every batch that is written from now on.
    pub fn tell(&mut self, mirrors: Arc<dyn Mirrors>) {
        self.replica.engine.mirrors = mirrors;
    }

    /// The replica, to serve or to be closed.
    #[must_use]
    pub fn into_replica(self) -> Replica {
        self.replica
    }
}

impl Replica {
    /// Appends EpochStart behind whatever is in the log, and syncs it.
    pub(crate) fn begin(&mut self, start: &EpochStart) -> Result<(Epoch, Seq), FollowError> {
        let (engine, epoch) = (&mut self.engine, start.epoch);
        let (prev, promise) = (engine.end(), engine.superblock.promise);
        if epoch <= prev.epoch || epoch < promise {
            return Err(FollowError::Promised(promise.max(prev.epoch)));
        }
        let mut payload = Vec::new();
        record::encode(&start.clone().into(), &[], &mut payload);
        let payload = Bytes::from(payload);
        let header =
            LoggedBatch { epoch, seq: prev.seq + 1, count: 1, prev, payload: payload.clone() }.header()?;
        engine.append_raw(&[(header, payload)])?;
        // Its own log is what counts from now on.
        snapshot::forget(&engine.dir);
        Ok((epoch, header.seq))
    }
}
