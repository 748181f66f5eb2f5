//! Dereference: everything a decision about a cluster needs to know, read at one go.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Secret};
use kube::{Api, ResourceExt, api::ListParams};
use mailcluster_api::{MailCluster, MailStore};

use super::Error;
use crate::{apply::Applier, context::Context, pki::secrets::Data};

/// What is there.
#[derive(Debug, Default)]
pub struct Observed {
    /// The cluster's MailStores by name.
    pub stores: BTreeMap<String, MailStore>,
    /// The cluster's claims by name.
    pub claims: BTreeMap<String, PersistentVolumeClaim>,
    /// All volumes, if they may be read.
    pub volumes: Vec<PersistentVolume>,
    /// May volumes and nodes be read? If not, their absence says nothing.
    pub volumes_known: bool,
    /// All nodes, if they may be read.
    pub nodes: Vec<Node>,
    /// The cluster's own Secrets by name.
    pub secrets: BTreeMap<String, Secret>,
    /// The Secrets with client certificates, in the spec's order.
    pub certificates: Vec<(String, Option<Data>)>,
}

/// Reads it.
///
/// # Errors
/// When the API server does not answer.
pub async fn observe(ctx: &Context, cluster: &MailCluster) -> Result<Observed, Error> {
    let (name, namespace) = (cluster.name_any(), cluster.namespace().unwrap_or_default());
    let applier = Applier::new(ctx, &namespace, &name);
    // What the API server has in its cache is new enough: everything is looked at again when it changes.
    let cached = ListParams::default().match_any();
    let (volumes, nodes) = if ctx.config.manage_volumes {
        let volumes: Api<PersistentVolume> = Api::all(ctx.client.clone());
        let nodes: Api<Node> = Api::all(ctx.client.clone());
        (volumes.list(&cached).await?.items, nodes.list(&cached).await?.items)
    } else {
        (vec![], vec![])
    };
    let secrets: Api<Secret> = Api::namespaced(ctx.client.clone(), &namespace);
    let mut certificates = Vec::new();
    for secret in &cluster.spec.tls.secret_names {
        certificates.push((secret.clone(), secrets.get_opt(secret).await?.map(|s| data(&s))));
    }
    Ok(Observed {
        stores: applier.live().await?,
        claims: applier.live().await?,
        volumes,
        volumes_known: ctx.config.manage_volumes,
        nodes,
        secrets: applier.live().await?,
        certificates,
    })
}

impl Observed {
    /// The data of one of the cluster's own Secrets; empty when it is not there.
    #[must_use]
    pub fn secret(&self, name: &str) -> Data {
        self.secrets.get(name).map(data).unwrap_or_default()
    }

    /// The MailStores that are to go although the cluster is not: somebody deleted them.
    #[must_use]
    pub fn deleted_stores(&self) -> Vec<&MailStore> {
        self.stores.values().filter(|s| s.metadata.deletion_timestamp.is_some()).collect()
    }

    /// The volume that a claim is bound to.
    #[must_use]
    pub fn volume_of(&self, claim: &str) -> Option<&PersistentVolume> {
        let volume = self.claims.get(claim)?.spec.as_ref()?.volume_name.as_ref()?;
        self.volumes.iter().find(|v| v.name_any() == *volume)
    }
}

fn data(secret: &Secret) -> Data {
    secret.data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone())).collect()
}
