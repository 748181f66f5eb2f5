//! Status: from what was applied to what is told. Pure.

mod store;

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, StatefulSet},
        core::v1::{PersistentVolumeClaim, Service},
    },
    jiff::Timestamp,
};
use kube::ResourceExt;
use mailcluster_api::{
    MailCluster, MailClusterStatus, MailStore,
    condition::{self, Draft},
    labels,
    mailcluster::{Exposure, FailoverPolicy, FrontendCounts, StoreCounts},
    mailstore::{FailoverMode, Phase, StoreKind},
    roles::Role,
};

use crate::{cluster::Cluster, tls_merge::Merged, volumes};

pub use store::{of_store, volume_news};

/// What a cluster's status is made of.
pub struct Summary<'a> {
    /// The cluster.
    pub cluster: &'a Cluster,
    /// Its MailStores.
    pub stores: Vec<&'a MailStore>,
    /// Their claims.
    pub claims: &'a BTreeMap<String, PersistentVolumeClaim>,
    /// The stores' StatefulSets.
    pub sets: &'a [StatefulSet],
    /// Its frontends.
    pub deployment: Option<&'a Deployment>,
    /// The Service that clients connect to.
    pub service: Option<&'a Service>,
    /// What clients are shown.
    pub tls: &'a Merged,
    /// When.
    pub now: Timestamp,
}

/// Seconds before the end of a client certificate from which on it is complained about.
const EXPIRES_SOON: i64 = 14 * 86_400;

/// A cluster's status.
#[must_use]
pub fn of_cluster(summary: &Summary<'_>, object: &MailCluster) -> MailClusterStatus {
    let old = object.status.clone().unwrap_or_default();
    let generation = object.metadata.generation;
    let frontends = frontend_counts(summary);
    let (mail, directory) =
        (store_counts(summary, StoreKind::Mail), store_counts(summary, StoreKind::Directory));
    let addresses = addresses(summary);
    let mut drafts = vec![ready(summary, &frontends, &mail, &directory)];
    drafts.push(progressing(summary, &frontends));
    drafts.push(degraded(summary, &frontends));
    drafts.push(failing_over(summary));
    drafts.push(failover_blocked(summary));
    drafts.push(address_pending(summary, &addresses));
    drafts.push(hand_off(summary, &mail));
    drafts.push(single_node(summary));
    drafts.push(tls(summary));
    drafts.push(Draft::no(condition::PAUSED, "Running", ""));
    MailClusterStatus {
        observed_generation: generation,
        cluster_id: Some(summary.cluster.id.clone()),
        image: Some(summary.cluster.image.clone()),
        addresses,
        frontends: Some(frontends),
        stores: Some(mail),
        directory: Some(directory),
        conditions: condition::merge(drafts, &old.conditions, generation, summary.now),
    }
}

fn phase(store: &MailStore) -> Option<Phase> {
    store.status.as_ref()?.phase
}

fn serves(store: &MailStore) -> bool {
    matches!(phase(store), Some(Phase::Serving | Phase::Draining))
}

/// Names with phases of the stores that `which` picks.
fn list(summary: &Summary<'_>, which: impl Fn(&MailStore) -> bool) -> Vec<String> {
    let name = |s: &&MailStore| format!("{} ({})", s.name_any(), phase(s).map_or("new", Phase::as_str));
    summary.stores.iter().copied().filter(|s| which(s)).map(|s| name(&s)).collect()
}

fn store_counts(summary: &Summary<'_>, kind: StoreKind) -> StoreCounts {
    let of_kind = summary.stores.iter().filter(|s| s.spec.kind == kind);
    let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    StoreCounts {
        desired: count(of_kind.clone().count()),
        serving: count(of_kind.filter(|s| serves(s)).count()),
    }
}

fn frontend_counts(summary: &Summary<'_>) -> FrontendCounts {
    let status = summary.deployment.and_then(|d| d.status.as_ref());
    let selector = labels::selector(&summary.cluster.name, Role::Frontend);
    FrontendCounts {
        replicas: status.and_then(|s| s.replicas).unwrap_or(0),
        ready: status.and_then(|s| s.ready_replicas).unwrap_or(0),
        selector: selector.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(","),
    }
}

fn wanted_frontends(summary: &Summary<'_>) -> i32 {
    summary.cluster.spec.frontends.replicas.unwrap_or(1)
}

/// Where clients reach the frontends, as far as the Service tells.
fn addresses(summary: &Summary<'_>) -> Vec<String> {
    let Some(service) = summary.service else { return vec![] };
    let ingress =
        service.status.as_ref().and_then(|s| s.load_balancer.as_ref()).and_then(|l| l.ingress.as_ref());
    match summary.cluster.spec.frontends.exposure {
        Exposure::LoadBalancer => {
            let address =
                |i: &k8s_openapi::api::core::v1::LoadBalancerIngress| i.ip.clone().or(i.hostname.clone());
            ingress.into_iter().flatten().filter_map(address).collect()
        }
        Exposure::ClusterIp => service.spec.as_ref().and_then(|s| s.cluster_ips.clone()).unwrap_or_default(),
        // At the nodes' own addresses: nothing to name here.
        Exposure::HostPort | Exposure::NodePort => vec![],
    }
}

