//! A watch on what is sent: a message with a bare CR or LF must not leave, as another reader might find an end of it
//! where there is none (RFC 5321 sections 2.3.8 and 4.1.1.4).

use memchr::memchr2;

/// Watches a message that comes in pieces.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Guard {
    after_cr: bool,
}

impl Guard {
    /// Is each CR and LF of this piece part of a CRLF, as far as can be told yet?
    pub(super) fn passes(&mut self, mut piece: &[u8]) -> bool {
        if self.after_cr && !piece.is_empty() {
            self.after_cr = false;
            match piece.strip_prefix(b"\n") {
                Some(rest) => piece = rest,
                None => return false,
            }
        }
        while let Some(at) = memchr2(b'\r', b'\n', piece) {
            match (piece[at], piece.get(at + 1)) {
                (b'\r', Some(b'\n')) => piece = &piece[at + 2..],
                (b'\r', None) => {
                    self.after_cr = true;
                    return true;
                }
                _ => return false,
            }
        }
        true
    }

    /// May the message end here?
    pub(super) fn ends(self) -> bool {
        !self.after_cr
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(pieces: &[&[u8]]) -> bool {
        let mut guard = Guard::default();
        pieces.iter().all(|piece| guard.passes(piece)) && guard.ends()
    }

    #[test]
    fn only_whole_line_ends_leave() {
        for good in
            [&[&b""[..]][..], &[b"a\r\n"], &[b"a\r", b"\nb"], &[b"a\r", b"", b"\n\r\n"], &[b"x", b"y"]]
        {
            assert!(passes(good), "{good:?}");
        }
        for bad in [
            &[&b"a\nb"[..]][..],
            &[b"a\rb"],
            &[b"a\r", b"b\n"],
            &[b"a\r"],
            &[b"\n"],
            &[b"\r\r\n"],
            &[b"a", b"\n"],
        ] {
            assert!(!passes(bad), "{bad:?}");
        }
    }
}
