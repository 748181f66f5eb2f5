//! The fence Job of one boot of a node: what it is made of, and what its verdict is.

use k8s_openapi::{
    api::{
        batch::v1::{
            Job, JobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement,
            PodFailurePolicyOnPodConditionsPattern, PodFailurePolicyRule,
        },
        core::v1::{
            Affinity, Capabilities, Container, EnvVar, LocalObjectReference, NodeAffinity, NodeSelector,
            NodeSelectorRequirement, NodeSelectorTerm, PodSecurityContext, PodSpec, PodTemplateSpec,
            SeccompProfile, SecurityContext,
        },
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Resource, ResourceExt};
use mailcluster_api::{MailCluster, labels, mailcluster::FenceJob as Spec, names};
use mailcluster_failover::{FenceJob, NodeView};

use super::annotations::{FENCE_BOOT, FENCE_NODE};
use crate::{build::pod, context::OperatorConfig};

/// Where the Secret with the way to the management controllers is mounted.
const SECRET_DIR: &str = "/run/mailcluster/fence";
/// The exit code that asks to be tried again.
const TRY_AGAIN: i32 = 75;
/// Attempts before the Job counts as failed.
const ATTEMPTS: i32 = 5;
/// A finished Job is kept this long, for people to look at.
const KEPT_SECONDS: i32 = 3600;
/// The label of its pods.
const COMPONENT: &str = "fence";

/// The Job that ends one boot of a node, and no other.
#[must_use]
pub fn build(
    cluster: &MailCluster,
    spec: &Spec,
    config: &OperatorConfig,
    node: &NodeView,
    boot_id: &str,
) -> Job {
    let mut own = labels::common(&cluster.name_any());
    own.insert(labels::COMPONENT.into(), COMPONENT.into());
    let timeout = i64::from(spec.timeout_seconds);
    Job {
        metadata: ObjectMeta {
            name: Some(names::fence_job(&node.name, boot_id)),
            namespace: cluster.namespace(),
            labels: Some(own.clone()),
            annotations: Some(
                [(FENCE_NODE.to_owned(), node.name.clone()), (FENCE_BOOT.to_owned(), boot_id.to_owned())]
                    .into(),
            ),
            owner_references: cluster.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            backoff_limit: Some(ATTEMPTS),
            active_deadline_seconds: Some(timeout * i64::from(ATTEMPTS)),
            ttl_seconds_after_finished: Some(KEPT_SECONDS),
            pod_failure_policy: Some(failure_policy()),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(own), ..ObjectMeta::default() }),
                spec: Some(pod_spec(spec, config, node, boot_id)),
            },
            ..JobSpec::default()
        }),
        status: None,
    }
}

/// 75 is tried again, a pod that was evicted is as if it had not been; every other exit code is the end.
fn failure_policy() -> PodFailurePolicy {
    PodFailurePolicy {
        rules: vec![
            PodFailurePolicyRule {
                action: "Ignore".into(),
                on_pod_conditions: Some(vec![PodFailurePolicyOnPodConditionsPattern {
                    type_: "DisruptionTarget".into(),
                    status: "True".into(),
                }]),
                on_exit_codes: None,
            },
            PodFailurePolicyRule {
                action: "FailJob".into(),
                on_exit_codes: Some(PodFailurePolicyOnExitCodesRequirement {
                    container_name: Some(COMPONENT.into()),
                    operator: "NotIn".into(),
                    values: vec![0, TRY_AGAIN],
                }),
                on_pod_conditions: None,
            },
        ],
    }
}

