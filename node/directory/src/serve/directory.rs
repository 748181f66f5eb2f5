//! Look-up, watch and feed over gRPC.

use std::{net::IpAddr, pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt, stream};
use mailcluster_rpc::directory::v1::{
    self as pb, feed_server, lookup_server, screening_server, watch_server,
};
use mailcluster_store::DirectoryRecord;
use mailcluster_types::{
    Allowance, AuthRequest, ClientInfo, Directory, Located, Resolution, SessionId, StoreName, Unavailable,
};
use tonic::{Request, Response, Status};

use super::{MAX_MESSAGE, PeerCheck, Wish, admit};
use crate::{
    DirectoryFeed, DirectoryService,
    changes::{Batch, Following, follow},
    convert,
    lookup::Whose,
    service::Login,
};

/// An empty invalidation comes at least this often.
pub(crate) const WATCH_HEARTBEAT: Duration = Duration::from_secs(4);
/// Longest address or user name that is looked at, in octets.
const LONGEST: usize = 512;

/// Serves a directory to frontends and backends.
#[derive(Clone)]
pub struct DirectoryServer {
    service: DirectoryService,
    check: PeerCheck,
}

impl DirectoryServer {
    pub(super) fn service(&self) -> &DirectoryService {
        &self.service
    }

    pub(super) fn check(&self) -> &PeerCheck {
        &self.check
    }

    /// Adds its services to a server's routes.
    #[must_use]
    pub fn routes(service: DirectoryService, check: PeerCheck) -> tonic::service::Routes {
        let server = Self { service, check };
        tonic::service::Routes::default()
            .add_service(lookup_server::LookupServer::new(server.clone()))
            .add_service(watch_server::WatchServer::new(server.clone()))
            .add_service(screening(server.clone()))
            .add_service(feed_server::FeedServer::new(server).max_encoding_message_size(MAX_MESSAGE))
    }
}

fn screening(server: DirectoryServer) -> screening_server::ScreeningServer<DirectoryServer> {
    let server = screening_server::ScreeningServer::new(server);
    server.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE)
}

fn unavailable(error: Unavailable) -> Status {
    Status::unavailable(error.0)
}

#[tonic::async_trait]
impl lookup_server::Lookup for DirectoryServer {
    async fn resolve(
        &self,
        request: Request<pb::ResolveRequest>,
    ) -> Result<Response<pb::ResolveResponse>, Status> {
        admit(&self.check, request.extensions(), &Wish::Lookup)?;
        let address = request.into_inner().address;
        let address = address.parse().map_err(|_| Status::invalid_argument("not an address"))?;
        let (answer, accounts) = match self.service.resolved(&address).await? {
            Resolution::Accounts(accounts) => (pb::Answer::Accounts, accounts),
            Resolution::NoSuchMailbox => (pb::Answer::NoSuchMailbox, Vec::new()),
            Resolution::NotLocal => (pb::Answer::NotLocal, Vec::new()),
        };
        let accounts = accounts.iter().map(|a| convert::resolved_to_pb(a, 0)).collect();
        Ok(Response::new(pb::ResolveResponse { answer: answer.into(), accounts }))
    }

    async fn locate(
        &self,
        request: Request<pb::LocateRequest>,
    ) -> Result<Response<pb::LocateResponse>, Status> {
        use pb::locate_response::Place;
        admit(&self.check, request.extensions(), &Wish::Lookup)?;
        let account = convert::account_id(&request.into_inner().account)?;
        let place = match self.service.locate(account).await.map_err(unavailable)? {
            Located::On(store) => Place::Store(store.to_string()),
            Located::Deleted => Place::Deleted(true),
            Located::Unknown => Place::Unknown(true),
        };
        Ok(Response::new(pb::LocateResponse { place: Some(place) }))
    }

