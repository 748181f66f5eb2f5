//! Aliases: addresses that stand for accounts.

use mailcluster_store::{Alias, ReadError, View};
use mailcluster_types::AccountId;

use super::{accounts::is_taken, every_alias};
use crate::{AdminError, DirectoryService, lookup, names, service::next_generation};

/// Most accounts of one alias.
const MOST_ACCOUNTS: usize = 1000;

impl DirectoryService {
    /// Makes an alias for accounts, named by their addresses or by aliases: those are resolved now, since an alias
    /// holds accounts and never another alias. `replace` gives an alias that exists new accounts.
    ///
    /// # Errors
    /// As [`AdminError`] says.
    pub async fn add_alias(
        &self,
        who: &str,
        address: &str,
        targets: &[String],
        replace: bool,
    ) -> Result<(), AdminError> {
        let address = names::address(address)?;
        let key = address.key();
        let targets: Vec<String> =
            targets.iter().map(|t| names::address(t).map(|a| a.key())).collect::<Result<_, _>>()?;
        let _writing = self.writing().await;
        let (asked, domain) = (key.clone(), address.domain().to_owned());
        let prepared = self.look(move |view, _| prepare(view, &asked, &domain, &targets)).await?;
        let (held, accounts) = prepared?;
        if held.is_some() && !replace {
            return Err(AdminError::Exists(format!("alias {key} exists")));
        }
        let what = format!("alias add {key} for {} accounts", accounts.len());
        let generation = next_generation(held.map_or(0, |a| a.generation));
        let alias = Alias { address: key, accounts, generation, tombstone: false };
        self.change(who, what, self.put_alias(alias)).await
    }

    /// Live aliases of a domain, or all, by address, each with the addresses of its accounts.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub async fn aliases(&self, domain: Option<&str>) -> Result<Vec<(String, Vec<String>)>, AdminError> {
        let domain = domain.map(names::domain).transpose()?;
        Ok(self
            .look(move |view, _| {
                let wanted = |a: &Alias| {
                    !a.tombstone && domain.as_ref().is_none_or(|d| names::domain_of(&a.address) == d)
                };
                every_alias(view, wanted)?.into_iter().map(|a| shown(view, a)).collect()
            })
            .await?)
    }

    /// One alias with the addresses of its accounts.
    ///
    /// # Errors
    /// [`AdminError::NotFound`] when there is none.
    pub async fn alias(&self, address: &str) -> Result<(String, Vec<String>), AdminError> {
        let key = names::address(address)?.key();
        let asked = key.clone();
        let found = self.look(move |view, _| view.alias(&asked)?.map(|a| shown(view, a)).transpose()).await?;
        found.ok_or_else(|| AdminError::NotFound(format!("there is no alias {key}")))
    }

    /// Deletes an alias.
    ///
    /// # Errors
    /// [`AdminError::NotFound`] when there is none.
    pub async fn delete_alias(&self, who: &str, address: &str) -> Result<(), AdminError> {
        let key = names::address(address)?.key();
        let _writing = self.writing().await;
        let asked = key.clone();
        let held = self.look(move |view, _| view.alias(&asked)).await?;
        let alias = held.ok_or_else(|| AdminError::NotFound(format!("there is no alias {key}")))?;
        let generation = next_generation(alias.generation);
        let gone = Alias { generation, tombstone: true, ..alias };
        self.change(who, format!("alias delete {key}"), self.put_alias(gone)).await
    }
}

type Prepared = Result<(Option<Alias>, Vec<AccountId>), AdminError>;

fn prepare(view: &View, key: &str, domain: &str, targets: &[String]) -> Result<Prepared, ReadError> {
    let held = view.alias(key)?;
    if held.is_none()
        && let Some(taken) = is_taken(view, key, domain)?
    {
        return Ok(Err(taken));
    }
    let mut accounts: Vec<AccountId> = Vec::new();
    for target in targets {
        let found = match view.account_by_address(target)? {
            Some(account) => vec![account],
            None => match view.alias(target)? {
                Some(alias) => lookup::alias_accounts(view, &alias)?,
                None => Vec::new(),
            },
        };
        if found.is_empty() {
            return Ok(Err(AdminError::NotFound(format!("{target} is neither an account nor an alias"))));
        }
        for account in found {
            if !accounts.contains(&account.id) {
                accounts.push(account.id);
            }
        }
        if accounts.len() > MOST_ACCOUNTS {
            let text = format!("an alias stands for at most {MOST_ACCOUNTS} accounts");
            return Ok(Err(AdminError::Invalid(text)));
        }
    }
    if accounts.is_empty() {
        return Ok(Err(AdminError::Invalid("an alias needs at least one account".into())));
    }
    Ok(Ok((held, accounts)))
}

fn shown(view: &View, alias: Alias) -> Result<(String, Vec<String>), ReadError> {
    let accounts = lookup::alias_accounts(view, &alias)?;
    Ok((alias.address, accounts.into_iter().map(|a| a.address).collect()))
}
