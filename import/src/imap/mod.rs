//! As much of an IMAP client (RFC 3501) as bringing mail takes, over any stream: one command after another, and
//! APPENDs that follow each other without waiting for answers (LITERAL+, RFC 7888; UIDPLUS, RFC 4315).

mod connect;
mod reply;
#[cfg(test)]
pub(crate) mod script;

use std::io::{self, BufWriter, Read, Write};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use mailcluster_proto_imap::{date, encode};

pub use connect::{ConnectError, Server, Stream};
pub use reply::{Condition, Tagged, Untagged};

use crate::Flags;
use reply::Reader;

/// The largest message that is brought when the server names no limit.
const MAX_MESSAGE: u64 = 256 << 20;

/// Why a conversation ended.
#[derive(Debug, thiserror::Error)]
pub enum ImapError {
    /// The connection is gone, or was silent for too long.
    #[error("the connection was lost: {0}")]
    Lost(#[from] io::Error),
    /// The server said goodbye.
    #[error("the server ended the session: {0}")]
    Bye(String),
    /// It answered what no answer is.
    #[error("the server's answer cannot be read: {0}")]
    Garbled(String),
    /// It cannot do what is needed.
    #[error("the server offers no {0}")]
    Unable(&'static str),
}

/// A message on its way: what follows APPEND, and its text.
#[derive(Debug, Clone, Copy)]
pub struct Appending<'a> {
    /// Where to.
    pub mailbox: &'a str,
    /// With which flags.
    pub flags: &'a Flags,
    /// INTERNALDATE: seconds since 1970.
    pub date: i64,
    /// The message.
    pub octets: &'a [u8],
}

/// A session.
#[derive(Debug)]
pub struct Client<S: Read + Write> {
    stream: BufWriter<S>,
    reader: Reader,
    last_tag: u64,
    /// The largest message that the server takes.
    pub max_message: u64,
}

impl<S: Read + Write> Client<S> {
    /// For tests: what stands below.
    #[cfg(test)]
    pub(crate) fn stream(&self) -> &S {
        self.stream.get_ref()
    }

    /// Reads the greeting.
    ///
    /// # Errors
    /// As [`ImapError`] says.
    pub fn greeted(stream: S) -> Result<Self, ImapError> {
        let stream = BufWriter::with_capacity(64 << 10, stream);
        let mut client = Self { stream, reader: Reader::default(), last_tag: 0, max_message: MAX_MESSAGE };
        match client.reader.untagged(client.stream.get_mut(), 0)? {
            greeting if greeting.text().starts_with(b"* OK") => Ok(client),
            other => Err(ImapError::Garbled(other.shown())),
        }
    }

    /// Logs in with AUTHENTICATE PLAIN, and looks at what the server offers. `Some`: it refuses, for this reason.
    ///
    /// # Errors
    /// As [`ImapError`] says.
    pub fn log_in(&mut self, response: &str) -> Result<Option<Tagged>, ImapError> {
        let answer = self.command(&format!("AUTHENTICATE PLAIN {response}"), &mut |_| ())?;
        if answer.condition != Condition::Ok {
            return Ok(Some(answer));
        }
        let mut offered = Vec::new();
        self.command("CAPABILITY", &mut |told| {
            if let Some(list) = told.text().strip_prefix(b"* CAPABILITY ") {
                let words = String::from_utf8_lossy(list).to_ascii_uppercase();
                offered = words.split_ascii_whitespace().map(str::to_owned).collect();
            }
        })?;
        let has = |name: &str| offered.iter().any(|word| word == name);
        let lacking = ["LITERAL+", "UIDPLUS", "UNSELECT"].into_iter().find(|name| !has(name));
        if let Some(name) = lacking {
            return Err(ImapError::Unable(name));
        }
        let limit = offered.iter().find_map(|word| word.strip_prefix("APPENDLIMIT=")?.parse().ok());
        self.max_message = limit.unwrap_or(MAX_MESSAGE).min(MAX_MESSAGE);
        Ok(None)
    }

    /// Gives a command and waits for its answer; `told` gets what the server says before that.
    ///
    /// # Errors
    /// As [`ImapError`] says.
    pub fn command(&mut self, text: &str, told: &mut dyn FnMut(&Untagged)) -> Result<Tagged, ImapError> {
        let tag = self.next_tag();
        self.stream.write_all(format!("a{tag} {text}\r\n").as_bytes())?;
        let answer = self.answer(told)?;
        if answer.tag == tag {
            Ok(answer)
        } else {
            Err(ImapError::Garbled("an answer to another command".into()))
        }
    }

    /// Sends an APPEND without waiting for its answer, which [`Self::answer`] reads; answers its tag.
    ///
    /// # Errors
    /// As [`ImapError`] says.
    pub fn append(&mut self, message: &Appending<'_>) -> Result<u64, ImapError> {
        let tag = self.next_tag();
        let mut line = format!("a{tag} APPEND ").into_bytes();
        encode::mailbox(&mut line, message.mailbox);
        let date = date::format_date_time(message.date, 0);
        line.extend_from_slice(
            format!(" ({}) \"{date}\" {{{}+}}\r\n", message.flags, message.octets.len()).as_bytes(),
        );
        self.stream.write_all(&line)?;
        self.stream.write_all(message.octets)?;
        self.stream.write_all(b"\r\n")?;
        Ok(tag)
    }

    /// Waits for the next answer to a command.
    ///
    /// # Errors
    /// As [`ImapError`] says.
    pub fn answer(&mut self, told: &mut dyn FnMut(&Untagged)) -> Result<Tagged, ImapError> {
        self.stream.flush()?;
        loop {
            let said = self.reader.untagged(self.stream.get_mut(), self.max_message)?;
            if let Some(answer) = said.tagged()? {
                return Ok(answer);
            }
            if let Some(bye) = said.text().strip_prefix(b"* BYE ") {
                return Err(ImapError::Bye(String::from_utf8_lossy(bye).into_owned()));
            }
            told(&said);
        }
    }

    fn next_tag(&mut self) -> u64 {
        self.last_tag += 1;
        self.last_tag
    }
}

/// The response to AUTHENTICATE PLAIN (RFC 4616), in base 64.
#[must_use]
pub fn plain(user: &str, password: &str) -> String {
    STANDARD.encode(format!("\0{user}\0{password}"))
}

/// A mailbox's name as a command has it.
#[must_use]
pub fn quoted(mailbox: &str) -> String {
    let mut out = Vec::new();
    encode::mailbox(&mut out, mailbox);
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests;
