//! What `lab status` and `lab env` print.

use std::fmt::Write;

use anyhow::Result;

use crate::lab::Lab;
use crate::state::Power;

impl Lab {
    /// A picture of the lab for people.
    ///
    /// # Errors
    /// The lab has been taken down meanwhile.
    pub fn status(&self) -> Result<String> {
        let state = self.state()?;
        let ranges = state.ranges;
        let mut text = format!(
            "Kubernetes {} at https://{}:6443, cgroup {}\n\
             addresses  all {}  Services {}  pods {}  this machine {}\n",
            crate::kubebox::KUBERNETES_VERSION,
            ranges.hub(),
            self.site.cgroups.version(),
            ranges.all(),
            ranges.services(),
            ranges.pods(),
            ranges.host(),
        );
        for (name, process) in &state.processes {
            let word = if process.alive() { "runs" } else { "has ended" };
            writeln!(text, "{name}  {word}  log {}", self.site.paths.log(name).display())?;
        }
        for server in &state.api_servers {
            let word = if server.up { "up" } else { "taken down" };
            writeln!(text, "api server {}  {}  {word}", server.index, ranges.api_server(server.index))?;
        }
        for node in &state.nodes {
            let power = match node.power {
                Power::On => "on",
                Power::Cutting(_) => "being cut (power-off again goes on with it)",
                Power::Off => "off",
            };
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
