//! What administrators do. Every change is written to the audit log before it is made, with who made it; one that
//! then fails is written down as failed too.

mod accounts;
mod aliases;
mod bans;
mod domains;
mod fan_out;
mod import;
mod keys;
mod queues;
mod records;
mod salvage;
mod tickets;
mod undelete;

use mailcluster_store::{Account, Alias, Domain, Receipt, Refusal, View, WriteError};

use crate::{AdminError, DirectoryService, service};

pub use accounts::{AccountPage, Credential, NewAccount};
pub use domains::DomainCounts;
pub use import::{ImportOutcome, ImportRow};
pub(crate) use records::MergeCounts;
pub(crate) use tickets::VALID as TICKET_VALID;

/// How many records are read or put at a time.
pub(crate) const PAGE: usize = 1000;
/// Longest note of a request to the operator, in octets.
const LONGEST_NOTE: usize = 1000;

impl DirectoryService {
    /// Notes who changes what. A change whose note cannot be kept is not made.
    async fn audited(&self, who: &str, what: String) -> Result<(), AdminError> {
        tracing::info!(who, what, "directory change");
        let noted = self.store().audit(service::unix_seconds(), who.to_owned(), what).await?;
        Ok(noted.acknowledge()?)
    }

    /// Notes who changes what, and makes the change. When that fails, the note above it would tell of something that
    /// did not happen: a second one says so.
    async fn change<T>(
        &self,
        who: &str,
        what: String,
        change: impl Future<Output = Result<T, AdminError>>,
    ) -> Result<T, AdminError> {
        self.audited(who, what.clone()).await?;
        let made = change.await;
        if let Err(error) = &made
            && let Err(unnoted) = self.audited(who, format!("failed: {what}: {error}")).await
        {
            tracing::warn!(who, what, %error, %unnoted, "a change failed, and the audit log could not be told");
        }
        made
    }

    /// Notes what was done without a change.
    pub(crate) async fn note(&self, who: &str, what: &str) -> Result<(), AdminError> {
        self.audited(who, what.to_owned()).await
    }

    /// Notes what an administrator asks of the operator, which knows no audit log of its own.
    ///
    /// # Errors
    /// [`AdminError::Invalid`] when it is not one short line.
    pub async fn note_request(&self, who: &str, what: &str) -> Result<(), AdminError> {
        if what.is_empty() || what.len() > LONGEST_NOTE || what.contains(char::is_control) {
            let text = format!("a note is one line of at most {LONGEST_NOTE} octets");
            return Err(AdminError::Invalid(text));
        }
        self.audited(who, format!("asked of the operator: {what}")).await
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mailcluster_store::{Identity, OpenGate, Replica, StoreKind};
    use mailcluster_types::{ClusterId, ReplicaId};
    use tokio::sync::watch;

    use super::*;
    use crate::DirectoryConfig;

    fn service(dir: &std::path::Path) -> DirectoryService {
        let identity = Identity {
            cluster: ClusterId(1),
            store: "t-directory".into(),
            replica: ReplicaId(1),
            kind: StoreKind::Directory,
        };
        let replica = Replica::initialise(dir, &identity).unwrap();
        let store = replica.serve(1, &[identity.replica], Arc::new(OpenGate)).unwrap();
        let (_, loads) = watch::channel(Vec::new());
        DirectoryService::new(store, DirectoryConfig::new("mail.example.org", loads)).unwrap()
    }

    #[tokio::test]
    async fn the_audit_log_tells_what_was_made_and_what_failed() {
        let dir = tempfile::tempdir().unwrap();
        let service = service(dir.path());
        let refused = AdminError::Refused("no room".into());
        for (outcome, expected) in [
            (Ok(7), vec!["account import of 7"]),
            (Err(refused.clone()), vec!["failed: account import of 7: no room", "account import of 7"]),
        ] {
            let before = service.audit_log(100).await.unwrap().len();
            let made = service.change("ann", "account import of 7".into(), async { outcome.clone() }).await;
            assert_eq!(made, outcome);
            let log = service.audit_log(100).await.unwrap();
            let news: Vec<_> = log[..log.len() - before].iter().map(|(_, _, what)| what.as_str()).collect();
            assert_eq!(news, expected);
            assert!(log.iter().all(|(_, who, _)| who == "ann"));
        }
    }

    #[tokio::test]
    async fn a_request_to_the_operator_is_noted_as_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let service = service(dir.path());
        for (what, is_taken) in [
            ("failover demo-0 to node2", true),
            ("", false),
            ("failover demo-0\nann account delete", false),
            (&"x".repeat(1001), false),
        ] {
            assert_eq!(service.note_request("ann", what).await.is_ok(), is_taken, "{what:?}");
        }
        let log = service.audit_log(100).await.unwrap();
        let whats: Vec<_> = log.iter().map(|(_, _, what)| what.as_str()).collect();
        assert_eq!(whats, ["asked of the operator: failover demo-0 to node2"]);
    }
}
