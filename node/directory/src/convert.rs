//! Between records and their gRPC form. What came over the network is checked here, once.

use mailcluster_rpc::directory::v1 as pb;
use mailcluster_store::{Account, Alias, DirectoryRecord, Domain, HistoryEvent, QueueItem};
use mailcluster_types::{AccountId, AccountStatus, ResolvedAccount};
use tonic::Status;

use crate::keyring;

/// Most accounts an alias record may name.
const MOST_ACCOUNTS: usize = 10_000;
/// Longest text of a record.
const LONGEST: usize = 1024;

pub(crate) fn record_to_pb(record: DirectoryRecord) -> pb::Record {
    use pb::record::Record;
    let record = match record {
        DirectoryRecord::Account(account) => Record::Account(account_to_pb(account)),
        DirectoryRecord::Domain(Domain { name, generation, tombstone, keys }) => {
            Record::Domain(pb::Domain { name, generation, tombstone, keys: keyring::to_pb(&keys) })
        }
        DirectoryRecord::Alias(alias) => Record::Alias(pb::Alias {
            address: alias.address,
            accounts: alias.accounts.iter().map(|id| id.to_bytes().to_vec()).collect(),
            generation: alias.generation,
            tombstone: alias.tombstone,
        }),
    };
    pb::Record { record: Some(record) }
}

fn account_to_pb(account: Account) -> pb::Account {
    pb::Account {
        id: account.id.to_bytes().to_vec(),
        address: account.address,
        store: account.store.to_string(),
        generation: account.generation,
        password_hash: Some(account.password_hash.into()),
        quota_octets: account.quota_octets,
        suspended: account.suspended,
        pending: account.pending,
        tombstone: account.tombstone,
    }
}

/// # Errors
/// `INVALID_ARGUMENT` when a field is missing or out of bounds.
#[allow(clippy::result_large_err, reason = "what tonic handlers return")]
pub(crate) fn record_from_pb(record: pb::Record) -> Result<DirectoryRecord, Status> {
    use pb::record::Record;
    match record.record.ok_or_else(|| malformed("a record is of an unknown kind"))? {
        Record::Account(account) => {
            let hash = account.password_hash.unwrap_or_default().value;
            short(&[&account.address, &account.store, &hash])?;
            Ok(DirectoryRecord::Account(Account {
                id: account_id(&account.id)?,
                address: account.address,
                store: account.store.into(),
                generation: account.generation,
                password_hash: hash,
                quota_octets: account.quota_octets,
                used_octets: 0,
                suspended: account.suspended,
                pending: account.pending,
                tombstone: account.tombstone,
            }))
        }
        Record::Domain(domain) => {
            short(&[&domain.name])?;
            let pb::Domain { name, generation, tombstone, keys } = domain;
            let keys = keyring::from_pb(keys).map_err(|_| malformed("a domain's keys are malformed"))?;
            Ok(DirectoryRecord::Domain(Domain { name, generation, tombstone, keys }))
        }
        Record::Alias(alias) => {
            short(&[&alias.address])?;
            if alias.accounts.len() > MOST_ACCOUNTS {
                return Err(malformed("an alias names too many accounts"));
            }
            Ok(DirectoryRecord::Alias(Alias {
                address: alias.address,
                accounts: alias.accounts.iter().map(|id| account_id(id)).collect::<Result<_, _>>()?,
                generation: alias.generation,
                tombstone: alias.tombstone,
            }))
        }
    }
}

#[allow(clippy::result_large_err, reason = "what tonic handlers return")]
fn short(texts: &[&str]) -> Result<(), Status> {
    if texts.iter().any(|t| t.len() > LONGEST) { Err(malformed("a record is overlong")) } else { Ok(()) }
}

#[allow(clippy::result_large_err, reason = "what tonic handlers return")]
pub(crate) fn account_id(bytes: &[u8]) -> Result<AccountId, Status> {
    AccountId::from_slice(bytes).ok_or_else(|| malformed("an account id has 16 bytes"))
}

fn malformed(what: &str) -> Status {
    Status::invalid_argument(what)
}