fn ready(
    summary: &Summary<'_>,
    frontends: &FrontendCounts,
    mail: &StoreCounts,
    directory: &StoreCounts,
) -> Draft {
    let down = list(summary, |s| !serves(s));
    if !down.is_empty() {
        return Draft::no(condition::READY, "StoresNotServing", format!("not served: {}", down.join(", ")));
    }
    if frontends.ready == 0 {
        return Draft::no(
            condition::READY,
            "NoFrontend",
            "no frontend is ready: see the pods of the frontends' Deployment",
        );
    }
    let message = format!(
        "{} of {} stores, {} of {} directories, {} frontends",
        mail.serving, mail.desired, directory.serving, directory.desired, frontends.ready
    );
    Draft::yes(condition::READY, "Serving", message)
}

fn progressing(summary: &Summary<'_>, frontends: &FrontendCounts) -> Draft {
    let is_fresh = |s: &MailStore| matches!(phase(s), None | Some(Phase::Initialising | Phase::Settling));
    let mut fresh = list(summary, is_fresh);
    if !fresh.is_empty() {
        fresh.extend(summary.stores.iter().filter(|s| is_fresh(s)).filter_map(|s| unbound(summary, s)));
        return Draft::yes(condition::PROGRESSING, "StoresStarting", fresh.join(", "));
    }
    let updated =
        summary.deployment.and_then(|d| d.status.as_ref()).and_then(|s| s.updated_replicas).unwrap_or(0);
    if updated < wanted_frontends(summary) || frontends.replicas != wanted_frontends(summary) {
        let message = format!("{updated} of {} frontends are as they shall be", wanted_frontends(summary));
        return Draft::yes(condition::PROGRESSING, "FrontendsRolling", message);
    }
    let outdated: Vec<&str> = summary.sets.iter().filter_map(outdated).collect();
    if !outdated.is_empty() {
        let spec = &summary.cluster.spec.failover;
        let how = if spec.policy == FailoverPolicy::Manual {
            "failover.policy is Manual: delete their pods, one after another"
        } else {
            "they are restarted one after another, each when all others serve"
        };
        let message = format!("made from an older configuration: {}; {how}", outdated.join(", "));
        return Draft::yes(condition::PROGRESSING, "StoresOutdated", message);
    }
    Draft::no(condition::PROGRESSING, "Done", "")
}

/// Why a store's claim keeps it waiting.
fn unbound(summary: &Summary<'_>, store: &MailStore) -> Option<String> {
    let claim = summary.claims.get(&store.spec.replicas.first()?.pvc).filter(|c| !volumes::was_bound(c))?;
    let spec = claim.spec.as_ref()?;
    let class = spec.storage_class_name.as_deref().unwrap_or("the default one");
    let size = spec.resources.as_ref().and_then(|r| r.requests.as_ref()?.get("storage"));
    Some(format!(
        "claim {} waits for a volume (class {class}, {}): `kubectl describe pvc` says what for; a wrong class or size is put right by deleting the MailCluster and creating it anew, which deletes no volume",
        claim.name_any(),
        size.map_or("any size", |q| q.0.as_str()),
    ))
}

/// The store whose pod was not made from what its StatefulSet says now.
fn outdated(set: &StatefulSet) -> Option<&str> {
    let status = set.status.as_ref()?;
    let seen = status.observed_generation == set.metadata.generation;
    let behind = status.updated_replicas.unwrap_or(0) < status.replicas;
    (seen && behind).then(|| set.labels().get(labels::STORE).map(String::as_str))?
}

fn degraded(summary: &Summary<'_>, frontends: &FrontendCounts) -> Draft {
    let missing = list(summary, |s| {
        s.status.as_ref().is_some_and(|st| condition::is_true(&st.conditions, condition::VOLUME_MISSING))
    });
    if !missing.is_empty() {
        let message =
            format!("volumes are missing or going: {}; see the MailStores' conditions", missing.join(", "));
        return Draft::yes(condition::DEGRADED, "VolumeMissing", message);
    }
    let down = list(summary, |s| phase(s).is_some_and(|p| p != Phase::Initialising) && !serves(s));
    if !down.is_empty() {
        return Draft::yes(condition::DEGRADED, "StoresNotServing", down.join(", "));
    }
    if frontends.ready < wanted_frontends(summary) {
        let message = format!("{} of {} frontends are ready", frontends.ready, wanted_frontends(summary));
        return Draft::yes(condition::DEGRADED, "FrontendsMissing", message);
    }
    Draft::no(condition::DEGRADED, "Whole", "")
}

