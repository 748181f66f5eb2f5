//! The way of users' mail to other sites.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// How users' mail gets to other sites: it waits in the queue of the sender's store, which connects to the other site.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Outbound {
    /// A host that takes all of it. None: the hosts that each domain's MX records name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smarthost: Option<Smarthost>,
    /// Keep to the policies that domains publish over HTTPS (MTA-STS, RFC 8461): nodes of stores need a way to port 443 of other
    /// sites. Default: true.
    #[serde(default = "Outbound::default_mta_sts")]
    pub mta_sts: bool,
    /// Verify signatures in the DNS (DNSSEC), and keep to what TLSA records demand (DANE, RFC 7672). The name servers that pods
    /// ask must pass signatures on, or mail for signed domains waits. Default: false.
    #[serde(default)]
    pub dane: bool,
    /// What each account may send to other sites. None: as much as it likes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<SendLimits>,
}

impl Outbound {
    fn default_mta_sts() -> bool {
        true
    }
}

impl Default for Outbound {
    fn default() -> Self {
        Self { smarthost: None, mta_sts: Self::default_mta_sts(), dane: false, limits: None }
    }
}

/// What each account may send to other sites, whichever frontends it comes by.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("has(self.messagesPerHour) || has(self.recipientsPerHour) || has(self.recipientsPerDay)", "name a limit, or leave outbound.limits out"),
)]
pub struct SendLimits {
    /// Messages in any hour. None: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub messages_per_hour: Option<u32>,
    /// Recipients in any hour. None: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub recipients_per_hour: Option<u32>,
    /// Recipients in any day. None: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub recipients_per_day: Option<u32>,
}

/// A host that takes mail for other sites.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("!has(self.credentialsSecret) || self.tls != 'May'", "credentials are only given over TLS: set outbound.smarthost.tls to Verify or Encrypt, or leave it out"),
)]
pub struct Smarthost {
    /// Its name, or its address.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = ("self.matches('^[A-Za-z0-9:._-]+$')", "host must be a host name or an address, without brackets"))]
    pub host: String,
    /// Its port. Default: 25.
    #[serde(default = "Smarthost::default_port")]
    #[schemars(range(min = 1, max = 65_535))]
    pub port: u16,
    /// What is asked of the connection. Default: Verify.
    #[serde(default)]
    pub tls: SmarthostTls,
    /// The name of a Secret of type kubernetes.io/basic-auth in the cluster's namespace, whose username and password are
    /// for a login there (AUTH PLAIN or LOGIN). While it is missing, mail waits. A change counts without a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub credentials_secret: Option<String>,
}

impl Smarthost {
    fn default_port() -> u16 {
        25
    }
}

/// What is asked of the connection to a smarthost.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, schemars::JsonSchema)]
pub enum SmarthostTls {
    /// TLS (STARTTLS) or nothing, with a certificate of the host's name by an authority of Mozilla's list.
    #[default]
    Verify,
    /// TLS or nothing, with any certificate.
    Encrypt,
    /// TLS when it is offered, else in clear.
    May,
}
