//! Between administration's gRPC messages and what the directory takes and gives.

use mailcluster_auth::StoredHash;
use mailcluster_rpc::{admin::v1 as pb, directory::v1::Secret};
use mailcluster_store::Account;
use mailcluster_types::AccountStatus;

use crate::{
    Credential, ImportOutcome, ImportRow,
    admin::{MergeCounts, TICKET_VALID},
    lookup,
};

pub(super) fn account(account: Account, aliases: Vec<String>) -> pb::Account {
    let state = match lookup::status(&account) {
        AccountStatus::Active => pb::AccountState::Active,
        AccountStatus::Pending => pb::AccountState::Pending,
        AccountStatus::Suspended => pb::AccountState::Suspended,
    };
    let scheme = StoredHash::parse(&account.password_hash).map_or("", |h| h.scheme());
    pb::Account {
        id: account.id.to_string(),
        address: account.address,
        store: account.store.to_string(),
        state: state.into(),
        quota_octets: account.quota_octets,
        generation: account.generation,
        has_password: !account.password_hash.is_empty(),
        password_scheme: scheme.to_owned(),
        aliases,
    }
}

pub(super) fn credential(credential: Option<pb::Credential>) -> Credential {
    use pb::credential::Kind;
    match credential.and_then(|c| c.kind) {
        Some(Kind::Password(secret)) => Credential::Password(secret.value),
        Some(Kind::Hash(secret)) => Credential::Hash(secret.value),
        None => Credential::None,
    }
}

pub(super) fn ticket((ticket, account): (String, Account)) -> pb::IssueTicketResponse {
    let valid_seconds = u32::try_from(TICKET_VALID.as_secs()).unwrap_or(u32::MAX);
    pb::IssueTicketResponse { ticket: Some(ticket.into()), valid_seconds, address: account.address }
}

pub(super) fn import_row(row: pb::ImportRow) -> ImportRow {
    ImportRow {
        line: row.line,
        address: row.address,
        credential: row.credential.map_or_else(String::new, |Secret { value }| value),
        quota_octets: row.quota_octets,
        store: if row.store.is_empty() { None } else { Some(row.store.into()) },
    }
}

pub(super) fn import_outcome(outcome: ImportOutcome) -> pb::ImportAccountsResponse {
    let errors = outcome.errors.into_iter();
    pb::ImportAccountsResponse {
        added: outcome.added,
        existing: outcome.existing,
        failed: outcome.failed,
        errors: errors.map(|(line, address, reason)| pb::ImportError { line, address, reason }).collect(),
    }
}

pub(super) fn merge_counts(counts: MergeCounts) -> pb::MergeResponse {
    pb::MergeResponse {
        accounts: counts.accounts,
        domains: counts.domains,
        aliases: counts.aliases,
        unchanged: counts.unchanged,
        conflicts: counts.conflicts,
        unreachable_stores: counts.unreachable.iter().map(ToString::to_string).collect(),
    }
}
