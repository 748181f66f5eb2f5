//! Who may talk to whom: NetworkPolicies, tried by connecting.

use anyhow::{Result, ensure};
use mailcluster_e2e::wait_for;
use mailcluster_lab::{OciImage, Source};
use mailcluster_test_clients::Ledger;
use serde_json::{Value, json};

use crate::stage::{LIMIT, Stage, pod_of};

const IMAGE: &str = "localhost/lab-toolbox:1";
/// Ports of a backend's pod that only the cluster's own pods and the operator may reach, but the last, which is
/// Prometheus'.
const BACKEND: [u16; 6] = [11024, 11143, 11110, 11190, 11443, 9090];
/// Those of the directory's.
const DIRECTORY: [u16; 2] = [11443, 9090];

/// A pod of somebody else in the same namespace reaches the frontends' doors and nothing behind them; Prometheus reaches
/// metrics.
pub fn foreign_pod(stage: &Stage) -> Result<Ledger> {
    let lab = stage.site.lab()?;
    let archive = lab.paths().lab.join("toolbox.tar");
    OciImage::new(IMAGE, &["/lab-toolbox"])
        .user("65532:65532")
        .file("/lab-toolbox", Source::File(stage.site.binaries.join("lab-toolbox")), 0o755)
        .write(&archive)?;
    lab.load_image(&archive)?;
    if lab.kubectl(&["get", "namespace", "monitoring"]).is_err() {
        lab.kubectl(&["create", "namespace", "monitoring"])?;
    }
    lab.apply(&pod(&stage.site.namespace).to_string())?;
    lab.apply(&pod("monitoring").to_string())?;
    let ours = stage.site.namespace.as_str();
    for namespace in [ours, "monitoring"] {
        wait_for("the foreign pod runs", LIMIT, || {
            let words = ["-n", namespace, "get", "pod", "foreign", "-o", "jsonpath={.status.phase}"];
            Ok((lab.kubectl(&words)? == "Running").then_some(()))
        })?;
    }
    let tried = doors(stage, ours);
    for namespace in [ours, "monitoring"] {
        lab.kubectl(&["-n", namespace, "delete", "pod", "foreign", "--grace-period=1"])?;
    }
    tried.map(|()| Ledger::default())
}

fn doors(stage: &Stage, ours: &str) -> Result<()> {
    let address = |pod: &str| -> Result<String> {
        Ok(stage.kubectl(&["get", "pod", pod, "-o", "jsonpath={.status.podIP}"])?.trim().to_owned())
    };
    let connects = |namespace: &str, ip: &str, port: u16| {
        let target = format!("{ip}:{port}");
        let words =
            ["-n", namespace, "exec", "foreign", "--", "/lab-toolbox", "connect", &target, "QUIT\\r\\n"];
        // A connection that is taken and ended without a word is one, too: only a refused or unanswered one is none.
        match stage.site.kubernetes.kubectl(&words) {
            Ok(_) => true,
            Err(error) => {
                let told = format!("{error:#}");
                !(told.contains("timed out") || told.contains("unreachable") || told.contains("refused"))
            }
        }
    };
    let frontend = address(&stage.site.frontends()?[0])?;
    let clients = stage.site.get(&["pod", &stage.site.frontends()?[0]])?;
    let smtp = port_named(&clients, "smtp");
    wait_for("anybody reaches a frontend's SMTP", LIMIT, || {
        Ok(connects(ours, &frontend, smtp).then_some(()))
    })?;
    // Each try that is kept out takes as long as the toolbox waits.
    for (store, ports) in
        [(stage.accounts[0].store.as_str(), BACKEND.as_slice()), ("demo-directory", &DIRECTORY)]
    {
        let ip = address(&pod_of(store))?;
        for &port in ports {
            ensure!(!connects(ours, &ip, port), "a foreign pod reaches port {port} of {store}");
        }
        wait_for(
            "Prometheus reaches metrics",
            LIMIT,
            || Ok(connects("monitoring", &ip, 9090).then_some(())),
        )?;
        ensure!(!connects("monitoring", &ip, 11443), "Prometheus reaches more than metrics of {store}");
    }
    Ok(())
}

/// The container's port of this name; 25 when there is none.
fn port_named(pod: &Value, name: &str) -> u16 {
    let ports = pod.pointer("/spec/containers/0/ports").and_then(Value::as_array);
    let port = ports.into_iter().flatten().find(|port| port["name"] == name);
    port.and_then(|port| port["containerPort"].as_u64())
        .and_then(|port| u16::try_from(port).ok())
        .unwrap_or(25)
}

fn pod(namespace: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "foreign", "namespace": namespace},
    "spec": {"terminationGracePeriodSeconds": 1, "securityContext": {"runAsNonRoot": true, "runAsUser": 65532,
        "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "toolbox", "image": IMAGE, "imagePullPolicy": "Never", "args": ["sleep"],
            "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}]}})
}
