//! Secrets: the CA, identities, and the certificates shown to clients.

use k8s_openapi::{
    ByteString,
    api::core::v1::Secret,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};

use super::{meta, store_meta};
use crate::{
    cluster::{Cluster, Store},
    pki::secrets::Data,
};

/// A Secret of the cluster itself.
#[must_use]
pub fn of_cluster(cluster: &Cluster, name: String, data: Data) -> Secret {
    secret(meta(cluster, name), data)
}

/// The Secret with the identity of a store's pods.
#[must_use]
pub fn of_store(cluster: &Cluster, store: &Store, owner: &OwnerReference, data: Data) -> Secret {
    secret(store_meta(cluster, store, owner, store.names().identity()), data)
}

fn secret(metadata: ObjectMeta, data: Data) -> Secret {
    Secret {
        metadata,
        type_: Some("Opaque".into()),
        data: Some(data.into_iter().map(|(key, value)| (key, ByteString(value))).collect()),
        ..Secret::default()
    }
}
