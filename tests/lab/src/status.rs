//! What `lab status` and `lab env` print.

use std::fmt::Write;

use anyhow::Result;

use crate::lab::Lab;

impl Lab {
    /// A picture of the lab for people.
    ///
    /// # Errors
    /// The lab has been taken down meanwhile.
    pub fn status(&self) -> Result<String> {
        let state = self.state()?;
        let ranges = state.ranges;
        let mut text = format!(
            "Kubernetes {} at https://{}:6443, cgroup {} (verified here: this lab runs on it)\n\
             addresses  all {}  Services {}  pods {}  this machine {}\n",
            crate::kubebox::KUBERNETES_VERSION,
            ranges.hub(),
            self.site.cgroups.version(),
            ranges.all(),
            ranges.services(),
            ranges.pods(),
            ranges.host(),
        );
        for server in &state.api_servers {
            let name = crate::control_plane::api_server_name(server.index);
            let runs = state.processes.get(&name).is_some_and(|process| process.alive());
            let (address, word) = (ranges.api_server(server.index), if runs { "up" } else { "down" });
            writeln!(text, "api server {}  {address}  {word}", server.index)?;
        }
        for node in &state.nodes {
            let power = if node.on { "on" } else { "off" };
            let link = if node.connected { "connected" } else { "partitioned" };
            write!(text, "{}  {}  power {power}  {link}", node.name, ranges.node(node.index))?;
            if !node.cut_from.is_empty() {
                write!(text, "  cut from {}", node.cut_from.join(", "))?;
            }
            writeln!(text, "  boot {}  bmc {}", node.boot_id, self.bmc(&node.name)?.endpoint)?;
        }
        for volume in &state.volumes {
            let path = self.volume_path(&volume.name);
            writeln!(text, "volume {}  on {}  {}", volume.name, volume.nodes.join(","), path.display())?;
        }
        writeln!(text, "every bmc: user {}, password {}", crate::bmc::USER, state.bmc_password)?;
        write!(
            text,
            "kubeconfig {}\nlogs {}",
            self.kubeconfig().display(),
            self.site.paths.lab.join("log").display()
        )?;
        Ok(text)
    }

    /// Shell commands that set KUBECONFIG and PATH.
    ///
    /// # Errors
    /// The lab has been taken down meanwhile.
    pub fn environment(&self) -> Result<String> {
        let bin = self.site.paths.lab.join("bin");
        Ok(format!(
            "export KUBECONFIG='{}'\nexport PATH='{}':\"$PATH\"",
            self.kubeconfig().display(),
            bin.display()
        ))
    }
}
