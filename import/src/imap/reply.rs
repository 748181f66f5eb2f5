//! What a server says, and the little that is read of it.

use std::io::{self, Read};

use jiff::fmt::strtime;

use super::ImapError;

/// Longest response without its literals, and most of what the server may say in literals at once: a message.
const MAX_TEXT: usize = 256 << 10;
const CHUNK: usize = 64 << 10;

/// OK, NO or BAD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Done.
    Ok,
    /// Refused.
    No,
    /// Not understood.
    Bad,
}

/// The answer to a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tagged {
    /// Of this command.
    pub tag: u64,
    /// How it ended.
    pub condition: Condition,
    /// The response code without brackets, or nothing.
    pub code: String,
    /// For people.
    pub text: String,
}

impl Tagged {
    /// UIDVALIDITY and UID of APPENDUID (RFC 4315).
    #[must_use]
    pub fn append_uid(&self) -> Option<(u32, u32)> {
        let (uid_validity, uid) = self.code.strip_prefix("APPENDUID ")?.split_once(' ')?;
        Some((uid_validity.parse().ok()?, uid.parse().ok()?))
    }
}

/// One response, tagged or not: its text, where a literal is `{n}`, and the literals.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Untagged {
    text: Vec<u8>,
    literals: Vec<Vec<u8>>,
}

impl Untagged {
    /// The text.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// The last literal.
    #[must_use]
    pub fn literal(&self) -> Option<&[u8]> {
        self.literals.last().map(Vec::as_slice)
    }

    /// For people.
    pub(super) fn shown(&self) -> String {
        String::from_utf8_lossy(self.text.get(..self.text.len().min(200)).unwrap_or_default()).into_owned()
    }

    /// The number after ` NAME ` or `(NAME ` of a FETCH, or after `[NAME ` of a response code.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        let rest = self.after(name)?;
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        std::str::from_utf8(rest.get(..digits)?).ok()?.parse().ok()
    }

    /// INTERNALDATE of a FETCH, in seconds since 1970.
    #[must_use]
    pub fn internal_date(&self) -> Option<i64> {
        let rest = self.after("INTERNALDATE")?.strip_prefix(b"\"")?;
        let end = memchr::memchr(b'"', rest)?;
        let text = std::str::from_utf8(rest.get(..end)?).ok()?;
        let broken = strtime::parse("%d-%b-%Y %H:%M:%S %z", text.trim_start()).ok()?;
        Some(broken.to_timestamp().ok()?.as_second())
    }

    fn after(&self, name: &str) -> Option<&[u8]> {
        let wanted = format!("{name} ");
        let found = memchr::memmem::find_iter(&self.text, wanted.as_bytes());
        let starts = |at: &usize| {
            at.checked_sub(1).and_then(|before| self.text.get(before)).is_some_and(|b| b" ([".contains(b))
        };
        let at = found.into_iter().find(starts)?;
        self.text.get(at + wanted.len()..)
    }

    /// As the answer to a command; `None`: it is none.
    pub(super) fn tagged(&self) -> Result<Option<Tagged>, ImapError> {
        let garbled = || ImapError::Garbled(self.shown());
        if self.text.starts_with(b"*") || self.text.starts_with(b"+") {
            return Ok(None);
        }
        let text = std::str::from_utf8(&self.text).map_err(|_| garbled())?;
        let (tag, rest) = text.split_once(' ').ok_or_else(garbled)?;
        let tag = tag.strip_prefix('a').and_then(|tag| tag.parse().ok()).ok_or_else(garbled)?;
        let (condition, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let condition = match condition {
            "OK" => Condition::Ok,
            "NO" => Condition::No,
            "BAD" => Condition::Bad,
            _ => return Err(garbled()),
        };
        let coded = rest.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        let (code, text) = coded.map_or(("", rest), |(code, text)| (code, text.trim_start()));
        Ok(Some(Tagged { tag, condition, code: code.to_owned(), text: text.to_owned() }))
    }
}

/// Takes responses out of a stream.
#[derive(Debug, Default)]
pub(super) struct Reader {
    ahead: Vec<u8>,
    at: usize,
}

impl Reader {
    /// The next response; its literals have no more than `limit` octets together.
    pub fn untagged(&mut self, stream: &mut impl Read, limit: u64) -> Result<Untagged, ImapError> {
        let mut said = Untagged::default();
        let mut room = limit;
        loop {
            let line = self.line(stream, MAX_TEXT.saturating_sub(said.text.len()))?;
            said.text.extend_from_slice(&line);
            let Some(length) = literal(&line) else { return Ok(said) };
            room =
                room.checked_sub(length).ok_or_else(|| ImapError::Garbled("a literal is too long".into()))?;
            let length = usize::try_from(length).map_err(|_| ImapError::Garbled(said.shown()))?;
            said.literals.push(self.exactly(stream, length)?);
        }
    }

    /// Up to CRLF, without it.
    fn line(&mut self, stream: &mut impl Read, limit: usize) -> Result<Vec<u8>, ImapError> {
        let mut looked_at = 0;
        loop {
            let ahead = self.ahead.get(self.at..).unwrap_or_default();
            let end =
                memchr::memchr(b'\n', ahead.get(looked_at..).unwrap_or_default()).map(|at| at + looked_at);
            if end.unwrap_or(ahead.len()) > limit {
                return Err(ImapError::Garbled("a line is too long".into()));
            }
            if let Some(end) = end {
                let line = ahead.get(..end).unwrap_or_default();
                let line = line.strip_suffix(b"\r").unwrap_or(line).to_vec();
                self.at += end + 1;
                return Ok(line);
            }
            looked_at = ahead.len();
            self.more(stream)?;
        }
    }

    fn exactly(&mut self, stream: &mut impl Read, length: usize) -> Result<Vec<u8>, ImapError> {
        let mut octets = Vec::new();
        loop {
            let ahead = self.ahead.get(self.at..).unwrap_or_default();
            let taken = ahead.len().min(length - octets.len());
            octets.extend_from_slice(ahead.get(..taken).unwrap_or_default());
            self.at += taken;
            if octets.len() == length {
                return Ok(octets);
            }
            self.more(stream)?;
        }
    }

    fn more(&mut self, stream: &mut impl Read) -> io::Result<()> {
        self.ahead.drain(..self.at);
        self.at = 0;
        let old = self.ahead.len();
        self.ahead.resize(old + CHUNK, 0);
        let read = stream.read(self.ahead.get_mut(old..).unwrap_or_default());
        self.ahead.truncate(old + *read.as_ref().unwrap_or(&0));
        if read? == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }
}

/// The length of the literal that a line ends with.
fn literal(line: &[u8]) -> Option<u64> {
    let open = memchr::memrchr(b'{', line.strip_suffix(b"}")?)?;
    std::str::from_utf8(line.get(open + 1..line.len() - 1)?).ok()?.parse().ok()
}
