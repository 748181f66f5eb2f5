//! A Maildir with folders as Maildir++ names them (`.Lists.Rust`), with Dovecot's keywords, order and subscriptions.
//!
//! Whoever owns it may go on using it meanwhile: a file that is renamed because a flag changed is looked for again.

mod files;
mod names;
mod tables;

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io,
    os::fd::OwnedFd,
    path::Path,
};

pub(crate) use names::mailbox;

use crate::{Flags, Found, Key, Unread, message, source::Visit};
use tables::Keywords;

/// Most messages of a folder, and folders of a Maildir: what is listed is in memory.
const MAX_MESSAGES: usize = 4_000_000;
const MAX_FOLDERS: usize = 100_000;
/// How often a folder is looked at when files of it are renamed meanwhile.
const ROUNDS: usize = 3;

/// A Maildir that is open.
#[derive(Debug)]
pub(crate) struct Maildir {
    top: OwnedFd,
}

/// A message's file.
struct Entry {
    name: Box<[u8]>,
    is_new: bool,
    /// Messages without a UID come last, by their time.
    order: (u32, u64),
}

impl Entry {
    fn key(&self) -> Key {
        key(names::unique(&self.name), 0)
    }
}

fn key(unique: &[u8], copy: usize) -> Key {
    if copy == 0 {
        Key::of(&[b"maildir", unique])
    } else {
        Key::of(&[b"maildir", unique, &copy.to_be_bytes()])
    }
}

impl Maildir {
    /// The Maildir at `path`; `None`: it is a folder and no Maildir.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(path: &Path) -> io::Result<Option<Self>> {
        let top = OwnedFd::from(File::open(path)?);
        Ok(files::has_dir(&top, "cur").then_some(Self { top }))
    }

    /// Mailbox names with their folders, the top (both empty) first.
    pub fn folders(&self, unread: &mut dyn FnMut(&str, &Unread)) -> Vec<(String, Vec<u8>)> {
        let mut dirs: Vec<Vec<u8>> = Vec::new();
        let listed = files::names(&self.top, &mut |name| dirs.push(name.to_vec()));
        if let Err(error) = listed {
            unread(".", &error);
        }
        dirs.sort_unstable();
        let mut found = vec![(String::new(), Vec::new())];
        for dir in dirs {
            match self.folder(&dir) {
                Ok(Some(_)) if found.len() > MAX_FOLDERS => {
                    unread(".", &Unread::TooMany { what: "folders", limit: MAX_FOLDERS });
                    break;
                }
                Ok(Some(name)) => found.push((name, dir)),
                Ok(None) => {}
                Err(why) => unread(&message::printable(&dir), &why),
            }
        }
        found
    }

    /// The mailbox that this folder of the top is; `None`: it is none of ours.
    fn folder(&self, name: &[u8]) -> Result<Option<String>, Unread> {
        let Some(dotless) = name.strip_prefix(b".") else {
            let is_own = [&b"cur"[..], b"new", b"tmp"].contains(&name);
            let is_folder = !is_own && files::dir(&self.top, name).is_ok_and(|fd| files::has_dir(&fd, "cur"));
            return if is_folder { Err(Unread::Layout) } else { Ok(None) };
        };
        let fd = match files::dir(&self.top, name) {
            Ok(fd) => fd,
            // A file, as `.lock`: none of ours.
            Err(Unread::Kind(_)) => return Ok(None),
            Err(why) => return Err(why),
        };
        if !files::has_dir(&fd, "cur") {
            return Ok(None);
        }
        mailbox(dotless).map(Some).ok_or(Unread::Name)
    }

    /// As `subscriptions` has them; `None`: there is no such file.
    pub fn subscriptions(&self, unread: &mut dyn FnMut(&str, &Unread)) -> Option<Vec<String>> {
        tables::subscriptions(&self.top).unwrap_or_else(|why| {
            unread("subscriptions", &why);
            None
        })
    }

    /// Shows every message of a folder to `visit`.
    ///
    /// # Errors
    /// What `visit` ended it with.
    pub fn visit<V: Visit>(&self, dir: &[u8], limit: u64, visit: &mut V) -> Result<(), V::Stop> {
        let below = if dir.is_empty() {
            self.top.try_clone().map_err(Unread::from)
        } else {
            files::dir(&self.top, dir)
        };
        let label = message::printable(dir);
        let opened = below.and_then(|below| Reading::new(&below, label.clone(), limit));
        let mut reading = match opened {
            Ok(reading) => reading,
            Err(why) => {
                visit.unread(&label, &why);
                return Ok(());
            }
        };
        for round in 1..=ROUNDS {
            let entries = match reading.list(visit) {
                Ok(entries) => entries,
                Err(why) => {
                    visit.unread(&reading.label, &why);
                    return Ok(());
                }
            };
            let vanished = reading.round(&entries, visit)?;
            if vanished.is_empty() {
                break;
            }
            if round == ROUNDS {
                vanished.iter().for_each(|name| visit.unread(name, &Unread::Vanished));
            }
        }
        Ok(())
    }
}

/// A folder that is being read.
struct Reading {
    cur: OwnedFd,
    new: Option<OwnedFd>,
    keywords: Keywords,
    below: OwnedFd,
    label: String,
    limit: u64,
}

