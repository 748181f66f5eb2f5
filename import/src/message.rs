//! A message as it is appended, and why one is not.

use std::io;

use crate::{Flags, Key};

/// A message of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What it is known by.
    pub key: Key,
    /// Where it stands, for people: a file name, or a place in a file.
    pub name: String,
    /// Its text with CRLF line ends and without NUL.
    pub octets: Vec<u8>,
    /// Its flags.
    pub flags: Flags,
    /// When it arrived: seconds since 1970.
    pub date: i64,
}

/// Why something of a source is not brought.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// It leads elsewhere, perhaps to what the mailbox's owner may not read.
    #[error("a symbolic link, which is not followed")]
    Link,
    /// Neither a file nor, where one is meant, a folder.
    #[error("not a {0}")]
    Kind(&'static str),
    /// Larger than the server takes.
    #[error("{octets} octets, and the server takes {limit}")]
    TooLarge {
        /// How large it is; at least.
        octets: u64,
        /// The server's limit.
        limit: u64,
    },
    /// Too many of something in one place.
    #[error("more than {limit} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// A message needs at least something.
    #[error("empty")]
    Empty,
    /// What the old server wrote is not the message's text.
    #[error("{0}, not a message's text; let the old server write it out first")]
    Encoded(&'static str),
    /// It was there when the folder was listed; under no other name since.
    #[error("gone, or renamed again and again, while the folder was read; a second run looks again")]
    Vanished,
    /// Its name says nothing that a mailbox could be called.
    #[error("its name is neither UTF-8 nor modified UTF-7")]
    Name,
    /// Its own format says that it is no mail.
    #[error("the mail folder's own data, no message")]
    FolderData,
    /// It was written to meanwhile.
    #[error("it was changed while it was read; a second run brings the rest")]
    Changed,
    /// A folder of another layout.
    #[error("a folder without a leading dot (Dovecot's LAYOUT=fs); convert it to Maildir++ first")]
    Layout,
    /// The server does not take it.
    #[error("the server refuses it: {0}")]
    Refused(String),
    /// It cannot be read.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl From<rustix::io::Errno> for Unread {
    fn from(error: rustix::io::Errno) -> Self {
        match error {
            rustix::io::Errno::LOOP => Self::Link,
            other => Self::Io(other.into()),
        }
    }
}

/// CRLF line ends, whatever they were, and NUL as Dovecot shows it (0x80): a message in IMAP has none.
pub(crate) fn normalised(raw: &[u8]) -> Vec<u8> {
    let lines = memchr::memchr_iter(b'\n', raw).count();
    let mut out = Vec::with_capacity(raw.len() + lines);
    let mut rest = raw;
    while let Some(at) = memchr::memchr(b'\n', rest) {
        let (line, after) = rest.split_at(at);
        out.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
        out.extend_from_slice(b"\r\n");
        rest = after.get(1..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
    out.iter_mut().filter(|octet| **octet == 0).for_each(|octet| *octet = 0x80);
    out
}

/// What Dovecot's plugins have made of a message, if they have: no header field begins like that.
pub(crate) fn encoding(raw: &[u8]) -> Option<&'static str> {
    const STARTS: [(&[u8], &str); 6] = [
        (b"\x1f\x8b", "compressed (gzip)"),
        (b"BZh", "compressed (bzip2)"),
        (b"\xfd7zXZ\0", "compressed (xz)"),
        (b"\x28\xb5\x2f\xfd", "compressed (zstd)"),
        (b"Dovecot-LZ4\r\x2a\x9b\xc5", "compressed (LZ4)"),
        (b"CRYPTED\x03\x07", "encrypted (mail_crypt)"),
    ];
    let found = STARTS.iter().find(|(start, _)| raw.starts_with(start))?;
    // `BZhang: …` would be a field.
    let is_field = found.0 == b"BZh" && !raw.get(3).is_some_and(u8::is_ascii_digit);
    (!is_field).then_some(found.1)
}

/// A name of the file system in which nothing moves a terminal's cursor.
pub(crate) fn printable(name: &[u8]) -> String {
    let escaped = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    String::from_utf8_lossy(name).chars().map(escaped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_become_crlf_and_nothing_else_changes() {
        for (raw, expected) in [
            (&b""[..], &b""[..]),
            (b"a\n\nb", b"a\r\n\r\nb"),
            (b"a\r\n\r\nb\r\n", b"a\r\n\r\nb\r\n"),
            (b"a\r\nb\n", b"a\r\nb\r\n"),
            (b"a\rb\r\r\n", b"a\rb\r\r\n"),
            (b"\n", b"\r\n"),
            (b"a\0b\xff\n", b"a\x80b\xff\r\n"),
        ] {
            assert_eq!(normalised(raw), expected, "{raw:?}");
        }
        for (raw, expected) in [
            (&b"\x1f\x8b\x08"[..], Some("compressed (gzip)")),
            (b"BZh91AY", Some("compressed (bzip2)")),
            (b"BZhang: x", None),
            (b"\x28\xb5\x2f\xfd\x04", Some("compressed (zstd)")),
            (b"CRYPTED\x03\x07\x02", Some("encrypted (mail_crypt)")),
            (b"Subject: x", None),
            (b"", None),
        ] {
            assert_eq!(encoding(raw), expected, "{raw:?}");
        }
        assert_eq!(printable(b"a\x1b[2J\xff"), "a\u{fffd}[2J\u{fffd}");
    }
}
