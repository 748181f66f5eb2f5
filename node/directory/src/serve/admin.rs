//! Administration over gRPC.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt, TryStreamExt, stream};
use mailcluster_rpc::{
    admin::v1::{self as pb, admin_server},
    directory::v1::{Record, ScreeningBan},
    store::v1::{SalvageResponse, UndeleteResponse},
};
use mailcluster_types::StoreName;
use tonic::{Request, Response, Status, Streaming};

use super::{AdminAccess, MAX_MESSAGE, admin_form as form};
use crate::{AdminError, DirectoryService, ImportOutcome, NewAccount, StoreDialer, convert, names};

/// Longest wait for a store's confirmation.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Most rows or records of one message of an import.
const MOST_ROWS: usize = 5000;
/// Most records of one import.
const MOST_RECORDS: usize = 20_000_000;

/// Serves administration.
pub struct AdminServer {
    service: DirectoryService,
    access: AdminAccess,
    dialer: Arc<dyn StoreDialer>,
}

type Answer<T> = Result<Response<T>, Status>;
type StreamOf<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl AdminServer {
    /// Its service, ready for a server's routes. `dialer` reaches the stores for traces, queues and rebuilds.
    #[must_use]
    pub fn routes(
        service: DirectoryService,
        access: AdminAccess,
        dialer: Arc<dyn StoreDialer>,
    ) -> tonic::service::Routes {
        let server = admin_server::AdminServer::new(Self { service, access, dialer });
        tonic::service::Routes::new(server.max_decoding_message_size(MAX_MESSAGE))
    }

    /// Who asks, and what.
    async fn admit<T>(&self, request: Request<T>) -> Result<(String, T), Status> {
        let who = self.access.admit(request.metadata(), request.extensions()).await?;
        Ok((who, request.into_inner()))
    }
}

fn answer<T>(result: Result<T, AdminError>) -> Answer<T> {
    Ok(Response::new(result?))
}

fn done(result: Result<(), AdminError>) -> Answer<pb::Done> {
    answer(result.map(|()| pb::Done {}))
}

fn keys(asked: &str, result: Result<Vec<pb::DomainKey>, AdminError>) -> Answer<pb::DomainKeysResponse> {
    let keys = result?;
    answer(names::domain(asked).map(|name| pb::DomainKeysResponse { keys, name }))
}

fn listed<T: Send + 'static>(items: Vec<T>) -> Answer<StreamOf<T>> {
    Ok(Response::new(Box::pin(stream::iter(items.into_iter().map(Ok)))))
}

fn optional(text: &str) -> Option<&str> {
    if text.is_empty() { None } else { Some(text) }
}

fn alias((address, targets): (String, Vec<String>)) -> pb::Alias {
    pb::Alias { address, targets }
}

/// Accounts of a domain page by page, so that a million of them are never in memory together.
fn accounts(service: DirectoryService, asked: pb::ListAccountsRequest) -> StreamOf<pb::Account> {
    let limit =
        if asked.limit == 0 { usize::MAX } else { usize::try_from(asked.limit).unwrap_or(usize::MAX) };
    let start = Some(asked.after);
    let pages = stream::try_unfold((service, start), move |(service, after)| {
        let domain = asked.domain.clone();
        async move {
            let Some(after) = after else { return Ok::<_, Status>(None) };
            let page = service.accounts_page(optional(&domain), &after).await?;
            let accounts = page.accounts.into_iter().map(|a| Ok(form::account(a, Vec::new())));
            Ok(Some((stream::iter(accounts), (service, page.next))))
        }
    });
    Box::pin(pages.try_flatten().take(limit))
}

#[tonic::async_trait]
impl admin_server::Admin for AdminServer {
    type ListDomainsStream = StreamOf<pb::Domain>;
    type ListAccountsStream = StreamOf<pb::Account>;
    type ListAliasesStream = StreamOf<pb::Alias>;
    type ListAuditStream = StreamOf<pb::AuditEntry>;
    type ExportRecordsStream = StreamOf<Record>;

