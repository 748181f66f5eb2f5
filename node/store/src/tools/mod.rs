//! Tools for a store that nobody serves: look, read, carry away. They open the replica as a server would (lock,
//! recovery), so they refuse while one is running; of one that is damaged they read what there is, without recovery.

mod fsck;
mod lengths;
mod maildir;
mod salvage;

use std::{
    io::{self, Write},
    path::Path,
};

use mailcluster_types::{AccountId, Uid};

pub use fsck::{Checked, fsck};
pub use maildir::{Exported, Expunged, export, export_maildir};

use crate::{
    error::{OpenError, ReadError},
    model::{Account, Flags, Mailbox, SystemFlag},
    replica::{Replica, StoreKind},
    view::{Recoverable, RecoverableFilter, View},
};

/// Rows read at a time.
const PAGE: usize = 1000;
/// UIDs read at a time.
const UIDS: Uid = 10_000;

/// How much of something is done, of how much there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Share {
    /// So much is done.
    pub done: u64,
    /// Of so much; 0 when there is nothing to do.
    pub of: u64,
}

/// Why a tool failed.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// The replica cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The replica cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// What was named is not there.
    #[error("there is no {0}")]
    NotFound(String),
    /// The result cannot be written.
    #[error("failed to write")]
    Write(#[from] io::Error),
}

/// Opens whatever store lies in `dir`.
///
/// # Errors
/// As [`OpenError`] says.
pub fn open(dir: &Path) -> Result<Replica, OpenError> {
    let identity = Replica::identify(dir)?;
    Replica::open(dir, &identity)
}

/// What a path given by a person names: nothing (the store), an account, a mailbox, or a message.
enum Named {
    Store,
    Account(Account),
    Mailbox(Mailbox),
}

/// Writes what is in `path`: accounts when it is empty, the mailboxes of `ACCOUNT`, the messages of
/// `ACCOUNT/MAILBOX`. ACCOUNT is an address or an id of 32 hex digits. One tab-separated line each, after a line of
/// titles.
///
/// # Errors
/// As [`ToolError`] says.
pub fn list(dir: &Path, path: &str, out: &mut dyn Write) -> Result<(), ToolError> {
    let store = salvage::look(dir, &mut warned)?;
    let (kind, view) = (store.kind, store.view());
    match find(&view, path)? {
        Named::Store => {
            list_accounts(&view, out)?;
            if kind == StoreKind::Directory { list_directory(&view, out) } else { Ok(()) }
        }
        Named::Account(account) => list_mailboxes(&view, &account, out),
        Named::Mailbox(mailbox) => list_messages(&view, &mailbox, out),
    }
}

/// Writes one message, `ACCOUNT/MAILBOX/UID`, as it is.
///
/// # Errors
/// As [`ToolError`] says; a damaged message is not written in part.
pub fn cat(dir: &Path, path: &str, out: &mut dyn Write) -> Result<(), ToolError> {
    let store = salvage::look(dir, &mut warned)?;
    let view = store.view();
    let missing = || ToolError::NotFound(format!("message {path}"));
    let (mailbox, uid) = path.rsplit_once('/').ok_or_else(missing)?;
    let uid: Uid = uid.parse().map_err(|_| missing())?;
    let Named::Mailbox(mailbox) = find(&view, mailbox)? else { return Err(missing()) };
    let message = view.messages(mailbox.id, uid, uid)?.pop().ok_or_else(missing)?;
    out.write_all(&view.body(message.body)?)?;
    Ok(())
}

/// What is wrong with a store that is only looked at.
fn warned(said: salvage::Said<'_>) {
    if let salvage::Said::Problem(what) = said {
        tracing::warn!("{what}");
    }
}

fn find(view: &View, path: &str) -> Result<Named, ToolError> {
    if path.is_empty() {
        return Ok(Named::Store);
    }
    // A local part may have slashes; a domain has none.
    let after = path.find('@').unwrap_or(0);
    let (name, mailbox) = match path[after..].split_once('/') {
        Some((_, mailbox)) => (&path[..path.len() - mailbox.len() - 1], Some(mailbox)),
        None => (path, None),
    };
    let account = match name.parse::<AccountId>() {
        Ok(id) => view.account(id)?,
        Err(_) => view.account_by_address(&name.to_lowercase())?,
    };
    let account = account.ok_or_else(|| ToolError::NotFound(format!("account {name}")))?;
    match mailbox {
        None => Ok(Named::Account(account)),
        Some(mailbox) => view
            .mailbox_by_name(account.id, mailbox)?
            .map(Named::Mailbox)
            .ok_or_else(|| ToolError::NotFound(format!("mailbox {mailbox} of {name}"))),
    }
}

