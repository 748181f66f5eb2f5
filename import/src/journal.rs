//! What was brought for one account: a file that only grows, and that one process at a time writes.
//!
//! | line, fields divided by TAB | says |
//! |---|---|
//! | `mailcluster-import` `1` ADDRESS | the first one |
//! | `b` NUMBER UIDVALIDITY MAILBOX | a mailbox, and the number that stands for it from here on; with another UIDVALIDITY than before, nothing of it is known any more |
//! | `m` NUMBER UID KEY FLAGS | a message is there, and has been given these flags |
//! | `s` MAILBOX | it was subscribed to |
//!
//! A line is written when the server has confirmed what it says. One that was cut short is passed over: what it would
//! have said is found on the server again.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use crate::{Flags, Key};

const NAME: &str = "mailcluster-import";
const VERSION: &str = "1";
/// Longest line in octets.
const MAX_LINE: u64 = 64 << 10;

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk does not take or give it.
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
    /// It is not as it was written.
    #[error(
        "{path}: line {line} is damaged: move the file away, and everything is compared with what is there"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Which.
        line: u64,
    },
    /// Another process imports into the account.
    #[error("{0}: another import of this account is running")]
    InUse(PathBuf),
}

/// The journal of an account.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
    boxes: Vec<Mailbox>,
    subscribed: HashSet<String>,
    flags: Known,
    /// Lines written by this process.
    written: u64,
}

#[derive(Debug, Default)]
struct Mailbox {
    name: String,
    uid_validity: u32,
    last_uid: u32,
    messages: HashMap<Key, (u32, u32)>,
}

/// The few different sets of flags there are.
#[derive(Debug, Default)]
struct Known {
    sets: Vec<Flags>,
    numbers: HashMap<String, u32>,
}

impl Known {
    fn number(&mut self, flags: &Flags) -> u32 {
        let next = u32::try_from(self.sets.len()).unwrap_or(u32::MAX);
        *self.numbers.entry(flags.to_string()).or_insert_with(|| {
            self.sets.push(flags.clone());
            next
        })
    }
}

