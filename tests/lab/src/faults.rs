//! Faults: power, network, API servers and pods.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use serde_json::Value;

use crate::cgroup::{collect, signal_all};
use crate::lab::Lab;
use crate::lock::Lock;
use crate::network::{self, Plug};
use crate::state::{Block, State};
use crate::{control_plane, power};

impl Lab {
    fn change(&self, change: impl FnOnce(&Self, &mut State) -> Result<()>) -> Result<()> {
        let _lock = Lock::take(&self.site.paths)?;
        let mut state = self.state()?;
        change(self, &mut state)?;
        state.save(&self.site.paths)
    }

    /// Cuts the power of a node: its processes end at once, its volumes go on from what had been synced.
    ///
    /// # Errors
    /// There is no such node, or something of it could not be removed.
    pub fn power_off(&self, node: &str) -> Result<()> {
        self.change(|lab, state| power::off(&lab.site, state, node))
    }

    /// Switches a node on: a new boot, with a new boot id.
    ///
    /// # Errors
    /// There is no such node, or it cannot be started.
    pub fn power_on(&self, node: &str) -> Result<()> {
        self.change(|lab, state| power::on(&lab.site, state, node))
    }

    /// Cuts a node off from everything; its pods go on running.
    ///
    /// # Errors
    /// There is no such node.
    pub fn partition(&self, node: &str) -> Result<()> {
        self.change(|_, state| {
            state.node_mut(node)?.connected = false;
            if state.node(node)?.is_on() { network::set_link(node, Plug::Out) } else { Ok(()) }
        })
    }

    /// Cuts a node and its pods off from `api` (the API servers) or from another node and its pods.
    ///
    /// # Errors
    /// There is no such node or peer.
    pub fn partition_from(&self, node: &str, peer: &str) -> Result<()> {
        self.change(|lab, state| {
            if peer != "api" {
                state.node(peer)?;
            }
            let cut = &mut state.node_mut(node)?.cut_from;
            if !cut.iter().any(|known| known == peer) {
                cut.push(peer.to_owned());
            }
            lab.apply_cuts(state, node)
        })
    }

    /// Drops some of a node's traffic.
    ///
    /// # Errors
    /// There is no such node.
    pub fn block(&self, node: &str, block: Block) -> Result<()> {
        self.change(|lab, state| {
            state.node_mut(node)?.blocks.push(block);
            lab.apply_cuts(state, node)
        })
    }

    /// Takes back every partition of a node.
    ///
    /// # Errors
    /// There is no such node.
    pub fn heal(&self, node: &str) -> Result<()> {
        self.change(|lab, state| {
            let healed = state.node_mut(node)?;
            healed.connected = true;
            healed.cut_from.clear();
            healed.blocks.clear();
            if !state.node(node)?.is_on() {
                return Ok(());
            }
            network::set_link(node, Plug::In)?;
            lab.apply_cuts(state, node)
        })
    }

    fn apply_cuts(&self, state: &State, node: &str) -> Result<()> {
        let node = state.node(node)?;
        if !node.is_on() {
            return Ok(());
        }
        network::apply_cuts(&self.site, state.ranges, node, &state.nodes)
    }

    /// Kills API server 1 or 2, or all of them.
    ///
    /// # Errors
    /// There is no such server.
    pub fn api_down(&self, index: Option<usize>) -> Result<()> {
        self.change(|lab, state| {
            for index in servers(state, index)? {
                set_up(state, index, Wanted::Down);
                network::route_api(&lab.site, state.ranges, &state.api_servers)?;
                if let Some(&process) = state.processes.get(&control_plane::api_server_name(index)) {
                    control_plane::kill(process)?;
                }
            }
            Ok(())
        })
    }

    /// Starts API server 1 or 2, or all of them, again, and waits until the API answers.
    ///
    /// # Errors
    /// There is no such server, or it doesn't become ready.
    pub fn api_up(&self, index: Option<usize>) -> Result<()> {
        self.change(|lab, state| {
            for index in servers(state, index)? {
                let name = control_plane::api_server_name(index);
                if !state.processes.get(&name).is_some_and(|process| process.alive()) {
                    control_plane::start_api_server(&lab.site, state, index)?;
                }
                set_up(state, index, Wanted::Up);
            }
            network::route_api(&lab.site, state.ranges, &state.api_servers)
        })?;
        control_plane::wait_ready(&self.site, &self.state()?, Duration::from_secs(120))
    }

    /// The processes of a pod, as this machine numbers them, its pause process left out.
    ///
    /// # Errors
    /// There is no such pod, or it isn't on a node yet.
    pub fn pod_pids(&self, namespace: &str, pod: &str) -> Result<Vec<i32>> {
        Ok(self.all_pod_pids(namespace, pod)?.into_iter().filter(|&pid| !is_pause(pid)).collect())
    }

    fn all_pod_pids(&self, namespace: &str, pod: &str) -> Result<Vec<i32>> {
        let text = self.kubectl(&["get", "pod", "-n", namespace, pod, "-o", "json"])?;
        let object: Value = serde_json::from_str(&text)?;
        let node = object["spec"]["nodeName"].as_str().with_context(|| format!("{pod} is on no node"))?;
        let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
        let root = self.site.cgroups.folder(node).join("kubepods");
        let mut pids = Vec::new();
        for class in ["", "burstable", "besteffort"] {
            collect(&root.join(class).join(format!("pod{uid}")), &mut pids);
        }
        if pids.is_empty() {
            bail!("{pod} has no processes on {node}");
        }
        Ok(pids)
    }

    /// Stops all processes of a pod where they are (SIGSTOP).
    ///
    /// # Errors
    /// The pod has no processes.
    pub fn pause_pod(&self, namespace: &str, pod: &str) -> Result<()> {
        signal_all(&self.pod_pids(namespace, pod)?, Signal::STOP);
        Ok(())
    }

    /// Lets the processes of a paused pod go on (SIGCONT).
    ///
    /// # Errors
    /// The pod has no processes.
    pub fn resume_pod(&self, namespace: &str, pod: &str) -> Result<()> {
        signal_all(&self.pod_pids(namespace, pod)?, Signal::CONT);
        Ok(())
    }

    /// Kills the processes of a pod's containers (SIGKILL); the kubelet starts them again by the pod's policy.
    ///
    /// # Errors
    /// The pod has no processes.
    pub fn kill_pod(&self, namespace: &str, pod: &str) -> Result<()> {
        signal_all(&self.pod_pids(namespace, pod)?, Signal::KILL);
        Ok(())
    }
}

fn is_pause(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "pause")
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Up,
    Down,
}

fn servers(state: &State, index: Option<usize>) -> Result<Vec<usize>> {
    let all: Vec<usize> = state.api_servers.iter().map(|server| server.index).collect();
    match index {
        None => Ok(all),
        Some(index) if all.contains(&index) => Ok(vec![index]),
        Some(index) => bail!("there is no API server {index}: the lab has {}", all.len()),
    }
}

fn set_up(state: &mut State, index: usize, wanted: Wanted) {
    for server in state.api_servers.iter_mut().filter(|server| server.index == index) {
        server.up = wanted == Wanted::Up;
    }
}
