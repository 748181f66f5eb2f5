//! The names of all objects of a mail cluster: made here and nowhere else.
//!
//! A cluster's name has at most 40 characters, so that the longest child (`<cluster>-199-a-0` with its controller's
//! hash as a label value) stays below 63.

/// The longest name a MailCluster may have.
pub const MAX_CLUSTER_NAME: usize = 40;

/// What the single copy of a store is called; mirrors are `b` and `c`.
pub const FIRST_REPLICA: char = 'a';

/// What the copies of a store are called, in the order of `spec.replicas`.
pub const REPLICAS: [char; 3] = [FIRST_REPLICA, 'b', 'c'];

/// Names of a cluster's own objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterNames {
    cluster: String,
}

impl ClusterNames {
    /// Names for the MailCluster called `cluster`.
    pub fn new(cluster: impl Into<String>) -> Self {
        Self { cluster: cluster.into() }
    }

    /// The MailCluster; also the client-facing Service.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The MailStore and Lease of mail store `n`, counted from 0.
    #[must_use]
    pub fn store(&self, n: u32) -> String {
        format!("{}-{n}", self.cluster)
    }

    /// The MailStore and Lease of the directory.
    #[must_use]
    pub fn directory(&self) -> String {
        format!("{}-directory", self.cluster)
    }

    /// Every store's name: the directory first, then the mail stores in order.
    pub fn stores(&self, count: u32) -> impl Iterator<Item = String> + '_ {
        std::iter::once(self.directory()).chain((0..count).map(|n| self.store(n)))
    }

    /// The number of a mail store of this cluster; `None` for the directory and for foreign names.
    #[must_use]
    pub fn store_number(&self, store: &str) -> Option<u32> {
        let digits = store.strip_prefix(&self.cluster)?.strip_prefix('-')?;
        let number = digits.parse().ok()?;
        (self.store(number) == store).then_some(number)
    }

    /// The Service that clients connect to.
    #[must_use]
    pub fn service(&self) -> String {
        self.cluster.clone()
    }

    /// The frontends' Deployment, ServiceAccount, Role, ConfigMap, PodDisruptionBudget and NetworkPolicy.
    #[must_use]
    pub fn frontend(&self) -> String {
        format!("{}-frontend", self.cluster)
    }

    /// The Secret with the frontends' identity.
    #[must_use]
    pub fn frontend_identity(&self) -> String {
        format!("{}-frontend-identity", self.cluster)
    }

    /// The Secret with the identity the operator shows to mail pods.
    #[must_use]
    pub fn operator_identity(&self) -> String {
        format!("{}-operator-identity", self.cluster)
    }

    /// The Secret with the key of the internal CA (mounted nowhere), and the ConfigMap with its public certificates.
    #[must_use]
    pub fn ca(&self) -> String {
        format!("{}-ca", self.cluster)
    }

    /// The Secret with the certificates shown to clients, merged from those the spec names.
    #[must_use]
    pub fn tls(&self) -> String {
        format!("{}-tls", self.cluster)
    }

    /// The ServiceAccount whose tokens admit to the directory's admin port.
    #[must_use]
    pub fn admin(&self) -> String {
        format!("{}-admin", self.cluster)
    }

    /// The ClusterRoleBinding that lets the directory review tokens; cluster-wide, so it names the namespace too.
    #[must_use]
    pub fn token_review(&self, namespace: &str) -> String {
        format!("mailcluster:{namespace}:{}-directory:tokenreview", self.cluster)
    }

    /// The NetworkPolicies of mail stores' pods, and of the directory's.
    #[must_use]
    pub fn backend_policy(&self) -> String {
        format!("{}-backend", self.cluster)
    }
}

/// Names of one store's objects. The MailStore and its Lease have the store's own name; so have its ServiceAccount,
/// Role, ConfigMap and PodDisruptionBudget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreNames {
    store: String,
}

impl StoreNames {
    /// Names for the store called `store`.
    pub fn new(store: impl Into<String>) -> Self {
        Self { store: store.into() }
    }

    /// The MailStore, Lease, ServiceAccount, Role, ConfigMap and PodDisruptionBudget.
    #[must_use]
    pub fn store(&self) -> &str {
        &self.store
    }

    /// The StatefulSet of the replica with this letter.
    #[must_use]
    pub fn stateful_set(&self, letter: char) -> String {
        format!("{}-{letter}", self.store)
    }

    /// The pod of that StatefulSet.
    #[must_use]
    pub fn pod(&self, letter: char) -> String {
        format!("{}-{letter}-0", self.store)
    }

    /// The PersistentVolumeClaim of the replica with this id (32 hexadecimal digits).
    #[must_use]
    pub fn claim(&self, replica: &str) -> String {
        format!("mail-{}-{}", self.store, replica.get(..8).unwrap_or(replica))
    }

    /// The Secret with the identity of this store's pods.
    #[must_use]
    pub fn identity(&self) -> String {
        format!("{}-identity", self.store)
    }
}

/// The fence Job for one boot of a node. Names of Jobs are limited to 63 characters, so only the start of the boot id
/// stands in it; the Job's environment carries it whole.
#[must_use]
pub fn fence_job(node: &str, boot_id: &str) -> String {
    let boot: String = boot_id.chars().filter(char::is_ascii_hexdigit).take(12).collect();
    let node: String = node.chars().take(44).collect();
    format!("fence-{}-{boot}", node.replace('.', "-").to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_the_design_says() {
        let c = ClusterNames::new("demo");
        assert_eq!(c.store(0), "demo-0");
        assert_eq!(c.directory(), "demo-directory");
        assert_eq!(c.stores(2).collect::<Vec<_>>(), ["demo-directory", "demo-0", "demo-1"]);
        let s = StoreNames::new("demo-0");
        assert_eq!(s.stateful_set(FIRST_REPLICA), "demo-0-a");
        assert_eq!(s.pod(FIRST_REPLICA), "demo-0-a-0");
        assert_eq!(s.claim("0123456789abcdef0123456789abcdef"), "mail-demo-0-01234567");
    }

    #[test]
    fn store_numbers_are_read_back_only_from_own_names() {
        let c = ClusterNames::new("demo");
        for (name, number) in [
            ("demo-0", Some(0)),
            ("demo-199", Some(199)),
            ("demo-directory", None),
            ("demo-00", None),
            ("demo-+1", None),
            ("other-1", None),
            ("demo", None),
        ] {
            assert_eq!(c.store_number(name), number, "{name}");
        }
    }

    #[test]
    fn the_longest_names_fit_label_values() {
        let c = ClusterNames::new("c".repeat(MAX_CLUSTER_NAME));
        let s = StoreNames::new(c.directory());
        // A StatefulSet's pods carry `<name>-<10 characters of hash>` as a label value.
        assert!(s.stateful_set('a').len() + 11 <= 63);
        assert!(s.pod('a').len() <= 63);
        assert!(c.operator_identity().len() <= 63);
        let boot = "0d6a5b8e-1111-2222-3333-444455556666";
        assert!(fence_job(&"n".repeat(253), boot).len() <= 63);
        assert_eq!(fence_job("node1.example", boot), "fence-node1-example-0d6a5b8e1111");
    }
}
