//! Dot-stuffing of message data on its way out (RFC 5321 section 4.5.2).

use bytes::BytesMut;
use memchr::memmem;

/// Stuffs a message that comes in pieces.
#[derive(Debug, Clone)]
pub struct Stuffer {
    /// The last two octets written.
    tail: [u8; 2],
}

impl Default for Stuffer {
    fn default() -> Self {
        Self { tail: *b"\r\n" }
    }
}

impl Stuffer {
    /// At the start of a message.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes the next piece, with a dot before each dot that begins a line.
    pub fn push(&mut self, mut piece: &[u8], out: &mut BytesMut) {
        if piece.is_empty() {
            return;
        }
        // "CRLF." may lie across two pieces.
        let seam = [self.tail[0], self.tail[1]];
        if (piece[0] == b'.' && seam == *b"\r\n") || (seam[1] == b'\r' && piece.starts_with(b"\n.")) {
            let upto = usize::from(piece[0] != b'.');
            out.extend_from_slice(&piece[..upto]);
            out.extend_from_slice(b".");
            piece = &piece[upto..];
        }
        self.tail = match piece {
            [.., a, b] => [*a, *b],
            [b] => [seam[1], *b],
            [] => seam,
        };
        let mut from = 0;
        for at in memmem::find_iter(piece, b"\r\n.") {
            out.extend_from_slice(&piece[from..at + 2]);
            out.extend_from_slice(b".");
            from = at + 2;
        }
        out.extend_from_slice(&piece[from..]);
    }

    /// Writes the end: a CRLF when the last line lacks it, then the dot.
    pub fn end(&self, out: &mut BytesMut) {
        if self.tail != *b"\r\n" {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b".\r\n");
    }
}
