//! Network namespaces: a hub with a bridge, where the control plane lives, and one for each node.
//!
//! The host gets one interface and one route and forwards nothing, so its own firewall, a FORWARD DROP of Docker's
//! say, is neither in the way nor touched: all that the lab forwards, it forwards in namespaces of its own.

use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context, Result};

use crate::command::Cmd;
use crate::paths::instance;
use crate::ranges::Ranges;
use crate::site::Site;
use crate::state::{ApiServer, Block, Node, Way};

/// The network namespace of the bridge, the control plane and the BMCs.
pub(crate) fn hub() -> String {
    namespace("hub")
}

/// The host's interface towards the lab.
pub(crate) fn host_link() -> String {
    format!("{}0", instance())
}

/// The network namespace of a node.
pub(crate) fn namespace(node: &str) -> String {
    format!("{}-{node}", instance())
}

/// Runs lines of `ip` commands in a namespace ("" is the host's).
pub(crate) fn ip(namespace: &str, lines: &str) -> Result<()> {
    let command = Cmd::new("ip");
    let command = if namespace.is_empty() { command } else { command.args(["-n", namespace]) };
    command.args(["-batch", "-"]).input(lines).run()
}

fn set_sysctls(namespace: &str, settings: &[(&str, &str)]) -> Result<()> {
    let script: Vec<String> = settings
        .iter()
        .map(|(name, value)| format!("[ ! -e /proc/sys/net/{name} ] || echo {value} > /proc/sys/net/{name}"))
        .collect();
    Cmd::new("nsenter")
        .arg(format!("--net=/run/netns/{namespace}"))
        .args(["sh", "-ec", &script.join("\n")])
        .run()
}

/// Chooses the lab's addresses beside what this machine routes already.
pub(crate) fn choose_ranges() -> Result<Ranges> {
    let routes = Cmd::line("ip -j -4 route show table all").output()?;
    Ranges::choose(&crate::ranges::parse_routes(&routes))
}

/// The bridge's hardware address. Without one of its own it would have the lowest of its ports', another whenever such a
/// port comes or goes: a node's power cut would take the API from all others until they asked for it anew.
const BRIDGE: &str = "02:6d:63:6c:00:01";

/// Makes the hub and the host's link to it.
pub(crate) fn create_hub(ranges: Ranges, api_servers: usize) -> Result<()> {
    let (host, gateway) = (ranges.host(), ranges.host_gateway());
    let (hub, link) = (hub(), host_link());
    ip(
        "",
        &format!(
            "netns add {hub}\n\
             link add {link} type veth peer name host0 netns {hub}\n\
             addr add {host}/30 dev {link}\n\
             link set {link} up\n"
        ),
    )
    .context("failed to make the lab's network")?;
    let mut lines = format!(
        "link set lo up\naddr add {gateway}/30 dev host0\nlink set host0 up\n\
         link add br0 address {BRIDGE} type bridge\naddr add {}/24 dev br0\nlink set br0 up\n",
        ranges.hub()
    );
    for index in 1..=api_servers {
        lines += &format!("addr add {}/24 dev br0\n", ranges.api_server(index));
    }
    ip(&hub, &lines)?;
    // Should this machine have br_netfilter loaded, frames on the bridge are no business of the hub's rules.
    set_sysctls(&hub, &[("ipv4/ip_forward", "1"), ("bridge/bridge-nf-call-iptables", "0")])?;
    ip("", &format!("route add {} via {gateway} dev {link}\n", ranges.all()))
}

/// Makes the namespace of a node, new, and links it to the hub.
pub(crate) fn create_node(ranges: Ranges, node: &Node, all: &[Node]) -> Result<()> {
    let (name, own) = (&node.name, namespace(&node.name));
    let address = ranges.node(node.index);
    ip("", &format!("netns add {own}\n"))?;
    ip(
        &hub(),
        &format!(
            "link add {name} type veth peer name eth0 netns {own}\n\
             link set {name} master br0 {}\n\
             route replace {} via {address} dev br0\n",
            if node.connected { "up" } else { "down" },
            ranges.node_pods(node.index)
        ),
    )?;
    let mut lines = format!(
        "link set lo up\naddr add {address}/24 dev eth0\nlink set eth0 up\nroute add default via {}\n",
        ranges.hub()
    );
    for other in all.iter().filter(|other| other.index != node.index) {
        let (pods, via) = (ranges.node_pods(other.index), ranges.node(other.index));
        lines += &format!("route add {pods} via {via} dev eth0\n");
    }
    ip(&own, &lines)?;
    set_sysctls(&own, &[("ipv4/ip_forward", "1")])
}

/// Pulls the cable of a node, if it has one.
pub(crate) fn unplug(node: &str) -> Result<()> {
    if has_link(node) { set_link(node, Plug::Out) } else { Ok(()) }
}

/// Pulls or plugs the network cable of a node.
pub(crate) fn set_link(node: &str, plug: Plug) -> Result<()> {
    let state = if plug == Plug::In { "up" } else { "down" };
    ip(&hub(), &format!("link set {node} {state}\n"))
}

/// The cable's state.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plug {
    In,
    Out,
}

/// Removes what there is of the network of a node that has no processes any more.
pub(crate) fn remove_node(node: &str) -> Result<()> {
    if has_link(node) {
        // The namespace itself goes some time later.
        ip(&hub(), &format!("link del {node}\n"))?;
    }
    let name = namespace(node);
    if Path::new("/run/netns").join(&name).exists() { ip("", &format!("netns del {name}\n")) } else { Ok(()) }
}

/// Whether the hub has a link to the node.
fn has_link(node: &str) -> bool {
    Cmd::line("ip -n").arg(hub()).args(["link", "show", "dev", node]).succeeds()
}

