//! Export as Maildir++: `OUT/<address>/{cur,new,tmp}` is INBOX, `OUT/<address>/.Name.Child/…` the others, names in
//! UTF-8 with `.` and `%` inside a level written as `%2e` and `%25`. Flags stand in file names, keywords in
//! Dovecot's `dovecot-keywords`, subscriptions in `subscriptions`. Expunged mail, if it is wanted, is a Maildir++ of its own,
//! `OUT/<address>/expunged`, which no server takes for a part of the other.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use super::{Share, ToolError, UIDS, each_account, each_recoverable, salvage};
use crate::{
    error::ReadError,
    model::{Account, Flags, Mailbox, Message, SystemFlag},
    names::INBOX,
    view::View,
};

/// Longest file name in octets.
const MAX_NAME: usize = 255;
/// Keywords with a letter of their own.
const LETTERS: usize = 26;

/// What was exported so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exported {
    /// Accounts.
    pub accounts: u64,
    /// Messages.
    pub messages: u64,
    /// Octets.
    pub octets: u64,
    /// Messages that are damaged and were left out; each is told of.
    pub damaged: u64,
    /// So many messages there are by the index's counters; 0 as long as nobody has asked it.
    pub expected: u64,
    /// Octets of the log of which an index was made, where the store does not open.
    pub made_anew: Share,
}

/// Is mail exported that was expunged and can be brought back?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expunged {
    /// It is left out.
    LeftOut,
    /// It is exported beside the other.
    Too,
}

/// As [`export`], without what was expunged.
///
/// # Errors
/// The same.
pub fn export_maildir(
    dir: &Path,
    out: &Path,
    progress: &mut dyn FnMut(&Exported, Option<&str>),
) -> Result<Exported, ToolError> {
    export(dir, out, Expunged::LeftOut, progress)
}

/// Exports every live account of the store in `dir` below `out`, which must be empty or not there. `progress` is
/// called at every step, with a line about each message that is damaged, and about what is wrong with a store that
/// does not open: of that, what can be read is exported.
///
/// # Errors
/// As [`ToolError`] says; a damaged message is left out and counted.
pub fn export(
    dir: &Path,
    out: &Path,
    expunged: Expunged,
    progress: &mut dyn FnMut(&Exported, Option<&str>),
) -> Result<Exported, ToolError> {
    fs::create_dir_all(out)?;
    if fs::read_dir(out)?.next().is_some() {
        let why = format!("{} is not empty", out.display());
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, why).into());
    }
    let mut done = Exported::default();
    let store = salvage::look(dir, &mut |said| match said {
        salvage::Said::Problem(what) => progress(&done, Some(what)),
        salvage::Said::MadeAnew(share) => {
            done.made_anew = share;
            progress(&done, None);
        }
    })?;
    let view = store.view();
    // Of an index that is damaged, its counters may make no sense; its mail may be read all the same.
    let there = view.texts().unwrap_or_default();
    let also = if expunged == Expunged::Too { there.expunged } else { 0 };
    done.expected = there.mailboxes.saturating_add(also);
    let mut export = Export { view: &view, expunged, done, progress };
    each_account(&view, |account| if account.tombstone { Ok(()) } else { export.account(account, out) })?;
    Ok(export.done)
}

struct Export<'a> {
    view: &'a View,
    expunged: Expunged,
    done: Exported,
    progress: &'a mut dyn FnMut(&Exported, Option<&str>),
}

