//! A further MailCluster on the same lab, in a namespace of its own.

use std::time::Duration;

use anyhow::Result;
use mailcluster_lab::{Lab, VolumeSpec};
use serde_json::json;

use crate::{
    drill::{Placed, Say},
    site::{Site, wait_for},
};

/// A deadline, not an expectation.
const LIMIT: Duration = Duration::from_secs(240);

impl Site {
    /// The cluster of this name, in a namespace of the same name, with its accounts; made when it is not there yet, after
    /// its `disks` on these nodes.
    ///
    /// # Errors
    /// When it is not Ready within four minutes.
    pub fn beside(
        &self,
        name: &str,
        manifest: &str,
        disks: impl FnOnce(&[&str]) -> Vec<VolumeSpec>,
        say: Say<'_>,
    ) -> Result<(Self, Vec<Placed>)> {
        let site = Self {
            namespace: name.to_owned(),
            cluster: name.to_owned(),
            ..Self::new(Lab::attach()?.into(), name, self.binaries.clone())
        };
        if site.kubernetes.kubectl(&["get", "namespace", name]).is_err() {
            let nodes: Vec<String> =
                site.lab()?.state()?.nodes.iter().map(|node| node.name.clone()).collect();
            let nodes: Vec<&str> = nodes.iter().map(String::as_str).collect();
            site.lab()?.create_volumes(&disks(&nodes))?;
            site.kubernetes.kubectl(&["create", "namespace", name])?;
        }
        site.kubernetes.apply(manifest)?;
        site.wait_ready(LIMIT)?;
        wait_for("the Service has an address", LIMIT, || site.address().map(Some))?;
        let accounts = match site.known_accounts() {
            Ok(accounts) if !accounts.is_empty() => accounts,
            _ => site.make_accounts(say)?,
        };
        Ok((site, accounts))
    }

    /// How many copies of each mirrored store have everything, by their Leases.
    ///
    /// # Errors
    /// When the API does not answer.
    pub fn in_sync(&self) -> Result<Vec<(String, usize)>> {
        let leases = self.get(&["leases", "-l", "mailcluster.io/store"])?;
        let members = |lease: &serde_json::Value| {
            let set = lease.pointer("/metadata/annotations/mailcluster.io~1in-sync").and_then(|s| s.as_str());
            let (_, ids) = set.unwrap_or_default().split_once(':').unwrap_or_default();
            ids.split(',').filter(|id| !id.is_empty()).count()
        };
        let name = |lease: &serde_json::Value| {
            lease.pointer("/metadata/name").and_then(|name| name.as_str()).map(str::to_owned)
        };
        let items = leases["items"].as_array().cloned().unwrap_or_default();
        Ok(items.iter().filter_map(|lease| Some((name(lease)?, members(lease)))).collect())
    }

    /// The pod of a store on that node.
    ///
    /// # Errors
    /// When there is none.
    pub fn copy_on(&self, store: &str, node: impl Fn(&str) -> bool) -> Result<String> {
        let pods = self.get(&["pods", "-l", &format!("mailcluster.io/store={store}")])?;
        let text =
            |pod: &serde_json::Value, at: &str| pod.pointer(at).and_then(|v| v.as_str()).map(str::to_owned);
        let pods = pods["items"].as_array().cloned().unwrap_or_default();
        let there = pods.iter().find(|pod| text(pod, "/spec/nodeName").is_some_and(|name| node(&name)));
        let name = there.and_then(|pod| text(pod, "/metadata/name"));
        name.ok_or_else(|| anyhow::anyhow!("{store} has no such copy"))
    }
}

/// MiB of the disks of a mirrored cluster.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    store: u64,
    directory: u64,
}

impl Sizes {
    /// Enough for so many accounts without mail, and for some mail.
    #[must_use]
    pub fn of(accounts: u64) -> Self {
        Self { store: 420 + accounts / 160, directory: 320 + accounts / 160 }
    }
}

/// A MailCluster of one store with three copies.
#[must_use]
pub fn mirrored_manifest(name: &str, sizes: Sizes) -> String {
    let storage = |mib: u64| json!({"storageClassName": "mail-local", "size": format!("{mib}Mi")});
    json!({"apiVersion": "mailcluster.io/v1alpha1", "kind": "MailCluster",
    "metadata": {"name": name, "namespace": name},
    "spec": {
        "hostname": format!("{name}.example.org"),
        "frontends": {"replicas": 2},
        "stores": {"count": 1, "replicas": 3, "mirrorTimeoutMilliseconds": 1000, "storage": storage(sizes.store)},
        "directory": {"storage": storage(sizes.directory)},
        "failover": {"leaseSeconds": 8},
    }})
    .to_string()
}

/// The disks of that cluster: one for a copy of the store on each node, and one for a copy of the directory. `volume`
/// names them: the lab keeps those of an earlier run.
pub fn mirrored_disks(
    nodes: &[&str],
    sizes: Sizes,
    volume: impl Fn(&str, &str) -> String,
) -> Vec<VolumeSpec> {
    let disk = |of: &str, node: &str, mib: u64| VolumeSpec::new(&volume(of, node), &[node], mib << 20);
    let disks = |node: &&str| [disk("directory", node, sizes.directory), disk("store", node, sizes.store)];
    nodes.iter().flat_map(disks).collect()
}
