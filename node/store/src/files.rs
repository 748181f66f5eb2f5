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
        let failed = |e: &io::Error| match e.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof => {
                ReadError::Damaged(format!("segment {} at {}: {e}", place.segment, place.offset))
            }
            _ => ReadError::Io(e.to_string()),
        };
        let mut text = Vec::with_capacity(prefix.len() + place.len as usize);
        text.extend_from_slice(prefix);
        text.resize(prefix.len() + place.len as usize, 0);
        let body = &mut text[prefix.len()..];
        let file = self.file(place.segment).map_err(|e| failed(&e))?;
        file.read_exact_at(body, place.offset).map_err(|e| failed(&e))?;
        if crc32c::crc32c(body) != place.crc {
            return Err(ReadError::Damaged(format!("segment {} at {}", place.segment, place.offset)));
        }
        Ok(text)
    }
}
