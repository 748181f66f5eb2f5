//! Command lines out of a stream of octets.

use bytes::{Buf, Bytes, BytesMut};
use memchr::{memchr2, memmem};

/// What is wrong with a line that was read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LineFault {
    /// Longer than the limit; it was thrown away up to its CRLF.
    #[error("line too long")]
    TooLong,
    /// It has a CR or LF that is not part of CRLF (RFC 5321 section 2.3.8).
    #[error("bare CR or LF")]
    BareNewline,
}

/// Takes lines off the front of a buffer. A line is whatever stands before the next CRLF.
///
/// Memory is bounded: of a line beyond the limit nothing is kept.
#[derive(Debug, Clone)]
pub struct LineDecoder {
    max: usize,
    /// Octets at the buffer's front known to have no CRLF that starts in them.
    scanned: usize,
    discarding: bool,
}

impl LineDecoder {
    /// A decoder for lines of at most `max` octets, CRLF included.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { max, scanned: 0, discarding: false }
    }

    /// Changes the limit for the lines that follow (AUTH's are longer).
    pub fn set_max(&mut self, max: usize) {
        self.max = max;
    }

    /// The next whole line without its CRLF; `None` when more octets are needed.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Option<Result<Bytes, LineFault>> {
        let from = self.scanned.min(buffer.len());
        if let Some(at) = memmem::find(&buffer[from..], b"\r\n").map(|at| at + from) {
            self.scanned = 0;
            let line = buffer.split_to(at).freeze();
            buffer.advance(2);
            let too_long = std::mem::take(&mut self.discarding) || line.len() + 2 > self.max;
            return Some(match too_long {
                true => Err(LineFault::TooLong),
                false if memchr2(b'\r', b'\n', &line).is_some() => Err(LineFault::BareNewline),
                false => Ok(line),
            });
        }
        // The last octet may be the CR of a CRLF that is still to come.
        self.scanned = buffer.len().saturating_sub(1);
        if buffer.len() >= self.max || self.discarding {
            self.discarding = true;
            buffer.advance(self.scanned);
            self.scanned = 0;
        }
        None
    }
}
