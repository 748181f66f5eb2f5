//! Power: cutting it takes a node's processes, mounts and whatever was not synced; giving it is a new boot.

use anyhow::Result;

use crate::network;
use crate::node;
use crate::site::Site;
use crate::state::{Cut, Power, State};
use crate::volumes;

/// Cuts the power of a node; one that is off stays so. A cut that failed in the middle, or whose program was killed, is
/// gone on with: each step does what is left of it.
pub(crate) fn off(site: &Site, state: &mut State, name: &str) -> Result<()> {
    let cuts = match &state.node(name)?.power {
        Power::Off => return Ok(()),
        Power::Cutting(cuts) => cuts.clone(),
        Power::On => begin(site, state, name)?,
    };
    site.cgroups.kill(name)?;
    volumes::replace(site, state, &cuts)?;
    network::remove_node(name)?;
    site.cgroups.remove(name)?;
    state.node_mut(name)?.power = Power::Off;
    state.save(&site.paths)
}

/// In this order: nothing can be answered after the instant of the clone that the clone doesn't hold.
fn begin(site: &Site, state: &mut State, name: &str) -> Result<Vec<Cut>> {
    network::unplug(name)?;
    site.cgroups.freeze(name)?;
    let cuts = volumes::clone_used(site, state, name)?;
    state.node_mut(name)?.power = Power::Cutting(cuts.clone());
    state.save(&site.paths)?;
    Ok(cuts)
}

/// Switches a node on; one that is on stays so.
pub(crate) fn on(site: &Site, state: &mut State, name: &str) -> Result<()> {
    if state.node(name)?.is_on() {
        return Ok(());
    }
    off(site, state, name)?;
    node::boot(site, state, name)
}
