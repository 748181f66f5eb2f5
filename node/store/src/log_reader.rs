//! Reading a log while it is written: what primaries send to mirrors. Batches come from the page cache or the disk, so
//! that a mirror that is behind costs its primary no memory.

use std::{
    io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use mailcluster_types::{Epoch, Seq};

use crate::{
    batch::{ALIGN, Header, Link, MAX_PAYLOAD},
    engine::Engine,
    error::FollowError,
    repair::Repairs,
    replica::Identity,
    segment::{self, Found, Reader, SEGMENT_HEADER},
    superblock::Superblock,
};

/// A batch as it travels between replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedBatch {
    /// The epoch at which it was appended.
    pub epoch: Epoch,
    /// Its first record.
    pub seq: Seq,
    /// How many records it has.
    pub count: u32,
    /// The batch before it.
    pub prev: Link,
    /// The records, as in the log.
    pub payload: Bytes,
}

impl LoggedBatch {
    /// Most octets of a payload.
    pub const MAX_PAYLOAD: usize = MAX_PAYLOAD;

    /// Its header, but for what is each replica's own.
    pub(crate) fn header(&self) -> Result<Header, FollowError> {
        let sound = self.count > 0
            && self.payload.len() <= MAX_PAYLOAD
            && self.epoch >= self.prev.epoch
            && self.seq.checked_add(u64::from(self.count)).is_some();
        if !sound {
            return Err(FollowError::Damaged);
        }
        Ok(Header {
            length: u32::try_from(self.payload.len()).map_err(|_| FollowError::Damaged)?,
            nonce: 0,
            epoch: self.epoch,
            seq: self.seq,
            count: self.count,
            prev: self.prev,
            synced: 0,
            payload_crc: crc32c::crc32c(&self.payload),
        })
    }
}

/// Reads batches in order, and goes on where more are written.
pub struct LogReader {
    log: PathBuf,
    identity: Identity,
    reader: Reader,
    offset: u64,
    /// Where the segment after this one begins, if it was there when this one was opened.
    next: Option<Seq>,
    /// The last batch that was read.
    at: Seq,
}

impl LogReader {
    /// From which record on the log of the store in `dir` has no gaps.
    ///
    /// # Errors
    /// When the superblock or the directory cannot be read.
    pub fn first(dir: &Path) -> io::Result<Seq> {
        let given_back = Superblock::read(dir).map_err(io::Error::other)?.contiguous_from;
        Ok(segment::list(&Engine::log_dir(dir))?.first().copied().unwrap_or(1).max(given_back))
    }

    /// Octets of the segments that are full.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn octets(dir: &Path) -> io::Result<u64> {
        let log = Engine::log_dir(dir);
        let firsts = segment::list(&log)?;
        let full = firsts.split_last().map_or(&[][..], |(_, full)| full);
        full.iter().map(|first| Ok(std::fs::metadata(segment::path(&log, *first))?.len())).sum()
    }

    /// The log of the store in `dir`, from behind record `after`, which is a batch's last (or 0).
    ///
    /// # Errors
    /// `NotFound` when the log no longer reaches that far back, or not so far.
    pub fn after(dir: &Path, identity: Identity, after: Seq) -> io::Result<Self> {
        let log = Engine::log_dir(dir);
        let gone = || io::Error::new(io::ErrorKind::NotFound, format!("the log has no record {after}"));
        if after + 1 < Self::first(dir)? {
            return Err(gone());
        }
        let firsts = segment::list(&log)?;
        let first = firsts.iter().rev().find(|first| **first <= after + 1).copied().ok_or_else(gone)?;
        let reader = Reader::open(&log, first, &identity)?.ok_or_else(gone)?;
        let next = firsts.into_iter().find(|other| *other > first);
        let mut found = Self { log, identity, reader, offset: SEGMENT_HEADER, next, at: first - 1 };
        while found.at < after {
            // What is damaged before is not wanted.
            if found.skip()?.is_none() && found.pass_over()?.is_none() {
                return Err(gone());
            }
        }
        if found.at == after { Ok(found) } else { Err(gone()) }
    }

    /// The next batch, when the log is known to reach at least to `written`. `None` when all was read.
    ///
    /// # Errors
    /// When the log cannot be read, or what should be there is not.
    pub fn next(&mut self, written: Seq) -> io::Result<Option<LoggedBatch>> {
        while self.at < written {
            match self.reader.batch(self.offset)? {
                // The older copy of a tail, which a crash kept recovery from cutting off: the newer one counts.
                Found::Batch(header, _)
                    if header.count > 0 && self.next.is_some_and(|next| header.seq >= next) =>
                {
                    self.next_segment()?;
                }
                Found::Batch(header, payload) => {
                    self.offset += header.span();
                    if header.count == 0 {
                        continue;
                    }
                    self.at = header.last_seq();
                    return Ok(Some(LoggedBatch {
                        epoch: header.epoch,
                        seq: header.seq,
                        count: header.count,
                        prev: header.prev,
                        payload,
                    }));
                }
                Found::Nothing => self.next_segment()?,
            }
        }
        Ok(None)
    }

    /// The batch that comes next, which could not be read, as another replica has it. Blocks.
    pub fn restored(&mut self, repairs: &Repairs) -> Option<LoggedBatch> {
        let batch = repairs.batch(self.at + 1)?;
        let header = batch.header().ok()?;
        self.offset += header.span();
        self.at = header.last_seq();
        Some(batch)
    }

    /// Passes one batch or mark over; `None` at the end.
    fn skip(&mut self) -> io::Result<Option<()>> {
        let Some(header) = self.reader.header(self.offset)? else { return Ok(None) };
        self.offset += header.span();
        if header.count > 0 {
            self.at = header.last_seq();
        }
        Ok(Some(()))
    }

    /// Passes over what is no batch, up to the next one in the segment; `None` where none follows.
    fn pass_over(&mut self) -> io::Result<Option<()>> {
        let next = self.reader.find(self.offset + ALIGN as u64, |_| true)?;
        let header = next.map(|next| self.reader.header(next)).transpose()?.flatten();
        let (Some(next), Some(header)) = (next, header) else { return Ok(None) };
        (self.offset, self.at) = (next, header.prev.seq);
        Ok(Some(()))
    }

    fn next_segment(&mut self) -> io::Result<()> {
        let missing = |why: &str| {
            io::Error::new(io::ErrorKind::InvalidData, format!("record {} is missing: {why}", self.at + 1))
        };
        if self.reader.head.first == self.at + 1 {
            return Err(missing("the segment that should begin with it does not"));
        }
        let first = self.at + 1;
        self.reader = Reader::open(&self.log, first, &self.identity)?
            .ok_or_else(|| missing("its segment's header is damaged"))?;
        self.next = segment::list(&self.log)?.into_iter().find(|other| *other > first);
        self.offset = SEGMENT_HEADER;
        Ok(())
    }
}