    async fn add_domain(&self, request: Request<pb::AddDomainRequest>) -> Answer<pb::Domain> {
        let (who, asked) = self.admit(request).await?;
        let added = self.service.add_domain(&who, &asked.name).await;
        answer(added.map(|name| pb::Domain { name, ..Default::default() }))
    }

    async fn list_domains(
        &self,
        request: Request<pb::ListDomainsRequest>,
    ) -> Answer<Self::ListDomainsStream> {
        self.admit(request).await?;
        let names = self.service.domains().await?;
        listed(names.into_iter().map(|name| pb::Domain { name, ..Default::default() }).collect())
    }

    async fn get_domain(&self, request: Request<pb::GetDomainRequest>) -> Answer<pb::Domain> {
        let (_, asked) = self.admit(request).await?;
        let counts = self.service.domain(&asked.name).await;
        answer(counts.map(|c| pb::Domain { name: c.name, accounts: c.accounts, aliases: c.aliases }))
    }

    async fn delete_domain(&self, request: Request<pb::DeleteDomainRequest>) -> Answer<pb::Done> {
        let (who, asked) = self.admit(request).await?;
        done(self.service.delete_domain(&who, &asked.name, asked.force).await)
    }

    async fn list_domain_keys(
        &self,
        request: Request<pb::DomainKeysRequest>,
    ) -> Answer<pb::DomainKeysResponse> {
        let (_, asked) = self.admit(request).await?;
        keys(&asked.name, self.service.domain_keys(&asked.name).await)
    }

    async fn rotate_domain_keys(
        &self,
        request: Request<pb::DomainKeysRequest>,
    ) -> Answer<pb::DomainKeysResponse> {
        let (who, asked) = self.admit(request).await?;
        keys(&asked.name, self.service.rotate_domain_keys(&who, &asked.name).await)
    }

    async fn activate_domain_keys(
        &self,
        request: Request<pb::DomainKeysRequest>,
    ) -> Answer<pb::DomainKeysResponse> {
        let (who, asked) = self.admit(request).await?;
        keys(&asked.name, self.service.activate_domain_keys(&who, &asked.name).await)
    }

    async fn remove_domain_keys(
        &self,
        request: Request<pb::RemoveDomainKeysRequest>,
    ) -> Answer<pb::DomainKeysResponse> {
        let (who, asked) = self.admit(request).await?;
        keys(&asked.name, self.service.remove_domain_key(&who, &asked.name, &asked.selector).await)
    }

    async fn add_account(&self, request: Request<pb::AddAccountRequest>) -> Answer<pb::Account> {
        let (who, asked) = self.admit(request).await?;
        let new = NewAccount {
            address: asked.address,
            credential: form::credential(asked.credential),
            store: optional(&asked.store).map(Into::into),
            quota_octets: asked.quota_octets,
            wait: Duration::from_millis(asked.wait_ms.into()).min(LONGEST_WAIT),
        };
        let added = self.service.add_account(&who, new).await;
        answer(added.map(|a| form::account(a, Vec::new())))
    }

    async fn list_accounts(
        &self,
        request: Request<pb::ListAccountsRequest>,
    ) -> Answer<Self::ListAccountsStream> {
        let (_, asked) = self.admit(request).await?;
        if let Some(domain) = optional(&asked.domain) {
            self.service.domain_exists(domain).await?;
        }
        Ok(Response::new(accounts(self.service.clone(), asked)))
    }

    async fn get_account(&self, request: Request<pb::GetAccountRequest>) -> Answer<pb::Account> {
        let (_, asked) = self.admit(request).await?;
        let found = self.service.account(&asked.address).await;
        answer(found.map(|(account, aliases)| form::account(account, aliases)))
    }

    async fn delete_account(&self, request: Request<pb::DeleteAccountRequest>) -> Answer<pb::Done> {
        let (who, asked) = self.admit(request).await?;
        done(self.service.delete_account(&who, &asked.address).await)
    }

