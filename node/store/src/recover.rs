//! Recovery: finding the end of the log, making sure of it, and bringing the index up to it.
//!
//! What the index has applied, and what a later batch or mark says was synced, is believed where it lies. What
//! follows may only be in memory (a failed sync marks pages clean): it is copied into a new segment and synced before
//! it is believed. Where other replicas must have it too, it may not be committed: it stays a tail, which the index does
//! not have. A torn batch at the very end was never acknowledged and is cut; one that is damaged although it
//! was synced is an error, never skipped.

use std::{io, path::Path};

use bytes::Bytes;
use mailcluster_types::Seq;
use rusqlite::Connection;

use crate::{
    apply::{Changed, Hot},
    batch::Link,
    engine::Options,
    error::OpenError,
    replay::{Index, PER_TRANSACTION, Placed},
    replica::Identity,
    schema::{self, State},
    segment::{self, Found, Head, Reader, SEGMENT_HEADER, Writer},
    spare,
    tail::Tail,
    volume::io_error,
};

/// What recovery works with.
pub struct Recovery<'a> {
    pub log: &'a Path,
    pub options: &'a Options,
    pub identity: &'a Identity,
    pub segment_size: u64,
    pub conn: &'a Connection,
    pub state: &'a mut State,
}

/// A batch that no later one proves to have been synced.
struct Pending {
    placed: Placed,
    payload: Bytes,
}

/// Where the walk has got to.
struct Walk {
    /// The last whole batch.
    link: Link,
    /// What is known to have been synced.
    proven: Seq,
    pending: Vec<Pending>,
    /// The segment and the place behind the last batch.
    end: Option<(Head, u64)>,
    /// Octets replayed since the last index commit.
    replayed: u64,
    hot: Hot,
}

