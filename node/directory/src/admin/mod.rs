//! What administrators do. Every change is written to the audit log before it is made, with who made it.

mod accounts;
mod aliases;
mod domains;
mod fan_out;
mod import;
mod records;

use mailcluster_store::{Account, Alias, Domain, Receipt, Refusal, View, WriteError};

use crate::{AdminError, DirectoryService, service};

pub use accounts::{AccountPage, Credential, NewAccount};
pub use domains::DomainCounts;
pub use import::{ImportOutcome, ImportRow};
pub(crate) use records::MergeCounts;

/// How many records are read or put at a time.
pub(crate) const PAGE: usize = 1000;

impl DirectoryService {
    /// Notes who changes what. A change whose note cannot be kept is not made.
    async fn audited(&self, who: &str, what: String) -> Result<(), AdminError> {
        tracing::info!(who, what, "directory change");
        let noted = self.store().audit(service::unix_seconds(), who.to_owned(), what).await?;
        Ok(noted.acknowledge()?)
    }

    /// Notes what was done without a change.
    pub(crate) async fn note(&self, who: &str, what: &str) -> Result<(), AdminError> {
        self.audited(who, what.to_owned()).await
    }

    async fn put_account(&self, account: Account) -> Result<(), AdminError> {
        Ok(self.store().put_account(account).await?.acknowledge()?)
    }

    async fn put_domain(&self, domain: Domain) -> Result<(), AdminError> {
        Ok(self.store().put_domain(domain).await?.acknowledge()?)
    }

    /// Puts an alias; when a newer tombstone of it is here (the clock went back), above that one.
    async fn put_alias(&self, alias: Alias) -> Result<(), AdminError> {
        match self.store().put_alias(alias.clone()).await {
            Err(WriteError::Refused(Refusal::Stale)) => {
                let address = alias.address.clone();
                let held = self.look(move |view, _| every_alias(view, |a| a.address == address)).await?;
                let last = held.iter().map(|a| a.generation).max().unwrap_or(alias.generation);
                let generation = last.saturating_add(1);
                Ok(self.store().put_alias(Alias { generation, ..alias }).await?.acknowledge()?)
            }
            put => Ok(put.and_then(acknowledged)?),
        }
    }

    /// The audit log, newest first: (seconds since 1970, who, what).
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub async fn audit_log(&self, limit: usize) -> Result<Vec<(i64, String, String)>, AdminError> {
        Ok(self.look(move |view, _| view.audit_log(limit)).await?)
    }
}

fn acknowledged<T>(receipt: Receipt<T>) -> Result<T, WriteError> {
    receipt.acknowledge().map_err(|_| WriteError::Unknown)
}

/// Every alias record, tombstones too, that `wanted` says yes to.
pub(crate) fn every_alias(
    view: &View,
    wanted: impl Fn(&Alias) -> bool,
) -> Result<Vec<Alias>, mailcluster_store::ReadError> {
    let (mut found, mut after) = (Vec::new(), String::new());
    loop {
        let page = view.aliases(&after, PAGE)?;
        let Some(last) = page.last() else { return Ok(found) };
        after.clone_from(&last.address);
        found.extend(page.into_iter().filter(|a| wanted(a)));
    }
}