impl Reading {
    fn new(below: &OwnedFd, label: String, limit: u64) -> Result<Self, Unread> {
        let new = match files::dir(below, b"new") {
            Ok(fd) => Some(fd),
            Err(Unread::Io(error)) if error.kind() == io::ErrorKind::NotFound => None,
            Err(why) => return Err(why),
        };
        let keywords = tables::keywords(below)?;
        Ok(Self { cur: files::dir(below, b"cur")?, new, keywords, below: below.try_clone()?, label, limit })
    }

    /// All there is, in the order of its UIDs.
    fn list<V: Visit>(&self, visit: &mut V) -> Result<Vec<Entry>, Unread> {
        let mut entries = Vec::new();
        let folders = [(Some(&self.cur), false), (self.new.as_ref(), true)];
        for (folder, is_new) in folders.into_iter().filter_map(|(fd, is_new)| Some((fd?, is_new))) {
            files::names(folder, &mut |name| {
                if !name.starts_with(b".") && entries.len() <= MAX_MESSAGES {
                    entries.push(Entry {
                        name: name.into(),
                        is_new,
                        order: (u32::MAX, names::arrival(name)),
                    });
                }
            })?;
        }
        if entries.len() > MAX_MESSAGES {
            return Err(Unread::TooMany { what: "messages", limit: MAX_MESSAGES });
        }
        match tables::order(&self.below) {
            Ok(order) => entries.iter_mut().for_each(|entry| {
                entry.order.0 = order.get(&entry.key()).copied().unwrap_or(u32::MAX);
            }),
            Err(why) => visit.unread(&self.named("dovecot-uidlist"), &why),
        }
        entries.sort_unstable_by(|a, b| (a.order, &a.name).cmp(&(b.order, &b.name)));
        visit.expects(entries.len() as u64);
        Ok(entries)
    }

    /// Shows these messages; answers the names of those that were not there any more.
    fn round<V: Visit>(&mut self, entries: &[Entry], visit: &mut V) -> Result<Vec<String>, V::Stop> {
        let mut vanished = Vec::new();
        let mut copies = Copies::among(entries);
        for entry in entries {
            match self.message(entry, &mut copies, visit)? {
                Ok(()) => {}
                Err(Unread::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                    vanished.push(self.name(entry));
                }
                Err(why) => visit.unread(&self.name(entry), &why),
            }
        }
        Ok(vanished)
    }

    fn message<V: Visit>(
        &self,
        entry: &Entry,
        copies: &mut Copies,
        visit: &mut V,
    ) -> Result<Result<(), Unread>, V::Stop> {
        let folder = if entry.is_new { self.new.as_ref().unwrap_or(&self.cur) } else { &self.cur };
        let mut key = entry.key();
        if copies.has_more(key) {
            let inode = match files::file(folder, &entry.name) {
                Ok(opened) => opened.inode,
                Err(why) => return Ok(Err(why)),
            };
            match copies.number(key, inode) {
                Some(copy) => key = self::key(names::unique(&entry.name), copy),
                None => return Ok(Ok(())),
            }
        }
        let flags = self.flags(entry);
        if !visit.wants(key, &flags)? {
            return Ok(Ok(()));
        }
        let (octets, date) = match self.text(folder, entry) {
            Ok(text) => text,
            Err(why) => return Ok(Err(why)),
        };
        visit.message(Found { key, name: self.name(entry), octets, flags, date })?;
        Ok(Ok(()))
    }

    fn text(&self, folder: &OwnedFd, entry: &Entry) -> Result<(Vec<u8>, i64), Unread> {
        let opened = files::file(folder, &entry.name)?;
        let date = opened.modified;
        let raw = files::content(opened, self.limit)?;
        if raw.is_empty() {
            return Err(Unread::Empty);
        }
        if let Some(how) = message::encoding(&raw) {
            return Err(Unread::Encoded(how));
        }
        let octets = message::normalised(&raw);
        if octets.len() as u64 > self.limit {
            return Err(Unread::TooLarge { octets: octets.len() as u64, limit: self.limit });
        }
        Ok((octets, date))
    }

    /// Dovecot leaves messages in `new` also when they have flags.
    fn flags(&self, entry: &Entry) -> Flags {
        let mut flags = Flags::default();
        let letters = names::letters(&entry.name).chars();
        letters.for_each(|letter| flags.set_letter(letter, |small| self.keywords.get(small)));
        flags
    }

    fn name(&self, entry: &Entry) -> String {
        let part = if entry.is_new { "new" } else { "cur" };
        self.named(&format!("{part}/{}", message::printable(&entry.name)))
    }

    fn named(&self, name: &str) -> String {
        if self.label.is_empty() { name.to_owned() } else { format!("{}/{name}", self.label) }
    }
}

/// Files that share the unique part of their names. A listing shows a file that is renamed meanwhile twice, under both
/// names; and whoever made other messages of one name, none of them is left out.
struct Copies {
    seen: HashMap<Key, Vec<(u64, u64)>>,
}

impl Copies {
    fn among(entries: &[Entry]) -> Self {
        let mut once = HashSet::with_capacity(entries.len());
        let again = entries.iter().map(Entry::key).filter(|key| !once.insert(*key));
        Self { seen: again.map(|key| (key, Vec::new())).collect() }
    }

    fn has_more(&self, key: Key) -> bool {
        self.seen.contains_key(&key)
    }

    /// The how-manyth of its name this file is; `None`: it was there before.
    fn number(&mut self, key: Key, inode: (u64, u64)) -> Option<usize> {
        let seen = self.seen.entry(key).or_default();
        if seen.contains(&inode) {
            return None;
        }
        seen.push(inode);
        Some(seen.len() - 1)
    }
}

#[cfg(test)]
mod tests;
