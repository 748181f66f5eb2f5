//! What an address stands for: reads of one snapshot of the index.

use mailcluster_rpc::directory::v1 as pb;
use mailcluster_store::{Account, Alias, ReadError, View};
use mailcluster_types::{AccountId, AccountStatus, Address, Located, Resolution, ResolvedAccount, StoreName};

use crate::{DirectoryConfig, keyring::KeyRing, names};

/// Most addresses of a page, and the accounts of its addresses after which it ends.
const PAGE: usize = 500;
const MOST_ACCOUNTS: usize = 5000;

/// What a look-up can say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Looked {
    /// An answer.
    Known(Resolution),
    /// The directory holds no domain at all, not even a deleted one: it is new or lost, and knows nothing.
    Empty,
    /// It was rebuilt without these stores' records: what it does not find may be theirs.
    Incomplete(Vec<StoreName>),
}

/// Resolves an address: exactly, else without its `+tag`, else as a postmaster.
pub(crate) fn resolve(view: &View, config: &DirectoryConfig, address: &Address) -> Result<Looked, ReadError> {
    let key = address.key();
    let is_postmaster = key.strip_suffix(address.domain()) == Some("postmaster@");
    if view.domain(address.domain())?.is_none() {
        if view.domains()?.is_empty() {
            return Ok(Looked::Empty);
        }
        if !(is_postmaster && address.domain() == config.hostname) {
            return unless_incomplete(view, Resolution::NotLocal);
        }
    }
    let mut found = exact(view, &key)?;
    if found.is_empty()
        && let Some(user) = names::without_tag(&key)
    {
        found = exact(view, &user)?;
    }
    if found.is_empty() && is_postmaster {
        found = postmaster(view, config)?;
    }
    let resolved: Vec<_> = found.iter().filter_map(resolved).collect();
    if resolved.is_empty() {
        return unless_incomplete(view, Resolution::NoSuchMailbox);
    }
    Ok(Looked::Known(Resolution::Accounts(resolved)))
}

/// "No" can be said only by a directory that has everybody's records.
fn unless_incomplete(view: &View, no: Resolution) -> Result<Looked, ReadError> {
    let missing = view.gaps()?;
    Ok(if missing.is_empty() { Looked::Known(no) } else { Looked::Incomplete(missing) })
}

/// The account of this address, or the accounts its alias stands for, each once.
fn exact(view: &View, key: &str) -> Result<Vec<Account>, ReadError> {
    if let Some(account) = view.account_by_address(key)? {
        return Ok(vec![account]);
    }
    match view.alias(key)? {
        Some(alias) => alias_accounts(view, &alias),
        None => Ok(Vec::new()),
    }
}

/// The live accounts of an alias, each once, in its order.
pub(crate) fn alias_accounts(view: &View, alias: &Alias) -> Result<Vec<Account>, ReadError> {
    let mut seen = std::collections::HashSet::new();
    let mut found = Vec::new();
    for id in alias.accounts.iter().filter(|id| seen.insert(**id)) {
        found.extend(view.account(*id)?.filter(|a| !a.tombstone));
    }
    Ok(found)
}

/// A page of what addresses stand for.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// Keys and their accounts, ascending.
    pub(crate) found: Vec<(String, Vec<ResolvedAccount>)>,
    /// Where the next one begins; `None` behind the last.
    pub(crate) next: Option<String>,
}

/// Whose addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    Accounts,
    Aliases,
}

/// The addresses with keys above `after`, each with the answer that [`resolve`] gives. What has none is left out.
pub(crate) fn known(
    view: &View,
    config: &DirectoryConfig,
    whose: Whose,
    after: &str,
) -> Result<Page, ReadError> {
    let keys: Vec<String> = match whose {
        Whose::Accounts => {
            view.accounts_by_address(None, after, PAGE)?.into_iter().map(|a| a.address).collect()
        }
        Whose::Aliases => view.aliases(after, PAGE)?.into_iter().map(|a| a.address).collect(),
    };
    let mut more = keys.len() == PAGE;
    let mut page = Page::default();
    let (mut accounts, mut last) = (0, None);
    for key in keys {
        if let Ok(address) = key.parse()
            && let Looked::Known(Resolution::Accounts(found)) = resolve(view, config, &address)?
        {
            accounts += found.len();
            page.found.push((key.clone(), found));
        }
        last = Some(key);
        if accounts >= MOST_ACCOUNTS {
            more = true;
            break;
        }
    }
    page.next = last.filter(|_| more);
    Ok(page)
}

/// Where an account is, by its id.
pub(crate) fn locate(view: &View, account: AccountId) -> Result<Located, ReadError> {
    Ok(match view.account_record(account)? {
        Some(record) if record.tombstone => Located::Deleted,
        Some(record) => Located::On(record.store),
        None => Located::Unknown,
    })
}

/// Who was named for it. Otherwise nobody is: a person chosen by chance should not read what is meant for whoever
/// runs this, so it is held in a queue (RFC 5321 section 4.5.1) by those who take it.
fn postmaster(view: &View, config: &DirectoryConfig) -> Result<Vec<Account>, ReadError> {
    match &config.postmaster {
        Some(configured) => exact(view, &configured.key()),
        None => Ok(Vec::new()),
    }
}

/// The keys in use of a domain, or of the nearest one above it that has any: a signature of `example.org` stands for
/// `mail.example.org` too, as DMARC looks at it.
pub(crate) fn active_keys(view: &View, domain: &str) -> Result<(String, Vec<pb::DomainKey>), ReadError> {
    let mut name = domain;
    while name.contains('.') {
        if let Some(found) = view.domain(name)? {
            let active = KeyRing::read(&found.keys).active();
            if !active.is_empty() {
                return Ok((found.name, active));
            }
        }
        name = name.split_once('.').map_or("", |(_, above)| above);
    }
    Ok((String::new(), Vec::new()))
}

/// May this account put this address into MAIL FROM?
pub(crate) fn may_send_as(view: &View, account: AccountId, sender: &Address) -> Result<bool, ReadError> {
    let key = sender.key();
    let candidates = [Some(key.clone()), names::without_tag(&key)];
    for key in candidates.iter().flatten() {
        if exact(view, key)?.iter().any(|a| a.id == account) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// `None` only for a record whose address is damaged.
pub(crate) fn resolved(account: &Account) -> Option<ResolvedAccount> {
    Some(ResolvedAccount {
        id: account.id,
        address: account.address.parse().ok()?,
        store: account.store.clone(),
        status: status(account),
    })
}

pub(crate) fn status(account: &Account) -> AccountStatus {
    match (account.pending, account.suspended) {
        (true, _) => AccountStatus::Pending,
        (false, true) => AccountStatus::Suspended,
        (false, false) => AccountStatus::Active,
    }
}
