//! What is damaged in the log is fetched from another replica of the store, and mended.
//!
//! A batch is named by its link, which covers all of it: its own header says it, or, where that is damaged, the batch behind
//! it does. So what comes from elsewhere is believed by nothing but what is here: another line's batch, or one that arrived
//! damaged, has another link.
//!
//! Mending writes the octets that were there, in their place, and only those blocks that differ: whatever a crash leaves of
//! it is what was there before, or what should be. The segment that is being written is left alone: its reader gets what was
//! fetched, each time, until the log has gone on to the next one.

mod lend;
mod mend;
mod spot;
mod turn;

use std::{
    io,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
};

use bytes::Bytes;
use mailcluster_types::Seq;

pub use lend::lend;
use spot::{At, Spot};
use turn::Turns;

use crate::{
    batch::{HEADER, Header, Link},
    disk::Disk,
    files::{Place, SegmentFiles},
    log_reader::LoggedBatch,
    replica::Identity,
    segment::{self, Found, Reader, SEGMENT_HEADER},
    stats::Stats,
    superblock::Superblock,
};

/// Names a batch for those who may have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Its first record.
    pub first: Seq,
    /// Its epoch, its last record, and a checksum over all of it.
    pub link: Link,
    /// Its payload has no more octets.
    pub most: usize,
}

impl Wanted {
    /// Is this the batch, as it was written?
    #[must_use]
    pub fn is(&self, batch: &LoggedBatch) -> bool {
        batch.seq == self.first && batch.header().is_ok_and(|header| header.link() == self.link)
    }
}

/// What came of asking for a batch.
#[derive(Debug)]
pub enum Fetched {
    /// As another replica has it.
    Batch(LoggedBatch),
    /// Those that could be asked do not have it.
    Nowhere,
    /// Nobody could be asked, or nobody answered in time.
    NoAnswer,
}

/// The other replicas of the store, for what is damaged here.
pub trait Siblings: Send + Sync + 'static {
    /// Asks for a batch. Blocks until it has come, or the time for it is over.
    fn fetch(&self, wanted: &Wanted) -> Fetched;
}

/// What is restored at a replica, and how. One for each open replica.
pub struct Repairs {
    log: PathBuf,
    identity: Identity,
    disk: Arc<dyn Disk>,
    stats: Arc<Stats>,
    siblings: RwLock<Option<Arc<dyn Siblings>>>,
    turns: Turns,
}

/// A body that was fetched.
#[derive(Debug)]
pub(crate) struct Restored {
    pub body: Bytes,
    /// It lies in its place again.
    pub is_mended: bool,
}

/// A batch that was fetched.
struct Intact {
    spot: Spot,
    payload: Bytes,
    batch: LoggedBatch,
    is_mended: bool,
}

impl Repairs {
    pub(crate) fn new(log: PathBuf, identity: &Identity, disk: Arc<dyn Disk>, stats: Arc<Stats>) -> Self {
        let siblings = RwLock::new(None);
        Self { log, identity: identity.clone(), disk, stats, siblings, turns: Turns::default() }
    }

    /// Who is asked from now on; `None`: nobody.
    pub fn ask(&self, siblings: Option<Arc<dyn Siblings>>) {
        *self.siblings.write().unwrap_or_else(PoisonError::into_inner) = siblings;
    }

    /// The body at this place, which could not be read or is not what it should be.
    pub(crate) fn body(&self, files: &SegmentFiles, place: &Place) -> Option<Restored> {
        // No other replica has this one's packs.
        if segment::is_pack(place.segment) {
            return None;
        }
        let siblings = self.siblings()?;
        let _turn = self.turns.enter()?;
        // Whoever had the turn before may have mended it.
        if let Ok(body) = files.read(&[], place) {
            return Some(Restored { body: body.into(), is_mended: true });
        }
        let intact = self.restore(&*siblings, (place.segment, At::Offset(place.offset)));
        let body = intact.and_then(|Intact { spot, payload, is_mended, .. }| {
            let from = usize::try_from(place.offset.checked_sub(spot.offset + HEADER as u64)?).ok()?;
            let end = from.checked_add(usize::try_from(place.len).ok()?)?;
            let body = (end <= payload.len()).then(|| payload.slice(from..end))?;
            (crc32c::crc32c(&body) == place.crc).then_some(Restored { body, is_mended })
        });
        self.stats.restored(body.as_ref().map(|restored| restored.is_mended));
        body
    }

    /// The batch that begins with record `first`, which cannot be read here. Blocks.
    #[must_use]
    pub fn batch(&self, first: Seq) -> Option<LoggedBatch> {
        let siblings = self.siblings()?;
        let _turn = self.turns.enter()?;
        let segments = segment::list(&self.log).ok()?;
        let segment = segments.iter().rev().find(|begin| **begin <= first).copied()?;
        let intact = self.restore(&*siblings, (segment, At::First(first)));
        self.stats.restored(intact.as_ref().map(|intact| intact.is_mended));
        intact.map(|intact| intact.batch)
    }

