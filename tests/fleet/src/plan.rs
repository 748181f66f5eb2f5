//! Which pod is on which node, and at which address: pure.

use std::net::{IpAddr, Ipv4Addr};

use clap::Args;

/// Zones that nodes are in, in turn; each copy of a store is in another.
pub const ZONES: usize = 3;

/// How large it all is.
#[derive(Debug, Clone, Copy, Args)]
pub struct Size {
    /// Stores with mail, three copies each; the directory comes on top
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u16).range(1..=200))]
    pub stores: u16,
    /// Frontends
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=200))]
    pub frontends: u16,
    /// Nodes, in three zones in turn
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u16).range(3..=240))]
    pub nodes: u16,
    /// Nodes of the first zone that die
    #[arg(long, default_value_t = 20)]
    pub dying: u16,
}

impl Size {
    /// The node of a store's copy. Store 0 is the directory.
    pub fn node_of_copy(&self, store: usize, copy: usize) -> usize {
        let zone = (store + copy) % ZONES;
        let in_zone = (usize::from(self.nodes) - zone).div_ceil(ZONES);
        (store / ZONES % in_zone) * ZONES + zone
    }

    /// The node of the frontend that came as the n-th.
    pub fn node_of_frontend(&self, n: usize) -> usize {
        n % usize::from(self.nodes)
    }

    /// Is it one of those that die?
    pub fn dies(&self, node: usize) -> bool {
        node.is_multiple_of(ZONES) && node / ZONES < usize::from(self.dying)
    }

    /// The nodes that die.
    pub fn dying_nodes(&self) -> impl Iterator<Item = usize> {
        (0..usize::from(self.nodes)).filter(|node| self.dies(*node))
    }
}

/// A node's name.
pub fn node_name(node: usize) -> String {
    format!("fake-{node:03}")
}

/// A node's zone.
pub fn zone(node: usize) -> String {
    format!("zone-{}", node % ZONES)
}

/// The n-th address of a node's pods, of a range that is for benchmarks (RFC 2544). `None`: it has no more.
pub fn address(node: usize, n: usize) -> Option<Ipv4Addr> {
    let (net, host) = (u8::try_from(node + 1).ok()?, u8::try_from(n + 1).ok()?);
    (host < 255).then(|| Ipv4Addr::new(198, 18, net, host))
}

/// All addresses of a node's pods.
pub fn subnet(node: usize) -> String {
    format!("198.18.{}.0/24", node + 1)
}

/// The node whose pods have such an address.
pub fn node_at(address: IpAddr) -> Option<usize> {
    match address {
        IpAddr::V4(address) => match address.octets() {
            [198, 18, net, _] => usize::from(net).checked_sub(1),
            _ => None,
        },
        IpAddr::V6(_) => None,
    }
}

/// Number and copy of a store's pod; the directory is number 0. `None`: it is another's.
pub fn copy_of(cluster: &str, pod: &str) -> Option<(usize, usize)> {
    let (store, letter) =
        pod.strip_suffix("-0")?.strip_prefix(cluster)?.strip_prefix('-')?.rsplit_once('-')?;
    let copy = ["a", "b", "c"].iter().position(|known| *known == letter)?;
    let number = if store == "directory" { 0 } else { store.parse::<usize>().ok()? + 1 };
    Some((number, copy))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    const LARGE: Size = Size { stores: 200, frontends: 50, nodes: 60, dying: 20 };

    #[test]
    fn copies_are_in_zones_of_their_own_and_spread_evenly() {
        for size in [LARGE, Size { stores: 5, frontends: 3, nodes: 7, dying: 1 }] {
            let mut carried = BTreeMap::<usize, usize>::new();
            for store in 0..=usize::from(size.stores) {
                let nodes: Vec<usize> = (0..ZONES).map(|copy| size.node_of_copy(store, copy)).collect();
                assert!(nodes.iter().all(|node| *node < usize::from(size.nodes)), "{nodes:?}");
                assert_eq!(nodes.iter().map(|node| zone(*node)).collect::<BTreeSet<_>>().len(), ZONES);
                nodes.into_iter().for_each(|node| *carried.entry(node).or_default() += 1);
            }
            let counts = || carried.values().copied();
            assert!(counts().max() <= counts().min().map(|least| least + 3), "{carried:?}");
        }
    }

    #[test]
    fn those_that_die_hold_a_third_of_the_stores_and_the_directory() {
        let held = (0..=200).filter(|store| LARGE.dies(LARGE.node_of_copy(*store, 0))).count();
        assert_eq!((held, LARGE.dies(LARGE.node_of_copy(0, 0)), LARGE.dying_nodes().count()), (67, true, 20));
    }

    #[test]
    fn addresses_tell_their_node() {
        for (node, n) in [(0, 0), (59, 253), (239, 7)] {
            assert_eq!(node_at(address(node, n).unwrap().into()), Some(node));
        }
        assert_eq!((address(3, 254), node_at("10.0.0.1".parse().unwrap())), (None, None));
    }

    #[test]
    fn a_pod_s_name_tells_store_and_copy() {
        for (name, found) in [
            ("big-0-a-0", Some((1, 0))),
            ("big-199-c-0", Some((200, 2))),
            ("big-directory-b-0", Some((0, 1))),
            ("big-frontend-6d5f-x2z", None),
            ("other-0-a-0", None),
        ] {
            assert_eq!(copy_of("big", name), found, "{name}");
        }
    }
}
