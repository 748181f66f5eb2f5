//! Reads bodies out of segments and packs, with a bounded number of open files.

use std::{
    collections::VecDeque,
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{error::ReadError, segment};

const OPEN_FILES: usize = 64;
/// A body below this is read without a look at its segment's length.
const UNCHECKED: u32 = 1 << 20;

/// Where a body lies on this replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// First sequence of the segment, or the number of a pack.
    pub segment: u64,
    /// Octets from its start.
    pub offset: u64,
    /// Octets of the body.
    pub len: u32,
    /// CRC-32C of the body.
    pub crc: u32,
}

/// Segments and packs, for reading.
pub struct SegmentFiles {
    log: PathBuf,
    open: Mutex<VecDeque<(u64, Arc<File>)>>,
}

impl SegmentFiles {
    pub fn new(log: PathBuf) -> Self {
        Self { log, open: Mutex::new(VecDeque::new()) }
    }

    /// The file of a segment or pack. Whoever holds it can read it to its end, even when it is given back meanwhile.
    pub fn file(&self, segment: u64) -> io::Result<Arc<File>> {
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

    /// A file was given back: its room is free when nobody reads it any more.
    pub fn forget(&self, segment: u64) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|(number, _)| *number != segment);
    }

    /// The file that a body lies in.
    pub fn of(&self, place: &Place) -> Result<Arc<File>, ReadError> {
        self.file(place.segment).map_err(|e| place.failed(&e))
    }

    /// The prefix and the body, verified.
    pub fn read(&self, prefix: &[u8], place: &Place) -> Result<Vec<u8>, ReadError> {
        let file = self.of(place)?;
        place.is_within(&file)?;
        let mut text = Vec::with_capacity(prefix.len() + place.len as usize);
        text.extend_from_slice(prefix);
        text.resize(prefix.len() + place.len as usize, 0);
        let body = &mut text[prefix.len()..];
        place.read_at(&file, 0, body)?;
        place.verify(crc32c::crc32c(body))?;
        Ok(text)
    }
}

impl Place {
    /// Memory is taken for what the segment has, not on the word of the index.
    fn is_within(&self, file: &File) -> Result<(), ReadError> {
        if self.len < UNCHECKED {
            return Ok(());
        }
        match file.metadata().map(|file| file.len()) {
            Ok(length) if self.offset.saturating_add(u64::from(self.len)) > length => {
                Err(ReadError::Damaged(format!("{self}: it ends there")))
            }
            // Reading it says what is wrong.
            _ => Ok(()),
        }
    }

    /// Fills `piece` with the body's octets from `from` on; it must lie within the body. Not verified.
    pub fn read_at(&self, file: &File, from: u64, piece: &mut [u8]) -> Result<(), ReadError> {
        file.read_exact_at(piece, self.offset + from).map_err(|e| self.failed(&e))
    }

    fn failed(&self, error: &io::Error) -> ReadError {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof => {
                ReadError::Damaged(format!("{self}: {error}"))
            }
            _ => ReadError::Io(error.to_string()),
        }
    }

    /// Checks a body against its checksum, `buffer` by `buffer`.
    pub fn check(&self, file: &File, buffer: &mut [u8]) -> Result<(), ReadError> {
        let (mut from, mut crc) = (0, 0);
        while from < u64::from(self.len) {
            let left = usize::try_from(u64::from(self.len) - from).unwrap_or(usize::MAX);
            let length = left.min(buffer.len());
            let Some(piece) = buffer.get_mut(..length).filter(|piece| !piece.is_empty()) else { break };
            self.read_at(file, from, piece)?;
            crc = crc32c::crc32c_append(crc, piece);
            from += u64::try_from(piece.len()).unwrap_or(u64::MAX);
        }
        self.verify(crc)
    }

    fn verify(&self, crc: u32) -> Result<(), ReadError> {
        if crc == self.crc {
            return Ok(());
        }
        Err(ReadError::Damaged(self.to_string()))
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {}", segment::name(self.segment), self.offset)
    }
}
