//! A cluster of somebody's own, for the demo and for the tests that break nothing there.

use std::{path::PathBuf, process::Command, time::Duration};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::{
    kubernetes::{Kubernetes, output},
    site::{NAMESPACE, SYSTEM, Site, wait_for},
};

/// Where a test's environment has what [`OwnCluster`] has.
const CONTEXT: &str = "MAILCLUSTER_E2E_CONTEXT";
const KUBECONFIG: &str = "MAILCLUSTER_E2E_KUBECONFIG";
const REGISTRY: &str = "MAILCLUSTER_E2E_REGISTRY";
const STORAGE_CLASS: &str = "MAILCLUSTER_E2E_STORAGE_CLASS";

/// The kinds that the chart brings, and keeps when it goes.
const CRDS: [&str; 2] = ["mailclusters.mailcluster.io", "mailstores.mailcluster.io"];

/// Which cluster, and what is different on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnCluster {
    /// The file that has the context.
    pub kubeconfig: PathBuf,
    /// The context's name.
    pub context: String,
    /// Where its nodes pull the images from.
    pub registry: String,
    /// The class of the volumes; the cluster's default without one.
    pub storage_class: Option<String>,
}

impl OwnCluster {
    /// What the environment of a test names.
    #[must_use]
    pub fn from_environment() -> Option<Self> {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Some(Self {
            context: set(CONTEXT)?,
            kubeconfig: set(KUBECONFIG)?.into(),
            registry: set(REGISTRY)?,
            storage_class: set(STORAGE_CLASS),
        })
    }

    /// The environment of a test that is to run there.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            (CONTEXT, self.context.clone()),
            (KUBECONFIG, self.kubeconfig.display().to_string()),
            (REGISTRY, self.registry.clone()),
            (STORAGE_CLASS, self.storage_class.clone().unwrap_or_default()),
        ]
    }

    /// `kubectl` for this context and no other, whatever the environment says.
    pub(crate) fn kubectl(&self) -> Command {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(&self.kubeconfig).args(["--context", &self.context]);
        command.env_remove("KUBECONFIG");
        command
    }

    /// `helm` for this context and no other.
    pub(crate) fn helm(&self) -> Command {
        let mut command = Command::new("helm");
        command.arg("--kubeconfig").arg(&self.kubeconfig).args(["--kube-context", &self.context]);
        for name in
            ["KUBECONFIG", "HELM_KUBECONTEXT", "HELM_NAMESPACE", "HELM_KUBEAPISERVER", "HELM_KUBETOKEN"]
        {
            command.env_remove(name);
        }
        command
    }

    /// The address of its API server, without asking it.
    ///
    /// # Errors
    /// When the file has no such context.
    pub fn server(&self) -> Result<String> {
        let path = "jsonpath={.clusters[0].cluster.server}";
        let server = output(self.kubectl().args(["config", "view", "--minify", "-o", path]), "")?;
        if server.trim().is_empty() {
            bail!("context {} of {} names no server", self.context, self.kubeconfig.display());
        }
        Ok(server.trim().to_owned())
    }

    /// What of ours is there already, by name.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub fn occupied(&self) -> Result<Vec<String>> {
        let mut words = vec!["get", "--ignore-not-found", "-o", "name"];
        let namespaces = [format!("namespace/{NAMESPACE}"), format!("namespace/{SYSTEM}")];
        let crds = CRDS.map(|name| format!("customresourcedefinition/{name}"));
        words.extend(namespaces.iter().chain(&crds).map(String::as_str));
        let there = output(self.kubectl().args(words), "")?;
        Ok(there.lines().map(str::to_owned).collect())
    }

    /// Makes the namespace, and in it the MailCluster of a manifest with what this cluster has.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub fn apply(&self, manifest: &str) -> Result<()> {
        let kubernetes = Kubernetes::Own(self.clone());
        kubernetes.apply(
            &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE,
                "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}})
            .to_string(),
        )?;
        let words = ["create", "--dry-run=client", "--validate=false", "-o", "json", "-f", "-"];
        let mut object: Value = serde_json::from_str(&kubernetes.kubectl_with_input(&words, manifest)?)?;
        adapt(&mut object, self.storage_class.as_deref()).context("the quickstart's MailCluster")?;
        kubernetes.apply(&object.to_string())
    }

    /// Removes all that a demo or a test has made there, mail included.
    ///
    /// # Errors
    /// When something does not go.
    pub fn take_down(&self) -> Result<()> {
        let kubernetes = Kubernetes::Own(self.clone());
        let limit = "--timeout=180s";
        if kubernetes.kubectl(&["get", "crd", CRDS[0], "--ignore-not-found", "-o", "name"])?.trim().is_empty()
        {
            println!("there is no MailCluster in context {}", self.context);
        } else {
            let patch = json!({"spec": {"deletionPolicy": "Delete"}}).to_string();
            let all = kubernetes.kubectl(&["-n", NAMESPACE, "get", "mailclusters", "-o", "name"])?;
            for name in all.lines() {
                kubernetes
                    .kubectl(&["-n", NAMESPACE, "patch", name, "--type", "merge", "--patch", &patch])?;
                kubernetes.kubectl(&["-n", NAMESPACE, "delete", name, limit])?;
            }
        }
        if kubernetes.helm(&["status", "mailcluster", "--namespace", SYSTEM]).is_ok() {
            kubernetes.helm(&["uninstall", "mailcluster", "--namespace", SYSTEM, "--wait"])?;
        }
        kubernetes.kubectl(&["delete", "namespace", NAMESPACE, SYSTEM, limit, "--ignore-not-found"])?;
        kubernetes.kubectl(&["delete", "crd", CRDS[0], CRDS[1], limit, "--ignore-not-found"]).map(drop)
    }
}

