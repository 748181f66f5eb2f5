//! Batches and tables as messages.

use bytes::{Bytes, BytesMut};
use mailcluster_failover::{Position, mirror::EpochEntry};
use mailcluster_rpc::mirror::v1::{
    Batch, EpochStart, FromPrimary, Lent, Link as LinkMessage, Position as PositionMessage, from_primary,
    lent,
};
use mailcluster_store::{EpochMark, Link, LoggedBatch};
use mailcluster_types::{Epoch, Seq};

/// Most octets of a payload in one message.
pub(crate) const PART: usize = 256 << 10;

/// What a primary says beside its batches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Said {
    /// Everything up to here is committed.
    pub commit: Seq,
    /// When, by its clock.
    pub at: u64,
    /// The first record that others may want, if it says something of that; 0: all of it.
    pub wanted_from: Option<Seq>,
}

/// The messages that carry a batch to a mirror.
pub(crate) fn parts(batch: LoggedBatch, commit: Seq, said_at: u64) -> impl Iterator<Item = FromPrimary> {
    let (head, rest) = split(batch, Said { commit, at: said_at, wanted_from: None });
    std::iter::once(from_primary::Message::Batch(head))
        .chain(rest.map(from_primary::Message::More))
        .map(|message| FromPrimary { message: Some(message) })
}

/// The messages that carry a batch to a primary whose own is damaged.
pub(crate) fn lent(batch: LoggedBatch) -> impl Iterator<Item = Lent> {
    let (head, rest) = split(batch, Said::default());
    std::iter::once(lent::Message::Batch(head))
        .chain(rest.map(lent::Message::More))
        .map(|message| Lent { message: Some(message) })
}

/// A batch in parts: its head with the first, and the others.
fn split(batch: LoggedBatch, said: Said) -> (Batch, impl Iterator<Item = Bytes>) {
    let LoggedBatch { epoch, seq, count, prev, mut payload } = batch;
    // A payload is far below 4 GiB: the log's own headers count it in 32 bits.
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let head = Batch {
        epoch,
        seq,
        count,
        prev: Some(LinkMessage { epoch: prev.epoch, seq: prev.seq, crc: prev.crc }),
        length,
        payload: payload.split_to(payload.len().min(PART)),
        commit: said.commit,
        said_at: said.at,
    };
    let rest =
        std::iter::from_fn(move || (!payload.is_empty()).then(|| payload.split_to(payload.len().min(PART))));
    (head, rest)
}

/// A message that no primary of ours sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message of the stream is out of place or malformed")]
pub(crate) struct OutOfPlace;

/// A batch whose parts arrive one by one.
#[derive(Default)]
pub(crate) struct Assembly(Option<Parts>);

struct Parts {
    head: Batch,
    payload: BytesMut,
}

impl Assembly {
    /// The first part. Answers the batch, and what is committed, when it is complete.
    pub(crate) fn begin(&mut self, mut head: Batch) -> Result<Option<(LoggedBatch, Said)>, OutOfPlace> {
        if self.0.is_some() {
            return Err(OutOfPlace);
        }
        let payload = std::mem::take(&mut head.payload);
        self.0 = Some(Parts { head, payload: BytesMut::new() });
        self.more(&payload)
    }

    /// A further part.
    pub(crate) fn more(&mut self, part: &Bytes) -> Result<Option<(LoggedBatch, Said)>, OutOfPlace> {
        let Parts { head, mut payload } = self.0.take().ok_or(OutOfPlace)?;
        let length = usize::try_from(head.length).map_err(|_| OutOfPlace)?;
        // Memory is taken as octets arrive, never on the word of a header.
        payload.extend_from_slice(part);
        if payload.len() < length && !part.is_empty() {
            self.0 = Some(Parts { head, payload });
            return Ok(None);
        }
        if payload.len() != length {
            return Err(OutOfPlace);
        }
        let prev = head.prev.ok_or(OutOfPlace)?;
        let prev = Link { epoch: prev.epoch, seq: prev.seq, crc: prev.crc };
        let Batch { epoch, seq, count, commit, said_at, .. } = head;
        let said = Said { commit, at: said_at, wanted_from: None };
        Ok(Some((LoggedBatch { epoch, seq, count, prev, payload: payload.freeze() }, said)))
    }
}

