//! The clusters that faults are made on.

use mailcluster_lab::VolumeSpec;
use serde_json::{Value, json};

/// How many copies a store has, and what they promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Single copies on volumes that two nodes reach, with a fence Job.
    Single,
    /// Two copies: one alone goes on.
    Preferred,
    /// Three copies: two have everything that was acknowledged.
    Required,
}

const STORE: u64 = 420 << 20;
const DIRECTORY: u64 = 320 << 20;

impl Mode {
    /// Its name in arguments and reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Preferred => "preferred",
            Self::Required => "required",
        }
    }

    /// The mode of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Single, Self::Preferred, Self::Required].into_iter().find(|mode| mode.name() == name)
    }

    /// Copies of each store.
    #[must_use]
    pub fn copies(self) -> usize {
        match self {
            Self::Single => 1,
            Self::Preferred => 2,
            Self::Required => 3,
        }
    }

    /// The MailCluster, in the namespace of the lab's fence Secret. Stores may move as often as faults make them.
    #[must_use]
    pub fn manifest(self, namespace: &str, cluster: &str) -> String {
        let storage = |size: u64| json!({"storageClassName": "mail-local", "size": size.to_string()});
        let mut stores = json!({"count": 2, "storage": storage(STORE)});
        let mut failover = json!({"leaseSeconds": 8, "maxMovesPerHour": 1000});
        match self {
            Self::Single => {
                failover["fencing"] =
                    json!({"minimum": "Proof", "job": {"secretName": "bmc", "timeoutSeconds": 60}});
            }
            Self::Preferred | Self::Required => {
                stores["replicas"] = Value::from(self.copies());
                stores["durability"] =
                    Value::from(if self == Self::Preferred { "Preferred" } else { "Required" });
                stores["mirrorTimeoutMilliseconds"] = Value::from(1000);
            }
        }
        json!({"apiVersion": "mailcluster.io/v1alpha1", "kind": "MailCluster",
            "metadata": {"name": cluster, "namespace": namespace},
            "spec": {"hostname": "mail.example.org", "frontends": {"replicas": 2}, "stores": stores,
                "directory": {"storage": storage(DIRECTORY)}, "failover": failover}})
        .to_string()
    }

    /// Its disks: wherever the scheduler puts a copy there is one for it.
    #[must_use]
    pub fn disks(self, nodes: &[&str]) -> Vec<VolumeSpec> {
        match self {
            // Each is reached from two nodes, and from each node two of three are.
            Self::Single => {
                let pair = |n: usize| [nodes[n % nodes.len()], nodes[(n + 1) % nodes.len()]];
                let stores =
                    (0..nodes.len()).map(|n| VolumeSpec::new(&format!("store-{n}"), &pair(n), STORE));
                let directory = VolumeSpec::new("directory", &pair(0), DIRECTORY);
                stores.chain([directory]).collect()
            }
            Self::Preferred | Self::Required => {
                let disk =
                    |of: &str, node: &str, size| VolumeSpec::new(&format!("{of}-{node}"), &[node], size);
                let disks = |node: &&str| {
                    [disk("directory", node, DIRECTORY), disk("one", node, STORE), disk("two", node, STORE)]
                };
                nodes.iter().flat_map(disks).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mode_has_its_copies_and_a_disk_for_each() {
        for mode in [Mode::Single, Mode::Preferred, Mode::Required] {
            assert_eq!(Mode::named(mode.name()), Some(mode));
            let manifest: Value = serde_json::from_str(&mode.manifest("n", "c")).unwrap();
            let stores = &manifest["spec"]["stores"];
            assert_eq!(stores["replicas"].as_u64().unwrap_or(1), u64::try_from(mode.copies()).unwrap());
            let fenced = manifest["spec"]["failover"].get("fencing").is_some();
            assert_eq!(fenced, mode == Mode::Single, "only what has no mirror needs a fence");
            let disks = mode.disks(&["a", "b", "c"]);
            let large = disks.iter().filter(|disk| disk.size == STORE).count();
            assert!(large >= 2 * mode.copies(), "{mode:?}: {large}");
        }
        assert_eq!(Mode::named("double"), None);
    }
}
