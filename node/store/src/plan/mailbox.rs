//! Mailboxes: CREATE, DELETE, RENAME, SUBSCRIBE.

use mailcluster_types::AccountId;
use rusqlite::{OptionalExtension, params};

use super::{MailboxRow, Plan, PlanError, Planned, Value, undelete};
use crate::{
    error::Refusal,
    model::SpecialUse,
    names::{self, INBOX},
    ops::CreateMailbox,
    record::{self, MoveAll, NewMailbox, Rename, RenameMailbox, Subscribe},
};

/// Most mailboxes of one account.
const MAX_MAILBOXES: u64 = 10_000;
/// Most names subscribed to by one account.
const MAX_SUBSCRIPTIONS: u64 = 20_000;

/// How a special use is written on disk.
pub fn special_use_code(special_use: Option<SpecialUse>) -> u32 {
    match special_use {
        None => 0,
        Some(SpecialUse::Sent) => 1,
        Some(SpecialUse::Drafts) => 2,
        Some(SpecialUse::Trash) => 3,
        Some(SpecialUse::Junk) => 4,
        Some(SpecialUse::Archive) => 5,
    }
}

/// Reads what [`special_use_code`] wrote.
pub fn special_use(code: u32) -> Option<SpecialUse> {
    [SpecialUse::Sent, SpecialUse::Drafts, SpecialUse::Trash, SpecialUse::Junk, SpecialUse::Archive]
        .into_iter()
        .find(|s| special_use_code(Some(*s)) == code)
}

/// A mailbox with ids drawn for it.
pub fn new_mailbox(
    cx: &mut Plan<'_>,
    name: &str,
    use_as: Option<SpecialUse>,
    subscribed: bool,
) -> NewMailbox {
    NewMailbox {
        id: cx.next.next_mailbox(cx.epoch),
        name: name.to_owned(),
        uid_validity: cx.next.next_uid_validity(cx.now),
        special_use: special_use_code(use_as),
        modseq: cx.next.next_modseq(cx.epoch),
        subscribed,
    }
}

/// The mailboxes of a new account.
pub fn defaults(cx: &mut Plan<'_>) -> Vec<NewMailbox> {
    [
        (INBOX, None),
        ("Sent", Some(SpecialUse::Sent)),
        ("Drafts", Some(SpecialUse::Drafts)),
        ("Trash", Some(SpecialUse::Trash)),
        ("Junk", Some(SpecialUse::Junk)),
        ("Archive", Some(SpecialUse::Archive)),
    ]
    .into_iter()
    .map(|(name, use_as)| new_mailbox(cx, name, use_as, true))
    .collect()
}

/// A mailbox's id by its (canonical) name.
pub fn find(cx: &Plan<'_>, account: i64, name: &str) -> Result<Option<u64>, PlanError> {
    Ok(cx
        .conn
        .prepare_cached("SELECT id FROM mailbox WHERE account=? AND name=?")?
        .query_row(params![account, name], |r| r.get(0))
        .optional()?)
}

/// Does a mailbox of the account have this special use?
pub fn has_use(cx: &Plan<'_>, account: i64, special_use: Option<SpecialUse>) -> Result<bool, PlanError> {
    let code = special_use_code(special_use);
    let mut query = cx.conn.prepare_cached("SELECT 1 FROM mailbox WHERE account=? AND special_use=?")?;
    Ok(code != 0 && query.exists(params![account, code])?)
}

/// Missing parents of a name that is to be made; refuses when the account has too many mailboxes.
pub fn missing_parents(cx: &mut Plan<'_>, account: i64, name: &str) -> Result<Vec<NewMailbox>, PlanError> {
    let mut made = Vec::new();
    for parent in names::parents(name) {
        if find(cx, account, parent)?.is_none() {
            made.push(new_mailbox(cx, parent, None, false));
        }
    }
    let count: u64 = cx
        .conn
        .prepare_cached("SELECT mailboxes FROM used WHERE account=?")?
        .query_row([account], |r| r.get(0))?;
    if count + made.len() as u64 >= MAX_MAILBOXES {
        return Err(Refusal::NotAllowed("an account has at most 10000 mailboxes").into());
    }
    Ok(made)
}

