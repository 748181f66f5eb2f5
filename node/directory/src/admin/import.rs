//! Importing accounts in bulk.

use std::collections::{HashMap, HashSet};

use futures::{StreamExt, TryStreamExt, stream};
use mailcluster_auth::StoredHash;
use mailcluster_store::{Account, View};
use mailcluster_types::{AccountId, StoreName};

use super::accounts::{Credential, choose, is_taken};
use crate::{AdminError, DirectoryService, StoreLoad, names, service::next_generation};

/// Failures that are told one by one.
const MOST_ERRORS: usize = 100;
/// Passwords hashed at the same time; the pool runs as many as there are cores.
const HASHING: usize = 8;

/// One account of an import.
#[derive(Clone)]
pub struct ImportRow {
    /// Its line in the file.
    pub line: u64,
    /// Its address.
    pub address: String,
    /// A hash when it looks like one, else a password in clear; empty: no password login.
    pub credential: String,
    /// Limit in octets; 0: none.
    pub quota_octets: u64,
    /// Its store; `None`: chosen here.
    pub store: Option<StoreName>,
}

/// What became of an import.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImportOutcome {
    /// Accounts made (pending until their stores confirm).
    pub added: u64,
    /// Addresses that were taken: left alone.
    pub existing: u64,
    /// Rows that could not be taken.
    pub failed: u64,
    /// The first failures: line, address, reason.
    pub errors: Vec<(u64, String, String)>,
    /// Accounts by store: counted once, at the first batch, since counting takes as long as there are accounts.
    counts: Option<HashMap<StoreName, u64>>,
}

impl ImportOutcome {
    fn fail(&mut self, line: u64, address: &str, reason: impl ToString) {
        self.failed += 1;
        if self.errors.len() < MOST_ERRORS {
            self.errors.push((line, address.to_owned(), reason.to_string()));
        }
    }
}

/// A row whose text is in order.
struct Row {
    line: u64,
    key: String,
    domain: String,
    credential: Credential,
    quota_octets: u64,
    store: Option<StoreName>,
}

impl DirectoryService {
    /// Makes the accounts of these rows, in one batch; `outcome` is added to. Rows that are wrong are passed over.
    ///
    /// # Errors
    /// When the directory cannot be read or written; rows before were imported, and a second run passes over them.
    pub async fn import_accounts(
        &self,
        who: &str,
        rows: Vec<ImportRow>,
        outcome: &mut ImportOutcome,
    ) -> Result<(), AdminError> {
        let rows: Vec<Row> = rows.into_iter().filter_map(|row| checked(row, outcome)).collect();
        let mut hashed: Vec<(Row, String)> = Vec::with_capacity(rows.len());
        let mut hashing = stream::iter(rows)
            .map(|row| async move {
                let hash = self.stored_form(row.credential.clone()).await;
                (row, hash)
            })
            .buffered(HASHING);
        while let Some((row, hash)) = hashing.next().await {
            match hash {
                Ok(hash) => hashed.push((row, hash)),
                Err(error @ AdminError::Unavailable(_)) => return Err(error),
                Err(error) => outcome.fail(row.line, &row.key, error),
            }
        }
        drop(hashing);
        let _writing = self.writing().await;
        let loads = self.config().stores.borrow().clone();
        let mut so_far = std::mem::take(outcome);
        let planned = self.look(move |view, _| plan(view, hashed, &loads, &mut so_far).map(|p| (p, so_far)));
        let accounts;
        (accounts, *outcome) = planned.await?;
        let accounts = accounts.map_err(|e| AdminError::Unavailable(e.to_string()))?;
        if accounts.is_empty() {
            return Ok(());
        }
        let what = format!("account import of {}", accounts.len());
        let put = async { Ok(self.store().put_accounts(accounts).await?.acknowledge()?) };
        outcome.added += self.change(who, what, put).await?;
        Ok(())
    }

    /// Puts accounts in pages; answers how many were new or newer.
    pub(super) async fn put_accounts(&self, accounts: Vec<Account>) -> Result<u64, AdminError> {
        let pages: Vec<Vec<Account>> = accounts.chunks(super::PAGE).map(<[Account]>::to_vec).collect();
        let puts = stream::iter(pages).then(|page| async move {
            Ok::<u64, AdminError>(self.store().put_accounts(page).await?.acknowledge()?)
        });
        puts.try_fold(0, |sum, n| async move { Ok(sum + n) }).await
    }
}

fn checked(row: ImportRow, outcome: &mut ImportOutcome) -> Option<Row> {
    let address = match names::address(&row.address) {
        Ok(address) => address,
        Err(error) => {
            outcome.fail(row.line, &row.address, error);
            return None;
        }
    };
    let credential = match row.credential.as_str() {
        "" => Credential::None,
        text if StoredHash::looks_like(text) => Credential::Hash(row.credential),
        _ => Credential::Password(row.credential),
    };
    Some(Row {
        line: row.line,
        key: address.key(),
        domain: address.domain().to_owned(),
        credential,
        quota_octets: row.quota_octets,
        store: row.store,
    })
}

type Planned = Result<Vec<Account>, std::io::Error>;

/// Which rows become which accounts, against what is here now.
fn plan(
    view: &View,
    rows: Vec<(Row, String)>,
    loads: &[StoreLoad],
    outcome: &mut ImportOutcome,
) -> Result<Planned, mailcluster_store::ReadError> {
    let mut counts = match outcome.counts.take() {
        Some(counts) => counts,
        None => view.accounts_per_store()?.into_iter().collect(),
    };
    let mut seen = HashSet::new();
    let mut accounts = Vec::with_capacity(rows.len());
    let generation = next_generation(0);
    for (row, password_hash) in rows {
        match is_taken(view, &row.key, &row.domain)? {
            Some(AdminError::Exists(_)) => {
                outcome.existing += 1;
                continue;
            }
            Some(error) => {
                outcome.fail(row.line, &row.key, error);
                continue;
            }
            None if !seen.insert(row.key.clone()) => {
                outcome.fail(row.line, &row.key, "the address stands in the file twice");
                continue;
            }
            None => {}
        }
        let store = match choose(loads, row.store, &counts) {
            Ok(store) => store,
            Err(error) => {
                outcome.fail(row.line, &row.key, error);
                continue;
            }
        };
        *counts.entry(store.clone()).or_default() += 1;
        let id = match AccountId::random() {
            Ok(id) => id,
            Err(error) => return Ok(Err(error)),
        };
        accounts.push(Account {
            id,
            address: row.key,
            store,
            generation,
            password_hash,
            quota_octets: row.quota_octets,
            used_octets: 0,
            suspended: false,
            pending: true,
            tombstone: false,
        });
    }
    outcome.counts = Some(counts);
    Ok(Ok(accounts))
}
