//! Reads bodies out of segments, with a bounded number of open files.

use std::{
    collections::VecDeque,
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use mailcluster_types::Seq;

use crate::{error::ReadError, segment};

const OPEN_FILES: usize = 64;
/// A body below this is read without a look at its segment's length.
const UNCHECKED: u32 = 1 << 20;

/// Where a body lies on this replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// First sequence of the segment.
    pub segment: Seq,
    /// Octets from its start.
    pub offset: u64,
    /// Octets of the body.
    pub len: u32,
    /// CRC-32C of the body.
    pub crc: u32,
}

/// The segments, for reading.
pub struct SegmentFiles {
    log: PathBuf,
    open: Mutex<VecDeque<(Seq, Arc<File>)>>,
}

impl SegmentFiles {
    pub fn new(log: PathBuf) -> Self {
        Self { log, open: Mutex::new(VecDeque::new()) }
    }

    fn file(&self, segment: Seq) -> io::Result<Arc<File>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, file)) = open.iter().find(|(first, _)| *first == segment) {
            return Ok(file.clone());
        }
        let file = Arc::new(File::open(segment::path(&self.log, segment))?);
        if open.len() >= OPEN_FILES {
            open.pop_front();
        }
        open.push_back((segment, file.clone()));
        Ok(file)
    }

    /// The prefix and the body, verified.
    pub fn read(&self, prefix: &[u8], place: &Place) -> Result<Vec<u8>, ReadError> {
        self.reaches(place)?;
        let mut text = Vec::with_capacity(prefix.len() + place.len as usize);
        text.extend_from_slice(prefix);
        text.resize(prefix.len() + place.len as usize, 0);
        let body = &mut text[prefix.len()..];
        self.read_at(place, 0, body)?;
        place.verify(crc32c::crc32c(body))?;
        Ok(text)
    }

    /// Memory is taken for what the segment has, not on the word of the index.
    fn reaches(&self, place: &Place) -> Result<(), ReadError> {
        if place.len < UNCHECKED {
            return Ok(());
        }
        let length = self.file(place.segment).and_then(|file| file.metadata()).map(|file| file.len());
        match length {
            Ok(length) if place.offset.saturating_add(u64::from(place.len)) > length => Err(
                ReadError::Damaged(format!("segment {} at {}: it ends there", place.segment, place.offset)),
            ),
            // Reading it says what is wrong.
            _ => Ok(()),
        }
    }

    /// Fills `piece` with the body's octets from `from` on; it must lie within the body. Not verified.
    pub fn read_at(&self, place: &Place, from: u64, piece: &mut [u8]) -> Result<(), ReadError> {
        let read = self.file(place.segment).and_then(|file| file.read_exact_at(piece, place.offset + from));
        read.map_err(|e| match e.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof => {
                ReadError::Damaged(format!("segment {} at {}: {e}", place.segment, place.offset))
            }
            _ => ReadError::Io(e.to_string()),
        })
    }

    /// Checks a body against its checksum, `buffer` by `buffer`.
    pub fn verify(&self, place: &Place, buffer: &mut [u8]) -> Result<(), ReadError> {
        let (mut from, mut crc) = (0, 0);
        while from < u64::from(place.len) {
            let left = usize::try_from(u64::from(place.len) - from).unwrap_or(usize::MAX);
            let length = left.min(buffer.len());
            let Some(piece) = buffer.get_mut(..length).filter(|piece| !piece.is_empty()) else { break };
            self.read_at(place, from, piece)?;
            crc = crc32c::crc32c_append(crc, piece);
            from += u64::try_from(piece.len()).unwrap_or(u64::MAX);
        }
        place.verify(crc)
    }
}

impl Place {
    fn verify(&self, crc: u32) -> Result<(), ReadError> {
        if crc == self.crc {
            return Ok(());
        }
        Err(ReadError::Damaged(format!("segment {} at {}", self.segment, self.offset)))
    }
}
