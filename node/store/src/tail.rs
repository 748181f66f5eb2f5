//! The tail: batches that are in the log, synced, and not known to be committed. The index has none of them, so that
//! they can be cut off again when another replica's log goes on differently.

use std::collections::VecDeque;

use bytes::Bytes;
use mailcluster_types::Seq;

use crate::{
    batch::Link,
    error::FollowError,
    model::EpochMark,
    record::{self, Record},
    replay::Placed,
};

/// What a record of the protocol says. Each is a batch of its own.
#[derive(Debug)]
struct Said {
    seq: Seq,
    epoch: Option<EpochMark>,
    version: u64,
    /// Replica ids, 16 octets each.
    in_sync: Vec<Vec<u8>>,
}

/// Batches in the order of the log; they are all in its newest segment.
#[derive(Debug, Default)]
pub struct Tail {
    batches: VecDeque<Placed>,
    said: Vec<Said>,
}

impl Tail {
    /// Is everything in the index?
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// The log's last batch; `applied` is the index's.
    pub fn end(&self, applied: Link) -> Link {
        self.batches.back().map_or(applied, |batch| batch.header.link())
    }

    /// The epochs that begin in it.
    pub fn epochs(&self) -> impl Iterator<Item = EpochMark> {
        self.said.iter().filter_map(|said| said.epoch)
    }

    /// The highest version of a set of replicas in it; 0 when it has none.
    pub fn in_sync_version(&self) -> u64 {
        self.said.iter().map(|said| said.version).max().unwrap_or(0)
    }

    /// The replicas that the last record in it names as those that must have what is acknowledged, 16 octets each; `None`
    /// when no record in it does.
    pub fn in_sync(&self) -> Option<&[Vec<u8>]> {
        self.said.last().map(|said| said.in_sync.as_slice())
    }

    /// Does a record in it name another replica than this one as one that must have what is acknowledged?
    pub fn names_others(&self, me: &[u8]) -> bool {
        self.said.iter().flat_map(|said| &said.in_sync).any(|id| id != me)
    }

    /// A batch was synced.
    pub fn push(&mut self, batch: Placed, payload: &Bytes) {
        self.said.extend(said(batch.header.seq, payload));
        self.batches.push_back(batch);
    }

    /// The batches that lie, as a whole, at or below `commit`.
    pub fn up_to(&self, commit: Seq) -> impl Iterator<Item = &Placed> {
        self.batches.iter().take_while(move |batch| batch.header.last_seq() <= commit)
    }

    /// The first batch is in the index.
    pub fn applied(&mut self) {
        if let Some(batch) = self.batches.pop_front() {
            self.said.retain(|said| said.seq > batch.header.last_seq());
        }
    }

    /// The first batch behind `after`, if there is one.
    ///
    /// # Errors
    /// [`FollowError::Gap`] when `after` is within a batch.
    pub fn behind(&self, after: Seq) -> Result<Option<Placed>, FollowError> {
        match self.batches.iter().find(|batch| batch.header.last_seq() > after) {
            Some(batch) if batch.header.seq == after + 1 => Ok(Some(*batch)),
            Some(_) => Err(FollowError::Gap),
            None => Ok(None),
        }
    }

    /// What lies behind `after` was cut off.
    pub fn cut(&mut self, after: Seq) {
        self.batches.retain(|batch| batch.header.last_seq() <= after);
        self.said.retain(|said| said.seq <= after);
    }
}

fn said(seq: Seq, payload: &Bytes) -> Option<Said> {
    match record::decode_first(payload).ok()?.record {
        Record::EpochStart(start) => {
            let mark = EpochMark { epoch: start.epoch, first_seq: seq, forced: start.forced };
            Some(Said { seq, epoch: Some(mark), version: 0, in_sync: start.in_sync })
        }
        Record::InSync(set) => Some(Said { seq, epoch: None, version: set.version, in_sync: set.in_sync }),
        _ => None,
    }
}
