//! etcd, one or two API servers, the controller manager and the scheduler, in the hub's namespace.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use crate::cgroup::signal_all;
use crate::network::{self, hub};
use crate::pki::Authority;
use crate::progress::step;
use crate::site::{CONTROL, Site};
use crate::state::{Node, Process, State};

/// Every request of everyone is logged, without bodies: tests count reads and writes by user from it.
const AUDIT_POLICY: &str = r#"{"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
 "rules": [{"level": "None", "nonResourceURLs": ["/readyz*", "/livez*", "/healthz*"]}, {"level": "Metadata"}]}"#;

/// Makes every certificate and kubeconfig of the cluster.
pub(crate) fn write_identities(site: &Site, state: &State) -> Result<()> {
    let (pki, ranges) = (site.paths.pki(), state.ranges);
    let authority = Authority::create(&pki)?;
    let mut names: Vec<String> =
        ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost", "127.0.0.1"]
            .map(str::to_owned)
            .into();
    let addresses = [ranges.hub(), ranges.api_service(), ranges.api_server(1), ranges.api_server(2)];
    names.extend(addresses.map(|address| address.to_string()));
    authority.issue("kube-apiserver", "", &names)?.write(&pki, "apiserver")?;
    let hub = ranges.hub();
    for (file, user, group) in [
        ("controller-manager", "system:kube-controller-manager", ""),
        ("scheduler", "system:kube-scheduler", ""),
        ("proxy", "system:kube-proxy", ""),
        ("lab", "mailcluster-lab", "system:masters"),
    ] {
        let identity = authority.issue(user, group, &[])?;
        fs::write(pki.join(format!("{file}.kubeconfig")), authority.kubeconfig(hub, &identity))?;
    }
    let admin = authority.issue("admin", "system:masters", &[])?;
    admin.write(&pki, "admin")?;
    fs::write(site.paths.kubeconfig(), authority.kubeconfig(hub, &admin))?;
    for Node { name, index, .. } in &state.nodes {
        let names = [name.clone(), ranges.node(*index).to_string()];
        let identity = authority.issue(&format!("system:node:{name}"), "system:nodes", &names)?;
        identity.write(&pki, name)?;
        fs::write(pki.join(format!("{name}.kubeconfig")), authority.kubeconfig(hub, &identity))?;
    }
    fs::write(pki.join("audit.yaml"), AUDIT_POLICY).context("failed to write the audit policy")
}

/// Starts everything and waits until the API answers.
pub(crate) fn start(site: &Site, state: &mut State) -> Result<()> {
    step("starting etcd and the Kubernetes control plane (about 15 seconds)");
    let etcd = format!(
        "{} --data-dir {} --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
         --listen-peer-urls http://127.0.0.1:2380 --unsafe-no-fsync",
        site.tools.program("etcd").display(),
        site.paths.lab.join("etcd").display()
    );
    launch(site, state, "etcd", &etcd)?;
    network::route_api(site, state.ranges, &state.api_servers)?;
    for index in 1..=state.api_servers.len() {
        start_api_server(site, state, index)?;
    }
    wait_ready(site, state, Duration::from_secs(180))?;
    let (kubebox, pki) = (site.kubebox.display(), site.paths.pki());
    let pki = pki.display();
    let controllers = format!(
        "{kubebox} controller-manager --kubeconfig={pki}/controller-manager.kubeconfig --secure-port=0 \
         --service-account-private-key-file={pki}/sa.key --root-ca-file={pki}/ca.crt --leader-elect=false \
         --use-service-account-credentials=true --allocate-node-cidrs=false --node-monitor-grace-period=20s \
         --pvclaimbinder-sync-period=3s"
    );
    launch(site, state, "controller-manager", &controllers)?;
    let scheduler = format!(
        "{kubebox} scheduler --kubeconfig={pki}/scheduler.kubeconfig --leader-elect=false --secure-port=0"
    );
    launch(site, state, "scheduler", &scheduler)
}

fn launch(site: &Site, state: &mut State, name: &str, line: &str) -> Result<()> {
    let argv: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    let process = site.spawn(name, CONTROL, &hub(), &argv)?;
    state.processes.insert(name.to_owned(), process);
    state.save(&site.paths)
}

/// Starts API server 1 or 2.
pub(crate) fn start_api_server(site: &Site, state: &mut State, index: usize) -> Result<()> {
    let (pki, ranges) = (site.paths.pki(), state.ranges);
    let (pki, address) = (pki.display(), ranges.api_server(index));
    let line = format!(
        "{} apiserver --etcd-servers=http://127.0.0.1:2379 --secure-port=6443 --bind-address={address} \
         --advertise-address={address} --client-ca-file={pki}/ca.crt --tls-cert-file={pki}/apiserver.crt \
         --tls-private-key-file={pki}/apiserver.key --service-account-key-file={pki}/sa.pub \
         --service-account-signing-key-file={pki}/sa.key \
         --service-account-issuer=https://kubernetes.default.svc --service-cluster-ip-range={} \
         --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged=true \
         --kubelet-preferred-address-types=InternalIP --kubelet-client-certificate={pki}/admin.crt \
         --kubelet-client-key={pki}/admin.key --kubelet-certificate-authority={pki}/ca.crt \
         --audit-policy-file={pki}/audit.yaml --audit-log-path={} --audit-log-mode=blocking",
        site.kubebox.display(),
        ranges.services(),
        site.paths.audit_log(index).display(),
    );
    launch(site, state, &api_server_name(index), &line)
}

pub(crate) fn api_server_name(index: usize) -> String {
    format!("apiserver{index}")
}

/// Kills a process of the control plane and waits until it is gone.
pub(crate) fn kill(process: Process) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while process.alive() {
        signal_all(&[process.pid], Signal::KILL);
        if Instant::now() > deadline {
            bail!("process {} survives SIGKILL", process.pid);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Does every API server that is to run say that it is ready? Asked at its own address: through the common one another
/// server would answer for it.
fn all_ready(site: &Site, state: &State) -> bool {
    state.api_servers.iter().filter(|server| server.up).all(|server| {
        let own = format!("--server=https://{}:6443", state.ranges.api_server(server.index));
        site.kubectl().args([&own, "--request-timeout=5s", "get", "--raw", "/readyz"]).succeeds()
    })
}

/// Waits until the API servers say that they are ready, or one that should run has ended.
pub(crate) fn wait_ready(site: &Site, state: &State, limit: Duration) -> Result<()> {
    let deadline = Instant::now() + limit;
    while !all_ready(site, state) {
        let ended = state.processes.iter().find(|(name, process)| {
            let down =
                state.api_servers.iter().any(|server| !server.up && api_server_name(server.index) == **name);
            !down && !process.alive()
        });
        if let Some((name, _)) = ended {
            bail!("{name} ended: see {}", site.paths.log(name).display());
        }
        if Instant::now() > deadline {
            bail!(
                "the API server isn't ready after {} s: see {}",
                limit.as_secs(),
                site.paths.log("apiserver1").display()
            );
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    Ok(())
}
