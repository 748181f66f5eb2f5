//! ConfigMaps: the nodes' configuration and the CA's public certificates.

use k8s_openapi::{
    api::core::v1::ConfigMap,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use mailcluster_api::{
    config::{
        BackendConfig, CONFIG_FILE, ConfigError, DATA_DIR, FrontendConfig, FrontendLimits, IDENTITY_DIR,
        LeaseConfig, MirrorsConfig, NodeConfig, TLS_DIR,
    },
    mailcluster::{Outbound, Screening},
    mailstore::StoreKind,
};

use super::{meta, store_meta};
use crate::{
    cluster::{Cluster, Store},
    pki::secrets::BUNDLE,
};

/// The frontends' configuration.
///
/// # Errors
/// When it cannot be written as YAML.
pub fn frontends(cluster: &Cluster) -> Result<ConfigMap, ConfigError> {
    let mut config = common(cluster);
    config.frontend = Some(FrontendConfig {
        tls_dir: TLS_DIR.into(),
        trusted_proxies: cluster.spec.frontends.proxy_protocol.trusted_cidrs.clone(),
        inbound: cluster.spec.inbound.clone(),
        limits: FrontendLimits::default(),
    });
    config_map(meta(cluster, cluster.names().frontend()), &config)
}

/// A store's configuration.
///
/// # Errors
/// When it cannot be written as YAML.
pub fn store(cluster: &Cluster, store: &Store, owner: &OwnerReference) -> Result<ConfigMap, ConfigError> {
    let admins = match store.kind {
        StoreKind::Mail => vec![],
        StoreKind::Directory => vec![cluster.names().admin()],
    };
    let mut config = common(cluster);
    if store.kind == StoreKind::Directory {
        // It sends nothing, and counts what others send.
        let limits = config.outbound.and_then(|outbound| outbound.limits);
        config.outbound = limits.map(|limits| Outbound { limits: Some(limits), ..Outbound::default() });
    }
    config.screening = config.screening.filter(|_| store.kind == StoreKind::Directory);
    config.backend = Some(BackendConfig {
        store: store.name.clone(),
        kind: store.kind,
        data_dir: DATA_DIR.into(),
        lease: LeaseConfig {
            name: store.name.clone(),
            lease_seconds: cluster.spec.lease_seconds(),
            fencing_minimum: cluster.spec.failover.fencing.minimum,
        },
        mirrors: mirrors(cluster),
        undelete_days: (store.kind == StoreKind::Mail).then(|| cluster.spec.stores.undelete_days()),
        admin_service_accounts: admins,
    });
    config_map(store_meta(cluster, store, owner, store.name.clone()), &config)
}

fn mirrors(cluster: &Cluster) -> Option<MirrorsConfig> {
    let stores = &cluster.spec.stores;
    Some(MirrorsConfig { durability: stores.durability()?, timeout_milliseconds: stores.mirror_timeout() })
}

/// The CA's public certificates, for whoever wants to check a mail pod's.
#[must_use]
pub fn authority(cluster: &Cluster, bundle: &str) -> ConfigMap {
    ConfigMap {
        metadata: meta(cluster, cluster.names().ca()),
        data: Some([(BUNDLE.to_owned(), bundle.to_owned())].into()),
        ..ConfigMap::default()
    }
}

fn common(cluster: &Cluster) -> NodeConfig {
    NodeConfig {
        cluster_id: cluster.id.clone(),
        cluster: cluster.name.clone(),
        namespace: cluster.namespace.clone(),
        hostname: cluster.spec.hostname.clone(),
        postmaster: cluster.spec.postmaster.clone(),
        outbound: cluster.spec.outbound.clone(),
        // The default is left out: nodes of an older image know nothing of it.
        screening: Some(&cluster.spec.screening).filter(|asked| **asked != Screening::default()).cloned(),
        directory: cluster.names().directory(),
        identity_dir: IDENTITY_DIR.into(),
        frontend: None,
        backend: None,
    }
}

fn config_map(metadata: ObjectMeta, config: &NodeConfig) -> Result<ConfigMap, ConfigError> {
    let data = [(CONFIG_FILE.to_owned(), config.to_yaml()?)].into();
    Ok(ConfigMap { metadata, data: Some(data), ..ConfigMap::default() })
}