    async fn set_password(&self, request: Request<pb::SetPasswordRequest>) -> Answer<pb::Account> {
        let (who, asked) = self.admit(request).await?;
        let credential = form::credential(asked.credential);
        let changed = self.service.set_credential(&who, &asked.address, credential).await;
        answer(changed.map(|a| form::account(a, Vec::new())))
    }

    async fn set_suspended(&self, request: Request<pb::SetSuspendedRequest>) -> Answer<pb::Account> {
        let (who, asked) = self.admit(request).await?;
        let changed = self.service.set_suspended(&who, &asked.address, asked.suspended).await;
        answer(changed.map(|a| form::account(a, Vec::new())))
    }

    async fn set_quota(&self, request: Request<pb::SetQuotaRequest>) -> Answer<pb::Account> {
        let (who, asked) = self.admit(request).await?;
        let changed = self.service.set_quota(&who, &asked.address, asked.quota_octets).await;
        answer(changed.map(|a| form::account(a, Vec::new())))
    }

    async fn import_accounts(
        &self,
        request: Request<Streaming<pb::ImportAccountsRequest>>,
    ) -> Answer<pb::ImportAccountsResponse> {
        let (who, mut messages) = self.admit(request).await?;
        let mut outcome = ImportOutcome::default();
        while let Some(message) = messages.message().await? {
            if message.rows.len() > MOST_ROWS {
                return Err(Status::invalid_argument(format!("at most {MOST_ROWS} rows in a message")));
            }
            let rows = message.rows.into_iter().map(form::import_row).collect();
            self.service.import_accounts(&who, rows, &mut outcome).await?;
        }
        Ok(Response::new(form::import_outcome(outcome)))
    }

    async fn issue_ticket(
        &self,
        request: Request<pb::IssueTicketRequest>,
    ) -> Answer<pb::IssueTicketResponse> {
        let (who, asked) = self.admit(request).await?;
        let issued = self.service.issue_ticket(&who, &asked.address, &asked.purpose).await;
        answer(issued.map(form::ticket))
    }

    async fn add_alias(&self, request: Request<pb::AddAliasRequest>) -> Answer<pb::Alias> {
        let (who, asked) = self.admit(request).await?;
        self.service.add_alias(&who, &asked.address, &asked.targets, asked.replace).await?;
        answer(self.service.alias(&asked.address).await.map(alias))
    }

    async fn list_aliases(
        &self,
        request: Request<pb::ListAliasesRequest>,
    ) -> Answer<Self::ListAliasesStream> {
        let (_, asked) = self.admit(request).await?;
        let aliases = self.service.aliases(optional(&asked.domain)).await?;
        listed(aliases.into_iter().map(alias).collect())
    }

    async fn get_alias(&self, request: Request<pb::GetAliasRequest>) -> Answer<pb::Alias> {
        let (_, asked) = self.admit(request).await?;
        answer(self.service.alias(&asked.address).await.map(alias))
    }

    async fn delete_alias(&self, request: Request<pb::DeleteAliasRequest>) -> Answer<pb::Done> {
        let (who, asked) = self.admit(request).await?;
        done(self.service.delete_alias(&who, &asked.address).await)
    }

    async fn rebuild(&self, request: Request<pb::RebuildRequest>) -> Answer<pb::MergeResponse> {
        let (who, asked) = self.admit(request).await?;
        let counts = self.service.rebuild(&who, self.dialer.as_ref(), asked.partial).await;
        answer(counts.map(form::merge_counts))
    }

    async fn export_records(
        &self,
        request: Request<pb::ExportRecordsRequest>,
    ) -> Answer<Self::ExportRecordsStream> {
        let (who, _) = self.admit(request).await?;
        self.service.note(&who, "directory export, password hashes included").await?;
        Ok(Response::new(Box::pin(self.service.export_records().map(|record| match record {
            Ok(record) => Ok(convert::record_to_pb(record)),
            Err(error) => Err(Status::unavailable(error.to_string())),
        }))))
    }

