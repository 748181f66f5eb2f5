//! What is the same for every store in one look at the world, made once for all of them: pure.

use std::collections::BTreeMap;

use kube::ResourceExt;
use mailcluster_api::MailStore;
use mailcluster_failover::NodeView;

use super::{
    Heard,
    frontends::{Frontends, frontends},
    nodes::node_view,
};
use crate::failover::{annotations as keys, cache::World};

/// It.
#[derive(Debug)]
pub(super) struct Survey {
    /// Each node by itself, in the order of the world's.
    pub(super) nodes: Vec<NodeView>,
    /// The frontends that may be asked.
    pub(super) frontends: Frontends,
    /// Boots that people have seen end, with their nodes.
    pub(super) confirmed_boots: Vec<(String, String)>,
    /// How many stores are served from each node.
    served: BTreeMap<String, usize>,
}

impl Survey {
    pub(super) fn new(world: &World, heard: &Heard) -> Self {
        let mut served = BTreeMap::new();
        for host in world.stores.iter().filter_map(|store| host(store)) {
            *served.entry(host.to_owned()).or_default() += 1;
        }
        let confirmed = |node: &k8s_openapi::api::core::v1::Node| {
            Some((node.name_any(), node.annotations().get(keys::FENCE_CONFIRMED)?.clone()))
        };
        Self {
            nodes: world.nodes.iter().map(|node| node_view(node, heard.now)).collect(),
            frontends: frontends(world, heard),
            confirmed_boots: world.nodes.iter().filter_map(|node| confirmed(node)).collect(),
            served,
        }
    }

    /// How many stores beside this one are served from a node.
    pub(super) fn others_on(&self, node: &str, store: &MailStore) -> usize {
        let all = self.served.get(node).copied().unwrap_or_default();
        all.saturating_sub(usize::from(host(store) == Some(node)))
    }
}

fn host(store: &MailStore) -> Option<&str> {
    store.status.as_ref()?.host.as_deref()
}