/// The quickstart's volumes and its fence Job are the lab's.
fn adapt(cluster: &mut Value, storage_class: Option<&str>) -> Result<()> {
    for storage in ["/spec/stores/storage", "/spec/directory/storage"] {
        let storage = cluster.pointer_mut(storage).and_then(Value::as_object_mut).context("no storage")?;
        match storage_class {
            Some(class) => storage.insert("storageClassName".to_owned(), Value::from(class)),
            None => storage.remove("storageClassName"),
        };
    }
    let fencing = cluster.pointer_mut("/spec/failover/fencing").and_then(Value::as_object_mut);
    fencing.context("no fencing")?.remove("job");
    Ok(())
}

impl Site {
    /// Deletes a store's pod in the usual way, and waits until somebody on it can read again; answers the seconds.
    ///
    /// # Errors
    /// When nobody can within four minutes.
    pub fn restart_store(&self, store: &str, can_read: impl Fn() -> bool) -> Result<f64> {
        let before = self.store(store)?;
        let begun = std::time::Instant::now();
        let pod = format!("{store}-a-0");
        self.kubernetes.kubectl(&["-n", &self.namespace, "delete", "pod", &pod, "--wait=false"])?;
        wait_for(&format!("{store} serves again"), Duration::from_secs(240), || {
            let now = self.store(store)?;
            let serves = now.epoch > before.epoch && now.phase == "Serving";
            Ok((serves && can_read()).then(|| begun.elapsed().as_secs_f64()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> OwnCluster {
        OwnCluster {
            kubeconfig: "/home/me/.kube/config".into(),
            context: "mine".to_owned(),
            registry: "registry.example.org/mail".to_owned(),
            storage_class: None,
        }
    }

    #[test]
    fn the_lab_s_volumes_and_fence_job_are_left_out() {
        let quickstart = json!({"spec": {"hostname": "h",
            "stores": {"storage": {"storageClassName": "mail-local", "size": "1Gi"}},
            "directory": {"storage": {"storageClassName": "mail-local", "size": "512Mi"}},
            "failover": {"fencing": {"minimum": "Proof", "job": {"secretName": "bmc"}}}}});
        for (class, expected) in [
            (None, json!({"size": "1Gi"})),
            (Some("fast"), json!({"size": "1Gi", "storageClassName": "fast"})),
        ] {
            let mut object = quickstart.clone();
            adapt(&mut object, class).unwrap();
            assert_eq!(object["spec"]["stores"]["storage"], expected);
            assert_eq!(object["spec"]["failover"]["fencing"], json!({"minimum": "Proof"}));
        }
        assert!(adapt(&mut json!({"spec": {}}), None).is_err());
    }

    #[test]
    fn every_call_names_the_file_and_the_context() {
        for (command, context) in [(own().kubectl(), "--context"), (own().helm(), "--kube-context")] {
            let words: Vec<_> = command.get_args().map(|word| word.to_str().unwrap()).collect();
            assert_eq!(words, ["--kubeconfig", "/home/me/.kube/config", context, "mine"]);
            assert!(command.get_envs().any(|(name, value)| name == "KUBECONFIG" && value.is_none()));
        }
    }
}
