//! NetworkPolicies as nftables rules: what a network plugin's enforcement does, for the pods of one node.
//!
//! A pod that a policy selects has a chain per direction that returns for what is allowed and drops the rest. The
//! chains are reached from `forward` only: what comes from the pod's own node, its kubelet's probes for one,
//! always passes, as Kubernetes has it. Established connections go on.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use serde_json::Value;

use crate::selector::{all, matches};
use crate::watch::View;

/// The name of the table in each node.
pub(crate) const TABLE: &str = "ip mclab-policy";

/// A pod with an address of its own.
struct Pod<'a> {
    object: &'a Value,
    ip: Ipv4Addr,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Ingress,
    Egress,
}

impl Direction {
    /// (word in the policy, list of peers, address to match, prefix of chains)
    fn words(self) -> (&'static str, &'static str, &'static str, &'static str) {
        match self {
            Self::Ingress => ("ingress", "from", "saddr", "in"),
            Self::Egress => ("egress", "to", "daddr", "out"),
        }
    }

    fn governs(self, policy: &Value) -> bool {
        let types = all(&policy["spec"]["policyTypes"]);
        match self {
            Self::Ingress => types.is_empty() || types.iter().any(|kind| *kind == "Ingress"),
            Self::Egress => {
                types.iter().any(|kind| *kind == "Egress")
                    || types.is_empty() && !policy["spec"]["egress"].is_null()
            }
        }
    }
}

/// The content of a node's table: enforcement of policies, and its pods' host ports.
pub(crate) fn rules(node: &str, address: Ipv4Addr, view: &View) -> String {
    let pods: Vec<Pod<'_>> = view.of("pods").filter_map(addressed).collect();
    let local: Vec<&Pod<'_>> = pods.iter().filter(|pod| pod.object["spec"]["nodeName"] == node).collect();
    let (mut chains, mut jumps) = (String::new(), String::new());
    for direction in [Direction::Egress, Direction::Ingress] {
        let (_, _, peer, prefix) = direction.words();
        let own = if peer == "saddr" { "daddr" } else { "saddr" };
        let mut verdicts = Vec::new();
        for pod in &local {
            let Some(allowed) = allowed(direction, pod, &pods, view) else { continue };
            let chain = format!("{prefix}_{}", pod.ip.to_string().replace('.', "_"));
            verdicts.push(format!("{} : jump {chain}", pod.ip));
            let lines: String = allowed.iter().map(|rule| format!("    {rule} return\n")).collect();
            // A pod may always talk to itself, by a Service for one.
            chains +=
                &format!("  chain {chain} {{\n    ip {peer} {} return\n{lines}    drop\n  }}\n", pod.ip);
        }
        if !verdicts.is_empty() {
            jumps += &format!("    ip {own} vmap {{ {} }}\n", verdicts.join(", "));
        }
    }
    format!(
        "{chains}  chain forward {{\n    type filter hook forward priority 0; policy accept;\n    \
         ct state established,related accept\n{jumps}  }}\n{}",
        host_ports(address, &local)
    )
}

fn addressed(object: &Value) -> Option<Pod<'_>> {
    let ended = ["Succeeded", "Failed"].iter().any(|phase| object["status"]["phase"] == *phase);
    if ended || object["spec"]["hostNetwork"] == true {
        return None;
    }
    Some(Pod { object, ip: object["status"]["podIP"].as_str()?.parse().ok()? })
}

/// What is allowed for a pod in a direction; `None` when no policy governs it.
fn allowed(direction: Direction, pod: &Pod<'_>, pods: &[Pod<'_>], view: &View) -> Option<BTreeSet<String>> {
    let (word, peers, ..) = direction.words();
    let mut governed = false;
    let mut rules = BTreeSet::new();
    for policy in view.of("networkpolicies") {
        let namespace = &policy["metadata"]["namespace"];
        let selects = pod.object["metadata"]["namespace"] == *namespace
            && matches(&policy["spec"]["podSelector"], &pod.object["metadata"]["labels"]);
        if !selects || !direction.governs(policy) {
            continue;
        }
        governed = true;
        for rule in all(&policy["spec"][word]) {
            let matched = match all(&rule[peers]).as_slice() {
                [] => vec![Peer { rule: String::new(), pods: pods.iter().collect() }],
                some => {
                    some.iter().map(|&peer| Peer::resolve(direction, peer, namespace, pods, view)).collect()
                }
            };
            for peer in matched.iter().filter(|peer| !peer.nobody()) {
                rules.extend(with_ports(direction, peer, &rule["ports"], pod));
            }
        }
    }
    governed.then_some(rules)
}

/// Whom a rule allows: a match on addresses ("" for anyone) and the pods among them.
struct Peer<'a> {
    rule: String,
    pods: Vec<&'a Pod<'a>>,
}

const NOBODY: &str = "nobody";

