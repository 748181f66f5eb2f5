//! The node's boot id inside containers too: a mail node names the boot it runs in by
//! `/proc/sys/kernel/random/boot_id`, and in a container that would be this machine's, the same through all power cuts.
//!
//! runc allows no mounts below /proc, so an OCI hook makes this one, after the container's other mounts and
//! before it becomes the root (`createContainer` of the OCI runtime specification).

use std::path::Path;

use anyhow::{Context, Result};
use rustix::mount::mount_bind;
use serde_json::{Value, json};

use crate::site::Site;

const FILE: &str = "/proc/sys/kernel/random/boot_id";

/// The OCI specification from which a node's containerd starts for each container.
pub(crate) fn base_spec(site: &Site) -> Result<Value> {
    let default = site.tools.command("ctr").args(["oci", "spec"]).output()?;
    let mut spec: Value =
        serde_json::from_str(&default).context("failed to read containerd's default specification")?;
    spec["hooks"] =
        json!({"createContainer": [{"path": site.helper(), "args": ["xtask", "lab", "container-hook"]}]});
    Ok(spec)
}

/// The hook (`xtask lab container-hook`): runs in the new container's mount namespace, its state on standard input.
///
/// # Errors
/// The state cannot be read or the mount not be made.
pub fn run() -> Result<()> {
    let state: Value = serde_json::from_reader(std::io::stdin())?;
    let bundle = Path::new(state["bundle"].as_str().context("no bundle")?);
    let root = bundle.join("rootfs");
    // Above the container's root this is still the node's view.
    mount_bind(FILE, root.join(FILE.trim_start_matches('/'))).context("failed to mount the boot id")
}
