//! The leader looks at every frontend each second; one that misses three times in a row is taken out of the Service by
//! its readiness gate, long before Kubernetes notices that its node is gone.

mod decide;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::future::join_all;
use k8s_openapi::{
    api::core::v1::{Pod, PodCondition},
    jiff::Timestamp,
};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use mailcluster_api::{FRONTEND_GATE, labels, ports, roles::Role};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{context::Context, failover::Caches, leader::boot_time};
use decide::{Gate, Record, Round};

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(1);
/// No answer for this long is a miss.
const TIMEOUT: Duration = Duration::from_millis(900);
/// A field manager of its own: the kubelet writes the rest of a pod's status.
const FIELD_MANAGER: &str = "mailcluster-frontend-probe";

/// Why a pod that is taken out is not Ready.
const OURS: &str = "Unreachable";

/// No write of a gate may take longer: the next look writes it again.
const WRITE_LIMIT: Duration = Duration::from_secs(1);

/// Runs until the process is to stop. Every replica probes, so that a new leader knows at once who misses; only the
/// leader writes.
///
/// # Errors
/// Never while running; the signature leaves room for the caller's context.
pub async fn run(ctx: Context, caches: Arc<Caches>) -> anyhow::Result<()> {
    let mut round = Round::default();
    let mut tick = tokio::time::interval(PERIOD);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = ctx.stop.cancelled() => return Ok(()),
            _ = tick.tick() => {}
        }
        look(&ctx, &mut round, &caches.pods_of(Role::Frontend)).await;
    }
}

/// One look at all frontends.
async fn look(ctx: &Context, round: &mut Round, pods: &[Arc<Pod>]) {
    let probes = pods.iter().filter_map(|pod| {
        let address = pod.status.as_ref()?.pod_ip.clone()?;
        Some(async move { (pod.clone(), reachable(&address).await) })
    });
    let records: Vec<Record> =
        join_all(probes).await.into_iter().map(|(pod, reached)| record(&pod, reached)).collect();
    let by_uid: BTreeMap<String, &Arc<Pod>> = pods.iter().filter_map(|p| Some((p.uid()?, p))).collect();
    let writes = round.decide(records).into_iter().filter_map(|(uid, gate)| Some((*by_uid.get(&uid)?, gate)));
    if !ctx.leads() {
        return;
    }
    for (pod, gate) in writes {
        // Beside the probes: an API server that hangs must not keep them waiting.
        let (ctx, pod) = (ctx.clone(), pod.clone());
        tokio::spawn(async move { write(&ctx, &pod, gate).await });
    }
}

fn record(pod: &Pod, reached: bool) -> Record {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    let gate =
        conditions.and_then(|all| all.iter().find(|c| c.type_ == FRONTEND_GATE)).map(|c| c.status == "True");
    Record {
        uid: pod.uid().unwrap_or_default(),
        cluster: format!(
            "{}/{}",
            pod.namespace().unwrap_or_default(),
            pod.labels().get(labels::CLUSTER).map_or("", |c| c)
        ),
        reached,
        gate,
        is_held: is_held(pod),
    }
}

/// Is this pod not Ready by our word alone, with every container ready?
fn is_held(pod: &Pod) -> bool {
    let Some(status) = &pod.status else { return false };
    let mut conditions = status.conditions.iter().flatten();
    let ours =
        |c: &PodCondition| c.type_ == "Ready" && c.status == "False" && c.reason.as_deref() == Some(OURS);
    let mut containers = status.container_statuses.iter().flatten();
    conditions.any(ours) && containers.all(|container| container.ready)
}

/// Does anything answer HTTP on the health port? What it says is the kubelet's business.
async fn reachable(address: &str) -> bool {
    let attempt = async {
        let ip: std::net::IpAddr = address.parse().ok()?;
        let mut stream = TcpStream::connect((ip, ports::HEALTH)).await.ok()?;
        let request = b"GET /readyz HTTP/1.1\r\nHost: frontend\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await.ok()?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).await.ok()?;
        (&answer == b"HTTP/").then_some(())
    };
    matches!(tokio::time::timeout(TIMEOUT, attempt).await, Ok(Some(())))
}

/// The conditions to write. A pod's readiness is its kubelet's to say, by the gate among others; the kubelet of a node that
/// is gone says nothing any more, and the pod would be sent clients until Kubernetes gives the node up. So it is said in
/// its place, as Kubernetes does then; a kubelet that lives says it anew.
fn conditions(gate: Gate, is_held: bool, now: &str) -> Vec<Value> {
    let condition = |kind: &str, status: &str, reason: &str, message: &str| json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": now});
    match gate {
        Gate::In => {
            let kinds = if is_held { &[FRONTEND_GATE, "Ready"][..] } else { &[FRONTEND_GATE] };
            kinds.iter().map(|kind| condition(kind, "True", "Reachable", "")).collect()
        }
        Gate::Out => {
            let message = "the operator's leader could not reach it three times in a row";
            [FRONTEND_GATE, "Ready"].map(|kind| condition(kind, "False", OURS, message)).into()
        }
    }
}

async fn write(ctx: &Context, pod: &Pod, gate: Gate) {
    let (name, namespace) = (pod.name_any(), pod.namespace().unwrap_or_default());
    let api: Api<Pod> = Api::namespaced(ctx.client.clone(), &namespace);
    let conditions = conditions(gate, is_held(pod), &Timestamp::now().to_string());
    let patch = json!({"metadata": {"uid": pod.uid()}, "status": {"conditions": conditions}});
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
    let started = boot_time();
    let patch = Patch::Strategic(&patch);
    match tokio::time::timeout(WRITE_LIMIT, api.patch_status(&name, &params, &patch)).await {
        Ok(Ok(_)) => {
            let to = if gate == Gate::In { "in" } else { "out" };
            ctx.metrics.frontend_gates.with_label_values(&[to]).inc();
            let took_ms = boot_time().saturating_sub(started).as_millis();
            tracing::info!(name, namespace, to, took_ms, "frontend's readiness gate written");
        }
        Ok(Err(error)) => {
            tracing::warn!(%error, name, namespace, "frontend's readiness gate could not be written");
        }
        Err(_) => tracing::warn!(name, namespace, "the API server took too long to write a readiness gate"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_taken_out_is_not_ready_either() {
        let kinds = |gate, is_held| {
            let written = conditions(gate, is_held, "2026-01-01T00:00:00Z");
            let text = |c: &Value, key: &str| c[key].as_str().unwrap_or_default().to_owned();
            written.iter().map(|c| format!("{}={}", text(c, "type"), text(c, "status"))).collect::<Vec<_>>()
        };
        let gate = |status: &str| format!("{FRONTEND_GATE}={status}");
        assert_eq!(kinds(Gate::In, false), [gate("True")], "its kubelet says the rest");
        assert_eq!(kinds(Gate::In, true), [gate("True"), "Ready=True".into()], "and when it says nothing");
        assert_eq!(kinds(Gate::Out, false), [gate("False"), "Ready=False".into()]);
    }
}
