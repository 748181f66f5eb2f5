//! The cluster under test and the ways to reach it.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use mailcluster_lab::Lab;
use serde_json::Value;

use crate::{
    drill::{DOMAIN, Placed},
    kubernetes::Kubernetes,
    stores::StoreView,
};

/// The namespace of the quickstart's MailCluster.
pub const NAMESPACE: &str = "mail";
/// The namespace of the operator.
pub const SYSTEM: &str = "mailcluster-system";

/// A MailCluster on a Kubernetes.
#[derive(Debug)]
pub struct Site {
    /// The Kubernetes it runs on.
    pub kubernetes: Kubernetes,
    /// The MailCluster's namespace.
    pub namespace: String,
    /// The MailCluster's name.
    pub cluster: String,
    /// The folder of the project's binaries.
    pub binaries: PathBuf,
}

/// Waits until `look` answers something, trying four times a second.
///
/// # Errors
/// When it does not within `limit`; the last error or the reason stands in the message.
pub fn wait_for<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        let seen = look();
        if let Ok(Some(found)) = seen {
            return Ok(found);
        }
        if start.elapsed() > limit {
            let why = seen.err().map(|error| format!(": {error:#}")).unwrap_or_default();
            bail!("{what}: not within {} s{why}", limit.as_secs());
        }
        std::thread::sleep(Duration::from_millis(250));
    }
}

impl Site {
    /// The MailCluster of this name in the namespace of the quickstart.
    #[must_use]
    pub fn new(kubernetes: Kubernetes, cluster: &str, binaries: PathBuf) -> Self {
        Self { kubernetes, namespace: NAMESPACE.to_owned(), cluster: cluster.to_owned(), binaries }
    }

    /// The lab, for what only it can do.
    ///
    /// # Errors
    /// When this is a cluster of somebody's.
    pub fn lab(&self) -> Result<&Lab> {
        self.kubernetes.lab()
    }

    /// `kubectl -n NAMESPACE …` as JSON.
    ///
    /// # Errors
    /// When kubectl fails.
    pub fn get(&self, args: &[&str]) -> Result<Value> {
        let mut words = vec!["-n", &self.namespace, "get", "-o", "json"];
        words.extend(args);
        serde_json::from_str(&self.kubernetes.kubectl(&words)?).context("kubectl's answer")
    }

    /// All stores.
    ///
    /// # Errors
    /// When the API cannot be asked.
    pub fn stores(&self) -> Result<Vec<StoreView>> {
        let list = self.get(&["mailstores"])?;
        Ok(list["items"].as_array().into_iter().flatten().map(StoreView::from_json).collect())
    }