/// Calls `each` with every account, tombstones too.
fn each_account(
    view: &View,
    mut each: impl FnMut(&Account) -> Result<(), ToolError>,
) -> Result<(), ToolError> {
    let mut after = None;
    loop {
        let page = view.accounts(after, PAGE)?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.id);
        page.iter().try_for_each(&mut each)?;
    }
}

/// Calls `each` with every expunged message of an account that is kept.
fn each_recoverable(
    view: &View,
    account: AccountId,
    mut each: impl FnMut(&Recoverable) -> Result<(), ToolError>,
) -> Result<(), ToolError> {
    let mut filter = RecoverableFilter::default();
    while view.has_recoverable()? {
        let page = view.recoverable(account, &filter, PAGE)?;
        let Some(last) = page.last() else { break };
        filter.after = (last.mailbox, last.uid);
        page.iter().try_for_each(&mut each)?;
    }
    Ok(())
}

fn list_accounts(view: &View, out: &mut dyn Write) -> Result<(), ToolError> {
    writeln!(out, "ADDRESS\tID\tSTORE\tUSED\tQUOTA\tSTATE")?;
    each_account(view, |a| {
        let state = match (a.tombstone, a.suspended, a.pending) {
            (true, ..) => "deleted",
            (_, true, _) => "suspended",
            (_, _, true) => "pending",
            _ => "active",
        };
        let (address, id, store) = (&a.address, a.id, &a.store);
        writeln!(out, "{address}\t{id}\t{store}\t{}\t{}\t{state}", a.used_octets, a.quota_octets)?;
        Ok(())
    })
}

fn list_directory(view: &View, out: &mut dyn Write) -> Result<(), ToolError> {
    writeln!(out, "\nDOMAIN\tGENERATION\tSTATE")?;
    for d in view.domains()? {
        writeln!(out, "{}\t{}\t{}", d.name, d.generation, if d.tombstone { "deleted" } else { "active" })?;
    }
    writeln!(out, "\nALIAS\tACCOUNTS\tSTATE")?;
    let mut after = String::new();
    loop {
        let page = view.aliases(&after, PAGE)?;
        let Some(last) = page.last() else { return Ok(()) };
        after.clone_from(&last.address);
        for a in &page {
            let accounts: Vec<_> = a.accounts.iter().map(ToString::to_string).collect();
            let state = if a.tombstone { "deleted" } else { "active" };
            writeln!(out, "{}\t{}\t{state}", a.address, accounts.join(","))?;
        }
    }
}

fn list_mailboxes(view: &View, account: &Account, out: &mut dyn Write) -> Result<(), ToolError> {
    writeln!(out, "MAILBOX\tMESSAGES\tUNSEEN\tOCTETS\tUIDVALIDITY\tUIDNEXT")?;
    for m in view.mailboxes(account.id)? {
        let c = m.counts;
        let (validity, next) = (m.uid_validity, m.uid_next);
        writeln!(out, "{}\t{}\t{}\t{}\t{validity}\t{next}", m.name, c.messages, c.unseen, c.octets)?;
    }
    Ok(())
}

fn list_messages(view: &View, mailbox: &Mailbox, out: &mut dyn Write) -> Result<(), ToolError> {
    writeln!(out, "UID\tSIZE\tDATE\tFLAGS\tDELIVERY")?;
    for from in (1..mailbox.uid_next).step_by(UIDS as usize) {
        for m in view.messages(mailbox.id, from, from.saturating_add(UIDS - 1))? {
            let delivery = m.delivery.map(|d| d.to_string()).unwrap_or_default();
            let flags = flags_text(&m.flags);
            writeln!(out, "{}\t{}\t{}\t{flags}\t{delivery}", m.uid, m.size, m.internal_date)?;
        }
    }
    Ok(())
}

fn flags_text(flags: &Flags) -> String {
    let system = [
        (SystemFlag::Seen, "\\Seen"),
        (SystemFlag::Answered, "\\Answered"),
        (SystemFlag::Flagged, "\\Flagged"),
        (SystemFlag::Deleted, "\\Deleted"),
        (SystemFlag::Draft, "\\Draft"),
    ];
    let set = system.into_iter().filter(|(f, _)| flags.has(*f)).map(|(_, name)| name.to_owned());
    set.chain(flags.keywords.iter().cloned()).collect::<Vec<_>>().join(" ")
}