fn pod_spec(spec: &Spec, config: &OperatorConfig, node: &NodeView, boot_id: &str) -> PodSpec {
    let (volume, mount) = pod::secret("bmc", &spec.secret_name, SECRET_DIR);
    let own = [("NODE", node.name.as_str()), ("NODE_UID", &node.uid), ("BOOT_ID", boot_id)];
    let given = spec.env.iter().map(|e| (e.name.as_str(), e.value.as_str()));
    let names: Vec<&str> = own.iter().map(|(name, _)| *name).collect();
    let env = given.filter(|(name, _)| !names.contains(name)).chain(own).map(|(name, value)| EnvVar {
        name: name.into(),
        value: Some(value.into()),
        value_from: None,
    });
    let secrets = config.image_pull_secrets.iter().map(|name| LocalObjectReference { name: name.clone() });
    PodSpec {
        restart_policy: Some("Never".into()),
        // One that is called off ends before it does what it was about to do.
        termination_grace_period_seconds: Some(1),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        active_deadline_seconds: Some(i64::from(spec.timeout_seconds)),
        priority_class_name: config.priority_class.clone(),
        image_pull_secrets: Some(secrets.collect::<Vec<_>>()).filter(|list| !list.is_empty()),
        affinity: Some(not_on(&node.name)),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(65_532),
            run_as_group: Some(65_532),
            fs_group: Some(65_532),
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".into(), localhost_profile: None }),
            ..PodSecurityContext::default()
        }),
        containers: vec![Container {
            name: COMPONENT.into(),
            image: Some(spec.image.clone().unwrap_or_else(|| config.fence_image.clone())),
            image_pull_policy: Some("IfNotPresent".into()),
            args: Some(spec.args.clone()).filter(|args| !args.is_empty()),
            env: Some(env.collect()),
            volume_mounts: Some(vec![mount]),
            security_context: Some(SecurityContext {
                allow_privilege_escalation: Some(false),
                read_only_root_filesystem: Some(true),
                capabilities: Some(Capabilities { drop: Some(vec!["ALL".into()]), add: None }),
                ..SecurityContext::default()
            }),
            ..Container::default()
        }],
        volumes: Some(vec![volume]),
        ..PodSpec::default()
    }
}

/// Anywhere but on the node that it switches off.
fn not_on(node: &str) -> Affinity {
    let term = NodeSelectorTerm {
        match_fields: Some(vec![NodeSelectorRequirement {
            key: "metadata.name".into(),
            operator: "NotIn".into(),
            values: Some(vec![node.into()]),
        }]),
        match_expressions: None,
    };
    Affinity {
        node_affinity: Some(NodeAffinity {
            required_during_scheduling_ignored_during_execution: Some(NodeSelector {
                node_selector_terms: vec![term],
            }),
            ..NodeAffinity::default()
        }),
        ..Affinity::default()
    }
}

/// Has this Job come to an end, whichever?
#[must_use]
pub fn has_ended(job: &Job) -> bool {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut ended = conditions.filter(|c| c.status == "True");
    ended.any(|c| matches!(c.type_.as_str(), "Complete" | "SuccessCriteriaMet" | "Failed" | "FailureTarget"))
}

/// What a Job says about this boot of this node; `None` when it is about another one.
#[must_use]
pub fn verdict(job: &Job, node: &str, boot_id: &str) -> Option<FenceJob> {
    let annotations = job.annotations();
    let about = |key: &str, value: &str| annotations.get(key).is_some_and(|found| found == value);
    if !about(FENCE_NODE, node) || !about(FENCE_BOOT, boot_id) {
        return None;
    }
    let conditions = job.status.as_ref().and_then(|s| s.conditions.as_ref());
    let is =
        |type_: &str| conditions.and_then(|all| all.iter().find(|c| c.type_ == type_ && c.status == "True"));
    if is("Complete").is_some() {
        return Some(FenceJob::Off { node: node.to_owned(), boot_id: boot_id.to_owned() });
    }
    if let Some(failed) = is("Failed") {
        let why = failed.message.clone().or_else(|| failed.reason.clone()).unwrap_or_default();
        return Some(FenceJob::Failed(format!("{}: {why}", job.name_any())));
    }
    Some(FenceJob::Running)
}