    async fn authenticate(
        &self,
        request: Request<pb::AuthenticateRequest>,
    ) -> Result<Response<pb::AuthenticateResponse>, Status> {
        use pb::authenticate_response::Outcome;
        admit(&self.check, request.extensions(), &Wish::Lookup)?;
        let login = self.service.login(&auth_request(request.into_inner())?).await?;
        let mut answer = pb::AuthenticateResponse::default();
        match login {
            Login::Accepted(account, generation) => {
                answer.set_outcome(Outcome::Accepted);
                answer.account = Some(convert::resolved_to_pb(&account, generation));
            }
            Login::Rejected => answer.set_outcome(Outcome::Rejected),
            Login::Throttled(seconds) => {
                answer.set_outcome(Outcome::Throttled);
                answer.wait_seconds = seconds;
            }
        }
        Ok(Response::new(answer))
    }

    async fn may_send_as(
        &self,
        request: Request<pb::MaySendAsRequest>,
    ) -> Result<Response<pb::MaySendAsResponse>, Status> {
        admit(&self.check, request.extensions(), &Wish::Lookup)?;
        let request = request.into_inner();
        let account = convert::account_id(&request.account)?;
        let sender = request.sender.parse().map_err(|_| Status::invalid_argument("not an address"))?;
        let allowed = self.service.may_send_as(account, &sender).await.map_err(unavailable)?;
        Ok(Response::new(pb::MaySendAsResponse { allowed }))
    }

    async fn signing_keys(
        &self,
        request: Request<pb::SigningKeysRequest>,
    ) -> Result<Response<pb::SigningKeysResponse>, Status> {
        admit(&self.check, request.extensions(), &Wish::Lookup)?;
        let domain = request.into_inner().domain;
        if domain.len() > LONGEST {
            return Err(Status::invalid_argument("domain is overlong"));
        }
        let (domain, keys) = self.service.active_keys(&domain).await?;
        Ok(Response::new(pb::SigningKeysResponse { domain, keys }))
    }

    async fn count_sent(
        &self,
        request: Request<pb::CountSentRequest>,
    ) -> Result<Response<pb::CountSentResponse>, Status> {
        use pb::count_sent_response::Verdict;
        admit(&self.check, request.extensions(), &Wish::Lookup)?;
        let request = request.into_inner();
        let account = convert::account_id(&request.account)?;
        let allowance = self.service.count_sent(account, request.recipients).await.map_err(unavailable)?;
        let (verdict, wait_seconds) = match allowance {
            Allowance::Granted => (Verdict::Granted, 0),
            Allowance::Wait(seconds) => (Verdict::Wait, seconds),
            Allowance::Never => (Verdict::Never, 0),
        };
        Ok(Response::new(pb::CountSentResponse { verdict: verdict.into(), wait_seconds }))
    }

    async fn known(&self, request: Request<pb::KnownRequest>) -> Result<Response<pb::KnownResponse>, Status> {
        admit(&self.check, request.extensions(), &Wish::Lookup)?;
        let pb::KnownRequest { aliases, after } = request.into_inner();
        let whose = if aliases { Whose::Aliases } else { Whose::Accounts };
        let page = self.service.known(whose, after).await?;
        let addresses = page.found.into_iter().map(|(key, accounts)| pb::KnownAddress {
            key,
            accounts: accounts.iter().map(|a| convert::resolved_to_pb(a, 0)).collect(),
        });
        Ok(Response::new(pb::KnownResponse { addresses: addresses.collect(), next: page.next }))
    }
}

#[allow(clippy::result_large_err, reason = "what tonic handlers return")]
fn auth_request(request: pb::AuthenticateRequest) -> Result<AuthRequest, Status> {
    let client: IpAddr =
        request.client.parse().map_err(|_| Status::invalid_argument("client is not an address"))?;
    let password = request.password.unwrap_or_default().value;
    if request.user.len() > LONGEST || password.len() > 4 * mailcluster_auth::MAX_PASSWORD {
        return Err(Status::invalid_argument("user or password is overlong"));
    }
    let service = match request.service.as_str() {
        "imap" => "imap",
        "pop3" => "pop3",
        "submission" => "submission",
        _ => "other",
    };
    let unknown = (IpAddr::from([0, 0, 0, 0]), 0).into();
    let client = ClientInfo { remote: (client, 0).into(), local: unknown, tls: None, session: SessionId(0) };
    Ok(AuthRequest { user: request.user, password: Arc::from(password), client, service })
}

