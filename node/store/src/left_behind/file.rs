//! The file of what was left behind: a line that says what it is, then pieces, each with its length (u32, little-endian)
//! and the CRC-32C of its octets before it: a head, items, an end.

use std::io::{self, Write};

use bytes::{Buf, Bytes, BytesMut};
use prost::Message as _;

use super::{End, Head, Item};

/// The first line.
const MAGIC: &[u8] = b"mailcluster left behind 1\n";
/// Most octets of a piece: the largest message, and what stands around it.
pub const MAX_PIECE: usize = 160 << 20;
/// Octets before a piece.
const FRAME: usize = 8;

/// A part of the file.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Piece {
    /// What it is.
    #[prost(oneof = "Part", tags = "1, 2, 3")]
    pub part: Option<Part>,
}

/// What a piece is.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Part {
    /// Comes first.
    #[prost(message, tag = "1")]
    Head(Head),
    /// Something that was left behind.
    #[prost(message, tag = "2")]
    Item(Item),
    /// Comes last.
    #[prost(message, tag = "3")]
    End(End),
}

/// Why a file cannot be read on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// It is something else.
    #[error("this is no file that `mailcluster-node store salvage` wrote")]
    Foreign,
    /// A checksum does not match, or it makes no sense.
    #[error("the file is damaged at octet {0}: write it again with `mailcluster-node store salvage`")]
    Damaged(u64),
    /// It has no end.
    #[error("the file is cut short: what came before was done; send it again, as a whole")]
    Short,
}

/// Writes the first line.
pub fn begin(out: &mut dyn Write) -> io::Result<()> {
    out.write_all(MAGIC)
}

/// Writes a piece.
pub fn write(out: &mut dyn Write, part: Part) -> io::Result<()> {
    let octets = Piece { part: Some(part) }.encode_to_vec();
    let length = u32::try_from(octets.len()).ok().filter(|length| *length as usize <= MAX_PIECE);
    let length = length.ok_or_else(|| io::Error::other("a message is too large for the file"))?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(&crc32c::crc32c(&octets).to_le_bytes())?;
    out.write_all(&octets)
}

/// Takes a file as it arrives, in parts of any size; holds no more than one piece and one part.
#[derive(Debug, Default)]
pub struct FileReader {
    waiting: BytesMut,
    at: u64,
    is_known: bool,
    is_over: bool,
}

impl FileReader {
    /// What arrived.
    pub fn push(&mut self, octets: &[u8]) {
        self.waiting.extend_from_slice(octets);
    }

    /// The next whole piece.
    ///
    /// # Errors
    /// [`FileError::Foreign`] and [`FileError::Damaged`].
    pub fn next_part(&mut self) -> Result<Option<Part>, FileError> {
        if !self.is_known {
            let first = &self.waiting[..self.waiting.len().min(MAGIC.len())];
            if *first != MAGIC[..first.len()] {
                return Err(FileError::Foreign);
            }
            if first.len() < MAGIC.len() {
                return Ok(None);
            }
            self.take(MAGIC.len());
            self.is_known = true;
        }
        let Some(frame) = self.waiting.first_chunk::<FRAME>() else { return Ok(None) };
        let [l0, l1, l2, l3, c0, c1, c2, c3] = *frame;
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if length > MAX_PIECE || self.is_over {
            return Err(FileError::Damaged(self.at));
        }
        if self.waiting.len() < FRAME + length {
            return Ok(None);
        }
        let octets = self.take(FRAME + length).slice(FRAME..);
        let damaged = FileError::Damaged(self.at - length as u64 - FRAME as u64);
        if crc32c::crc32c(&octets) != u32::from_le_bytes([c0, c1, c2, c3]) {
            return Err(damaged);
        }
        let part = Piece::decode(octets).ok().and_then(|piece| piece.part).ok_or(damaged)?;
        self.is_over = matches!(part, Part::End(_));
        Ok(Some(part))
    }

    fn take(&mut self, octets: usize) -> Bytes {
        self.at += octets as u64;
        self.waiting.copy_to_bytes(octets)
    }

    /// Nothing more arrives.
    ///
    /// # Errors
    /// [`FileError::Short`] when there should be more.
    pub fn finish(&self) -> Result<(), FileError> {
        match (self.is_over, self.is_known || !self.waiting.is_empty()) {
            (true, _) if self.waiting.is_empty() => Ok(()),
            (true, _) => Err(FileError::Damaged(self.at)),
            (false, true) => Err(FileError::Short),
            (false, false) => Err(FileError::Foreign),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Vec<u8> {
        let mut out = Vec::new();
        begin(&mut out).unwrap();
        write(&mut out, Part::Head(Head { store: "mail-0".into(), ..Head::default() })).unwrap();
        write(&mut out, Part::Item(Item::default())).unwrap();
        write(&mut out, Part::End(End { items: 1 })).unwrap();
        out
    }

    fn read(octets: &[u8], size: usize) -> Result<usize, FileError> {
        let (mut reader, mut pieces) = (FileReader::default(), 0);
        for part in octets.chunks(size) {
            reader.push(part);
            while reader.next_part()?.is_some() {
                pieces += 1;
            }
        }
        reader.finish().map(|()| pieces)
    }

    #[test]
    fn a_file_is_read_in_parts_of_any_size_and_only_as_it_was_written() {
        let whole = file();
        for size in [1, 7, 64, whole.len()] {
            assert_eq!(read(&whole, size), Ok(3), "{size}");
        }
        for cut in 0..whole.len() {
            let expected = if cut == 0 { FileError::Foreign } else { FileError::Short };
            assert_eq!(read(&whole[..cut], 16), Err(expected), "cut at {cut}");
        }
        for at in 0..whole.len() {
            let mut bad = whole.clone();
            bad[at] ^= 0x40;
            assert!(read(&bad, 16).is_err(), "flipped at {at}");
        }
        let longer = [&whole[..], b"x"].concat();
        assert_eq!(read(&longer, 16), Err(FileError::Damaged(whole.len() as u64)));
    }
}
