//! What a directory is told from outside.

use std::time::Duration;

use mailcluster_auth::{HashCost, ThrottlePolicy};
use mailcluster_screen::{Lists, Policy};
use mailcluster_types::{Address, StoreName};
use tokio::sync::watch;

use crate::SendLimits;

/// A mail store that exists, for placing accounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreLoad {
    /// Its name.
    pub store: StoreName,
    /// Octets free on its volume; `None` when not known.
    pub free_octets: Option<u64>,
    /// Octets of its volume; `None` when not known.
    pub total_octets: Option<u64>,
    /// May new accounts be placed on it? An administrator may still name it.
    pub takes_accounts: bool,
}

impl StoreLoad {
    /// A store of which nothing but the name is known.
    #[must_use]
    pub fn named(store: StoreName) -> Self {
        Self { store, free_octets: None, total_octets: None, takes_accounts: true }
    }
}

/// How a directory behaves.
#[derive(Debug, Clone)]
pub struct DirectoryConfig {
    /// The cluster's FQDN: `postmaster` at it is local too.
    pub hostname: String,
    /// The domain of user names without one; `None`: such logins fail.
    pub default_domain: Option<String>,
    /// Who gets `postmaster` of a domain that has none (RFC 5321 section 4.5.1). `None`: it is held in the queue, for
    /// a person to look at.
    pub postmaster: Option<Address>,
    /// The mail stores there are, kept up to date by whoever knows.
    pub stores: watch::Receiver<Vec<StoreLoad>>,
    /// What new password hashes cost.
    pub hash_cost: HashCost,
    /// How patient logins are.
    pub throttle: ThrottlePolicy,
    /// What an account may send to other sites. Default: as much as it likes.
    pub send_limits: SendLimits,
    /// How clients of the whole cluster are screened; `None`: not at all.
    pub screening: Option<(Policy, Lists)>,
    /// A failed login is answered no sooner than this, so that the kind of a stored hash cannot be told by the
    /// time. Default 400 ms.
    pub reject_floor: Duration,
}

impl DirectoryConfig {
    /// The defaults, for this host name and these stores.
    #[must_use]
    pub fn new(hostname: impl Into<String>, stores: watch::Receiver<Vec<StoreLoad>>) -> Self {
        Self {
            hostname: hostname.into().to_lowercase(),
            default_domain: None,
            postmaster: None,
            stores,
            hash_cost: HashCost::default(),
            throttle: ThrottlePolicy::default(),
            send_limits: SendLimits::default(),
            screening: None,
            reject_floor: Duration::from_millis(400),
        }
    }
}