#[tonic::async_trait]
impl watch_server::Watch for DirectoryServer {
    type InvalidationsStream = Pin<Box<dyn Stream<Item = Result<pb::Invalidation, Status>> + Send>>;

    async fn invalidations(
        &self,
        request: Request<pb::InvalidationsRequest>,
    ) -> Result<Response<Self::InvalidationsStream>, Status> {
        admit(&self.check, request.extensions(), &Wish::Lookup)?;
        let request = request.into_inner();
        let store = self.service.store();
        if !store.may_read() {
            return Err(Status::unavailable("the directory does not serve"));
        }
        let (epoch, (_, end)) = (store.epoch(), store.committed());
        let known = request.epoch == epoch && request.after <= end;
        let after = if known { request.after } else { end };
        let first = pb::Invalidation { reset: !known, epoch, position: after, ..Default::default() };
        let batches = follow(store.clone(), Following::Everything, after, WATCH_HEARTBEAT);
        let rest = batches.map(|batch| match batch {
            Ok(batch) => Ok(invalidation(batch)),
            Err(error) => Err(Status::unavailable(error.to_string())),
        });
        Ok(Response::new(Box::pin(stream::iter([Ok(first)]).chain(rest))))
    }
}

fn invalidation(batch: Batch) -> pb::Invalidation {
    let mut told = pb::Invalidation { epoch: batch.epoch, position: batch.position, ..Default::default() };
    for record in batch.records {
        match record {
            DirectoryRecord::Account(account) => {
                told.accounts.push(account.id.to_bytes().to_vec());
                told.addresses.push(account.address);
            }
            DirectoryRecord::Alias(alias) => told.addresses.push(alias.address),
            DirectoryRecord::Domain(domain) => told.domains.push(domain.name),
        }
    }
    told
}

#[tonic::async_trait]
impl feed_server::Feed for DirectoryServer {
    type ChangesStream = Pin<Box<dyn Stream<Item = Result<pb::ChangesBatch, Status>> + Send>>;

    async fn changes(
        &self,
        request: Request<pb::ChangesRequest>,
    ) -> Result<Response<Self::ChangesStream>, Status> {
        let store = StoreName::from(request.get_ref().store.as_str());
        admit(&self.check, request.extensions(), &Wish::Feed(store.clone()))?;
        let after = (request.get_ref().epoch, request.get_ref().after);
        let batches = DirectoryFeed::changes(&self.service, &store, after).await.map_err(unavailable)?;
        Ok(Response::new(Box::pin(batches.map(|batch| {
            let batch = batch.map_err(unavailable)?;
            let records = batch.records.into_iter().map(convert::record_to_pb).collect();
            Ok(pb::ChangesBatch { records, epoch: batch.epoch, position: batch.position })
        }))))
    }

    async fn confirm(
        &self,
        request: Request<pb::ConfirmRequest>,
    ) -> Result<Response<pb::ConfirmResponse>, Status> {
        let store = StoreName::from(request.get_ref().store.as_str());
        admit(&self.check, request.extensions(), &Wish::Feed(store.clone()))?;
        let accounts = request.into_inner().accounts;
        let accounts: Vec<_> = accounts
            .iter()
            .map(|a| convert::account_id(&a.id).map(|id| (id, a.generation)))
            .collect::<Result<_, _>>()?;
        DirectoryFeed::confirm(&self.service, &store, accounts).await.map_err(unavailable)?;
        Ok(Response::new(pb::ConfirmResponse {}))
    }
}
