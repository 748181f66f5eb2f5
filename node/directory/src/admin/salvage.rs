//! What a forced promotion left behind goes to its store.

use mailcluster_rpc::store::v1::SalvageResponse;
use mailcluster_types::StoreName;
use tonic::Status;

use crate::{AdminError, DirectoryService, LocalStore, Octets, StoreDialer, StoreQuery};

impl DirectoryService {
    /// Hands the file to the store, and notes what came of it.
    pub(crate) async fn salvage(
        &self,
        who: &str,
        dialer: &dyn StoreDialer,
        store: &StoreName,
        octets: Octets,
    ) -> Result<SalvageResponse, Status> {
        self.audited(who, format!("store salvage {store}")).await?;
        let answer = if *store == self.store().identity().store {
            LocalStore(self.store().clone()).salvage(octets).await
        } else if dialer.stores().map_err(AdminError::from)?.contains(store) {
            dialer.dial(store).await.map_err(AdminError::from)?.salvage(octets).await
        } else {
            return Err(Status::not_found(format!("there is no store {store}")));
        };
        let told = match &answer {
            Ok(done) => format!(
                "store salvage {store}: {} messages, {} moved, {} flags, {} expunged, {} not taken over",
                done.messages, done.moved, done.flags, done.expunged, done.kept
            ),
            Err(status) => format!("failed: store salvage {store}: {}", status.message()),
        };
        if let Err(error) = self.audited(who, told).await {
            tracing::warn!(who, %store, %error, "the audit log could not be told what came of a salvage");
        }
        answer
    }
}
