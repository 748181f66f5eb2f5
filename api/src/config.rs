//! The mail node's configuration file: rendered by the operator into a ConfigMap, mounted at
//! `/etc/mailcluster/node.yaml`, read by `mailcluster-node frontend|backend|directory --config FILE`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{
    mailcluster::{Durability, FencingMinimum, Inbound, Outbound, Screening},
    mailstore::StoreKind,
};

/// Where the ConfigMap is mounted.
pub const CONFIG_DIR: &str = "/etc/mailcluster";
/// The file's name in the ConfigMap.
pub const CONFIG_FILE: &str = "node.yaml";
/// Where the pod's identity (tls.crt, tls.key, ca.crt) is mounted.
pub const IDENTITY_DIR: &str = "/run/mailcluster/identity";
/// Where the certificates shown to clients are mounted: `<n>.crt` and `<n>.key`, the default first.
pub const TLS_DIR: &str = "/run/mailcluster/tls";
/// Where the credentials for the smarthost are mounted, if there are any.
pub const SMARTHOST_DIR: &str = "/run/mailcluster/smarthost";
/// Where the store's volume is mounted.
pub const DATA_DIR: &str = "/var/lib/mailcluster";

/// The whole file. Exactly one of `frontend`, `backend` is there; a directory's pod reads `backend` with kind Directory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeConfig {
    /// The cluster id, 32 hexadecimal digits.
    #[serde(rename = "clusterID")]
    pub cluster_id: String,
    /// The MailCluster's name.
    pub cluster: String,
    /// The namespace of all its objects.
    pub namespace: String,
    /// The host name in greetings, EHLO, Received and Message-ID.
    pub hostname: String,
    /// The account that receives mail for postmaster where a domain has no own one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postmaster: Option<String>,
    /// How users' mail gets to other sites; none: it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outbound: Option<Outbound>,
    /// Who is refused by the frontends, where that is not the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub screening: Option<Screening>,
    /// The MailStore that is the directory.
    pub directory: String,
    /// Where the pod's identity (tls.crt, tls.key, ca.crt) is mounted; reloaded when it changes.
    pub identity_dir: PathBuf,
    /// What a frontend needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frontend: Option<FrontendConfig>,
    /// What a backend or a directory needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<BackendConfig>,
}

/// What a frontend needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FrontendConfig {
    /// Where the certificates shown to clients are mounted: pairs `<name>.crt` and `<name>.key`, the alphabetically
    /// first pair is the default; reloaded when they change.
    pub tls_dir: PathBuf,
    /// Networks in CIDR notation whose connections begin with a PROXY header.
    #[serde(default, rename = "trustedProxies", skip_serializing_if = "Vec::is_empty")]
    pub trusted_proxies: Vec<String>,
    /// What is checked of mail from other sites. Left out as long as nothing is said of it: nodes that do not know it start.
    #[serde(default, skip_serializing_if = "Inbound::is_default")]
    pub inbound: Inbound,
    /// How much one address, and all together, may ask for.
    #[serde(default)]
    pub limits: FrontendLimits,
}

/// How much one client address, and all together, may ask for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct FrontendLimits {
    /// Connections at a time, all together.
    pub connections: u32,
    /// Connections at a time from one IPv4 address or IPv6 /64.
    pub connections_per_address: u32,
    /// Bytes of one message.
    pub message_bytes: u64,
    /// Recipients of one message.
    pub recipients: u32,
}

impl Default for FrontendLimits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            connections_per_address: 100,
            message_bytes: 50 * 1024 * 1024,
            recipients: 1000,
        }
    }
}

/// What a backend or a directory needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackendConfig {
    /// The MailStore it serves.
    pub store: String,
    /// What that store holds.
    pub kind: StoreKind,
    /// The root of its volume.
    pub data_dir: PathBuf,
    /// Its Lease.
    pub lease: LeaseConfig,
    /// How its copies are kept alike; none for a single copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirrors: Option<MirrorsConfig>,
    /// Days for which mail that users expunge can be brought back; none where there is no mail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undelete_days: Option<u32>,
    /// The ServiceAccounts (of the cluster's namespace) whose tokens the directory's admin port admits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub admin_service_accounts: Vec<String>,
}

/// How the copies of a store are kept alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MirrorsConfig {
    /// How many of them have a change before anybody is told that it is done.
    pub durability: Durability,
    /// Milliseconds for which a client waits for a mirror before it is left out.
    pub timeout_milliseconds: u32,
}

/// The Lease that is the store's arbiter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LeaseConfig {
    /// Its name; its namespace is the cluster's.
    pub name: String,
    /// Seconds after which an unrenewed lease counts as lost.
    pub lease_seconds: u32,
    /// The weakest evidence that may take the store away, to be written into the Lease as the rule in force.
    pub fencing_minimum: FencingMinimum,
}

impl NodeConfig {
    /// Reads the file's text.
    ///
    /// # Errors
    /// When it is no YAML, or has unknown, missing or malformed fields; the message names place and field.
    pub fn from_yaml(text: &str) -> Result<Self, ConfigError> {
        serde_saphyr::from_str(text).map_err(|error| ConfigError::Malformed(error.to_string()))
    }

    /// Writes the file's text.
    ///
    /// # Errors
    /// When it cannot be written as YAML, which would be a defect of this crate.
    pub fn to_yaml(&self) -> Result<String, ConfigError> {
        serde_saphyr::to_string(self).map_err(|error| ConfigError::Unwritable(error.to_string()))
    }
}

/// Why a configuration could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// It is not what this version reads.
    #[error("the node's configuration cannot be read: {0}")]
    Malformed(String),
    /// It cannot be written as YAML.
    #[error("the node's configuration cannot be written: {0}")]
    Unwritable(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> NodeConfig {
        NodeConfig {
            cluster_id: "0123456789abcdef0123456789abcdef".into(),
            cluster: "demo".into(),
            namespace: "mail".into(),
            hostname: "mail.example.org".into(),
            postmaster: None,
            outbound: Some(Outbound::default()),
            screening: Some(Screening::default()),
            directory: "demo-directory".into(),
            identity_dir: IDENTITY_DIR.into(),
            frontend: None,
            backend: Some(BackendConfig {
                store: "demo-0".into(),
                kind: StoreKind::Mail,
                data_dir: DATA_DIR.into(),
                lease: LeaseConfig {
                    name: "demo-0".into(),
                    lease_seconds: 8,
                    fencing_minimum: FencingMinimum::Proof,
                },
                mirrors: Some(MirrorsConfig {
                    durability: Durability::Preferred,
                    timeout_milliseconds: 3000,
                }),
                undelete_days: Some(7),
                admin_service_accounts: vec![],
            }),
        }
    }

    #[test]
    fn it_survives_yaml() {
        let yaml = config().to_yaml().unwrap();
        assert_eq!(NodeConfig::from_yaml(&yaml).unwrap(), config());
    }

    #[test]
    fn ids_of_digits_alone_stay_texts() {
        let mut digits = config();
        digits.cluster_id = "01234567890123456789012345678901".into();
        assert_eq!(NodeConfig::from_yaml(&digits.to_yaml().unwrap()).unwrap(), digits);
        digits.cluster_id = "000000000000000000000000000001e5".into();
        assert_eq!(NodeConfig::from_yaml(&digits.to_yaml().unwrap()).unwrap(), digits);
    }

    #[test]
    fn unknown_fields_are_refused() {
        let yaml = config().to_yaml().unwrap() + "\nsurprise: 1\n";
        assert!(NodeConfig::from_yaml(&yaml).is_err());
    }
}
