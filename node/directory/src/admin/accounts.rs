//! Accounts: made here first (pending), then on their store, then active.

use std::{collections::HashSet, fmt, time::Duration};

use mailcluster_auth::{HasherError, StoredHash};
use mailcluster_store::{Account, Alias, View};
use mailcluster_types::{AccountId, StoreName};
use tokio::time::Instant;

use super::{PAGE, every_alias};
use crate::{AdminError, DirectoryService, names, place, service::next_generation};

/// How an account proves itself.
#[derive(Clone)]
pub enum Credential {
    /// No password login.
    None,
    /// A password in clear; hashed at once.
    Password(String),
    /// A hash in one of the schemes of `mailcluster-auth`.
    Hash(String),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Password(_) => "Password(..)",
            Self::Hash(_) => "Hash(..)",
        })
    }
}

/// An account to be made.
#[derive(Debug, Clone)]
pub struct NewAccount {
    /// Its address, in a domain that is here.
    pub address: String,
    /// How it proves itself.
    pub credential: Credential,
    /// Its store; `None`: the one [`place`] chooses.
    pub store: Option<StoreName>,
    /// Limit in octets; 0: none.
    pub quota_octets: u64,
    /// How long to wait for the store's confirmation.
    pub wait: Duration,
}

/// Live accounts, ascending by address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountPage {
    /// The accounts.
    pub accounts: Vec<Account>,
    /// Ask for what follows this; `None`: there is no more.
    pub next: Option<String>,
}

impl DirectoryService {
    /// Makes an account and waits until its store has confirmed it, at most for `new.wait`: then it is answered
    /// pending, and becomes active by itself when the store comes.
    ///
    /// # Errors
    /// As [`AdminError`] says.
    pub async fn add_account(&self, who: &str, new: NewAccount) -> Result<Account, AdminError> {
        let address = names::address(&new.address)?;
        let key = address.key();
        let password_hash = self.stored_form(new.credential).await?;
        let writing = self.writing().await;
        let (asked, domain) = (key.clone(), address.domain().to_owned());
        let loads = self.config().stores.borrow().clone();
        let chosen = new.store.clone();
        let store = self
            .look(move |view, _| {
                if let Some(refused) = is_taken(view, &asked, &domain)? {
                    return Ok(Err(refused));
                }
                let counts = view.accounts_per_store()?.into_iter().collect();
                Ok(choose(&loads, chosen, &counts))
            })
            .await??;
        let account = Account {
            id: AccountId::random().map_err(|e| AdminError::Unavailable(e.to_string()))?,
            address: key,
            store,
            generation: next_generation(0),
            password_hash,
            quota_octets: new.quota_octets,
            used_octets: 0,
            suspended: false,
            pending: true,
            tombstone: false,
        };
        let what = format!("account add {} on {}", account.address, account.store);
        self.change(who, what, self.put_account(account.clone())).await?;
        drop(writing);
        self.wait_until_active(account, new.wait).await
    }

    async fn wait_until_active(&self, account: Account, wait: Duration) -> Result<Account, AdminError> {
        let deadline = Instant::now() + wait;
        let mut changes = self.store().watch_directory();
        loop {
            changes.mark_unchanged();
            let id = account.id;
            match self.look(move |view, _| view.account(id)).await? {
                Some(now) if !now.pending => return Ok(now),
                Some(_) => {}
                None => return Err(AdminError::no_account(&account.address)),
            }
            match tokio::time::timeout_at(deadline, changes.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Ok(account),
            }
        }
    }

