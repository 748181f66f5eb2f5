//! Packs: what is still needed of segments that are given back. `log/<number>.pack`: a header as a segment's, then batches
//! of `Kept` records, linked as those of the log and numbered from 1, and a mark at the end.
//!
//! A pack is written under another name, synced, and only then named; it is never changed afterwards.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;

use crate::{
    batch::{ALIGN, HEADER, Header, Link},
    disk::{Disk, LogFile},
    files::Place,
    record::{self, Kept, Record},
    replica::Identity,
    segment::{self, Found, Reader, SEGMENT_HEADER},
};

/// Octets of a batch (one record may have more): damage costs no more than one of them.
const BATCH: usize = 128 << 10;
/// What is written is synced in steps: the log's own syncs find little of it in their way.
const SYNC: u64 = 4 << 20;

/// The name of a pack that is written.
pub fn unfinished(log: &Path) -> PathBuf {
    log.join("pack.new")
}

/// Writes a pack.
pub struct Writer {
    disk: Arc<dyn Disk>,
    log: PathBuf,
    file: Box<dyn LogFile>,
    /// Its number.
    pub number: u64,
    nonce: u64,
    /// Where the next batch goes.
    offset: u64,
    synced: u64,
    link: Link,
    payload: Vec<u8>,
    count: u32,
}

impl Writer {
    /// Begins one under a temporary name.
    pub fn create(disk: &Arc<dyn Disk>, log: &Path, identity: &Identity, number: u64) -> io::Result<Self> {
        let nonce = segment::draw_nonce()?;
        let mut file = disk.create(&unfinished(log))?;
        file.write_at(0, &segment::encode_head(identity, nonce, number))?;
        Ok(Self {
            disk: disk.clone(),
            log: log.to_owned(),
            file,
            number,
            nonce,
            offset: SEGMENT_HEADER,
            synced: 0,
            link: Link::default(),
            payload: Vec::new(),
            count: 0,
        })
    }

    /// Adds a body; answers where in the pack it lies.
    pub fn add(&mut self, kept: Kept, body: &[u8]) -> io::Result<u64> {
        let at = record::encode(&Record::Kept(kept), body, &mut self.payload);
        let place = self.offset + HEADER as u64 + at as u64;
        self.count += 1;
        if self.payload.len() >= BATCH {
            self.write_batch()?;
        }
        Ok(place)
    }

    /// Octets so far.
    pub fn len(&self) -> u64 {
        self.offset + self.payload.len() as u64
    }

    fn header(&self) -> Header {
        Header {
            length: u32::try_from(self.payload.len()).unwrap_or(u32::MAX),
            nonce: self.nonce,
            epoch: 0,
            seq: self.link.seq + 1,
            count: self.count,
            prev: self.link,
            synced: 0,
            payload_crc: crc32c::crc32c(&self.payload),
        }
    }

    fn write_batch(&mut self) -> io::Result<()> {
        let header = self.header();
        self.file.write_at(self.offset, &header.framed(&self.payload))?;
        self.offset += header.span();
        self.link = header.link();
        self.payload.clear();
        self.count = 0;
        if self.offset - self.synced >= SYNC {
            self.file.sync()?;
            self.synced = self.offset;
        }
        Ok(())
    }

    /// Ends it, makes it durable and gives it its name; the folder is still to be synced. Answers its length.
    pub fn finish(mut self) -> io::Result<u64> {
        if self.count > 0 {
            self.write_batch()?;
        }
        let mark = self.header();
        self.file.write_at(self.offset, &mark.encode())?;
        self.file.sync()?;
        self.disk.rename(&unfinished(&self.log), &segment::path(&self.log, self.number))?;
        Ok(self.offset + mark.span())
    }
}

/// What stands in a pack.
pub enum Piece {
    /// A body, where it lies, and whose it is.
    Kept(Place, Kept),
    /// Something is not as it was written; for people.
    Damage(String),
}

/// Walks a pack from its beginning to its end. What is damaged is said, and what is whole behind it is found.
pub fn walk(log: &Path, number: u64, identity: &Identity, each: &mut dyn FnMut(Piece)) -> io::Result<()> {
    let name = segment::name(number);
    let reader = match Reader::open(log, number, identity)? {
        Some(reader) => Some(reader),
        None => {
            each(Piece::Damage(format!("{name}: its header is damaged")));
            Reader::salvage(log, number)?
        }
    };
    let Some(reader) = reader else { return Ok(()) };
    let (mut offset, mut has_ended) = (SEGMENT_HEADER, false);
    while offset < reader.len() {
        let Found::Batch(header, payload) = reader.batch(offset)? else {
            let Some(next) = reader.find(offset + ALIGN as u64, |_| true)? else { break };
            each(Piece::Damage(format!("{name}: damaged from {offset} to {next}")));
            offset = next;
            continue;
        };
        has_ended = header.count == 0;
        batch(number, offset + HEADER as u64, &payload, each);
        offset += header.span();
    }
    if !has_ended {
        each(Piece::Damage(format!("{name} at {offset}: its end is damaged or missing")));
    }
    Ok(())
}

fn batch(number: u64, base: u64, payload: &Bytes, each: &mut dyn FnMut(Piece)) {
    let records = match record::decode_all(payload) {
        Ok(records) => records,
        Err(error) => {
            each(Piece::Damage(format!("{} at {base}: {error}", segment::name(number))));
            return;
        }
    };
    for framed in records {
        let Record::Kept(kept) = framed.record else {
            each(Piece::Damage(format!("{} at {base}: not a record of a pack", segment::name(number))));
            continue;
        };
        let place = Place {
            segment: number,
            offset: base + framed.body_at as u64,
            len: u32::try_from(framed.body.len()).unwrap_or(u32::MAX),
            crc: kept.body_crc,
        };
        each(Piece::Kept(place, kept));
    }
}
