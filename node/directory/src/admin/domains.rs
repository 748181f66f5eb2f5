//! Domains.

use std::collections::HashSet;

use mailcluster_store::{Domain, Sealed, View};

use super::{PAGE, accounts::buried, every_alias};
use crate::{AdminError, DirectoryService, names, service::next_generation};

/// A domain and what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainCounts {
    /// Its name.
    pub name: String,
    /// Live accounts.
    pub accounts: u64,
    /// Live aliases.
    pub aliases: u64,
}

impl DirectoryService {
    /// Makes a domain ours.
    ///
    /// # Errors
    /// [`AdminError::Exists`] when it is already.
    pub async fn add_domain(&self, who: &str, name: &str) -> Result<String, AdminError> {
        let name = names::domain(name)?;
        let _writing = self.writing().await;
        let asked = name.clone();
        let held = self.look(move |view, _| view.domain_record(&asked)).await?;
        if held.as_ref().is_some_and(|d| !d.tombstone) {
            return Err(AdminError::Exists(format!("domain {name} exists")));
        }
        let generation = next_generation(held.map_or(0, |d| d.generation));
        let domain = Domain { name: name.clone(), generation, tombstone: false, keys: Sealed::default() };
        self.change(who, format!("domain add {name}"), self.put_domain(domain)).await?;
        Ok(name)
    }

    /// All domains, by name.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub async fn domains(&self) -> Result<Vec<String>, AdminError> {
        Ok(self.look(|view, _| view.domain_names()).await?)
    }

    /// # Errors
    /// [`AdminError::NotFound`] when it is not ours.
    pub(crate) async fn domain_exists(&self, name: &str) -> Result<(), AdminError> {
        let name = names::domain(name)?;
        let asked = name.clone();
        match self.look(move |view, _| view.domain(&asked)).await? {
            Some(_) => Ok(()),
            None => Err(AdminError::NotFound(format!("there is no domain {name}"))),
        }
    }

    /// One domain, counted.
    ///
    /// # Errors
    /// [`AdminError::NotFound`] when it is not ours.
    pub async fn domain(&self, name: &str) -> Result<DomainCounts, AdminError> {
        let name = names::domain(name)?;
        let asked = name.clone();
        let counts = self.look(move |view, _| counted(view, &asked)).await?;
        counts.ok_or_else(|| AdminError::NotFound(format!("there is no domain {name}")))
    }

    /// Deletes a domain. With accounts or aliases in it only by `force`: then they go too, first.
    ///
    /// # Errors
    /// [`AdminError::Refused`] when it is not empty and not forced.
    pub async fn delete_domain(&self, who: &str, name: &str, force: bool) -> Result<(), AdminError> {
        let _writing = self.writing().await;
        let counts = self.domain(name).await?;
        let name = counts.name;
        if counts.accounts + counts.aliases > 0 && !force {
            return Err(AdminError::Refused(format!(
                "domain {name} has {} accounts and {} aliases; delete them first, or force it: their mail goes too",
                counts.accounts, counts.aliases
            )));
        }
        let what =
            format!("domain delete {name} with {} accounts, {} aliases", counts.accounts, counts.aliases);
        let delete = async {
            self.empty_domain(&name).await?;
            let asked = name.clone();
            let held = self.look(move |view, _| view.domain_record(&asked)).await?;
            let generation = next_generation(held.map_or(0, |d| d.generation));
            let keys = Sealed::default();
            self.put_domain(Domain { name: name.clone(), generation, tombstone: true, keys }).await
        };
        self.change(who, what, delete).await
    }

    async fn empty_domain(&self, name: &str) -> Result<(), AdminError> {
        let mut gone = HashSet::new();
        loop {
            let domain = name.to_owned();
            let page = self.look(move |view, _| view.accounts_by_address(Some(&domain), "", PAGE)).await?;
            if page.is_empty() {
                break;
            }
            gone.extend(page.iter().map(|a| a.id));
            let tombstones = page.into_iter().map(buried).collect();
            self.store().put_accounts(tombstones).await?.acknowledge()?;
        }
        let domain = name.to_owned();
        let aliases = self
            .look(move |view, _| {
                every_alias(view, |a| !a.tombstone && names::domain_of(&a.address) == domain)
            })
            .await?;
        for alias in aliases {
            let generation = next_generation(alias.generation);
            self.put_alias(mailcluster_store::Alias { generation, tombstone: true, ..alias }).await?;
        }
        if gone.is_empty() { Ok(()) } else { self.drop_from_aliases(&gone).await }
    }
}

fn counted(view: &View, name: &str) -> Result<Option<DomainCounts>, mailcluster_store::ReadError> {
    if view.domain(name)?.is_none() {
        return Ok(None);
    }
    let (mut accounts, mut after) = (0u64, String::new());
    loop {
        let page = view.accounts_by_address(Some(name), &after, PAGE)?;
        accounts += page.len() as u64;
        let Some(last) = page.last() else { break };
        after.clone_from(&last.address);
    }
    let aliases = every_alias(view, |a| !a.tombstone && names::domain_of(&a.address) == name)?.len() as u64;
    Ok(Some(DomainCounts { name: name.to_owned(), accounts, aliases }))
}
