//! The hash of a body in relaxed form (RFC 6376 section 3.4.4), made in pieces.

use ring::digest::{Context, SHA256};

/// Takes a body piece by piece, and keeps nothing of it.
#[derive(Clone)]
pub struct BodyHash {
    hash: Context,
    /// Ends of lines that count only when something follows them.
    ends: u64,
    /// White space that counts only when its line goes on.
    space: bool,
    /// A CR whose LF may be in the next piece.
    cr: bool,
    /// There is more than empty lines.
    started: bool,
}

impl Default for BodyHash {
    fn default() -> Self {
        Self { hash: Context::new(&SHA256), ends: 0, space: false, cr: false, started: false }
    }
}

impl BodyHash {
    /// The next octets, without the empty line that ends the header.
    pub fn update(&mut self, mut octets: &[u8]) {
        while let Some(first) = octets.first().copied() {
            match first {
                b'\n' if self.cr => {
                    (self.cr, self.space) = (false, false);
                    self.ends += 1;
                    octets = &octets[1..];
                }
                _ if self.cr => {
                    // A CR alone is an octet like others.
                    self.cr = false;
                    self.text(b"\r");
                }
                b'\r' => {
                    self.cr = true;
                    octets = &octets[1..];
                }
                b' ' | b'\t' => {
                    self.space = true;
                    octets = &octets[1..];
                }
                _ => {
                    let end = octets.iter().position(|b| matches!(b, b'\r' | b' ' | b'\t'));
                    let (text, rest) = octets.split_at(end.unwrap_or(octets.len()));
                    self.text(text);
                    octets = rest;
                }
            }
        }
    }

    fn text(&mut self, text: &[u8]) {
        for _ in 0..std::mem::take(&mut self.ends) {
            self.hash.update(b"\r\n");
        }
        if std::mem::take(&mut self.space) {
            self.hash.update(b" ");
        }
        self.hash.update(text);
        self.started = true;
    }

    /// The hash. A last line without its end gets one; empty lines at the end do not count.
    #[must_use]
    pub fn finish(mut self) -> [u8; 32] {
        if self.cr {
            self.text(b"\r");
        }
        if self.started {
            self.hash.update(b"\r\n");
        }
        let mut out = [0; 32];
        out.copy_from_slice(self.hash.finish().as_ref());
        out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ring::digest::digest;

    use super::*;

    fn hashed(pieces: &[&[u8]]) -> [u8; 32] {
        let mut hash = BodyHash::default();
        pieces.iter().for_each(|piece| hash.update(piece));
        hash.finish()
    }

    /// RFC 6376 section 3.4.4, word for word and all at once.
    fn relaxed(body: &[u8]) -> Vec<u8> {
        let text = String::from_utf8(body.to_vec()).unwrap();
        let mut lines: Vec<String> = text
            .split("\r\n")
            .map(|line| {
                let ends_bare = line.trim_end_matches([' ', '\t']);
                let mut out = String::new();
                for c in ends_bare.chars() {
                    let space = c == ' ' || c == '\t';
                    if !(space && out.ends_with(' ')) {
                        out.push(if space { ' ' } else { c });
                    }
                }
                out
            })
            .collect();
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        lines.iter().flat_map(|line| format!("{line}\r\n").into_bytes()).collect()
    }

    #[test]
    fn white_space_and_empty_lines_at_the_end_do_not_count() {
        for (body, canonical) in [
            ("", ""),
            ("\r\n", ""),
            (" \r\n\t\r\n", ""),
            ("text", "text\r\n"),
            ("text\r\n\r\n\r\n", "text\r\n"),
            // Lines of white space alone are empty, too.
            ("text\r\n \r\n\t \r\n", "text\r\n"),
            // RFC 6376 section 3.4.5.
            (" C \r\nD \t E\r\n\r\n\r\n", " C\r\nD E\r\n"),
            ("\r\n\r\nlate", "\r\n\r\nlate\r\n"),
            ("a\rb\r\n", "a\rb\r\n"),
            ("a \r", "a \r\r\n"),
        ] {
            let expected = digest(&SHA256, canonical.as_bytes());
            assert_eq!(hashed(&[body.as_bytes()]), expected.as_ref(), "{body:?}");
        }
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(
            parts in prop::collection::vec(prop::sample::select(vec!["\r\n", " ", "\t", "a", "bc", "."]), 0..40),
            cut in 0usize..60,
        ) {
            let body = parts.concat().into_bytes();
            let (one, two) = body.split_at(cut.min(body.len()));
            prop_assert_eq!(hashed(&[one, two]), hashed(&[&body]));
            let octets: Vec<&[u8]> = body.chunks(1).collect();
            prop_assert_eq!(hashed(&octets), hashed(&[&body]));
            let expected = digest(&SHA256, &relaxed(&body));
            prop_assert_eq!(&hashed(&[&body])[..], expected.as_ref());
        }
    }
}