/// Points the API's common address at those servers that are up; with none, connections are refused.
pub(crate) fn route_api(site: &Site, ranges: Ranges, servers: &[ApiServer]) -> Result<()> {
    let up: Vec<String> = servers
        .iter()
        .filter(|server| server.up)
        .map(|server| ranges.api_server(server.index).to_string())
        .collect();
    let target = match up.as_slice() {
        [] => String::new(),
        [one] => format!("dnat to {one}"),
        many => {
            let map: Vec<String> =
                many.iter().enumerate().map(|(at, address)| format!("{at} : {address}")).collect();
            format!("dnat to numgen inc mod {} map {{ {} }}", many.len(), map.join(", "))
        }
    };
    let rule = match target.as_str() {
        "" => target,
        to => format!("    ip daddr {} tcp dport 6443 {to}\n", ranges.hub()),
    };
    let chains = ["prerouting", "output"].map(|hook| {
        format!("  chain {hook} {{\n    type nat hook {hook} priority -100; policy accept;\n{rule}  }}\n")
    });
    apply_table(site, &hub(), "ip mclab-api", &chains.concat())
}

/// Replaces one nftables table in a namespace in one transaction.
pub(crate) fn apply_table(site: &Site, namespace: &str, table: &str, content: &str) -> Result<()> {
    let script = format!("table {table} {{}}\ndelete table {table}\ntable {table} {{\n{content}}}\n");
    site.tools
        .command("nsenter")
        .arg(format!("--net=/run/netns/{namespace}"))
        .arg(site.tools.program("nft"))
        .args(["-f", "-"])
        .input(script)
        .run()
        .with_context(|| format!("failed to set the nftables table {table} of {namespace}"))
}

/// Sets what a node is cut off from, in both directions; established connections included.
pub(crate) fn apply_cuts(site: &Site, ranges: Ranges, node: &Node, all: &[Node]) -> Result<()> {
    let (mut arriving, mut leaving) = (String::new(), String::new());
    for peer in &node.cut_from {
        if peer == "api" {
            let servers = format!("{}-{}", ranges.hub(), ranges.api_server(2));
            arriving += &format!("    ip saddr {servers} tcp sport 6443 drop\n");
            leaving += &format!("    ip daddr {servers} tcp dport 6443 drop\n");
        } else if let Some(other) = all.iter().find(|other| &other.name == peer) {
            for range in [ranges.node(other.index).to_string(), ranges.node_pods(other.index)] {
                arriving += &format!("    ip saddr {range} drop\n");
                leaving += &format!("    ip daddr {range} drop\n");
            }
        }
    }
    for block in &node.blocks {
        let (into, out_of) = block_rules(block);
        arriving += &into;
        leaving += &out_of;
    }
    let content = format!(
        "  chain arriving {{\n    type filter hook prerouting priority -300; policy accept;\n{arriving}  }}\n\
         \x20 chain leaving {{\n    type filter hook postrouting priority 300; policy accept;\n{leaving}  }}\n"
    );
    apply_table(site, &namespace(&node.name), "ip mclab-cuts", &content)
}

/// The rules for what arrives and for what leaves. Without peers it is the interface that counts: pods of one node go on
/// talking to each other.
fn block_rules(block: &Block) -> (String, String) {
    let list =
        |addresses: &[Ipv4Addr]| addresses.iter().map(Ipv4Addr::to_string).collect::<Vec<_>>().join(", ");
    let rule = |interface: &str, peer: &str, own: &str| {
        let mut words = Vec::new();
        match block.peers.as_slice() {
            [] => words.push(format!("{interface} \"eth0\"")),
            peers => words.push(format!("ip {peer} {{ {} }}", list(peers))),
        }
        words.extend(block.own.map(|address| format!("ip {own} {address}")));
        format!("    {} drop\n", words.join(" "))
    };
    let arriving = if block.way == Way::Out { String::new() } else { rule("iifname", "saddr", "daddr") };
    let leaving = if block.way == Way::In { String::new() } else { rule("oifname", "daddr", "saddr") };
    (arriving, leaving)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths::PREFIX;

    #[test]
    fn a_block_drops_what_it_names_and_no_more() {
        let (own, peers) =
            (Ipv4Addr::new(10, 0, 1, 2), vec![Ipv4Addr::new(10, 0, 2, 3), Ipv4Addr::new(10, 0, 1, 9)]);
        let pods = "ip saddr { 10.0.2.3, 10.0.1.9 } ip daddr 10.0.1.2 drop";
        let back = "ip daddr { 10.0.2.3, 10.0.1.9 } ip saddr 10.0.1.2 drop";
        for (block, arriving, leaving) in [
            (Block::all(Way::In), "iifname \"eth0\" drop", ""),
            (Block::all(Way::Out), "", "oifname \"eth0\" drop"),
            (Block { way: Way::Both, own: Some(own), peers: peers.clone() }, pods, back),
            (Block { way: Way::In, own: Some(own), peers }, pods, ""),
            (
                Block { way: Way::Out, own: Some(own), peers: Vec::new() },
                "",
                "oifname \"eth0\" ip saddr 10.0.1.2 drop",
            ),
        ] {
            let rules = block_rules(&block);
            assert_eq!((rules.0.trim(), rules.1.trim()), (arriving, leaving), "{block:?}");
        }
    }

    #[test]
    fn everything_a_lab_makes_bears_its_prefix() {
        for made in [instance().to_owned(), hub(), host_link(), namespace("node1")] {
            assert!(made.starts_with("mcl-"), "{made}");
        }
        // The longest interface name that Linux takes has 15 characters.
        assert!(format!("{PREFIX}123456780").len() <= 15);
    }
}