    /// Reads a segment that is full, and restores what is damaged in it. Answers whether all of it is whole now. Blocks.
    ///
    /// # Errors
    /// As the disk says.
    pub fn check(&self, segment: Seq) -> io::Result<bool> {
        let all = segment::list(&self.log)?;
        let next = all.iter().find(|first| **first > segment).copied();
        // The newest is not full, and what has gone is nobody's any more.
        let Some(next) = next.filter(|_| all.contains(&segment)) else { return Ok(true) };
        let Some(reader) = Reader::open(&self.log, segment, &self.identity)? else { return Ok(false) };
        let (mut offset, mut seq) = (SEGMENT_HEADER, segment);
        while seq < next {
            if let Ok(Found::Batch(header, _)) = reader.batch(offset) {
                offset += header.span();
                seq = if header.count > 0 { header.last_seq() + 1 } else { seq };
                continue;
            }
            if self.is_end(&reader, (segment, offset))? {
                return Ok(true);
            }
            let restored = self.batch(seq).and_then(|batch| batch.header().ok());
            let Some(header) = restored else { return Ok(false) };
            (offset, seq) = (offset + header.span(), header.last_seq() + 1);
        }
        Ok(true)
    }

    /// Does nothing follow in a segment behind which segments may be gone? Nobody can tell then whether a last batch is
    /// wanting, or what it was called: the next one that is there follows another.
    fn is_end(&self, reader: &Reader, (segment, offset): (Seq, u64)) -> io::Result<bool> {
        let from = self.log.parent().map(Superblock::read).transpose().map_err(io::Error::other)?;
        let has_gaps = from.is_some_and(|block| segment < block.contiguous_from);
        Ok(has_gaps && reader.find(offset, |_| true)?.is_none())
    }

    fn siblings(&self) -> Option<Arc<dyn Siblings>> {
        self.siblings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn restore(&self, siblings: &dyn Siblings, (segment, at): (Seq, At)) -> Option<Intact> {
        let store = &self.identity.store;
        let spot = match Spot::find((&self.log, &self.identity), segment, at) {
            Ok(Some(spot)) => spot,
            Ok(None) => {
                tracing::error!(%store, segment, ?at, "what is damaged cannot be named to the other copies");
                return None;
            }
            Err(error) => {
                tracing::error!(%store, segment, ?at, %error, "what surrounds the damage cannot be read");
                return None;
            }
        };
        if self.is_whole(&spot) {
            // It is as it was written: the index says something else of it, which nobody's log can mend.
            tracing::error!(%store, segment, ?at, "the log is intact there: the index is damaged");
            return None;
        }
        let (offset, wanted) = (spot.offset, spot.wanted);
        let batch = self.fetch(siblings, &spot)?;
        let (header, payload) = (batch.header().ok()?, batch.payload.clone());
        let mended = self.mend(&spot, header, &payload);
        let (first, last) = (wanted.first, wanted.link.seq);
        match &mended {
            Ok(()) => {
                tracing::warn!(%store, segment, offset, first, last, "damage in the log is mended with what another copy has")
            }
            Err(why) => {
                tracing::warn!(%store, segment, offset, first, last, %why, "damage in the log: what another copy has is served, and not written here")
            }
        }
        Some(Intact { spot, payload, batch, is_mended: mended.is_ok() })
    }

    fn fetch(&self, siblings: &dyn Siblings, spot: &Spot) -> Option<LoggedBatch> {
        let (store, segment, offset, wanted) = (&self.identity.store, spot.segment, spot.offset, spot.wanted);
        if self.turns.is_in_vain(wanted.link) {
            return None;
        }
        let (first, last) = (wanted.first, wanted.link.seq);
        match siblings.fetch(&wanted) {
            Fetched::Batch(batch) if batch.header().is_ok_and(|header| spot.is(&header)) => Some(batch),
            Fetched::Batch(_) => {
                tracing::error!(%store, segment, offset, first, last, "another copy has sent what is not the damaged record");
                self.turns.nowhere(wanted.link);
                None
            }
            Fetched::Nowhere => {
                tracing::error!(%store, segment, offset, first, last, "damage in the log, and no other copy has the record");
                self.turns.nowhere(wanted.link);
                None
            }
            Fetched::NoAnswer => {
                tracing::error!(%store, segment, offset, first, last, "damage in the log, and no other copy answers");
                self.turns.no_answer();
                None
            }
        }
    }

    fn is_whole(&self, spot: &Spot) -> bool {
        let found = || Reader::open(&self.log, spot.segment, &self.identity).ok()??.batch(spot.offset).ok();
        matches!(found(), Some(Found::Batch(header, _)) if header.link() == spot.wanted.link)
    }

    /// Writes the batch into its place, where that may be done.
    fn mend(&self, spot: &Spot, header: Header, payload: &Bytes) -> Result<(), String> {
        let segments = segment::list(&self.log).map_err(|e| e.to_string())?;
        if segments.last().is_none_or(|newest| spot.segment >= *newest) {
            return Err("its segment is still being written".into());
        }
        let header = spot.header_as_here(header);
        let path = segment::path(&self.log, spot.segment);
        mend::write(&self.disk, &path, spot.offset, &header.framed(payload))
            .map_err(|e| format!("it cannot be written: {e}"))?;
        if self.is_whole(spot) { Ok(()) } else { Err("it does not read as it was written".into()) }
    }
}