impl Export<'_> {
    fn account(&mut self, account: &Account, out: &Path) -> Result<(), ToolError> {
        let home = out.join(safe(&account.address, &account.id.to_string()));
        fs::create_dir_all(&home)?;
        for mailbox in self.view.mailboxes(account.id)? {
            let path = if mailbox.name == INBOX {
                home.clone()
            } else {
                home.join(folder(&mailbox.name, mailbox.id))
            };
            self.mailbox(&mailbox, &path)?;
        }
        if self.expunged == Expunged::Too {
            self.expunged(account, &home.join("expunged"))?;
        }
        let mut subscriptions = File::create(home.join("subscriptions"))?;
        for name in self.view.subscriptions(account.id)?.iter().filter(|n| *n != INBOX) {
            writeln!(subscriptions, "{}", dotted(name))?;
        }
        self.done.accounts += 1;
        Ok(())
    }

    /// What was expunged, by the names of the mailboxes that it went from.
    fn expunged(&mut self, account: &Account, home: &Path) -> Result<(), ToolError> {
        let view = self.view;
        let mut folders: BTreeMap<PathBuf, Vec<String>> = BTreeMap::new();
        each_recoverable(view, account.id, |gone| {
            let path = if gone.name == INBOX {
                home.to_owned()
            } else {
                home.join(folder(&gone.name, gone.mailbox))
            };
            if !folders.contains_key(&path) {
                make_folder(&path, &gone.name)?;
            }
            let keywords = folders.entry(path.clone()).or_default();
            add_keywords(keywords, &gone.flags);
            let message = Message {
                uid: gone.uid,
                modseq: 0,
                flags: gone.flags.clone(),
                internal_date: gone.internal_date,
                zone_minutes: 0,
                size: gone.size,
                delivery: None,
                body: gone.body,
            };
            self.message((gone.mailbox, &gone.name), &message, (&path, keywords))
        })?;
        folders.iter().try_for_each(|(path, keywords)| write_keywords(path, keywords))
    }

    fn mailbox(&mut self, mailbox: &Mailbox, path: &Path) -> Result<(), ToolError> {
        make_folder(path, &mailbox.name)?;
        let mut keywords: Vec<String> = Vec::new();
        for from in (1..mailbox.uid_next).step_by(UIDS as usize) {
            for message in self.view.messages(mailbox.id, from, from.saturating_add(UIDS - 1))? {
                add_keywords(&mut keywords, &message.flags);
                self.message((mailbox.id, &mailbox.name), &message, (path, &keywords))?;
            }
        }
        write_keywords(path, &keywords)
    }

    fn message(
        &mut self,
        (mailbox, name): (u64, &str),
        message: &Message,
        (path, keywords): (&Path, &[String]),
    ) -> Result<(), ToolError> {
        let text = match self.view.body(message.body) {
            Ok(text) => text,
            Err(ReadError::Damaged(what)) => {
                self.done.damaged += 1;
                let line = format!("message {} of {} is damaged: {what}", message.uid, name);
                (self.progress)(&self.done, Some(&line));
                return Ok(());
            }
            Err(e) => return Err(e.into()),
        };
        let file = path.join("cur").join(file_name(mailbox, message, keywords));
        let mut file = File::create(file)?;
        file.write_all(&text)?;
        let since = Duration::from_secs(u64::try_from(message.internal_date).unwrap_or(0));
        file.set_modified(UNIX_EPOCH + since)?;
        self.done.messages += 1;
        self.done.octets += text.len() as u64;
        (self.progress)(&self.done, None);
        Ok(())
    }
}

fn make_folder(path: &Path, name: &str) -> Result<(), ToolError> {
    for part in ["cur", "new", "tmp"] {
        fs::create_dir_all(path.join(part))?;
    }
    if name != INBOX {
        File::create(path.join("maildirfolder"))?;
    }
    Ok(())
}

/// Gives letters to keywords that have none, as long as there are any.
fn add_keywords(known: &mut Vec<String>, flags: &Flags) {
    for keyword in &flags.keywords {
        if known.len() < LETTERS && !known.iter().any(|k| k.eq_ignore_ascii_case(keyword)) {
            known.push(keyword.clone());
        }
    }
}

fn write_keywords(path: &Path, keywords: &[String]) -> Result<(), ToolError> {
    if keywords.is_empty() {
        return Ok(());
    }
    let mut file = File::create(path.join("dovecot-keywords"))?;
    for (number, keyword) in keywords.iter().enumerate() {
        writeln!(file, "{number} {keyword}")?;
    }
    Ok(())
}

fn file_name(mailbox: u64, message: &Message, keywords: &[String]) -> String {
    let system = [
        (SystemFlag::Draft, 'D'),
        (SystemFlag::Flagged, 'F'),
        (SystemFlag::Answered, 'R'),
        (SystemFlag::Seen, 'S'),
        (SystemFlag::Deleted, 'T'),
    ];
    let mut flags: String =
        system.into_iter().filter(|(f, _)| message.flags.has(*f)).map(|(_, c)| c).collect();
    let has = |k: &String| message.flags.keywords.iter().any(|own| own.eq_ignore_ascii_case(k));
    flags.extend(('a'..='z').zip(keywords).filter(|(_, k)| has(k)).map(|(letter, _)| letter));
    let (date, uid, id) = (message.internal_date, message.uid, mailbox);
    format!("{date}.M{uid:010}P{id}.mailcluster,S={}:2,{flags}", message.size)
}

/// A mailbox's name with `.` between levels.
fn dotted(name: &str) -> String {
    let level = |level: &str| level.replace('%', "%25").replace('.', "%2e");
    name.split('/').map(level).collect::<Vec<_>>().join(".")
}

fn folder(name: &str, id: u64) -> PathBuf {
    let name = format!(".{}", dotted(name));
    let fits = name.len() <= MAX_NAME;
    PathBuf::from(if fits { name } else { format!(".mailbox-{id:x}") })
}

/// A file name that stays where it is put.
fn safe(name: &str, otherwise: &str) -> String {
    let text = name.replace('%', "%25").replace('/', "%2f");
    let bad = text.is_empty() || text.starts_with('.') || text.len() > MAX_NAME || text.contains('\0');
    if bad { otherwise.to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_their_directory() {
        assert_eq!(dotted("a.b/c%/../x"), "a%2eb.c%25.%2e%2e.x");
        assert_eq!(safe("../x@y", "id"), "id");
        assert_eq!(safe("a/b@y", "id"), "a%2fb@y");
        assert_eq!(safe(&"x".repeat(300), "id"), "id");
    }
}