    /// A page of live accounts of a domain, or of all.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub async fn accounts_page(&self, domain: Option<&str>, after: &str) -> Result<AccountPage, AdminError> {
        let (domain, after) = (domain.map(names::domain).transpose()?, after.to_owned());
        let accounts =
            self.look(move |view, _| view.accounts_by_address(domain.as_deref(), &after, PAGE)).await?;
        let next = if accounts.len() < PAGE { None } else { accounts.last().map(|a| a.address.clone()) };
        Ok(AccountPage { accounts, next })
    }

    /// One account and the addresses of the aliases that name it (at most a thousand).
    ///
    /// # Errors
    /// [`AdminError::NotFound`] when there is none.
    pub async fn account(&self, address: &str) -> Result<(Account, Vec<String>), AdminError> {
        let key = names::address(address)?.key();
        let found = self
            .look({
                let key = key.clone();
                move |view, _| {
                    let Some(account) = view.account_by_address(&key)? else { return Ok(None) };
                    let aliases = every_alias(view, |a| !a.tombstone && a.accounts.contains(&account.id))?;
                    Ok(Some((account, aliases.into_iter().map(|a| a.address).take(PAGE).collect())))
                }
            })
            .await?;
        found.ok_or_else(|| AdminError::no_account(&key))
    }

    /// Deletes an account; its store removes its mail.
    ///
    /// # Errors
    /// [`AdminError::NotFound`] when there is none.
    pub async fn delete_account(&self, who: &str, address: &str) -> Result<(), AdminError> {
        let _writing = self.writing().await;
        let (account, _) = self.account(address).await?;
        let what = format!("account delete {} on {}", account.address, account.store);
        let delete = async {
            let id = account.id;
            self.put_account(buried(account)).await?;
            self.drop_from_aliases(&HashSet::from([id])).await
        };
        self.change(who, what, delete).await
    }

    /// Takes accounts out of the aliases that name them; an alias that then names nobody goes too.
    pub(super) async fn drop_from_aliases(&self, gone: &HashSet<AccountId>) -> Result<(), AdminError> {
        let ids = gone.clone();
        let touched = self
            .look(move |view, _| {
                every_alias(view, |a| !a.tombstone && a.accounts.iter().any(|id| ids.contains(id)))
            })
            .await?;
        for alias in touched {
            let mut accounts = alias.accounts.clone();
            accounts.retain(|id| !gone.contains(id));
            let tombstone = accounts.is_empty();
            // A tombstone keeps its names, so that the stores that carry it hear of it.
            let accounts = if tombstone { alias.accounts } else { accounts };
            let generation = next_generation(alias.generation);
            self.put_alias(Alias { accounts, generation, tombstone, ..alias }).await?;
        }
        Ok(())
    }

    /// Sets a password, a hash, or none.
    ///
    /// # Errors
    /// As [`AdminError`] says.
    pub async fn set_credential(
        &self,
        who: &str,
        address: &str,
        credential: Credential,
    ) -> Result<Account, AdminError> {
        let password_hash = self.stored_form(credential).await?;
        self.change_account(who, address, "passwd", move |a| a.password_hash = password_hash).await
    }

    /// Suspends or resumes an account: while suspended it takes mail and nobody logs in.
    ///
    /// # Errors
    /// [`AdminError::NotFound`] when there is none.
    pub async fn set_suspended(
        &self,
        who: &str,
        address: &str,
        suspended: bool,
    ) -> Result<Account, AdminError> {
        let what = if suspended { "suspend" } else { "resume" };
        self.change_account(who, address, what, move |a| a.suspended = suspended).await
    }

    /// Sets the quota in octets; 0: none.
    ///
    /// # Errors
    /// [`AdminError::NotFound`] when there is none.
    pub async fn set_quota(&self, who: &str, address: &str, octets: u64) -> Result<Account, AdminError> {
        self.change_account(who, address, &format!("quota {octets}"), move |a| a.quota_octets = octets).await
    }

    async fn change_account(
        &self,
        who: &str,
        address: &str,
        what: &str,
        change: impl FnOnce(&mut Account),
    ) -> Result<Account, AdminError> {
        let key = names::address(address)?.key();
        let _writing = self.writing().await;
        let asked = key.clone();
        let found = self.look(move |view, _| view.account_by_address(&asked)).await?;
        let before = found.ok_or_else(|| AdminError::no_account(&key))?;
        let mut after = before.clone();
        change(&mut after);
        if after == before {
            return Ok(before);
        }
        after.generation = next_generation(before.generation);
        self.change(who, format!("account {what} {key}"), self.put_account(after.clone())).await?;
        Ok(after)
    }

    /// What is stored for a credential.
    pub(super) async fn stored_form(&self, credential: Credential) -> Result<String, AdminError> {
        match credential {
            Credential::None => Ok(String::new()),
            Credential::Hash(hash) => match StoredHash::parse(&hash) {
                Ok(_) => Ok(hash),
                Err(error) => Err(AdminError::Invalid(error.to_string())),
            },
            Credential::Password(password) => {
                let hasher = self.hasher().clone();
                let hash = self.pool().run(move || hasher.hash(&password)).await?;
                hash.map_err(|error| match error {
                    HasherError::Password => AdminError::Invalid(error.to_string()),
                    other => AdminError::Unavailable(other.to_string()),
                })
            }
        }
    }
}

/// The record that an account leaves behind.
pub(super) fn buried(account: Account) -> Account {
    Account {
        generation: next_generation(account.generation),
        password_hash: String::new(),
        pending: false,
        tombstone: true,
        ..account
    }
}

/// Why an address cannot be given to a new account or alias; `None`: it can.
pub(super) fn is_taken(
    view: &View,
    key: &str,
    domain: &str,
) -> Result<Option<AdminError>, mailcluster_store::ReadError> {
    Ok(if view.domain(domain)?.is_none() {
        Some(AdminError::NotFound(format!("there is no domain {domain}: add it first")))
    } else if view.account_by_address(key)?.is_some() {
        Some(AdminError::Exists(format!("account {key} exists")))
    } else if view.alias(key)?.is_some() {
        Some(AdminError::Exists(format!("{key} is an alias")))
    } else {
        None
    })
}

/// The store asked for, when it exists, else the one that suits best.
pub(super) fn choose(
    loads: &[crate::StoreLoad],
    asked: Option<StoreName>,
    counts: &std::collections::HashMap<StoreName, u64>,
) -> Result<StoreName, AdminError> {
    match asked {
        Some(store) if loads.iter().any(|l| l.store == store) => Ok(store),
        Some(store) => {
            let known: Vec<_> = loads.iter().map(|l| l.store.as_str()).collect();
            Err(AdminError::NotFound(format!("there is no store {store}; there are: {}", known.join(", "))))
        }
        None => {
            place(loads, counts).ok_or_else(|| AdminError::Refused("no store takes accounts now".to_owned()))
        }
    }
}
