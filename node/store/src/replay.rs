//! Bringing the index up to a batch that is in the log: the same for recovery, for what a mirror was sent, and for what
//! a new primary found.

use bytes::Bytes;
use mailcluster_types::Seq;
use rusqlite::Connection;

use crate::{
    apply::{self, Apply, Changed, Hot},
    batch::{HEADER, Header},
    engine::place,
    error::OpenError,
    files::Place,
    record::{self, DecodeError, Record},
    schema::State,
};

/// What one index transaction applies, by [`Placed::cost`].
pub const PER_TRANSACTION: u64 = 32 << 20;

/// A batch and where it lies.
#[derive(Debug, Clone, Copy)]
pub struct Placed {
    /// Its header, as it stands there.
    pub header: Header,
    /// The first sequence of its segment.
    pub segment: Seq,
    /// Where in the segment it starts.
    pub offset: u64,
}

impl Placed {
    /// Its records that have bodies, and where these lie.
    pub fn bodies(&self, payload: &Bytes) -> Vec<(Place, Record)> {
        let base = self.offset + HEADER as u64;
        let records = record::decode_all(payload).unwrap_or_default().into_iter();
        let placed = records.filter_map(|framed| {
            let at = base + framed.body_at as u64;
            Some((place(&framed.record, self.segment, at, framed.body.len())?, framed.record))
        });
        placed.collect()
    }

    /// Payload octets, and something for the batch itself.
    pub fn cost(&self) -> u64 {
        u64::from(self.header.length) + 4096
    }
}

/// What a batch is applied to; in a transaction.
pub struct Index<'a> {
    /// The index.
    pub conn: &'a Connection,
    /// Its row of state.
    pub state: &'a mut State,
    /// Accounts used lately.
    pub hot: &'a mut Hot,
    /// What changed.
    pub changed: &'a mut Changed,
}

impl Index<'_> {
    /// Applies all records of a batch, and moves the state behind it.
    pub fn apply(&mut self, batch: &Placed, payload: &Bytes) -> Result<(), OpenError> {
        let records = record::decode_all(payload).map_err(|e| match e {
            DecodeError::Unknown { kind, version } => {
                OpenError::UnknownRecord { seq: batch.header.seq, kind, version }
            }
            DecodeError::Malformed { .. } => {
                OpenError::Damaged(format!("segment {} at {}: {e}", batch.segment, batch.offset))
            }
        })?;
        let base = batch.offset + HEADER as u64;
        for (seq, framed) in (batch.header.seq..).zip(&records) {
            let place = place(&framed.record, batch.segment, base + framed.body_at as u64, framed.body.len());
            let mut cx =
                Apply { conn: self.conn, state: self.state, hot: self.hot, changed: self.changed, seq };
            apply::apply(&mut cx, &framed.record, place)
                .map_err(|e| OpenError::Index(format!("record {seq}: {e}")))?;
        }
        self.state.link = batch.header.link();
        self.state.segment = batch.segment;
        self.state.start = batch.offset;
        self.state.end = batch.offset + batch.header.span();
        Ok(())
    }
}
