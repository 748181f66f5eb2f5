//! Multi-line answers: dot-stuffing (RFC 1939 section 3) and TOP's part of a message (section 7).

/// Where in a line the last octet stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// After CRLF, or before anything.
    Start,
    /// After an LF without CR before it: a dot here is stuffed too, so that no reader sees the end too early.
    BareStart,
    AfterCr,
    Middle,
}

/// Writes a message as the body of a multi-line answer, in pieces of any size.
#[derive(Debug)]
pub struct DotStuffer {
    place: Place,
}

impl Default for DotStuffer {
    fn default() -> Self {
        Self { place: Place::Start }
    }
}

impl DotStuffer {
    /// At the start of a message.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a piece of the message.
    pub fn push(&mut self, mut octets: &[u8], out: &mut Vec<u8>) {
        out.reserve(octets.len() + octets.len() / 64);
        while let Some(first) = octets.first() {
            if matches!(self.place, Place::Start | Place::BareStart) && *first == b'.' {
                out.push(b'.');
            }
            let Some(lf) = memchr::memchr(b'\n', octets) else {
                out.extend_from_slice(octets);
                self.place = if octets.ends_with(b"\r") { Place::AfterCr } else { Place::Middle };
                return;
            };
            let crlf = if lf == 0 { self.place == Place::AfterCr } else { octets[lf - 1] == b'\r' };
            let (line, rest) = octets.split_at(lf + 1);
            out.extend_from_slice(line);
            self.place = if crlf { Place::Start } else { Place::BareStart };
            octets = rest;
        }
    }

    /// Ends the last line, if it isn't, and the answer.
    pub fn finish(self, out: &mut Vec<u8>) {
        if self.place != Place::Start {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b".\r\n");
    }
}

/// Cuts a message that comes in pieces for TOP: the header, the empty line after it and some lines of the body.
#[derive(Debug)]
pub struct Top {
    left: u32,
    /// What the line under way holds so far.
    line: Line,
    in_body: bool,
}

/// A line of the header, as far as it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Empty,
    Cr,
    Text,
}

impl Line {
    fn with(self, octets: &[u8]) -> Self {
        match (self, octets) {
            (line, b"") => line,
            (Self::Empty, b"\r") => Self::Cr,
            _ => Self::Text,
        }
    }
}

impl Top {
    /// For the first `lines` lines of the body.
    #[must_use]
    pub fn new(lines: u32) -> Self {
        Self { left: lines, line: Line::Empty, in_body: false }
    }

    /// The part of the next piece that belongs to the answer.
    pub fn take<'a>(&mut self, piece: &'a [u8]) -> &'a [u8] {
        let mut end = 0;
        for lf in memchr::memchr_iter(b'\n', piece) {
            if self.is_done() {
                break;
            }
            if self.in_body {
                self.left -= 1;
            } else {
                self.in_body = self.line.with(&piece[end..lf]) != Line::Text;
                self.line = Line::Empty;
            }
            end = lf + 1;
        }
        if self.is_done() {
            return &piece[..end];
        }
        self.line = self.line.with(&piece[end..]);
        piece
    }

    /// Nothing of the rest belongs to the answer.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.in_body && self.left == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stuffed(text: &[u8]) -> Vec<u8> {
        let (mut stuffer, mut out) = (DotStuffer::new(), Vec::new());
        stuffer.push(text, &mut out);
        stuffer.finish(&mut out);
        out
    }

    #[test]
    fn dots() {
        for (text, expected) in [
            (&b""[..], &b".\r\n"[..]),
            (b"a\r\n", b"a\r\n.\r\n"),
            (b"a", b"a\r\n.\r\n"),
            (b".", b"..\r\n.\r\n"),
            (b".\r\n.a\r\n..\r\n", b"..\r\n..a\r\n...\r\n.\r\n"),
            (b"a\n.\r\nb\n", b"a\n..\r\nb\n\r\n.\r\n"),
            (b"a\r", b"a\r\r\n.\r\n"),
            (b"x.y\r\n", b"x.y\r\n.\r\n"),
        ] {
            assert_eq!(stuffed(text), expected, "{text:?}");
        }
    }

    /// The same, however the message is cut.
    fn top(message: &[u8], lines: u32) -> Vec<u8> {
        let whole = Top::new(lines).take(message).to_vec();
        for length in 1..=message.len() {
            let (mut top, mut got) = (Top::new(lines), Vec::new());
            for piece in message.chunks(length) {
                got.extend_from_slice(top.take(piece));
            }
            assert_eq!(got, whole, "in pieces of {length}");
        }
        whole
    }

    #[test]
    fn tops() {
        let message = b"A: b\r\nC: d\r\n\r\n1\r\n2\r\n3";
        assert_eq!(top(message, 0), b"A: b\r\nC: d\r\n\r\n");
        assert_eq!(top(message, 1), b"A: b\r\nC: d\r\n\r\n1\r\n");
        assert_eq!(top(message, 2), b"A: b\r\nC: d\r\n\r\n1\r\n2\r\n");
        assert_eq!(top(message, 3), message);
        assert_eq!(top(message, u32::MAX), message);
        assert_eq!(top(b"A: b\r\n", 0), b"A: b\r\n");
        assert_eq!(top(b"", 5), b"");
        assert_eq!(top(b"\r\nbody", 0), b"\r\n");
    }
}
