//! The lab's addresses: one free /16, divided by fixed rules.

use std::net::Ipv4Addr;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

/// The largest number of nodes the division has room for.
pub const MAX_NODES: usize = 9;

/// All addresses of a lab, derived from its /16.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ranges {
    first: u8,
    second: u8,
}

/// An IPv4 network in use: address and prefix length.
pub(crate) type Network = (Ipv4Addr, u8);

impl Ranges {
    /// The first candidate /16 that overlaps nothing in use.
    pub(crate) fn choose(used: &[Network]) -> Result<Self> {
        let candidates =
            (16..32).rev().map(|second| (172, second)).chain((200..250).map(|second| (10, second)));
        for (first, second) in candidates {
            let ranges = Self { first, second };
            if !used.iter().any(|&network| overlaps(network, (ranges.at(0, 0), 16))) {
                return Ok(ranges);
            }
        }
        bail!(
            "no free address range: 172.16.0.0/12 and 10.200.0.0 to 10.249.0.0 are all routed on this machine"
        );
    }

    fn at(self, third: u8, fourth: u8) -> Ipv4Addr {
        Ipv4Addr::new(self.first, self.second, third, fourth)
    }

    /// Everything: `172.31.0.0/16`.
    pub fn all(self) -> String {
        format!("{}/16", self.at(0, 0))
    }

    /// The address in the middle of it all: API servers' common address, BMCs, the nodes' gateway.
    pub fn hub(self) -> Ipv4Addr {
        self.at(0, 1)
    }

    /// API server 1 or 2 itself.
    pub fn api_server(self, index: usize) -> Ipv4Addr {
        self.at(0, 1 + small(index))
    }

    /// Node 1, 2, …
    pub fn node(self, index: usize) -> Ipv4Addr {
        self.at(0, 10 + small(index))
    }

    /// This machine's own end of the link to the lab: what pods see as their clients' address.
    pub fn host(self) -> Ipv4Addr {
        self.at(1, 1)
    }

    /// The lab's end of the link to this machine.
    pub fn host_gateway(self) -> Ipv4Addr {
        self.at(1, 2)
    }

    /// The n-th address for Services of type LoadBalancer, from 1.
    pub fn load_balancer(self, index: u8) -> Ipv4Addr {
        self.at(2, index)
    }

    /// The range of Services' own addresses.
    pub fn services(self) -> String {
        format!("{}/20", self.at(16, 0))
    }

    /// The API's Service.
    pub fn api_service(self) -> Ipv4Addr {
        self.at(16, 1)
    }

    /// The range of all pods.
    pub fn pods(self) -> String {
        format!("{}/18", self.at(64, 0))
    }

    /// The pods of one node.
    pub fn node_pods(self, index: usize) -> String {
        format!("{}/24", self.at(64 + small(index), 0))
    }
}

fn small(index: usize) -> u8 {
    u8::try_from(index).unwrap_or(u8::MAX / 2)
}

fn overlaps(a: Network, b: Network) -> bool {
    let shift = 32 - u32::from(a.1.min(b.1).min(32));
    let part = |address: Ipv4Addr| address.to_bits().checked_shr(shift).unwrap_or(0);
    part(a.0) == part(b.0)
}

/// Reads the networks out of `ip -j -4 route show table all` (a default route is no obstacle).
pub(crate) fn parse_routes(json: &str) -> Vec<Network> {
    let routes: Vec<serde_json::Value> = serde_json::from_str(json).unwrap_or_default();
    routes
        .iter()
        .filter_map(|route| parse_network(route["dst"].as_str()?))
        .filter(|network| network.1 > 0)
        .collect()
}

fn parse_network(text: &str) -> Option<Network> {
    let (address, length) = text.split_once('/').unwrap_or((text, "32"));
    Some((address.parse().ok()?, length.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_free_range_is_chosen() {
        let net = |text: &str| parse_network(text).unwrap();
        for (used, expected) in [
            (vec![], "172.31.0.0/16"),
            (vec!["192.0.2.0/24", "127.0.0.0/8"], "172.31.0.0/16"),
            (vec!["172.31.255.1"], "172.30.0.0/16"),
            (vec!["172.28.0.0/14"], "172.27.0.0/16"),
            (vec!["172.16.0.0/12"], "10.200.0.0/16"),
            (vec!["172.16.0.0/12", "10.200.4.0/24"], "10.201.0.0/16"),
        ] {
            let used: Vec<Network> = used.into_iter().map(net).collect();
            assert_eq!(Ranges::choose(&used).unwrap().all(), expected, "{used:?}");
        }
        assert!(Ranges::choose(&[net("172.16.0.0/12"), net("10.0.0.0/8")]).is_err());
    }

    #[test]
    fn routes_are_read() {
        let json = r#"[{"dst":"default","gateway":"192.0.2.1"},{"dst":"192.0.2.0/24"},{"dst":"172.31.0.1"}]"#;
        let networks = parse_routes(json);
        assert_eq!(networks, vec![(Ipv4Addr::new(192, 0, 2, 0), 24), (Ipv4Addr::new(172, 31, 0, 1), 32)]);
    }
}
