//! Moving all of a directory's records: out of it, into it, and back from the stores.

use futures::{StreamExt, TryStreamExt, future, stream};
use mailcluster_store::{DirectoryRecord, Refusal, WriteError};
use mailcluster_types::{StoreName, Unavailable};

use crate::{
    AdminError, DirectoryService, Merged, StoreDialer, merge,
    store_admin::{RecordStream, every_record},
};

/// Records put at the same time, one by one (accounts go in batches).
const TOGETHER: usize = 64;

/// What a merge did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct MergeCounts {
    pub(crate) accounts: u64,
    pub(crate) domains: u64,
    pub(crate) aliases: u64,
    pub(crate) unchanged: u64,
    pub(crate) conflicts: Vec<String>,
    pub(crate) unreachable: Vec<StoreName>,
}

impl DirectoryService {
    /// Every record, tombstones too.
    #[must_use]
    pub fn export_records(&self) -> RecordStream {
        Box::pin(every_record(self.store().clone()))
    }

    /// Puts each record that is newer than what is here, and tells of conflicts.
    pub(crate) async fn import_records(
        &self,
        who: &str,
        records: Vec<DirectoryRecord>,
    ) -> Result<MergeCounts, AdminError> {
        let _writing = self.writing().await;
        let own: Vec<_> = self.export_records().try_collect().await?;
        self.put_merged(who, "directory import", merge(own, records)).await
    }

    /// Takes the records of every store and puts the newest of each. A store that cannot be reached stops it,
    /// unless `partial`: then what is not found is not known to be unknown, until a rebuild asks every store.
    pub(crate) async fn rebuild(
        &self,
        who: &str,
        dialer: &dyn StoreDialer,
        partial: bool,
    ) -> Result<MergeCounts, AdminError> {
        let stores = dialer.stores()?;
        let mut told = Vec::new();
        let mut unreachable = Vec::new();
        for store in stores {
            match records_of(dialer, &store).await {
                Ok(records) => told.extend(records),
                Err(error) if partial => {
                    tracing::warn!(%store, %error, "store left out of the rebuild");
                    unreachable.push(store);
                }
                Err(error) => {
                    return Err(AdminError::Unavailable(format!(
                        "store {store} cannot be asked ({error}); bring it back, or rebuild without it (--partial)"
                    )));
                }
            }
        }
        let _writing = self.writing().await;
        let own: Vec<_> = self.export_records().try_collect().await?;
        let held = self.look(|view, _| view.gaps()).await?;
        // Before the domains: an address of a store that was left out must not be unknown for a moment. And the other
        // way round when all were asked.
        if !unreachable.is_empty() && held != unreachable {
            self.store().put_gaps(unreachable.clone()).await?.acknowledge()?;
        }
        let counts = self.put_merged(who, "directory rebuild", merge(own, told)).await?;
        if unreachable.is_empty() && !held.is_empty() {
            self.store().put_gaps(Vec::new()).await?.acknowledge()?;
        }
        Ok(MergeCounts { unreachable, ..counts })
    }

    async fn put_merged(&self, who: &str, what: &str, merged: Merged) -> Result<MergeCounts, AdminError> {
        let all = merged.accounts.len() + merged.aliases.len() + merged.domains.len();
        let put = async {
            let accounts = self.put_accounts(merged.accounts).await?;
            let aliases = stream::iter(merged.aliases);
            let aliases =
                count(aliases.map(|alias| async { newer(self.store().put_alias(alias).await) })).await?;
            let domains = stream::iter(merged.domains);
            let domains =
                count(domains.map(|domain| async { newer(self.store().put_domain(domain).await) })).await?;
            Ok((accounts, aliases, domains))
        };
        let what = format!("{what} of {all} records");
        let (accounts, aliases, domains) = self.change(who, what, put).await?;
        let unchanged = (all as u64).saturating_sub(accounts + aliases + domains);
        let conflicts = merged.conflicts;
        Ok(MergeCounts { accounts, domains, aliases, unchanged, conflicts, unreachable: Vec::new() })
    }
}

async fn records_of(
    dialer: &dyn StoreDialer,
    store: &StoreName,
) -> Result<Vec<DirectoryRecord>, Unavailable> {
    dialer.dial(store).await?.records().await?.try_collect().await
}

fn newer(put: Result<mailcluster_store::Receipt<()>, WriteError>) -> Result<bool, AdminError> {
    match put {
        Ok(receipt) => Ok(receipt.acknowledge().map(|()| true)?),
        Err(WriteError::Refused(Refusal::Stale)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

async fn count<F>(puts: impl stream::Stream<Item = F>) -> Result<u64, AdminError>
where
    F: Future<Output = Result<bool, AdminError>>,
{
    let put = puts.buffer_unordered(TOGETHER);
    put.try_fold(0, |sum, is_newer| future::ok(sum + u64::from(is_newer))).await
}