pub(crate) fn resolved_to_pb(account: &ResolvedAccount, generation: u64) -> pb::ResolvedAccount {
    let status = match account.status {
        AccountStatus::Active => pb::AccountStatus::Active,
        AccountStatus::Pending => pb::AccountStatus::Pending,
        AccountStatus::Suspended => pb::AccountStatus::Suspended,
    };
    pb::ResolvedAccount {
        id: account.id.to_bytes().to_vec(),
        address: account.address.to_string(),
        store: account.store.to_string(),
        status: status.into(),
        generation,
    }
}

/// `None` when a field is missing or of a kind that is not known here: the answer cannot be used.
pub(crate) fn resolved_from_pb(account: pb::ResolvedAccount) -> Option<ResolvedAccount> {
    let status = match pb::AccountStatus::try_from(account.status).ok()? {
        pb::AccountStatus::Active => AccountStatus::Active,
        pb::AccountStatus::Pending => AccountStatus::Pending,
        pb::AccountStatus::Suspended => AccountStatus::Suspended,
        pb::AccountStatus::Unspecified => return None,
    };
    Some(ResolvedAccount {
        id: AccountId::from_slice(&account.id)?,
        address: account.address.parse().ok()?,
        store: account.store.into(),
        status,
    })
}

pub(crate) fn history_to_pb(event: HistoryEvent) -> mailcluster_rpc::store::v1::HistoryEvent {
    mailcluster_rpc::store::v1::HistoryEvent {
        at: event.at,
        delivery: event.delivery.to_string(),
        event: event.event,
        recipient: event.recipient,
        detail: event.detail,
    }
}

pub(crate) fn queue_to_pb(item: QueueItem) -> mailcluster_rpc::store::v1::QueueItem {
    let recipients = item.recipients.into_iter().map(|r| mailcluster_rpc::store::v1::QueueRecipient {
        address: r.address,
        store: r.store.map(|s| s.to_string()).unwrap_or_default(),
        attempts: r.attempts,
        next_attempt: r.next_attempt,
        last_error: r.last_error,
        held: r.held,
        noticed: r.noticed,
        params: r.params,
        returned: r.returned,
    });
    mailcluster_rpc::store::v1::QueueItem {
        delivery: item.delivery.to_string(),
        sender: item.sender,
        queued_at: item.queued_at,
        size: item.size,
        recipients: recipients.collect(),
        params: item.params,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_the_wire() {
        let account = Account {
            id: AccountId(7),
            address: "a@b.c".into(),
            store: "s-0".into(),
            generation: 9,
            password_hash: "$argon2id$x".into(),
            quota_octets: 5,
            used_octets: 0,
            suspended: true,
            pending: true,
            tombstone: true,
        };
        let alias =
            Alias { address: "x@b.c".into(), accounts: vec![AccountId(7)], generation: 1, tombstone: false };
        let key = pb::DomainKey { selector: "s".into(), secret: Some("hidden".into()), ..Default::default() };
        let keys = keyring::from_pb(Some(pb::DomainKeys { keys: vec![key] })).unwrap();
        let domain = Domain { name: "b.c".into(), generation: 2, tombstone: false, keys };
        for record in [
            DirectoryRecord::Account(account),
            DirectoryRecord::Alias(alias),
            DirectoryRecord::Domain(domain),
        ] {
            let there = record_to_pb(record.clone());
            assert!(!format!("{there:?}").contains("argon2id"), "no hash in debug output");
            assert!(!format!("{there:?}").contains("hidden"), "no key in debug output");
            assert_eq!(record_from_pb(there).unwrap(), record);
        }
    }

    #[test]
    fn what_is_malformed_is_refused() {
        use pb::record::Record;
        let account = |id: &[u8], address: String| {
            Some(Record::Account(pb::Account { id: id.to_vec(), address, ..Default::default() }))
        };
        for record in [
            None,
            account(&[0; 15], "a@b.c".into()),
            account(&[0; 16], "x".repeat(2000)),
            Some(Record::Alias(pb::Alias { accounts: vec![vec![1]], ..Default::default() })),
        ] {
            assert!(record_from_pb(pb::Record { record }).is_err());
        }
        assert_eq!(resolved_from_pb(pb::ResolvedAccount::default()), None);
    }
}
