//! Bringing a cluster up so that one node carries the operator's leader, a frontend, a store and the directory.

use std::{path::Path, time::Duration};

use anyhow::Result;
use mailcluster_lab::VolumeSpec;
use serde_json::{Value, json};

use crate::{
    kubernetes::Kubernetes,
    site::{SYSTEM, Site, wait_for},
};

/// The password of all accounts of the demo.
pub const PASSWORD: &str = "correct horse battery staple";

/// Octets of the directory's volume, and of a store's. They differ, so that each claim finds its own kind.
const DIRECTORY: u64 = 512 << 20;
const STORE: u64 = 1 << 30;

/// What to install.
#[derive(Debug)]
pub struct Plan<'a> {
    /// The project's folder.
    pub workspace: &'a Path,
    /// The folder of its binaries.
    pub binaries: &'a Path,
    /// The registry part of the images' names.
    pub registry: String,
    /// Their tag.
    pub tag: &'a str,
    /// Do the nodes pull them?
    pub pull: PullPolicy,
}

/// Where the nodes have the images from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullPolicy {
    /// They were loaded there.
    Never,
    /// From their registry.
    IfNotPresent,
}

impl Plan<'_> {
    /// Installs the chart, waits for a leader, and answers the node it runs on.
    ///
    /// # Errors
    /// When no leader is there within three minutes.
    pub fn install(&self, kubernetes: Kubernetes, cluster: &str) -> Result<(Site, String)> {
        self.install_chart(&kubernetes)?;
        let site = Site::new(kubernetes, cluster, self.binaries.to_owned());
        let limit = Duration::from_secs(180);
        let leader = wait_for("an operator leads", limit, || site.leader().map(Some))?;
        let node = wait_for("the leader's node", limit, || site.node_of(SYSTEM, &leader).map(Some))?;
        Ok((site, node))
    }

    /// `helm install` of the working tree's chart with these images.
    ///
    /// # Errors
    /// When helm refuses.
    pub fn install_chart(&self, kubernetes: &Kubernetes) -> Result<()> {
        self.helm(kubernetes, &["install", "--create-namespace"])
    }

    /// `helm upgrade` of an older chart's installation to the working tree's.
    ///
    /// # Errors
    /// When helm refuses.
    pub fn upgrade_chart(&self, kubernetes: &Kubernetes) -> Result<()> {
        self.helm(kubernetes, &["upgrade"])
    }

    fn helm(&self, kubernetes: &Kubernetes, command: &[&str]) -> Result<()> {
        let chart = self.chart();
        let images = [
            format!("image.registry={}", self.registry),
            format!("image.tag={}", self.tag),
            format!("image.pullPolicy={:?}", self.pull),
        ];
        let mut words = [command, &["mailcluster", &chart, "--namespace", SYSTEM]].concat();
        for image in &images {
            words.extend(["--set", image]);
        }
        kubernetes.helm(&words).map(drop)
    }

    /// The name of one of the images.
    #[must_use]
    pub fn image(&self, program: &str) -> String {
        format!("{}/{program}:{}", self.registry, self.tag)
    }

    /// Where the chart lies.
    #[must_use]
    pub fn chart(&self) -> String {
        self.workspace.join("charts/mailcluster").display().to_string()
    }
}

impl Site {
    /// Makes the namespace and in it the Secret with the way to the lab's management controllers.
    ///
    /// # Errors
    /// When the API refuses it.
    pub fn bmc_secret(&self) -> Result<()> {
        let state = self.lab()?.state()?;
        let mut data = serde_json::Map::new();
        for node in &state.nodes {
            let bmc = self.lab()?.bmc(&node.name)?;
            data.insert(
                format!("{}.url", node.name),
                Value::from(format!("{}/redfish/v1/Systems/{}", bmc.endpoint, node.name)),
            );
            data.insert("username".to_owned(), Value::from(bmc.username));
            data.insert("password".to_owned(), Value::from(bmc.password));
        }
        let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace,
                "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}},
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "bmc", "namespace": self.namespace}, "stringData": data},
        ]});
        self.kubernetes.apply(&objects.to_string())
    }

    /// Makes volumes for three stores and the directory, each reachable from two nodes; `first` reaches the
    /// directory's and one store's.
    ///
    /// # Errors
    /// When the lab cannot make them.
    pub fn volumes(&self, first: &str, second: &str, third: &str) -> Result<()> {
        self.lab()?.create_volumes(&[
            VolumeSpec::new("mail-directory", &[first, second], DIRECTORY),
            VolumeSpec::new("mail-store-a", &[first, third], STORE),
            VolumeSpec::new("mail-store-b", &[second, third], STORE),
            VolumeSpec::new("mail-store-c", &[third, second], STORE),
        ])
    }

    /// Applies a manifest with everything but `node` cordoned until a mail store and the directory run there, then
    /// lets the rest spread.
    ///
    /// # Errors
    /// When the pods do not come up.
    pub fn apply_on(&self, node: &str, manifest: &str) -> Result<()> {
        let others = self.other_nodes(node)?;
        for other in &others {
            self.kubernetes.kubectl(&["cordon", other])?;
        }
        self.kubernetes.apply(manifest)?;
        let placed = wait_for("a store and the directory are on one node", Duration::from_secs(180), || {
            let stores = self.stores()?;
            let here = |kind: &str| stores.iter().any(|store| store.kind == kind && store.host == node);
            Ok((here("Mail") && here("Directory")).then_some(()))
        });
        for other in &others {
            self.kubernetes.kubectl(&["uncordon", other])?;
        }
        placed?;
        self.spread_frontends(node)
    }

    /// Deletes frontends from `node` until one is left there.
    fn spread_frontends(&self, node: &str) -> Result<()> {
        wait_for("the frontends are spread", Duration::from_secs(120), || {
            let pods = self.get(&["pods", "-l", "app.kubernetes.io/component=frontend"])?;
            let items: Vec<&Value> = pods["items"].as_array().into_iter().flatten().collect();
            let here: Vec<&str> = items
                .iter()
                .filter(|pod| pod.pointer("/spec/nodeName").and_then(Value::as_str) == Some(node))
                .filter(|pod| pod.pointer("/metadata/deletionTimestamp").is_none())
                .filter_map(|pod| pod.pointer("/metadata/name")?.as_str())
                .collect();
            if here.len() == 1 && items.len() > 1 {
                return Ok(Some(()));
            }
            if let [extra, _, ..] = here.as_slice() {
                self.kubernetes.kubectl(&["-n", &self.namespace, "delete", "pod", extra, "--wait=false"])?;
            }
            Ok(None)
        })
    }

    /// The lab's nodes but this one.
    ///
    /// # Errors
    /// When the lab is gone.
    pub fn other_nodes(&self, node: &str) -> Result<Vec<String>> {
        let names = self.lab()?.state()?.nodes.iter().map(|other| other.name.clone()).collect::<Vec<_>>();
        Ok(names.into_iter().filter(|name| name != node).collect())
    }
}
