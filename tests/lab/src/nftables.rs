//! Whether the kernel takes the rules that the lab and kube-proxy are made of.

use anyhow::{Context, Result};
use mailcluster_machine::command::Cmd;

use crate::debs::Tools;

/// Fails where the kernel lacks what the lab's and kube-proxy's rules are made of.
pub(crate) fn check(tools: &Tools) -> Result<()> {
    for module in ["nf_tables", "nf_conntrack"] {
        // Built in, loaded or loadable: what matters is whether the rules are taken.
        let _optional = Cmd::new("modprobe").args(["-q", module]).succeeds();
    }
    tools
        .command("unshare")
        .arg("--net")
        .arg(tools.program("nft"))
        .args(["-f", "-"])
        .input(RULES)
        .run()
        .context("the kernel lacks nftables, or nat, numgen, masquerade or connection tracking in it")
}

const RULES: &str = "table ip probe {\n\
    chain nat { type nat hook prerouting priority -100; policy accept;\n\
      ip daddr 192.0.2.1 tcp dport 6443 dnat to numgen inc mod 2 map { 0 : 192.0.2.2, 1 : 192.0.2.3 }\n }\n\
    chain leaving { type nat hook postrouting priority 100; policy accept; meta mark 1 masquerade\n }\n\
    chain filter { type filter hook forward priority 0; policy accept; ct state established accept\n }\n}\n";