fn failing_over(summary: &Summary<'_>) -> Draft {
    use Phase::{Draining, Fencing, Promoting, Reattaching, Settling, Suspect};
    let moving = list(summary, |s| {
        matches!(phase(s), Some(Suspect | Draining | Fencing | Reattaching | Promoting | Settling))
    });
    let reason = if moving.is_empty() { "NoneMoving" } else { "StoresMoving" };
    Draft::of(condition::FAILING_OVER, !moving.is_empty(), reason, moving.join(", "))
}

fn failover_blocked(summary: &Summary<'_>) -> Draft {
    let why = |s: &&MailStore| {
        let conditions = &s.status.as_ref()?.conditions;
        let blocked =
            conditions.iter().find(|c| c.type_ == condition::FAILOVER_BLOCKED && c.status == "True");
        let message = blocked.map(|c| c.message.clone());
        let message = message
            .or_else(|| (phase(s) == Some(Phase::Blocked)).then(|| "see its conditions".to_owned()))?;
        Some(format!("{}: {message}", s.name_any()))
    };
    let blocked: Vec<String> = summary.stores.iter().filter_map(why).collect();
    if !blocked.is_empty() {
        return Draft::yes(condition::FAILOVER_BLOCKED, "StoresBlocked", blocked.join("; "));
    }
    let manual = summary.cluster.spec.failover.policy == FailoverPolicy::Manual;
    let reason = if manual { "ManualPolicy" } else { "NoneBlocked" };
    Draft::no(condition::FAILOVER_BLOCKED, reason, "")
}

fn address_pending(summary: &Summary<'_>, addresses: &[String]) -> Draft {
    let told = |reason, message| Draft::no(condition::ADDRESS_PENDING, reason, message);
    match summary.cluster.spec.frontends.exposure {
        Exposure::LoadBalancer if addresses.is_empty() => Draft::yes(
            condition::ADDRESS_PENDING,
            "NoLoadBalancer",
            "the LoadBalancer Service has no address: install a load balancer (MetalLB, or your cloud's), or set frontends.exposure to NodePort or HostPort",
        ),
        Exposure::LoadBalancer | Exposure::ClusterIp => told("Assigned", addresses.join(", ")),
        Exposure::HostPort => told(
            "NotNeeded",
            "clients use the addresses of the nodes that run a frontend, and the usual ports".into(),
        ),
        Exposure::NodePort => {
            let ports = summary.service.and_then(|s| s.spec.as_ref()?.ports.clone()).unwrap_or_default();
            let ports = ports.iter().filter_map(|p| Some(format!("{} for {}", p.node_port?, p.port)));
            let list = ports.collect::<Vec<_>>().join(", ");
            told(
                "NotNeeded",
                format!("clients use the addresses of the nodes that run a frontend, and ports {list}"),
            )
        }
    }
}

fn hand_off(summary: &Summary<'_>, mail: &StoreCounts) -> Draft {
    let refused = "mail for a store that is away is refused for now (451)";
    if mail.desired < 2 {
        let message = format!(
            "there is one mail store, and no other to take its mail meanwhile: {refused}; raise stores.count"
        );
        return Draft::yes(condition::NO_HAND_OFF_TARGET, "TooFewStores", message);
    }
    if mail.serving < 2 {
        let away = list(summary, |s| s.spec.kind == StoreKind::Mail && !serves(s));
        let message =
            format!("{refused}, as fewer than two stores serve; bring these back: {}", away.join(", "));
        return Draft::yes(condition::NO_HAND_OFF_TARGET, "OthersNotServing", message);
    }
    Draft::no(condition::NO_HAND_OFF_TARGET, "Enough", "")
}

fn single_node(summary: &Summary<'_>) -> Draft {
    let alone = |s: &&&MailStore| s.status.as_ref().and_then(|st| st.failover) == Some(FailoverMode::None);
    let single: Vec<String> = summary.stores.iter().filter(alone).map(|s| s.name_any()).collect();
    if single.is_empty() {
        return Draft::no(condition::SINGLE_NODE_VOLUME, "NoneKnown", "");
    }
    let message =
        format!("only one node reaches the volumes of {}: when it dies, they wait for it", single.join(", "));
    Draft::yes(condition::SINGLE_NODE_VOLUME, "OneNode", message)
}

fn tls(summary: &Summary<'_>) -> Draft {
    let tls = summary.tls;
    if !tls.broken.is_empty() {
        let each = tls.broken.iter().map(|(name, why)| format!("Secret {name}: {why}")).collect::<Vec<_>>();
        let message = format!("{}; its last good certificate is kept, if there was one", each.join("; "));
        return Draft::no(condition::TLS_READY, "BrokenSecret", message);
    }
    if tls.self_signed {
        let message = "clients are shown a self-signed certificate: name a Secret in tls.secretNames";
        return Draft::no(condition::TLS_READY, "SelfSigned", message);
    }
    if tls.expires - summary.now.as_second() < EXPIRES_SOON {
        return Draft::no(
            condition::TLS_READY,
            "ExpiresSoon",
            "a certificate ends within 14 days, or has ended: renew it",
        );
    }
    Draft::yes(condition::TLS_READY, "Valid", "")
}

#[cfg(test)]
#[path = "status/tests.rs"]
mod tests;
