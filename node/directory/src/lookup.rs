//! What an address stands for: reads of one snapshot of the index.

use mailcluster_store::{Account, Alias, ReadError, View};
use mailcluster_types::{AccountId, AccountStatus, Address, Resolution, ResolvedAccount};

use crate::{DirectoryConfig, names};

/// What a look-up can say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Looked {
    /// An answer.
    Known(Resolution),
    /// The directory holds no domain at all, not even a deleted one: it is new or lost, and knows nothing.
    Empty,
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
            return Ok(Looked::Known(Resolution::NotLocal));
        }
    }
    let mut found = exact(view, &key)?;
    if found.is_empty()
        && let Some(user) = names::without_tag(&key)
    {
        found = exact(view, &user)?;
    }
    if found.is_empty() && is_postmaster {
        found = postmaster(view, config, address.domain())?;
    }
    let resolved: Vec<_> = found.iter().filter_map(resolved).collect();
    Ok(Looked::Known(if resolved.is_empty() {
        Resolution::NoSuchMailbox
    } else {
        Resolution::Accounts(resolved)
    }))
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

fn postmaster(view: &View, config: &DirectoryConfig, domain: &str) -> Result<Vec<Account>, ReadError> {
    if let Some(configured) = &config.postmaster {
        let found = exact(view, &configured.key())?;
        if !found.is_empty() {
            return Ok(found);
        }
    }
    let first = view.accounts_by_address(Some(domain), "", 1)?;
    if first.is_empty() { view.accounts_by_address(None, "", 1) } else { Ok(first) }
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
