//! The failover part of a MailCluster.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::rebalance::Rebalance;

/// What `failover.fencing.acceptUnsafe` must say for automatic failover without proof that the old node is off.
pub const ACCEPT_UNSAFE: &str =
    "I accept that mail is lost or corrupted when a node that counts as dead still writes";

const NEEDS_ACCEPTANCE: &str = "self.policy != 'Automatic' || self.fencing.minimum == 'Proof' || (has(self.fencing.acceptUnsafe) && self.fencing.acceptUnsafe == 'I accept that mail is lost or corrupted when a node that counts as dead still writes')";

/// When and how a store moves to another node.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (NEEDS_ACCEPTANCE, "fencing.minimum below Proof lets two nodes write to one volume: set it to Proof, or policy to Manual, or fencing.acceptUnsafe to 'I accept that mail is lost or corrupted when a node that counts as dead still writes'"))]
pub struct Failover {
    /// Does the operator move stores by itself?
    #[serde(default)]
    pub policy: FailoverPolicy,
    /// Seconds after which a store whose lease was not renewed counts as lost: 8 when left out, 15 above 50 stores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = ("self >= 4 && self <= 120", "leaseSeconds must be 4 to 120: a shorter lease takes a busy API server for a dead store"))]
    pub lease_seconds: Option<u32>,
    /// Seconds that a lost store's pod gets to come back by itself before the store moves.
    #[serde(default = "Failover::default_restart_grace")]
    #[schemars(range(min = 0, max = 3600))]
    pub restart_grace_seconds: u32,
    /// How sure the operator must be that the old node writes no more.
    #[serde(default)]
    pub fencing: Fencing,
    /// How many stores may be moving at the same time; the directory is not counted.
    #[serde(default = "Failover::default_max_concurrent")]
    #[schemars(range(min = 1, max = 200))]
    pub max_concurrent: u32,
    /// How often in an hour a store may move because it crashed by itself; 0: no limit. A lost node never counts.
    #[serde(default = "Failover::default_max_moves")]
    #[schemars(range(min = 0, max = 1000))]
    pub max_moves_per_hour: u32,
    /// Until then no store moves by itself; for maintenance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend_until: Option<Time>,
    /// The operator hands stores with mirrors over by itself, so that nodes serve about as many. Left out: never, a person
    /// runs `kubectl mailcluster rebalance`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebalance: Option<Rebalance>,
}

impl Failover {
    fn default_restart_grace() -> u32 {
        10
    }

    fn default_max_concurrent() -> u32 {
        2
    }

    fn default_max_moves() -> u32 {
        2
    }
}

impl Default for Failover {
    fn default() -> Self {
        Self {
            policy: FailoverPolicy::default(),
            lease_seconds: None,
            restart_grace_seconds: Self::default_restart_grace(),
            fencing: Fencing::default(),
            max_concurrent: Self::default_max_concurrent(),
            max_moves_per_hour: Self::default_max_moves(),
            suspend_until: None,
            rebalance: None,
        }
    }
}

/// Does the operator move stores by itself?
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, schemars::JsonSchema)]
pub enum FailoverPolicy {
    /// Yes, as soon as the evidence suffices.
    #[default]
    Automatic,
    /// No: it says what it would do, and waits for `kubectl mailcluster failover`.
    Manual,
}

/// How sure the operator must be that the old node writes no more, and how it makes sure.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Fencing {
    /// The weakest evidence that lets a store with a single copy move.
    #[serde(default)]
    pub minimum: FencingMinimum,
    /// Needed for automatic failover with a minimum below Proof, in exactly these words:
    /// I accept that mail is lost or corrupted when a node that counts as dead still writes
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 200))]
    pub accept_unsafe: Option<String>,
    /// A Job that switches a node off and reads its power state back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<FenceJob>,
}

/// The weakest evidence that lets a store with a single copy move.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, schemars::JsonSchema)]
pub enum FencingMinimum {
    /// The kubelet confirmed the pod's end, the node came back with a new boot id, the fence Job saw the power off, or
    /// a person confirmed it.
    #[default]
    Proof,
    /// Somebody stated it: the Node object was deleted, or carries the out-of-service taint.
    Statement,
    /// The lease ran out, nothing more.
    LeaseExpired,
}

/// A Job that switches a node off and reads its power state back. It gets NODE, NODE_UID and BOOT_ID in its
/// environment and exits with 0 only after the device reads Off, with 75 to be tried again; anything else blocks.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct FenceJob {
    /// The image; the operator's own, which speaks Redfish, when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
    /// Arguments; those of the operator's own image when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub args: Vec<String>,
    /// Further environment variables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub env: Vec<FenceEnv>,
    /// A Secret of the cluster's namespace with the way to the management controllers, mounted at
    /// /run/mailcluster/fence.
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: String,
    /// Seconds one attempt may take.
    #[serde(default = "FenceJob::default_timeout")]
    #[schemars(range(min = 5, max = 3600))]
    pub timeout_seconds: u32,
}

impl FenceJob {
    fn default_timeout() -> u32 {
        60
    }
}

/// An environment variable of the fence Job.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct FenceEnv {
    /// Its name.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
    /// Its value; secrets belong into the Secret.
    #[schemars(length(max = 4096))]
    pub value: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_and_constant_say_the_same_words() {
        assert!(NEEDS_ACCEPTANCE.contains(ACCEPT_UNSAFE));
    }
}
