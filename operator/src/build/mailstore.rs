//! The MailStore of a store.

use mailcluster_api::{FINALIZER, MailStore, MailStoreSpec, mailstore::Replica};

use super::meta;
use crate::cluster::{Cluster, Store};

/// The MailStore of a store with these copies. `pinnedNode` is not set here: it belongs to the failover part, under its own field manager.
#[must_use]
pub fn build(cluster: &Cluster, copies: &[&Store]) -> Option<MailStore> {
    let store = copies.first()?;
    let replica = |copy: &&Store| Replica { id: copy.replica.clone(), pvc: copy.claim.clone() };
    let mut metadata = meta(cluster, store.name.clone());
    metadata.finalizers = Some(vec![FINALIZER.into()]);
    Some(MailStore {
        metadata,
        spec: MailStoreSpec {
            kind: store.kind,
            cluster: cluster.name.clone(),
            replicas: copies.iter().map(replica).collect(),
            pinned_node: None,
        },
        status: None,
    })
}
