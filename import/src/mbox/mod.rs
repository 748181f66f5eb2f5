//! An mbox file (RFC 4155; mboxo, mboxrd): a message begins with a `From ` line with a date, after an empty line. One
//! `>` is taken from lines that begin with `>From `, `>>From ` and so on. `Content-Length` is not believed: what wrote it
//! is often not what wrote the text last.
//!
//! What mail programs keep of their own in header fields (`Status`, `X-UID` and the like) becomes flags, and is left
//! out, as Dovecot does when it shows such a file.

mod date;
mod header;

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek},
    path::{Path, PathBuf},
};

use jiff::tz::TimeZone;

use crate::{Found, Key, Unread, message, source::Visit};
use header::Header;

/// The part of a line that is looked at as one; longer lines are read in pieces.
const PIECE: u64 = 64 << 10;
/// Longest `From ` line.
const MAX_FROM: usize = 1000;

/// An mbox file.
#[derive(Debug)]
pub(crate) struct Mbox {
    path: PathBuf,
    /// Of dates that name no zone: where the file was written.
    zone: TimeZone,
}

/// A message's text, as far as it is no larger than is taken.
#[derive(Default)]
struct Text {
    raw: Vec<u8>,
    octets: u64,
    /// Where it begins in the file.
    at: u64,
    date: Option<i64>,
}

impl Mbox {
    /// The file at `path`; `None`: it does not begin as one. An empty file is one without messages.
    ///
    /// # Errors
    /// When it cannot be read, or is no file.
    pub fn open(path: &Path) -> io::Result<Option<Self>> {
        if !path.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file or folder"));
        }
        let mut start = Vec::new();
        File::open(path)?.take(5).read_to_end(&mut start)?;
        let is_mbox = start.is_empty() || start == b"From ";
        Ok(is_mbox.then(|| Self { path: path.to_owned(), zone: TimeZone::system() }))
    }

    /// Shows every message to `visit`.
    ///
    /// # Errors
    /// What `visit` ended it with.
    pub fn visit<V: Visit>(&self, limit: u64, visit: &mut V) -> Result<(), V::Stop> {
        let read = match File::open(&self.path).and_then(|file| Ok((file.metadata()?, file))) {
            Ok((before, file)) => Ok((before, BufReader::with_capacity(1 << 20, file))),
            Err(error) => Err(error),
        };
        let (before, mut reader) = match read {
            Ok(read) => read,
            Err(error) => {
                visit.unread(&self.path.display().to_string(), &error.into());
                return Ok(());
            }
        };
        let modified = before.modified().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        let mut messages = Messages {
            mbox: self,
            limit,
            otherwise: modified.and_then(|since| i64::try_from(since.as_secs()).ok()).unwrap_or(0),
            copies: HashMap::new(),
        };
        let whole = messages.all(&mut reader, visit)?;
        let now = self.path.metadata();
        let is_same =
            now.is_ok_and(|now| now.len() == before.len() && now.modified().ok() == before.modified().ok());
        match whole {
            Err(error) => visit.unread(&self.path.display().to_string(), &error.into()),
            Ok(()) if !is_same => visit.unread(&self.path.display().to_string(), &Unread::Changed),
            Ok(()) => {}
        }
        Ok(())
    }

    /// The date of a line that begins a message; `None`: it begins none.
    fn separator(&self, line: &[u8]) -> Option<i64> {
        if !line.starts_with(b"From ") || line.len() > MAX_FROM {
            return None;
        }
        date::of_from_line(&String::from_utf8_lossy(line), &self.zone)
    }
}

struct Messages<'a> {
    mbox: &'a Mbox,
    limit: u64,
    /// The date of a message that has none.
    otherwise: i64,
    /// How often each text was there.
    copies: HashMap<Key, usize>,
}

impl Messages<'_> {
    fn all<V: Visit>(
        &mut self,
        reader: &mut (impl BufRead + Seek),
        visit: &mut V,
    ) -> Result<io::Result<()>, V::Stop> {
        let mut line = Vec::new();
        let mut text: Option<Text> = None;
        let (mut at, mut is_line_start, mut is_after_empty) = (0, true, true);
        loop {
            line.clear();
            match reader.by_ref().take(PIECE).read_until(b'\n', &mut line) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => return Ok(Err(error)),
            }
            let date = if is_line_start && is_after_empty { self.mbox.separator(&line) } else { None };
            // The first line begins a message with whatever date.
            if date.is_some() || text.is_none() {
                if let Some(text) = text.take() {
                    self.message(text, visit)?;
                }
                text = Some(Text { at, date, ..Text::default() });
            } else if let Some(text) = &mut text {
                text.add(&line, is_line_start, self.limit);
            }
            at += line.len() as u64;
            is_after_empty = is_line_start && (line == b"\n" || line == b"\r\n");
            is_line_start = line.ends_with(b"\n");
        }
        if let Some(text) = text {
            self.message(text, visit)?;
        }
        Ok(Ok(()))
    }

    fn message<V: Visit>(&mut self, text: Text, visit: &mut V) -> Result<(), V::Stop> {
        let name = format!(
            "{}, octet {}",
            message::printable(self.mbox.path.as_os_str().as_encoded_bytes()),
            text.at
        );
        if text.octets > self.limit {
            visit.unread(&name, &Unread::TooLarge { octets: text.octets, limit: self.limit });
            return Ok(());
        }
        let date = text.date.unwrap_or(self.otherwise);
        let raw = without_last_line(&text.raw);
        let Header { flags, kept, is_folder_data } = header::read(raw);
        let octets = message::normalised(&kept);
        let why = if is_folder_data {
            Some(Unread::FolderData)
        } else if octets.is_empty() {
            Some(Unread::Empty)
        } else if octets.len() as u64 > self.limit {
            Some(Unread::TooLarge { octets: octets.len() as u64, limit: self.limit })
        } else {
            None
        };
        if let Some(why) = why {
            visit.unread(&name, &why);
            return Ok(());
        }
        let first = Key::of(&[b"mbox", &date.to_be_bytes(), &octets]);
        let copies = self.copies.entry(first).or_default();
        let key = if *copies == 0 {
            first
        } else {
            Key::of(&[b"mbox", first.to_string().as_bytes(), &copies.to_be_bytes()])
        };
        *copies += 1;
        if visit.wants(key, &flags)? {
            visit.message(Found { key, name, octets, flags, date })?;
        }
        Ok(())
    }
}

impl Text {
    fn add(&mut self, line: &[u8], is_line_start: bool, limit: u64) {
        let quotes = line.iter().take_while(|b| **b == b'>').count();
        let is_quoted =
            is_line_start && quotes > 0 && line.get(quotes..).is_some_and(|l| l.starts_with(b"From "));
        let line = if is_quoted { line.get(1..).unwrap_or_default() } else { line };
        self.octets += line.len() as u64;
        if self.octets <= limit {
            self.raw.extend_from_slice(line);
        } else {
            self.raw = Vec::new();
        }
    }
}

/// The empty line before the next message is none of this one's.
fn without_last_line(raw: &[u8]) -> &[u8] {
    for empty in [&b"\n\r\n"[..], b"\n\n"] {
        if let Some(rest) = raw.strip_suffix(empty) {
            return raw.get(..=rest.len()).unwrap_or(raw);
        }
    }
    raw
}

#[cfg(test)]
mod tests;