impl Recovery<'_> {
    /// Recovers and answers a writer behind the log's end, and what of the log may not be committed.
    pub fn run(mut self) -> Result<(Writer, Tail), OpenError> {
        // A process that died before it could sync its names left them in memory only: what is acknowledged from here on
        // may lie under one of them.
        self.options.disk.sync_dir(self.log).map_err(|e| io_error(self.log, e))?;
        spare::discard(&self.options.disk, self.log).map_err(|e| io_error(self.log, e))?;
        let firsts = segment::list(self.log).map_err(|e| io_error(self.log, e))?;
        let Some(first) = firsts.first().copied() else {
            if self.state.link.seq > 0 {
                return Err(OpenError::Damaged(format!("{}: the segments are gone", self.log.display())));
            }
            return Ok((self.writer(1)?, Tail::default()));
        };
        let (mut segment, mut offset) = (self.state.segment, self.state.end);
        if self.state.link.seq == 0 {
            (segment, offset) = (first, SEGMENT_HEADER);
            if first != 1 {
                return Err(OpenError::Damaged(format!(
                    "{}: the log starts at {first}, and there is no index of what came before",
                    self.log.display()
                )));
            }
        } else {
            self.check_applied()?;
        }
        let mut walk = Walk {
            link: self.state.link,
            proven: self.state.link.seq,
            pending: Vec::new(),
            end: None,
            replayed: 0,
            hot: Hot::new(&self.identity.store),
        };
        self.begin()?;
        for (at, first) in firsts.iter().enumerate().filter(|(_, first)| **first >= segment) {
            let next = firsts.get(at + 1).copied();
            let from = if *first == segment { offset } else { SEGMENT_HEADER };
            self.walk_segment(&mut walk, *first, from, next)?;
        }
        let writer = self.settle(&mut walk)?;
        let tail = self.finish(walk)?;
        self.state.save(self.conn).map_err(index_error)?;
        self.commit()?;
        Ok((writer, tail))
    }

    /// The last batch that the index has must be in the log: otherwise the log lost what was synced.
    fn check_applied(&self) -> Result<(), OpenError> {
        let lost = || {
            OpenError::Damaged(format!(
                "segment {} at {}: the index has batches that the log has lost",
                self.state.segment, self.state.start
            ))
        };
        let reader = match Reader::open(self.log, self.state.segment, self.identity) {
            Ok(reader) => reader.ok_or_else(lost)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(lost()),
            Err(e) => return Err(io_error(self.log, e)),
        };
        match reader.batch(self.state.start).map_err(|e| io_error(self.log, e))? {
            Found::Batch(header, _) if header.link() == self.state.link => Ok(()),
            _ => Err(lost()),
        }
    }

    fn walk_segment(
        &mut self,
        walk: &mut Walk,
        first: Seq,
        from: u64,
        next: Option<Seq>,
    ) -> Result<(), OpenError> {
        let io = |e| io_error(&segment::path(self.log, first), e);
        let damaged = |at: u64, why: &str| OpenError::Damaged(format!("segment {first} at {at}: {why}"));
        let reader = Reader::open(self.log, first, self.identity)
            .map_err(io)?
            .ok_or_else(|| damaged(0, "its header is damaged or another store's"))?;
        let mut offset = from;
        walk.end = Some((reader.head, offset));
        loop {
            let Found::Batch(header, payload) = reader.batch(offset).map_err(io)? else { break };
            // A crash between copying a tail forward and cutting the old one leaves both: the newer one counts.
            if next.is_some_and(|next| header.seq >= next && header.count > 0) {
                break;
            }
            if header.prev != walk.link || header.seq != walk.link.seq + 1 {
                return Err(damaged(offset, "it does not follow the batch before it"));
            }
            walk.proven = walk.proven.max(header.synced);
            if header.count > 0 {
                walk.link = header.link();
                walk.pending.push(Pending { placed: Placed { header, segment: first, offset }, payload });
            }
            offset += header.span();
            // What is written next replaces a mark at the end: the sync of that may have failed, and a chain must not
            // go on behind what only memory has.
            if header.count > 0 {
                walk.end = Some((reader.head, offset));
            }
            self.apply_proven(walk)?;
        }
        match next {
            Some(next) if next == walk.link.seq + 1 => Ok(()),
            Some(_) => Err(damaged(offset, "a batch is damaged and others follow")),
            None if reader.proves_synced(offset, walk.link.seq + 1).map_err(io)? => {
                Err(damaged(offset, "a batch that was synced is damaged"))
            }
            None => Ok(()),
        }
    }

    fn apply_proven(&mut self, walk: &mut Walk) -> Result<(), OpenError> {
        while walk.pending.first().is_some_and(|p| p.placed.header.last_seq() <= walk.proven) {
            let batch = walk.pending.remove(0);
            self.apply(&mut walk.hot, &batch)?;
            walk.replayed += batch.placed.cost();
            if walk.replayed > PER_TRANSACTION {
                walk.replayed = 0;
                self.state.save(self.conn).map_err(index_error)?;
                self.commit()?;
                self.begin()?;
            }
        }
        Ok(())
    }

    /// Makes sure of the tail: copies it, and syncs the copy.
    fn settle(&mut self, walk: &mut Walk) -> Result<Writer, OpenError> {
        let log_error = |e| io_error(self.log, e);
        let Some(tail) = walk.pending.first() else {
            let Some((head, offset)) = walk.end else {
                return self.writer(walk.link.seq + 1);
            };
            return Writer::resume(
                &self.options.disk,
                self.log,
                self.identity,
                &head,
                (offset, self.segment_size),
            )
            .map_err(log_error);
        };
        let (old, cut) = (tail.placed.segment, tail.placed.offset);
        if walk.pending.iter().any(|p| p.placed.segment != old) {
            return Err(OpenError::Damaged(format!("segment {old}: a tail spans two segments")));
        }
        let first = tail.placed.header.seq;
        tracing::info!(from = first, to = walk.link.seq, "copying the tail of the log into a new segment");
        let disk = &self.options.disk;
        let mut writer = Writer::create_unnamed(disk, self.log, self.identity, first, self.segment_size)
            .map_err(log_error)?;
        for batch in &mut walk.pending {
            let placed = &mut batch.placed;
            placed.header.nonce = writer.nonce;
            placed.header.synced = walk.proven;
            placed.segment = first;
            placed.offset = writer.offset;
            writer.write(&placed.header.framed(&batch.payload)).map_err(log_error)?;
        }
        writer.put_in_place().map_err(log_error)?;
        // A segment that was made for what comes next, and never got it, must go: what follows is written into the
        // copy, and an empty segment of a later name would hide it at the next opening.
        for later in segment::list(self.log).map_err(log_error)?.into_iter().filter(|other| *other > first) {
            disk.remove(&segment::path(self.log, later)).map_err(log_error)?;
        }
        disk.sync_dir(self.log).map_err(log_error)?;
        if old != first {
            let path = segment::path(self.log, old);
            let mut file = disk.open(&path).map_err(log_error)?;
            file.set_len(cut).and_then(|()| file.sync()).map_err(|e| io_error(&path, e))?;
        }
        Ok(writer)
    }

    /// Applies the tail, unless another replica may have to have it too before anybody may see it.
    fn finish(&mut self, mut walk: Walk) -> Result<Tail, OpenError> {
        let mut tail = Tail::default();
        for batch in &walk.pending {
            tail.push(batch.placed, &batch.payload);
        }
        let me = self.identity.replica.to_bytes();
        let in_sync = schema::in_sync(self.conn).map_err(index_error)?;
        if tail.names_others(&me) || in_sync.iter().any(|id| *id != me) {
            return Ok(tail);
        }
        for batch in std::mem::take(&mut walk.pending) {
            self.apply(&mut walk.hot, &batch)?;
        }
        Ok(Tail::default())
    }

    fn writer(&self, first: Seq) -> Result<Writer, OpenError> {
        Writer::create(&self.options.disk, self.log, self.identity, first, self.segment_size)
            .map_err(|e| io_error(self.log, e))
    }

    fn apply(&mut self, hot: &mut Hot, batch: &Pending) -> Result<(), OpenError> {
        let changed = &mut Changed::default();
        let mut index = Index { conn: self.conn, state: self.state, hot, changed };
        index.apply(&batch.placed, &batch.payload)
    }

    fn begin(&self) -> Result<(), OpenError> {
        self.conn.execute_batch("BEGIN IMMEDIATE").map_err(index_error)
    }

    fn commit(&self) -> Result<(), OpenError> {
        self.conn.execute_batch("COMMIT").map_err(index_error)
    }
}

fn index_error(e: rusqlite::Error) -> OpenError {
    OpenError::Index(e.to_string())
}
