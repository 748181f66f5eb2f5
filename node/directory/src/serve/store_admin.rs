//! A store's usage, history, queue and records over gRPC.

use std::pin::Pin;

use futures::{Stream, StreamExt};
use mailcluster_rpc::{
    directory::v1::Record,
    store::v1::{self as pb, store_admin_server},
};
use mailcluster_store::Store;
use tonic::{Request, Response, Status, Streaming};

use super::{MAX_MESSAGE, PeerCheck, Wish, admit};
use crate::{LocalStore, StoreQuery, convert};

/// Serves a store's administration.
pub struct StoreAdminServer {
    store: LocalStore,
    check: PeerCheck,
}

impl StoreAdminServer {
    /// Its service, ready for a server's routes.
    #[must_use]
    pub fn routes(store: Store, check: PeerCheck) -> tonic::service::Routes {
        let server = Self { store: LocalStore(store), check };
        let service = store_admin_server::StoreAdminServer::new(server);
        tonic::service::Routes::new(service.max_encoding_message_size(MAX_MESSAGE))
    }

    #[allow(clippy::result_large_err, reason = "what tonic handlers return")]
    fn admit<T>(&self, request: Request<T>) -> Result<T, Status> {
        admit(&self.check, request.extensions(), &Wish::StoreAdmin)?;
        Ok(request.into_inner())
    }
}

#[tonic::async_trait]
impl store_admin_server::StoreAdmin for StoreAdminServer {
    type ListRecordsStream = Pin<Box<dyn Stream<Item = Result<Record, Status>> + Send>>;

    async fn get_usage(
        &self,
        request: Request<pb::GetUsageRequest>,
    ) -> Result<Response<pb::GetUsageResponse>, Status> {
        self.admit(request)?;
        self.store.usage().await.map(Response::new)
    }

    async fn get_history(
        &self,
        request: Request<pb::GetHistoryRequest>,
    ) -> Result<Response<pb::GetHistoryResponse>, Status> {
        let request = self.admit(request)?;
        self.store.history(request).await.map(Response::new)
    }

    async fn list_queue(
        &self,
        request: Request<pb::ListQueueRequest>,
    ) -> Result<Response<pb::ListQueueResponse>, Status> {
        let request = self.admit(request)?;
        self.store.queue(request).await.map(Response::new)
    }

    async fn change_queue(
        &self,
        request: Request<pb::ChangeQueueRequest>,
    ) -> Result<Response<pb::ChangeQueueResponse>, Status> {
        let request = self.admit(request)?;
        self.store.change_queue(request).await.map(Response::new)
    }

    async fn list_records(
        &self,
        request: Request<pb::ListRecordsRequest>,
    ) -> Result<Response<Self::ListRecordsStream>, Status> {
        self.admit(request)?;
        let records = self.store.records().await.map_err(|e| Status::unavailable(e.to_string()))?;
        Ok(Response::new(Box::pin(records.map(|record| match record {
            Ok(record) => Ok(convert::record_to_pb(record)),
            Err(error) => Err(Status::unavailable(error.to_string())),
        }))))
    }

    async fn salvage(
        &self,
        request: Request<Streaming<pb::SalvageRequest>>,
    ) -> Result<Response<pb::SalvageResponse>, Status> {
        let pieces = self.admit(request)?;
        let octets = pieces.map(|piece| piece.map(|piece| piece.octets));
        self.store.salvage(Box::pin(octets)).await.map(Response::new)
    }

    async fn undelete(
        &self,
        request: Request<pb::UndeleteRequest>,
    ) -> Result<Response<pb::UndeleteResponse>, Status> {
        let request = self.admit(request)?;
        self.store.undelete(request).await.map(Response::new)
    }
}
