//! Power: cutting it takes a node's processes, mounts and whatever was not synced; giving it is a new boot.

use anyhow::Result;

use crate::network::{self, Plug};
use crate::node;
use crate::site::Site;
use crate::state::State;
use crate::volumes;

/// Cuts the power of a node; one that is off stays so.
pub(crate) fn off(site: &Site, state: &mut State, name: &str) -> Result<()> {
    if !state.node(name)?.on {
        return Ok(());
    }
    // In this order: nothing can be answered after the instant of the clone that the clone doesn't hold.
    network::set_link(name, Plug::Out)?;
    site.cgroups.freeze(name)?;
    let cuts = volumes::clone_used(site, state, name);
    site.cgroups.kill(name)?;
    state.node_mut(name)?.on = false;
    state.save(&site.paths)?;
    volumes::replace(site, state, cuts?)?;
    network::remove_node(name)?;
    site.cgroups.remove(name)
}

/// Switches a node on; one that is on stays so.
pub(crate) fn on(site: &Site, state: &mut State, name: &str) -> Result<()> {
    if state.node(name)?.on { Ok(()) } else { node::boot(site, state, name) }
}
