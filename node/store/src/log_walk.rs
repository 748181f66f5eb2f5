//! Every batch that is whole in a log, and what is not: for logs that recovery refuses, too.

use std::{io, path::Path};

use bytes::Bytes;
use mailcluster_types::Seq;

use crate::{
    batch::{ALIGN, Header, Link},
    replay::Placed,
    replica::Identity,
    segment::{self, Found, Reader, SEGMENT_HEADER},
};

/// What stands in a log.
pub enum Piece {
    /// A whole batch, not a mark.
    Batch(Placed, Bytes),
    /// Something is not as it was written; for people.
    Damage(String),
    /// The log ends with a batch that is not whole. A crash leaves that; where the batch was synced, it is damage.
    Torn(String),
}

/// The first thing in a log that is not as it was written, from this segment on (0: all of it).
pub fn damage(log: &Path, identity: &Identity, from: Seq) -> io::Result<Option<String>> {
    let mut found = None;
    let mut each = |piece| {
        if let Piece::Damage(what) = piece {
            found.get_or_insert(what);
        }
    };
    let mut walk = LogWalk::new(log, identity, from, &mut each);
    walk.from = from;
    walk.link.seq = from.saturating_sub(1);
    walk.run()?;
    Ok(found)
}

/// Walks a log from its first segment to its last.
pub struct LogWalk<'a> {
    pub log: &'a Path,
    pub identity: &'a Identity,
    /// Segments before this record may have been given back.
    pub contiguous_from: Seq,
    /// Segments before this one are passed over.
    from: Seq,
    pub each: &'a mut dyn FnMut(Piece),
    /// The last batch.
    pub link: Link,
    /// Segments so far.
    pub segments: u64,
}

impl<'a> LogWalk<'a> {
    pub fn new(
        log: &'a Path,
        identity: &'a Identity,
        contiguous_from: Seq,
        each: &'a mut dyn FnMut(Piece),
    ) -> Self {
        Self { log, identity, contiguous_from, from: 0, each, link: Link::default(), segments: 0 }
    }

    /// Walks all of it.
    pub fn run(&mut self) -> io::Result<()> {
        let mut firsts = segment::list(self.log)?;
        firsts.retain(|first| *first >= self.from);
        for (at, first) in firsts.iter().enumerate() {
            if at == 0 && *first > self.link.seq + 1 {
                self.missing(*first);
            }
            self.segment(*first, firsts.get(at + 1).copied())?;
            self.segments += 1;
        }
        Ok(())
    }

    fn damage(&mut self, what: String) {
        (self.each)(Piece::Damage(what));
    }

    fn missing(&mut self, next: Seq) {
        // What comes next follows another than the last one that is here.
        self.link.crc = 0;
        if next <= self.contiguous_from {
            return;
        }
        self.damage(format!("records {} to {} are missing", self.link.seq + 1, next - 1));
    }

    fn segment(&mut self, first: Seq, next: Option<Seq>) -> io::Result<()> {
        let reader = match Reader::open(self.log, first, self.identity)? {
            Some(reader) => Some(reader),
            None => {
                self.damage(format!("segment {first}: its header is damaged"));
                Reader::salvage(self.log, first)?
            }
        };
        let Some(reader) = reader else { return Ok(()) };
        let mut offset = SEGMENT_HEADER;
        loop {
            match reader.batch(offset)? {
                // The newer of two copies of a tail counts: see recovery.
                Found::Batch(header, _)
                    if next.is_some_and(|next| header.seq >= next && header.count > 0) =>
                {
                    break;
                }
                Found::Batch(header, payload) => {
                    let placed = Placed { header, segment: first, offset };
                    self.batch(placed, payload);
                    offset += header.span();
                }
                Found::Nothing => match self.behind(&reader, (first, next), offset)? {
                    Some(at) => offset = at,
                    None => break,
                },
            }
        }
        if let Some(next) = next.filter(|next| *next > self.link.seq + 1) {
            self.missing(next);
            self.link.seq = next - 1;
        }
        Ok(())
    }

    fn batch(&mut self, placed: Placed, payload: Bytes) {
        let Header { seq, count, prev, .. } = placed.header;
        if count == 0 {
            return;
        }
        if seq > self.link.seq + 1 {
            self.missing(seq);
        } else if prev != self.link && self.link.crc != 0 {
            self.damage(format!(
                "segment {} at {}: record {seq} does not follow the one before it",
                placed.segment, placed.offset
            ));
        }
        self.link = placed.header.link();
        (self.each)(Piece::Batch(placed, payload));
    }

    /// Where the next batch begins behind something that is none, if that was synced once: by recovery's measure.
    fn behind(
        &mut self,
        reader: &Reader,
        (first, next): (Seq, Option<Seq>),
        offset: u64,
    ) -> io::Result<Option<u64>> {
        let from = offset + ALIGN as u64;
        let at = match next {
            // What the next segment has, too, is the older copy of a tail: see recovery.
            Some(next) => reader.find(from, |header| header.seq < next)?,
            None if reader.proves_synced(from, self.link.seq + 1)? => reader.find(from, |_| true)?,
            None => None,
        };
        let Some(at) = at else {
            if next.is_none() && (reader.header(offset)?.is_some() || reader.find(from, |_| true)?.is_some())
            {
                let seq = self.link.seq + 1;
                (self.each)(Piece::Torn(format!(
                    "segment {first} at {offset}: it is torn from record {seq} on"
                )));
            }
            return Ok(None);
        };
        self.damage(format!("segment {first}: damaged from {offset} to {at}"));
        // What comes next follows another than the last one that was whole.
        self.link.crc = 0;
        Ok(Some(at))
    }
}
