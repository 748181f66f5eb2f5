//! A node: its files, and starting it as a namespace of processes, mounts and network of its own.
//!
//! A node is one process (`xtask lab node-init`) that is number 1 in its own PID namespace; containerd, kubelet,
//! kube-proxy and every container are its descendants. Killing it all is a power cut; its `/run` is gone with it.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::network;
use crate::ranges::Ranges;
use crate::site::Site;
use crate::state::{Node, Power, State, new_uuid};

/// Folders of a node's own disk, bound over the host's: (in the node's folder, where the node sees it).
pub(crate) const OWN_FOLDERS: [(&str, &str); 2] = [("varlib", "/var/lib"), ("varlog", "/var/log")];

/// The node of that number, new and switched off.
pub(crate) fn describe(index: usize) -> Result<Node> {
    Ok(Node {
        name: format!("node{index}"),
        index,
        power: Power::Off,
        connected: true,
        cut_from: Vec::new(),
        blocks: Vec::new(),
        boot_id: String::new(),
        machine_id: new_uuid()?.replace('-', ""),
    })
}

/// Writes a node's configuration files.
pub(crate) fn write_files(site: &Site, ranges: Ranges, node: &Node) -> Result<()> {
    let folder = site.paths.node(&node.name);
    for part in OWN_FOLDERS.map(|(own, _)| own).into_iter().chain(["cni"]) {
        fs::create_dir_all(folder.join(part))?;
    }
    fs::write(folder.join("machine-id"), format!("{}\n", node.machine_id))?;
    fs::write(folder.join("product_uuid"), format!("{}\n", node.system_uuid()))?;
    fs::write(folder.join("resolv.conf"), "nameserver 127.0.0.1\n")?;
    fs::write(folder.join("containerd.toml"), containerd_config(site, &folder))?;
    let write = |name: &str, value: Value| fs::write(folder.join(name), value.to_string());
    write("oci-spec.json", crate::boot_id::base_spec(site)?)?;
    write("cni/10-lab.conflist", cni_config(ranges, node))?;
    write("kubelet.json", kubelet_config(site, ranges, node))?;
    write("proxy.json", proxy_config(site, ranges, node))?;
    Ok(())
}

fn containerd_config(site: &Site, folder: &Path) -> String {
    // Some machines lack CAP_SYS_RESOURCE: without restrict_oom_score_adj no sandbox would start there.
    format!(
        "version = 2\nroot = \"/var/lib/containerd\"\nstate = \"/run/containerd\"\n\
         [grpc]\n  address = \"/run/containerd/containerd.sock\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\"]\n  sandbox_image = \"{}\"\n  restrict_oom_score_adj = true\n\
         [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\n    \
         runtime_type = \"io.containerd.runc.v2\"\n    base_runtime_spec = \"{}\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\".cni]\n    bin_dir = \"{}\"\n    conf_dir = \"{}\"\n",
        crate::pause::IMAGE,
        folder.join("oci-spec.json").display(),
        site.tools.cni().display(),
        folder.join("cni").display()
    )
}

/// `ptp` and not `bridge`: each packet between pods is routed, so that the node's nftables rules see it.
fn cni_config(ranges: Ranges, node: &Node) -> Value {
    json!({"cniVersion": "0.4.0", "name": "lab", "plugins": [{
        "type": "ptp", "ipMasq": false,
        "ipam": {"type": "host-local", "dataDir": "/run/cni/ipam",
                 "ranges": [[{"subnet": ranges.node_pods(node.index)}]], "routes": [{"dst": "0.0.0.0/0"}]}}]})
}

fn kubelet_config(site: &Site, ranges: Ranges, node: &Node) -> Value {
    let pki = site.paths.pki();
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": false}, "webhook": {"enabled": true},
                           "x509": {"clientCAFile": pki.join("ca.crt")}},
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": pki.join(format!("{}.crt", node.name)),
        "tlsPrivateKeyFile": pki.join(format!("{}.key", node.name)),
        "address": ranges.node(node.index),
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}/{}", crate::paths::instance(), node.name),
        "failSwapOn": false,
        // Renewed Secrets reach pods at this pace. At the usual minute, certificates of two minutes, as the tests have
        // them, can end before their successors are there.
        "syncFrequency": "15s",
        "nodeStatusUpdateFrequency": "2s", "nodeStatusReportFrequency": "5s",
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "resolvConf": site.paths.node(&node.name).join("resolv.conf"),
    })
}

fn proxy_config(site: &Site, ranges: Ranges, node: &Node) -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration", "mode": "nftables",
        "clientConnection": {"kubeconfig": site.paths.pki().join("proxy.kubeconfig")},
        "clusterCIDR": ranges.pods(), "hostnameOverride": node.name,
        // Not allowed in a network namespace, and not needed.
        "conntrack": {"maxPerCore": 0},
    })
}

/// Starts a node that is off: a new boot, with a new boot id, an empty `/run` and a new network namespace.
pub(crate) fn boot(site: &Site, state: &mut State, name: &str) -> Result<()> {
    let boot_id = new_uuid()?;
    fs::write(site.paths.node(name).join("boot_id"), format!("{boot_id}\n"))?;
    let node = state.node_mut(name)?;
    node.boot_id = boot_id;
    node.power = Power::On;
    let node = node.clone();
    state.save(&site.paths)?;
    // Should an earlier start have failed half-way.
    network::remove_node(name)?;
    network::create_node(state.ranges, &node, &state.nodes)?;
    network::apply_cuts(site, state.ranges, &node, &state.nodes)?;
    site.cgroups.create(name)?;
    let words = ["unshare", "--mount", "--propagation", "slave", "--pid", "--fork"].map(str::to_owned);
    let mut argv = Vec::from(words);
    argv.push(site.helper().display().to_string());
    argv.extend([
        "lab".to_owned(),
        "node-init".to_owned(),
        site.paths.cache.display().to_string(),
        name.to_owned(),
    ]);
    site.spawn(&format!("{name}-init"), name, &network::namespace(name), &argv)?;
    Ok(())
}

/// The process, as this machine numbers it, that is number 1 inside the node; none where the node isn't running.
pub(crate) fn running_init(site: &Site, name: &str) -> Option<i32> {
    let mut pids = Vec::new();
    crate::cgroup::collect(&site.cgroups.processes_of(name), &mut pids);
    pids.into_iter().find(|&pid| is_init(pid))
}

/// The same of a node that is starting.
pub(crate) fn init_pid(site: &Site, name: &str) -> Result<i32> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(pid) = running_init(site, name) {
            return Ok(pid);
        }
        if Instant::now() > deadline {
            bail!("{name} isn't running");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn is_init(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    let numbers: Vec<&str> = numbers.split_whitespace().collect();
    // A container's own process 1 is one namespace further down.
    numbers.len() == 2 && numbers[1] == "1"
}

/// Loads an image archive into a node.
pub(crate) fn load_image(site: &Site, name: &str, archive: &Path) -> Result<()> {
    let bytes = fs::read(archive).with_context(|| format!("failed to read {}", archive.display()))?;
    let pid = init_pid(site, name)?;
    site.tools
        .command("nsenter")
        .args([&format!("--target={pid}"), "--mount"])
        .arg(site.tools.program("ctr"))
        .args(["-a", "/run/containerd/containerd.sock", "-n", "k8s.io", "images", "import", "-"])
        .input(bytes)
        .run()
        .with_context(|| format!("failed to load {} into {name}", archive.display()))
}
