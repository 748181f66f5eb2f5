//! Replies (RFC 5321 section 4.2), with enhanced status codes (RFC 2034, RFC 3463) as the first word of their text.

use std::{borrow::Cow, fmt};

use bytes::{BufMut, BytesMut};

use crate::{LineDecoder, LineFault};

/// Longest reply line taken from a peer (RFC 5321 section 4.5.3.1.5 allows 512).
const MAX_LINE: usize = 4096;
/// Most lines of one reply.
const MAX_LINES: usize = 128;

/// A reply: a code and a text of one or more lines, parted by `\n`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// 200 to 599.
    pub code: u16,
    /// Without code and line ends.
    pub text: Cow<'static, str>,
}

/// A peer sent what is not a reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the peer sent something that is not a reply")]
pub struct ReplyFault;

impl Reply {
    /// A reply with a fixed text.
    #[must_use]
    pub const fn new(code: u16, text: &'static str) -> Self {
        Self { code, text: Cow::Borrowed(text) }
    }

    /// A reply with a text made for the occasion.
    #[must_use]
    pub fn with(code: u16, text: String) -> Self {
        Self { code, text: Cow::Owned(text) }
    }

    /// 2xx or 3xx.
    #[must_use]
    pub fn is_positive(&self) -> bool {
        (200..400).contains(&self.code)
    }

    /// 5xx: the same command will not succeed later.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        self.code >= 500
    }

    /// The enhanced status code (RFC 3463) at the front of the text.
    #[must_use]
    pub fn status(&self) -> Option<&str> {
        let word = self.text.split_whitespace().next()?;
        let parts: Vec<&str> = word.split('.').collect();
        let digits = |p: &&str| (1..=3).contains(&p.len()) && p.bytes().all(|b| b.is_ascii_digit());
        (parts.len() == 3 && parts.iter().all(digits)).then_some(word)
    }

    /// Writes it. Control characters in the text, which could only come from a peer, become `?`.
    pub fn write(&self, out: &mut BytesMut) {
        let mut lines = self.text.split('\n').peekable();
        while let Some(line) = lines.next() {
            let sep = if lines.peek().is_some() { '-' } else { ' ' };
            out.put_slice(self.code.to_string().as_bytes());
            out.put_u8(u8::try_from(sep).unwrap_or(b' '));
            if line.bytes().any(|b| b.is_ascii_control()) {
                let clean: String =
                    line.chars().map(|c| if c.is_ascii_control() { '?' } else { c }).collect();
                out.put_slice(clean.as_bytes());
            } else {
                out.put_slice(line.as_bytes());
            }
            out.put_slice(b"\r\n");
        }
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.text.replace('\n', " / "))
    }
}

/// Reads replies off a buffer.
#[derive(Debug, Clone)]
pub struct ReplyParser {
    lines: LineDecoder,
    pending: Option<(u16, String, usize)>,
}

impl Default for ReplyParser {
    fn default() -> Self {
        Self { lines: LineDecoder::new(MAX_LINE), pending: None }
    }
}

impl ReplyParser {
    /// At the start of a reply.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The next whole reply; `None` when more octets are needed.
    ///
    /// # Errors
    /// [`ReplyFault`]: the stream is of no more use.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Reply>, ReplyFault> {
        while let Some(line) = self.lines.next(buffer) {
            let line = line.map_err(|_: LineFault| ReplyFault)?;
            let (code, last, text) = split(&line).ok_or(ReplyFault)?;
            let (first_code, mut all, count) = match self.pending.take() {
                Some((first, all, count)) => (first, all + "\n", count),
                None => (code, String::new(), 0),
            };
            if first_code != code || count >= MAX_LINES {
                return Err(ReplyFault);
            }
            all.push_str(&text);
            if last {
                return Ok(Some(Reply::with(code, all)));
            }
            self.pending = Some((code, all, count + 1));
        }
        Ok(None)
    }
}

fn split(line: &[u8]) -> Option<(u16, bool, String)> {
    let digits = line.get(..3)?;
    if !digits.iter().all(u8::is_ascii_digit) || !(b'2'..=b'5').contains(&digits[0]) {
        return None;
    }
    let code = digits.iter().fold(0, |code, d| code * 10 + u16::from(d - b'0'));
    let last = match line.get(3) {
        None | Some(b' ') => true,
        Some(b'-') => false,
        Some(_) => return None,
    };
    Some((code, last, String::from_utf8_lossy(line.get(4..).unwrap_or_default()).into_owned()))
}
