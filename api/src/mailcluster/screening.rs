//! Who is refused by the frontends.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Addresses that guess passwords, try out recipients or send garbage are refused for a while, by all frontends at once;
/// logins to an account under attack are slowed down, but for addresses from which it logged in well lately.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("self.firstBanSeconds <= self.longestBanSeconds", "screening.firstBanSeconds is longer than longestBanSeconds"),
)]
pub struct Screening {
    /// False: nobody is refused. Default: true.
    #[serde(default = "Screening::on")]
    pub enabled: bool,
    /// Networks in CIDR notation that are never refused, like webmail servers, from which many users log in. Trusted
    /// proxies and the cluster's own addresses never are.
    #[serde(default, rename = "allowCIDRs", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 49)))]
    #[x_kube(validation = ("self.all(c, isCIDR(c))", "allowCIDRs must be networks in CIDR notation, like 10.0.0.0/8 or 2001:db8::/32"))]
    pub allow_cidrs: Vec<String>,
    /// Networks in CIDR notation that are always refused, but for what is allowed.
    #[serde(default, rename = "blockCIDRs", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4096), inner(length(max = 49)))]
    #[x_kube(validation = ("self.all(c, isCIDR(c))", "blockCIDRs must be networks in CIDR notation, like 10.0.0.0/8 or 2001:db8::/32"))]
    pub block_cidrs: Vec<String>,
    /// Failed logins, less those that have faded (half in ten minutes), that get an address banned: an IPv4 address or
    /// an IPv6 /64. From where somebody logged in well within 30 days, four times as many. Default: 50.
    #[serde(default = "Screening::default_failed_logins")]
    #[schemars(range(min = 5, max = 100_000))]
    pub failed_logins: u32,
    /// Accounts at which an address failed within twenty minutes that get it banned; likewise. Default: 10.
    #[serde(default = "Screening::default_accounts")]
    #[schemars(range(min = 2, max = 64))]
    pub accounts: u32,
    /// How long the first ban of an address lasts; each further one is twice as long. Default: 900.
    #[serde(default = "Screening::default_first_ban")]
    #[schemars(range(min = 1, max = 31_536_000))]
    pub first_ban_seconds: u32,
    /// How long a ban lasts at most. Default: 604800, a week.
    #[serde(default = "Screening::default_longest_ban")]
    #[schemars(range(min = 1, max = 31_536_000))]
    pub longest_ban_seconds: u32,
}

impl Screening {
    fn on() -> bool {
        true
    }

    fn default_failed_logins() -> u32 {
        50
    }

    fn default_accounts() -> u32 {
        10
    }

    fn default_first_ban() -> u32 {
        900
    }

    fn default_longest_ban() -> u32 {
        7 * 86_400
    }
}

impl Default for Screening {
    fn default() -> Self {
        Self {
            enabled: true,
            allow_cidrs: Vec::new(),
            block_cidrs: Vec::new(),
            failed_logins: Self::default_failed_logins(),
            accounts: Self::default_accounts(),
            first_ban_seconds: Self::default_first_ban(),
            longest_ban_seconds: Self::default_longest_ban(),
        }
    }
}
