//! The MailStore of a store.

use mailcluster_api::{FINALIZER, MailStore, MailStoreSpec, mailstore::Replica};

use super::meta;
use crate::cluster::{Cluster, Store};

/// The MailStore. `pinnedNode` is not set here: it belongs to the failover part, under its own field manager.
#[must_use]
pub fn build(cluster: &Cluster, store: &Store) -> MailStore {
    let mut metadata = meta(cluster, store.name.clone());
    metadata.finalizers = Some(vec![FINALIZER.into()]);
    MailStore {
        metadata,
        spec: MailStoreSpec {
            kind: store.kind,
            cluster: cluster.name.clone(),
            replicas: vec![Replica { id: store.replica.clone(), pvc: store.claim.clone() }],
            pinned_node: None,
        },
        status: None,
    }
}