impl Journal {
    /// The journal of `account` in this folder, both made when they are not there.
    ///
    /// # Errors
    /// As [`JournalError`] says.
    pub fn open(folder: &Path, account: &str) -> Result<Self, JournalError> {
        let path = folder.join(format!("{}.journal", escaped(account).replace('/', "%2f")));
        let failed = |error| JournalError::Io(path.clone(), error);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        let opening = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&path);
        let file = opening.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(JournalError::InUse(path)),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let mut journal = Self {
            file,
            path,
            boxes: Vec::new(),
            subscribed: HashSet::new(),
            flags: Known::default(),
            written: 0,
        };
        journal.load(account)?;
        Ok(journal)
    }

    /// Reads what is there; cuts off a last line that is not whole.
    fn load(&mut self, account: &str) -> Result<(), JournalError> {
        let path = self.path.clone();
        let failed = |error| JournalError::Io(path.clone(), error);
        let mut reader = BufReader::new(self.file.try_clone().map_err(failed)?);
        let (mut line, mut number, mut whole) = (Vec::new(), 0, 0);
        loop {
            line.clear();
            let read = reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line).map_err(failed)?;
            if line.last() != Some(&b'\n') && (read as u64) < MAX_LINE {
                break;
            }
            number += 1;
            let text = std::str::from_utf8(&line).ok().and_then(|text| text.strip_suffix('\n'));
            let is_read = match text {
                Some(text) if number == 1 => text == head(account),
                Some(text) => self.line(text).is_some(),
                None => false,
            };
            if !is_read {
                return Err(JournalError::Damaged { path, line: number });
            }
            whole += read as u64;
        }
        self.file.set_len(whole).and_then(|()| self.file.seek(SeekFrom::End(0))).map_err(failed)?;
        if number == 0 { self.write(&head(account)) } else { Ok(()) }
    }

    fn line(&mut self, text: &str) -> Option<()> {
        let fields: Vec<&str> = text.split('\t').collect();
        match fields.as_slice() {
            ["b", number, uid_validity, name] => {
                self.set_mailbox(number.parse().ok()?, unescaped(name)?, uid_validity.parse().ok()?)
            }
            ["m", number, uid, key, flags] => {
                let flags = self.flags.number(&Flags::parse(flags));
                let mailbox = self.boxes.get_mut(number.parse::<usize>().ok()?)?;
                mailbox.put(Key::parse(key)?, uid.parse().ok()?, flags);
                Some(())
            }
            ["s", name] => {
                self.subscribed.insert(unescaped(name)?);
                Some(())
            }
            _ => None,
        }
    }

    /// A mailbox as a line says; `None` when it cannot be.
    fn set_mailbox(&mut self, number: usize, name: String, uid_validity: u32) -> Option<()> {
        let mailbox = Mailbox { name, uid_validity, ..Mailbox::default() };
        if number == self.boxes.len() {
            self.boxes.push(mailbox);
        } else {
            let old = self.boxes.get_mut(number).filter(|old| old.name == mailbox.name)?;
            *old = mailbox;
        }
        Some(())
    }

    /// The number of a mailbox that has this UIDVALIDITY now. What was known of it under another one is forgotten.
    pub(crate) fn mailbox(&mut self, name: &str, uid_validity: u32) -> Result<usize, JournalError> {
        let found = self.boxes.iter().position(|mailbox| mailbox.name == name);
        let number = found.unwrap_or(self.boxes.len());
        if self.boxes.get(number).is_none_or(|mailbox| mailbox.uid_validity != uid_validity) {
            self.write(&format!("b\t{number}\t{uid_validity}\t{}", escaped(name)))?;
            let _set = self.set_mailbox(number, name.to_owned(), uid_validity);
        }
        Ok(number)
    }

    /// The highest UID in a mailbox that is known to be one of ours.
    pub(crate) fn last_uid(&self, mailbox: usize) -> u32 {
        self.boxes.get(mailbox).map_or(0, |mailbox| mailbox.last_uid)
    }

    /// Was this message brought? Then its UID, and the flags that it was given.
    pub(crate) fn known(&self, mailbox: usize, key: Key) -> Option<(u32, &Flags)> {
        let (uid, flags) = self.boxes.get(mailbox)?.messages.get(&key)?;
        Some((*uid, self.flags.sets.get(usize::try_from(*flags).ok()?)?))
    }

    /// Messages that were brought.
    pub(crate) fn count(&self) -> u64 {
        self.boxes.iter().map(|mailbox| mailbox.messages.len() as u64).sum()
    }

    /// The server has this message under this UID, with these flags.
    pub(crate) fn brought(
        &mut self,
        mailbox: usize,
        key: Key,
        uid: u32,
        flags: &Flags,
    ) -> Result<(), JournalError> {
        self.write(&format!("m\t{mailbox}\t{uid}\t{key}\t{flags}"))?;
        let flags = self.flags.number(flags);
        if let Some(mailbox) = self.boxes.get_mut(mailbox) {
            mailbox.put(key, uid, flags);
        }
        Ok(())
    }

    pub(crate) fn is_subscribed(&self, name: &str) -> bool {
        self.subscribed.contains(name)
    }

    pub(crate) fn subscribed(&mut self, name: &str) -> Result<(), JournalError> {
        self.write(&format!("s\t{}", escaped(name)))?;
        self.subscribed.insert(name.to_owned());
        Ok(())
    }

    /// Lines that this process has written: it gets on when there are more.
    pub(crate) fn lines(&self) -> u64 {
        self.written
    }

    fn write(&mut self, line: &str) -> Result<(), JournalError> {
        let written = self.file.write_all(format!("{line}\n").as_bytes());
        written.map_err(|e| JournalError::Io(self.path.clone(), e))?;
        self.written += 1;
        Ok(())
    }
}

impl Mailbox {
    fn put(&mut self, key: Key, uid: u32, flags: u32) {
        self.messages.insert(key, (uid, flags));
        self.last_uid = self.last_uid.max(uid);
    }
}

fn head(account: &str) -> String {
    format!("{NAME}\t{VERSION}\t{}", escaped(account))
}

fn escaped(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for c in name.chars() {
        if c == '%' || c.is_control() {
            let mut octets = [0; 4];
            c.encode_utf8(&mut octets).bytes().for_each(|octet| text.push_str(&format!("%{octet:02x}")));
        } else {
            text.push(c);
        }
    }
    text
}

fn unescaped(text: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            let hex = std::str::from_utf8(after.get(..2)?).ok()?;
            octets.push(u8::from_str_radix(hex, 16).ok()?);
            rest = after.get(2..)?;
        } else {
            octets.push(*first);
            rest = after;
        }
    }
    String::from_utf8(octets).ok()
}

#[cfg(test)]
mod tests;
