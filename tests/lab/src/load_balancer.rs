//! Addresses for Services of type LoadBalancer, as MetalLB in layer 2 mode gives them: an address of the lab's own
//! range in the Service's status, and in the hub a route to one node that may answer there.
//!
//! The route follows the endpoints, not the nodes: it leaves a dead node when the API says that its endpoint is
//! not ready, as it would with any load balancer that only knows what the API tells.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use anyhow::Result;
use serde_json::{Value, json};

use crate::api;
use crate::lab::is_ready;
use crate::network::{hub, ip};
use crate::ranges::Ranges;
use crate::state::State;
use crate::watch::{View, key};

/// What one Service gets.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Grant {
    service: String,
    address: Ipv4Addr,
    /// The node that answers; none while no endpoint is ready.
    node: Option<String>,
    /// Whether the Service's status doesn't say so yet.
    untold: bool,
}

/// The routes as they were last set: by address.
#[derive(Debug, Default)]
pub(crate) struct Balancer {
    routes: BTreeMap<Ipv4Addr, Option<String>>,
}

impl Balancer {
    /// Brings routes and statuses to what the view asks for.
    pub fn reconcile(&mut self, state: &State, view: &View) -> Result<()> {
        let grants = grants(state.ranges, view, &self.routes);
        let mut wanted = BTreeMap::new();
        for grant in &grants {
            wanted.insert(grant.address, grant.node.clone());
        }
        for (address, node) in &wanted {
            if self.routes.get(address) != Some(node) {
                set_route(state, *address, node.as_deref())?;
                self.routes.insert(*address, node.clone());
            }
        }
        for address in self.routes.keys().copied().collect::<Vec<_>>() {
            if !wanted.contains_key(&address) {
                ip(&hub(), &format!("route del {address}/32\n"))?;
                self.routes.remove(&address);
            }
        }
        for grant in grants.iter().filter(|grant| grant.untold) {
            tell(grant)?;
        }
        Ok(())
    }
}

fn set_route(state: &State, address: Ipv4Addr, node: Option<&str>) -> Result<()> {
    let (line, other) = match node {
        Some(node) => (
            format!("route replace {address}/32 via {} dev br0", state.ranges.node(state.node(node)?.index)),
            format!("route del unreachable {address}/32"),
        ),
        None => {
            (format!("route replace unreachable {address}/32"), format!("route del {address}/32 dev br0"))
        }
    };
    eprintln!("load balancer: {line}");
    ip(&hub(), &format!("{line}\n"))?;
    // A route of the other type isn't replaced but joined; it goes only now, so that there is one all the time.
    let _was_none = ip(&hub(), &format!("{other}\n"));
    Ok(())
}

fn tell(grant: &Grant) -> Result<()> {
    let Some((namespace, name)) = grant.service.split_once('/') else { return Ok(()) };
    let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": grant.address, "ipMode": "VIP"}]}}});
    api::patch(&format!("/api/v1/namespaces/{namespace}/services/{name}/status"), &status)
}

fn grants(ranges: Ranges, view: &View, routes: &BTreeMap<Ipv4Addr, Option<String>>) -> Vec<Grant> {
    let ours: BTreeSet<Ipv4Addr> = (1..=254).map(|index| ranges.load_balancer(index)).collect();
    let services: Vec<&Value> = view.of("services").filter(|service| is_ours(service)).collect();
    let mut taken: BTreeSet<Ipv4Addr> = services.iter().filter_map(|service| told(service)).collect();
    let mut grants = Vec::new();
    for service in services {
        let known = told(service).filter(|address| ours.contains(address));
        let Some(address) = known.or_else(|| ours.iter().find(|address| !taken.contains(address)).copied())
        else {
            continue;
        };
        taken.insert(address);
        let candidates = candidates(service, view);
        let current = routes.get(&address).cloned().flatten();
        let node = current.filter(|node| candidates.contains(node)).or_else(|| candidates.first().cloned());
        grants.push(Grant { service: key(service), address, node, untold: known.is_none() });
    }
    grants
}

fn is_ours(service: &Value) -> bool {
    let spec = &service["spec"];
    spec["type"] == "LoadBalancer"
        && spec["loadBalancerClass"].is_null()
        && service["metadata"]["deletionTimestamp"].is_null()
}