    /// One store.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn store(&self, name: &str) -> Result<StoreView> {
        self.stores()?
            .into_iter()
            .find(|store| store.name == name)
            .with_context(|| format!("no MailStore {name}"))
    }

    /// Waits until every store serves and the MailCluster says Ready.
    ///
    /// # Errors
    /// When that takes longer than `limit`.
    pub fn wait_ready(&self, limit: Duration) -> Result<()> {
        wait_for("the MailCluster is Ready", limit, || {
            let cluster = self.get(&["mailcluster", &self.cluster])?;
            let conditions = cluster.pointer("/status/conditions").and_then(Value::as_array);
            let ready = conditions.into_iter().flatten().find(|condition| condition["type"] == "Ready");
            match ready {
                Some(condition) if condition["status"] == "True" => Ok(Some(())),
                Some(condition) => bail!("{}: {}", condition["reason"], condition["message"]),
                None => Ok(None),
            }
        })
    }

    /// The address of the Service in front of the frontends.
    ///
    /// # Errors
    /// When it has none.
    pub fn address(&self) -> Result<IpAddr> {
        let service = self.get(&["service", &self.cluster])?;
        let ip = service.pointer("/status/loadBalancer/ingress/0/ip").and_then(Value::as_str);
        Ok(ip.context("the Service has no address yet")?.parse()?)
    }

    /// A port of that Service.
    ///
    /// # Errors
    /// When it has no address.
    pub fn port(&self, port: u16) -> Result<SocketAddr> {
        Ok(SocketAddr::new(self.address()?, port))
    }

    /// Drains a node with what administrators type: it evicts every pod, as fast as the budgets let it.
    ///
    /// # Errors
    /// When it has not come to its end within three minutes.
    pub fn drain(&self, node: &str) -> Result<()> {
        let words = ["drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=180s"];
        self.kubernetes.kubectl(&words).context("kubectl drain did not come to its end").map(drop)
    }

    /// Runs the admin command against the cluster, with this standard input.
    ///
    /// # Errors
    /// When it fails.
    pub fn admin(&self, args: &[&str], input: &str) -> Result<String> {
        use std::io::Write;
        let mut child = Command::new(self.binaries.join("kubectl-mailcluster"))
            .args(self.kubernetes.admin_arguments())
            .args(["--namespace", &self.namespace, "--cluster", &self.cluster])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("failed to start kubectl-mailcluster")?;
        if let Some(mut stdin) = child.stdin.take() {
            let _closed = stdin.write_all(input.as_bytes());
        }
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!(
                "kubectl-mailcluster {}: {}",
                args.join(" "),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The node of a pod.
    ///
    /// # Errors
    /// When there is no such pod.
    pub fn node_of(&self, namespace: &str, pod: &str) -> Result<String> {
        let node = self.kubernetes.kubectl(&[
            "-n",
            namespace,
            "get",
            "pod",
            pod,
            "-o",
            "jsonpath={.spec.nodeName}",
        ])?;
        Ok(node.trim().to_owned())
    }

    /// The pod that leads the operator.
    ///
    /// # Errors
    /// When none leads.
    pub fn leader(&self) -> Result<String> {
        let lease =
            ["-n", SYSTEM, "get", "lease", "mailcluster-operator", "-o", "jsonpath={.spec.holderIdentity}"];
        let holder = self.kubernetes.kubectl(&lease)?;
        let pod = holder.trim().split(['_', '/']).next().unwrap_or_default().to_owned();
        if pod.is_empty() {
            bail!("no operator leads");
        }
        Ok(pod)
    }

    /// The UID of a pod of the MailCluster.
    ///
    /// # Errors
    /// When there is no such pod.
    pub fn pod_uid(&self, pod: &str) -> Result<String> {
        let object = self.get(&["pod", pod])?;
        let uid = object.pointer("/metadata/uid").and_then(Value::as_str);
        Ok(uid.context("a pod without a UID")?.to_owned())
    }

    /// Names of the frontends' pods that are not being deleted.
    ///
    /// # Errors
    /// When the API cannot be asked.
    pub fn frontends(&self) -> Result<Vec<String>> {
        let pods = self.get(&["pods", "-l", "app.kubernetes.io/component=frontend"])?;
        let stay = pods["items"].as_array().into_iter().flatten();
        let stay = stay.filter(|pod| pod.pointer("/metadata/deletionTimestamp").is_none());
        Ok(stay.filter_map(|pod| Some(pod.pointer("/metadata/name")?.as_str()?.to_owned())).collect())
    }

    /// The address of a pod whose container runs; `None` as long as it does not.
    ///
    /// # Errors
    /// When there is no such pod.
    pub fn running_at(&self, pod: &str) -> Result<Option<IpAddr>> {
        let object = self.get(&["pod", pod])?;
        if object.pointer("/status/containerStatuses/0/state/running").is_none() {
            return Ok(None);
        }
        let ip = object.pointer("/status/podIP").and_then(Value::as_str);
        ip.map(|ip| Ok(ip.parse()?)).transpose()
    }

    /// The domain's accounts, and the stores that they are on.
    ///
    /// # Errors
    /// When the admin command fails.
    pub fn known_accounts(&self) -> Result<Vec<Placed>> {
        let text = self.admin(&["account", "list", "--domain", DOMAIN, "-o", "json"], "")?;
        let list: Value = serde_json::from_str(&text)?;
        let items = list.as_array().or_else(|| list["accounts"].as_array()).context("no list of accounts")?;
        let text = |item: &Value, key: &str| Some(item[key].as_str()?.to_owned());
        let placed = |item| Some(Placed { address: text(item, "address")?, store: text(item, "store")? });
        Ok(items.iter().filter_map(placed).collect())
    }

    /// Switches a node on and waits until it is Ready.
    ///
    /// # Errors
    /// When it is not within three minutes.
    pub fn power_on(&self, node: &str) -> Result<()> {
        self.lab()?.power_on(node)?;
        wait_for("the node is Ready", Duration::from_secs(180), || {
            let text = self.kubernetes.kubectl(&["get", "node", node, "-o", "json"])?;
            let object: Value = serde_json::from_str(&text)?;
            let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
            let ready =
                conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True");
            Ok(ready.then_some(()))
        })
    }
}
