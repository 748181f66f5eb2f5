//! The texts of messages: whole, or piece by piece for whoever must not hold 50 MiB.

use std::{fs::File, sync::Arc};

use bytes::Bytes;

use super::View;
use crate::{error::ReadError, files::Place, repair::Restored};

/// Octets of a piece; texts up to this size are one.
const PIECE: usize = 64 << 10;
/// A body that is damaged here and could not be mended is held in memory up to this size, for as long as it is read.
const KEPT: usize = 4 << 20;

/// A message's text that is read piece by piece, by [`View::piece`]. Cheap to clone.
#[derive(Debug, Clone)]
pub struct StoredBody {
    prefix: Bytes,
    place: Place,
    text: Text,
}

#[derive(Debug, Clone)]
enum Text {
    /// The body, when it is small, or does not lie in its place.
    Whole(Bytes),
    /// What it is read from: held, as the file may be given back meanwhile.
    In(Arc<File>),
}

impl StoredBody {
    /// Octets of the text, prefix and body.
    #[must_use]
    pub fn size(&self) -> u64 {
        octets(&self.prefix) + u64::from(self.place.len)
    }
}

impl View {
    /// A message's whole text (prefix and body), checksum verified. Take it from [`crate::Message::body`].
    ///
    /// # Errors
    /// [`ReadError::Damaged`] when this one body does not match its checksum.
    pub fn body(&self, body: u64) -> Result<Bytes, ReadError> {
        let (place, prefix) = self.place(body)?;
        self.pool.files.read(&prefix, &place).map(Bytes::from).or_else(|error| {
            let restored = self.restored(&place, error)?;
            Ok([&prefix[..], &restored.body[..]].concat().into())
        })
    }

    /// The same text, to be read by [`Self::piece`]; its checksum is verified here, so that what is damaged is known
    /// before the first piece is sent. It holds the file: the text can be read even when its last message is expunged
    /// meanwhile, or when it is moved to another place and its room given back.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] when this one body does not match its checksum.
    pub fn stored_body(&self, body: u64) -> Result<StoredBody, ReadError> {
        let (place, prefix) = self.place(body)?;
        let prefix = Bytes::from(prefix);
        let text = self.text(&place).or_else(|error| {
            let Restored { body, is_mended } = self.restored(&place, error.clone())?;
            if is_mended && body.len() > PIECE {
                return self.text(&place);
            }
            if body.len() <= KEPT { Ok(Text::Whole(body)) } else { Err(error) }
        })?;
        Ok(StoredBody { prefix, place, text })
    }

    fn text(&self, place: &Place) -> Result<Text, ReadError> {
        if place.len as usize <= PIECE {
            return Ok(Text::Whole(self.pool.files.read(&[], place)?.into()));
        }
        let file = self.pool.files.of(place)?;
        place.check(&file, &mut vec![0; PIECE])?;
        Ok(Text::In(file))
    }

    /// What another replica has of what is damaged here, for who could not read it; else it stays as it is.
    fn restored(&self, place: &Place, error: ReadError) -> Result<Restored, ReadError> {
        if !matches!(error, ReadError::Damaged(_) | ReadError::Io(_)) {
            return Err(error);
        }
        let repairs = self.pool.repairs.as_ref();
        repairs.and_then(|repairs| repairs.body(&self.pool.files, place)).ok_or(error)
    }

    /// The octets from `offset` on, at most 64 KiB of them; none at the end.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn piece(&self, body: &StoredBody, offset: u64) -> Result<Bytes, ReadError> {
        let prefix = octets(&body.prefix);
        if offset < prefix {
            return Ok(part(&body.prefix, offset));
        }
        let from = offset - prefix;
        let file = match &body.text {
            Text::Whole(whole) => return Ok(part(whole, from)),
            Text::In(file) => file,
        };
        let left = usize::try_from(u64::from(body.place.len).saturating_sub(from)).unwrap_or(PIECE);
        let mut piece = vec![0; left.min(PIECE)];
        if !piece.is_empty() {
            body.place.read_at(file, from, &mut piece)?;
        }
        Ok(piece.into())
    }

    pub(super) fn place(&self, body: u64) -> Result<(Place, Vec<u8>), ReadError> {
        let found =
            self.one("SELECT segment, offset, len, crc, prefix FROM body WHERE id=?", [body], |r| {
                let place = Place { segment: r.get(0)?, offset: r.get(1)?, len: r.get(2)?, crc: r.get(3)? };
                Ok((place, r.get::<_, Option<Vec<u8>>>(4)?.unwrap_or_default()))
            })?;
        found.ok_or(ReadError::NotFound)
    }
}

fn octets(text: &Bytes) -> u64 {
    u64::try_from(text.len()).unwrap_or(u64::MAX)
}

fn part(text: &Bytes, from: u64) -> Bytes {
    let from = usize::try_from(from).unwrap_or(usize::MAX).min(text.len());
    text.slice(from..(from + PIECE).min(text.len()))
}
