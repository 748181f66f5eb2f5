//! The lab's background process: BMCs, addresses for LoadBalancer Services, enforcement of NetworkPolicies.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Result;

use crate::lab::Lab;
use crate::load_balancer::Balancer;
use crate::network::{apply_table, namespace};
use crate::paths::Paths;
use crate::state::State;
use crate::watch::View;
use crate::{api, bmc, network_policy, watch};

/// Changes come in bursts, a pod's start in five steps: they are taken together.
const GATHER: Duration = Duration::from_millis(100);
/// How often everything is looked at without a change: a node switched on has empty tables.
const TICK: Duration = Duration::from_secs(1);

/// Runs until the lab goes down (`xtask lab daemon`, started by `up` in the hub's namespace).
///
/// # Errors
/// The lab's state cannot be read or an address is taken.
pub fn run(cache: &Path) -> Result<()> {
    let paths = Paths::in_cache(cache)?;
    let state = State::expect(&paths)?;
    std::env::set_current_dir(&paths.lab)?;
    let lab: &'static Lab = Box::leak(Box::new(Lab::of(&paths)?));
    bmc::serve(lab, &state)?;
    api::keep_proxy(&lab.site);
    let (sender, changes) = mpsc::channel();
    let view = watch::start(&sender);
    let mut balancer = Balancer::default();
    let mut applied = Applied::new();
    loop {
        if changes.recv_timeout(TICK).is_ok() {
            std::thread::sleep(GATHER);
            while changes.try_recv().is_ok() {}
        }
        let view = watch::lock(&view).clone();
        if !view.complete() {
            continue;
        }
        let result = State::expect(&paths).and_then(|state| {
            enforce(lab, &state, &view, &mut applied)?;
            balancer.reconcile(&state, &view)
        });
        if let Err(error) = result {
            eprintln!("{error:#}");
        }
    }
}

/// The rules in force, by node, with the boot they were set in.
type Applied = BTreeMap<String, (String, String)>;

fn enforce(lab: &Lab, state: &State, view: &View, applied: &mut Applied) -> Result<()> {
    for node in state.nodes.iter().filter(|node| node.is_on()) {
        let rules = network_policy::rules(&node.name, state.ranges.node(node.index), view);
        let wanted = (node.boot_id.clone(), rules);
        if applied.get(&node.name) != Some(&wanted) {
            apply_table(&lab.site, &namespace(&node.name), network_policy::TABLE, &wanted.1)?;
            applied.insert(node.name.clone(), wanted);
        }
    }
    Ok(())
}