pub fn create(cx: &mut Plan<'_>, create: &CreateMailbox) -> Result<Planned, PlanError> {
    let account = cx.own_account(create.account)?;
    // RFC 3501 section 6.3.3: a trailing separator declares children and is not part of the name.
    let name = names::normalise(create.name.strip_suffix('/').unwrap_or(&create.name))?;
    if find(cx, account, &name)?.is_some() {
        return Err(Refusal::AlreadyExists.into());
    }
    // RFC 6154 section 3 leaves that to the server: with two of them, clients would each choose their own.
    if has_use(cx, account, create.special_use)? {
        return Err(Refusal::UseTaken.into());
    }
    let mut mailboxes = missing_parents(cx, account, &name)?;
    let new = new_mailbox(cx, &name, create.special_use, false);
    let id = new.id;
    mailboxes.push(new);
    let record = record::CreateMailbox { account: create.account.to_bytes().to_vec(), mailboxes };
    Ok(Planned::one(record, Value::Mailbox(id)))
}

pub fn delete(cx: &mut Plan<'_>, id: u64) -> Result<Planned, PlanError> {
    let mailbox = cx.mailbox(id)?;
    if mailbox.name == INBOX {
        return Err(Refusal::NotAllowed("INBOX cannot be deleted").into());
    }
    let record = undelete::mailbox_gone(cx, id);
    Ok(Planned::one(record, Value::Done))
}

pub fn rename(cx: &mut Plan<'_>, id: u64, to: &str) -> Result<Planned, PlanError> {
    let mailbox = cx.mailbox(id)?;
    let to = names::normalise(to.strip_suffix('/').unwrap_or(to))?;
    if find(cx, mailbox.account, &to)?.is_some() {
        return Err(Refusal::AlreadyExists.into());
    }
    if mailbox.name == INBOX {
        return rename_inbox(cx, &mailbox, &to);
    }
    let below = format!("{}/", mailbox.name);
    if to.starts_with(&below) {
        return Err(Refusal::NotAllowed("a mailbox cannot be renamed into itself").into());
    }
    let mut renames = vec![Rename { mailbox: id, name: to.clone() }];
    for (child, name) in children(cx, &mailbox, &below)? {
        let renamed = format!("{to}/{}", &name[below.len()..]);
        names::normalise(&renamed)?;
        if find(cx, mailbox.account, &renamed)?.is_some() {
            return Err(Refusal::AlreadyExists.into());
        }
        renames.push(Rename { mailbox: child, name: renamed });
    }
    let created = missing_parents(cx, mailbox.account, &to)?;
    let record = RenameMailbox { account: mailbox.owner, created, renames, inbox: None, at: cx.now };
    Ok(Planned::one(record, Value::Done))
}

fn children(cx: &Plan<'_>, mailbox: &MailboxRow, below: &str) -> Result<Vec<(u64, String)>, PlanError> {
    // '0' is the octet after '/': all names that start with "name/".
    let end = format!("{}0", mailbox.name);
    let rows = cx
        .conn
        .prepare_cached("SELECT id, name FROM mailbox WHERE account=? AND name>=? AND name<? ORDER BY name")?
        .query_map(params![mailbox.account, below, end], |r| Ok((r.get(0)?, r.get(1)?)))?
        .collect::<Result<Vec<_>, _>>()?;
    Ok(rows)
}

fn rename_inbox(cx: &mut Plan<'_>, inbox: &MailboxRow, to: &str) -> Result<Planned, PlanError> {
    let mut created = missing_parents(cx, inbox.account, to)?;
    let new = new_mailbox(cx, to, None, false);
    let moved = MoveAll { from: inbox.id, to: new.id, modseq: cx.next.next_modseq(cx.epoch) };
    created.push(new);
    let record = RenameMailbox {
        account: inbox.owner.clone(),
        created,
        renames: Vec::new(),
        inbox: Some(moved),
        at: cx.now,
    };
    Ok(Planned::one(record, Value::Done))
}

pub fn subscribe(
    cx: &mut Plan<'_>,
    account: AccountId,
    name: &str,
    subscribed: bool,
) -> Result<Planned, PlanError> {
    let local = cx.own_account(account)?;
    let name = if subscribed { names::normalise(name)? } else { names::canonical(name) };
    let (is, count): (bool, u64) = cx
        .conn
        .prepare_cached(
            "SELECT EXISTS(SELECT 1 FROM subscription WHERE account=?1 AND name=?2), \
             (SELECT count(*) FROM subscription WHERE account=?1)",
        )?
        .query_row(params![local, name], |r| Ok((r.get(0)?, r.get(1)?)))?;
    if is == subscribed {
        return Ok(Planned::nothing(Value::Done));
    }
    if subscribed && count >= MAX_SUBSCRIPTIONS {
        return Err(Refusal::NotAllowed("too many subscriptions").into());
    }
    let record = Subscribe { account: account.to_bytes().to_vec(), name, subscribed };
    Ok(Planned::one(record, Value::Done))
}
