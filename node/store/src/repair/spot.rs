//! Where a damaged batch lies, and how it is named.

use std::{io, path::Path};

use mailcluster_types::Seq;

use super::Wanted;
use crate::{
    batch::{ALIGN, HEADER, Header, Link, MAX_PAYLOAD},
    replica::Identity,
    segment::{self, Reader, SEGMENT_HEADER},
};

/// What is looked for in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// The batch that has this octet.
    Offset(u64),
    /// The batch that begins with this record.
    First(Seq),
}

/// A batch's place in a segment, and its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spot {
    pub segment: Seq,
    pub offset: u64,
    pub wanted: Wanted,
    /// Of the segment.
    nonce: u64,
    /// Its header, where that is as it was written.
    header: Option<Header>,
    /// The batch before it, where that is known.
    before: Option<Link>,
    /// Octets up to the next batch; or up to the end of the file, which may be longer.
    room: (u64, Room),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    Exact,
    Most,
}

/// Octets in which no header stands, where one should, and what follows them.
struct Gap {
    end: u64,
    room: Room,
    /// The last batch in it, by the one that follows.
    link: Link,
}

impl Spot {
    /// Looks through one segment. `None`: it is not there, or nothing here tells its name.
    pub fn find((log, identity): (&Path, &Identity), segment: Seq, at: At) -> io::Result<Option<Self>> {
        let Some(reader) = Reader::open(log, segment, identity)? else { return Ok(None) };
        let (mut offset, mut before) = (SEGMENT_HEADER, None);
        let nonce = reader.head.nonce;
        loop {
            if let Some(header) = reader.header(offset)? {
                let is_it = match at {
                    At::Offset(octet) => (offset..offset + header.span()).contains(&octet),
                    At::First(first) => header.seq == first,
                };
                if is_it && header.count > 0 {
                    let most = usize::try_from(header.length).unwrap_or(MAX_PAYLOAD);
                    let wanted = Wanted { first: header.seq, link: header.link(), most };
                    let room = (header.span(), Room::Exact);
                    return Ok(Some(Self {
                        segment,
                        offset,
                        wanted,
                        nonce,
                        header: Some(header),
                        before,
                        room,
                    }));
                }
                offset += header.span();
                before = if header.count > 0 { Some(header.link()) } else { before };
                continue;
            }
            let Some(gap) = gap((log, identity), &reader, offset)? else { return Ok(None) };
            let first = before.map_or(segment, |link: Link| link.seq + 1);
            let is_it = match at {
                At::Offset(octet) => (offset..gap.end).contains(&octet),
                At::First(wanted) => wanted == first,
            };
            if is_it && gap.link.seq >= first {
                let octets = gap.end - offset;
                let most = usize::try_from(octets).unwrap_or(MAX_PAYLOAD).saturating_sub(HEADER);
                let wanted = Wanted { first, link: gap.link, most: most.min(MAX_PAYLOAD) };
                let room = (octets, gap.room);
                return Ok(Some(Self { segment, offset, wanted, nonce, header: None, before, room }));
            }
            if gap.room == Room::Most {
                return Ok(None);
            }
            (offset, before) = (gap.end, Some(gap.link));
        }
    }

    /// Is this the header of what was there, but for what is each replica's own?
    pub fn is(&self, header: &Header) -> bool {
        let fits = match self.room {
            (octets, Room::Exact) => header.span() == octets,
            (octets, Room::Most) => header.span() <= octets,
        };
        fits && header.link() == self.wanted.link
            && header.seq == self.wanted.first
            && self.before.is_none_or(|before| header.prev == before)
    }

    /// The header as it stood here, or one that claims less: all before a committed batch is synced.
    pub fn header_as_here(&self, header: Header) -> Header {
        self.header.unwrap_or(Header { nonce: self.nonce, synced: header.prev.seq, ..header })
    }
}

/// What follows octets that are no batch; `None` when nothing that is known follows.
fn gap((log, identity): (&Path, &Identity), reader: &Reader, offset: u64) -> io::Result<Option<Gap>> {
    if let Some(end) = reader.find(offset + ALIGN as u64, |_| true)? {
        let next = reader.header(end)?;
        return Ok(next.map(|next| Gap { end, room: Room::Exact, link: next.prev }));
    }
    let segment = reader.head.first;
    let Some(next) = segment::list(log)?.into_iter().find(|first| *first > segment) else { return Ok(None) };
    let Some(behind) = Reader::open(log, next, identity)? else { return Ok(None) };
    let (length, first) = (reader.length()?, behind.header(SEGMENT_HEADER)?);
    let end = length.max(offset);
    Ok(first.map(|first| Gap { end, room: Room::Most, link: first.prev }))
}