/// A table's row, as sent.
pub(crate) fn row(mark: &EpochMark) -> EpochStart {
    EpochStart { epoch: mark.epoch, first_seq: mark.first_seq, forced: mark.forced }
}

/// A table's row, as decided on.
pub(crate) fn entry(mark: &EpochMark) -> EpochEntry {
    EpochEntry { epoch: mark.epoch, first_seq: mark.first_seq, forced: mark.forced }
}

/// A table's row, as received.
pub(crate) fn received(row: &EpochStart) -> EpochEntry {
    EpochEntry { epoch: row.epoch, first_seq: row.first_seq, forced: row.forced }
}

/// A position, as sent.
pub(crate) fn position((epoch, seq): (Epoch, Seq)) -> PositionMessage {
    PositionMessage { epoch, seq }
}

/// A position, as received; nothing is the position of an empty log.
pub(crate) fn place(position: Option<PositionMessage>) -> Position {
    position.map_or(Position::default(), |p| Position { epoch: p.epoch, seq: p.seq })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(octets: usize) -> LoggedBatch {
        let payload = (0..octets).map(|i| u8::try_from(i % 251).unwrap()).collect::<Vec<_>>().into();
        LoggedBatch { epoch: 3, seq: 8, count: 2, prev: Link { epoch: 2, seq: 7, crc: 5 }, payload }
    }

    fn assemble(messages: impl IntoIterator<Item = FromPrimary>) -> Vec<(LoggedBatch, Said)> {
        let mut assembly = Assembly::default();
        let mut take = |message: FromPrimary| match message.message.unwrap() {
            from_primary::Message::Batch(head) => assembly.begin(head).unwrap(),
            from_primary::Message::More(part) => assembly.more(&part).unwrap(),
            other => panic!("{other:?}"),
        };
        messages.into_iter().filter_map(&mut take).collect()
    }

    #[test]
    fn a_batch_arrives_as_it_was_sent() {
        for octets in [0, 1, PART - 1, PART, PART + 1, 5 * PART] {
            let sent: Vec<FromPrimary> = parts(batch(octets), 4, 9).collect();
            assert_eq!(sent.len(), octets.div_ceil(PART).max(1), "{octets}");
            assert_eq!(
                assemble(sent),
                [(batch(octets), Said { commit: 4, at: 9, wanted_from: None })],
                "{octets}"
            );
        }
    }

    #[test]
    fn what_is_out_of_place_is_refused() {
        let sent: Vec<FromPrimary> = parts(batch(2 * PART), 4, 9).collect();
        let Some(from_primary::Message::Batch(head)) = sent[0].message.clone() else { panic!() };
        let part = Bytes::from(vec![0; PART]);
        assert_eq!(Assembly::default().more(&part), Err(OutOfPlace), "no batch was begun");
        let begun = || {
            let mut assembly = Assembly::default();
            assert_eq!(assembly.begin(head.clone()), Ok(None));
            assembly
        };
        assert_eq!(begun().begin(head.clone()), Err(OutOfPlace), "another before the end of the first");
        assert_eq!(begun().more(&Bytes::from(vec![0; PART + 1])), Err(OutOfPlace), "too long");
        assert_eq!(begun().more(&Bytes::new()), Err(OutOfPlace), "it would never end");
        assert_eq!(begun().more(&part).map(|done| done.is_some()), Ok(true));
        let nameless = Batch { prev: None, length: 0, payload: Bytes::new(), ..head };
        assert_eq!(Assembly::default().begin(nameless), Err(OutOfPlace));
    }
}
