//! The PersistentVolumeClaim of a store's copy. Nothing owns it: it outlives the MailCluster.

use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use mailcluster_api::{labels, mailstore::StoreKind};
use std::collections::BTreeMap;

use crate::cluster::{Cluster, Store};

/// The claim; `volume`: the volume that held this copy before, to be taken up again.
#[must_use]
pub fn build(cluster: &Cluster, store: &Store, volume: Option<String>) -> PersistentVolumeClaim {
    let storage = match store.kind {
        StoreKind::Mail => &cluster.spec.stores.storage,
        StoreKind::Directory => cluster.spec.directory_storage(),
    };
    let mut labels = labels::common(&cluster.name);
    labels.extend(volume_labels(cluster, store));
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(store.claim.clone()),
            namespace: Some(cluster.namespace.clone()),
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec![storage.access_mode.as_str().into()]),
            storage_class_name: storage.storage_class_name.clone(),
            volume_name: volume,
            volume_mode: Some("Filesystem".into()),
            resources: Some(VolumeResourceRequirements {
                requests: Some([("storage".to_owned(), storage.size.clone())].into()),
                limits: None,
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}

/// The labels that say whose copy a claim or volume holds.
#[must_use]
pub fn volume_labels(cluster: &Cluster, store: &Store) -> BTreeMap<String, String> {
    BTreeMap::from([
        (labels::CLUSTER.into(), cluster.name.clone()),
        (labels::CLUSTER_NAMESPACE.into(), cluster.namespace.clone()),
        (labels::CLUSTER_ID.into(), cluster.id.clone()),
        (labels::STORE.into(), store.name.clone()),
        (labels::REPLICA.into(), store.replica.clone()),
    ])
}
