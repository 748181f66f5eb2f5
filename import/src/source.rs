//! Where mail comes from: a Maildir with its folders, or an mbox file.

use std::path::{Path, PathBuf};

use crate::{Flags, Found, Key, Unread, maildir::Maildir, mbox::Mbox};

/// Why a source cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The path leads to neither.
    #[error("{0}: neither a Maildir (it has no `cur`) nor an mbox file (it does not begin with `From `)")]
    Unknown(PathBuf),
    /// It cannot be read.
    #[error("{0}: {1}")]
    Io(PathBuf, std::io::Error),
}

/// A Maildir or an mbox file.
#[derive(Debug)]
pub struct Source {
    kind: Kind,
    /// The mailbox that the top of it becomes.
    mailbox: String,
}

#[derive(Debug)]
enum Kind {
    Maildir(Maildir),
    Mbox(Mbox),
}

/// A folder of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Folder {
    /// The mailbox that it becomes.
    pub mailbox: String,
    /// Its folder of the file system, from the source's top; empty for that.
    pub dir: Vec<u8>,
}

/// Who looks at the messages of a folder, one after another.
pub trait Visit {
    /// Ends the visit.
    type Stop;
    /// About so many messages are to come.
    fn expects(&mut self, messages: u64);
    /// There is a message with these flags: is its text wanted?
    ///
    /// # Errors
    /// To end the visit.
    fn wants(&mut self, key: Key, flags: &Flags) -> Result<bool, Self::Stop>;
    /// The text of a message that was wanted.
    ///
    /// # Errors
    /// To end the visit.
    fn message(&mut self, found: Found) -> Result<(), Self::Stop>;
    /// Something cannot be brought.
    fn unread(&mut self, name: &str, why: &Unread);
}

impl Source {
    /// The source at `path`, which may itself be a symbolic link. Its top becomes `mailbox`, folders lie below that
    /// (below nothing when it is INBOX).
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub fn open(path: &Path, mailbox: &str) -> Result<Self, SourceError> {
        let failed = |error: std::io::Error| SourceError::Io(path.to_owned(), error);
        let kind = if path.metadata().map_err(failed)?.is_dir() {
            Maildir::open(path).map_err(failed)?.map(Kind::Maildir)
        } else {
            Mbox::open(path).map_err(failed)?.map(Kind::Mbox)
        };
        let kind = kind.ok_or_else(|| SourceError::Unknown(path.to_owned()))?;
        Ok(Self { kind, mailbox: mailbox.to_owned() })
    }

    /// Its folders, the top first; what looks like one and cannot be brought is told.
    pub(crate) fn folders(&self, unread: &mut dyn FnMut(&str, &Unread)) -> Vec<Folder> {
        match &self.kind {
            Kind::Mbox(_) => vec![Folder { mailbox: self.mailbox.clone(), dir: Vec::new() }],
            Kind::Maildir(maildir) => {
                let named = maildir.folders(unread).into_iter();
                named.map(|(name, dir)| Folder { mailbox: self.placed(&name), dir }).collect()
            }
        }
    }

    /// The mailboxes that its owner was subscribed to; `None`: it does not say.
    pub(crate) fn subscriptions(&self, unread: &mut dyn FnMut(&str, &Unread)) -> Option<Vec<String>> {
        let Kind::Maildir(maildir) = &self.kind else { return None };
        let names = maildir.subscriptions(unread)?;
        Some(names.iter().map(|name| self.placed(name)).collect())
    }

    /// Shows every message of a folder that is no larger than `limit` to `visit`.
    ///
    /// # Errors
    /// What `visit` ended it with.
    pub(crate) fn visit<V: Visit>(&self, folder: &Folder, limit: u64, visit: &mut V) -> Result<(), V::Stop> {
        match &self.kind {
            Kind::Mbox(mbox) => mbox.visit(limit, visit),
            Kind::Maildir(maildir) => maildir.visit(&folder.dir, limit, visit),
        }
    }

    /// The mailbox for a folder of this name; empty: the top.
    fn placed(&self, name: &str) -> String {
        match (self.mailbox.as_str(), name) {
            (top, "") => top.to_owned(),
            ("INBOX", name) => name.to_owned(),
            (top, name) => format!("{top}/{name}"),
        }
    }
}