fn told(service: &Value) -> Option<Ipv4Addr> {
    service["status"]["loadBalancer"]["ingress"][0]["ip"].as_str()?.parse().ok()
}

/// The nodes that may answer for a Service, in a fixed order.
fn candidates(service: &Value, view: &View) -> Vec<String> {
    let endpoints: BTreeSet<String> =
        view.of("endpointslices").filter(|slice| belongs(slice, service)).flat_map(ready_nodes).collect();
    if service["spec"]["externalTrafficPolicy"] == "Local" {
        return endpoints.into_iter().collect();
    }
    if endpoints.is_empty() {
        return Vec::new();
    }
    let nodes = view.of("nodes").filter(|node| is_ready(node));
    nodes.filter_map(|node| node["metadata"]["name"].as_str().map(str::to_owned)).collect()
}

fn belongs(slice: &Value, service: &Value) -> bool {
    let owner = &slice["metadata"]["labels"]["kubernetes.io/service-name"];
    *owner == service["metadata"]["name"]
        && slice["metadata"]["namespace"] == service["metadata"]["namespace"]
}

fn ready_nodes(slice: &Value) -> Vec<String> {
    let endpoints = slice["endpoints"].as_array().map(Vec::as_slice).unwrap_or_default();
    let ready = endpoints.iter().filter(|endpoint| endpoint["conditions"]["ready"] != false);
    ready.filter_map(|endpoint| endpoint["nodeName"].as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges() -> Ranges {
        Ranges::choose(&[]).unwrap()
    }

    fn service(name: &str, policy: &str, told: Option<Ipv4Addr>) -> (&'static str, Value) {
        let status = told.map_or(json!({}), |ip| json!({"loadBalancer": {"ingress": [{"ip": ip}]}}));
        let spec = json!({"type": "LoadBalancer", "externalTrafficPolicy": policy});
        ("services", json!({"metadata": {"namespace": "m", "name": name}, "spec": spec, "status": status}))
    }

    fn slice(service: &str, endpoints: &[(&str, bool)]) -> (&'static str, Value) {
        let endpoints: Vec<Value> = endpoints
            .iter()
            .map(|(node, ready)| json!({"nodeName": node, "conditions": {"ready": ready}}))
            .collect();
        let labels = json!({"kubernetes.io/service-name": service});
        (
            "endpointslices",
            json!({"metadata": {"namespace": "m", "name": format!("{service}-1"), "labels": labels}, "endpoints": endpoints}),
        )
    }

    fn node(name: &str, ready: &str) -> (&'static str, Value) {
        (
            "nodes",
            json!({"metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": ready}]}}),
        )
    }

    #[test]
    fn the_route_follows_ready_endpoints_and_stays_where_it_can() {
        let address = ranges().load_balancer(1);
        let nodes = [node("node1", "True"), node("node2", "Unknown")];
        for (policy, endpoints, before, expected) in [
            ("Local", vec![("node1", true), ("node2", true)], None, Some("node1")),
            ("Local", vec![("node1", true), ("node2", true)], Some("node2"), Some("node2")),
            ("Local", vec![("node1", true), ("node2", false)], Some("node2"), Some("node1")),
            ("Local", vec![("node1", false)], Some("node1"), None),
            ("Cluster", vec![("node2", true)], None, Some("node1")),
            ("Cluster", vec![], Some("node1"), None),
        ] {
            let mut objects = vec![service("a", policy, Some(address)), slice("a", &endpoints)];
            objects.extend(nodes.clone());
            let routes = BTreeMap::from([(address, before.map(str::to_owned))]);
            let granted = grants(ranges(), &View::given(&objects), &routes);
            assert_eq!(granted[0].node.as_deref(), expected, "{policy} {endpoints:?} {before:?}");
            assert!(!granted[0].untold);
        }
    }

    #[test]
    fn addresses_are_kept_and_given_once() {
        let second = ranges().load_balancer(2);
        let view = View::given(&[
            service("a", "Local", None),
            service("b", "Local", Some(second)),
            service("c", "Local", None),
        ]);
        let granted = grants(ranges(), &view, &BTreeMap::new());
        let addresses: Vec<_> =
            granted.iter().map(|grant| (grant.address.octets()[3], grant.untold)).collect();
        assert_eq!(addresses, [(1, true), (2, false), (3, true)]);
    }
}
