//! Message data after DATA: dot-unstuffing and the search for the end (RFC 5321 sections 4.1.1.4 and 4.5.2).
//!
//! The only end is CRLF "." CRLF (the CRLF of the DATA command counts as the first). Everything that another reader
//! might take for an end, `LF.LF`, `LF.CRLF`, `CRLF.LF`, `CR.CR` and their kin, is a fault of the message.

use bytes::{Buf, BytesMut};
use memchr::memchr3;

/// Longest line of message data in octets, CRLF included.
pub const MAX_DATA_LINE: usize = 64 << 10;

/// Why a message cannot be taken. The first fault stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DataFault {
    /// A CR or LF that is not part of CRLF.
    #[error("bare CR or LF in message")]
    BareNewline,
    /// A NUL.
    #[error("NUL in message")]
    Nul,
    /// A line longer than [`MAX_DATA_LINE`].
    #[error("line too long in message")]
    LineTooLong,
    /// More octets than allowed.
    #[error("message too large")]
    TooLarge,
}

/// What [`DataDecoder::feed`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// All input was used; the message goes on.
    More,
    /// The end was read; what follows it was left in the input.
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    LineStart,
    /// A dot at the start of a line.
    Dot,
    /// A dot at the start of a line, then CR.
    DotCr,
    Text,
    /// CR, not yet written out.
    Cr,
}

/// Decodes one message.
#[derive(Debug, Clone)]
pub struct DataDecoder {
    state: State,
    line: usize,
    size: u64,
    received: u64,
    max_size: u64,
    fault: Option<DataFault>,
}

impl DataDecoder {
    /// A decoder for a message of at most `max_size` octets.
    #[must_use]
    pub fn new(max_size: u64) -> Self {
        Self { state: State::LineStart, line: 0, size: 0, received: 0, max_size, fault: None }
    }

    /// What is wrong with the message so far. Meaningful as a verdict once the end was read.
    #[must_use]
    pub fn fault(&self) -> Option<DataFault> {
        self.fault
    }

    /// Octets of message so far (unstuffed), as far as written out.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Octets read so far, also those of a message that is already at fault.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Decodes what is in `input` onto the end of `out`. After a fault nothing more is written, but the end is still
    /// looked for.
    pub fn feed(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Progress {
        let chunk: &[u8] = input;
        let mut at = 0;
        let mut ended = false;
        while at < chunk.len() && !ended {
            at = match self.state {
                State::Text => self.text(chunk, at, out),
                _ => {
                    ended = self.step(chunk[at], out);
                    at + 1
                }
            };
        }
        self.received += u64::try_from(at).unwrap_or(u64::MAX);
        input.advance(at);
        if ended { Progress::End } else { Progress::More }
    }

    /// Takes as much as can be copied in one piece: to a dot at a line's start, a CR at the chunk's end or a fault.
    fn text(&mut self, chunk: &[u8], start: usize, out: &mut BytesMut) -> usize {
        let mut at = start;
        loop {
            let Some(hit) = memchr3(b'\r', b'\n', 0, &chunk[at..]).map(|hit| at + hit) else {
                self.grow_line(chunk.len() - at);
                self.write(&chunk[start..], out);
                return chunk.len();
            };
            self.grow_line(hit - at);
            match (chunk[hit], chunk.get(hit + 1), chunk.get(hit + 2)) {
                (b'\r', Some(b'\n'), next) => {
                    self.end_line();
                    at = hit + 2;
                    if matches!(next, Some(b'.' | b'\r' | b'\n') | None) {
                        self.state = State::LineStart;
                        self.write(&chunk[start..at], out);
                        return at;
                    }
                }
                (b'\r', _, _) => {
                    self.state = State::Cr;
                    self.write(&chunk[start..hit], out);
                    return hit + 1;
                }
                (octet, _, _) => {
                    self.fail(if octet == 0 { DataFault::Nul } else { DataFault::BareNewline });
                    return hit + 1;
                }
            }
        }
    }

    /// One octet in a state other than `Text`; true at the end of the message.
    fn step(&mut self, octet: u8, out: &mut BytesMut) -> bool {
        match (self.state, octet) {
            (State::LineStart, b'.') => self.state = State::Dot,
            (State::Dot, b'\r') => self.state = State::DotCr,
            (State::DotCr, b'\n') => return true,
            (State::Cr, b'\n') => {
                self.end_line();
                self.state = State::LineStart;
                self.write(b"\r\n", out);
            }
            (State::LineStart, b'\r') => self.state = State::Cr,
            (State::DotCr | State::Cr, _) => {
                self.fail(DataFault::BareNewline);
                self.state = if octet == b'\r' { State::Cr } else { State::Text };
            }
            (_, b'\n') => {
                self.fail(DataFault::BareNewline);
                self.state = State::Text;
            }
            (_, 0) => {
                self.fail(DataFault::Nul);
                self.state = State::Text;
            }
            _ => {
                self.state = State::Text;
                self.grow_line(1);
                self.write(&[octet], out);
            }
        }
        false
    }

    fn grow_line(&mut self, octets: usize) {
        self.line += octets;
        if self.line + 2 > MAX_DATA_LINE {
            self.fail(DataFault::LineTooLong);
        }
    }

    fn end_line(&mut self) {
        self.line = 0;
    }

    fn write(&mut self, octets: &[u8], out: &mut BytesMut) {
        let size = self.size + u64::try_from(octets.len()).unwrap_or(u64::MAX);
        if size > self.max_size {
            self.fail(DataFault::TooLarge);
        }
        if self.fault.is_none() {
            self.size = size;
            out.extend_from_slice(octets);
        }
    }

    fn fail(&mut self, fault: DataFault) {
        self.fault.get_or_insert(fault);
    }
}