impl<'a> Peer<'a> {
    fn resolve(
        direction: Direction,
        peer: &Value,
        namespace: &Value,
        pods: &'a [Pod<'a>],
        view: &View,
    ) -> Self {
        let (.., side, _) = direction.words();
        let block = &peer["ipBlock"];
        if let Some(cidr) = block["cidr"].as_str() {
            // A range of IPv6 allows nobody here: pods have IPv4 addresses only.
            if cidr.contains(':') {
                return Self { rule: NOBODY.to_owned(), pods: Vec::new() };
            }
            let except: Vec<&str> = all(&block["except"]).iter().filter_map(|part| part.as_str()).collect();
            let except = if except.is_empty() {
                String::new()
            } else {
                format!(" ip {side} != {{ {} }}", except.join(", "))
            };
            return Self { rule: format!("ip {side} {cidr}{except}"), pods: Vec::new() };
        }
        let chosen: Vec<&Pod<'_>> = pods.iter().filter(|pod| selected(peer, namespace, pod, view)).collect();
        let addresses: BTreeSet<String> = chosen.iter().map(|pod| pod.ip.to_string()).collect();
        if addresses.is_empty() {
            return Self { rule: NOBODY.to_owned(), pods: chosen };
        }
        let addresses: Vec<String> = addresses.into_iter().collect();
        Self { rule: format!("ip {side} {{ {} }}", addresses.join(", ")), pods: chosen }
    }

    fn nobody(&self) -> bool {
        self.rule == NOBODY
    }
}

fn selected(peer: &Value, namespace: &Value, pod: &Pod<'_>, view: &View) -> bool {
    let metadata = &pod.object["metadata"];
    let namespaces = &peer["namespaceSelector"];
    let in_namespace = if namespaces.is_null() {
        metadata["namespace"] == *namespace
    } else {
        let found = view.of("namespaces").find(|object| object["metadata"]["name"] == metadata["namespace"]);
        found.is_some_and(|found| matches(namespaces, &found["metadata"]["labels"]))
    };
    in_namespace && (peer["podSelector"].is_null() || matches(&peer["podSelector"], &metadata["labels"]))
}

/// The rules of a peer, one per port; a named port is looked up in the pod at the receiving end.
fn with_ports(direction: Direction, peer: &Peer<'_>, ports: &Value, pod: &Pod<'_>) -> Vec<String> {
    let ports = all(ports);
    if ports.is_empty() {
        return vec![peer.rule.clone()];
    }
    let (.., side, _) = direction.words();
    let mut rules = Vec::new();
    for port in ports {
        let protocol = port["protocol"].as_str().unwrap_or("TCP");
        let word = protocol.to_ascii_lowercase();
        match (&port["port"], direction) {
            (Value::Null, _) => rules.push(format!("{} meta l4proto {word}", peer.rule)),
            (Value::String(name), Direction::Ingress) => {
                let found = named_ports(pod, name, protocol);
                rules.extend(found.iter().map(|number| format!("{} {word} dport {number}", peer.rule)));
            }
            (Value::String(name), Direction::Egress) => {
                for target in &peer.pods {
                    let found = named_ports(target, name, protocol);
                    rules.extend(
                        found.iter().map(|number| format!("ip {side} {} {word} dport {number}", target.ip)),
                    );
                }
            }
            (number, _) => {
                let last = port["endPort"].as_u64().map(|last| format!("-{last}")).unwrap_or_default();
                rules.push(format!("{} {word} dport {number}{last}", peer.rule));
            }
        }
    }
    rules.iter().map(|rule| rule.trim().to_owned()).collect()
}

fn named_ports(pod: &Pod<'_>, name: &str, protocol: &str) -> Vec<u64> {
    let ports =
        all(&pod.object["spec"]["containers"]).into_iter().flat_map(|container| all(&container["ports"]));
    let named =
        ports.filter(|port| port["name"] == name && port["protocol"].as_str().unwrap_or("TCP") == protocol);
    named.filter_map(|port| port["containerPort"].as_u64()).collect()
}

/// Host ports, which the plugin chain of other clusters leaves to `portmap`.
fn host_ports(address: Ipv4Addr, local: &[&Pod<'_>]) -> String {
    let mut lines = BTreeSet::new();
    for pod in local {
        for port in
            all(&pod.object["spec"]["containers"]).into_iter().flat_map(|container| all(&container["ports"]))
        {
            let (Some(host), Some(own)) = (port["hostPort"].as_u64(), port["containerPort"].as_u64()) else {
                continue;
            };
            let protocol = port["protocol"].as_str().unwrap_or("TCP").to_ascii_lowercase();
            lines
                .insert(format!("    ip daddr {address} {protocol} dport {host} dnat to {}:{own}\n", pod.ip));
        }
    }
    let lines: String = lines.into_iter().collect();
    let chain = |hook: &str| {
        format!(
            "  chain hostport_{hook} {{\n    type nat hook {hook} priority -105; policy accept;\n{lines}  }}\n"
        )
    };
    if lines.is_empty() { String::new() } else { chain("prerouting") + &chain("output") }
}

#[cfg(test)]
mod tests;
