//! Process 1 of a node: mounts the node's own view of the machine, starts its services, keeps them running.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::mount::{MountFlags, mount, mount_bind};
use rustix::process::{WaitOptions, wait};

use crate::node::OWN_FOLDERS;
use crate::paths::Paths;
use crate::site::Site;

const SOCKET: &str = "/run/containerd/containerd.sock";

/// Runs a node until it is killed. Called by `xtask lab node-init` as process 1 of a new PID and mount namespace.
///
/// # Errors
/// A mount or a service cannot be made at all.
pub fn run(cache: &Path, node: &str) -> Result<()> {
    let site = Site::open(&Paths::in_cache(cache)?)?;
    let folder = site.paths.node(node);
    mount_own(&folder).context("failed to make the node's mounts")?;
    start_containerd(&site, node)?;
    let mut services = HashMap::new();
    for service in ["kubelet", "proxy"] {
        services.insert(start(&site, node, service)?, service);
    }
    supervise(&site, node, services)
}

/// Settings of the kernel, which is everyone's, that a kubelet changes unless they have these values already.
const KERNEL_SETTINGS: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

fn mount_own(folder: &Path) -> Result<()> {
    let none = MountFlags::NOSUID | MountFlags::NODEV;
    mount("proc", "/proc", "proc", none, None)?;
    // Long-lived identifiers of a machine: the kubelet must see the node's, not those of the host.
    for (own, seen) in [
        ("boot_id", "/proc/sys/kernel/random/boot_id"),
        ("machine-id", "/etc/machine-id"),
        ("product_uuid", "/sys/class/dmi/id/product_uuid"),
    ] {
        if Path::new(seen).exists() {
            mount_bind(folder.join(own), seen).with_context(|| format!("failed to mount {seen}"))?;
        }
    }
    hide_kernel_settings(folder)?;
    mount("tmpfs", "/run", "tmpfs", none, None)?;
    fs::create_dir_all("/run/netns")?;
    for (own, seen) in OWN_FOLDERS {
        mount_bind(folder.join(own), seen).with_context(|| format!("failed to mount {seen}"))?;
    }
    Ok(())
}

/// Puts plain files over them: the kubelet finds what it wants, and this machine's own values stay.
fn hide_kernel_settings(folder: &Path) -> Result<()> {
    let shown = folder.join("sysctl");
    for (name, value) in KERNEL_SETTINGS {
        let (file, seen) = (shown.join(name), Path::new("/proc/sys").join(name));
        if let (Some(parent), true) = (file.parent(), seen.exists()) {
            fs::create_dir_all(parent)?;
            fs::write(&file, format!("{value}\n"))?;
            mount_bind(&file, &seen).with_context(|| format!("failed to mount {}", seen.display()))?;
        }
    }
    Ok(())
}

fn start_containerd(site: &Site, node: &str) -> Result<()> {
    start(site, node, "containerd")?;
    // The kubelet would exit if the socket were not there.
    let deadline = Instant::now() + Duration::from_secs(120);
    let ctr = || site.tools.command("ctr").args(["-a", SOCKET, "-n", "k8s.io"]);
    while !Path::new(SOCKET).exists() || !ctr().arg("version").succeeds() {
        if Instant::now() > deadline {
            bail!("containerd doesn't answer after 120 s");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let archive = crate::pause::location(&site.paths);
    let imported = Path::new("/var/lib/containerd").join(archive.file_name().unwrap_or_default());
    if !imported.exists() {
        ctr().args(["images", "import"]).arg(&archive).run()?;
        fs::write(imported, "")?;
    }
    Ok(())
}

fn start(site: &Site, node: &str, service: &str) -> Result<u32> {
    let folder = site.paths.node(node);
    let folder = folder.display();
    let kubebox = site.kubebox.display();
    let line = match service {
        "containerd" => format!("{} -c {folder}/containerd.toml", site.tools.program("containerd").display()),
        "kubelet" => format!(
            "{kubebox} kubelet --config={folder}/kubelet.json --kubeconfig={}/{node}.kubeconfig \
             --hostname-override={node} --node-ip={} --root-dir=/var/lib/kubelet --cert-dir=/var/lib/kubelet/pki",
            site.paths.pki().display(),
            node_address(site, node)?
        ),
        _ => format!("{kubebox} proxy --config={folder}/proxy.json"),
    };
    let mut words = line.split_whitespace();
    let log = File::options().create(true).append(true).open(site.paths.log(&format!("{node}-{service}")))?;
    let child = Command::new(words.next().unwrap_or_default())
        .args(words)
        .env("PATH", site.tools.path())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("failed to start {service}"))?;
    Ok(child.id())
}

fn node_address(site: &Site, node: &str) -> Result<String> {
    let state = crate::state::State::expect(&site.paths)?;
    Ok(state.ranges.node(state.node(node)?.index).to_string())
}

/// Reaps orphans, as process 1 must, and starts again what ended, as systemd would.
fn supervise(site: &Site, node: &str, mut services: HashMap<u32, &'static str>) -> Result<()> {
    loop {
        let Ok(Some((pid, status))) = wait(WaitOptions::empty()) else {
            std::thread::sleep(Duration::from_secs(1));
            continue;
        };
        let pid = u32::try_from(pid.as_raw_nonzero().get()).unwrap_or_default();
        if let Some(service) = services.remove(&pid) {
            eprintln!("{service} ended ({status:?}) and is started again");
            std::thread::sleep(Duration::from_secs(1));
            services.insert(start(site, node, service)?, service);
        }
    }
}