    async fn import_records(
        &self,
        request: Request<Streaming<pb::ImportRecordsRequest>>,
    ) -> Answer<pb::MergeResponse> {
        let (who, mut messages) = self.admit(request).await?;
        let mut records = Vec::new();
        while let Some(message) = messages.message().await? {
            for record in message.records {
                records.push(convert::record_from_pb(record)?);
            }
            if records.len() > MOST_RECORDS {
                return Err(Status::invalid_argument("too many records"));
            }
        }
        answer(self.service.import_records(&who, records).await.map(form::merge_counts))
    }

    async fn get_status(&self, request: Request<pb::GetStatusRequest>) -> Answer<pb::Status> {
        self.admit(request).await?;
        answer(self.service.status(self.dialer.as_ref()).await)
    }

    async fn note_request(&self, request: Request<pb::NoteRequestRequest>) -> Answer<pb::Done> {
        let (who, asked) = self.admit(request).await?;
        done(self.service.note_request(&who, &asked.what).await)
    }

    async fn list_audit(&self, request: Request<pb::ListAuditRequest>) -> Answer<Self::ListAuditStream> {
        let (_, asked) = self.admit(request).await?;
        let limit = if asked.limit == 0 { 100 } else { asked.limit.min(10_000) };
        let entries = self.service.audit_log(limit as usize).await?;
        listed(entries.into_iter().map(|(at, who, what)| pb::AuditEntry { at, who, what }).collect())
    }

    async fn trace(&self, request: Request<pb::TraceRequest>) -> Answer<pb::TraceResponse> {
        let (_, asked) = self.admit(request).await?;
        answer(self.service.trace(self.dialer.as_ref(), asked).await)
    }

    async fn list_queue(&self, request: Request<pb::ListQueueRequest>) -> Answer<pb::ListQueueResponse> {
        let (_, asked) = self.admit(request).await?;
        answer(self.service.queues(self.dialer.as_ref(), asked).await)
    }

    async fn change_queue(
        &self,
        request: Request<pb::ChangeQueueRequest>,
    ) -> Answer<pb::ChangeQueueResponse> {
        let (who, asked) = self.admit(request).await?;
        answer(self.service.change_queues(&who, self.dialer.as_ref(), asked).await)
    }

    async fn list_bans(&self, request: Request<pb::ListBansRequest>) -> Answer<pb::ListBansResponse> {
        self.admit(request).await?;
        answer(self.service.list_bans())
    }

    async fn add_ban(&self, request: Request<pb::AddBanRequest>) -> Answer<ScreeningBan> {
        let (who, asked) = self.admit(request).await?;
        answer(self.service.add_ban(&who, &asked).await)
    }

    async fn remove_ban(&self, request: Request<pb::RemoveBanRequest>) -> Answer<pb::Done> {
        let (who, asked) = self.admit(request).await?;
        done(self.service.remove_ban(&who, &asked.network).await)
    }

    async fn salvage(&self, request: Request<Streaming<pb::SalvageRequest>>) -> Answer<SalvageResponse> {
        let (who, mut pieces) = self.admit(request).await?;
        let first = pieces.message().await?.unwrap_or_default();
        let rest = pieces.map(|piece| piece.map(|piece| piece.octets));
        let octets = stream::iter([Ok(first.octets)]).chain(rest);
        let store = StoreName::from(first.store);
        self.service.salvage(&who, self.dialer.as_ref(), &store, Box::pin(octets)).await.map(Response::new)
    }

    async fn undelete(&self, request: Request<pb::UndeleteRequest>) -> Answer<UndeleteResponse> {
        let (who, asked) = self.admit(request).await?;
        self.service.undelete(&who, self.dialer.as_ref(), asked).await.map(Response::new)
    }
}
