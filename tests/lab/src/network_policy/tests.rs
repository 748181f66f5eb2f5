//! Policies and the rules that follow from them, as a table.

use super::*;
use serde_json::json;

const NODE: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 11);

fn pod(namespace: &str, name: &str, role: &str, ip: &str, node: &str) -> (&'static str, Value) {
    let ports = json!([{"name": "lmtp", "containerPort": 2424}]);
    (
        "pods",
        json!({"metadata": {"namespace": namespace, "name": name, "labels": {"role": role}},
        "spec": {"nodeName": node, "containers": [{"ports": ports}]}, "status": {"podIP": ip, "phase": "Running"}}),
    )
}

fn namespace(name: &str) -> (&'static str, Value) {
    ("namespaces", json!({"metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}}}))
}

fn policy(spec: Value) -> (&'static str, Value) {
    ("networkpolicies", json!({"metadata": {"namespace": "mail", "name": "p"}, "spec": spec}))
}

/// The rules for a backend at .5 on node1, with a frontend on node2 and a pod of another namespace beside.
fn backend_rules(spec: Value) -> Vec<String> {
    let view = View::given(&[
        namespace("mail"),
        namespace("monitoring"),
        pod("mail", "b0", "backend", "172.31.65.5", "node1"),
        pod("mail", "f0", "frontend", "172.31.66.6", "node2"),
        pod("monitoring", "prometheus", "backend", "172.31.65.7", "node1"),
        policy(spec),
    ]);
    let text = rules("node1", NODE, &view);
    text.lines().map(|line| line.trim().to_owned()).filter(|line| line.ends_with(" return")).collect()
}

#[test]
fn ingress_rules() {
    let own = "ip saddr 172.31.65.5 return";
    let select = json!({"matchLabels": {"role": "backend"}});
    let ingress = |rule: Value| {
        backend_rules(json!({"podSelector": select, "policyTypes": ["Ingress"], "ingress": [rule]}))
    };
    for (rule, expected) in [
        (json!({}), vec![" return"]),
        (
            json!({"from": [{"podSelector": {"matchLabels": {"role": "frontend"}}}]}),
            vec!["ip saddr { 172.31.66.6 } return"],
        ),
        (json!({"from": [{"podSelector": {}}]}), vec!["ip saddr { 172.31.65.5, 172.31.66.6 } return"]),
        (
            json!({"from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
                   "ports": [{"port": 9090}]}),
            vec!["ip saddr { 172.31.65.7 } tcp dport 9090 return"],
        ),
        (json!({"from": [{"podSelector": {"matchLabels": {"role": "nobody"}}}]}), vec![]),
        (
            json!({"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}],
                   "ports": [{"port": "lmtp"}, {"port": 53, "protocol": "UDP"}, {"port": 100, "endPort": 200}]}),
            vec![
                "ip saddr 10.0.0.0/8 ip saddr != { 10.1.0.0/16 } tcp dport 100-200 return",
                "ip saddr 10.0.0.0/8 ip saddr != { 10.1.0.0/16 } tcp dport 2424 return",
                "ip saddr 10.0.0.0/8 ip saddr != { 10.1.0.0/16 } udp dport 53 return",
            ],
        ),
        (json!({"ports": [{"port": 25}]}), vec!["tcp dport 25 return"]),
    ] {
        let expected: Vec<String> =
            std::iter::once(own).chain(expected).map(|line| line.trim().to_owned()).collect();
        let found: Vec<String> = ingress(rule.clone()).iter().map(|line| line.trim().to_owned()).collect();
        assert_eq!(
            found,
            expected.iter().filter(|line| *line != "return").cloned().collect::<Vec<_>>(),
            "{rule}"
        );
    }
}

#[test]
fn egress_rules() {
    let found = backend_rules(json!({"podSelector": {}, "policyTypes": ["Egress"],
        "egress": [{"to": [{"podSelector": {"matchLabels": {"role": "frontend"}}}], "ports": [{"port": "lmtp"}]}]}));
    assert_eq!(found, ["ip daddr 172.31.65.5 return", "ip daddr 172.31.66.6 tcp dport 2424 return"]);
}

#[test]
fn pods_without_a_policy_have_no_chain() {
    let view = View::given(&[
        namespace("mail"),
        pod("mail", "f0", "frontend", "172.31.65.6", "node1"),
        policy(json!({"podSelector": {"matchLabels": {"role": "backend"}}})),
    ]);
    let text = rules("node1", NODE, &view);
    assert!(!text.contains("drop") && !text.contains("vmap"), "{text}");
}

#[test]
fn the_whole_table() {
    let (kind, mut object) = pod("mail", "f0", "frontend", "172.31.65.6", "node1");
    object["spec"]["containers"][0]["ports"] = json!([{"containerPort": 2525, "hostPort": 25}]);
    let view = View::given(&[namespace("mail"), (kind, object), policy(json!({"podSelector": {}}))]);
    let expected = "  chain in_172_31_65_6 {
    ip saddr 172.31.65.6 return
    drop
  }
  chain forward {
    type filter hook forward priority 0; policy accept;
    ct state established,related accept
    ip daddr vmap { 172.31.65.6 : jump in_172_31_65_6 }
  }
  chain hostport_prerouting {
    type nat hook prerouting priority -105; policy accept;
    ip daddr 172.31.0.11 tcp dport 25 dnat to 172.31.65.6:2525
  }
  chain hostport_output {
    type nat hook output priority -105; policy accept;
    ip daddr 172.31.0.11 tcp dport 25 dnat to 172.31.65.6:2525
  }
";
    assert_eq!(rules("node1", NODE, &view), expected);
}
